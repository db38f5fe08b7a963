"""What is checked of a network's nodes before any of them is read: that it is quantized, that the
operators and attributes are known, that each node reads what others give."""

from collections.abc import Callable
from difflib import get_close_matches

import onnx
from onnx import GraphProto, ModelProto, NodeProto
from systolith.gen.kit.errors import UserError

from .dialects import qdq
from .file import STANDARD, inferred_shapes
from .folding import computed_from_constants, initializers
from .host.cuts import with_cuts
from .host.ends import computable, ends_of
from .host.work import Work
from .nodes import Node, nodes_of
from .rows import ROWS, Role, has, row_of

__all__ = ["Refuse", "check_quantized", "checked_nodes", "expanded", "first_quantizer",
           "is_quantized", "ordered", "raise_error", "supported_operators", "unknown_operators"]

#: What is told about a refused node (None: an output of the network): what is wrong with it, or
#: None where it reads what a refused node gives.
Refuse = Callable[[Node | None, UserError | None], None]

#: What to do about operators that real exports have and that a chip of fixed scales has not.
_STATIC = ("its scale is computed from each input, and a chip's scales are fixed: give inputs that "
           "fix them, with systolith build MODEL.onnx --calibration x.npy, or quantize statically "
           "(onnxruntime.quantization.quantize_static)")
_SIZES = ("the sizes of what it reads must be known: give those of the inputs (--shape "
          "NAME=SIZE,SIZE,...), and quantize as QDQ: ONNX infers no sizes through QLinearAdd and "
          "the like")
_RECURRENT = ("recurrent layers are not supported: chips compute convolutional and dense layers, "
              "each image by itself")
_STATISTICS = ("normalization by the statistics of each image is not supported: train with "
               "BatchNormalization, whose numbers are fixed and become part of the layer before it")
_INSTEAD = {"Shape": _SIZES, "Size": _SIZES, "DynamicQuantizeLinear": _STATIC,
            "DynamicQuantizeMatMul": _STATIC,
            "GRU": _RECURRENT, "LSTM": _RECURRENT, "RNN": _RECURRENT,
            "GroupNormalization": _STATISTICS, "InstanceNormalization": _STATISTICS,
            "LayerNormalization": _STATISTICS, "RMSNormalization": _STATISTICS,
            "MeanVarianceNormalization": _STATISTICS,
            "QLinearConvTranspose": "the operator is not supported; quantize in the QDQ format"}


def supported_operators() -> list[str]:
    """The names of the operators that the chip has, sorted."""
    return sorted({*ROWS, *qdq.EXPANDED, "Sum"} - {"BiasOfProduct"})


def expanded(graph: GraphProto) -> list[Node]:
    """The nodes of a graph, QLinear operators and their like taken apart (see `qdq.expand`)."""
    return [part for node in nodes_of(graph) for part in qdq.expand(node)]


def _quantizes(node):
    """Whether a node makes a network a quantized one, be it with scales that are not fixed."""
    return has(node.operator, Role.QUANTIZER) or node.operator in qdq.DYNAMIC


def first_quantizer(model: ModelProto) -> NodeProto | None:
    """The first node of a model that quantizes, dequantizes, or computes with codes; None where the
    model is a float network."""
    return next((node.proto for node in expanded(model.graph) if _quantizes(node)), None)


def is_quantized(model: ModelProto) -> bool:
    """Whether a model has quantizers."""
    return first_quantizer(model) is not None


def check_quantized(nodes: list[Node]) -> None:
    """Refuse a network whose nodes, as of `expanded`, have no quantizer. Raises UserError."""
    if not any(map(_quantizes, nodes)):
        raise UserError("this is a float network: give it calibration data (--calibration x.npy), "
                        "or quantize it first, with systolith quantize, onnxruntime.quantization."
                        "quantize_static (integers) or QONNX's FloatQuant, Quant and BipolarQuant")


def unknown_operators(model: ModelProto, nodes: list[Node]) -> dict[str, UserError]:
    """{name of a node: what is wrong with it} of nodes with an operator or an attribute that the
    chip does not have."""
    constant, unknown = computed_from_constants(model.graph, nodes), {}
    for node in nodes:
        try:
            _check_operator(node, bool(node.outputs) and node.outputs[0] in constant)
        except UserError as error:
            unknown[node.name] = error
    return unknown


def _check_operator(node: Node, constant: bool) -> None:
    """Refuse a node whose operator or attribute is unknown; `constant`: whether its result depends
    on constants alone, for which ONNX's own operators suffice."""
    known = row_of(node)
    if known is None:
        if constant and node.domain in STANDARD:
            return
        if node.operator in _INSTEAD:
            node.fail(_INSTEAD[node.operator])
        domain = f" of domain {node.domain!r}" if node.domain not in STANDARD else ""
        # Names of standard operators are right; others may be misspelled.
        names = [] if onnx.defs.has(node.operator, node.domain) else get_close_matches(
            node.operator, supported_operators(), 3, 0.6)
        like = f" (like it are {', '.join(names)})" if names else ""
        host = ", only on the host at a network's ends" if computable(node) else ""
        node.fail(f"the operator{domain} is not supported on the chip{host}; "
                  f"docs/reference/onnx.md lists those that are{like}")
    unknown = sorted(set(node.attributes) - known.attributes)
    if unknown and not constant:
        node.fail(f"attribute {unknown[0]} is not supported; supported are "
                  f"{', '.join(sorted(known.attributes)) or 'none'}")


def ordered(nodes: list[Node], given: set[str], graph: GraphProto) -> list[Node]:
    """The nodes, each after those that it reads.

    `given`: names of the graph's inputs and initializers. Raises UserError for cycles, for tensors
    that two nodes write, and for tensors and outputs of the graph that nothing writes.
    """
    written: dict[str, Node] = {}
    for node in nodes:
        for item in node.outputs:
            if item and (item in written or item in given):
                node.fail(f"writes {item!r}, which {written.get(item, 'an input')} gives already; "
                          "rename one of the two")
            written[item] = node
    for node in nodes:
        for item in node.inputs:
            if item and item not in written and item not in given:
                node.fail(f"reads {item!r}, which is no input, no initializer and no node's "
                          "output; make it an input, or read another tensor")
    result = _by_depth(nodes, written)
    known = given | written.keys()
    for item in graph.output:
        if item.name not in known:
            raise UserError(f"output {item.name!r} is not computed by any node")
    return result


def _by_depth(nodes, written):
    """The nodes by the length of the longest way to each from the graph's inputs, in the file's
    order where it is the same; `written`: {tensor: the node that writes it}."""
    readers: dict[int, list[Node]] = {id(node): [] for node in nodes}
    missing: dict[int, int] = {}
    for node in nodes:
        sources = {id(written[item]): written[item] for item in node.inputs if item in written}
        missing[id(node)] = len(sources)
        for source in sources:
            readers[source].append(node)
    place = {id(node): number for number, node in enumerate(nodes)}
    ready, result = [node for node in nodes if not missing[id(node)]], list[Node]()
    while ready:
        result += ready
        later = []
        for node in ready:
            for reader in readers[id(node)]:
                missing[id(reader)] -= 1
                if not missing[id(reader)]:
                    later.append(reader)
        ready = sorted(later, key=lambda node: place[id(node)])
    if len(result) < len(nodes):
        left = [node.name for node in nodes if missing[id(node)]]
        raise UserError(f"the network has a cycle, through the nodes "
                        f"{', '.join(map(repr, left[:8]))}; remove one of the connections between "
                        "them")
    return result


def raise_error(node: Node | None, error: UserError | None) -> None:
    """A `Refuse` that raises the first error."""
    assert error is not None                    # only nodes after a refused one have none
    raise error


def checked_nodes(model: ModelProto,
                  refuse: Refuse = raise_error) -> tuple[list[Node], set[str], set[str]]:
    """(the nodes of a network that need not be quantized, each after those that it reads; tensors
    that only the host can compute, before the chip; the same after it).

    `model` is what `file.read` gave. Raises UserError as `reader.load` does for cycles, dangling
    edges and wrong shapes. `refuse` is called for nodes in the network's middle whose operator or
    attributes neither chip nor host has.
    """
    nodes = nodes_of(model.graph)
    unknown = unknown_operators(model, nodes)
    constants = initializers(model.graph)
    nodes = ordered(nodes, {*constants, *(item.name for item in model.graph.input)}, model.graph)
    work, first = Work(model, nodes, False), True
    before, after, middle = ends_of(work, set(unknown))
    for node in nodes:
        if node.name in middle:
            error = unknown[node.name]
            if first:
                rest = [item for item in work.dependents([node]) if item is not node]
                error = with_cuts(error, work, work.crossing([node]), work.crossing(rest))
            refuse(node, error)
            first = False
    inferred_shapes(model)
    return nodes, before, after

"""The network's ends on the host: nodes that the chip cannot compute, and all that depend on them,
run after the chip; nodes that only prepare inputs run before it.

A node that the chip refuses is left to the host if little of the network's work depends on it (see
`Work.is_small`); a network whose middle the chip cannot compute is refused. The host reads the
latest tensors that the chip can give.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, TensorProto
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.codes import quantized_function
from systolith.gen.importer.crop import is_input
from systolith.gen.importer.file import QONNX, STANDARD
from systolith.gen.importer.half import HALF
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.operators.smooth import applied
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.run import have_runtime
from systolith.gen.importer.types import INTEGERS, element_format
from systolith.gen.importer.values import (
    Constant,
    HostInput,
    Linear,
    QuantizedConstant,
    Symbol,
    Value,
)
from systolith.gen.kit.errors import UserError
from systolith.sim.model.tail import HostPart

from .part import MICROSOFT, host_part
from .work import Work, is_layer

__all__ = ["ENCODES", "NUMBERS", "Host", "HostResult", "computable", "ends_of", "host_tensor"]

#: ONNX element types of real numbers that the encoders compute with as the model says.
_REAL = {TensorProto.FLOAT, *HALF}
#: Those that inputs may have.
NUMBERS = {*_REAL, *INTEGERS, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.INT32,
           TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}

#: Operators that make codes of real numbers.
ENCODES = Role.QUANTIZER | Role.COMPARE
#: Operators after which the chip can compute a function of sums, by a table.
_ON_CHIP = {"IntQuant", "MaxPool", "Quant", "QuantizeLinear"}
#: Operators whose results differ from run to run, or whose scales the chip must know.
_NEVER = {"Bernoulli", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "Multinomial",
          "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
#: Operators that move elements, join tensors and take parts of them: at the network's end, the host
#: does that as it reads.
_MOVES = Role.SAME | Role.VIEW | Role.MOVE | Role.REPEAT
#: QONNX's quantizers as `run` computes them: values of attributes, the default first.
_ROUND = {"rounding_mode": ("ROUND", "CEIL", "FLOOR", "HALF_EVEN")}
_OWN: dict[str, dict] = {
        "BipolarQuant": {}, "IntQuant": _ROUND, "Quant": _ROUND,
        "Trunc": {"rounding_mode": ("FLOOR", "ROUND", "CEIL", "HALF_EVEN")},
        "FloatQuant": {"rounding_mode": ("ROUND",), "has_inf": (0,), "has_nan": (0,),
                       "has_subnormal": (1,), "saturation": (1,)}}


@dataclass
class HostResult:
    """A tensor that the host computes.

    `reason` is the message about a node that reads it and cannot run on the host either. `value` is
    the function of convolution sums that the chip computes instead if a quantizer follows; None
    where there is no such function.
    """
    name: str
    reason: str
    value: Value | None = None


#: What the inputs of a node are where some nodes are left to the host.
Given = Sequence[Symbol | HostResult | None]


def computable(node: Node) -> bool:
    """Whether the host can compute a node: an operator of ONNX, of ONNX Runtime, or a quantizer of
    QONNX, without control flow, whose result depends on its inputs alone."""
    graphs = (one for item in node.attributes.values()
              for one in (item if isinstance(item, list) else [item])
              if isinstance(one, onnx.GraphProto))
    if node.operator in _NEVER or any(graphs):
        return False
    if node.domain in QONNX:
        return node.operator in _OWN and all(
            node.attributes.get(key, item[0]) in item for key, item in _OWN[node.operator].items())
    if node.domain == MICROSOFT:
        return have_runtime()
    return node.domain in STANDARD and onnx.defs.has(node.operator)


def ends_of(work: Work, unknown: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Which parts of a network the host computes, as far as operators' names and attributes say.

    `unknown`: names of nodes whose operator or attributes the chip does not have. Returns (names of
    tensors that the host computes before the chip, of tensors that it computes after the chip, of
    nodes between them that neither can compute).
    """
    inputs = work.inputs
    before, after, middle = set(inputs), set[str](), set[str]()
    for node in work.nodes:
        data = {name for name in node.inputs if name in work.makers or name in inputs}
        if data & after:
            after.update(node.outputs)
        elif node.name in unknown and data:
            if not computable(node):
                middle.add(node.name)
            elif data <= before and not is_layer(node):
                before.update(node.outputs)
            elif work.is_small(work.dependents([node])):
                after.update(node.outputs)
            else:
                middle.add(node.name)
    return before - inputs, after, middle


class Host:
    """Collects what the host computes while a network is read.

    Parameters
    ----------
    model : onnx.ModelProto
    nodes : list of Node
        Of the model, each after those that it reads, QLinear operators taken apart.

    Attributes
    ----------
    work : Work
        Of the whole network.
    outputs : list of str
        The network's outputs.
    before : set of str
        Tensors that depend on the network's inputs alone, and that no quantizer has made.
    exact : set of str
        Tensors among these whose type is none of the real numbers that encoders compute with.
    prepared : list of Node
        Nodes that the host computes before the chip.
    why : {name of a node: why the chip refused it}
    """

    def __init__(self, model: ModelProto, nodes: list[Node]):
        self.work = Work(model, nodes)
        self.outputs = [item.name for item in model.graph.output]
        self.before = set(self.work.inputs)
        self.exact = {item.name for item in model.graph.input if item.name in self.work.inputs
                      and item.type.tensor_type.elem_type not in _REAL}
        self.prepared: list[Node] = []
        self.why: dict[str, str] = {}
        self._small: dict[int, bool] = {}       # id of a node -> as of `ends`

    # Before the chip.

    def prepare(self, node: Node, inputs: Given) -> list[HostInput] | None:
        """HostInputs for the outputs of a node that computes with integer or double inputs before
        any quantizer, in the arithmetic of their type; None for other nodes. Raises UserError where
        the sizes of its results are not known."""
        if not self.exact & set(node.inputs) or has(node.operator, ENCODES) or (
                not self._prepares(node, inputs)):
            return None
        return self._prepared(node)

    def _prepares(self, node, inputs):
        """Whether the host can compute a node before the chip."""
        data = [name for name, item in zip(node.inputs, inputs, strict=True)
                if item is not None and not isinstance(item, (Constant, QuantizedConstant))]
        if not data or not set(data) <= self.before or not computable(node):
            return False
        return not is_layer(node) or self.work.is_small([*self.prepared, node])

    def _prepared(self, node: Node) -> list[HostInput]:
        """HostInputs for the outputs of a node that the host computes before the chip."""
        results = []
        for name in filter(None, node.outputs):
            sizes, kind = self.work.sizes(name), self.work.element_type(name)
            if sizes is None or sizes[:1] != [1]:
                node.fail(f"prepares an input, and the sizes of its result {name!r} are not known, "
                          "or it has no batch dimension as its first: give the sizes of the inputs "
                          "(--shape NAME=SIZE,SIZE,...)")
            results.append(host_tensor(name, kind, sizes[1:]))
            if kind not in _REAL:
                self.exact.add(name)
        self.before.update(node.outputs)
        self.prepared.append(node)
        return results

    def passed(self, node: Node, inputs: Given) -> None:
        """Note that no quantizer has made the outputs of a node, if none has made its inputs."""
        if any(item is not None for item in inputs) and all(
                name in self.before for name, item in zip(node.inputs, inputs, strict=True)
                if item is not None and not isinstance(item, (Constant, QuantizedConstant))):
            self.before.update(node.outputs)

    # After it.

    @staticmethod
    def on_chip(node: Node, inputs: Given) -> Given:
        """The values that the chip's operator reads: `inputs`, with the chip's own values in place
        of HostResults where the chip computes the function that a quantizer or MaxPool reads."""
        values = [item.value if isinstance(item, HostResult) else item for item in inputs]
        return values if _takes_functions(node, values) else inputs

    def take(self, builder: Builder, node: Node, inputs: Given) -> list[HostResult] | None:
        """HostResults for the outputs of a node that the host computes; None where the chip does.
        `inputs` as of `on_chip`; `builder` has all tensors so far. Raises UserError where neither
        can."""
        if _takes_functions(node, inputs):
            return None
        reasons = [item.reason for item in inputs if isinstance(item, HostResult)]
        reason = reasons[0] if reasons else _reason(builder, node, inputs)
        if reason is None:
            return None
        there = [item.value if isinstance(item, HostResult) else item for item in inputs]
        value = None if any(isinstance(item, HostResult) and item.value is None
                            for item in inputs) else applied(node, there)
        if value is None and not (self.ends(node) and computable(node)):
            node.fail(reason)
        return self._results(node, reason, value)

    def instead(self, node: Node, inputs: Given,
                error: UserError) -> Sequence[HostResult | HostInput] | None:
        """What stands for the outputs of a node that the chip refuses with `error`: HostInputs
        before the chip, HostResults after it; None where the host cannot compute the node."""
        quantizer = node.operator in ("QuantizeLinear", "DequantizeLinear")
        if not computable(node) or node.domain in QONNX:
            return None
        prepares = self._prepares(node, inputs)
        if (prepares and quantizer) or (not prepares and not self.ends(node)):
            return None
        self.why.setdefault(node.name, str(error))
        if prepares:
            return self._prepared(node)
        return self._results(node, f"reads the result of {node.name!r} ({node.operator}), which "
                                   "the host computes after the chip")

    def ends(self, node: Node) -> bool:
        """Whether a node, with all that depends on it, is little enough work for the host."""
        if id(node) not in self._small:
            self._small[id(node)] = self.work.is_small(self.work.dependents([node]))
        return self._small[id(node)]

    @staticmethod
    def _results(node, reason, value=None):
        return [HostResult(name, reason, value) for name in node.outputs]

    # The parts.

    def finish(self, builder: Builder, nodes: list[Node],
               values: dict) -> tuple[HostPart | None, HostPart | None]:
        """The parts of the network that the host computes (before, after the chip), None where
        there is none; makes tensors of the chip outputs of the `builder`.

        `nodes`: those that were read, in order; `values`: {tensor: value}. Raises UserError where
        neither chip nor host can give an output of the network.
        """
        after, given = self._after(builder, nodes, values)
        needed, before = {item.name for item in builder.encoders}, list[Node]()
        wanted = sorted(needed - self.work.inputs)
        for node in reversed(nodes):
            if needed & set(node.outputs):
                before.insert(0, node)
                needed.update(node.inputs)
        made = [name for name in self.outputs if name not in given]
        return (self._part(before, values, [], wanted, wanted),
                self._part(after, values, given, made, self.outputs))

    def _after(self, builder, nodes, values):
        """(nodes that the host computes after the chip, tensors that the chip gives), from the
        network's outputs back; the tensors are made outputs of the builder."""
        makers = {name: node for node in nodes for name in node.outputs if name}
        kept, given, first = set(), [], None
        waiting, seen = deque(self.outputs), set()
        # An output that is an input as it stands is the host's, if anything else is the chip's.
        alone = all(isinstance(item, Value) and is_input(builder, item)
                    for item in map(values.get, self.outputs))
        while waiting:
            name = waiting.popleft()
            value = values.get(name)
            if not name or name in seen or isinstance(value, (Constant, QuantizedConstant)):
                continue
            seen.add(name)
            if isinstance(value, Value) and (alone or not is_input(builder, value)) and not (
                    has(makers[name].operator, _MOVES) and _is_moved(value)):
                try:
                    builder.output(value, name, makers[name])
                    given.append(name)
                    continue
                except UserError as error:
                    if not computable(makers[name]):
                        raise
                    self.why.setdefault(makers[name].name, str(error))
                    first = first or error
            if name not in self.work.inputs:
                kept.add(id(makers[name]))
                waiting.extend(makers[name].inputs)
        after = [node for node in nodes if id(node) in kept]
        if after and not self.work.is_small(after) and first is not None:
            raise first
        return after, given

    def _part(self, nodes, values, given, made, outputs):
        """The HostPart of some nodes, as of `host_part`; None where there are none."""
        why = next((self.why[node.name] for node in nodes if node.name in self.why), "")
        return host_part(self.work, nodes, values, given, made, outputs, why) if nodes else None


def _takes_functions(node, values):
    """Whether a node is a quantizer or MaxPool with which the chip looks up a function of sums."""
    return node.operator in _ON_CHIP and isinstance(values[0], Value)


def _is_moved(value):
    """Whether all that was done to a value since its quantizers was to join tensors or to take
    parts of them: the host does that as it reads them."""
    return value.linear is None and not value.pool and bool(
        value.parts or value.channels is not None or any(value.pads))


def _reason(builder, node, inputs):
    """Why the host must compute a node unless a quantizer follows; None where the chip can compute
    it."""
    values = [item for item in inputs if isinstance(item, (Value, HostInput))]
    first = values[0] if values else None
    linear = [item.linear for item in values if isinstance(item, Value)]
    square = (node.operator == "Mul" and len(linear) == 2 and isinstance(linear[0], Linear)
              and linear[0] is linear[1])
    if node.operator == "Sign" and linear and isinstance(linear[0], Linear):
        return None
    if isinstance(first, Value) and (square or (
            has(node.operator, Role.FUNCTION) and not quantized_function(first))):
        return (f"reads the result of {node.name!r} ({node.operator}), a function of what "
                f"{first.nodes[-1]!r} gives; put a quantizer before {node.name!r}, so "
                "that it is a function of codes, or leave it to the network's end")
    return None


def host_tensor(name: str, element: int, sizes: Sequence[int]) -> HostInput:
    """The HostInput of a tensor with this ONNX element type; `sizes` are without the batch."""
    form = element_format(element) if element in INTEGERS else None
    bits, signed = (form.width, form.signed) if form else (0, True)
    half = HALF.get(element, "")
    return HostInput(name, tuple(sizes), tuple(sizes), bits, signed,
                     [("round", half)] if half else [], half)

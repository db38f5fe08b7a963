"""Functions of an ONNX file, inlined: what they come to is counted first, since functions that call
each other may stand for far more nodes than memory holds."""

from collections.abc import Iterator

import onnx
import onnx.inliner
from systolith.gen.kit.errors import UserError, one_line

__all__ = ["LARGEST_NETWORK", "inlined", "needs_few_nodes"]

#: The most nodes of a network; those of functions count wherever they are called.
LARGEST_NETWORK = 20_000
#: The most bytes of the nodes that functions come to, whose constants are copied at each call.
_LARGEST_INLINED = 1 << 29
#: Where counting ends, so that nested functions make no numbers of a thousand digits.
_COUNTED = 10 ** 12


def inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model without functions of its own, each call replaced by the function's nodes.

    Raises UserError, which calls the model `where`, for functions that call themselves, that come
    to more than `LARGEST_NETWORK` nodes, or that ONNX's own inliner refuses.
    """
    if not model.functions:
        return model
    nodes, size = _inlined_size(model, where)
    needs_few_nodes(nodes, where)
    if size > _LARGEST_INLINED:
        raise UserError(f"the functions of {where} come to {size:,} bytes where they are called, "
                        f"and may come to {_LARGEST_INLINED:,}: make their constants inputs")
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        # The inliner raises whatever its C++ code meets.
        raise UserError(f"the functions of {where} cannot be inlined: {one_line(error)}") from None


def needs_few_nodes(nodes: int, where: str) -> None:
    """Raise UserError where a network has too many nodes to be read in bounded time and memory."""
    if nodes > LARGEST_NETWORK:
        raise UserError(f"{where} has {nodes:,} nodes, and may have {LARGEST_NETWORK:,}: fold "
                        "constants or split the network")


def _inlined_size(model, where):
    """(nodes, bytes) that the graph has when every call of a function is replaced."""
    functions = {(item.domain, item.name): item for item in model.functions}
    sizes: dict = {}

    def size_of(key):
        """(nodes, bytes) of one call. Functions that call each other are walked without recursion,
        since a file may nest them deeper than Python's stack."""
        stack = [key]
        while stack:
            top = stack[-1]
            if sizes.get(top) is not None:
                stack.pop()
                continue
            called = [(node.domain, node.op_type) for node in _all_nodes(functions[top].node)]
            missing = {item for item in called if item in functions and sizes.get(item) is None}
            if not missing:
                sizes[top] = summed(functions[top].node)
                continue
            # What is in `sizes` without a size waits for `top`.
            if any(item in sizes for item in missing):
                raise UserError(f"the functions of {where} cannot be inlined: "
                                f"{functions[top].name!r} calls itself")
            sizes[top] = None
            stack += missing
        return sizes[key]

    def summed(nodes):
        count = size = 0
        for node in _all_nodes(nodes):
            key = node.domain, node.op_type
            inner = size_of(key) if key in functions else (1, node.ByteSize())
            count, size = count + inner[0], size + inner[1]
        return min(count, _COUNTED), min(size, _COUNTED)
    return summed(model.graph.node)


def _all_nodes(nodes) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs inside them."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting += [graph.node for item in node.attribute
                        for graph in ([item.g] if item.HasField("g") else item.graphs)]

"""Where to cut a network whose middle the chip cannot compute, so that the part before the refused
node and the part after it are networks of their own."""

from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rows import has
from systolith.gen.importer.values import Linear, Value
from systolith.gen.kit.errors import MiddleError, UserError

from .ends import ENCODES, HostResult
from .work import Work

__all__ = ["cuts", "with_cuts"]


def cuts(work: Work, node: Node, values: dict) -> tuple[list[str], list[str]]:
    """(tensors that the chip can give before a refused node, tensors with which the rest of the
    network begins after it). The second list is empty where no layer is left for the chip after the
    node. `values`: {tensor: value} of what has been read."""
    dependents = work.dependents([node])
    first = _last_made(work, node, values)
    found = _first_of(work, _quantizers_after(work, dependents))
    rest = work.dependents(found)
    whole = bool(first and work.cost(rest).quantized)
    second = work.crossing(rest) if whole else []
    others = second if whole else work.crossing(dependents) if first else []
    first += [name for name in others if _is_made(values.get(name)) and name not in first]
    return first, list(dict.fromkeys(_before_quantizer(work, name) for name in second))


def with_cuts(error: UserError, work: Work, first: list[str], second: list[str]) -> UserError:
    """The error about a node, with the options that keep the part of the network before it
    (`first`: its outputs) and the part after it (`second`: its inputs), as far as there are such
    parts with layers. A MiddleError where there is a part after it."""
    before = bool(first) and work.cost(work.needed(first)).quantized > 0
    if before and not second:
        return UserError(f"{error}; --outputs {','.join(first)} keeps the part before it")
    if not first or not second:
        return error
    after = f"--inputs {','.join(second)} keeps the part after it"
    if not before:
        return MiddleError(f"{error}; {after}", second)
    return MiddleError(f"{error}; it is in the middle of the network, which can be cut there: "
                       f"--outputs {','.join(first)} keeps the part before it, {after}", second)


def _last_made(work, node, values):
    """The tensors before a node that the chip can give, the nearest ones on each way to it."""
    found, waiting, seen = [], list(node.inputs), set()
    while waiting:
        name = waiting.pop(0)
        if name in seen or name not in work.makers:
            continue
        seen.add(name)
        if _is_made(values.get(name)):
            found.append(name)
        elif isinstance(values.get(name), (Value, HostResult)):
            waiting += work.makers[name].inputs
    return found


def _is_made(value):
    """Whether a value is what a quantizer or a layer made, in any order: the chip can give it."""
    return (isinstance(value, Value) and (value.linear is None or isinstance(value.linear, Linear))
            and not value.parts and not value.pool and value.window == (1, 1)
            and value.channels is None)


def _quantizers_after(work, dependents):
    """The dependents of a node that make codes of real numbers with scales that do not depend on
    the node."""
    inside = {id(item) for item in dependents}
    return [item for item in dependents
            if has(item.operator, ENCODES) and item.inputs[0] in work.makers
            and not has(work.makers[item.inputs[0]].operator, ENCODES)
            and not any(id(work.makers.get(other)) in inside for other in item.inputs[1:])]


def _first_of(work, nodes):
    """The nodes among `nodes` that depend on no others of them."""
    found: list[Node] = []
    for node in nodes:
        if not any(node is item for other in found for item in work.dependents([other])):
            found.append(node)
    return found


def _before_quantizer(work, name):
    """The real numbers that become the codes of a tensor, so that a part of the network that begins
    with them has the quantizer; `name` itself where no quantizer makes it."""
    maker = work.makers.get(name)
    if maker is not None and maker.operator == "DequantizeLinear":
        maker = work.makers.get(maker.inputs[0])
    if maker is None or not has(maker.operator, ENCODES) or (
            maker.operator == "DequantizeLinear" or maker.inputs[0] in work.constants):
        return name
    return maker.inputs[0]

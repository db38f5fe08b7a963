"""Functions of codes: what is computed element by element from one quantized tensor.

The results are a table with one word for each code of the tensor. A quantizer after a `Function`
makes a layer that copies the codes and looks them up in the table. The builder keeps, for each
tensor made like this, which tensor it is a function of, so that a function of the result is again
one table.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from systolith.sim.model import numerics
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Requantization
from systolith.sim.model.weights import Weights

from .copies import plain
from .kinds import given, quantized, reach
from .nodes import Node
from .rationals import uniform
from .target import Target
from .values import Kind, Symbol, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["Function", "add_table", "ancestors", "lookup", "note_rescaled", "quantized_function",
           "reals"]


@dataclass
class Function(Kind):
    """The results of an operator, before the value's gain and offset are applied: float32 `numbers`
    for each ordered integer of the source, from the smallest to the largest. `name` is the
    node's."""
    name: str
    numbers: np.ndarray


def quantized_function(value: Symbol | None) -> bool:
    """Whether a value is a function of codes: the codes of a tensor themselves, or a `Function` of
    them."""
    return isinstance(value, Value) and (value.linear is None or isinstance(value.linear, Function))


def ancestors(builder: "Builder", value: Value) -> list[tuple[str, np.ndarray]]:
    """The tensors that a value's source is a function of: [(tensor, ordered integers)], the source
    first, then the tensor that the source is a function of, and so on. The ordered integers are
    those of the source that each ordered integer of the tensor gives."""
    name, (low, high) = value.source, builder.limits[value.source]
    orders = np.arange(low, high + 1)
    found = [(name, orders)]
    while name in builder.functions or name in builder.rescaled:
        root, results, _ = builder.functions.get(name) or builder.rescaled[name]
        orders = orders[results - builder.limits[name][0]]
        name = root
        found.append((name, orders))
    return found


def reals(builder: "Builder", value: Value, orders: np.ndarray, node: Node) -> np.ndarray:
    """The real numbers (float32) of a function of codes for the ordered integers `orders` of its
    source. Raises UserError at `node` where channels differ."""
    gain, offset = uniform(value.gain), uniform(value.offset)
    if gain is None or offset is None:
        if isinstance(value.linear, Function):
            node.fail(f"reads the result of {value.linear.name!r}, a function of codes, which is "
                      "scaled or moved channel by channel before it is quantized; put a quantizer "
                      f"after {value.linear.name!r}")
        node.fail("is a function of channels of different scales; put a quantizer before it")
    low, _ = builder.limits[value.source]
    if isinstance(value.linear, Function):
        numbers = value.linear.numbers[orders - low]
        if (gain, offset) != (1, 0):
            numbers = numbers * np.float32(gain) + np.float32(offset)
    else:
        format = builder.tensors[value.source].format
        images = format.image(format.from_ordered(orders))
        numbers = np.array([float(gain * int(image) + offset) for image in images], np.float32)
    if value.low is None and value.high is None:
        return numbers
    ends: list[Any] = [None if item is None else np.float32(item)
                       for item in (value.low, value.high)]
    return np.clip(numbers, *ends)


def add_table(builder: "Builder", value: Value, target: Target, name: str, node: Node) -> str:
    """Add the layer that looks up a function of codes, quantized by `target`; returns the name of
    its tensor, `name` or one like it. Raises UserError at `node`."""
    if value.linear is None:
        root, orders = ancestors(builder, value)[-1]
    else:
        root, (low, high) = value.source, builder.limits[value.source]
        orders = np.arange(low, high + 1)
    results = _results(builder, value, orders, target, node)
    tensor = builder.add_tensor(name, value.map, target)
    builder.add_layer(lookup(builder, root, tensor, results, value, node))
    if not value.pool:
        builder.functions[tensor] = root, results, value.nodes
    return tensor


def note_rescaled(builder: "Builder", value: Value, target: Target, tensor: str,
                  node: Node) -> None:
    """Note that `tensor` is a function of the codes of the value's source (what `target` makes of
    each), if it depends on nothing else."""
    if (value.linear is None and value.slope is None and value.channels is None
            and not value.pool and not any(value.pads) and uniform(value.gain) is not None
            and uniform(value.offset) is not None and not target.format.binary):
        low, high = builder.limits[value.source]
        builder.rescaled[tensor] = value.source, _results(
            builder, value, np.arange(low, high + 1), target, node), value.nodes


def _results(builder, value, orders, target, node):
    """The ordered integers of a value quantized by `target`, for each ordered integer in `orders`
    of its source."""
    numbers = reals(builder, value, orders, node)
    if np.isnan(numbers).any():
        node.fail(f"the function before it is not a number for some codes of {value.source!r}; put "
                  "a Relu or Clip before the function, or choose scale and zero point so that "
                  "there are no such codes")
    if target.sign:
        return np.where((numbers > 0) | ((numbers == 0) & (not target.strict)), 1, -1)
    quotient = np.clip(numbers / np.float32(target.scale), -1e30, 1e30)
    if target.zero_point or target.odd:
        quotient = numerics.round_reals(quotient, target.odd) + target.zero_point
    return np.clip(target.format.ordered(target.format.encode(quotient)),
                   target.low, target.high)


def lookup(builder: "Builder", source: str, output: str, table: np.ndarray, value: Value,
           node: Node) -> Conv:
    """A layer that copies the codes of `source` and looks them up in `table` (ordered integers of
    `output`), with the pooling and the nodes of `value`. Raises UserError at `node` where the
    weights' format has no 1."""
    weight, _ = builder.weights_of_one(source, node)
    channels = builder.tensors[source].shape[0]
    low, high = builder.limits[source]
    own = Requantization(np.full(channels, 1 << 25),
                         np.full(channels, 25 + weight.copying[1].bit_length() - 1),
                         low=low, high=high)
    return Conv(builder.unique(value.nodes[-1] if value.nodes else output), source, output,
                Weights.ones(weight, channels), Geometry(groups=channels), requantization=own,
                pool=value.pool or Pool(), table=table, nodes=tuple(value.nodes))


# As a kind of values.

@quantized.register
def _(function: Function, builder, value, target, name, node):
    if target.format.binary:
        target = target.as_integers
    return add_table(builder, plain(builder, value, node), target, name, node)


@given.register
def _(function: Function, builder, value, decoder, node):
    if value.pool:
        node.fail("a MaxPool whose result is an output of the network needs a quantizer; "
                  "put one after it")
    low, high = builder.limits[value.source]
    numbers = reals(builder, value, np.arange(low, high + 1), node).astype(np.float64)
    return value.source, {"function": (low, numbers), "low": None, "high": None}


@reach.register
def _(function: Function, builder, value, node):
    low, high = builder.limits[value.source]
    numbers = reals(builder, value, np.arange(low, high + 1), node)
    return np.full(value.map[0], Fraction(float(np.abs(numbers).max())), dtype=object)

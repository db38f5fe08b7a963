"""Functions of sums that are not quantized before the function, such as convolution, SiLU,
quantizer.

The sums are rounded to steps so fine that the function's value changes by at most half a step of
the quantizer after it from one to the next; the rounded sums are looked up in a table with that
many words. The results are those of exact sums, or the neighbouring code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np
from systolith.gen.importer.kinds import quantized
from systolith.gen.importer.layers import quantizing_layer
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.values import Constant, Kind, Linear, QuantizedConstant, Value, like
from systolith.sim.model import numerics

from .functions import evaluated

__all__ = ["Smooth", "applied"]

#: The least and the most words of a table; functions that would need more are rounded in coarser
#: steps.
_WORDS = 253, 2045
#: By how many steps the result may change from one word to the next.
_MOVE = 0.5
#: Points at which a function is evaluated to find where and by how much it changes.
_POINTS = 1 << 14



@dataclass
class Smooth(Kind):
    """A function of the real numbers of the value `base`: `function` maps float32 arrays to float32
    arrays. `name`: the node's."""
    name: str
    base: Value
    function: Any


def applied(node: Node, inputs: Sequence[Any]) -> Value | None:
    """The function that an element-wise node computes from functions of one convolution's results
    and constants of one number; None for other inputs."""
    values = [item for item in inputs if isinstance(item, Value)]
    if not has(node.operator, Role.ELEMENTWISE) or not values:
        return None
    base = next((item.linear.base for item in values if isinstance(item.linear, Smooth)), None)
    base = replace(values[0], low=None, high=None) if base is None else base
    parts = []
    for item in inputs:
        if isinstance(item, Value):
            parts.append(_function_of(base, item))
            if parts[-1] is None:
                return None
        elif isinstance(item, (Constant, QuantizedConstant)):
            array = item.floats.reshape(-1)
            if array.size == 0 or (array != array[0]).any():
                return None
            parts.append(array[:1].reshape(()) if node.operator == "Clip" else array[:1])
        elif item is not None:
            return None

    def function(numbers):
        return evaluated(node, [part(numbers) if callable(part) else part for part in parts])
    value = values[0]
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    nodes = list(dict.fromkeys([*(name for item in values for name in item.nodes), node.name]))
    return like(value, Value(value.source, value.shape, value.map, ones, 0 * ones, nodes=nodes,
                             linear=Smooth(node.name, base, function)))


def _function_of(base, value):
    """The value as a function of `base`, the scaled and moved results of a convolution; None where
    it is no such function."""
    if value.pool or value.slope is not None or value.window != base.window:
        return None
    if isinstance(value.linear, Smooth):
        return value.linear.function if value.linear.base is base else None
    if value.linear is not base.linear or not isinstance(value.linear, Linear) or (
            base.gain == 0).any():
        return None
    gain = uniform(value.gain / base.gain)
    offset = None if gain is None else uniform(value.offset - gain * base.offset)
    if offset is None:
        return None
    limits = [None if item is None else np.float32(item) for item in (value.low, value.high)]

    def function(numbers):
        if (gain, offset) != (1, 0):
            numbers = numbers * np.float32(gain) + np.float32(offset)
        return numbers if limits == [None, None] else np.clip(numbers, limits[0], limits[1])
    return function


@quantized.register
def _(smooth: Smooth, builder, value, target, name, node):
    name = builder.add_tensor(name, value.map, target)
    builder.add_layer(_layer(builder, value, target, name, node))
    return name


def _layer(builder, value, target, output, node):
    """The layer that quantizes a Smooth into the tensor `output`."""
    base, inner = value.linear.base, value.linear.function
    if not target.format.uniform:
        node.fail(f"rounds {value.nodes[-1]!r}, a function of a convolution's results, to "
                  f"{target.format}; put a quantizer before the function, as floats need")
    if (value.gain != 1).any() or value.offset.any() or value.low is not None or (
            value.high is not None):
        node.fail(f"scales or clips {value.nodes[-1]!r} channel by channel; put a quantizer "
                  "between them")
    def steps_at(numbers):
        """The function, in steps of the target from its zero point, within its limits."""
        numbers = np.asarray(numbers, np.float32)
        real = inner(numbers)
        if np.isnan(real).any():
            node.fail(f"{value.nodes[-1]!r} is not a number where it reads "
                      f"{numbers[np.isnan(real)][0]:.4g}; put a Relu or Clip before it")
        real = real.astype(np.float64) / float(target.scale)
        return np.clip(real, target.low - target.zero_point, target.high - target.zero_point)

    low, high = _range(builder, base)
    for _ in range(4):                          # closer and closer to where it moves
        points = np.linspace(low, high, _POINTS)
        codes = np.rint(steps_at(points))
        moving = np.flatnonzero(np.diff(codes))
        if not moving.size:
            low, high = min(low, 0.0), max(min(low, 0.0), 0.0)
            break
        low, high = points[moving[0]], points[moving[-1] + 1]
    moves = np.abs(np.diff(steps_at(np.linspace(low, high, _POINTS)))).max() if high > low else 0
    least, most = _WORDS
    words = (1 << ceil(moves * (_POINTS - 1) / _MOVE).bit_length()) - 3
    words = min(max(words, least), most)
    step = (high - low) / words or 1.0
    # Sums are rounded by half a step of the table at most.
    builder.notes.add("function", value.linear.name, moves * (_POINTS - 1) / words / 2)
    first, last = floor(low / step), ceil(high / step)
    fine = replace(target, scale=step, zero_point=0, low=first, high=last, odd=False)
    layer = quantizing_layer(builder, replace(base, nodes=value.nodes), fine, output, node)
    numbers = numerics.round_reals(steps_at(np.arange(first, last + 1) * step), target.odd)
    return replace(layer, table=numbers.astype(np.int64) + target.zero_point,
                   pool=value.pool or layer.pool)


def _range(builder, value):
    """The smallest and the largest real number that a convolution's results can be."""
    low, high = value.linear.weights.sum_ranges(builder.tensors[value.source].format)
    times = value.window[0] * value.window[1]
    ends = [float(gain * times * item + offset) for gain, offset, *sums in
            zip(value.gain, value.offset, low, high, strict=True) for item in sums]
    return min(ends), max(ends)

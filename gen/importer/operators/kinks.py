"""Functions with two slopes: channels multiplied by one number where a value is at least 0 and by
another where it is below, then moved (PRelu with an offset after it, DPReLU, and the same written
with Relus).

Chips with `post.offsets` compute them in one layer, of a convolution or of its sum with a quantized
map. What a chip with `post.leaky` alone cannot compute so is the larger, or the smaller, of two
lines: max(a * u, c * u) where a is at least c. Rounding keeps the order, so two layers compute both
lines as codes, side by side, and max pooling in a third layer takes the larger of each pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from systolith.gen.importer.copies import join
from systolith.gen.importer.kinds import given, quantized
from systolith.gen.importer.layers import identity, quantizing_layer
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.requantize import offsets_fit
from systolith.gen.importer.values import Kind, Linear, Pair, Value
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool

from .pairs import late_sum

__all__ = ["Kink", "kink_extreme", "kink_of", "kink_sum"]


@dataclass
class Kink(Kind):
    """above * u where u, the value `base`, is at least 0, and below * u elsewhere; `above` and
    `below` are arrays of Fraction [channels]."""
    base: Value
    above: np.ndarray
    below: np.ndarray


def kink_of(value: Value) -> Value | None:
    """The value as a Kink with gain and offset; None where it cannot be one, since it is pooled or
    has more than one limit."""
    if isinstance(value.linear, Kink):
        return value if value.low is None and value.high is None and not value.pool else None
    bounded = [value.low, value.high].count(None) < 2
    if value.parts or value.pool or not isinstance(value.linear, Linear | Pair | None) or (
            None not in (value.low, value.high)) or (bounded and value.slope is not None):
        return None
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    above = below = ones
    base, moved = replace(value, slope=None, low=None, high=None), 0 * ones
    if value.slope is not None:
        below = value.slope
    elif bounded:
        # max(x, t) = t + max(x - t, 0), and the smallest likewise.
        bound = value.low if value.high is None else value.high
        base, moved = replace(base, offset=base.offset - bound), bound * ones
        above, below = (ones, 0 * ones) if value.high is None else (0 * ones, ones)
    return replace(base, linear=Kink(base, above, below), gain=ones, offset=moved, window=(1, 1),
                   channels=None, pads=(0, 0, 0, 0))


def kink_sum(node: Node, values: Sequence[Value], sign: int) -> Value | None:
    """The sum (`sign` 1) or difference (-1) of two functions with two slopes of one value that is
    not quantized; None for other values."""
    both = _of_one(values)
    if both is None:
        return None
    first, *sides = both[:3]
    above, below = (mine + sign * other for mine, other in sides)
    offsets = [item.offset for item in both[3]]
    return _two_slopes(node, values, first, above, below, offsets[0] + sign * offsets[1])


def kink_extreme(node: Node, values: Sequence[Value], larger: bool) -> Value | None:
    """The larger (or the smaller) of two functions with two slopes of one value that is not
    quantized, if both are the same at 0; None for other values."""
    both = _of_one(values)
    if both is None:
        return None
    first, (above, other_above), (below, other_below), kinks = both
    offsets = [item.offset for item in kinks]
    if (offsets[0] != offsets[1]).any():
        return None
    above, below = ((np.maximum(above, other_above), np.minimum(below, other_below)) if larger else
                    (np.minimum(above, other_above), np.maximum(below, other_below)))
    return _two_slopes(node, values, first, above, below, offsets[0])


def _of_one(values) -> Any:
    """(the first as a Kink, both slopes above 0, both slopes below 0, both as Kinks) of two values
    that are functions with two slopes of one value; None where they are not."""
    bases = [item.linear.base.linear if isinstance(item.linear, Kink) else item.linear
             for item in values]
    # Functions of codes with one scale are functions of their codes, which need no second slope.
    if bases[0] is not bases[1] or (bases[0] is None and not any(
            isinstance(item.linear, Kink) or (uniform(item.gain) is None and (
                item.low is not None or item.high is not None)) for item in values)):
        return None
    first, second = map(kink_of, values)
    if first is None or second is None:
        return None
    own, other = first.linear, second.linear
    assert isinstance(own, Kink) and isinstance(other, Kink)
    ratio = _ratio(own.base, other.base)
    if ratio is None:
        return None
    turned, factor = (ratio < 0).astype(bool), second.gain * ratio
    return (first, (first.gain * own.above, factor * np.where(turned, other.below, other.above)),
            (first.gain * own.below, factor * np.where(turned, other.above, other.below)),
            (first, second))


def _two_slopes(node, values, first, above, below, offset):
    base, nodes = first.linear.base, list(dict.fromkeys(
        [*(name for item in values for name in item.nodes), node.name]))
    if (above == below).all():
        return replace(base, gain=base.gain * above, offset=base.offset * above + offset,
                       nodes=nodes)
    ones = np.full(len(above), exact(1).item(), dtype=object)
    return replace(first, linear=Kink(base, above, below), gain=ones, offset=offset, nodes=nodes)


def _ratio(first, second):
    """How many times the first value the second one is: array of Fraction [channels]; None where it
    is no multiple."""
    same = (first.source == second.source and first.linear is second.linear
            and first.window == second.window and first.map == second.map
            and first.pads == second.pads and (
                first.channels is second.channels is None
                or np.array_equal(first.channels, second.channels)))
    if not same or first.shape != second.shape or (first.gain == 0).any():
        return None
    ratio = second.gain / first.gain
    return ratio if (ratio != 0).all() and (second.offset == ratio * first.offset).all() else None


# Layers.

@quantized.register
def _(kink: Kink, builder, value, target, name, node):
    base = kink.base
    above, below, offset = value.gain * kink.above, value.gain * kink.below, value.offset
    rest = dict(low=value.low, high=value.high, pool=value.pool, nodes=value.nodes)
    if (above == below).all():
        return builder.quantize(_line(base, above, offset, **rest), target, name, node)
    sloped = None if offset.any() else _sloped(above, below)
    if sloped and not target.format.binary:
        gain, slope = sloped
        return builder.quantize(replace(_line(base, gain, offset, **rest), slope=slope), target,
                                name, node)
    if value.pool:
        made = builder.quantize(replace(value, pool=None), target, name, node)
        gain = np.full(value.map[0], target.unit, dtype=object)
        codes = Value(made, value.shape, value.map, gain, -target.zero_point * gain,
                      pool=value.pool, nodes=value.nodes)
        return builder.pooled_codes(codes, node).source
    made = _in_one(builder, value, target, name, node)
    if made is not None:
        return made
    lines = [builder.quantize(_line(base, factors, offset, **rest), target, f"{name}_{side}", node)
             for factors, side in ((above, "above"), (below, "below"))]
    least = (above < below).astype(bool)
    channels, height, width = base.map
    both = join(builder, f"{name}_both", (channels, height, 2 * width),
                [(line, Placement(0, (1, 2), (0, n))) for n, line in enumerate(lines)], target,
                value.nodes, node)
    gain = np.full(channels, target.unit, dtype=object)
    pairs = Value(both, base.map, base.map, gain, -target.zero_point * gain, nodes=value.nodes,
                  pool=Pool((1, 2), (1, 2), (0, 0, 0, 0),
                            tuple(least.tolist()) if least.any() else ()))
    return builder.quantize(identity(builder, pairs, target, node), target, name, node)


def _in_one(builder, value, target, name, node):
    """The tensor of a value that is a Kink, not pooled, by one layer of a chip with offsets; None
    where that has none or cannot compute it."""
    kink = value.linear
    base, sloped = kink.base, _sloped(value.gain * kink.above, value.gain * kink.below)
    if not (builder.offsets and sloped and target.format.uniform) or target.sign or (
            not offsets_fit(value.offset, target)):
        return None
    gain, slope = sloped
    line = _line(base, gain, 0 * gain, low=value.low, high=value.high, nodes=value.nodes)
    if isinstance(base.linear, Pair):
        return late_sum(builder, line, slope, value.offset, target, name, node)
    if not isinstance(base.linear, Linear | None):
        return None
    name = builder.add_tensor(name, base.map, target.within(value, node))
    builder.add_layer(quantizing_layer(
        builder, replace(line, slope=slope, after=value.offset), target.within(value, node), name,
        node))
    return name


@given.register
def _(kink: Kink, builder, value, decoder, node):
    return node.fail(f"its result {value.nodes[-1]!r} of two slopes is an output of the network "
                     "before it is quantized; put a quantizer after it")


def _line(base, factors, offset, **rest):
    return replace(base, gain=base.gain * factors, offset=base.offset * factors + offset, **rest)


def _sloped(above, below):
    """(factors, slopes) with f(u) = factor * u where that is at least 0, else slope * factor * u;
    None where a channel has no such numbers."""
    factors, slopes = [], []
    for a, c in zip(above, below, strict=True):
        if a > 0 or a == c:
            factors.append(a)
            slopes.append(c / a if a else a)
        elif c < 0:
            factors.append(c)
            slopes.append(a / c)
        else:
            return None
    return np.array(factors, dtype=object), np.array(slopes, dtype=object)

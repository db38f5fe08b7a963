"""Quantizers by thresholds: QONNX's MultiThreshold, and rounding to a side (floor, ceil; Trunc).

Such a quantizer counts the thresholds that a value reaches. The chip rounds (S + bias) * multiplier
to nearest, S being an integer sum: a staircase of equal steps. Among all such staircases one is
chosen whose edges lie on the right side of every integer S, so that it counts exactly, although
real numbers between the sums would be counted differently. Weights are doubled where only that
makes such a staircase possible.
"""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
from systolith.gen.importer.binary import moved_below
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.file import QONNX
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import HostInput, Linear, Value, constant, like
from systolith.hw.formats import Bipolar, Int
from systolith.sim.model.weights import Weights

__all__ = ["moved_to_nearest", "staircase"]

#: The share of sums between the first and the last threshold that may be counted wrong where no
#: staircase is exact.
_ALLOWED = 0.1
#: Factors of the weights that are tried.
_FACTORS = (1, 2, 4, 8, 16)


def staircase(builder: Builder, node: Node, value: HostInput | Value, thresholds: np.ndarray,
              strict: bool = False) -> Value:
    """The number of thresholds that a value reaches (`strict`: exceeds), as a quantized value.

    `thresholds` is an array of Fraction [channels or 1, T], T at most 4,095. Raises UserError at
    `node` where equal steps would count too many sums wrong.
    """
    thresholds = np.sort(thresholds, axis=1)
    count = thresholds.shape[1]
    if count >> 12:
        node.fail(f"counts {count:,} thresholds, and may count 4,095: use fewer bits, or round to "
                  "nearest")
    bits = count.bit_length()
    move = 1 << (bits - 1)
    target = Target(Int(bits), 1.0, -move, -move, count - move)
    if isinstance(value, HostInput):
        value = _on_the_host(value, node, thresholds)
    else:
        value = _fitted(builder, node, value, thresholds, strict, target)
    source = builder.quantize(value, target, node.outputs[0], node)
    shape = builder.tensors[source].shape
    ones = np.full(shape[0], Fraction(1), dtype=object)
    return like(value, Value(source, tuple(value.shape), shape, ones, move * ones))


def moved_to_nearest(value: HostInput | Value, units: np.ndarray, rounding: str,
                     node: Node) -> HostInput | Value:
    """A value that, rounded to the nearest multiple of `units` (Fractions [channels]), is `value`
    rounded down or up (`rounding`: FLOOR or CEIL) to a multiple: moved by half a unit, less half
    the distance between a multiple and the next number. Raises UserError at `node`."""
    down = rounding == "FLOOR"
    if isinstance(value, HostInput):
        sides = (1, -1) + (1,) * (len(value.shape) - 1)
        moves = [unit * (Fraction(1, 1 << 12) - Fraction(1, 2)) * (1 if down else -1)
                 for unit in units]
        return value.then("add", np.array([float(item) for item in moves],
                                          np.float32).reshape(sides))
    if not isinstance(value.linear, (Linear, type(None))) or value.parts or any(
            item for item in (value.low, value.high)):
        node.fail(f"attribute rounding_mode {rounding!r} with a bit width for each channel is for "
                  "results of one layer, with or without a Relu; put a Quant of one bit width "
                  "before it")
    offset = []
    for gain, start, unit in zip(value.gain, value.offset, units, strict=True):
        # The numbers lie at start / unit + n * grain for integers n and one integer more or less.
        grain = Fraction(1, (gain / unit).denominator)
        gap = (-start if down else start) / unit % grain or grain
        move = Fraction(1, 2) - gap / 2
        offset.append(start - move * unit if down else start + move * unit)
    return replace(value, offset=np.array(offset, dtype=object))


def _on_the_host(value, node, thresholds):
    """The input scaled so that rounding to nearest counts thresholds; ties go up."""
    spans = thresholds[:, -1] - thresholds[:, 0]
    steps = [span / (thresholds.shape[1] - 1) if span else Fraction(1) for span in spans]
    wanted = thresholds[:, :1] + np.outer(np.array(steps, object), np.arange(thresholds.shape[1]))
    if (abs(thresholds - wanted) > np.array(steps, object).reshape(-1, 1) / 100).any():
        node.fail("its thresholds of an input of the network must be equidistant in each channel; "
                  "put a Quant before it")
    sides = (1, -1) + (1,) * (len(value.shape) - 1)
    factor, offset = (np.array([float(item) for item in items], np.float32).reshape(sides)
                      for items in ([1 / step for step in steps],
                                    [Fraction(1, 2) + Fraction(1, 1 << 12) - first / step
                                     for first, step in zip(thresholds[:, 0], steps, strict=True)]))
    return value.then("multiply", factor).then("add", offset)


def _fitted(builder, node, value, thresholds, strict, target):
    """The value with a gain and an offset such that rounding to nearest counts thresholds."""
    value = plain(builder, value, node)
    if value.linear is None:
        value = _weighted(builder, value, target, node)
    if not isinstance(value.linear, Linear):
        node.fail("counts thresholds of a sum or product of two activations; put a quantizer "
                  "between them")
    channels = len(value.gain)
    if len(thresholds) not in (1, channels):
        node.fail(f"its thresholds must have one row, or one for each of {channels} channels, not "
                  f"{len(thresholds)}")
    own = value.linear
    # Weights of +-1 can be more on the chips that these results are for.
    form = Int(_FACTORS[-1].bit_length() + 1) if own.weights.format.binary else (
        own.weights.format)
    most = form.image_range[1]
    low, high = own.weights.sum_ranges(builder.tensors[value.source].format)
    times = value.window[0] * value.window[1]
    best = None
    for factor in _FACTORS:
        if factor > 1 and factor * abs(own.weights.images).max(initial=0) > most:
            break
        lines, wrong, known = [], Fraction(0), {}
        for n in range(channels):
            key = (n % len(thresholds), value.gain[n], value.offset[n], low[n], high[n])
            if key not in known:
                known[key] = _line(thresholds[key[0]], value.gain[n] / factor, value.offset[n],
                                   (value.low, value.high), strict,
                                   (factor * times * int(low[n]), factor * times * int(high[n])))
            lines.append(known[key][:2])
            wrong = max(wrong, known[key][2])
        if best is None or wrong < best[0]:
            best = wrong, factor, lines
        if wrong == 0:
            break
    assert best is not None, "there are factors to choose from"
    wrong, factor, lines = best
    if wrong > _ALLOWED:
        node.fail(f"its thresholds must be equidistant in each channel: the chip rounds in equal "
                  f"steps, which would be wrong for {float(wrong):.1%} of sums")
    builder.notes.add("thresholds", node.name, float(wrong), "share")
    gain, offset = (np.array(items, dtype=object) for items in zip(*lines, strict=True))
    weights = own.weights if factor == 1 else Weights(own.weights.images * factor, form)
    return replace(value, linear=replace(own, weights=weights), gain=gain,
                   offset=offset, low=None, high=None, nodes=[*value.nodes, node.name])


def _weighted(builder, value, target, node):
    """The value as the result of a 1 x 1 convolution of each channel with the weight 1."""
    form, _ = builder.weights_of_one(value.source, node)
    channels = len(value.gain)
    linear = Linear(next(iter(value.nodes), node.name), Weights.ones(form, channels),
                    (1, 1), (1, 1), value.pads, value.pad_image)
    return replace(value, linear=linear, gain=value.gain / form.copying[1])


def _line(thresholds, gain, offset, clip, strict, reach):
    """The staircase of one channel: (gain, offset, share of sums that are counted wrong), such that
    gain * S + offset, rounded, is how many thresholds the value of the integer sum S reaches.

    `thresholds` (Fractions, sorted) are those of gain * S + offset, clipped to `clip` (low, high;
    None: no limit); `strict`: a value must exceed them. `reach`: the smallest and the largest S.
    """
    def met(number, threshold):
        return number > threshold if strict else number >= threshold
    low, high = clip
    if gain == 0:
        number = offset if low is None else max(offset, low)
        number = number if high is None else min(number, high)
        return Fraction(0), Fraction(sum(met(number, item) for item in thresholds)), Fraction(0)
    sign = 1 if gain > 0 else -1
    least, most = reach if gain > 0 else (-reach[1], -reach[0])
    # The first S (of a negative gain: -S) that meets each threshold: least, if all do, most + 1, if
    # none does.
    first = []
    for threshold in thresholds:
        place = (threshold - offset) / abs(gain)
        place = floor(place) + 1 if strict else ceil(place)
        if low is not None and met(low, threshold):
            place = least
        elif high is not None and not met(high, threshold):
            place = most + 1
        first.append(min(max(place, least), most + 1))
    inside = [n for n, place in enumerate(first) if least < place <= most]
    if not inside:
        return Fraction(0), Fraction(sum(place <= least for place in first)), Fraction(0)
    base, step = _steps(first, inside, least, most)
    wrong = sum(_missed(base + step * Fraction(2 * n + 1, 2), first[n]) for n in inside)
    return sign / step, -base / step, Fraction(wrong, max(first[inside[-1]] - first[inside[0]], 1))


def _missed(edge, first):
    """How many sums an edge of a staircase counts wrong: none if it lies above first - 1 and below
    `first`, the first sum after it."""
    return 0 if first - 1 < edge < first else max(abs(ceil(edge) - first), 1)


def _steps(first, inside, least, most):
    """(base, step), Fractions, of the staircase whose edges base + step * (n + 1/2) lie best above
    first[n] - 1 and below first[n]. `inside` are the n of thresholds that some sums from `least` to
    `most` reach and others do not."""
    places = np.arange(len(first)) + 0.5
    sums = np.array(first, np.float64)
    # Beyond the reach one side is enough.
    above = np.where(sums <= least, -np.inf, sums - 1)
    below = np.where(sums > most, np.inf, sums)
    a, b = inside[0], inside[-1]
    step = (sums[b] - sums[a]) / (b - a) if b > a else 1.0
    start = round(sums[a] - 0.5 - step * places[a])
    best = None
    for base in sorted(range(start - 4, start + 5), key=lambda item: abs(item - start)):
        lowest = max(((above - base) / places).max(), 0.0)
        highest = ((below - base) / places).min()
        size = (lowest + highest) / 2 if highest < np.inf else max(2 * lowest, 1.0)
        edges = np.clip(np.ceil(base + max(size, 1e-9) * places), least, most + 1)
        # Exact where there is room for a step; the more room, the less a multiplier's bits matter.
        wrong = 0.0 if highest > lowest else np.abs(edges - sums)[inside].sum()
        key = wrong, -(highest - lowest)
        if size > 0 and (best is None or key < best[0]):
            best = key, base, size
    base, size = (start, step) if best is None else best[1:]
    return Fraction(base), Fraction(size).limit_denominator(1 << 40)


@operator("MultiThreshold", roles=Role.QUANTIZER | Role.MAPS, domains=QONNX)
def _multi_threshold(builder, node, inputs, data_layout="", out_bias=0.0, out_dtype=None,
                     out_scale=1.0):
    if len(inputs) != 2:
        node.fail(f"must have an input and thresholds, not {len(inputs)} inputs")
    value = inputs[0]
    if not isinstance(value, (HostInput, Value)):
        node.fail("its first input must be an activation, not a constant")
    thresholds = constant(inputs[1], node, "its thresholds").numbers
    if thresholds.ndim != 2 or thresholds.shape[1] < 1 or not len(thresholds):
        node.fail("its thresholds must have the shape [channels or 1, thresholds], "
                  f"not {list(thresholds.shape)}")
    layout = node.expect("data_layout", data_layout, ("", "NC", "NCW", "NCHW"))
    if not layout and len(value.shape) == 2:
        node.fail("attribute data_layout must say NCW: for three dimensions QONNX takes NWC")
    scale, bias = (exact(item).item() for item in (out_scale, out_bias))
    if scale <= 0:
        node.fail(f"attribute out_scale must be positive, not {float(scale)}")
    if thresholds.shape[1] == 1 and bias == -scale / 2:
        return _sign(builder, node, value, thresholds[:, 0], scale / 2)
    result = staircase(builder, node, value, thresholds)
    return replace(result, gain=result.gain * scale, offset=result.offset * scale + bias)


def _sign(builder, node, value, thresholds, scale):
    """One threshold between -scale and scale: a binary number."""
    target = Target(Bipolar(1), float(scale), 0, 0, 1)
    if isinstance(value, HostInput):
        sides = (1, -1) + (1,) * (len(value.shape) - 1)
        value = value.then("add", -np.array([float(item) for item in thresholds],
                                            np.float32).reshape(sides))
    else:
        if len(thresholds) not in (1, len(value.gain)):
            node.fail(f"its thresholds must have one row, or one for each of {len(value.gain)} "
                      f"channels, not {len(thresholds)}")
        value = moved_below(value, np.broadcast_to(thresholds, value.gain.shape), False)
    source = builder.quantize(value, target, node.outputs[0], node)
    shape = builder.tensors[source].shape
    gain = np.full(shape[0], target.unit, dtype=object)
    return like(value, Value(source, tuple(value.shape), shape, gain, 0 * gain))

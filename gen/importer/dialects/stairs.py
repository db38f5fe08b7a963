"""Quantizers by thresholds: QONNX's MultiThreshold, and rounding to other neighbours than the
nearest (floor, ceil; Trunc).

Such a quantizer counts the thresholds that a value reaches. The chip rounds (S + bias) * multiplier
to nearest, S being an integer: a staircase of equal steps. Of all such staircases one is chosen
that is on the right side of every threshold for every integer S, so that it is exact, although the
numbers between integers differ. Weights are doubled where only that lets one exist.
"""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
from systolith.gen.importer.binary import moved_below
from systolith.gen.importer.copies import plain
from systolith.gen.importer.file import QONNX
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import HostInput, Linear, Value, constant, exact, like
from systolith.hw.formats import Bipolar, Int
from systolith.sim.model import numerics

__all__ = ["moved_to_nearest", "staircase"]

#: The share of sums between the first and the last threshold that may come out one step off where
#: no staircase is exact.
_ALLOWED = 0.1
#: Factors of the weights that are tried.
_FACTORS = (1, 2, 4, 8, 16)


def staircase(builder, node, value, thresholds, strict=False):
    """The tensor that counts thresholds which a value reaches (`strict`: exceeds), as a value
    whose real numbers are the counts.

    `thresholds` is an array of Fraction [channels or 1, T], at most 4,095 of them.
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


def moved_to_nearest(value, units, rounding, node):
    """A value which, rounded to the nearest multiple of `units` (Fractions, one for each channel),
    gives what `rounding` (FLOOR or CEIL) makes of `value`: moved by a half less half of the
    distance between a multiple and the number next to it."""
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
    """The input scaled such that rounding to nearest counts thresholds; ties just above."""
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
    form = Int(_FACTORS[-1].bit_length() + 1) if own.format.binary else own.format
    most = form.image_range[1]
    low, high = numerics.sum_ranges(own.images, builder.tensors[value.source].format)
    times = value.window[0] * value.window[1]
    best = None
    for factor in _FACTORS:
        if factor > 1 and factor * abs(own.images).max(initial=0) > most:
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
    images = own.images * factor
    gain, offset = (np.array(items, dtype=object) for items in zip(*lines, strict=True))
    form = own.format if factor == 1 else form
    return replace(value, linear=replace(own, images=images, format=form), gain=gain,
                   offset=offset, low=None, high=None, nodes=[*value.nodes, node.name])


def _weighted(builder, value, target, node):
    """The value as the result of a 1 x 1 depthwise convolution whose weights are 1."""
    form = builder.weight_format or builder.tensors[value.source].format
    one = int(form.image(form.encode(1.0)))
    if one < 1:
        node.fail(f"needs weights of one, and there is none in {form}; quantize the weights to "
                  "more bits")
    channels = len(value.gain)
    linear = Linear(next(iter(value.nodes), node.name), np.full((channels, 1, 1, 1), one), form,
                    (1, 1), (1, 1), value.pads, value.pad_image)
    return replace(value, linear=linear, gain=value.gain / one)


def _line(thresholds, gain, offset, clip, strict, reach):
    """(gain, offset, share of wrong sums) of the staircase of one channel: count = gain * S +
    offset, rounded. `clip`: limits of the value after its own gain and offset; `reach`: the
    smallest and the largest S."""
    def met(number, threshold):
        return number > threshold if strict else number >= threshold
    always = -1 if clip[0] is None else sum(met(clip[0], item) for item in thresholds) - 1
    never = [clip[1] is not None and not met(clip[1], item) for item in thresholds]
    if gain == 0:
        number = offset
        number = number if clip[0] is None else max(number, clip[0])
        number = number if clip[1] is None else min(number, clip[1])
        return Fraction(0), Fraction(sum(met(number, item) for item in thresholds)), Fraction(0)
    sign = 1 if gain > 0 else -1
    least, most = reach if gain > 0 else (-reach[1], -reach[0])
    # The first integer sum that meets each threshold, as far as sums reach.
    met_at = [(item - offset) / abs(gain) for item in thresholds]
    met_at = [floor(item) + 1 if strict else ceil(item) for item in met_at]
    met_at = [least if n <= always else most + 1 if never[n] else min(max(item, least), most + 1)
              for n, item in enumerate(met_at)]
    first = np.array([float(item) for item in met_at])
    # Step i must lie above first - 1 and below first; beyond the reach one side is enough.
    above = np.where(first <= least, -np.inf, first - 1)
    below = np.where(first > most, np.inf, first)
    places = np.arange(len(first)) + 0.5
    inside = np.flatnonzero((above > -np.inf) & (below < np.inf))
    if not len(inside):
        met_by_all = int((first <= least).sum())
        return Fraction(0), Fraction(met_by_all), Fraction(0)
    a, b = inside[0], inside[-1]
    step = (first[b] - first[a]) / (b - a) if b > a else 1.0
    start = round(first[a] - 0.5 - step * places[a])
    best = None
    for base in sorted(range(start - 4, start + 5), key=lambda item: abs(item - start)):
        lowest = max(((above - base) / places).max(), 0.0)
        highest = ((below - base) / places).min()
        size = (lowest + highest) / 2 if highest < np.inf else max(2 * lowest, 1.0)
        edges = np.clip(np.ceil(base + max(size, 1e-9) * places), least, most + 1)
        # Exact where there is room for a step; the more room, the less a multiplier's bits matter.
        wrong = (0.0 if highest > lowest else
                 np.abs(edges - first)[inside].sum() / max(first[b] - first[a], 1.0))
        key = wrong, -(highest - lowest)
        if size > 0 and (best is None or key < best[0]):
            best = key, base, size
    if best is None:
        return sign / Fraction(step), -start / Fraction(step), Fraction(1)
    step = Fraction(best[2]).limit_denominator(1 << 40)
    return sign / step, -best[1] / step, Fraction(best[0][0])


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

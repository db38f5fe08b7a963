"""Binary layers: weights that are signs, thresholds on the integer sum, signs of sums that are
never 0."""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor, prod

import numpy as np
from systolith.hw.formats import Format
from systolith.sim.model.weights import Weights

from .rationals import exact
from .values import Linear, Value

__all__ = ["as_signs", "moved_below", "never_zero", "three_signs", "thresholds"]


def as_signs(weights: Weights, scale: np.ndarray) -> tuple[Weights, np.ndarray]:
    """(weights, scale) of a layer, the weights as +1 and -1 of the binary format where all of each
    output channel are one integer or its negative; else unchanged. `scale` [O] is that of each
    output channel."""
    signs, sizes = weights.signs
    return (weights, scale) if signs is None else (signs, scale * exact(sizes))


def moved_below(value: Value, numbers: np.ndarray, strict: bool) -> Value:
    """`value` minus `numbers` [channels], for a reader that wants the sign alone.

    A channel whose sign a limit of the clipped value decides becomes the constant 1 or -1, and the
    limits are removed. `strict`: the sign of 0 is -1.
    """
    gain, offset = value.gain.copy(), value.offset - numbers
    for channel, number in enumerate(numbers):
        if value.low is not None and (value.low > number or (
                value.low == number and not strict)):
            gain[channel], offset[channel] = 0 * number, 0 * number + 1
        elif value.high is not None and (value.high < number or (
                value.high == number and strict)):
            gain[channel], offset[channel] = 0 * number, 0 * number - 1
    return replace(value, gain=gain, offset=offset, low=None, high=None)


def thresholds(gain: np.ndarray, offset: np.ndarray, ends: tuple[np.ndarray, np.ndarray],
               strict: bool) -> tuple[list[int], ...]:
    """(bias, multiplier, shift) of each channel with sum + bias >= 0 exactly where gain * sum +
    offset >= 0 (`strict`: where it is > 0). Gains are 0 or positive; `ends` are the
    smallest and the largest sums, Python integers [O]."""
    bias = []
    for g, o, least, most in zip(gain, offset, *ends, strict=True):
        if g:
            place = ceil(o / g) - 1 if strict else floor(o / g)
            bias.append(min(max(place, -(most + 1)), -least))
        else:
            bias.append(-least if o > 0 or (o == 0 and not strict) else -(most + 1))
    return bias, [1] * len(bias), [0] * len(bias)


def three_signs(value: Value) -> Value:
    """A value from -1 to 1 that, rounded to an integer, is ONNX's Sign (-1, 0 or 1) of `value`, the
    result of a convolution. A channel whose sum is never 0 goes from -1 to 1 between two sums."""
    gain, offset = [], []
    for g, o in zip(value.gain, value.offset, strict=True):
        place, two = (-o / g if g else None), 2 * (g > 0) - 2 * (g < 0)
        if place is None:
            gain.append(0 * o)
            offset.append(0 * o + (o > 0) - (o < 0))
        else:
            if place.denominator > 1:
                place = ceil(place) - 1 + Fraction(1, 2)
            gain.append(0 * o + two)
            offset.append(-two * Fraction(place))
    low, high = (None if item is None else Fraction((item > 0) - (item < 0))
                 for item in (value.low, value.high))
    return replace(value, gain=np.array(gain, dtype=object), offset=np.array(offset, dtype=object),
                   slope=None, low=low, high=high)


def never_zero(value: Value, format: Format) -> bool:
    """Whether the result of a convolution with binary weights on a tensor of `format` is never 0
    for any input, so that its sign has two values: all sums are odd (an odd number of products of
    signs), or the offset keeps them from 0."""
    linear, times = value.linear, value.window[0] * value.window[1]
    assert isinstance(linear, Linear)
    low, high = linear.weights.sum_ranges(format)
    signs = format.binary and not (
        linear.pad_image == 0 and any(pad > 0 for pad in linear.pads))
    products = times * prod(linear.weights.shape[1:])
    for gain, offset, least, most in zip(value.gain, value.offset, low, high, strict=True):
        place = -offset / gain if gain else None
        if offset == 0 if place is None else (
                place.denominator == 1 and times * least <= place <= times * most
                and not (signs and (place - products) % 2)):
            return False
    return True

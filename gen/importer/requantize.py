"""Bias, multiplier, shift and addend of each channel: the integers of the chip for exact
numbers."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
from systolith.hw.spec.numbers import MULTIPLIER_BITS, OFFSET_FRACTION, SHIFT_BITS
from systolith.sim.model import numerics
from systolith.sim.model.requantization import Below, Requantization

from .nodes import Node
from .target import Target
from .ties import EVEN, NONE, ODD

__all__ = ["below_zero", "best_weight", "offsets", "offsets_fit", "requantization", "scaling"]


def scaling(ratio: Fraction, node: Node | None = None) -> tuple[int, int]:
    """(multiplier, shift) with multiplier * 2**-shift as near as possible to `ratio` > 0. Raises
    UserError at `node` where the multiplier would be too large."""
    exponent = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    if Fraction(2) ** exponent > ratio:
        exponent -= 1
    shift = min(MULTIPLIER_BITS - 1 - exponent, (1 << SHIFT_BITS) - 1)
    multiplier = round(ratio * Fraction(2) ** shift)
    if multiplier >> MULTIPLIER_BITS:
        multiplier, shift = multiplier >> 1, shift - 1
    if shift < 0 and node is not None:
        node.fail(f"one step of the sum is {float(ratio):.6g} steps of the result, and must be "
                  f"less than {1 << MULTIPLIER_BITS}; the output scale is too small for this layer")
    return multiplier, shift


def best_weight(candidates: list[int], images: np.ndarray, gain: Fraction, offset: Fraction,
                target: Target | None, node: Node) -> tuple[int, int]:
    """(weight, `ties`) for one channel of a layer that computes gain * image + offset of each of
    `images`; the weight is one of `candidates`.

    It leaves the least error in the bias, and, for integers, no result different from what ONNX
    Runtime computes for the same number in float32, if any weight does. Raises UserError at `node`
    where the multiplier would be too large.
    """
    plain = ODD if target is not None and target.odd else EVEN
    if gain == 0:
        return candidates[0], plain

    bias = offset / abs(gain)

    def bias_error(weight):
        return abs(bias * weight - round(bias * weight)) / weight
    if bias.denominator != 1:                              # else none leaves an error
        candidates = sorted(candidates, key=bias_error)    # stable: 1 stays first if it can
    if target is None or not target.format.uniform or abs(offset / gain) > 1 << 30:
        return candidates[0], plain
    if target.sign or float(np.float32(target.scale)) != target.scale:
        expected = np.array([target.order(gain * image + offset) for image in images.tolist()])
    else:
        # Quotients of Python's integers are the nearest float64, and quicker than fractions.
        times, plus = gain.numerator * offset.denominator, offset.numerator * gain.denominator
        under = gain.denominator * offset.denominator
        reals = [(times * image + plus) / under for image in images.tolist()]
        quotient = np.array(reals, np.float64).astype(np.float32) / np.float32(target.scale)
        expected = numerics.round_reals(quotient, target.odd) + target.zero_point
        expected = np.clip(expected, target.low, target.high)
    best = None
    for weight, ties in product(candidates, (plain, NONE)):
        step = abs(gain) / weight
        multiplier, shift = scaling(step / target.unit, node)
        bias, addend = _split(offset / step, multiplier)
        numbers = [np.array([item]) for item in (multiplier, shift, addend, ties)]
        own = Requantization(numbers[0], numbers[1], numbers[2], numbers[3],
                             zero_point=target.zero_point, low=target.low, high=target.high)
        sums = numerics.add_bias(weight * (images if gain > 0 else -images)[None, None], bias)
        wrong = (own.results(sums, target.format)[0, 0] != expected).sum()
        if best is None or wrong < best[0]:
            best = wrong, weight, ties
        if wrong == 0:
            break
    assert best is not None, "there are weights to choose from"
    return best[1:]


def _split(bias, multiplier):
    """(whole number, addend) of a bias: the addend is the multiplier times the bias's fraction."""
    whole = floor(bias)
    return whole, round((bias - whole) * multiplier)


def requantization(gain: np.ndarray, offset: np.ndarray, constant: np.ndarray, target: Target,
                   node: Node) -> tuple[list[int], ...]:
    """(bias, multiplier, shift, addend), a list with one integer for each channel, for real = gain
    * sum + offset quantized by `target`.

    The sums of channels that are `constant` (bool array [O]) are 0, and any number can be their
    result. Raises UserError at `node` where an integer would be too large.
    """
    bias, multiplier, shift, addend = [], [], [], []
    for channel, (g, o) in enumerate(zip(gain, offset, strict=True)):
        if constant[channel]:
            result = target.order(o)
            if target.format.floating:
                code = target.format.from_ordered(result)
                result = int(target.format.image(code))
            bias.append(result - target.zero_point)
            multiplier.append(1 << (MULTIPLIER_BITS - 1))
            shift.append(MULTIPLIER_BITS - 1)
            addend.append(0)
            continue
        numbers = scaling(g / target.unit, node)
        for values, number in zip((bias, addend), _split(o / g, numbers[0]), strict=True):
            values.append(number)
        if abs(bias[-1]) >> 62:
            node.fail(f"the bias of channel {channel} is {float(o / g):.3g} steps of the sum, more "
                      "than any accumulator holds; choose a larger weight scale, or formats with "
                      "shorter exponents")
        multiplier.append(numbers[0])
        shift.append(numbers[1])
    return bias, multiplier, shift, addend


def below_zero(gain: np.ndarray, offset: np.ndarray, constant: np.ndarray, slope: np.ndarray,
               parameters: Sequence[list[int]], target: Target,
               node: Node) -> Below:
    """The requantization of sums below zero, where real numbers are multiplied with `slope`
    [channels]; `constant` as of `requantization`, which gave the `parameters` of the other sums."""
    _, *same = parameters
    multiplier, shift, addend = (list(item) for item in same)
    for channel, (g, o, factor) in enumerate(zip(gain, offset, slope, strict=True)):
        if factor == 0:
            multiplier[channel] = addend[channel] = 0
        elif not constant[channel]:
            number, shift[channel] = scaling(abs(factor) * g / target.unit, node)
            sign = 1 if factor > 0 else -1
            multiplier[channel] = sign * number
            addend[channel] = sign * _split(o / g, number)[1]
    return Below(*map(np.array, (multiplier, shift, addend)))


def offsets(after: np.ndarray, target: Target) -> np.ndarray:
    """The real numbers `after` [channels] as offsets of results: integers [channels]."""
    return np.array([round(item / target.unit * (1 << OFFSET_FRACTION)) for item in after])


def offsets_fit(after: np.ndarray, target: Target) -> bool:
    """Whether chips with offsets of results of the target's format hold these real numbers."""
    return all(abs(item) < target.unit * (1 << target.format.width + 1) - target.unit
               for item in after)

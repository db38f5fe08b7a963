"""Channels whose result is the same for every input, or one of two: channels with weights of 0 or a
tiny scale, and channels that their bias drives to a limit. Their long biases become short ones."""

from fractions import Fraction

import numpy as np

from .target import Target

__all__ = ["settle_constant_channels"]

#: Steps of the result by which a multiplier's own rounding moves it at the end of 8 bits: sums that
#: move a result by less decide nothing but what is a tie to all that the chip knows.
_TIE = Fraction(1, 1 << 20)
#: Sums beyond which a bias is long: ordinary ones are shorter.
_LONG = 1 << 24


def settle_constant_channels(gain: np.ndarray, offset: np.ndarray,
                             ends: tuple[np.ndarray, np.ndarray], slope: np.ndarray | None,
                             target: Target, after: np.ndarray | None = None
                             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find channels whose results are constant: they need no weights.

    Parameters
    ----------
    gain, offset : arrays of Fraction [O]
        real = gain * sum + offset; gains are 0 or positive.
    ends : arrays of int [O]
        The smallest and the largest sum of each channel.
    slope : array of Fraction [O] or None
        What real numbers below zero are multiplied with.
    target : Target
        The quantizer, integers or floats, limits included.
    after : array of Fraction [O] or None
        What is added after the slope.

    Returns (gains, offsets, bool array [O]: whether a channel's result is constant). The offset of
    a constant channel is the number that its code stands for, slope and all; a channel of two
    results has the steepest line through the same threshold where its bias would be long.
    """
    gain, offset, settled = gain.copy(), offset.copy(), np.zeros(len(gain), bool)
    for channel, (g, o, least, most) in enumerate(zip(gain, offset, *ends, strict=True)):
        reals = [o + g * least, o + g * most]
        factor = 1 if slope is None else slope[channel]
        if factor < 0 and reals[0] < 0 < reals[1]:
            continue                            # neither end is the smallest or the largest
        moved = 0 if after is None else after[channel]
        reals = [(end * factor if end < 0 else end) + moved for end in reals]
        orders = [target.order(end) for end in reals]
        if (orders[1] == orders[0] + 1 and target.format.uniform and slope is None
                and abs(o) >= _LONG * g and reals[1] - reals[0] >= _TIE * target.unit):
            factor, threshold = _steepest(reals, orders[0], target)
            gain[channel] = factor * g
            offset[channel] = threshold + factor * (o - threshold)
            continue
        if orders[0] != orders[1]:
            if abs(reals[1] - reals[0]) >= _TIE * target.unit or target.format.floating:
                continue
            orders[0] = target.order((reals[0] + reals[1]) / 2)
        settled[channel] = True
        offset[channel] = _real(orders[0], target)
    return gain, offset, settled


def _steepest(ends, order, target):
    """(factor, threshold): real numbers, whose ends are given, may be `factor` times as far from
    the threshold between the results `order` and `order` + 1, and still none is a step away."""
    threshold = (order + Fraction(1, 2) - target.zero_point) * target.unit
    furthest = max(threshold - ends[0], ends[1] - threshold)
    return max(Fraction(63, 64) * target.unit / furthest, Fraction(1)), threshold


def _real(order, target):
    """The real number of an ordered integer."""
    if target.format.floating:
        order = int(target.format.image(target.format.from_ordered(np.int64(order))))
    return (order - target.zero_point) * target.unit

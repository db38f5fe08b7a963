"""Channels whose result is the same for every input: dead ones with weights of 0 or a tiny scale,
and ones that their bias drives to a limit. They need neither weights nor a bias as long as theirs.
"""

from fractions import Fraction

import numpy as np

from ..hw.formats import Float
from ..sim import numerics

__all__ = ["settle_constant_channels"]

#: Steps of the result by which a multiplier's own rounding moves it at the end of 8 bits: sums that
#: move a result by less decide nothing but what is a tie to all that the chip knows.
_TIE = Fraction(1, 1 << 20)


def settle_constant_channels(images, gain, offset, slope, target, format, times):
    """Take the weights from channels whose results are constant.

    Parameters
    ----------
    images : int array [O, ...]
        Of the weights; those of constant channels become 0.
    gain, offset : arrays of Fraction [O]
        real = gain * sum + offset; gains are 0 or positive.
    slope : array of Fraction [O] or None
        What real numbers below zero are multiplied with.
    target : onnx_lower.Target
        The quantizer, integers or floats, limits included.
    format : Format
        Of what the layer reads.
    times : int
        Sums that are added up over a window.

    Returns the offsets with those of constant channels replaced by the number that their code
    stands for, behind the slope.
    """
    offset = offset.copy()
    low, high = numerics.sum_ranges(images, format)
    for channel, (g, o, least, most) in enumerate(zip(gain, offset, low, high, strict=True)):
        ends = [o + g * times * least, o + g * times * most]
        factor = 1 if slope is None else slope[channel]
        if factor < 0 and ends[0] < 0 < ends[1]:
            continue                            # neither end is the smallest or the largest
        ends = [end * factor if end < 0 else end for end in ends]
        orders = [target.order(end) for end in ends]
        if orders[0] != orders[1]:
            if abs(ends[1] - ends[0]) >= _TIE * target.unit or isinstance(target.format, Float):
                continue
            orders[0] = target.order((ends[0] + ends[1]) / 2)
        images[channel] = 0
        offset[channel] = _real(orders[0], target)
    return offset


def _real(order, target):
    """The number that an ordered integer stands for."""
    if isinstance(target.format, Float):
        order = int(target.format.image(numerics.from_ordered(np.int64(order), target.format)))
    return (order - target.zero_point) * target.unit

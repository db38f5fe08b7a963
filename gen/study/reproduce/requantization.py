"""Sums to results by an integer and a shift."""

from fractions import Fraction

import numpy as np
from systolith.gen.importer.requantize import scaling
from systolith.hw.formats import Int
from systolith.hw.spec.numbers import MULTIPLIER_BITS
from systolith.sim.model.requantization import Requantization

from .figure import Figure

__all__ = ["settle"]

#: Bits of the published integers, which lie from 2**14 to 2**15.
_BITS = 15


def settle() -> list[Figure]:
    """(multiplier, shift) of thresholds of input, weights and output, 8 bits each, and the error of
    results over all sums of 24 bits."""
    figures = []
    for weight, published in ((3, (16584, 22)), (1, (22112, 24))):
        step = [Fraction(threshold, 127) for threshold in (155, weight, 926)]
        ratio = step[0] * step[1] / step[2]
        multiplier, shift = scaling(ratio)
        cut = MULTIPLIER_BITS - _BITS
        short = round(Fraction(multiplier, 1 << cut)), shift - cut
        figures.append(Figure(f"thresholds 155, {weight}, 926: multiplier and shift",
                              "{}, {}".format(*published), "{}, {}".format(*short),
                              short == published))
        sums = np.arange(-(1 << 23), 1 << 23, 997)
        results = Requantization(np.array([short[0]]), np.array([short[1]]), low=-128,
                                 high=127).results(sums[:, None, None, None], Int(8)).ravel()
        exact = np.clip(sums * float(ratio), -128, 127)
        worst = float(np.abs(results - exact).max())
        figures.append(Figure(f"thresholds 155, {weight}, 926: largest error of a result, steps",
                              "<= 1", f"{worst:.3f}", worst <= 1))
    return figures

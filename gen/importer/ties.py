"""Where exact ties can occur: sums whose result lies exactly half-way between two integers.

Only there does the chip treat a result next to a tie, off because its multiplier is rounded, as the
tie; everywhere else it rounds to nearest as computed.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import lcm

import numpy as np
from systolith.hw.spec.numbers import TIE_BITS

from .target import Target

__all__ = ["EVEN", "NONE", "ODD", "has_ties", "ties_of", "ties_of_sum"]

#: Values of `ties` of layers and operands: what a result half-way between two integers goes to.
NONE, EVEN, ODD = 0, 1, 2
#: The largest denominator of results for which only ties are treated as ties: all other results are
#: more than 2**-TIE_BITS away from one.
_MOST = 1 << TIE_BITS - 1


def has_ties(step: Fraction, offset: Fraction, low: int, high: int) -> bool:
    """Whether step * S + offset lies half-way between two integers for an integer S from `low` to
    `high`; False where that is so for hardly any of them (see `_MOST`)."""
    if not step or lcm(step.denominator, offset.denominator) > _MOST:
        return False
    # S * a / b + c = 1/2 modulo 1 with c in units of 1/b: every b-th S, or none.
    b = step.denominator
    wanted = (Fraction(1, 2) - offset) * b
    if wanted.denominator != 1:
        return False
    first = int(wanted) * pow(step.numerator, -1, b) % b if b > 1 else 0
    return low + (first - low) % b <= high


def ties_of(channels: Iterable[tuple], slope: np.ndarray | None, target: Target,
            after: np.ndarray | None = None) -> list[int]:
    """The `ties` of a layer: one number for each of `channels`, (gain, offset, smallest sum,
    largest sum). `slope`: factors [channels] of results below zero, or None; `after`: what is added
    to them then, or None."""
    found = []
    for number, (gain, offset, low, high) in enumerate(channels):
        factors = {1} if slope is None else {1, slope[number]}
        moved = 0 if after is None else after[number]
        any_ties = any(has_ties(gain * factor / target.unit,
                                (offset * factor + moved) / target.unit, low, high)
                       for factor in map(Fraction, factors))
        found.append((ODD if target.odd else EVEN) if any_ties else NONE)
    return found


def ties_of_sum(factors: Iterable[Fraction | int], target: Target) -> int:
    """The `ties` of an operand; `factors` are those of the two integers that are added, or of their
    product, in steps of the target."""
    if lcm(*(Fraction(item).denominator for item in factors)) > _MOST:
        return NONE
    return ODD if target.odd else EVEN

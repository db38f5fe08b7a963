"""Where exact ties can occur: sums whose result lies exactly half-way between two integers.

Only there does the chip treat a result next to a tie, off because its multiplier is rounded, as the
tie; everywhere else it rounds to nearest as computed.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import lcm, prod

import numpy as np
from systolith.hw.spec.numbers import TIE_BITS

from .target import Target

__all__ = ["EVEN", "NONE", "ODD", "has_ties", "ties_of", "ties_of_sum"]

#: Values of `ties` of layers and operands: what a result half-way between two integers goes to.
NONE, EVEN, ODD = 0, 1, 2
#: The largest denominator of results for which only ties are treated as ties: all other results are
#: more than 2**-TIE_BITS away from one.
_MOST = 1 << TIE_BITS - 1
#: Of two maps of 8 bits, some more.
_PAIRS = 1 << 18


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


def ties_of_sum(factors: Sequence[Fraction | int], target: Target,
                ranges: Sequence[tuple[int, int]] | None = None) -> int:
    """The `ties` of an operand; `factors` are those of the two integers that are added, or of their
    product, in steps of the target. `ranges`: (smallest, largest) of both, where they are added and
    neither has been rounded; then also where the factors have no small common denominator, but more
    pairs of integers make ties than come next to one."""
    parts = [Fraction(item) for item in factors]
    simple = lcm(*(item.denominator for item in parts)) <= _MOST
    if not simple and not (ranges and _mostly_ties(parts, ranges)):
        return NONE
    return ODD if target.odd else EVEN


def _mostly_ties(factors, ranges):
    """Whether more sums of two integers times their factors are ties than are next to one, as the
    chip tells ties; False for more than `_PAIRS` pairs."""
    unit = lcm(*(item.denominator for item in factors))
    if unit % 2 or prod(high - low + 1 for low, high in ranges) > _PAIRS:
        return False
    one, other = (np.array([int(factor * unit) * n % unit for n in range(low, high + 1)],
                           np.int64 if unit >> 61 == 0 else object)
                  for factor, (low, high) in zip(factors, ranges, strict=True))
    away = abs(np.add.outer(one, other) % unit - unit // 2)
    ties = np.count_nonzero(away == 0)
    return ties > np.count_nonzero(away <= unit >> TIE_BITS + 1) - ties

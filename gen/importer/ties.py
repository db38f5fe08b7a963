"""Where exact ties can occur: sums whose result lies exactly half-way between two integers.

Only there the chip treats a result next to a tie, off by its rounded multiplier, as the tie;
everywhere else it rounds to nearest as computed.
"""

from fractions import Fraction
from math import lcm

from systolith.hw.spec.numbers import TIE_BITS

__all__ = ["EVEN", "NONE", "ODD", "has_ties", "ties_of", "ties_of_sum"]

#: Values of `ties` of layers and operands: what a result goes to that is half-way.
NONE, EVEN, ODD = 0, 1, 2
#: The largest denominator of results for which no other result is taken for a tie: they are more
#: than 2**-TIE_BITS away from one.
_MOST = 1 << TIE_BITS - 1


def has_ties(step, offset, low, high):
    """Whether step * S + offset is half-way between two integers for an integer S from low to high;
    no where it is so for hardly any of them. Numbers are Fractions, but for low and high."""
    if not step or lcm(step.denominator, offset.denominator) > _MOST:
        return False
    # S * a / b + c = 1/2 modulo 1 with c in units of 1/b: every b-th S, or none.
    b = step.denominator
    wanted = (Fraction(1, 2) - offset) * b
    if wanted.denominator != 1:
        return False
    first = int(wanted) * pow(step.numerator, -1, b) % b if b > 1 else 0
    return low + (first - low) % b <= high


def ties_of(channels, slope, target):
    """`ties` of a layer: int for each of `channels`, (gain, offset, smallest and largest sum)."""
    found = []
    for number, (gain, offset, low, high) in enumerate(channels):
        factors = {1} if slope is None else {1, slope[number]}
        any_ties = any(has_ties(gain * factor / target.unit, offset * factor / target.unit, low,
                                high) for factor in map(Fraction, factors))
        found.append((ODD if target.odd else EVEN) if any_ties else NONE)
    return found


def ties_of_sum(factors, target):
    """`ties` of an operand: `factors` are those of the two integers, in steps of the target."""
    if lcm(*(Fraction(item).denominator for item in factors)) > _MOST:
        return NONE
    return ODD if target.odd else EVEN

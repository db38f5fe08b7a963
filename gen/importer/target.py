"""What a quantizer makes."""

from dataclasses import dataclass, replace
from fractions import Fraction

from systolith.hw.formats import Format, Int
from systolith.sim.model import numerics

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """What a quantizer makes: real = scale * (decode(code) - zero_point), clipped to low...high
    (ordered integers); `strict`: the sign of 0 is -1; `sign`: a sign, as the integers -1 and 1;
    `odd`: ties go to the odd integer, before the zero point is added."""
    format: Format
    scale: float
    zero_point: int
    low: int
    high: int
    strict: bool = False
    sign: bool = False
    odd: bool = False

    @property
    def as_integers(self):
        """This sign as an integer of two values, for what only chips with integers can compute."""
        return replace(self, format=Int(2), low=-1, high=1, sign=True)

    @property
    def unit(self):
        """The real number of one step of an image."""
        return Fraction(self.scale) * Fraction(2) ** self.format.exponent

    def order(self, real):
        """The ordered integer that the quantizer gives for one number."""
        if self.sign:
            order = 1 if real > 0 or (real == 0 and not self.strict) else -1
        elif isinstance(self.format, Int):
            order = round(real / self.unit + self.odd) - self.odd + self.zero_point
        else:
            code = self.format.encode(float(real / Fraction(self.scale)))
            order = int(numerics.ordered(code, self.format))
        return min(max(order, self.low), self.high)

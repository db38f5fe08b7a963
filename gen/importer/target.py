"""What a quantizer makes of real numbers."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from systolith.hw.formats import Format, Int

from .nodes import Node
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["Target", "own_target"]


@dataclass(frozen=True)
class Target:
    """What a quantizer makes: codes with real = scale * (decode(code) - zero_point), clipped to the
    ordered integers `low` to `high`.

    `strict`: the sign of 0 is -1. `sign`: the result is the sign, as the integers 1 and -1. `odd`:
    ties go to the odd integer, before the zero point is added.
    """
    format: Format
    scale: float | Fraction
    zero_point: int
    low: int
    high: int
    strict: bool = False
    sign: bool = False
    odd: bool = False

    @property
    def as_integers(self) -> "Target":
        """This binary target with signs as the integers 1 and -1, for what only chips with integers
        can compute."""
        return replace(self, format=Int(2), low=-1, high=1, sign=True)

    @property
    def unit(self) -> Fraction:
        """The real number of one step of an image."""
        return Fraction(self.scale) * Fraction(2) ** self.format.exponent

    def order(self, real: Fraction) -> int:
        """The ordered integer that the quantizer gives for a real number."""
        if self.sign:
            order = 1 if real > 0 or (real == 0 and not self.strict) else -1
        elif self.format.uniform:
            order = round(real / self.unit + self.odd) - self.odd + self.zero_point
        else:
            code = self.format.encode(float(real / Fraction(self.scale)))
            order = int(self.format.ordered(code))
        return min(max(order, self.low), self.high)

    def within(self, value: Value, node: Node) -> "Target":
        """This target with the limits of `value`, which clips before it rounds. Raises UserError at
        `node` where a sign could have one value only."""
        if self.format.binary:
            if (value.low is not None and value.low >= 0) or (value.high is not None
                                                               and value.high < 0):
                node.fail("the sign of a clipped value is always the same: remove the Relu or Clip "
                          "before the binary quantizer")
            return self
        low = self.low if value.low is None else self.order(value.low)
        high = self.high if value.high is None else self.order(value.high)
        return replace(self, low=low, high=high)


def own_target(builder: "Builder", source: str) -> Target:
    """The Target whose codes the tensor `source` holds."""
    tensor = builder.tensors[source]
    return Target(tensor.format, tensor.scale, tensor.zero_point, *builder.limits[source])

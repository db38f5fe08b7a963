"""The notes of a network while it is read: where the importer rounds in the middle."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

from systolith.gen.kit.notes import LEAST, Note

from .reach import reach_of
from .values import Linear, Pair

__all__ = ["Digit", "Notes"]


@dataclass(frozen=True)
class Digit:
    """A tensor that is a digit of a sum's addend.

    Attributes
    ----------
    sum : str
        The name of the sum.
    addend : int
        The number of the addend.
    share : float
        How much of a step of the sum's quantizer an error by one step of the tensor makes: 0 where
        lower digits follow, which make up for it, and where nothing quantizes the sum, of which a
        note of its own says more.
    """
    sum: str
    addend: int
    share: float


class Notes:
    """The notes of a network while it is read."""

    def __init__(self):
        self.found = {}             # (kind, node, unit, detail) -> largest amount
        self.rounded = {}           # tensor -> (kind, node, how far its images are off)
        self.written = {}           # tensor -> Digit

    def add(self, kind, node, off=None, unit="step", detail=""):
        """Record a note, if the amount is large enough to matter; `node` is a name."""
        if off == 0 or (unit == "step" and off is not None and off < LEAST):
            return
        key = kind, node, unit, detail
        self.found[key] = off if off is None else max(float(off), self.found.get(key, 0.0))

    def tensor(self, name, kind, node, off):
        """Remember that the images of a tensor are off by up to `off`."""
        if off:
            self.rounded[name] = kind, node, off

    def digits(self, made, share, real):
        """Take notes of a sum that is put together of digits (see `operators.digits`), of which a
        unit is a `share` of its quantizer's step; where nothing quantizes it, that is `real`."""
        if real is None:
            self.add("digits", made.name, made.off * share)
        else:
            self.add("digits", made.name, made.off * real, "real")
        for number, (lowest, others) in enumerate(made.written):
            digit = Digit(made.name, number, float(share) if real is None else 0.0)
            self.written |= dict.fromkeys(lowest, digit)
            self.written |= dict.fromkeys(others, replace(digit, share=0.0))

    def quantized(self, builder, value, target):
        """Take notes of what becomes of tensors that are off in a value that `target` rounds; None:
        nothing does."""
        for (kind, node), off in self._of(builder, value).items():
            if target is None:
                self.add(kind, node, off, "real")
            else:
                self.add(kind, node, off / target.unit)

    def _of(self, builder, value):
        """{(kind, node): how far a value is off}, in its real numbers."""
        total: dict[tuple, Fraction] = {}
        if not self.rounded:
            return total
        if value.parts:
            for part in value.parts:
                for key, off in self._of(builder, part.value).items():
                    total[key] = max(off, total.get(key, 0))
        elif isinstance(value.linear, Pair):
            both = value.linear
            for item, other in ((both.first, both.second), (both.second, both.first)):
                known = other.linear is None or isinstance(other.linear, Linear)
                for key, off in self._of(builder, item).items():
                    if both.product and not (known and not other.parts):
                        continue
                    off *= max(reach_of(builder, other, None)) if both.product else 1
                    total[key] = total.get(key, 0) + off
        elif value.source in self.rounded and (
                value.linear is None or isinstance(value.linear, Linear)):
            *key, off = self.rounded[value.source]
            if value.linear is not None:
                images = abs(value.linear.images).reshape(len(value.linear.images), -1)
                off = off * int(images.sum(axis=1).max()) * prod(value.window)
            total[tuple(key)] = Fraction(off)
        gain = max(map(abs, value.gain))
        return {key: off * gain for key, off in total.items()}

    def kept(self, layers):
        """The notes of nodes that the layers come from, and of the whole network."""
        names = {"", *(name for layer in layers for name in layer.nodes)}
        return [Note(kind, node, off, unit, detail) for (kind, node, unit, detail), off in
                self.found.items() if node in names]

"""The notes of a network while it is read: where the chip's results differ from the model's by more
than at ties, because the importer rounds in between."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from systolith.gen.kit.notes import LEAST, Note
from systolith.sim.model.conv import Conv

from .reach import reach_of
from .target import Target
from .values import Linear, Pair, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["Digit", "Notes"]


@dataclass(frozen=True)
class Digit:
    """A tensor that is a digit of a sum's addend (see `operators.digits`).

    Attributes
    ----------
    sum : str
        The name of the sum.
    addend : int
        The number of the addend.
    share : float
        By how much of a step of the sum's quantizer the result is off where the tensor is off by
        one step: 0 where lower digits follow, which make up for it, and where nothing quantizes
        the sum, which a note of its own reports.
    """
    sum: str
    addend: int
    share: float


class Notes:
    """Collects the notes of a network.

    Attributes
    ----------
    found : {(kind, node, unit, detail): largest amount, or None}
    rounded : {tensor: (kind, node, how far its images are off)}
    written : {tensor: Digit}
    """

    def __init__(self):
        self.found: dict[tuple, Any] = {}
        self.rounded: dict[str, tuple] = {}
        self.written: dict[str, Digit] = {}

    def add(self, kind: str, node: str, off: Fraction | float | None = None, unit: str = "step",
            detail: str = "") -> None:
        """Record a note about the node of this name, if its amount `off` (None: no number) is large
        enough to matter. `unit`: of the amount, as of `gen.kit.notes`."""
        if off == 0 or (unit == "step" and off is not None and off < LEAST):
            return
        key = kind, node, unit, detail
        self.found[key] = off if off is None else max(float(off), self.found.get(key, 0.0))

    def tensor(self, name: str, kind: str, node: str, off: Fraction | int) -> None:
        """Remember that the images of a tensor are off by up to `off`, because of the node of this
        name."""
        if off:
            self.rounded[name] = kind, node, off

    def digits(self, made: Any, share: Fraction, real: Fraction | None) -> None:
        """Take notes of a sum that is assembled from digits (`made`: as of `operators.digits`). A
        unit of the digits is `share` of a step of the sum's quantizer, or, where nothing quantizes
        the sum, the real number `real` (else None)."""
        if real is None:
            self.add("digits", made.name, made.off * share)
        else:
            self.add("digits", made.name, made.off * real, "real")
        for number, (lowest, others) in enumerate(made.written):
            digit = Digit(made.name, number, float(share) if real is None else 0.0)
            self.written |= dict.fromkeys(lowest, digit)
            self.written |= dict.fromkeys(others, replace(digit, share=0.0))

    def quantized(self, builder: "Builder", value: Value, target: Target | None) -> None:
        """Take notes of a value that reads tensors that are off, and that `target` rounds (None: an
        output of the network)."""
        for (kind, node), off in self._of(builder, value).items():
            if target is None:
                self.add(kind, node, off, "real")
            else:
                self.add(kind, node, off / target.unit)

    def _of(self, builder, value):
        """{(kind, node): how far a value is off}, in real numbers."""
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
                images = abs(value.linear.weights.images).reshape(len(value.linear.weights), -1)
                off = off * int(images.sum(axis=1).max()) * prod(value.window)
            total[tuple(key)] = Fraction(off)
        gain = max(map(abs, value.gain))
        return {key: off * gain for key, off in total.items()}

    def kept(self, layers: Iterable[Conv]) -> list[Note]:
        """The notes about the whole network and about nodes that the layers come from."""
        names = {"", *(name for layer in layers for name in layer.nodes)}
        return [Note(kind, node, off, unit, detail) for (kind, node, unit, detail), off in
                self.found.items() if node in names]

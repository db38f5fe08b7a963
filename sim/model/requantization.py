"""From sums to results of few bits: requantization, and the operand that results are combined
with."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from systolith.hw.formats import Format

from . import numerics

__all__ = ["Below", "Limits", "Operand", "Requantization"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the integers end that a number is rounded to.

    Attributes
    ----------
    zero_point : int
        Added after rounding; 0 where the format is one of floats.
    low, high : int
        Limits of the result as an ordered integer (see `Format.ordered`).
    """
    zero_point: int = 0
    low: int = 0
    high: int = 0


class Below(NamedTuple):
    """Requantization of sums below zero, bias included: int64 arrays [O]. Multipliers may be
    negative; addends have their sign."""
    multiplier: np.ndarray
    shift: np.ndarray
    addend: np.ndarray

    def of_channels(self, channels: np.ndarray | slice) -> "Below":
        """That of some of the channels alone."""
        return Below(*(item[channels] for item in self))


@dataclass(frozen=True, eq=False)
class Requantization(Limits):
    """How each channel's sums become ordered integers; see `numerics.first_results`.

    Attributes
    ----------
    multiplier, shift, addend : int64 arrays [O]
        A sum s, bias included, becomes (s * multiplier + addend) / 2**shift, rounded. The addend
        stands for a fraction of the bias, addend / multiplier; from 0 to the multiplier. Shift and
        addend None: 0.
    ties : int64 array [O]
        What results half-way between two integers go to, before the zero point is added: 1 the even
        one, 2 the odd one, and what is next to them, too, see `numerics.first_results`; 0 the
        nearest, for channels without such results. None: 1.
    below : Below or None
        The same for sums below zero. None: as for others.
    """
    multiplier: np.ndarray
    shift: np.ndarray = None  # type: ignore[assignment]
    addend: np.ndarray = None  # type: ignore[assignment]
    ties: np.ndarray = None  # type: ignore[assignment]
    below: Below | None = None

    def __post_init__(self):
        count = len(self.multiplier)
        for name, default in (("multiplier", 1), ("shift", 0), ("addend", 0), ("ties", 1)):
            value = getattr(self, name)
            value = np.full(count, default) if value is None else value
            object.__setattr__(self, name, numerics.constant(value))
        if self.below is not None:
            object.__setattr__(self, "below", Below(*map(numerics.constant, self.below)))

    @classmethod
    def plain(cls, count: int, low: int = 0, high: int = 0) -> "Requantization":
        """That of `count` channels whose results are the sums, from `low` to `high`."""
        return cls(np.ones(count, np.int64), low=low, high=high)

    @property
    def monotone(self) -> bool:
        """Whether a larger sum never gives a smaller result."""
        return self.below is None or bool(self.below.multiplier.min() >= 0)

    def results(self, sums: np.ndarray, format: Format) -> np.ndarray:
        """Ordered integers of `format` from sums [N, O, ...], bias included."""
        return numerics.first_results(sums, self, format)

    def of_channels(self, channels: np.ndarray | slice) -> "Requantization":
        """That of some of the channels alone."""
        return replace(self, multiplier=self.multiplier[channels], shift=self.shift[channels],
                       addend=self.addend[channels], ties=self.ties[channels],
                       below=self.below and self.below.of_channels(channels))

    def held(self, bias: np.ndarray, bits: int) -> "tuple[np.ndarray, Requantization]":
        """(bias [O], requantization) nearest to these of a chip whose biases have `bits` fraction
        bits; see `numerics.held_bias`."""
        if not self.addend.any():
            return bias, self
        bias, addend, below = numerics.held_bias(bias, self.multiplier, self.addend, self.below,
                                                 bits)
        return bias, replace(self, addend=addend, below=None if below is None else Below(*below))


@dataclass(frozen=True)
class Operand(Limits):
    """The operand of a layer: a map with which its results are combined element by element.

    With c the layer's result, its zero point left out, and r the operand's, both as images
    (floats) or integers, t = c * gain + r * operand_gain, or c * r * gain for a product; the
    output is t / 2**shift, rounded to the format, plus the zero point, within the limits.

    Attributes
    ----------
    tensor : str
        As large as the output, or one pixel that goes with all of them.
    product : bool
    gain, operand_gain : int
        Signed, magnitudes of 26 bits.
    operand_zero : int
        What stands for 0 in the operand.
    shift : int
    ties : int
        As of `Requantization`.
    """
    tensor: str
    product: bool = False
    gain: int = 1
    operand_gain: int = 1
    operand_zero: int = 0
    shift: int = 0
    ties: int = 1

    def results(self, first: np.ndarray, codes: np.ndarray, format: Format,
                own: Format | None = None) -> np.ndarray:
        """Ordered integers of `format` from first results [N, C, H, W] and the operand's codes of
        the format `own` (None: of `format`, too); see `numerics.combine`."""
        return numerics.combine(first, codes, self, format, own)

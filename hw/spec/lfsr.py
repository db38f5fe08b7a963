"""The random bits of stochastic roundings; `hw/element/float_add.py` has the circuit."""

from typing import TypeVar

import numpy as np

__all__ = ["RANDOM_BITS", "Lfsr"]

T = TypeVar("T", int, np.ndarray)

#: Random bits of a stochastic rounding.
RANDOM_BITS = 16


class Lfsr:
    """A Galois register of 32 bits. It takes RANDOM_BITS steps for each random number, which is the
    low RANDOM_BITS bits of its state."""

    WIDTH = 32
    #: x^32 + x^22 + x^2 + x + 1: all states but 0 follow each other.
    TAPS = 0x80200003

    @classmethod
    def after(cls, state: T) -> T:
        """The state one random number later, of an integer or an integer array."""
        for _ in range(RANDOM_BITS):
            state = (state >> 1) ^ (state & 1) * cls.TAPS
        return state

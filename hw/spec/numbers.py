"""Widths and sizes that hardware, simulators and compiler share and that no chip changes."""

__all__ = ["FIRST_BELOW", "FIRST_BITS", "GAIN_BITS", "MULTIPLIER_BITS", "OFFSET_FRACTION",
           "PAGE_BYTES", "SHIFT_BITS", "SLOT_BITS", "TIE_BITS", "WINDOW_BYTES"]

#: Width of the requantizer's unsigned multiplier, where a chip has no narrower one. Results differ
#: from ONNX Runtime's where the exact ratio stands within about 2**-bits of a tie; in deep networks
#: each difference makes others, so that what suffices for one layer (18 bits) does not suffice for
#: wide layers after many others.
MULTIPLIER_BITS = 26
#: Fraction bits of an integer result that decide whether it is a tie, where there are any. A
#: multiplier is off by less than 2**-26 of itself, so that a result of 8 bits with any zero point,
#: less than 2**8 steps, is off by less than 2**-18: exact ties end in 0.0111... or 0.1000... with
#: one bit more than these.
TIE_BITS = 17
#: Width of the requantizer's right shift (0 to 63).
SHIFT_BITS = 6
#: Width of integer results that will be combined with an operand. They are rounded so much more
#: finely than the final result that the second rounding hardly ever shows.
FIRST_BITS = 20
#: Where multipliers are narrower, results that will be combined have so many bits fewer than those:
#: a factor for them is off by as much as they are.
FIRST_BELOW = 4
#: Width of the signed factors with which POST combines a result and an operand: one bit more than
#: that of multipliers.
GAIN_BITS = 27
#: Fraction bits of an offset, which is added to a result after its slopes: at most TIE_BITS + 1.
OFFSET_FRACTION = 16
#: Bytes of a word that windows of an image's rows fill at most, on chips whose words have more:
#: those of a 3 x 3 kernel over three channels, in whole beats. A longer register would wait for
#: bytes that no tap reads.
WINDOW_BYTES = 32
#: Width of the number of a place for a group of results in an activation word.
SLOT_BITS = 9
#: AXI bursts must not cross a multiple of this many bytes; the window starts at one.
PAGE_BYTES = 4096


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not below the value."""
    return -(-value // multiple) * multiple


def item_bytes(bits: int, beat_bytes: int) -> int:
    """Bytes that `bits` take in external memory: a power of two within a beat, or whole beats."""
    size = round_up(bits, 8) // 8
    return round_up(size, beat_bytes) if size > beat_bytes else 1 << (size - 1).bit_length()

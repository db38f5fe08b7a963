"""The fields of a number: sign, significand, and how far the significand is shifted to the left.

Short floats, powers of two and integers are one thing to a multiplier: image = (-1)**sign *
(significand << shift), where an integer has no shift, and a power of two a significand of one bit.
"""

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Mux, Value, signed
from amaranth.lib import data

__all__ = ["Factor"]


class Factor:
    """The decoded form in which the numbers of a format travel through the array.

    Parameters
    ----------
    fmt : Format
        Whole numbers, or a float with a sign.
    whole : bool
        The significand is the code without its sign, for products that are looked up as a whole.
    twos_complement : bool
        The significand of a signed Int is its code; else it is a magnitude beside a sign.
    triple : bool
        The significand's triple travels along.

    Attributes
    ----------
    layout : StructLayout
        significand, shift (in units of `unit` places), sign, triple; fields may have no bits.
    magnitudes : list of int
        The magnitude (unshifted) that each significand stands for.
    unit, largest_shift : int
        Places that a step of `shift` moves, and the largest shift in such steps.
    """

    def __init__(self, fmt: Any, *, whole: bool = False, twos_complement: bool = False,
                 triple: bool = False) -> None:
        self.fmt = fmt
        self.whole = whole
        self.unit, self.largest_shift = 1, 0
        self.twos_complement = twos_complement and fmt.uniform and fmt.signed
        sign = int(fmt.signed and not self.twos_complement)
        if fmt.uniform:
            bits = signed(fmt.width) if self.twos_complement else fmt.width
            self.magnitudes = range(max(map(abs, fmt.image_range)) + 1)
        elif whole:
            bits = fmt.magnitude_bits
            codes = np.arange(1 << bits)
            finite = np.isfinite(fmt.decode(codes))
            images = fmt.image(np.where(finite, codes, fmt.zero_code))
            self.magnitudes = images.tolist()
        else:
            bits = fmt.man + 1
            self.magnitudes = range(1 << bits)
            self.unit = fmt.radix.bit_length() - 1
            self.largest_shift = fmt.largest_shift // self.unit
        self.layout = data.StructLayout({
            "significand": bits, "shift": self.largest_shift.bit_length(), "sign": sign,
            "triple": (3 * max(self.magnitudes)).bit_length() if triple else 0})

    def decode(self, code: Value) -> Value:
        """The fields of a code, as layout.size bits. NaN and infinity are taken for numbers."""
        if self.fmt.uniform:
            significand, shift = code, Const(0, 0)
            if self.layout["sign"].width:
                significand = Mux(code[-1], -code, code)[:self.fmt.width]
        elif self.whole:
            significand, shift = code[:-1], Const(0, 0)
        else:
            significand, shift = self._decode_float(code)
        # an addition: Yosys takes a whole DSP block for a product by three, without its registers
        triple = significand + (significand << 1)
        return Cat(significand, shift[:self.layout["shift"].width],
                   code[-1:][:self.layout["sign"].width], triple[:self.layout["triple"].width])

    def _decode_float(self, code):
        fmt = self.fmt
        fraction, field = code[:fmt.man], code[fmt.man:fmt.man + fmt.exp]
        if fmt.hidden_at_zero:
            hidden, shift = code[:fmt.man + fmt.exp].any(), field
        else:
            hidden, shift = field.any(), Mux(field.any(), field - 1, 0)
        if fmt.lowest == "flush":
            fraction = fraction & hidden.replicate(fmt.man)
        return Cat(fraction, hidden), shift

"""Sums and roundings to short floats, correct for every operand: the exact result, rounded once.

Formats are `Float`s of radix 2 with a mantissa and with lowest = "subnormal" or "dlfloat". Results
beyond the largest number saturate, a result of zero is +0. Codes of NaN and infinity must not come
in: they are taken for the numbers that their fields would be elsewhere.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.lfsr import RANDOM_BITS, Lfsr

__all__ = ["ROUNDINGS", "FloatAdder", "ToFloat", "lfsr_after"]

#: How results are rounded, as in `Format.encode`. "stochastic" adds `RANDOM_BITS` random bits
#: below the last place of the magnitude and cuts, so that what lies below them is cut first. In
#: the gap between 0 and the smallest number of "dlfloat", where numbers are further apart than
#: the last place, the result of that goes to the nearest.
ROUNDINGS = ("even", "away", "zero", "stochastic")


def lfsr_after(state: Value) -> Value:
    """`Lfsr.after` of a Value. It is linear: its columns are what single bits give."""
    columns = [Lfsr.after(1 << place) for place in range(Lfsr.WIDTH)]
    return Cat(Cat(bit for bit, column in zip(state, columns, strict=True)
                   if column >> row & 1).xor() for row in range(Lfsr.WIDTH))


def _check(format, rounding):
    if not (format.signed and format.man and format.radix == 2
            and format.lowest in ("subnormal", "dlfloat")):
        raise ValueError("sums must be signed floats of radix 2 with a mantissa and with lowest "
                         f"\"subnormal\" or \"dlfloat\", not {format!r}")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")


def _random_bits(rounding):
    return RANDOM_BITS if rounding == "stochastic" else 0


def _rounded(m, format, rounding, negative, magnitude, scale, fraction, random):
    """The code of magnitude * 2**(scale - fraction), in units of the format's image.

    `scale` is a Value, `fraction` a constant; `random` is read by stochastic rounding only.
    """
    man, low_half = format.man, 1 << format.man
    # So wide that a significand that stands at the top has no place below the image's lowest.
    bits = max(len(magnitude), fraction + man + 1)
    limit = Signal(range((1 << len(scale)) + bits), name="limit")
    m.d.comb += limit.eq(scale + (bits - 1 - fraction - man))

    # To the left until the leading one is at the top or the lowest binade is reached.
    normal, step = Cat(magnitude, Const(0, bits - len(magnitude))), limit
    for place in reversed(range((bits - 1).bit_length())):
        distance = 1 << place
        move = ~normal[bits - distance:].any() & (step >= distance)
        normal, previous = Signal(bits, name=f"normal_{place}"), normal
        step, left = Signal.like(limit, name=f"step_{place}"), step
        m.d.comb += [normal.eq(Mux(move, previous << distance, previous)),
                     step.eq(Mux(move, left - distance, left))]

    rest, significand = normal[:bits - man - 1], normal[bits - man - 1:]
    rest = Cat(Const(0, max(0, 2 - len(rest), _random_bits(rounding) - len(rest))), rest)
    if rounding == "stochastic":
        up = (rest[len(rest) - RANDOM_BITS:] + random)[RANDOM_BITS]
    elif rounding == "even":
        up = rest[-1] & (rest[:-1].any() | significand[0])
    else:
        up = rest[-1] if rounding == "away" else Const(0, 1)

    # The hidden bit, and a carry out of rounding, add one to the exponent field.
    packed = Signal(len(step) + man + 1, name="packed")
    m.d.comb += packed.eq((step << man) + significand + up)
    code = packed
    if format.lowest == "dlfloat":
        # The hidden bit does not count, and low_half itself is the code of zero.
        below = packed <= (low_half if rounding == "zero" else low_half // 2)
        code = Mux(below, 0, Mux(packed <= low_half, 1, packed - low_half))
    clipped = Signal(format.width - 1, name="clipped")
    with m.If(magnitude.any()):
        m.d.comb += clipped.eq(Mux(code > format.max_code, format.max_code, code))
    return Cat(clipped, negative & clipped.any())


class ToFloat(wiring.Component):
    """Exact fixed-point numbers, such as products and their sums, to floats; combinational.

    Parameters
    ----------
    format : Float
        Raises ValueError for formats that this file does not know.
    bits, exponent : int
        The number is image * 2**exponent with an image of `bits` bits, signed.
    rounding : str
        One of ROUNDINGS.

    Members
    -------
    image : In(signed(bits))
    random : In(RANDOM_BITS)
        With stochastic rounding only.
    o : Out(format.width)
    """

    def __init__(self, format: Any, bits: int, exponent: int, rounding: str = "even") -> None:
        _check(format, rounding)
        self.format = format
        self.exponent = exponent
        self.rounding = rounding
        super().__init__({
            "image": In(signed(bits)), "o": Out(format.width),
            **({"random": In(RANDOM_BITS)} if rounding == "stochastic" else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        finer = self.format.exponent - self.exponent
        magnitude = Signal(len(self.image))
        m.d.comb += magnitude.eq(abs(self.image))
        m.d.comb += self.o.eq(_rounded(
            m, self.format, self.rounding, self.image[-1], magnitude,
            Const(max(-finer, 0)), max(finer, 0), getattr(self, "random", None)))
        return m


class FloatAdder(wiring.Component):
    """o = a + b, correctly rounded; combinational.

    Parameters
    ----------
    format : Float
        Raises ValueError for formats that this file does not know.
    rounding : str
        One of ROUNDINGS.

    Members
    -------
    a, b : In(format.width)
    random : In(RANDOM_BITS)
        With stochastic rounding only.
    o : Out(format.width)
    """

    def __init__(self, format: Any, rounding: str = "even") -> None:
        _check(format, rounding)
        self.format = format
        self.rounding = rounding
        super().__init__({
            "a": In(format.width), "b": In(format.width), "o": Out(format.width),
            **({"random": In(RANDOM_BITS)} if rounding == "stochastic" else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        man = self.format.man
        a_is_larger = self.a[:-1] >= self.b[:-1]
        large = Mux(a_is_larger, self.a, self.b)
        large_significand, large_shift = self._fields(large)
        significand, shift = self._fields(Mux(a_is_larger, self.b, self.a))

        # Places below the larger operand's last one: one, for subtracting may move the sum one
        # to the left, besides what rounding looks at; and a last bit for all that lies further
        # down. Where the sum moves further, the operands are so near that no place is lost.
        guard = 1 + max(_random_bits(self.rounding), 1)
        reach = man + 1 + guard
        distance = Signal(range(reach + 1))
        difference = large_shift - shift
        m.d.comb += distance.eq(Mux(difference > reach, reach, difference))
        moved = Signal(2 * reach)
        m.d.comb += moved.eq(Cat(Const(0, reach + guard), significand) >> distance)
        small = Cat(moved[:reach].any(), moved[reach:])
        large_places = Cat(Const(0, guard + 1), large_significand)
        total = Signal(reach + 2)
        m.d.comb += total.eq(Mux(self.a[-1] ^ self.b[-1], large_places - small,
                                 large_places + small))
        m.d.comb += self.o.eq(_rounded(m, self.format, self.rounding, large[-1], total,
                                       large_shift, guard + 1, getattr(self, "random", None)))
        return m

    def _fields(self, code):
        """(significand, the places that it stands left) of a code."""
        man = self.format.man
        fraction, field = code[:man], code[man:-1]
        if self.format.hidden_at_zero:
            return Cat(fraction, code[:-1].any()), field
        normal = field.any()
        return Cat(fraction, normal), (field - normal)[:len(field)]

"""Rounding of a scaled integer to the activation format, as every result is rounded."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike, signed
from systolith.hw.formats import Format
from systolith.hw.spec.numbers import TIE_BITS

__all__ = ["clip", "nearest", "register"]


def register(m: Module, value: Value, name: str) -> Signal:
    """`value` one cycle later."""
    signal = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


def nearest(m: Module, number: Value, shift: Value, form: Format, *, limit: int,
            ties: ValueLike = 0, exact: ValueLike = 0, kept: int = 1) -> tuple[Signal, Signal]:
    """The number of `form` that is nearest to number / 2**shift, as the numerics page says.

    Parameters
    ----------
    number : Value, signed
    shift : Value, unsigned
    form : Int or Float
    limit : int
        Integers stop at -2**limit and 2**limit - 1, floats at the format's largest; at least
        `form.width`.
    ties : Value
        What an integer half-way goes to: 0 the nearest, 1 the even neighbour, 2 the odd one.
    exact : Value
        1: the second result will be used; the shift is 0 then.
    kept : int
        Bits of the second result.

    Returns, `timing.rounding_latency(form)` cycles later: the signed number (floats: as an ordered
    integer), and `number` itself, its `kept` low bits.
    """
    if form.floating:
        return _nearest_float(m, number, shift, form, exact, limit, kept)
    shifted = Cat(Const(0, TIE_BITS + 1), number).as_signed() >> shift
    fraction, whole = shifted[:TIE_BITS + 1], shifted[TIE_BITS + 1:]
    rest, half = fraction[:-1], fraction[-1]
    tie = Mux(half, ~rest.any(), rest.all())
    up = Mux(tie & ties.any(), whole[0] ^ ties[1], half)
    negative = whole[-1]
    # With one bit more than `limit` the sign stays right when it is rounded up.
    rounded = register(m, whole[:limit + 1].as_signed() + Cat(up, Const(0, 1)).as_signed(),
                       "rounded")
    beyond = register(m, (whole[limit:] ^ negative.replicate(len(whole) - limit)).any(), "beyond")
    negative = register(m, negative, "negative")
    raw = register(m, whole[:kept], "whole").as_signed()
    ends = (Const(end, signed(limit + 1)) for end in (-1 << limit, (1 << limit) - 1))
    return Mux(beyond, Mux(negative, *ends), rounded), raw


def _nearest_float(m, number, shift, form, exact, limit, kept):
    negative = register(m, number < 0, "negative_a")
    product = register(m, Mux(number < 0, -number, number)[:len(number)], "magnitude")
    shift, exact = register(m, shift, "shift_a"), register(m, Const(0, 1) | exact, "exact_a")

    # How far the result's last bit stands above the product's.
    above = Signal(range(len(product)))
    for position in range(form.man + 1, len(product)):
        with m.If(product[position]):
            m.d.comb += above.eq(position - form.man)
    exponent = Mux(exact | (above <= shift), 0, (above - shift)[:len(above)])
    amount = register(m, shift + exponent, "amount")
    exponent = register(m, exponent, "exponent_b")
    product, negative = register(m, product, "magnitude_b"), register(m, negative, "negative_b")

    shifted = Cat(Const(0, 1), product) >> amount
    lost = Cat(((amount > position + 1) & product[position])
               for position in range(min(len(product), (1 << len(amount)) - 1))).any()
    whole, half = shifted[1:], shifted[0]
    total = whole + (half & (lost | whole[0]))
    kept = max(kept, limit)
    rounded = register(m, total[:kept], "rounded")
    too_large = register(m, total[kept:].any(), "too_large")
    negative, exponent = register(m, negative, "negative_c"), register(m, exponent, "exponent_c")

    small = Signal(limit)           # enough to see that it exceeds every result
    m.d.comb += small.eq(Mux(too_large | rounded[limit:].any(), (1 << limit) - 1,
                             rounded[:limit]))
    code = small + (exponent << form.man)
    small = Mux(code > form.max_code, form.max_code, code)[:form.width - 1]
    return Mux(negative, -small, small), Mux(negative, -rounded, rounded)[:kept].as_signed()


def clip(value: Value, low: Value, high: Value) -> Value:
    """`value`, but at least `low` and at most `high`."""
    return Mux(value < low, low, Mux(value > high, high, value))

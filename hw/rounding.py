"""Rounding of a scaled integer to the activation format, as every result is rounded."""

from amaranth.hdl import Cat, Mux, Signal

from .formats import Float

__all__ = ["CYCLES", "clip", "nearest", "register"]

#: Cycles that `nearest` takes.
CYCLES = 2


def register(m, value, name):
    """`value` one cycle later."""
    signal = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


def nearest(m, product, negative, shift, form, *, limit, kept, exact=0):
    """The number of `form` that is nearest to product / 2**shift, ties to even.

    Parameters
    ----------
    product, shift : Value, unsigned
    negative : Value
        The sign that goes along.
    form : Int or Float
    limit : int
        Magnitudes of integers stop somewhere above 2**(limit - 1), those of floats at the format's
        largest; at least `form.width` + 1.
    kept : int
        Low bits of the rounded magnitude that the second result has.
    exact : Value
        1: the second result will be used, which is then not rounded to a float's precision.

    Returns, `CYCLES` cycles later: the signed number (floats: as an ordered integer), and the
    magnitude rounded to an integer with its sign, as (number, magnitude, sign).
    """
    # How far the result's last bit stands above the product's.
    if isinstance(form, Float):
        above = Signal(range(len(product)))
        for position in range(form.man + 1, len(product)):
            with m.If(product[position]):
                m.d.comb += above.eq(position - form.man)
        exponent = Mux(exact | (above <= shift), 0, (above - shift)[:len(above)])
        amount = register(m, shift + exponent, "amount")
        exponent = register(m, exponent, "exponent_5")
    else:
        amount, exponent = register(m, shift, "amount"), None
    product, negative = register(m, product, "product_5"), register(m, negative, "negative_5")

    shifted = Cat(0, product) >> amount
    lost = Cat(((amount > position + 1) & product[position])
               for position in range(min(len(product), (1 << len(amount)) - 1))).any()
    whole, half = shifted[1:], shifted[0]
    total = whole + (half & (lost | whole[0]))
    rounded = register(m, total[:kept], "rounded")
    too_large = register(m, total[kept:].any(), "too_large")
    negative = register(m, negative, "negative_6")

    small = Signal(limit)           # enough to see that it exceeds every result
    m.d.comb += small.eq(Mux(too_large | rounded[limit:].any(), (1 << limit) - 1,
                             rounded[:limit]))
    if isinstance(form, Float):
        exponent = register(m, exponent, "exponent_6")
        code = small + (exponent << form.man)
        small = Mux(code > form.max_code, form.max_code, code)[:form.width - 1]
    return Mux(negative, -small, small), rounded, negative


def clip(value, low, high):
    """`value`, but at least `low` and at most `high`."""
    return Mux(value < low, low, Mux(value > high, high, value))

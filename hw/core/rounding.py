"""Rounding of a scaled integer to the activation format, as every result is rounded."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from systolith.hw.formats import Format
from systolith.hw.spec.numbers import OFFSET_FRACTION, TIE_BITS
from systolith.hw.spec.timing import rounding_levels

from .products import less, register

__all__ = ["nearest_float", "nearest_integer"]


def nearest_integer(m: Module, number: Value, shift: Value, *, limit: int, ties: Value,
                    zero_point: Value, low: Value, high: Value, luts: bool = False,
                    few: bool = False, offset: Value | None = None) -> Signal:
    """The integer nearest to number / 2**shift, as the numerics page says, within limits, plus the
    zero point; `timing.rounding_latency` cycles later, with an offset one more.

    Parameters
    ----------
    number : Value, signed
    shift : Value, unsigned
    limit : int
        What is beyond -2**limit to 2**limit - 1 is beyond the limits.
    ties : Value
        What an integer half-way goes to: 0 the nearest, 1 the even neighbour, 2 the odd one.
    zero_point : Value
        Added to the integer, signed; read in the last cycle.
    low, high : Value
        The least and the largest integer before the zero point is added, signed, low <= high; read
        in the last cycle but one.
    luts : bool
        Whether the shift is written as choices of four bits, which LUTs of six inputs take.
    few : bool
        Whether there are registers after the shift, after the offset and at the end alone; limits
        are then read in the last cycle, too, and the offset in the second one.
    offset : Value or None
        Added before rounding: signed, in 2**-OFFSET_FRACTION, less than 2**limit; read in the
        fourth cycle. None: none is.
    """
    keep = _through if few else register
    whole, up, beyond, negative = _nearest_integer(
        m, number, shift, limit, ties, offset, luts, keep)
    # What is rounded up is at most the least one where it is less before, and at least the largest
    # one where it is not less than that.
    under = keep(m, Mux(beyond, negative, less(whole, low)), "under")
    over = keep(m, Mux(beyond, ~negative, ~less(whole, high)), "over")
    whole, low, high = (keep(m, item, f"{name}_clip") for name, item in
                        (("whole", whole), ("low", low), ("high", high)))
    up = keep(m, up, "up_clip") & ~under & ~over
    # The choice shares its LUTs with the addition, as the second operand; `up` is its carry.
    chosen = Mux(under, low, Mux(over, high, whole))
    return register(m, (Cat(Const(1, 1), zero_point).as_signed()
                        + Cat(up, chosen).as_signed())[1:len(low) + 1].as_signed(), "value")


def _through(m, value, name):
    """`value` itself, by that name."""
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def _nearest_integer(m, number, shift, limit, ties, offset, luts, keep):
    """number / 2**shift + offset rounded down to limit + 1 bits, whether 1 must be added to it,
    whether it is beyond these bits, and whether below 0; four cycles later, with an offset
    five."""
    fraction = TIE_BITS + 1
    inner = limit if offset is None else limit + 1      # what an offset brings back is kept
    now = {"shifted": Cat(Const(0, fraction), number), "shift": shift, "beyond": Const(0),
           "negative": number[-1], "ties": ties}

    def shifted(place, below, dropped=0, **found):
        """What comes after a shift by the number's bits from `place` on, of all bits but the lowest
        `dropped`; so many bits `below` the integer are wanted of it."""
        bits, lost = _shift_by_four(now["shifted"][dropped:], now["shift"][place:], 1 << place,
                                    inner + 1 + below, now["negative"], luts)
        found = {**now, **found, "shifted": bits, "shift": now["shift"][:place],
                 "beyond": now["beyond"] | lost}
        after = keep if place else register
        return {name: after(m, value, f"{name}_{place}") for name, value in found.items()
                if len(value)}

    # The largest step first, so that what the smaller ones need not see is dropped at once.
    now = shifted(4, fraction + 15)
    if offset is None:
        now = shifted(2, 5, TIE_BITS - 1, **_alike(now["shifted"], now["shift"][2:]))
        tie = _tie(now["shifted"], now["shift"], now.pop("low"), now.pop("alike"))
        now = shifted(0, 1, 1, tie=tie)
        tie, half, whole = now["tie"], now["shifted"][0], now["shifted"][1:]
        beyond, negative, ties = (now[name] for name in ("beyond", "negative", "ties"))
    else:
        now = shifted(2, fraction + 3)
        now = shifted(0, fraction)
        bits, beyond, negative, ties = (
            now[name] for name in ("shifted", "beyond", "negative", "ties"))
        beyond |= bits[-1] ^ negative
        summed = bits.as_signed() + Cat(Const(0, fraction - OFFSET_FRACTION), offset).as_signed()
        above = summed[fraction + limit:-1]
        negative = Mux(beyond, negative, summed[-1])
        beyond |= (above ^ summed[-1].replicate(len(above))).any()
        bits, beyond, negative, ties = (
            register(m, value, f"{name}_offset") for name, value in
            (("shifted", summed[:fraction + limit + 1]), ("beyond", beyond),
             ("negative", negative), ("ties", ties)))
        rest, half, whole = bits[:fraction - 1], bits[fraction - 1], bits[fraction:]
        tie = rest == (~half).replicate(len(rest))
    up = Mux(tie & ties.any(), whole[0] ^ ties[1], half)
    return (keep(m, whole.as_signed(), "whole"), keep(m, up, "up"),
            keep(m, beyond | (whole[limit] ^ negative), "beyond"), keep(m, negative, "negative"))


#: A tie's fraction is 0.1000... or 0.0111...: TIE_BITS bits below a half are alike, and other than
#: it. Before the last two shifts, by 0 to 3 times four and by 0 to 3, they are so many whole groups
#: of four neighbours, and parts of one below and of one above these.
_GROUPS = (TIE_BITS - 1) // 4 - 1
assert (TIE_BITS - 1) % 4 == 0


def _alike(bits, fours):
    """What is known of a number that is to be shifted by that many fours: whether the bits of the
    whole groups are alike, and the bits of the group below them."""
    groups = [_same(bits[4 * n:4 * n + 5]) for n in range(1, _GROUPS + 4)]
    inner = groups[3:_GROUPS]                   # in any case; the others where they are in
    below = [group | (fours > n) for n, group in enumerate(groups[:3])]
    above = [group | (fours < n) for n, group in enumerate(groups[_GROUPS:], 1)]
    return {"alike": Cat(inner, below, above).all(),
            "low": _choose(fours, [bits[4 * n:4 * n + 5] for n in range(4)])}


def _tie(bits, shift, low, alike):
    """Whether a number is a tie, of which all but the last two bits of the shift is done: of its
    bits from the group above on, `alike` and `low` as of `_alike`."""
    # from the highest bit of the group below on, and from the lowest one of the group above
    other = [bit ^ low[4] for bit in low[:4]]
    end = [bit ^ bits[0] for bit in bits[1:5]]
    below = ~(other[3] | (other[2] & ~shift.all()) | (other[1] & ~shift[1])
              | (other[0] & ~shift.any()))
    upper = Mux(shift[0], ~end[2] & end[3], end[2])
    above = Mux(shift[1], ~end[0] & ~end[1] & upper, Mux(shift[0], ~end[0] & end[1], end[0]))
    return alike & below & above


def _same(bits):
    """Whether all bits are the same."""
    return bits.all() | ~bits.any()


def _choose(number, values):
    """One of four values, by a number of two bits, so written that it is one LUT a bit."""
    zero, one, two, three = values
    return Mux(number[0] ^ number[1], Mux(number[0], one, two), Mux(number[0], three, zero))


def _shift_by_four(bits, times, step, kept, negative, luts):
    """`kept` bits of bits >> times * step, of two bits of `times`, and whether what is above them
    is not all sign. `luts`: as choices of four; neighbours then have nothing in common."""
    if not luts:
        bits, lost = _shift_right(bits, times[1], 2 * step, kept + step, negative)
        bits, also = _shift_right(bits, times[0], step, kept, negative)
        return bits, lost | also
    wide = Cat(bits, negative.replicate(max(0, kept + 3 * step - len(bits))))
    # what is lost by the number of steps that are not made
    above = bits[kept:] ^ negative.replicate(max(0, len(bits) - kept))
    lost = [above[n * step:(n + 1) * step].any() for n in range(3)]
    stays = [~times.any(), ~times[1], ~times.all()]
    return (_choose(times, [wide[n * step:n * step + kept] for n in range(4)]),
            above[3 * step:].any() | Cat(one & stay for one, stay in
                                         zip(lost, stays, strict=True)).any())


def _shift_right(bits, do, step, kept, negative):
    """`kept` bits of bits >> (step or 0), and whether what is above them is not all sign."""
    size = max(len(bits), kept)
    wide = Cat(bits, negative.replicate(size + step - len(bits)))
    dropped = bits[kept:] ^ negative.replicate(max(0, len(bits) - kept))
    always, otherwise = dropped[step:], dropped[:step]
    return (Mux(do, wide[step:step + kept], wide[:kept]),
            always.any() | (~do & otherwise.any()))


def nearest_float(m: Module, number: Value, shift: Value, form: Format, low: Value,
                  high: Value) -> Signal:
    """The ordered integer of the float or logarithm nearest to number / 2**shift, as the numerics
    page says, at least `low` and at most `high`, which are read two cycles before it comes,
    `timing.rounding_latency` cycles after `number`, signed, and `shift`, unsigned."""
    return _clip(m, _nearest_float(m, number, shift, form), low, high)


def _nearest_float(m, number, shift, form):
    """The nearest float's ordered integer.

    The magnitude is shifted to the left until its leading one stands at the top, or as far as the
    subnormals' last bit allows. A negative number's magnitude is that of its inverted bits and 1;
    the 1 is left to the rounding, below the last bit.
    """
    levels = rounding_levels(form, len(number))
    negative = number[-1]
    logarithm = form.family == "logarithm"
    # Bits of an image after the leading one of the least exponent, and bits that are rounded by.
    below = -form.exponent if logarithm else form.man
    fraction = form.fraction_bits if logarithm else form.man + 1
    size = (1 << levels) + below
    bits = Cat(number, negative.replicate(max(0, size - len(number))))[:size]
    free = Cat(~shift, Const(-1, levels)[len(shift):])      # places that it may be shifted
    more, done = Const(0), Const(0, 0)                       # more is free than the steps left
    lost = Const(0)
    top = bits[-(1 << levels - 1):]
    blank = register(m, ~(top ^ negative.replicate(len(top))).any(), "blank")
    bits, negative, free = (register(m, value, f"{name}_in") for name, value in
                            (("bits", bits), ("negative", negative), ("free", free)))
    inverted = False
    for place in reversed(range(levels)):
        step = 1 << place
        if blank is None:
            blank = ~bits[-step:].any()
        do = blank & (more | free[place])
        more = more | (free[place] & ~blank)
        done = Cat(do, done)
        kept = step + fraction
        sign = negative.replicate(len(bits))
        straight = bits if inverted else bits ^ sign         # bits below the last one are 0
        moved = Cat(negative.replicate(step), straight)[:len(bits)]
        drop = len(bits) - kept
        gone = straight[:max(0, drop)] ^ negative.replicate(max(0, drop))
        always = max(0, drop - step)
        lost = lost | gone[:always].any() | (~do & gone[always:].any())
        bits, blank, inverted = Mux(do, moved, straight)[-kept:], None, True
        if place != 1:
            names = ("bits", "negative", "free", "more", "done", "lost")
            bits, negative, free, more, done, lost = (
                register(m, value, f"{name}_{place}") for name, value in
                zip(names, (bits, negative, free, more, done, lost), strict=True))
    field = (free - done)[:levels]
    if logarithm:
        remainder = _remainder(form, Cat(negative & ~lost, bits))
        code = register(m, (field << form.man) + remainder, "code")
        leading = register(m, bits[-1], "leading")
    else:
        guard, last, mantissa = bits[0], bits[1], bits[1:]
        up = Mux(negative, guard | (~lost & last), guard & (lost | last))
        # The least exponents, 0 and 1, weigh the same: a leading one makes 1 of 0.
        leading = Cat(up, Const(0, form.man - 1), mantissa[-1]) if form.man else mantissa + up
        code = register(m, Cat(mantissa[:-1], field) + leading, "code")
    negative = register(m, negative, "negative_code")
    if logarithm:
        # what is less than the smallest number, but no less than 1, is nearest to it
        code |= leading & ~code.any()
        largest = Mux(code > form.max_code, form.max_code, code)
    else:
        largest = _saturated(code, form)
    small = register(m, largest[:form.width - 1], "small")
    negative = register(m, negative, "negative_small")
    return register(m, Mux(negative, -small, Cat(small, Const(0, 1)).as_signed()), "value")


def _remainder(form, bits):
    """What the nearest logarithm has beside the quotient of a significand, up to `root`: of `bits`
    without their lowest one, which says that 1 must be added to them. Without a leading one: 1 for
    the smallest number, or 0."""
    # x + 1 >= n where 2 * x + 1 >= 2 * n - 1, and x >= n as well: one comparison for both
    reached = [bits >= 2 * n - 1 for n in form.boundaries]
    # how many are reached, of which all come before the others: by halves
    top, counted = reached[-1], Const(0, 0)
    for place in reversed(range(form.man)):
        counted = Cat(Array(reached[(1 << place) - 1::2 << place])[counted]
                      if len(counted) else reached[(1 << place) - 1], counted)
    count = Cat(counted & ~top.replicate(len(counted)), top)
    return Mux(bits[-1], count, bits >= 2 * form.least_boundary - 1)


def _saturated(code, form):
    """The magnitude's code, at most the largest. What has been rounded is a float with subnormals;
    one whose exponent 0 has a leading one has as many numbers less at its lower end, and the code
    of each other one is less by as much."""
    if not form.hidden_at_zero:
        return Mux(code > form.max_code, form.max_code, code)
    hidden = 1 << form.man
    larger = Mux(code > form.max_code + hidden, form.max_code, code - hidden)
    return Mux(code <= hidden, code > hidden // 2, larger)


def _clip(m, value, low, high):
    """`value`, but at least `low` and at most `high`, two cycles later."""
    under = register(m, less(value, low), "under")
    over = register(m, less(high, value), "over")
    value, low, high = (register(m, item, f"{name}_clip") for name, item in
                        (("value", value), ("low", low), ("high", high)))
    return register(m, Mux(under, low, Mux(over, high, value)), "clipped")

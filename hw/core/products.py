"""Wide products and sums in pipelines: of parts that fit DSP blocks, one adder a cycle, or of the
rows of a Booth multiplier."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from systolith.hw.element.booth import digits
from systolith.hw.spec.timing import (
    ROWS_A_CYCLE,
    booth_digits,
    folded_rows,
    product_parts,
    product_rows,
)

__all__ = ["folded_product", "less", "product", "register"]

#: An integer as its upper bits and how many bits of 0 are below them.
_Term = tuple[Value, int]


def register(m: Module, value: Value, name: str) -> Signal:
    """`value` one cycle later."""
    signal = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


def less(one: Value, other: Value) -> Value:
    """Whether one signed number is less than another: the sign of their difference, which comes
    straight out of a carry chain."""
    return (one - other)[-1]


def product(m: Module, one: Value, other: Value, addend: Value | None, name: str, *,
            luts: bool) -> Signal:
    """one * other + addend of signed numbers (None: 0), as many bits as both factors,
    `timing.product_latency` cycles later. `luts`: built without DSP blocks."""
    width = len(one) + len(other)
    if luts:
        return _booth(m, one, other, Const(0, signed(1)) if addend is None else addend, width,
                      name)
    terms = _multiply(m, one, other, name)
    if addend is not None:
        terms.append((register(m, addend, f"{name}_addend"), 0))
    return _total(m, terms, width, f"{name}_sum")


def folded_product(m: Module, number: Value, factor: Value, first: Value, name: str) -> Signal:
    """number * factor of signed numbers that are there for two cycles, of which `first` tells the
    first one, without DSP blocks: two cycles after that one, for a cycle. The rows are half as
    many as digits."""
    count = folded_rows(len(factor))
    found = [Cat(*digit) for digit in digits(_extended(factor, 4 * count), True, 2 * count, False)]
    turn = Signal(3 * count, name=f"{name}_digits")
    upper = Signal(len(number), name=f"{name}_upper", reset_less=True)
    low = Signal(2 * count, name=f"{name}_low", reset_less=True)
    m.d.comb += turn.eq(Mux(first, Cat(found[:count]), Cat(found[count:])))
    below, added = _add_rows(m, upper, [turn[n:n + 3] for n in range(0, 3 * count, 3)], number,
                             name)
    with m.If(first):
        m.d.sync += [upper.eq(added[2:]), low.eq(Cat(below, added[:2]))]
    with m.Else():
        m.d.sync += upper.eq(0)
    whole = Signal(signed(len(number) + len(factor)), name=f"{name}_whole", reset_less=True)
    m.d.sync += whole.eq(Cat(low, below, added).as_signed())
    return whole


def _booth(m, one, other, addend, width, name):
    """The product as rows of radix-4 digits of the shorter factor, `ROWS_A_CYCLE` of them added to
    each other in a cycle, the addend with the first: its lower bits, where it is longer than rows
    are, and the others as soon as the sum has room for them."""
    number, factor = (one, other) if len(one) >= len(other) else (other, one)
    count = booth_digits(len(factor))
    waiting = Cat(Cat(*digit) for digit in digits(factor, True, count, False))
    upper, final = Value.cast(addend), Const(0, 0)      # to `final` nothing more is added
    cut, unit = len(number) - 1, 2 * ROWS_A_CYCLE
    # a sum's upper bits are at most a third of what the number's bits hold with one more
    entry = -(-(len(upper) + 2 - len(number)) // unit) * unit
    split = len(upper) > len(number) and entry <= min(cut, 2 * count - 2)
    if split:
        upper, later = Cat(upper[:cut], Const(0, 1)), upper[cut:]
    while True:
        rows = min(ROWS_A_CYCLE, len(waiting) // 3)
        place = len(final)
        if split and place == entry:
            upper = Cat(upper[:cut - place],
                        (upper[cut - place:].as_signed() + later.as_signed())[:place + 1])
        elif split and place < entry:
            later = register(m, later, f"{name}_later_{place}")
        below, added = _add_rows(m, upper, [waiting[3 * n:3 * n + 3] for n in range(rows)], number,
                                 f"{name}_{place}")
        waiting = waiting[3 * rows:]
        if not len(waiting):
            break
        final, upper, number, waiting = (
            register(m, value, f"{name}_{part}_{place}") for part, value in
            (("final", Cat(final, below, added[:2])), ("upper", added[2:]), ("number", number),
             ("digits", waiting)))
    last = register(m, Cat(final, below, added), f"{name}_last")
    whole = Signal(signed(width), name=f"{name}_whole")
    m.d.comb += whole.eq(last.as_signed())
    return whole


def _add_rows(m, upper, digits_, number, name):
    """`upper`, signed, and the rows of a number by digits, each of which weighs four times the one
    before: the bits below what is added last, and that.

    A row's choice shares the LUT with its addition, where it is the second operand.
    """
    below: list[Value] = []
    # rows of up to twice the number, and a third more of all below them; the longer operand of an
    # addition is the second one for synthesis
    size = max(len(number) + 2, len(upper) + 1)
    for step, digit in enumerate(digits_):
        row = Signal(signed(len(number) + 1), name=f"{name}_row_{step}")
        added = Signal(size, name=f"{name}_added_{step}")
        # without signs: two operands and one bit are what synthesis takes for one chain
        m.d.comb += [row.eq(_choice(digit, number)), added.eq(
            _extended(upper, size) + _extended(row, size) + digit[0])]
        if step + 1 < len(digits_):
            below += [added[0], added[1]]
            upper, size = added[2:], max(len(number) + 2, size - 1)
    return Cat(below), added


def _extended(value, width):
    """The bits of a signed number, as many as are wanted."""
    return Cat(value, value[-1].replicate(width - len(value)))


def _choice(digit, number):
    """The bits of `number` times a digit of three bits (from -2 to 2, see `booth.digits`), one bit
    more than the number has; 1 less where the digit's first bit, its sign, is set."""
    negative, middle, below = digit
    once = middle ^ below
    twice = Mux(negative, ~(middle | below), middle & below)
    return Cat(((once & single) | (twice & double)) ^ negative for single, double in
               zip([*number, number[-1]], [Const(0, 1), *number], strict=True))


def _multiply(m, one, other, name):
    """Terms whose sum is the product of two signed numbers, one cycle later.

    Each product of two parts has a register to itself: a DSP block's delay fills a cycle.
    """
    parts = [_parts(factor) for factor in (one, other)]
    terms: list[_Term] = []
    for row in product_rows(len(one), len(other)):
        pieces: list[Value] = []
        start = sum(parts[n][row[0][n]][1] for n in (0, 1))
        for i, j in row:
            (left, low), (right, high) = parts[0][i], parts[1][j]
            pieces.append(Const(0, low + high - start - len(Cat(pieces))))
            pieces.append(register(m, left * right, f"{name}_{i}_{j}"))
        joined = Cat(pieces)
        sign = pieces[-1].shape().signed
        terms.append((joined.as_signed() if sign else joined, start))
    return terms


def _parts(factor):
    """(part, position) of a signed factor, the lowest first; all but the last are unsigned."""
    widths, place, parts = product_parts(len(factor)), 0, []
    for n, width in enumerate(widths):
        part = factor[place:place + width]
        parts.append((part.as_signed() if n == len(widths) - 1 else part, place))
        place += width
    return parts


def _total(m, terms, width, name):
    """The sum of the terms as a signed number of `width` bits, `timing.sum_latency` cycles
    later."""
    level = 0
    while len(terms) > 1:
        level += 1
        sums = [_add(m, terms[n], terms[n + 1], width, f"{name}_{level}_{n // 2}")
                for n in range(0, len(terms) - 1, 2)]
        if len(terms) % 2:
            value, place = terms[-1]
            sums.append((register(m, value, f"{name}_{level}_{len(terms) // 2}"), place))
        terms = sums
    value, place = terms[0]
    whole = Signal(signed(width), name=name)
    m.d.comb += whole.eq(Cat(Const(0, place), value).as_signed() if value.shape().signed
                         else Cat(Const(0, place), value))
    return whole


def _add(m, one, other, width, name):
    """The sum of two terms, one cycle later; the lower one's lowest bits need no adder."""
    (low, place), (high, start) = sorted((one, other), key=lambda term: term[1])
    below = min(start - place, len(low))
    signed_low = low.shape().signed
    if below == len(low):
        # they do not overlap, and a sign reaches up into the other one
        rest = low[-1:].as_signed() if signed_low else Const(0, 1)
    else:
        rest = low[below:].as_signed() if signed_low else low[below:]
    upper = (rest + high)[:width - start]
    bits = low[:below]
    if below < start - place:
        fill = low[-1] if signed_low else Const(0, 1)
        bits = Cat(bits, fill.replicate(start - place - below))
    summed = register(m, Cat(bits, upper).as_signed(), name)
    return summed, place

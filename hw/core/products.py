"""Wide products and sums in pipelines, one adder a cycle: of parts that fit DSP blocks, or of the
rows of a Booth multiplier."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from systolith.hw.element.booth import digits
from systolith.hw.spec.timing import booth_digits, product_parts, product_rows

__all__ = ["less", "product", "register"]

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


def _booth(m, one, other, addend, width, name):
    """The product as rows of radix-4 digits of the shorter factor. Many rows are two chains of
    adders, whose sums the last adder joins; each begins with its part of the addend."""
    number, factor = (one, other) if len(one) >= len(other) else (other, one)
    lengths = booth_digits(len(factor))
    found = digits(factor, True, sum(lengths), False)
    whole = Signal(signed(width), name=f"{name}_whole")
    if len(lengths) == 1:
        m.d.comb += whole.eq(_chain(m, addend, number, found, name))
        return whole
    place = 2 * lengths[0]
    start = Signal(signed(max(len(addend), place + 2)), name=f"{name}_addend")
    m.d.comb += start.eq(addend)
    low = _chain(m, start[:place], number, found[:lengths[0]], f"{name}_low")
    high = _chain(m, start[place:].as_signed(), number, found[lengths[0]:], f"{name}_high")
    for cycle in range(lengths[0] - lengths[1]):
        high = register(m, high, f"{name}_late_{cycle}")
    return _total(m, [(low, 0), (high, place)], width, f"{name}_sum")


def _chain(m, start, number, found, name):
    """The signed sum of `start` and number * digit * 4**k for the k-th of the digits `found`, one
    digit a cycle.

    A row is the number's multiple by a digit, its sign bit inverted and a 1 above that, so that no
    sign is extended; the first row's signs are such that these add up to one bit above the sum.
    A row's choice then shares the LUT with its addition, where it is the second operand.
    """
    width = len(number) + 1
    final: list[Value] = []             # bits to which nothing more is added
    waiting = Cat(Cat(*digit) for digit in found)
    upper = Signal(width + 2, name=f"{name}_start")
    m.d.comb += upper.eq(start)
    for step in range(len(found)):
        negative, middle, below = waiting[:3]
        once = middle ^ below
        twice = Mux(negative, ~(middle | below), middle & below)
        row = Signal(width, name=f"{name}_row_{step}")
        m.d.comb += row.eq(Cat(
            ((once & single) | (twice & double)) ^ negative for single, double in
            zip([*number, number[-1]], [Const(0, 1), *number], strict=True)))
        sign = row[-1]
        above = Cat(row[:-1], ~sign, Const(1, 1)) if step else Cat(row, sign, ~sign)
        added = Signal(width + 2, name=f"{name}_added_{step}")
        m.d.comb += added.eq(upper + above + negative)
        added = register(m, added, f"{name}_{step}")
        final = [register(m, bit, f"{name}_{step}_{n}") for n, bit in enumerate(final)]
        if step + 1 < len(found):
            final += [added[0], added[1]]
            upper = added[2:]
            number = register(m, number, f"{name}_number_{step}")
            waiting = register(m, waiting[3:], f"{name}_digits_{step}")
    return Cat(final, added[:-1], ~added[-1]).as_signed()


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

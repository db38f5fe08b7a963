"""Wide products and sums in pipelines: parts that fit DSP blocks, and one adder a cycle."""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from systolith.hw.spec.timing import product_parts, product_rows

__all__ = ["Term", "less", "multiply", "register", "total"]

#: An integer as its upper bits and how many bits of 0 are below them.
Term = tuple[Value, int]


def register(m: Module, value: Value, name: str) -> Signal:
    """`value` one cycle later."""
    signal = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


def less(one: Value, other: Value) -> Value:
    """Whether one signed number is less than another: the sign of their difference, which comes
    straight out of a carry chain."""
    return (one - other)[-1]


def multiply(m: Module, one: Value, other: Value, name: str) -> list[Term]:
    """Terms whose sum is the product of two signed numbers, one cycle later.

    Each product of two parts has a register to itself: a DSP block's delay fills a cycle.
    """
    parts = [_parts(factor) for factor in (one, other)]
    terms: list[Term] = []
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


def total(m: Module, terms: list[Term], width: int, name: str) -> Signal:
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
    rest = low[below:].as_signed() if low.shape().signed else low[below:]
    if below == len(low):
        # they do not overlap, and a sign reaches up into the other one
        rest = low[-1:].as_signed() if low.shape().signed else Const(0, 1)
    upper = (rest + high)[:width - start]
    bits = low[:below]
    if below < start - place:
        fill = low[-1] if low.shape().signed else Const(0, 1)
        bits = Cat(bits, fill.replicate(start - place - below))
    summed = register(m, Cat(bits, upper).as_signed(), name)
    return summed, place

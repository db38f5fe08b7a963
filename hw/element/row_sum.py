"""Adding rows of bits: to a running sum in one chain of carries each, or to each other as a tree.

In both, a row's carry enters the adder that adds the row, whose lowest position is the row's; so
it takes no adder of its own.
"""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value

from .booth import Row

__all__ = ["add_pairs", "add_to_sum", "chain", "ripple"]


def ripple(m: Module, a: Value, b: Value, carry: Value, name: str) -> Value:
    """a + b + carry as full adders one by one, in logic gates: one bit wider than the wider one."""
    bits = []
    width = max(len(a), len(b))
    carry = Const(0, 1) if carry is None else carry
    for n, (one, other) in enumerate(zip(_padded(a, width), _padded(b, width), strict=True)):
        half = Signal(name=f"{name}_half{n}")
        m.d.comb += half.eq(one ^ other)
        bits.append(half ^ carry)
        after = Signal(name=f"{name}_carry{n}")
        m.d.comb += after.eq((one & other) | (half & carry))
        carry = after
    total = Signal(width + 1, name=name)
    m.d.comb += total.eq(Cat(bits, carry))
    return total


def chain(m: Module, a: Value, b: Value, carry: Value, name: str) -> Value:
    """a + b + carry by a carry chain: one bit wider than the wider operand.

    Two operands and one bit are what synthesis takes for one chain with a carry-in. On 7-series
    chips the first operand takes the way around the LUT: the second one's logic shares the LUT
    with the addition.
    """
    total = Signal(max(len(a), len(b)) + 1, name=name)
    m.d.comb += total.eq(a + b if carry is None else a + b + carry)
    return total


def _padded(bits, width):
    return Cat([*bits, *[Const(0, 1)] * (width - len(bits))][:width])


def add_to_sum(m: Module, total: Value, rows: Sequence[Row], adder: Callable[..., Value],
               name: str) -> Value:
    """A sum of fixed width plus all rows, modulo 2**width.

    Each row is added by a chain that ends where the next row has no bits any more: there its
    carry takes part in the next row's chain as one more bit. So the sum's high bits pass one chain
    only, the last one.

    Parameters
    ----------
    m : Module
        Takes the logic.
    total : Value
    rows : list of Row
        In the order of their lowest bits.
    adder : callable
        `chain` or `ripple`.
    name : str
    """
    bits, width = list(total), len(total)
    pending, at = None, 0
    for n, row in enumerate(rows):
        end = max(at + 1, *(other.high for other in rows[n:n + 2]))
        # Cutting a chain takes two positions, one on each side.
        if n + 1 == len(rows) or end + 2 >= width:
            end = width
        other = [*row.bits, *[Const(0, 1)] * (at - row.high)]
        if pending is not None:
            other.append(pending)
        # Bits of the sum that meet no others stand above those: so the first operand is the
        # shorter one, which Yosys puts first in any case.
        meet = min(row.low + len(other), end)
        added = adder(m, Cat(bits[row.low:meet]), Cat([*other, *bits[meet:end]][:end - row.low]),
                      row.carry, f"{name}{n}")
        bits[row.low:end] = added[:-1]
        pending, at = (added[-1], end) if end < width else (None, 0)
    return Cat(bits)


def add_pairs(m: Module, rows: Sequence[Row], adder: Callable[..., Value], name: str) -> list[Row]:
    """Adds rows in pairs: half as many rows, and one if their number is odd, of unchanged sum."""
    added = []
    for n in range(0, len(rows) - 1, 2):
        left, right = rows[n:n + 2]
        most = left.most + right.most
        width = most.bit_length() - right.low
        start = right.low - left.low
        low, high = left.bits[:start], left.bits[start:]
        total = adder(m, _padded(high, width), _padded(right.bits, width), right.carry,
                      f"{name}{n // 2}")
        added.append(Row(left.low, (*_padded(low, start), *total[:width]), left.carry, most))
    return [*added, *rows[len(rows) - len(rows) % 2:]]

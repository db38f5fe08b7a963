"""Counting ones: bits of many weights are brought together, and then into a partial sum.

Bits stand in columns, a dict of lists: columns[w] holds bits of weight 2**w. All logic is written
as XOR, AND and OR of bits, because a synthesis tool makes carry chains of `a + b + c`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations
from operator import and_, or_, xor

from amaranth.hdl import Cat, Const, Module, Signal, Value

__all__ = ["Parities", "add_in_rows", "add_in_tree", "compress", "compressed",
           "count_by_thresholds", "count_of", "count_ones", "majority"]


class Parities:
    """Linear coordinates in which the first layer of a popcount is carries alone.

    A full adder gives the parity and the majority of three bits; a tree of full adders, each with
    one lane and two subtrees as its inputs, brings the lanes down to one parity (of an odd number
    of them). The parities in it are linear, and so are those of x = a XNOR w: they may as well be
    made of a and of w beforehand, once for a row and for a column. `lanes` of them are a basis,
    in which each adder finds three coordinates: its subtrees' parities and its own. So no
    element has an XOR gate in this layer, and no register more. As the parities of many lanes
    take long to make, trees are no larger than `longest` lanes.

    Parameters
    ----------
    lanes : int
    longest : int
        The most lanes of a parity, an odd number.

    Attributes
    ----------
    members : list of range
        The lanes whose parity each coordinate is: an odd number.
    adders : list of (int, int, int)
        Coordinates of a full adder's two subtrees and of its sum; see `majority`.
    sums : list of int
        Coordinates that remain with weight 1: one a tree, and the lane that is left over.
    """

    def __init__(self, lanes: int, longest: int) -> None:
        self.members: list[range] = []
        self.adders: list[tuple[int, int, int]] = []
        self.sums = []
        for first in range(0, lanes, longest):
            mine = range(first, min(first + longest, lanes))
            odd = len(mine) - 1 | 1
            self.sums.append(self._tree(mine[:odd]))
            if odd < len(mine):
                self.sums.append(self._coordinate(mine[odd:]))

    def _coordinate(self, lanes):
        self.members.append(lanes)
        return len(self.members) - 1

    def _tree(self, lanes):
        if len(lanes) == 1:
            return self._coordinate(lanes)
        half = 1 + ((len(lanes) - 1) // 2 | 1)
        left, right = self._tree(lanes[1:half]), self._tree(lanes[half:])
        own = self._coordinate(lanes)
        self.adders.append((left, right, own))
        return own

    def transform(self, bits: Value) -> Value:
        """The coordinates of `bits`, one per lane."""
        return Cat(Cat(bits[lane] for lane in lanes).xor() for lanes in self.members)


def _net(m, value):
    """`value` as a signal, so that it is written once however often it is read."""
    net = Signal(len(value), name="count")
    m.d.comb += net.eq(value)
    return net


def majority(m: Module, a: Value, b: Value, c: Value, *, keep: bool = False) -> Value:
    """Whether two of three bits are ones, with `keep` as a net that mappers leave there is."""
    net = Signal(name="carry", attrs={"keep": 1} if keep else {})
    m.d.comb += net.eq((a & b) | (c & (a | b)))
    return net


def count_of(bits: Sequence[Value]) -> list[Value]:
    """How many of the bits are ones, as a list of bits, lowest first.

    Bit k is the parity of all products of 2**k of them (Lucas' theorem).
    """
    # products[n]: the parity of all products of n of the bits so far.
    products = [Const(1, 1)]
    for bit in bits:
        longer = [both & bit for both in products]
        added = [old ^ new for old, new in zip(products[1:], longer, strict=False)]
        products = [products[0], *added, longer[-1]]
    return [products[1 << k] for k in range(len(bits).bit_length())]


def count_by_thresholds(bits: Sequence[Value]) -> list[Value]:
    """Counts ones like `count_of`, but made of "at least n are ones" as sums of products.

    For LUTs that take all bits at once it is better: mappers take the bits' own logic apart less.
    """
    def at_least(number):
        return reduce(or_, (reduce(and_, some) for some in combinations(bits, number)), Const(0, 1))
    result = [reduce(xor, bits, Const(0, 1))] if bits else []
    for place in range(1, len(bits).bit_length()):
        step = 1 << place
        result.append(reduce(or_, (
            at_least(low) if low + step > len(bits) else at_least(low) & ~at_least(low + step)
            for low in range(step, len(bits) + 1, 2 * step))))
    return result


def count_ones(m: Module, bits: Sequence[Value]) -> Value:
    """How many of the bits are ones, by full and half adders: as many bits as the count needs."""
    columns, total = {0: list(bits)}, []
    for weight in range(len(bits).bit_length()):
        mine = columns.get(weight, [])
        while len(mine) > 1:
            rest: list[Value] = []
            for first in range(0, len(mine), 3):
                some = count_of(mine[first:first + 3])
                rest.append(_net(m, some[0]))
                for bit in some[1:]:
                    columns.setdefault(weight + 1, []).append(_net(m, bit))
            mine = rest
        total += mine or [Const(0, 1)]
    return Cat(total)


def compress(m: Module, columns: Mapping[int, list[Value]], size: int) -> dict[int, list[Value]]:
    """One level of counters of up to `size` bits, at least three each; the columns after it."""
    after = defaultdict(list)
    for weight in sorted(columns):
        bits = columns[weight]
        while len(bits) >= 3:
            for higher, bit in enumerate(count_of(bits[:size])):
                after[weight + higher].append(_net(m, bit))
            bits = bits[size:]
        after[weight] += bits
    return after


def compressed(heights: Mapping[int, int], size: int) -> dict[int, int]:
    """The numbers of bits of a level of `compress`: weight -> bits, before and after."""
    after: defaultdict[int, int] = defaultdict(int)
    for weight, bits in heights.items():
        while bits >= 3:
            for higher in range(min(bits, size).bit_length()):
                after[weight + higher] += 1
            bits -= min(bits, size)
        after[weight] += bits
    return after


def add_in_tree(m: Module, psum: Value, columns: Mapping[int, list[Value]], *,
                ripple: bool) -> Value:
    """`psum` plus the columns' bits, by full adders and one addition at the end.

    The addition is of gates if `ripple`, else it is left to synthesis, which has carry chains.
    """
    columns = defaultdict(list, columns)
    number: list[Value] = []
    carry_in = None
    for weight in range(len(psum)):
        bits = columns[weight]
        if weight == 0 and len(bits) % 2 == 0 and bits:
            carry_in = bits.pop()
        while len(bits) > 1:
            total, carry = count_of(bits[:3])
            bits[:] = [*bits[3:], _net(m, total)]
            columns[weight + 1].append(_net(m, carry))
        number += bits or [Const(0, 1)]
    if not ripple:
        number = Cat(number)
        if carry_in is None:
            return psum + number
        return (Cat(carry_in, psum) + Cat(carry_in, number))[1:]
    result, carries = [], [] if carry_in is None else [carry_in]
    for bit, other in zip(psum, number, strict=True):
        addends = [bit, *carries, *([] if isinstance(other, Const) else [other])]
        total, *carries = [_net(m, value) for value in count_of(addends)]
        result.append(total)
    return Cat(result)


def add_in_rows(m: Module, psum: Value, columns: Mapping[int, list[Value]]) -> Value:
    """`psum` plus the columns' bits, by carry chains that count as they add.

    A LUT of six inputs in a carry chain has five left beside the bit of the first operand. So
    three of them add the count of five bits of equal weight, and a sixth one is the carry in. Where
    several such rows meet, all but the last are only as wide as the count; their carries out are
    bits to be added in turn, at a higher weight.
    """
    psum = list(psum)
    columns = defaultdict(list, columns)
    for weight in range(len(psum)):
        bits = columns.pop(weight, [])
        rows = [bits[n:n + 6] for n in range(0, len(bits), 6)]
        if not bits:
            continue
        if len(rows) == 1 and not any(columns.values()):
            width = len(psum)
        else:
            width = max((len(bits[:6]) - 1).bit_length(), 1)
        place = slice(weight, weight + width)
        for row in rows:
            low = psum[place]
            carry_in, *others = row
            total = _row(m, low, carry_in, count_by_thresholds(others))
            psum[place] = total[:len(low)]
            if weight + len(low) < len(psum):
                columns[weight + len(low)] += total[len(low):]
    return Cat(psum)


def _row(m, low, carry_in, count):
    """The bits of low + carry_in + count, one more than of `low`, for LUTs of six inputs.

    It is a subtraction of the complement, because Yosys exchanges the operands of additions: the
    first one must be that which takes the way around the LUT.
    """
    count = [*count, *[Const(0, 1)] * len(low)][:len(low)]
    total = Signal(len(low) + 2, name="row")
    m.d.comb += total.eq(Cat(carry_in, *low) - ~Cat(Const(0, 1), *count, Const(0, 1)))
    return list(total[1:])

"""Binary products: +1 and -1 as single bits, XNOR for the product, counting for the sum."""

from collections import defaultdict
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from systolith.hw.formats import Format
from systolith.hw.spec.structures import Structure

from .arithmetic import Arithmetic, Operands, tree_sum
from .popcount import Parities, add_in_rows, add_in_tree, compress, compressed, majority

__all__ = ["XnorArithmetic"]


class XnorArithmetic(Arithmetic):
    """Sums of +-1 planes in both operands; an element adds the counts of equal lanes.

    A `Bipolar` number of n bits is a sum of n planes of +-1 with the weights 1, 2, 4, ...; bits of
    its code that are 1 are +1. A pair of planes with c equal lanes of L adds 2 * c - L times both
    weights, so that elements add c, and a column starts from what that is too much.

    An `Int` activation is (b + z) / 2, where b is the bipolar number of the same bits (if signed,
    with the first one inverted), and z is 2**n - 1, or -1 if signed. So a sum of products is half
    of the sum of b * w and of z times the weights' sum; the latter comes along with the weights.

    What travels are not the lanes of a plane but as many parities of them (`Parities`).
    """

    most_stages = 4

    def __init__(self, activation: Format, weight: Format, lanes: int, terms: int,
                 **options: Any) -> None:
        self.fast_stages = 3
        super().__init__(activation, weight, lanes, terms, **options)
        # LUTs of four inputs take three levels for a parity of 63 lanes: too long for the clock.
        self._parities = Parities(lanes, 15 if self.structure is Structure.LUT4 else lanes | 1)
        self.activation_bits = lanes * activation.width
        self.weight_bits = lanes * weight.width
        above, below = (1 << activation.width) - 1, (1 << weight.width) - 1
        if activation.binary:
            # From -(units + 1) // 2, where the last bit of an odd number of units is left out.
            self.psum_scale = 1
            self.psum_bits = ((terms * above * below + 1) // 2).bit_length() + 1
            self._too_much = lanes * above * below
        else:
            # Unsigned: above * sum(w codes); signed: sum of the inverted codes.
            self._factor = 1 if activation.signed else above
            self.weight_bits += (lanes * below * self._factor).bit_length()
            self._too_much = lanes * below * (above + 1 >> 1 if activation.signed else above)

    def decode_activation(self, m: Module, codes: Value) -> Value:
        planes = [codes[bit::self.activation.width] for bit in range(self.activation.width)]
        if self.psum_scale == 0 and self.activation.signed:
            planes[-1] = ~planes[-1]
        return Cat(self._parities.transform(plane) for plane in planes)

    def decode_weight(self, m: Module, codes: Value) -> Value:
        width = self.weight.width
        planes = Cat(self._parities.transform(codes[bit::width]) for bit in range(width))
        if self.psum_scale:
            return planes
        numbers = codes if not self.activation.signed else ~codes
        total = tree_sum([numbers.word_select(lane, width) for lane in range(self.lanes)])
        return Cat(planes, total * self._factor)[:self.weight_bits]

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        columns = self._first_columns(m, operands.a(0), operands.w(0))
        counter = 6 if self.structure is Structure.LUT6 else 3
        done = 0
        for stage, level in enumerate(self._cuts(columns, counter), 1):
            for _ in range(level - done):
                columns = compress(m, columns, counter)
            done = level
            columns = {weight: [operands.register(bit, f"count{weight}_stage{stage}")
                                for bit in bits] for weight, bits in columns.items()}
        if self.structure is Structure.LUT6:
            return add_in_rows(m, psum, columns)
        return add_in_tree(m, psum, columns, ripple=self.structure is Structure.GATES)

    def _cuts(self, columns, counter):
        """After how many levels of counters the registers between the stages stand."""
        levels, heights = 0, {weight: len(bits) for weight, bits in columns.items()}
        while any(height > 2 for height in heights.values()):
            heights = compressed(heights, counter)
            levels += 1
        if self.structure is Structure.LUT6:
            # The rows of the last stage take what is left at less cost than counters do.
            return [levels * n // (self.stages - 1) for n in range(self.stages - 1)]
        # XNOR and majority take the time of two levels, and the addition that of three.
        each = (2 + levels + 3) / self.stages
        return [min(max(round(n * each) - 2, 0), levels) for n in range(1, self.stages)]

    def _first_columns(self, m, a, w):
        """Bits whose sum, each at its weight, is the count of equal lanes."""
        columns: defaultdict[int, list[Value]] = defaultdict(list)
        for i in range(self.activation.width):
            for j in range(self.weight.width):
                equal = Signal(self.lanes, name=f"equal{i}_{j}")
                m.d.comb += equal.eq(~(a.word_select(i, self.lanes) ^ w.word_select(j, self.lanes)))
                columns[i + j] += [equal[n] for n in self._parities.sums]
                columns[i + j + 1] += [majority(m, equal[left], equal[right], ~equal[own],
                                                keep=self.structure is Structure.LUT6)
                                       for left, right, own in self._parities.adders]
        for weight, bit in enumerate(w[self.lanes * self.weight.width:]):
            columns[weight] += [bit]
        return columns

    def head(self, rows: int, signs: bool = False) -> int:
        if self.psum_scale:
            return -((rows * self._too_much + 1) // 2)
        return -rows * self._too_much

    def total(self, psum: Value, rows: int) -> Value:
        if self.psum_scale:
            return Cat(Const(rows * self._too_much % 2, 1), psum).as_signed()
        return psum

"""What stands below the elements of a column whose weights are in blocks: the block's scale.

It is one more row of the array. Its word of the weights' bus, the one after that of the last row,
holds the scale's code, and the pixel that is the first to meet the new weights meets the new scale.
"""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.formats import BlockScale
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.scale_words import ScaleWord
from systolith.hw.spec.structures import Structure
from systolith.hw.spec.timing import scale_cycles

__all__ = ["BlockScaleCell", "ScaledNumber", "ScaledSum", "add_number", "scaled_bits",
           "scaled_number"]


#: Mantissa bits whose product LUTs of six inputs make in copies.
_COPIED = (1, 3)


def scaled_bits(scale: BlockScale, sum_bits: int) -> int:
    """Bits of a sum of `sum_bits` bits times the largest scale."""
    return sum_bits + (scale.largest - 1).bit_length()


def add_number(held: Value, number: Value, bits: int, carry: Value | None = None) -> Value:
    """held + number + carry, signed numbers, in so many bits. On 7-series chips the second one's
    logic shares LUTs with the addition where both have as many bits, which have no sign."""
    total = _wide(held, bits) + _wide(number, bits)
    return (total if carry is None else total + carry)[:bits].as_signed()


def _wide(number, bits):
    return Cat(number, number[-1].replicate(max(0, bits - len(number))))[:bits]


@dataclass(frozen=True)
class ScaledNumber:
    """What leaves a `BlockScaleCell`, and the product that it stands for.

    Parameters
    ----------
    scale : BlockScale
    sum_bits, bits : int
        Bits of a sum, and of a sum times the largest scale (`scaled_bits`).
    structure : Structure
    largest : int or None
        The largest magnitude of a sum; None: what so many bits hold.
    """
    scale: BlockScale
    sum_bits: int
    bits: int
    structure: Structure
    largest: int | None = None

    @property
    def word(self) -> ScaleWord:
        """What says the scale."""
        return ScaleWord(self.scale, self.structure)

    @property
    def most(self) -> int:
        """The largest magnitude of a sum."""
        return self.largest or 1 << self.sum_bits - 1

    @property
    def late(self) -> bool:
        """Whether the product is shifted where it is used."""
        return self.structure is Structure.LUT6 and self.scale.man in _COPIED

    @property
    def product_bits(self) -> int:
        """Bits of a copy of what is shifted there."""
        return self.word.product_bits(self.sum_bits)

    @property
    def shape(self) -> Shape:
        """What leaves the cell: the product, or two copies and how far they are shifted."""
        return unsigned(2 * self.product_bits + 1) if self.late else signed(self.bits)

    def number(self, out: Value) -> Value:
        """The product, signed, of what left the cell."""
        if not self.late:
            return out.as_signed()
        size = self.product_bits
        low, high = out[:size].as_signed(), out[size:2 * size].as_signed()
        return Mux(out[-1], low << 2 | high << 6, low | high << 4)


def scaled_number(arch: Arch) -> ScaledNumber | None:
    """What leaves each column of a chip; None where weights have no blocks."""
    scale = arch.weight.block_scale
    return None if scale is None else ScaledNumber(
        scale, arch.psum_bits, arch.scaled_bits, arch.scale_structure,
        arch.term_bound * arch.pass_terms)


class BlockScaleCell(wiring.Component):
    """A column's sums times the scale of the block of weights that they come from: exact integers.

    LUTs of six inputs leave the last shift to the adder that takes the product (`ScaledNumber`),
    whose LUTs have inputs to spare: two copies of what is shifted, one of them zero by its
    registers' reset, each of which can enter at two places. What is shifted has the scale's
    mantissa and the lowest bit of its exponent: with one bit of mantissa, two sums and 0, 1, 2 or 4
    more; with three, 8 to 30 sums as 16 and a multiple of 1, 5, -3 or -7, as a prepared word says
    (`ScaleWord`). LUTs of four inputs multiply by 8 to 15 with two additions: 8 + m is 8, 12 or 16
    and one of -2, -1, 0, 1; gates add 0, 1, 2 or 3 sums to 8 or 12, both made of three
    sums, and shift in the same cycle. Other widths take an
    addend for each bit, and shifts follow. A DSP block multiplies by the whole factor.

    Parameters
    ----------
    out : ScaledNumber
        What leaves the cell: its scales, the bits of a sum, and what it is built of, DSP blocks
        where scales have a mantissa.

    Members
    -------
    swap : In(1)
        In the cycle before a sum comes: from that one on `code` counts.
    code : In(out.word.width)
    sum : In(signed(sum_bits))
    o : Out
        Of the shape `out.shape`; `out.number` makes the product of it; `stages` cycles later.
    """

    def __init__(self, out: ScaledNumber) -> None:
        self.out, self.scale, self.structure = out, out.scale, out.structure
        super().__init__({"swap": In(1), "code": In(out.word.width),
                          "sum": In(signed(out.sum_bits)), "o": Out(out.shape)})

    @property
    def stages(self) -> int:
        """Cycles from a sum to what comes out."""
        return scale_cycles(self.scale, self.structure)

    @property
    def sums(self) -> range:
        """The sums that may come."""
        least, most = -1 << self.out.sum_bits - 1, (1 << self.out.sum_bits - 1) - 1
        return range(max(least, -self.out.most), min(most, self.out.most) + 1)

    def expected(self, sums: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The products of sums, as `ScaleWord` defines them: int64 array."""
        return self.out.word.products(np.asarray(sums, np.int64), words, self.out.sum_bits,
                                      self.out.bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        man = self.scale.man
        if not man:
            self._shifted(m, self.sum, self._held(m, self.code, "places"))
        elif self.structure.is_dsp:
            self._in_a_block(m)
        elif self.out.late:
            (self._around_16 if man == 3 else self._two_and_more)(m)
        elif man == 3 and not self.structure.is_lut:
            self._in_threes(m)
        elif man == 1 and self.structure.is_lut:
            self._in_pairs(m)
        elif man == 3:
            self._in_two_digits(m)
        else:
            code = self._held(m, self.code, "code")
            product = sum((Mux(code[n], self.sum << n, 0) for n in range(man)), self.sum << man)
            self._registered(m, product, code[man:])
        return m

    def _held(self, m, value, name):
        """`value` as it was at the last swap."""
        held = Signal(len(value), name=name, reset_less=True)
        with m.If(self.swap):
            m.d.sync += held.eq(value)
        return held

    def _later(self, m, value, name):
        register = Signal(len(value), name=name, reset_less=True)
        m.d.sync += register.eq(value)
        return register

    def _registered(self, m, product, places):
        """The second cycle: `product`, shifted as the scale said in the first one."""
        before = Signal(signed(len(self.sum) + self.scale.man + 1), name="product",
                        reset_less=True)
        m.d.sync += before.eq(product)
        self._shifted(m, before, self._later(m, places, "later"))

    def _shifted(self, m, number, places):
        shifted = Signal(len(self.o), name="shifted", reset_less=True)
        m.d.sync += shifted.eq(number << places)
        m.d.comb += self.o.eq(shifted)

    def _gated(self, m, value, off, name):
        """A register of `value`, or 0 by its reset."""
        register = Signal(signed(len(value)), name=name, reset_less=True)
        m.d.sync += register.eq(value)
        with m.If(off):
            m.d.sync += register.eq(0)
        return register

    def _out(self, m, product, high, fine, low=None):
        """The copies of a product that are shifted later: by four places more or not, as `high`
        says now, and by two more or not, as `fine` says in the next cycle. `low`: not `high`."""
        copies = [self._gated(m, product, off, name) for name, off in
                  (("low", high), ("high", ~high if low is None else low))]
        m.d.comb += self.o.eq(Cat(*copies, fine))

    def _in_a_block(self, m):
        man, code = self.scale.man, self.code
        factor = self._held(m, (Cat(code[:man], Const(1, 1)) << code[man:])[
            :self.scale.largest.bit_length()], "factor")
        first, second = (Signal(signed(len(self.o)), name=name, reset_less=True)
                         for name in ("product", "scaled"))
        m.d.sync += [first.eq(self.sum * Cat(factor, Const(0, 1)).as_signed()), second.eq(first)]
        m.d.comb += self.o.eq(second)

    def _in_pairs(self, m):
        """One bit of mantissa, and the lowest place: two sums and 0, 1, 2 or 4 more."""
        code, total = self._held(m, self.code, "code"), self.sum
        more = Signal(signed(len(total) + 2), name="more")
        m.d.comb += more.eq(Mux(code[1], Mux(code[0], total << 2, total << 1),
                                Mux(code[0], total, 0)))
        product = Signal(signed(len(total) + 3), name="product", reset_less=True)
        later = Signal(len(code) - 2, name="later", reset_less=True)
        m.d.sync += [product.eq(more + (total << 1)), later.eq(code[2:])]
        self._shifted(m, product, Cat(Const(0, 1), later))

    def _in_two_digits(self, m):
        """Three bits of mantissa: 8 + m = 4 * (2 + high) + low, high from 0 to 2, low from -2."""
        total, code = self.sum, self.code
        high = self._held(m, (code[2] + code[1])[:2], "high")
        low = self._held(m, code[:2], "low")
        size = len(total)
        more, coarse = (Signal(signed(size + 2), name=name) for name in ("more", "coarse"))
        fine = Signal(signed(size + 1), name="fine")
        less: Value = low[1]
        m.d.comb += [
            more.eq(Mux(high[1], total << 1, Mux(high[0], total, 0))),
            coarse.eq(more + (total << 1)),
            fine.eq(Mux(less, Mux(low[0], ~total, ~(total << 1)), Mux(low[0], total, 0)))]
        # ~x + 1 is -x: the 1 is the carry into one addition.
        product = (Cat(less, fine).as_signed() + Cat(less, Const(0, 2), coarse).as_signed()) >> 1
        self._registered(m, product, self._held(m, code[3:], "places"))

    def _in_threes(self, m):
        """Three bits of mantissa: 8 or 12 sums and 0 to 3, of which three are added once, shifted
        at once."""
        code = self._held(m, self.code, "code")
        total = Signal(signed(max(len(self.sum), 2)), name="total")
        m.d.comb += total.eq(self.sum)
        size, product_bits = (_bits_of(times * self.out.most) for times in (3, 15))
        three, few = (Signal(signed(size), name=name) for name in ("three", "few"))
        coarse = Signal(signed(size + 1), name="coarse")
        product = Signal(signed(product_bits), name="product")
        times = [Signal(name=f"times_{n}") for n in (1, 2, 3)]
        fine = [_wide(number, size) & there.replicate(size)
                for number, there in zip((total, total << 1, three), times, strict=True)]
        more = Signal(signed(size), name="more")
        m.d.comb += [
            times[0].eq(code[0] & ~code[1]), times[1].eq(code[1] & ~code[0]),
            times[2].eq(code[0] & code[1]), more.eq(total[1:].as_signed() + total),
            three.eq(_with_sign(Cat(total[0], more), total, size)),
            few.eq(fine[0] | fine[1] | fine[2]), coarse.eq(Mux(code[2], three, total << 1)),
            product.eq(_with_sign(Cat(few[:2], coarse + (few >> 2)), total, product_bits))]
        sign, number = total[-1], product[:-1]
        for places, there in zip((1, 2, 4), code[3:], strict=True):
            # The bits of the number and, from its sign on, copies of that.
            wide = len(number) + places
            stays = Cat(number, sign.replicate(places))
            moved = Cat(Const(0, places), number)
            number = Signal(wide, name=f"by_{places}")
            m.d.comb += number.eq(Cat(Mux(there, moved[n], stays[n]) if n >= places else
                                      stays[n] & ~there for n in range(wide)))
        scaled = Signal(len(self.o), name="scaled", reset_less=True)
        m.d.sync += scaled.eq(_wide(Cat(number, sign), len(self.o)))
        m.d.comb += self.o.eq(scaled)

    def _two_and_more(self, m):
        """One bit of mantissa: 2, 3, 4 or 6 sums."""
        total = self.sum
        mantissa, odd, fine, high = self._held(m, self.code, "code")
        more = Signal(signed(len(total) + 2), name="more")
        m.d.comb += more.eq(Mux(odd, Mux(mantissa, total << 2, total << 1),
                                Mux(mantissa, total, 0)))
        product = Signal(signed(self.out.product_bits), name="product")
        m.d.comb += product.eq(_with_sign(
            add_number(total << 1, more, self.out.product_bits), total, self.out.product_bits))
        self._out(m, product, high, self._later(m, fine, "fine"))

    def _around_16(self, m):
        """Three bits of mantissa: 8 to 15 sums, or twice as many."""
        size = self.out.product_bits
        total = Signal(signed(max(len(self.sum), 2)), name="total")
        m.d.comb += total.eq(self.sum)
        minus, far, negative, *offs, fine, high = self._held(m, self.code, "word")
        offs.append(~(Cat(offs).all() & ~minus))
        # ~x + 1 is -x: the 1 is the carry into the addition.
        more, few = (Signal(signed(len(total) + 3), name=name) for name in ("more", "few"))
        m.d.comb += [
            more.eq(Mux(minus, Mux(far, ~(total << 3), ~(total << 2)), Mux(far, total << 2, 0))),
            # The two lowest bits of what is added are 0 with their carry.
            few.eq(Cat(total[:2], add_number(total >> 2, more >> 2, len(few) - 2, minus)))]
        copies = [self._gated(m, few, off, f"times_{1 << n}") for n, off in enumerate(offs)]
        below, start = self._later(m, negative, "below"), self._later(m, total, "start").as_signed()
        times = Signal(signed(size), name="times")
        m.d.comb += times.eq((copies[0] | copies[1] << 1 | copies[2] << 2 | copies[3] << 3)
                             ^ below.replicate(size).as_signed())
        product = Signal(signed(size), name="product")
        m.d.comb += product.eq(_with_sign(add_number(start << 4, times, size, below), start, size))
        self._out(m, product, self._later(m, high, "highest"),
                  self._later(m, self._later(m, fine, "fine"), "finest"),
                  self._later(m, ~high, "lowest"))


def _bits_of(magnitude):
    """Bits of signed numbers up to a magnitude."""
    return magnitude.bit_length() + 1


def _with_sign(product, number, bits):
    """A multiple of a number, by a factor above zero, in so many bits, which are enough: the
    highest one is the number's sign."""
    return Cat(product[:bits - 1], number[-1])


class ScaledSum(wiring.Component):
    """A column's accumulator without its memory: adds what a `BlockScaleCell` gives.

    Parameters
    ----------
    given : ScaledNumber or None
        None: what comes is the number itself.
    bits : int
        Of the number.

    Members
    -------
    number : In
        What a cell gives, or signed(bits).
    held, total : In(signed(bits + 6)), Out(signed(bits + 6))
        The total is `held` and the number, a cycle later.
    """

    def __init__(self, given: ScaledNumber | None, bits: int) -> None:
        self.given = given
        shape = signed(bits + 6)
        super().__init__({"number": In(given.shape if given else signed(bits)), "held": In(shape),
                          "total": Out(shape)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        number = self.given.number(self.number) if self.given else self.number
        m.d.sync += self.total.eq(add_number(self.held, number, len(self.held)))
        return m

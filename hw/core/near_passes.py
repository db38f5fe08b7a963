"""In which rows of a large array the passes of an ARRAY take place: `systolith.hw.spec.near`."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.near import near_rows
from systolith.hw.spec.timing import REVISIT

from .streamer import PixelStreamer

__all__ = ["NearPasses", "ShortDelay"]


class ShortDelay:
    """A delay line of what goes along with words: that of words for near rows leaves out as many
    stages as they skip rows, and comes to the stage `end` at once. It meets nothing there, as
    `NearPasses` keeps words apart.

    Parameters
    ----------
    arch : Arch
    end : int
        The number of a stage.
    rows : Value
        `NearPasses.rows`, with the word whose part enters the line's first stage; 0 without a word.
    reset_less : bool
        Of the line's registers.
    """

    def __init__(self, arch: Arch, end: int, rows: Value, reset_less: bool = False) -> None:
        self.end, self.rows, self.reset_less = end, rows, reset_less
        self.taps = {end - arch.rows + near: n for n, near in enumerate(near_rows(arch))}
        self.early: list[tuple[data.View, Value]] = []      # with whether it leaves the line there

    def stage(self, m: Module, number: int, entering: data.View, name: str) -> data.View:
        """What `entering` is a cycle later; stages are asked for in order."""
        delayed = Signal.like(entering, name=f"{name}_{number}", reset_less=self.reset_less)
        m.d.sync += delayed.eq(entering)
        if number in self.taps:
            leaves = self.rows[self.taps[number]]
            self.early.append((entering, leaves))
            with m.If(leaves):
                m.d.sync += delayed.as_value().eq(0)
        if number == self.end:
            for other, comes in self.early:
                with m.If(comes):
                    m.d.sync += delayed.eq(other)
        if self.taps and number < max(self.taps):
            rows, self.rows = self.rows, Signal(
                len(self.rows), name=f"{name}_near_{number}", reset_less=self.reset_less)
            m.d.sync += self.rows.eq(rows)
        return delayed


class NearPasses:
    """Which near rows the present instruction's passes meet, and when the next one's may follow:
    its words must not overtake sums that are on their way through more rows.

    After the last pixel of an instruction, one whose words skip more rows waits `REVISIT` cycles
    and as many as it skips rows more; where fillings overlap, until the last one is done, too.

    Attributes
    ----------
    rows : Signal(len(near_rows(arch)))
        Bit n: the passes take place in the last near_rows(arch)[n] rows; none: in all. From the
        cycle after `begin` on.
    same : Signal
        Those of the instruction before did, too.
    passed : Signal(2)
        In the next cycle the first pass of the instruction that begins now may begin, and that of
        the present one.
    """

    def __init__(self, arch: Arch) -> None:
        self.arch, self.near = arch, near_rows(arch)
        self.rows = Signal(len(self.near), name="near_rows")
        self.same = Signal(name="same_rows")
        self.passed = Signal(2, name="rows_passed")

    def _skipped(self, flags):
        """Rows that words skip."""
        return reduce(or_, (Mux(flag, self.arch.rows - number, 0)
                            for flag, number in zip(flags, self.near, strict=True)))

    def elaborate(self, m: Module, new: Value, pixels: PixelStreamer, swap: Value) -> None:
        """Drives the signals; `new` is the instruction at the unit's input, `swap` the feeder's."""
        near, rows, unit = self.near, self.arch.rows, self.arch.height_unit
        found = Signal.like(self.rows, name="new_near_rows")
        fits = [(new.height != 0) & (new.height <= number // unit) for number in near]
        usual = new.starts == 0
        if self.arch.side_taps:
            usual &= new.side == 0
        m.d.sync += found.eq(Mux(usual, Cat(fit & ~Cat(fits[:n]).any()
                                            for n, fit in enumerate(fits)), 0))
        with m.If(pixels.begin):
            m.d.sync += [self.rows.eq(found), self.same.eq(found == self.rows)]

        # cycles until words that skip most rows may follow
        most = rows - near[0]
        behind = Signal(range(most + REVISIT), init=most + REVISIT - 1)
        with m.If(pixels.step):
            m.d.sync += behind.eq(most + REVISIT - 1 - self._skipped(self.rows))
        with m.Elif(behind != 0):
            m.d.sync += behind.eq(behind - 1)

        filled: Value = Const(1)
        if self.arch.two_fillings:      # near rows need the lower rows' bus at once
            left = Signal(range(rows - 1))
            filled = (left == 0) & ~swap
            with m.If(swap):
                m.d.sync += left.eq(rows - 2)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)

        def passed(flags):
            return filled & ~pixels.step & Cat(
                flag & (behind <= number - near[0] + 1)
                for flag, number in zip(flags, near, strict=True)).any()
        sooner = self._skipped(found) > self._skipped(self.rows)
        waits = Signal(name="near_waits")       # the present instruction, for its first pass
        with m.If(pixels.begin):
            m.d.sync += waits.eq(sooner)
        with m.Elif(pixels.step):
            m.d.sync += waits.eq(0)
        m.d.comb += self.passed.eq(Cat(~sooner | passed(found), ~waits | passed(self.rows)))

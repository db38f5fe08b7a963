"""Where fillings overlap, the weight feeder reads each word once, at its address, and never two of
one memory, proven by induction on four chips; and the proof fails where the unit has a fault."""

from functools import reduce
from operator import and_

import pytest
from amaranth.hdl import Const, Module, Mux, Signal
from systolith.hw.core import feeder
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import REVISIT, shortest_pass

from .proofs import fails, opened, planted, prove, written

CHIPS = {rows: Arch(rows=rows, columns=2, two_fillings=True, weight_depth=64, activation_depth=64,
                    accumulator_depth=32) for rows in (3, 7, 8, 16)}


def prove_feeder(module, arch, folder):
    """Words are counted here, too: those of the upper rows that are left and the next one's
    address, then those of the lower rows, while the upper ones of the next filling are read."""
    component = module.WeightFeeder(arch=arch)
    m = Module()
    m.submodules.unit, own = opened(component)
    rows, fill, i = arch.upper_rows, arch.fill, component
    odd, polite, ok = Signal(), Signal(), Signal()
    # What the host of the unit keeps to: it swaps in what it has been told that it may.
    may, odd_before, odd_then, least, first, swapped, begun = (
        Signal(len(i.least) if name == "kept_least" else 1, name=name) for name in (
            "kept_may", "odd_before", "odd_then", "kept_least", "kept_first", "kept_swapped",
            "begun"))
    m.d.sync += [
        may.eq(i.loaded & ~i.swap & (i.alone | (odd == i.turn))), odd_before.eq(odd),
        odd_then.eq(odd_before), least.eq(Mux(i.first, shortest_pass(arch) - 1, i.least)),
        first.eq(i.first), swapped.eq(i.swap)]
    words, before = i.more + 1, Signal(range(fill + 1))
    following, upper_next, lower_next = (Signal(range(arch.weight_depth), name=name) for name in (
        "following_word", "upper_next", "lower_next"))
    upper, waits, lower = (Signal(range(fill + 1), name=name) for name in (
        "upper_left", "lower_waits", "lower_left"))
    newest = Signal()                       # the lower rows' words are those of the last filling
    bits = len(following)
    start = Mux(first, i.base, following)[:bits]
    top = Mux(words > rows, rows, words)
    present = Mux(swapped, start, upper_next)[:bits]
    reads = swapped | (upper != 0)
    rest = (Mux(swapped, top, upper) - 1)[:len(upper)]
    behind = Mux(swapped, words - top, waits)[:len(waits)]
    goes_on = reads & (rest == 0) & (behind != 0)
    with m.If(swapped):
        m.d.sync += [following.eq(start + words), before.eq(words), begun.eq(1)]
    with m.If(reads):
        m.d.sync += [upper.eq(rest), upper_next.eq(present + 1), waits.eq(behind)]
    with m.If(goes_on):
        m.d.sync += [lower.eq(behind), lower_next.eq(present + 1), newest.eq(1)]
    with m.Else():
        with m.If(lower != 0):
            m.d.sync += [lower.eq(lower - 1), lower_next.eq(lower_next + 1)]
        with m.If(swapped):
            m.d.sync += newest.eq(0)
    # An instruction whose rows beyond are idle has no fewer words than what came before.
    idle = first & i.idle
    enough = Mux(idle, i.least, least) + 1 >= Mux(top > REVISIT, top, REVISIT)
    # The addresses come a cycle after the words are decided on.
    was, was_lower = Signal(), Signal()
    address, below = Signal(bits, name="upper_then"), Signal(bits, name="lower_then")
    m.d.sync += [was.eq(reads), was_lower.eq(lower != 0), address.eq(present),
                 below.eq(lower_next)]
    m.d.comb += polite.eq(
        (~i.swap | may) & (i.more < fill) & ~(i.swap & ~begun & ~i.first & ~swapped)
        & (~swapped | ((start[0] == odd_then) & (first | (begun & (words == before)))
                       & enough & (~idle | ~begun | (words >= before)))))
    holds = [
        i.fetching == reads, i.fetching_below == (lower != 0),
        ~was | (i.address == address), ~was_lower | (i.below == below),
        ~(was & was_lower) | (address[0] != below[0]),
        ~goes_on | (lower <= 1),            # the last word of others is being decided on
        # what the unit keeps is what is kept here
        (upper == 0) | ((own["upper"] == (upper - 1)[:len(own["upper"])])
                        & (own["rest"] == waits) & (i.address == (upper_next - 1)[:bits])),
        (lower == 0) | (own["lower"] == (lower - 1)[:len(own["lower"])]),
        (lower == 0) | newest | (i.below == (lower_next - 1)[:bits]),
        (lower == 0) | ~newest | own["enters"] | (i.below == (lower_next - 1)[:bits]),
        ~own["enters"] | ((lower != 0) & (i.address == (lower_next - 1)[:bits])),
        own["filling"] == (upper != 0), own["swapped"] == swapped,
        begun | ((upper == 0) & (lower == 0)),
        ~swapped | (own["first"] == first), ~begun | (own["following"] == following),
        (upper == 0) | (waits == Mux(before > rows, before - rows, 0)),
        (lower == 0) | ~newest | (before > rows),
        # times
        i.loaded == (own["left"] <= 1), upper <= own["left"] + 1, lower <= fill - rows,
        (upper != 0) <= (waits <= fill - rows),
        ~swapped | (own["left"] == least), ~swapped | (upper == 0),
        (upper == 0) | (waits == 0) | (lower <= upper),
        (upper == 0) | ~newest | (lower == 0),
        (lower == 0) | newest | (lower <= own["left"] + 1),
        (upper == 0) | swapped | (own["undecided"] + 1 == upper + waits),
        (upper == 0) | swapped | (own["odd"] != upper_next[0]),
        (lower == 0) | ~newest | ((own["undecided"] + 1 == lower)
                                  & (own["odd"] != lower_next[0])),
        (lower == 0) | (upper == 0) | newest | (lower_next[0] != upper_next[0]),
    ]
    m.d.comb += ok.eq(reduce(and_, holds, Const(1)))
    prove(folder, written(m, component, ok=ok, polite=polite, odd=odd), ["polite"], steps=5)


@pytest.mark.parametrize("rows", CHIPS)
def test_each_word_is_read_once_and_never_two_of_one_memory(rows, tmp_path):
    prove_feeder(feeder, CHIPS[rows], tmp_path)


@pytest.mark.parametrize("old, new", [
    ("enters.eq(goes_on)", "enters.eq(ends)"),
    ("self.alone.eq(undecided <= 1)", "self.alone.eq(undecided <= 2)"),
    ("self.more - (rows - 1), 0)", "self.more - (rows - 1), 1)"),
    ("odd.eq(start[0])", "odd.eq(~start[0])"),
    ("left.eq(self.least - 1)", "left.eq(self.least >> 1)")])
def test_a_word_of_another_filling_is_found(old, new, tmp_path):
    fails(prove_feeder, planted(feeder, old, new), CHIPS[7], tmp_path)

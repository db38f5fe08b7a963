"""What units promise, proven by induction on four chips each; and that each proof fails where the
unit has a fault."""

from functools import reduce
from operator import and_, or_

import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from systolith.hw.core import legality, sequencer, store, streamer
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import HEAD, OPCODES
from systolith.hw.spec.legality import OPTIONS
from systolith.hw.spec.widths import kept_bits

from .proofs import fails, mostly_slow, opened, planted, prove, written

#: Narrow and wide buses, with and without parts.
ARCHS = [Arch(rows=4, columns=4, activation="int4", weight="int4", bus_bits=32, burst_beats=16),
         Arch(rows=2, columns=2, bus_bits=64, operand_depth=8, table_depth=256, address_bits=20),
         Arch(rows=3, columns=3, bus_bits=128, burst_beats=1, depthwise=True),
         Arch(rows=4, columns=4, activation="bipolar1", weight="bipolar1", bit_planes=True,
              bus_bits=256)]
chips = pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.bus_bits}")


def prove_wlast(module, arch, folder):
    """Each burst on AW has its beats on W, no more and no fewer, the last one with WLAST: kept
    here are the beats left of the bursts that are begun, the oldest first."""
    made = []

    class Outside(module.Outside):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Outside", Outside)
        component = module.Store(arch=arch)
        m = Module()
        m.submodules.unit, own = opened(component)
    axi, goes = component.axi, own["begin"] & ~made[0].outside
    newest = Signal(8)
    left = [Signal(8, name=f"left_{n}") for n in range(3)]
    there = [Signal(name=f"there_{n}") for n in range(3)]
    sent = axi.wvalid & axi.wready
    ends = sent & (left[0] == 0)
    for n in range(3):
        # moved up where the oldest one ends, then the new one at the end
        up, up_there = (left[n + 1], there[n + 1]) if n < 2 else (left[2], 0)
        before = there[n - 1] if n else 1
        filled = Mux(ends, there[n], before) & ~Mux(ends, up_there, there[n])
        m.d.sync += [
            left[n].eq(Mux(goes & filled, made[0].length,
                           Mux(ends, up, left[n] - (sent if n == 0 else 0)))),
            there[n].eq((goes & filled) | Mux(ends, up_there, there[n]))]
    with m.If(goes):
        m.d.sync += newest.eq(made[0].length)
    promised, waits, more, then = (own[name] for name in (
        "promised", "waits", "more", "more_then"))
    final = axi.wvalid & axi.wlast
    middle = axi.wvalid & ~axi.wlast
    # the burst whose beats are made, and the one after it
    one, two = ((Mux(final, a, b)) for a, b in (
        (Cat(there[1], left[1]), Cat(there[0], left[0])),
        (Cat(there[2], left[2]), Cat(there[1], left[1]))))
    ok = Signal()
    m.d.comb += ok.eq(
        (~axi.awvalid | (axi.awlen == newest))
        & (~axi.wvalid | (there[0] & (axi.wlast == (left[0] == 0))))
        & (~waits | promised) & (~middle | promised)
        & (promised == one[0]) & (~promised | (one[1:] == more + middle))
        & (waits == two[0]) & (~waits | (two[1:] == then))
        & (final | ~there[2]) & (~there[2] | there[1]) & (~there[1] | there[0]))
    prove(folder, written(m, component, ok=ok), steps=3)


@chips
def test_a_write_burst_has_its_beats_and_wlast_is_its_last(arch, tmp_path):
    prove_wlast(store, arch, tmp_path)


@pytest.mark.parametrize("old, new", mostly_slow([
    ("last.eq(burst.more == 0),", "last.eq(burst.more <= 1),"),
    ("m.d.sync += burst.waits.eq(1)", "pass"),
    ("burst.ends.eq(make & last)", "burst.ends.eq(burst.promised & free & last)")]))
def test_a_beat_too_few_and_a_burst_forgotten_are_found(old, new, tmp_path):
    fails(prove_wlast, planted(store, old, new), ARCHS[0], tmp_path)


def legal(word, arch, beat):
    """Whether what ends in a beat of an instruction is as the tables of the ISA say."""
    found = [] if beat else [reduce(or_, (word[:HEAD[0].width] == opcode for opcode in OPCODES))]
    for opcode, fields in OPCODES.items():
        position, terms = 0, []
        for item in HEAD + fields:
            field = word[position:position + item.width]
            value = field.as_signed() if item.signed else field
            position += item.width
            if (position - 1) // arch.bus_bits != beat:
                continue
            if item.name in ("wait", "signal") and opcode.unit is not None:
                terms.append(~field[opcode.unit])
            if item in fields:
                terms += [value >= item.low, value <= item.high]
                if item.name in ("address", "row_stride", "item_stride"):
                    terms.append(value < 1 << kept_bits(arch, opcode)[item.name])
            terms += [~((value >= option.low) & (value <= option.high)) for option in OPTIONS
                      if (option.opcode, option.field) == (opcode, item.name)
                      and not getattr(arch, option.part)]
        found += [(word[:HEAD[0].width] != opcode) | reduce(and_, terms)] if terms else []
    return reduce(and_, found) if found else Const(1)


def prove_check(module, arch, folder):
    """Of every instruction, however its beats come, `illegal` says what the tables say: kept here
    is the instruction as a whole."""
    component = module.InstructionCheck(arch=arch)
    m = Module()
    m.submodules.unit, own = opened(component)
    beats = [Signal(arch.bus_bits, name=f"beat_{n}") for n in range(component.beats)]
    valid, place = component.valid, component.place
    following, before = Signal.like(place), Signal(arch.bus_bits)
    came, place_then, good, begun = Signal(), Signal.like(place), Signal(), Signal()
    for n, kept in enumerate(beats):
        with m.If(valid & (place == n)):
            m.d.sync += kept.eq(component.beat)
    with m.If(valid):
        m.d.sync += [following.eq(Mux(place == component.beats - 1, 0, place + 1)),
                     before.eq(component.beat)]
    instruction = Signal(arch.bus_bits * component.beats)
    m.d.comb += instruction.eq(Cat(*beats))
    m.d.sync += [came.eq(valid), place_then.eq(place)]
    for n in range(component.beats):
        with m.If(came & (place_then == n)):
            m.d.sync += [good.eq((good | (n == 0)) & legal(instruction, arch, n)), begun.eq(1)]
    polite, ok = Signal(), Signal()
    m.d.comb += [
        polite.eq(~valid | ((place == following) & (component.last_beat == before))),
        ok.eq((~begun | (component.illegal == ~good)) & (begun | came | (following == 0))
              & (~(begun | came) | (component.opcode == beats[0][:HEAD[0].width]))
              & (own["valid"] == came) & (~came | (own["place"] == place_then))
              & (following < component.beats)
              & Cat((following != n) | (before == beats[n - 1])
                    for n in range(1, component.beats)).all()
              & Cat(~came | (place_then != n) | (following == (n + 1) % component.beats)
                    for n in range(component.beats)).all())]
    prove(folder, written(m, component, ok=ok, polite=polite), ["polite"], steps=4)


@chips
def test_what_the_check_lets_pass_is_what_the_tables_allow(arch, tmp_path):
    prove_check(legality, arch, tmp_path)


@pytest.mark.parametrize("old, new", mostly_slow([
    ("found[number].append(~mask[opcode.unit])", "found[number].append(~mask[opcode.unit - 1])"),
    ("(found & (place != 0)) | reduce(or_, terms)", "reduce(or_, terms)"),
    ("value != least if low == least + 1 else", "value >= least if low == least + 1 else")]))
def test_an_instruction_let_pass_is_found(old, new, tmp_path):
    fails(prove_check, planted(legality, old, new), ARCHS[2], tmp_path)


def prove_streamer(module, arch, folder):
    """Every pixel of every pass once and in order: the loops' numbers are counted here, too."""
    component = module.PixelStreamer(arch=arch)
    m = Module()
    m.submodules.unit, own = opened(component)
    names = module._LOOPS
    new = component.instruction
    at, count = ({name: Signal(new[name].shape(), name=f"{what}_{name}") for name in names}
                 for what in ("at", "count"))
    begun, held = Signal(), Signal(len(new.as_value()))
    with m.If(component.begin):
        m.d.sync += [begun.eq(1), *(at[name].eq(1) for name in names),
                     *(count[name].eq(new[name]) for name in names)]
    reached = component.step
    last = {name: at[name] == count[name] for name in names}
    for name in names:
        with m.If(reached & ~component.begin):
            m.d.sync += at[name].eq(Mux(last[name], 1, at[name] + 1))
        reached = reached & last[name]
    began = Signal()
    m.d.sync += [held.eq(new.as_value()), began.eq(component.begin)]
    first = reduce(and_, (at[name] == 1 for name in names[:4]))
    begins_pass = reduce(and_, (at[name] == 1 for name in names[4:]))
    polite, ok = Signal(), Signal()
    same = held == new.as_value()
    m.d.comb += [
        polite.eq((~component.begin | same) & (~began | same)
                  & reduce(and_, (new[name] != 0 for name in names))),
        ok.eq(~component.running | (
            begun & reduce(and_, (
                (own[f"{name}_last"] == last[name]) & (at[name] != 0) & (count[name] != 0)
                & (own[f"{name}_single"] == (count[name] == 1)) & (own[name] == count[name])
                & (own[f"{name}_following"] == (at[name] + 1)[:len(at[name])])
                & (at[name] <= count[name])
                for name in names))
            & (component.first_pixel == first) & (component.first_pass == begins_pass)))]
    prove(folder, written(m, component, ok=ok, polite=polite), ["polite"], steps=3)


@chips
def test_every_pixel_comes_once_and_in_order(arch, tmp_path):
    prove_streamer(streamer, arch, tmp_path)


@pytest.mark.parametrize("old, new", [
    ("m.d.sync += following.eq(2)", "m.d.sync += following.eq(1)"),
    ("reached = reached & last[name]", "reached = last[name]"),
    ("m.d.sync += self.first_pixel.eq(self.last_pixel)",
     "m.d.sync += self.first_pixel.eq(self.last_column)")])
def test_a_pixel_too_many_is_found(old, new, tmp_path):
    fails(prove_streamer, planted(streamer, old, new), ARCHS[0], tmp_path)


def prove_sequencer(module, arch, folder):
    """A run in which nothing moves for WATCHDOG cycles ends with an error two cycles later; and
    only instructions that the check lets pass are given to units, each to its own."""
    made = []

    class Check(module.InstructionCheck):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "InstructionCheck", Check)
        component = module.Sequencer(arch=arch)
        m = Module()
        m.submodules.unit, own = opened(component)
    check, passed = made[0], Signal(4)
    m.d.sync += passed.eq(Mux(check.illegal | check.foreign | component.halt | ~component.busy, 0,
                              own["opcode"]))
    still, watchdog = Signal(arch.watchdog_bits + 2), Signal(32)
    begun, polite, ok = Signal(), Signal(), Signal()
    busy, error = component.busy, component.report.valid
    moves = (component.start | own["executed"] | component.progress | component.read.beats.valid)
    m.d.sync += [watchdog.eq(component.watchdog), begun.eq(1),
                 still.eq(Mux(moves | ~busy, 0, still + 1))]
    m.d.comb += [
        polite.eq((~begun | (component.watchdog == watchdog)) & ~component.stop
                  & (component.watchdog < 1 << arch.watchdog_bits)
                  & ~(component.start & (busy | error))),
        ok.eq((~busy | error | (component.watchdog == 0) | ~begun | (
            (still <= component.watchdog + 1)
            & ((still == 0) | ((own["age"] == still) & ~own["moved"]))
            & ((still <= component.watchdog) | own["expired"])))
              & Cat(~own["commit"][opcode.unit] | (passed == opcode) for opcode in OPCODES
                    if opcode.unit is not None).all())]
    prove(folder, written(m, component, ok=ok, polite=polite), ["polite"], steps=4)


@chips
def test_a_run_ends_within_the_watchdogs_bound_and_units_get_what_was_checked(arch, tmp_path):
    prove_sequencer(sequencer, arch, tmp_path)


@pytest.mark.parametrize("old, new", mostly_slow([
    ("(age == self.watchdog) |", "(age == self.watchdog + 4) |"),
    ("with m.If(moved | ~waits):", "with m.If(moved | ~waits | queues_are_full):"),
    ("m.d.comb += waits.eq(self.busy | self.stop)", "m.d.comb += waits.eq(self.stop)"),
    ("& ~failed & ~check.illegal\n", "& ~failed\n")]))
def test_a_watchdog_that_sleeps_and_an_unchecked_instruction_are_found(old, new, tmp_path):
    new = new.replace("queues_are_full", "self.unit_busy.all()")
    fails(prove_sequencer, planted(sequencer, old, new), ARCHS[1], tmp_path)

"""Load: fills the chip's memories from external memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.memories import Space, loadable, memory_flags, word_bytes
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import LOAD_BURSTS, SHORT_RUN

from .arbiter import LoadSignature, burst_share, load_tag
from .bursts import Bursts
from .unit import ExecutionUnit
from .windows import no_windows, windows

__all__ = ["Load"]

_LAYOUT = isa.layout(Opcode.LOAD)


class Load(ExecutionUnit):
    """Executes LOAD instructions.

    A front half makes runs of beats, one for each row, which `Bursts` cuts; a back half puts the
    beats together into words. Each burst carries what the back needs, so that bursts of several
    instructions may be outstanding, `LOAD_BURSTS` in all, and the latency of many small loads
    overlaps.

    Timing of the front: the first run of an instruction that is at `i` from cycle v on is ready
    from v + 1; that of the next row two cycles after the one before was handed to `Bursts`. An
    instruction is started (tokens taken) with its first run: in the first cycle in which the run
    is ready, tokens are available and `Bursts` accepts. With its last run it is popped from `i`.
    A burst is asked for while there is room for it in the `LOAD_BURSTS` that are asked for and not
    completely received (one whose last beat comes in cycle t makes room from t + 1); all but those
    of runs of at most `SHORT_RUN` beats on chips with windows count twice. It is taken a cycle
    after it was issued on the bus (see `ReadArbiter`, which asks for nothing more after an error).

    Timing of the back: beats are taken one a cycle, except while a finished word waits. A word
    whose last beat comes in cycle t is at `o` from cycle t + 1. When the instruction's last word
    is taken in cycle t, `give` is high in cycle t + 1.

    Windows come from a register of the last bytes. Beats for it are taken while fewer than
    `CUT_BEATS` wait, and can be shifted into it from two cycles after they were taken on, one a
    cycle. `ahead` counts the bytes beyond the next word's end; the word goes to `o` a cycle after
    it is 0 or more, when `o` is free. A beat is shifted in while it is less than a beat's bytes, or
    will be after the word that leaves in this cycle. After a run's last word comes the first one of
    the next run, of the same instruction or the next one, whose end is the spare bytes and a word
    further: a beat of the next run comes in while the run's last words leave. Beats of other words
    are taken from the cycle after the last window has gone to `o` on.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. `busy`: an instruction has been started and its tokens have not been
        given. `progress`: a word is taken at `o`.
    read : Out(LoadSignature)
    o : Out(stream)
        One word per transfer: `memory` (one bit for each `Memory`; all 0 while there is no word),
        `address` (to be truncated to the memory's depth) and the word as each memory has it in
        `activation` (the operand memory, too), `weight`, `parameter` and, if the chip has them,
        `table` and `pool` (only the one that `memory` names is meaningful). While `ready` is low no
        beat is taken, so it should be high while there is no word.
    upcoming : Out(memory_flags(arch)), upcoming_odd : Out(1)
        `memory` and the lowest bit of `address` of the next cycle, so that `ready` can be a
        register.
    """

    def __init__(self, *, arch: Arch) -> None:
        tag = load_tag(arch)
        super().__init__(Opcode.LOAD, arch=arch, own={
            "read": Out(LoadSignature(arch)),
            "o": Out(stream.Signature(data.StructLayout({
                "memory": memory_flags(arch), "address": tag["base"].shape, **{
                    row.name: row.bits(arch) for row in loadable(arch)
                    if row.space != Space.OPERAND}}))),
            "upcoming": Out(memory_flags(arch)), "upcoming_odd": Out(1),
        })

    def _word_beats(self) -> dict[Memory, int]:
        """Beats of a word of each memory."""
        arch = self.arch
        return {Memory(row.space): word_bytes(row.space, arch) // arch.beat_bytes
                for row in loadable(arch)}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        request, beats = self.read.request, self.read.beats
        run_bits = max(len(self.i.payload.words) + max(self._word_beats().values()).bit_length(),
                       len(self.i.payload.word_beats))
        m.submodules.bursts = bursts = Bursts(arch=self.arch, run_bits=run_bits,
                                              tag=load_tag(self.arch))
        outstanding = Signal(range(LOAD_BURSTS + 1))
        asks, gives = (burst_share(self.arch, tag) for tag in (
            bursts.o.payload.tag, beats.payload.tag))
        room = Mux(asks[0], outstanding != LOAD_BURSTS, outstanding < LOAD_BURSTS - 1)
        m.d.comb += [
            request.payload.eq(bursts.o.payload),
            request.valid.eq(bursts.o.valid & room),
            bursts.o.ready.eq(request.ready),
        ]
        asked = request.ready           # only while it is valid
        ended = beats.valid & beats.ready & beats.payload.stops
        m.d.sync += outstanding.eq(outstanding + Mux(asked, asks, 0) - Mux(ended, gives, 0))

        started, missing = self._elaborate_front(m, bursts)
        giving, full, holds = self._elaborate_back(m)
        # in work before a word is complete; at all
        reads = Signal()
        works = Signal()
        m.d.comb += [
            reads.eq(started | bursts.busy | (outstanding != 0)),
            works.eq(reads | full | holds | self.o.valid | giving),
            self.busy.eq(works),
            self.progress.eq(self.o.valid & self.o.ready),
        ]
        self.say(m, (self.o.valid & ~self.o.ready, UnitState.UNIT),
                 (reads & ~full & ~holds & ~beats.valid, UnitState.MEMORY),
                 ((missing != 0) & ~works, UnitState.TOKENS),
                 (works | self.i.valid, UnitState.RUNNING))
        m.d.sync += self.missing.eq(missing)
        return m

    def _elaborate_front(self, m, bursts):
        """Starts instructions and makes their runs; returns the signal that there are more runs to
        come of one that is started, and the units whose tokens are missing."""
        instruction, run = self.i.payload, bursts.run
        beat_bits = (self.arch.beat_bytes - 1).bit_length()

        beats = Signal.like(run.payload.beats)
        counts = self._word_beats()
        count = Signal(range(max(counts.values()) + 1))     # of a word
        product = sum(((instruction.words & bit.replicate(len(instruction.words))) << n
                       for n, bit in enumerate(count)), Const(0))
        if self.arch.load_windows:
            m.d.comb += beats.eq(Mux(instruction.step_even.any(), instruction.word_beats, product))
        else:
            m.d.comb += beats.eq(product)
        with m.If(instruction.word_beats != 0):
            m.d.comb += count.eq(instruction.word_beats)
        with m.Else():
            with m.Switch(instruction.memory):
                for memory, whole in counts.items():
                    with m.Case(memory):
                        m.d.comb += count.eq(whole)

        # the run that is ready, or was the last one
        ready = Signal()
        offset = Signal.like(run.payload.offset, reset_less=True)
        base = Signal.like(run.payload.tag.base, reset_less=True)
        length = Signal.like(beats, reset_less=True)
        last_beat = Signal.like(run.payload.tag.last_beat, reset_less=True)
        wait = Signal.like(instruction.wait, reset_less=True)
        final = Signal()
        # of the run to be made ready: its number, from 1 up
        number = Signal(_LAYOUT["rows"].shape, init=1)

        started = Signal()
        missing = Signal.like(self.missing)
        accept = Signal()
        m.d.comb += [
            missing.eq(Mux(ready, wait & ~self.available, 0)),
            run.valid.eq(ready & ((wait & ~self.available) == 0)),
            accept.eq(run.valid & run.ready),
            self.take.eq(Mux(accept, wait, 0)),
            self.i.ready.eq(accept & final),
            run.payload.offset.eq(offset),
            run.payload.beats.eq(length),
            run.payload.tag.memory.eq(1 << instruction.memory),
            run.payload.tag.base.eq(base),
            run.payload.tag.last_beat.eq(last_beat),
            *([run.payload.tag.repeats.eq(
                ((instruction.memory == Memory.WEIGHT) | (instruction.memory == Memory.PARAMETER))
                & ((last_beat & (last_beat + 1)) == 0))] if self.arch.side_taps else ()),
            run.payload.tag.layer.eq(instruction.layer),
            run.payload.tag.signal.eq(instruction.signal),
            run.payload.tag.final.eq(final),
            *([run.payload.tag.short.eq(length <= SHORT_RUN)] + [
                run.payload.tag[name].eq(instruction[name])
                for name in ("step_even", "step_odd", "spare")] if self.arch.load_windows else ()),
        ]
        with m.If(ready & final):       # whether it is accepted is known late
            m.d.sync += number.eq(1)
        with m.If(accept):
            m.d.sync += [ready.eq(0), started.eq(~final)]
        with m.Elif(self.i.valid & ~ready):
            m.d.sync += [
                ready.eq(1), length.eq(beats), last_beat.eq(count - 1),
                wait.eq(Mux(started, 0, instruction.wait)),
                offset.eq(Mux(started, offset + instruction.row_stride[beat_bits:],
                              instruction.address[beat_bits:])),
                base.eq(Mux(started, base + instruction.base_stride, instruction.base)),
                final.eq(number == instruction.rows),
                number.eq(number + 1),
            ]
        return started, missing

    def _elaborate_back(self, m):
        """Puts beats together into words; returns the signals that the last cycle has taken one,
        that a window waits for the output, and that beats of windows wait.

        The register of the beats is the register of the output: the next word's first beat comes
        in while the word leaves.
        """
        arch, beats = self.arch, self.read.beats
        slots = max(self._word_beats().values())
        tag = beats.payload.tag

        beat = Signal(range(slots))         # of the word
        fresh = Signal(init=1)              # it is the first one
        address = Signal.like(tag.base, reset_less=True)
        word = Signal.like(tag.base)        # address of the word that the beat belongs to
        taken = Signal()
        word_ends = Signal()
        window = (windows(m, arch, beats, self.o.ready) if arch.load_windows
                  else no_windows(self.o.ready))
        m.d.comb += [
            beats.ready.eq(window.ready),
            taken.eq(beats.valid & beats.ready & ~window.wanted),
            word_ends.eq(beat == tag.last_beat),
            word.eq(Mux(beats.payload.starts & beats.payload.first, tag.base, address)),
        ]

        content = Signal(slots * arch.bus_bits, reset_less=True)
        # Windows have a register of their own, so that the other one keeps its resets.
        cut = Signal(arch.activation_bits, reset_less=True)
        is_cut = Signal()
        signal = Signal(4)
        giving = Signal()
        m.d.sync += self.o.payload.memory.eq(self.upcoming)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.Else():
            m.d.comb += self.upcoming.eq(self.o.payload.memory)
            m.d.comb += self.upcoming_odd.eq(self.o.payload.address[0])
        # Until a beat comes, its place takes over what the bus has: whether one does is known late,
        # and the register is large.
        with m.If(self.o.ready):
            if slots > 1:
                with m.If(fresh):               # what no beat brings is 0
                    m.d.sync += content[arch.bus_bits:].eq(0)
            for slot in range(slots):
                with m.If(beat == slot if slot else fresh):
                    m.d.sync += content.word_select(slot, arch.bus_bits).eq(beats.payload.data)
        if arch.side_taps:
            self._elaborate_repeats(m, content, beat, taken)
        with m.If(taken):
            m.d.sync += [beat.eq(Mux(word_ends, 0, beat + 1)), fresh.eq(word_ends),
                         address.eq(word + word_ends)]
            with m.If(word_ends):
                m.d.comb += [self.upcoming.eq(tag.memory), self.upcoming_odd.eq(word[0])]
                m.d.sync += [
                    self.o.valid.eq(1),
                    self.o.payload.address.eq(word),
                    signal.eq(Mux(beats.payload.stops & beats.payload.ends & tag.final,
                                  tag.signal, 0)),
                ]
        if arch.load_windows:
            with m.If(taken & word_ends):
                m.d.sync += is_cut.eq(0)
            with m.If(window.leaves):
                m.d.comb += [self.upcoming.eq(1 << Memory.ACTIVATION),
                             self.upcoming_odd.eq(window.address[0])]
                m.d.sync += [
                    cut.eq(window.word), is_cut.eq(1), self.o.valid.eq(1),
                    self.o.payload.address.eq(window.address),
                    signal.eq(Mux(window.ends, window.signal, 0)),
                ]
        m.d.sync += [
            giving.eq(self.o.valid & self.o.ready),
            self.give.eq(Mux(self.o.valid & self.o.ready, signal, 0)),
        ]
        groups = Cat(content[8 * n * arch.group_bytes:][:arch.group_bits]
                     for n in range(arch.groups_per_word))
        if arch.load_windows:
            groups = Mux(is_cut, cut, groups)
        m.d.comb += [
            self.o.payload[name].eq(groups if name == "activation" else content)
            for name, _ in self.o.payload.shape() if name not in ("memory", "address")
        ]
        return giving, window.full, window.holds

    def _elaborate_repeats(self, m, content, beat, taken):
        """Beats of weight and parameter words whose number is a power of two go to each place that
        they repeat in. That of a word's first beat is the bus's until it comes, then the word's
        own."""
        tag = self.read.beats.payload.tag
        repeats = Signal()
        ends = Signal.like(tag.last_beat)
        repeats_held = Signal()
        ends_held = Signal.like(tag.last_beat)
        with m.If(beat == 0):
            m.d.comb += [repeats.eq(tag.repeats), ends.eq(tag.last_beat)]
            with m.If(taken):
                m.d.sync += [repeats_held.eq(repeats), ends_held.eq(ends)]
        with m.Else():
            m.d.comb += [repeats.eq(repeats_held), ends.eq(ends_held)]
        for slot in range(1, len(content) // self.arch.bus_bits):
            with m.If(self.o.ready & repeats & ((ends & slot) == beat)):
                m.d.sync += content.word_select(slot, self.arch.bus_bits).eq(
                    self.read.beats.payload.data)

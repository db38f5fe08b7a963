"""Cycle model: how long a program takes on the core, to the cycle, without simulating cycles.

The units are processes that tell each other *when* things happen (see `events.py`): a token is
available, an item can be read, a queue has room. Between two such readings, a process computes the
cycles of all that it does in one step: the passes of an ARRAY instruction are one sum, the beats of
a burst another. Most processes are independent, so they run without a global clock; only shared
ports are arbitrated in cycle order: the read address channel, and the write ports that LOAD and
POST share.

Cycle 0 is the one in which the sequencer sees `start`. Memory behaves as `sim/rtl/memory.sv` does
without stalls: a read burst's first beat comes `latency` cycles after its address was accepted,
beats follow one a cycle in the order of addresses, a response `latency` cycles after the last
write beat. The rules of each unit stand in its docstring in `hw`; this file repeats them as sums.
"""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec import timing
from systolith.hw.spec.counts import Counts
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Destination, Memory, Opcode, Pooling, Unit
from systolith.hw.spec.loops import chunk_count, moved_bytes, pixels, run_bytes
from systolith.hw.spec.memories import loaded_bytes
from systolith.hw.spec.near import columns_behind, last_column, near_columns, skipped_rows
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import COUNTED, UnitState

from .activity import Activity
from .array_passes import ArrayPasses
from .bursts import bursts_of
from .events import At, Channel, Events, Process
from .queues import InstructionQueues
from .stores import Stores
from .windows import Run, Windows

__all__ = ["Model", "Stuck", "Timing", "cycles"]


#: The units of each set of them, as bits.
_SETS = [[unit for unit in Unit if bits >> unit & 1] for bits in range(1 << len(Unit))]


class Stuck(RuntimeError):
    """A program that would never end: which instruction each unit would wait for."""


@dataclass
class Timing(Counts):
    """Cycle counts as the core's registers show them, and when each instruction was at work.

    Attributes
    ----------
    instructions : list of (start, end)
        In program order, in cycles after the start: when its tokens were taken (ARRAY: its first
        pixel decided on) and when its own were given; BEGIN and END: when they left.
    waits : dict of Unit to list of (UnitState, first, last, unit)
        When each unit waited, both cycles included, in order: the unit is the one whose token came
        last, None where it did not wait for tokens.
    compute_first, compute_last : int
    activity : dict
        Counted whether or not the chip has counters.
    """
    compute_first: int
    compute_last: int
    activity: dict[str, dict[str, int]]
    instructions: list
    waits: dict

    @property
    def compute_cycles(self) -> int:
        """From the start of the first array pass to the last result, both included."""
        return super().compute_cycles or 0


def cycles(program: Program, latency: int = 32) -> Timing:
    """The `Timing` of a Program on its chip with a memory of this latency (1 or more); of a core
    among several, while the others leave the bus alone.

    Raises Stuck for a program that never ends.
    """
    events = Events()
    model = Model(program, latency + timing.shared_latency(program.arch), events)
    events.run(model.processes())
    return model.timing()


class Model:
    """A core that is started in cycle `start` and has the bus for itself, with a memory that
    answers `latency` cycles after an address was accepted. `shared_cycles.py` has those that share
    it."""
    #: What its STORE is.
    stores_type: ClassVar[type[Stores]] = Stores

    def __init__(self, program: Program, latency: int, events: Events, start: int = 0) -> None:
        self.program, self.arch, self.latency = program, program.arch, latency
        self.events, self.start = events, start
        self.array_latency = timing.array_latency(self.arch, arithmetic_of(self.arch).stages)
        # of each number of near columns, and of all: how many, cycles from their last sum to all
        self.near = [(columns, columns_behind(columns, self.arch))
                     for columns in (*near_columns(self.arch), self.arch.columns)]
        self.code_beats = self.arch.instruction_bytes // self.arch.beat_bytes
        self.item_latency = cache(partial(timing.item_latency, self.arch))
        self._put = self.events.put

        tokens = {(giver, taker): Channel() for giver in Unit for taker in Unit}
        # for each unit and each set of units, as bits: the channels to those, and from them
        self.to = {giver: [[tokens[giver, taker] for taker in some] for some in _SETS]
                   for giver in Unit}
        self.of = {taker: [[(giver, tokens[giver, taker]) for giver in some] for some in _SETS]
                   for taker in Unit}
        self.queues = InstructionQueues(self.arch, self.events)
        self.slots = Channel([start + 1] * timing.FETCHES)    # a fetch may be decided on
        # what was asked for: (client, beats, when, from when on the first beat is there)
        self.bursts = Channel()
        self.fetched = Channel()           # (first beat, beats)
        self.loading = Channel()           # instructions of load's bursts, in order
        self.load_room = Channel([0] * timing.LOAD_BURSTS)
        # LOADs of windows: those that may not be done, their beats, room for these, and their ends
        self.cuts, self.windows = 0, Windows(self.arch.window_bytes,
                                               self.arch.beat_bytes)
        self.cut_beats, self.cut_room = Channel(), Channel([0] * timing.CUT_BEATS)
        self.cut_ends = Channel()
        self.loads_end = Channel()          # of instructions

        self.times: list[tuple[int, int] | None] = [None] * len(program.instructions)
        self.activity = {unit: Activity() for unit in Unit}
        self.stores = self.stores_type(self)
        self.first_pass: int | None = None
        self.last_result = 1
        self.summed = 0                     # when ARRAY's last token came that POST has taken
        self.address_free = 0               # a burst can be issued on the read address channel
        self.asks = False                   # it waits there for the bus
        self.fetch_issued = 0               # the last request of the sequencer's
        self.fetching = False               # one waits for that channel
        self.opened = 0                     # from when on the last burst's beats are accepted
        self.reads_end = 0
        self.end_seen = None                # the cycle from which END is in the head
        # (first, period, last, instruction, number of the first) of POST's writes, in each memory
        # that it shares with LOAD
        self.written: dict[Memory, deque[tuple[int, int, int, Instruction, int]]] = {
            Memory.ACTIVATION: deque(), Memory.OPERAND: deque()}

    def processes(self) -> list[Process]:
        """What `Events` runs."""
        return [self._fetch(), self._execute(), *map(self.queues.deliver, Unit), self._load(),
                self._read(), self._cut(), self._array(), self._post(),
                *self.stores.processes()]

    # Tokens.

    def give(self, giver: Unit, instruction: Instruction, cycle: int, takers: int = 15) -> None:
        """Tokens given in `cycle`, to units of `takers`, as bits."""
        for channel in self.to[giver][instruction.signal & takers]:
            self._put(channel, cycle + 1)

    def take(self, taker: Unit, instruction: Instruction, late: int = 0
             ) -> Generator[Any, Any, int]:
        """Generates the channels to read; its value is when the last token is available: ARRAY's is
        `late` cycles later for POST, where it reads more columns than the fewest."""
        latest = 0
        for giver, channel in self.of[taker][instruction.wait]:
            given = yield channel
            if taker is Unit.POST and giver is Unit.ARRAY:
                self.summed = given
                given += late
            if given >= latest:
                latest, self.activity[taker].giver = given, giver
        return latest

    def timing(self) -> Timing:
        """After all events. Raises Stuck."""
        waiting = {code.unit.name.lower(): number
                   for number, code in reversed(list(enumerate(self.program.instructions)))
                   if code.unit is not None and self.times[number] is None}
        if waiting or self.end_seen is None:
            raise Stuck("the program never ends" + "".join(
                f"; {unit} waits in instruction {number}" for unit, number in waiting.items()))
        last = 1 + max([self.end_seen, self.reads_end + 1,
                        *(activity.end + 1 for activity in self.activity.values()),
                        # without prefetch its queue is empty a cycle after it is idle
                        self.activity[Unit.POST].end + 2 - self.arch.prefetch])
        self.times[-1] = (last, last)
        self.activity[Unit.STORE].wait(UnitState.MEMORY, *self.stores.answers)
        return Timing(cycles=last - self.start, compute_first=(self.first_pass or 1) - 1,
                      compute_last=self.last_result - 1, instructions=self.times,
                      waits={unit: activity.waits for unit, activity in self.activity.items()},
                      activity={unit.name.lower(): activity.counts(COUNTED[unit])
                                for unit, activity in self.activity.items()})

    # The sequencer.

    def _fetch_again(self, end_seen):
        """BEGIN once more, after END, when everything that LOAD has asked for has come."""
        units = [code.unit for code in self.program.instructions if code.unit is not None]
        free = loaded = 0
        for _ in units:
            free = max(free, (yield self.queues.freed))
        for _ in range(units.count(Unit.LOAD)):
            loaded = yield self.loads_end
        yield At(end_seen, 1)
        cycle = end_seen
        while self.fetching:
            cycle += 1
            yield At(cycle, 1)
        rewound = max(end_seen, self.fetch_issued + 2) + 1
        decided = max(rewound, loaded + 1, free + 1)
        yield from self._issue(decided + 1, 0, (None, timing.last_beats(self.arch)))

    def _fetch(self):
        arch = self.arch
        offset, issued = self.program.code_offset, -1
        while True:
            decided = yield self.slots
            rest = arch.instruction_bytes
            while rest:
                decided = max(decided, issued + 2)
                yield At(decided, 0)
                while (later := (yield from self.queues.room(decided))) > decided:
                    decided = later
                    yield At(decided, 0)
                if self.end_seen is not None and self.end_seen <= decided:
                    return
                size = min(rest, PAGE_BYTES - offset % PAGE_BYTES)
                outside = offset + size > self.program.window_bytes
                self.fetching = True
                issued = self.fetch_issued = yield from self._issue(
                    decided + 1, 0, None if outside else (None, size // arch.beat_bytes))
                self.fetching = False
                if outside:
                    return
                rest -= size
                offset += size

    def _issue(self, cycle, turn, burst):
        """Generates what to wait for until a burst (client, beats) is issued that can be from
        `cycle` on; its value is when. The lower turn goes first. None: one that is outside the
        window, which takes its turn alone."""
        while True:
            cycle = max(cycle, self.address_free)
            yield At(cycle, turn)
            if not self.asks and cycle >= self.address_free:
                self.address_free = cycle + 2
                if burst is not None:
                    self._ask(burst, cycle)
                return cycle
            cycle += self.asks

    def _ask(self, burst, issued):
        """A burst is on the read address channel from the cycle after on."""
        self._put(self.bursts, (*burst, issued, issued + 1 + self.latency))

    def _execute(self):
        for number, code in enumerate(self.program.instructions):
            rest = self.code_beats
            while rest:
                first, beats = yield self.fetched
                rest -= beats
            executed = first + beats - 1 + 4
            if code.opcode == Opcode.END:
                # it waits for empty queues, idle units and a quiet bus: for all other processes
                self.end_seen = executed + 1
                yield from self._fetch_again(self.end_seen)
                return
            if code.unit is None:
                self.times[number] = (executed, executed)
            else:
                self.queues.commit(executed + 1, number, code)
            self._put(self.slots, executed + 1)

    # Load: the front requests bursts, the read channel delivers beats, the back writes words.

    def _load(self):
        popped = offered = 0    # the last instruction, and run, was handed on
        while True:
            visible, number, code = yield self.queues.code[Unit.LOAD]
            here = max(visible, popped + 1)
            granted = yield from self.take(Unit.LOAD, code)
            wanted = here, granted, self.activity[Unit.LOAD].giver
            ready, start = here + 1, None
            beats = run_bytes(code, self.arch) // self.arch.beat_bytes
            for row in range(code.rows):
                popped = max(ready, granted, offered)
                ready = popped + 2
                if start is None:
                    start = popped
                    self._put(self.loading, (wanted, start, number, code))
                if row == code.rows - 1:
                    self.queues.free(Unit.LOAD, popped + 1)
                offered = popped
                for burst in bursts_of(self.arch, code.address + row * code.row_stride,
                                       beats):
                    offered += 2
                    for _ in range(timing.load_share(self.arch, beats)):
                        offered = max(offered, (yield self.load_room))
                    offered = 1 + (yield from self._issue(offered, 1, (Unit.LOAD, burst)))

    def _read(self):
        end = 0             # the last beat accepted
        left = 0            # beats of the instruction that are still to come
        word_taken = 0      # when the last word was taken from load's output
        load = self.activity[Unit.LOAD]
        while True:
            client, beats, issued, there = yield self.bursts
            self.opened = max(self.opened + 2, issued + 4, end + 1)
            first = max(self.opened, there)
            if client is None:
                end = first + beats - 1
                self._put(self.fetched, (first, beats))
                self._read_until(end)
                continue
            if not left:
                (here, granted, giver), start, number, code = yield self.loading
                while self.cuts and not code.step_even:
                    self.cuts -= 1
                    word_taken = yield self.cut_ends
                if not code.step_even:
                    load.wait(UnitState.TOKENS, max(here, load.end) + 1, granted - 1, giver)
                size = loaded_bytes(code, self.arch) // self.arch.beat_bytes
                left = moved_bytes(code, self.arch) // self.arch.beat_bytes
                self.cuts += code.step_even > 0
            share = timing.load_share(self.arch,
                                      run_bytes(code, self.arch) // self.arch.beat_bytes)
            if code.step_even:
                if left % code.word_beats == 0:
                    self.windows.runs.append(Run(
                        code, number, code.rows - left // code.word_beats,
                        (here, granted, giver), start, word_taken))
                end = first - 1
                for _ in range(beats):
                    end = max(end + 1, (yield self.cut_room))
                    self._put(self.cut_beats, end)
            else:
                load.wait(UnitState.MEMORY, max(start + 1, word_taken), first - 1)
                end = max(first, word_taken) + beats - 1
                word_taken = end + 1
                if code.memory in self.written:
                    end, word_taken = yield from self._words(
                        end - beats + 1, left, beats, size, code)
                if left == beats:
                    self._loaded(here, start, number, code, word_taken)
            left -= beats
            self._read_until(end)
            for _ in range(share):
                self._put(self.load_room, end + 1)

    def _read_until(self, end):
        """The last beat of a burst was accepted."""
        self.reads_end = end

    def _loaded(self, here, start, number, code, taken):
        """The last word of a LOAD was taken."""
        self.give(Unit.LOAD, code, taken + 1)
        self.activity[Unit.LOAD].add(here, taken + 1)
        self.times[number] = (start, taken + 1)
        self._put(self.loads_end, self.activity[Unit.LOAD].end)

    def _words(self, cycle, left, beats, size, code):
        """A burst of words that wait while POST writes there: (last beat, last word)."""
        taken = 0
        yield At(cycle, 2)
        horizon = self.events.horizon
        while beats:
            part = min(beats, (left - 1) % size + 1)
            last = max(cycle, taken) + part - 1
            beats -= part
            left -= part
            cycle = last + 1
            if left % size == 0:
                if horizon is not None and last + 1 > horizon:
                    yield At(last + 1, 2)
                    horizon = self.events.horizon
                taken = last + 1
                number = code.rows * code.words - left // size - 1
                while self._post_writes(taken, code, number):
                    taken += 1
                self.activity[Unit.LOAD].wait(UnitState.UNIT, last + 1, taken - 1)
        return last, max(taken, last + 1)

    def _cut(self):
        """Windows of the beats that `_read` has handed over."""
        state, load = self.windows, self.activity[Unit.LOAD]
        while True:
            while state.bytes < state.end:
                come = yield self.cut_beats
                run = state.runs[0]
                here, granted, giver = run.wanted
                if state.begins and not run.row:        # of the instruction's first word
                    state.taken = max(state.taken, run.free)
                    load.wait(UnitState.TOKENS, max(here, load.end) + 1, granted - 1, giver)
                load.wait(UnitState.MEMORY, max(run.start, state.entered[-1], state.left,
                                                state.taken - 1) + 1, come - 1)
                self._put(self.cut_room, state.enter(come) + 1)
            cycle, code = max(state.whole + 1, state.taken), state.runs[0].code
            number, ended = state.leave(cycle)
            yield At(cycle + 1, 2)
            state.taken = cycle + 1
            while self._post_writes(state.taken, code, number):
                state.taken += 1
            load.wait(UnitState.UNIT, cycle + 1, state.taken - 1)
            if ended:
                self._loaded(ended.wanted[0], ended.start, ended.number, code, state.taken)
                self._put(self.cut_ends, state.taken)
            while self.cut_beats and 0 <= state.bytes - state.end < state.beat and (
                    state.entry(self.cut_beats[0]) <= max(state.whole + 1, state.taken)):
                self._put(self.cut_room, state.enter((yield self.cut_beats)) + 1)

    def _post_writes(self, cycle, load, number):
        """Whether POST writes in a cycle where the word `number` of a LOAD would be written."""
        written = self.written[load.memory]
        while written and written[0][2] < cycle:
            written.popleft()
        for first, period, last, post, start in written:
            if first <= cycle <= last and (cycle - first) % period == 0:
                if not self.arch.two_writes or load.memory != Memory.ACTIVATION:
                    return True
                row, word = divmod(number, load.words)
                down, across = divmod(start + (cycle - first) // period, post.out_x)
                return not (load.base + row * load.base_stride + word - post.base
                            - down * post.stride_y - across * post.stride_x) % 2
        return False

    # Array and post-processing.

    def _array(self):
        state, over = ArrayPasses(self.arch), -1000
        activity = self.activity[Unit.ARRAY]
        while True:
            visible, number, code = yield self.queues.code[Unit.ARRAY]
            granted = yield from self.take(Unit.ARRAY, code)
            activity.wait(UnitState.TOKENS, max(visible, activity.end + 1), granted - 1,
                          activity.giver)
            begun = max(visible + 1, granted + 1, over)
            first, swapped, finished = state.follow(code, begun)
            over = finished + (pixels(code) == 1)
            self.queues.free(Unit.ARRAY, 1 + (
                begun + 1 if self.arch.prefetch else finished + timing.word_latency(self.arch)))
            latency = self.array_latency - skipped_rows(code, self.arch)
            post = 1 << Unit.POST
            # to POST for the fewest columns: it waits for the others itself
            self.give(Unit.ARRAY, code, (swapped if code.early else finished) + latency
                      - self.near[0][1], post)
            self.give(Unit.ARRAY, code, finished + latency, 15 & ~post)
            if self.first_pass is None:
                self.first_pass = first
            activity.add(visible, finished + latency)
            self.times[number] = (first, finished + latency)

    def _post(self):
        start = written = -1
        activity = self.activity[Unit.POST]
        while True:
            visible, number, code = yield self.queues.code[Unit.POST]
            here = max(visible, start + 1)
            last = last_column(code, self.arch)
            late = self.near[0][1] - next(late for near, late in self.near if last <= near)
            granted = yield from self.take(Unit.POST, code, late)
            if self.summed + late > granted:    # of an instruction whose token was taken before
                granted, activity.giver = self.summed + late, Unit.ARRAY
            activity.wait(UnitState.TOKENS, max(here, activity.end + 1), granted - 1,
                          activity.giver)
            start = max(visible, written + 1, granted)
            if self.arch.prefetch:
                self.queues.free(Unit.POST, start + 1)
            across = code.out_x * (self.arch.chunks if code.raw else 1)
            chunks = 1 if code.raw else chunk_count(code, self.arch)
            reads = code.pool_x * code.pool_y * chunks
            lead = code.pool_y * chunks * (code.pooling == Pooling.LEAD)
            latency = self.item_latency(raw=code.raw, operand=code.operand, table=code.table)
            period = timing.read_period(code.operand)
            begun = start + timing.POST_START
            reads, lead, read = reads * period, lead * period, begun - period
            if code.destination == Destination.STORE:
                for _ in range(code.out_y):
                    for x in range(across):
                        more = 0 if x else lead
                        room = yield self.stores.room
                        activity.wait(UnitState.UNIT, max(read + 1, begun), room - 1)
                        room += (begun - room) % period
                        read = max(read + period, room) + more + reads - period
                        self._put(self.stores.items, read + latency)
                written = read + latency
            else:
                written = read + latency
                rows, across = (code.out_y, across) if lead else (1, code.out_y * across)
                for row in range(rows):
                    first = written + lead + reads
                    written = first + (across - 1) * reads
                    for memory, others in ((Memory.ACTIVATION, Destination.OPERAND),
                                           (Memory.OPERAND, Destination.ACTIVATION)):
                        if code.destination != others:
                            self.written[memory].append((first, reads, written, code,
                                                         row * across))
            if not self.arch.prefetch:
                self.queues.free(Unit.POST, written + 1)
            self.give(Unit.POST, code, written)
            self.last_result = written
            activity.add(here, written)
            self.times[number] = (start, written)

"""Cycle model of several cores that share a bus, to the cycle: `cycles.py` with what is between.

Each core is a `Model`. What they share is `hw/core/shared_bus.py`: bursts that are read, and those
that are written, go through in turns; beats come, and are accepted, in the order of the bursts'
addresses, and so do responses. Times are cycles of the bus, in which a core was started.
"""

from collections import deque
from collections.abc import Generator, Sequence
from itertools import chain
from typing import Any

from systolith.hw.spec import timing
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.program import Program

from .cycles import Model, cycles
from .events import At, Channel, Events
from .stores import Stores

__all__ = ["START_PERIOD", "cycles_together", "shared_cycles", "together"]

#: Cycles from one core's start to the next one's, as the driver starts them in simulation: it looks
#: at STATUS and WATCHDOG, puts an image into memory, which takes a cycle there, and writes CONTROL.
START_PERIOD = 25

#: Turn of an `At` after all that a core does in the cycle.
_LAST = 9


def shared_cycles(program: Program, starts: Sequence[int], latency: int = 32) -> list[int]:
    """Cycles of a program on each of a chip's cores, as their registers show them, where core k is
    started in cycle `starts[k]`, with a memory of this latency (1 or more).

    Raises Stuck for a program that never ends.
    """
    cycles(program, latency)    # or who waits for another core's beats here would wait for ever
    events = Events()
    bus = _Bus(events, len(starts), latency + timing.shared_latency(program.arch))
    for start in starts:
        _Core(program, bus, start)
    events.run([*bus.processes(), *chain.from_iterable(core.processes() for core in bus.cores)])
    return [core.timing().cycles for core in bus.cores]


def cycles_together(program: Program, latency: int = 32) -> int:
    """Cycles from the first start on until each core of the program's chip has run it once, started
    `START_PERIOD` cycles after each other. Raises Stuck as `shared_cycles`."""
    cores = program.arch.cores
    return cycles(program, latency).cycles if cores == 1 else together(
        shared_cycles(program, [core * START_PERIOD for core in range(cores)], latency))


def together(taken: Sequence[int]) -> int:
    """The same of what each core has taken."""
    return max(core * START_PERIOD + mine for core, mine in enumerate(taken))


class _Turns:
    """Whose bursts go through, one in a cycle, as of `hw.core.shared_bus.Turns`, while fewer than
    `most` are under way."""

    def __init__(self, events: Events, number: int, most: int, accept: Any) -> None:
        self.events, self.number, self.most, self.accept = events, number, most, accept
        self.turn = self.under_way = 0
        self.over: deque[int] = deque()     # when those that have ended have, in order
        self._wanted: dict[int, tuple[int, Any]] = {}
        self._wake = Channel()
        self._asleep = True

    def ask(self, core: int, cycle: int, burst: Any) -> None:
        """A core has a burst on its address channel from `cycle` on, the next one."""
        self._wanted[core] = cycle, burst
        if self._asleep:
            self._asleep = False
            self.events.put(self._wake, cycle)

    def run(self) -> Generator[Any, Any, None]:
        """The process."""
        while True:
            cycle = yield self._wake
            while self._wanted:
                yield At(cycle, _LAST)
                self._decide(cycle)
                cycle += 1
            self._asleep = True

    def _decide(self, cycle):
        wanted = {core for core, (first, _) in self._wanted.items() if first <= cycle}
        while self.over and self.over[0] < cycle:
            self.over.popleft()
            self.under_way -= 1
        turn = self.turn
        taken = turn in wanted and self.under_way < self.most
        if taken or turn not in wanted:
            others = ((turn + distance) % self.number for distance in range(1, self.number))
            self.turn = next((other for other in others if other in wanted), turn)
        if taken:
            self.under_way += 1
            self.accept(turn, cycle, self._wanted.pop(turn)[1])


class _Bus:
    """The bus that `cores` share, with a memory that answers `latency` cycles after an address was
    accepted from a core, its registers included."""

    def __init__(self, events: Events, number: int, latency: int) -> None:
        self.events, self.latency = events, latency
        self.cores: list[_Core] = []
        self.reads = _Turns(events, number, timing.SHARED_READS, self._accept_read)
        self.writes = _Turns(events, number, timing.SHARED_WRITES, self._accept_write)
        self.read_ends = Channel()      # the last beat of each burst
        self._reading, self._writing, self._answering = Channel(), Channel(), Channel()

    def processes(self) -> list[Generator]:
        return [self.reads.run(), self.writes.run(), self._read(), self._write(), self._answer()]

    def _accept_read(self, number, cycle, burst):
        core = self.cores[number]
        core.asks, core.address_free = False, cycle + 1
        self.events.put(self._reading, (core, cycle, burst))

    def _accept_write(self, number, cycle, _):
        core = self.cores[number]
        core.stores.begun = cycle
        self.events.put(self._writing, (core, cycle))

    def _read(self):
        """Beats of bursts, in their order."""
        end = 0
        while True:
            core, accepted, burst = yield self._reading
            self.events.put(core.bursts, (*burst, max(accepted + self.latency, end + 1)))
            end = yield self.read_ends
            self.reads.over.append(end)

    def _write(self):
        """The same of those that are written: beats are accepted from a core in the cycle after
        its address was."""
        end = 0
        while True:
            core, accepted = yield self._writing
            own = max(accepted, end) + 1
            self.events.put(core.stores.own, own)
            made, ends = yield core.stores.made
            end = max(made + 1, own)
            self.events.put(self._answering, (core, end, ends))

    def _answer(self):
        response = 0
        while True:
            core, accepted, ends = yield self._answering
            # a core accepts none in two cycles that follow each other
            response = max(accepted + self.latency, core.stores.answered + 2, response + 1)
            self.writes.over.append(response)
            core.stores.answer(accepted, response, ends)


class _Stores(Stores):
    """STORE of a core among several."""
    model: "_Core"

    def __init__(self, model: "_Core") -> None:
        super().__init__(model)
        # when the last burst was accepted; None: it is on the address channel
        self.begun: int | None = -1
        self.own = Channel()            # from when on the beats of each burst are accepted
        self.made = Channel()           # (when the last beat of each burst was made, what ends)

    def _begin(self, cycle):
        yield At(cycle, Unit.STORE)
        while self.begun is None or cycle <= self.begun:
            cycle += 1
            yield At(cycle, Unit.STORE)
        self._offer(cycle)
        return cycle

    def _begin_early(self, least, made=None):
        could = least
        while made is None or could <= made:
            yield At(could, Unit.STORE)
            if made is None and self.items:
                break
            if self._may_begin(could):
                self._offer(could)
                return could
            could += 1
        return None

    def _sent(self, made, following, early, least):
        cycle = made
        while not self.own:
            yield At(cycle, Unit.STORE)
            if following and early is None and least <= cycle and self._may_begin(cycle):
                early = cycle
                self._offer(cycle)
            cycle += 1
        return max(made + 1, self.own.popleft()), early

    def _may_begin(self, cycle):
        """Whether one can be begun in a cycle as far as bursts before are concerned."""
        return (self.begun is not None and self.begun < cycle
                and bool(self.responses) and self.responses[0] < cycle)

    def _offer(self, cycle):
        super()._offer(cycle)
        self.begun = None
        self.model.bus.writes.ask(self.model.number, cycle + 1, None)

    def _stored(self, made, ends):
        self._put(self.made, (made, ends))


class _Core(Model):
    """A core among several."""
    stores_type = _Stores
    stores: _Stores

    def __init__(self, program: Program, bus: _Bus, start: int) -> None:
        super().__init__(program, bus.latency, bus.events, start)
        self.bus, self.number = bus, len(bus.cores)
        bus.cores.append(self)

    def _ask(self, burst, issued):
        self.asks = True
        self.bus.reads.ask(self.number, issued + 1, (*burst, issued))

    def _read_until(self, end):
        super()._read_until(end)
        self._put(self.bus.read_ends, end)

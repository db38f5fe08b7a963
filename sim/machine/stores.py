"""STORE in the cycle model, as of `hw/core/store.py`: its front makes runs and their bursts, its
back begins bursts and makes their beats."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from systolith.hw.spec import timing
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.registers import UnitState

from .bursts import bursts_of, item_beats, stored_runs
from .events import At, Channel

if TYPE_CHECKING:
    from .cycles import Model

__all__ = ["Stores"]


class Stores:
    """STORE of a core that has the bus for itself.

    Attributes
    ----------
    items, room : Channel
        From when on POST's items can be taken, and others can be pushed.
    answers : (int, int)
        The last beat and the last response of an instruction.
    answered : int
        The last response.
    """
    def __init__(self, model: "Model") -> None:
        self.model, self._put = model, model.events.put
        self.activity = model.activity[Unit.STORE]
        self.items, self.room = Channel(), Channel([0] * timing.ITEMS)
        # bursts: (offered, beats, others left of the run, instruction or (), whether it ends that),
        # and when each was taken
        self.storing, self.stored = Channel(), Channel()
        # those to the bursts that were begun before, in order
        self.responses = Channel([0] * timing.STORE_BURSTS)
        self.answers, self.answered = (1, 0), 0

    def processes(self) -> list[Generator[Any, Any, None]]:
        """What `Events` runs."""
        return [self._front(), self._back()]

    def _front(self):
        popped = taken = 0              # the last run was handed on, its last burst was taken
        while True:
            visible, number, code = yield self.model.queues.code[Unit.STORE]
            here = max(visible, popped + 1)
            granted = yield from self.model.take(Unit.STORE, code)
            wanted = here, granted, self.activity.giver
            ready = here + 1
            first: tuple | None = None      # what the first burst brings along
            runs = stored_runs(code, self.model.arch)
            for left, (address, beats) in zip(reversed(range(len(runs))), runs, strict=True):
                popped = max(ready, granted, taken)
                ready = popped + 2
                offered = popped + 2
                if first is None:
                    first = wanted, popped, number, code
                if not left:
                    self.model.queues.free(Unit.STORE, popped + 1)
                bursts = [*bursts_of(self.model.arch, address, beats)]
                for rest, burst in zip(reversed(range(len(bursts))), bursts, strict=True):
                    last = not left and not rest
                    self._put(self.storing, (offered, burst, rest, first, last))
                    first = ()
                    taken = yield self.stored
                    offered = taken + 2

    def _back(self):
        # the last beat; that before the last burst that was begun early; the one after which
        # another can be made
        made = entered = sent = 0
        unsent = False      # ... which is not known yet
        following, early = None, None       # a burst of the same run; when it was begun, if early
        activity = self.activity
        while True:
            offered, burst, rest, first, last = following or (yield self.storing)
            if first:
                (here, granted, giver), start, place, code = first
                size, beat, item = item_beats(code, self.model.arch), 0, None
                ended, response = self.answers
                activity.wait(UnitState.MEMORY, ended, min(response, start))
                activity.wait(UnitState.TOKENS, max(here + 1, activity.end + 1), granted - 1,
                              giver)
            room = (yield self.responses) + 1
            if early is None:
                if item is None:
                    item = (yield self.items) + 2
                begun = max(made + 1, start + 1)
                activity.wait(UnitState.UNIT, begun, item - 1)
                begun = max(begun, item, offered)
                activity.wait(UnitState.MEMORY, begun, room - 1)
                made = yield from self._begin(max(begun, room))
            following = early = None
            least = 0
            if rest:            # the next burst may be begun while this one has beats to make
                following = yield self.storing
                least = max(following[0], entered + 1)
            for number in range(burst):
                if item is None:
                    if following and early is None and not self.items:
                        early = yield from self._begin_early(least)
                    item = (yield self.items) + 2
                    activity.wait(UnitState.UNIT, made + 1, item - 1)
                if unsent:
                    sent, early = yield from self._sent(made, following, early, least)
                made = max(made + 1, item, sent)
                unsent = not number
                beat += 1
                if beat == size:
                    beat, item = 0, None
                    self._put(self.room, made + 1)
                if following and early is None:
                    early = yield from self._begin_early(least, made)
            if early is not None:
                entered = made
            self._stored(made, (here, start, place, code) if last else None)

    def _begin(self, cycle):
        """Generates what to wait for until a burst is begun that can be from `cycle` on; its value
        is when."""
        self._offer(cycle)
        return cycle
        yield

    def _offer(self, cycle):
        """A burst is begun in a cycle."""
        self._put(self.stored, cycle + 1)

    def _begin_early(self, least, made=None):
        """Generates what to wait for until the burst that follows is begun, from `least` on, while
        beats are left: until the one `made` in that cycle, or until there is an item. The value is
        when, None if it was not."""
        could = max(least, self.responses[0] + 1)
        if made is None:
            yield At(could, Unit.STORE)
            if self.items:
                return None
        elif could > made:          # no beats are left then
            return None
        self._offer(could)
        return could

    def _sent(self, made, following, early, least):
        """Generates what to wait for until it is known from when on a beat can be made after that
        which was `made`, the first one of its burst; arguments as of `_back`, the value is
        (that cycle, `early`)."""
        return made + 1, early
        yield

    def _stored(self, made, ends):
        """The last beat of a burst is made; `ends`: of the instruction that ends with it."""
        # responses are not accepted in two cycles that follow each other
        self.answer(made + 1, max(made + 1 + self.model.latency, self.answered + 2), ends)

    def answer(self, accepted: int, response: int, ends: tuple | None) -> None:
        """When a burst's last beat was accepted, and its response; `ends`: of the instruction that
        ends with it."""
        self.answered = response
        self._put(self.responses, response)
        if ends is not None:
            here, start, number, code = ends
            self.model.give(Unit.STORE, code, response + 1)
            self.activity.add(here, response + (code.signal != 0))
            self.answers = (accepted, response)
            self.model.times[number] = (start, response + 1)

"""What a unit does in the cycles of a run, as the core's counters have it."""

from collections.abc import Iterable

from systolith.hw.spec.isa import Unit
from systolith.hw.spec.registers import UnitState

__all__ = ["Activity"]


class Activity:
    """One unit: the cycles in which it had an instruction, and its waits in these: (state, first
    cycle, last one, unit whose token came last or None)."""

    def __init__(self) -> None:
        self.count, self.end = 0, 0
        self.waits: list[tuple] = []
        self.giver: Unit | None = None     # whose token came last, of those that were taken last

    def add(self, first: int, last: int) -> None:
        """It had an instruction in these cycles; they come in the order of their starts."""
        first = max(first, self.end + 1)
        if last >= first:
            self.count += last - first + 1
            self.end = last

    def wait(self, state: UnitState, first: int, last: int, giver: Unit | None = None) -> None:
        """It waited in these cycles, if there are any."""
        if last >= first:
            self.waits.append((state, first, last, giver))

    def counts(self, states: Iterable[UnitState]) -> dict[str, int]:
        """Cycles of each of these states, by its name."""
        found = {state.name.lower(): 0 for state in states}
        for state, first, last, _ in self.waits:
            found[state.name.lower()] += last - first + 1
        found["running"] = self.count - sum(found.values())
        return found

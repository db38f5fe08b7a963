"""Processes that tell each other when things happen, without a global clock.

A process is a generator. It yields a `Channel` to read the channel's next value, for which it waits
if there is none, or an `At` to be resumed at a cycle when nothing before that cycle can still
happen. Values on channels are mostly cycle numbers: a token is available, a queue has room. Because
most processes are independent, each runs as far as the known values allow; only processes that
share a port meet at an `At`.
"""

from collections import deque
from collections.abc import Generator, Iterable
from heapq import heappop, heappush
from typing import Any, NamedTuple

__all__ = ["At", "Channel", "Events", "Process"]

Process = Generator[Any, Any, None]


class Channel(deque):
    """Values for one reader, first in, first out."""
    #: The process that waits for a value; None: none does.
    reader: Process | None = None


class At(NamedTuple):
    """Asks to be resumed when everything before `cycle` is known. Requests for the same cycle are
    resumed in the order of `turn`, those of one turn in the order in which they were made."""
    cycle: int
    turn: int


class Events:
    """Runs processes until each has ended or waits for a value that never comes."""

    def __init__(self) -> None:
        self._count = 0
        self._later: list[tuple[int, int, int, Process]] = []
        self._runnable: list[tuple[Process, Any]] = []

    def run(self, processes: Iterable[Process]) -> None:
        """Start the processes one after the other, and run all of them as far as they come."""
        for process in processes:
            self._resume(process, None)
        while self._later:
            _, _, _, process = heappop(self._later)
            self._resume(process, None)

    def put(self, channel: Channel, value: Any) -> None:
        """Append a value to a channel; its reader, if it waits, runs when the caller waits."""
        if channel.reader is None:
            channel.append(value)
        else:
            self._runnable.append((channel.reader, value))
            channel.reader = None

    @property
    def horizon(self) -> int | None:
        """The cycle of the next `At`, before which nothing else can happen; None: there is none."""
        return self._later[0][0] if self._later else None

    def _resume(self, process, value):
        """Run a process, and all that it makes runnable, until every one waits."""
        while True:
            try:
                wanted = process.send(value)
                while type(wanted) is Channel and wanted:
                    wanted = process.send(wanted.popleft())
            except StopIteration:
                pass
            else:
                if type(wanted) is Channel:
                    wanted.reader = process
                else:
                    self._count += 1
                    heappush(self._later, (wanted.cycle, wanted.turn, self._count, process))
            if not self._runnable:
                return
            process, value = self._runnable.pop()

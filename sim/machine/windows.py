"""How far LOADs that make windows have come, for the cycle model."""

from collections import deque
from dataclasses import dataclass

from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.timing import CUT_LATENCY

__all__ = ["Run", "Windows"]


@dataclass
class Run:
    """A run of a LOAD of windows.

    Attributes
    ----------
    code : Instruction
        Of which it is a run; `number` in the program.
    row : int
        Its number in the instruction.
    wanted : tuple
        When the instruction was before the unit, when its tokens came, and whose came last.
    start : int
        When it was started.
    free : int
        When the output is free of the words before it that are no windows.
    """
    code: Instruction
    number: int
    row: int
    wanted: tuple
    start: int
    free: int


class Windows:
    """The runs whose first beats have come from the bus, that of the next word first.

    Attributes
    ----------
    word : int
        The next word's number in its run.
    end, bytes : int
        The end of that word's bytes, and how many bytes have gone into the register, both counted
        from the first run's start.
    entered : list of int
        When the last few beats went into it.
    lets : deque of (int, int)
        (the end of a word's bytes, when the word before it left), the first one that lets the next
        beat in.
    left, taken : int
        When the last word left, and when the output is free of it.
    """

    def __init__(self, size: int, beat: int) -> None:
        self.runs: deque[Run] = deque()
        self.size, self.beat, self.word, self.end, self.bytes = size, beat, 0, size, 0
        self.entered, self.lets = [-1], deque([(size, -1)])
        self.left = self.taken = -1

    @property
    def begins(self) -> bool:
        """Whether no byte of the next word's run has gone into the register."""
        return not self.word and self.bytes <= self.end - self.size

    @property
    def whole(self) -> int:
        """When the last beat of the next word went into the register."""
        return self.entered[-1 - (self.bytes - self.end) // self.beat]

    def entry(self, come: int) -> int:
        """When the next beat, which was taken from the bus in a cycle, goes into the register. It
        can where fewer bytes than a beat's are there beyond the next word's."""
        while self.lets[0][0] <= self.bytes - self.beat:
            self.lets.popleft()
        return max(come + CUT_LATENCY, self.entered[-1] + 1, self.lets[0][1])

    def enter(self, come: int) -> int:
        """The next beat goes into the register; returns when."""
        self.entered = [*self.entered[-2:], self.entry(come)]
        self.bytes += self.beat
        return self.entered[-1]

    def leave(self, cycle: int) -> tuple[int, Run | None]:
        """The next word leaves: its number in its instruction, and its run if it is the last one of
        the instruction."""
        run = self.runs[0]
        code, word, self.left = run.code, self.word, cycle
        number, self.word = run.row * code.words + word, word + 1
        ended = None
        if self.word < code.words:
            self.end += code.step_odd if word % 2 else code.step_even
        else:
            self.end += code.spare + self.size
            self.word = 0
            self.runs.popleft()
            ended = run if run.row == code.rows - 1 else None
        self.lets.append((self.end, cycle))
        return number, ended

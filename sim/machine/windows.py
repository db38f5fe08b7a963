"""How far a LOAD that makes windows has come, for the cycle model."""

from systolith.hw.spec.instruction import Instruction

__all__ = ["Windows"]


class Windows:
    """A LOAD of windows: the bytes that there are beyond the next word's end, whether its number is
    odd, its number in the instruction, when the next beat or word can come at the earliest, and
    when the last word was taken."""

    def __init__(self, code: Instruction, vector: int, cycle: int, taken: int) -> None:
        self.code, self.ahead, self.odd, self.number = code, -vector, 0, 0
        self.cycle, self.taken = cycle, taken

    @property
    def step(self) -> int:
        """Bytes from the next word to the one after it."""
        return self.code.step_odd if self.odd else self.code.step_even

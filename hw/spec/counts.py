"""What a run takes, as the core's registers say it: a core's, its RTL's and the cycle model's."""

from dataclasses import dataclass

__all__ = ["Counts"]


@dataclass
class Counts:
    """Cycles of one run of a program.

    Attributes
    ----------
    cycles : int
        From the start to the end, all traffic included (CYCLES).
    compute_first, compute_last : int or None
        The cycles, counted from the start, of the first array pass and of the last result
        (COMPUTE_FIRST, COMPUTE_LAST); the latter is 0 where there was none. None where the chip has
        no counters.
    activity : dict or None
        For each unit's name the cycles of each state that is counted ("running", "tokens",
        "memory", "unit"), as in the registers BUSY_LOAD, WAIT_TOKENS_LOAD and so on. None where the
        chip has no counters.
    """
    cycles: int
    compute_first: int | None
    compute_last: int | None
    activity: dict[str, dict[str, int]] | None

    @property
    def compute_cycles(self) -> int | None:
        """From the start of the first array pass to the last result, both included; None where
        they are not known."""
        if self.compute_first is None or self.compute_last is None:
            return None
        return self.compute_last - self.compute_first + 1 if self.compute_last else 0

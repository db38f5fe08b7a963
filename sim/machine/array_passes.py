"""When the passes of ARRAY instructions follow each other, for the cycle model."""

from systolith.hw.spec import timing
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.loops import filled, fillings, passes, steps
from systolith.hw.spec.near import near_rows_of, skipped_rows

__all__ = ["ArrayPasses"]


class ArrayPasses:
    """What is known of the last instruction and of the weights that the array holds."""

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        # when the last pass's weights were swapped in, and its last pixel was decided on
        self.swapped = self.finished = -1 << 20
        # the shortest that this pass can take; its weight words, and their first one
        self.last_pass, self.words, self.base = timing.shortest_pass(arch), 0, 0
        self.known = arch.fill      # rows that may not be idle
        self.skipped = 0            # rows that sums do not pass

    def follow(self, code: Instruction, begun: int) -> tuple[int, int, int]:
        """The next instruction, which can begin in the cycle `begun`: when its first pixel and the
        first pixel of its last pass are decided on, and its last one."""
        arch, length, before = self.arch, steps(code, self.arch), self.swapped
        skipped = skipped_rows(code, arch)
        sooner = skipped - self.skipped
        # sums that are still on their way through rows that the next ones do not pass
        settled = timing.REVISIT + max(sooner, 0) if code.accumulate or sooner > 0 else 0
        first = max(begun + 1, before + self.last_pass, settled and self.finished + settled)
        if sooner > 0 and arch.two_fillings:        # and weights that take the lower rows' bus
            first = max(first, before + arch.rows)
        if arch.two_fillings:
            first = before + timing.apart(arch, first - before, self.words,
                                          code.weight_base - self.base)
        swapped, words = first, filled(code, arch)
        near = near_rows_of(code, arch)
        rows = words * (passes(code) // fillings(code))
        idle = arch.two_fillings and rows >= self.known and not sooner
        self.known, self.skipped = rows, skipped
        self.last_pass = timing.shortest_pass(arch, words if idle else near)
        if fillings(code) > 1:
            self.last_pass = timing.shortest_pass(arch, words)
            swapped += timing.pass_cycles(arch, length, words, words if idle else near)
            swapped += (fillings(code) - 2) * timing.pass_cycles(arch, length, words, words)
        self.words, self.base = words, code.weight_base + (fillings(code) - 1) * words
        self.swapped, self.finished = swapped, swapped + length - 1
        return first, swapped, self.finished

"""Runs of LOAD and STORE, and the bursts that a run is cut into."""

from collections.abc import Iterator

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.loops import stored_bytes
from systolith.hw.spec.timing import burst_limit

__all__ = ["bursts_of", "item_beats", "stored_runs"]


def bursts_of(arch: Arch, address: int, beats: int) -> Iterator[int]:
    """Beats of each burst of a run; bursts end at multiples of `burst_limit`."""
    limit = burst_limit(arch)
    position = address // arch.beat_bytes
    end = position + beats
    while position < end:
        until = min(end, (position // limit + 1) * limit)
        yield until - position
        position = until


def item_beats(code: Instruction, arch: Arch) -> int:
    """Beats that a STORE writes of an item; smaller ones share none."""
    return max(1, stored_bytes(code, arch) // arch.beat_bytes)


def stored_runs(code: Instruction, arch: Arch) -> list[tuple[int, int]]:
    """(address, beats) of the runs of a STORE that bursts may span, in order."""
    size = item_beats(code, arch)
    rows = [code.address + row * code.row_stride for row in range(code.rows)]
    if code.burst:
        return [(address, code.items * size) for address in rows]
    return [(address + item * code.item_stride, size)
            for address in rows for item in range(code.items)]

"""Yosys' choice between RAM of blocks and of LUTs for a memory on ECP5, by its sizes alone."""

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import Space, loadable

__all__ = ["ram_of", "scratchpads"]

#: What Yosys' choice of a memory's RAM weighs of a block, a cell of RAM of LUTs and a bit of a
#: multiplexer, on ECP5.
_BLOCK, _CELL, _CHOICE = 128, 4, 0.5
#: Widths of a block's words by their number.
_WORDS = {16384: 1, 8192: 2, 4096: 4, 2048: 9, 1024: 18, 512: 36}


def ram_of(depth: int, bits: int, parts: int = 1, reads: int = 1, *,
           block: bool = False) -> tuple[int, int]:
    """(blocks of RAM, cells of RAM of LUTs) of a memory of `depth` words of `bits` bits, of which
    `parts` parts are written apart, on ECP5. Of `reads` ports each has a copy. `block`: it is not
    to be of LUTs."""
    part, best = bits // parts, []
    for words, width in _WORDS.items():
        banks = -(-depth // words)
        if width > 9:                           # a byte of 9 bits has an enable of its own
            size = (-(-bits // width) if parts == 1
                    else -(-parts * -(-part // 9) // (width // 9)))
        else:
            size = -(-bits // width) if parts == 1 else parts * -(-part // width)
        best.append((_BLOCK * banks * size + _CHOICE * (banks - 1) * bits, banks * size))
    cost, blocks = min(best)
    rows = -(-depth // 16)
    cells = rows * parts * -(-part // 4)
    wide = 4 * parts * -(-part // 4)
    if not block and _CELL * cells + _CHOICE * (rows - 1) * wide < cost:
        return 0, cells * reads
    return blocks * reads, 0


def scratchpads(arch: Arch) -> list[tuple[int, int, int]]:
    """(depth, bits, parts) of the memories that are directly in the core."""
    parts = {Space.ACTIVATION: arch.slots, Space.OPERAND: arch.groups_per_word}
    # even and odd addresses in a memory each
    apart = {Space.ACTIVATION: arch.two_writes, Space.WEIGHT: arch.two_fillings}
    found = []
    for row in loadable(arch):
        banks = arch.banks if row.space == Space.ACTIVATION else 1
        if row.space not in (Space.TABLE, Space.POOL):
            several = 1 + apart.get(row.space, False)
            found += several * banks * [(-(-row.depth(arch) // several), row.bits(arch) // banks,
                                         parts.get(row.space, 1) // banks)]
    return found

"""How many bits of each field of an instruction a chip keeps.

Fields are as wide as the largest chip needs. What a chip cannot use of them follows from its
memories and its addresses: a chip of 512 activation words has no coordinate of 20 bits. Units get
their instructions with these widths, and so do their counters and adders.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .arch import Arch
from .isa import HEAD, OPCODES, Opcode
from .memories import loadable, word_bytes
from .registers import CORE_BITS

if TYPE_CHECKING:
    from amaranth.lib import data

__all__ = ["has_window_base", "kept_bits", "offset_bits", "payload", "payload_bits",
           "register_bits", "where_bits"]


def offset_bits(arch: Arch) -> int:
    """Bits in which the chip counts bytes from the window's start: one more than an address has, so
    that what runs beyond the last address is seen."""
    return min(32, arch.address_bits + 1)


def has_window_base(arch: Arch) -> bool:
    """Whether the host says where the window begins; with fewer than 32 bits it begins at 0."""
    return arch.address_bits == 32


def register_bits(arch: Arch) -> int:
    """Bits of a byte address of registers: those of all cores."""
    return CORE_BITS + (arch.cores - 1).bit_length()


def where_bits(arch: Arch, bits: int) -> int:
    """Bits of what only the report of an error says: `bits`, or 0."""
    return bits if arch.diagnosis else 0


def _limits(arch: Arch) -> dict[Opcode, dict[str, int]]:
    """Bits that suffice for fields, where it is not all that they have."""
    address = arch.address_bits
    # An ARRAY takes `height_unit` weight words a pass at least, and a pixel that is a result has a
    # sum of its own.
    passes = (arch.weight_depth // arch.height_unit).bit_length()
    pixels = 16 if arch.depthwise else arch.accumulator_depth.bit_length()
    # Coordinates, in words of the map, may be outside it by as much as it has, and more.
    coordinate = (arch.activation_depth - 1).bit_length() + 3
    across = dict.fromkeys(("x_start", "stride_kx", "stride_ox", "stride_px", "y_start",
                            "stride_ky", "stride_oy", "stride_py"), coordinate)
    longest = max(row.depth(arch) for row in loadable(arch))
    # A POST reads at least a word for each result, and for each column and row of a window.
    words = arch.accumulator_depth.bit_length()
    transfer = {"address": address, "row_stride": address, "item_stride": address}
    beats = max(word_bytes(row.space, arch) for row in loadable(arch)) // arch.beat_bytes
    return {
        Opcode.LOAD: transfer | {"words": longest.bit_length()} | (
            {} if arch.load_windows else {"word_beats": beats.bit_length(), "step_even": 0,
                                     "step_odd": 0, "spare": 0}),
        Opcode.ARRAY: across | {
            "x_last": coordinate - 1, "y_last": coordinate - 1,
            "narrow": len(arch.code_widths).bit_length(),
            "kernel_y": passes, "kernel_x": passes, "blocks": passes,
            "out_y": pixels, "out_x": pixels, "pool_y": pixels, "pool_x": pixels},
        Opcode.POST: dict.fromkeys(("out_y", "out_x", "pool_x", "pool_y"), words),
        Opcode.STORE: transfer | {"item_beats": (arch.group_beats - 1).bit_length()},
    }


@lru_cache(maxsize=256)
def _kept(arch: Arch) -> dict[Opcode, dict[str, int]]:
    limits = _limits(arch)
    return {opcode: {item.name: min(item.width, limits.get(opcode, {}).get(item.name, item.width))
                     for item in fields} for opcode, fields in OPCODES.items()}


def kept_bits(arch: Arch, opcode: Opcode) -> dict[str, int]:
    """{field: bits that the chip keeps of it, from bit 0 up} of an instruction, without its head.
    The rest of a field that has a sign repeats the highest one, that of others is 0."""
    return _kept(arch)[opcode]


def payload(arch: Arch, opcode: Opcode) -> data.StructLayout:
    """The instruction as the chip's units get it: `isa.layout` with the bits that are kept."""
    from amaranth import signed, unsigned
    from amaranth.lib import data
    kept = kept_bits(arch, opcode)
    return data.StructLayout({item.name: (signed if item.signed else unsigned)(
        kept.get(item.name, item.width)) for item in HEAD + OPCODES[opcode]})


def payload_bits(arch: Arch, opcode: Opcode, word: int) -> int:
    """The bits of an instruction, which are `word` in a program, in that layout."""
    kept = kept_bits(arch, opcode)
    found = source = target = 0
    for item in HEAD + OPCODES[opcode]:
        bits = kept.get(item.name, item.width)
        found |= (word >> source & (1 << bits) - 1) << target
        source, target = source + item.width, target + bits
    return found

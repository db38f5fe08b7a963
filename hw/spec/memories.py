"""The memories of a chip: one row each, and what their words take in external memory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .arch import Arch
from .instruction import Instruction
from .isa import Memory, Unit

__all__ = ["MEMORIES", "MemoryRow", "Space", "item_bytes", "loadable", "loaded_bytes",
           "memory_flags", "repeats", "word_bytes"]


#: Bits of four blocks of an ECP5's RAM.
_LARGE = 1 << 16


class Space(IntEnum):
    """What instructions read and write. EXTERNAL is counted in beats of the bus, the rest, the
    memories on the chip, in words. The first ones are those of `Memory`, which LOAD fills."""
    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    OPERAND = 3
    TABLE = 4
    POOL = 5
    ACCUMULATOR = 6
    EXTERNAL = 7

    def depth(self, arch: Arch) -> int | None:
        """Words that the chip has of it; None for EXTERNAL."""
        return MEMORIES[self].depth(arch) if self in MEMORIES else None


@dataclass(frozen=True)
class MemoryRow:
    """One memory on the chip.

    Attributes
    ----------
    space : Space
    depth_field : str
        The field or property of `Arch` that holds its words.
    bits_field : str
        The field or property of `Arch` that holds the bits of a word, of one of `copies`.
    bytes_field : str or None
        The property of `Arch` that holds the bytes of a word in external memory; None: LOAD cannot
        fill it.
    content : str
        What it holds, as a word of reports.
    writers, readers : tuple of Unit
    optional : bool
        Whether chips may have none: a depth of 0.
    copies_field : str or None
        The property of `Arch` that holds how many such memories lie side by side; None: one.
    """
    space: Space
    depth_field: str
    bits_field: str
    bytes_field: str | None
    content: str
    writers: tuple[Unit, ...]
    readers: tuple[Unit, ...]
    optional: bool = False
    copies_field: str | None = None

    @property
    def name(self) -> str:
        return self.space.name.lower()

    def depth(self, arch: Arch) -> int:
        """Words; 0 where the chip does not have it."""
        return getattr(arch, self.depth_field)

    def bits(self, arch: Arch) -> int:
        """Bits of a word, all copies together."""
        copies = getattr(arch, self.copies_field) if self.copies_field else 1
        return copies * getattr(arch, self.bits_field)

    def exists(self, arch: Arch) -> bool:
        return not self.optional or self.depth(arch) > 0

    def large(self, arch: Arch) -> bool:
        """Whether it is so many blocks of RAM that the wires to them take a cycle of their own."""
        return self.depth(arch) * self.bits(arch) > _LARGE


MEMORIES = {row.space: row for row in (
    MemoryRow(Space.ACTIVATION, "activation_depth", "activation_bits", "activation_bytes", "input",
              (Unit.LOAD, Unit.POST), (Unit.ARRAY,)),
    MemoryRow(Space.WEIGHT, "weight_depth", "weight_bits", "weight_bytes", "weights",
              (Unit.LOAD,), (Unit.ARRAY,)),
    MemoryRow(Space.PARAMETER, "parameter_depth", "parameter_bits", "parameter_bytes",
              "parameters", (Unit.LOAD,), (Unit.POST,), copies_field="post_lanes"),
    MemoryRow(Space.OPERAND, "operand_depth", "activation_bits", "activation_bytes", "operand",
              (Unit.LOAD, Unit.POST), (Unit.POST,), optional=True),
    MemoryRow(Space.TABLE, "table_depth", "table_bits", "table_bytes", "tables",
              (Unit.LOAD,), (Unit.POST,), optional=True),
    MemoryRow(Space.POOL, "pool_depth", "pool_bits", "pool_bytes", "pools",
              (Unit.LOAD,), (Unit.ARRAY,), optional=True),
    MemoryRow(Space.ACCUMULATOR, "accumulator_depth", "kept_bits", None, "sums",
              (Unit.ARRAY,), (Unit.ARRAY, Unit.POST), copies_field="columns"),
)}


def loadable(arch: Arch) -> list[MemoryRow]:
    """The memories of a chip that LOAD fills, in the order of `Memory`."""
    return [MEMORIES[Space(memory)] for memory in Memory if MEMORIES[Space(memory)].exists(arch)]


def memory_flags(arch: Arch) -> int:
    """Bits that say which of `Memory` a word is for, one for each up to the last that the chip
    has."""
    return 1 + max(row.space for row in loadable(arch))


def word_bytes(memory: int, arch: Arch) -> int:
    """Bytes that one word of a memory that LOAD fills takes in external memory."""
    field = MEMORIES[Space(memory)].bytes_field
    if field is None:
        raise ValueError(f"{Space(memory).name} cannot be loaded")
    return getattr(arch, field)


def loaded_bytes(instruction: Instruction, arch: Arch) -> int:
    """Bytes that one word of a LOAD takes in external memory."""
    return (instruction.word_beats * arch.beat_bytes
            or word_bytes(instruction.memory, arch))


def repeats(instruction: Instruction, arch: Arch) -> bool:
    """Whether the words of a LOAD repeat the bytes that it brings; else what they have beyond them
    is 0."""
    beats = instruction.word_beats
    return bool(arch.side_taps and beats and instruction.memory in (Memory.WEIGHT, Memory.PARAMETER)
                and not beats & (beats - 1))


def item_bytes(raw: int, arch: Arch) -> int:
    """Bytes that one item of the store unit takes in external memory: a raw chunk, or a group."""
    return arch.raw_bytes if raw else arch.group_bytes

"""Chips that differ in the depths of memories alone, and what is done once for their programs.

Where a deeper memory changes neither the places of maps nor the tiles, the compiler's stream of
instructions is the same before it is finished. Then its order and its tokens are the same as well,
as they follow from the words that instructions access, and a proof of the memory plan holds for
all chips with at least as many words in each memory: what it looks at besides instructions and the
description for the host is whether words are there. `Kin` compares, and where anything else than
a depth differs, all is done anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.program import Program
from systolith.hw.spec.widths import kept_bits
from systolith.sim.machine.memory_plan import check_memory_plan

from .alloc import Sections
from .emit import close, finish
from .layer import Layer
from .twins import UNSEEN

__all__ = ["DEPTHS", "Kin", "deeper", "family_fields", "same_but_depths"]

#: Memories of which more words change nothing else of a chip. An optional memory is there or is
#: not, and tables are addressed modulo their words.
DEPTHS = tuple(MEMORIES[space].depth_field for space in (
    Space.ACTIVATION, Space.WEIGHT, Space.ACCUMULATOR, Space.PARAMETER))
_KEPT = [opcode for opcode in Opcode if opcode.unit is not None]
#: Streams and proofs that are kept.
_MOST = 8


def family_fields(arch: Arch) -> tuple:
    """What is the same for chips of which `Kin` may find programs to be the same."""
    return (*(getattr(arch, item.name) for item in fields(arch)
              if item.name not in UNSEEN and item.name not in DEPTHS), arch.prepared_scales)


def deeper(arch: Arch, other: Arch) -> bool:
    """Whether a chip is another one with as many words or more in each memory, so that it executes
    all that the other one does."""
    return family_fields(arch) == family_fields(other) and all(
        getattr(arch, name) >= getattr(other, name) for name in DEPTHS) and all(
            bits >= kept_bits(other, opcode)[name]
            for opcode in _KEPT for name, bits in kept_bits(arch, opcode).items())


def same_but_depths(program: Program, other: Program) -> bool:
    """Whether two programs are the same but for the identity of their chips, which say how deep
    their memories are."""
    start = program.code_offset
    size = len(program.instructions) * program.arch.instruction_bytes
    return (program.instructions[1:-1] == other.instructions[1:-1]
            and (start, program.window_bytes) == (other.code_offset, other.window_bytes)
            and program.image[:start] == other.image[:start]
            and program.image[start + size:] == other.image[start + size:]
            and replace(program.host, depth={}) == replace(other.host, depth={}))


class Kin:
    """What is known of programs of one network, to be done once for chips that are related.

    It helps where the chip with the least words comes first.
    """

    def __init__(self) -> None:
        self._streams: dict[tuple, list[tuple[Arch, list[Instruction], int, int]]] = {}
        self._proven: list[Program] = []

    def finish(self, code: Sequence[tuple[Instruction, str | None]], sections: Sections,
               arch: Arch, layers: Sequence[Layer]) -> tuple[list[Instruction], int, int]:
        """As `emit.finish`, which it does where no chip with as few words had this stream."""
        key = (tuple(sections.sizes.items()), tuple(
            (section, i.opcode, i.layer, *i.fields.values()) for i, section in code))
        for known, instructions, offset, window in self._streams.get(key, ()):
            if deeper(arch, known):
                begin = Instruction(Opcode.BEGIN, {"identity": identity(arch)})
                close(sections, len(code), arch)
                return sealed([begin, *instructions[1:]]), offset, window
        found = finish(code, sections, arch, layers)
        if key not in self._streams and len(self._streams) == _MOST:
            del self._streams[next(iter(self._streams))]
        self._streams.setdefault(key, []).append((arch, *found))
        return found

    def check(self, program: Program,
              check: Callable[[Program], object] = check_memory_plan) -> None:
        """Prove the memory plan of a program by `check`, where that of a program that is the same,
        of a chip with as few words, has not been proven. Raises MemoryPlanError."""
        if any(deeper(program.arch, known.arch) and same_but_depths(program, known)
               for known in self._proven):
            return
        check(program)
        self._proven = [*self._proven[1 - _MOST:], program]

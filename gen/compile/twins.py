"""Chips whose programs are the same but for the identity in them.

They differ in when things happen (the cycle model sees that), not in what an instruction does, what
it may say or where data lie. So one of their programs, and every check of it, stands for all.
"""

from dataclasses import fields, replace

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import WITHOUT_EFFECT, identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.program import Program

from .emit import code_bytes

__all__ = ["UNSEEN", "for_twin", "program_fields"]

#: Fields of `Arch` that neither the compiler nor the checks of its programs look at.
UNSEEN = frozenset((*WITHOUT_EFFECT, "prefetch", "burst_beats"))


def program_fields(arch: Arch) -> tuple:
    """What is the same for twins and for no other chips."""
    return (*(getattr(arch, item.name) for item in fields(arch) if item.name not in UNSEEN),
            arch.prepared_scales)


def for_twin(program: Program, arch: Arch) -> Program:
    """The program as compiling it for `arch` gives it, a twin of its own chip: ValueError where it
    is none."""
    if program.arch == arch:
        return program
    if program_fields(program.arch) != program_fields(arch):
        raise ValueError(f"{arch.name!r} is no twin of {program.arch.name!r}")
    code = sealed([Instruction(Opcode.BEGIN, {"identity": identity(arch)}),
                   *program.instructions[1:]])
    text, image = code_bytes(code, arch), bytearray(program.image)
    image[program.code_offset:program.code_offset + len(text)] = text
    return replace(program, arch=arch, instructions=code, image=bytes(image))

"""The program file: instructions, memory image and what the host must know, in one file.

Layout: magic, header length (4 bytes), header (JSON), image, SHA-256 of all before it. The image
is the external memory from the start of the window: instructions at `code_offset`, then weights,
parameters and tables; inputs, outputs and intermediate results follow up to `window_bytes`.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import isa
from .arch import Arch
from .host import Host
from .identity import identity
from .instruction import decode, program_sum
from .records import Record, RecordError

__all__ = ["Program", "ProgramError"]

_MAGIC = b"SYSTOLITH PROGRAM 1\n"
_LARGEST = 1 << 29                          # bytes of a file
#: The most bytes of a window, which addresses of 32 bits reach.
MOST_BYTES = 1 << 32


@dataclass(frozen=True)
class _Header(Record):
    identity: str
    arch: dict[str, Any]
    code_offset: int
    instructions: int
    image_bytes: int
    window_bytes: int
    host: dict[str, Any]


class ProgramError(ValueError):
    """A program file that cannot be used: what is wrong with it."""


@dataclass
class Program:
    """A program for one chip.

    Attributes
    ----------
    arch : Arch
        The chip it was made for.
    instructions : list of Instruction
        BEGIN first, END last.
    image : bytes
        What external memory must hold at the start, from byte 0 of the window.
    code_offset : int
        Where the instructions stand in the image.
    window_bytes : int
        Size of the window; the core touches nothing outside.
    host : Host
        What the host must know, and what the layers are.
    """
    arch: Arch
    instructions: list
    image: bytes
    code_offset: int
    window_bytes: int
    host: Host = field(default_factory=Host)

    def save(self, path: str | Path) -> None:
        header = json.dumps(_Header(
            f"{identity(self.arch):016x}", self.arch.to_dict(), self.code_offset,
            len(self.instructions), len(self.image), self.window_bytes, self.host.to_json(),
        ).to_json(), sort_keys=True).encode()
        content = _MAGIC + len(header).to_bytes(4, "little") + header + bytes(self.image)
        Path(path).write_bytes(content + hashlib.sha256(content).digest())

    @classmethod
    def load(cls, path: str | Path, arch: Arch | None = None) -> "Program":
        """Read `path`; with `arch`, refuse a program for another chip. Raises ProgramError."""
        path = Path(path)
        if path.stat().st_size > _LARGEST:
            raise ProgramError(f"{path} has more than {_LARGEST:,} bytes, which no program has; "
                               "build it again")
        content = path.read_bytes()
        start = len(_MAGIC) + 4
        if not content.startswith(_MAGIC):
            raise ProgramError(f"{path} is no Systolith program")
        size = int.from_bytes(content[len(_MAGIC):start], "little")
        if len(content) < start + size + 32 or (
                hashlib.sha256(content[:-32]).digest() != content[-32:]):
            raise ProgramError(f"{path} is truncated or damaged: its checksum is wrong; build it "
                               "again")
        try:
            header = _Header.from_json(json.loads(content[start:start + size]), "the header")
        except RecordError as error:
            raise ProgramError(f"{path}: {error}; build it again") from None
        except (ValueError, RecursionError):
            raise ProgramError(f"{path}: the header is no JSON; build it again") from None
        image = content[start + size:-32]
        try:
            made_for = Arch(**header.arch)
        except (TypeError, ValueError) as error:
            raise ProgramError(f"{path} was made by another version, which describes chips in "
                               f"another way ({error}); build it again") from None
        if f"{identity(made_for):016x}" != header.identity:
            raise ProgramError(f"{path} was made for another version of the instruction set "
                               f"(identity {header.identity}); build it again")
        if arch is not None and identity(arch) != identity(made_for):
            raise ProgramError(f"{path} was made for the chip {made_for.name!r} (identity "
                               f"{identity(made_for):016x}), not for {arch.name!r} (identity "
                               f"{identity(arch):016x}); build it again for this chip")
        offset, each = header.code_offset, made_for.instruction_bytes
        end = offset + header.instructions * each
        if not (0 <= offset <= end <= len(image) == header.image_bytes <= header.window_bytes
                <= MOST_BYTES):
            raise ProgramError(f"{path}: the header's sizes contradict each other: code in bytes "
                               f"{offset} to {end} of an image of {header.image_bytes}, of which "
                               f"{len(image)} are there, in a window of {header.window_bytes}; "
                               "build it again")
        try:
            host = Host.from_json(header.host, "host")
        except RecordError as error:
            raise ProgramError(f"{path} was made by another version: {error}; build it again"
                               ) from None
        instructions = []
        for start in range(offset, end, each):
            try:
                instructions.append(decode(image[start:start + isa.INSTRUCTION_BYTES]))
            except ValueError as error:
                raise ProgramError(f"{path}: instruction {len(instructions)}: {error}; build it "
                                   "again") from None
        if program_sum(instructions):
            raise ProgramError(f"{path}: the checksum in the program's END is wrong; build it "
                               "again")
        return cls(made_for, instructions, image, offset, header.window_bytes, host)

"""Program files: what is damaged, foreign or of another version is refused in one line."""

import hashlib
import json

import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Host
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Opcode
from systolith.hw.spec.program import Program, ProgramError

from ...hosts import stated

ARCH = Arch(rows=4, columns=4, name="mine")
MAGIC = b"SYSTOLITH PROGRAM 1\n"


@pytest.fixture
def path(tmp_path):
    code = sealed([Instruction(Opcode.BEGIN), Instruction(Opcode.END)])
    image = b"".join(item.encode().to_bytes(INSTRUCTION_BYTES, "little") for item in code)
    Program(ARCH, code, image, 0, 4096, stated(2)).save(tmp_path / "program.bin")
    return tmp_path / "program.bin"


def rewrite(path, change):
    """Put what `change` makes of the header's data into a file, with a checksum that is right."""
    content = path.read_bytes()
    start = len(MAGIC) + 4
    size = int.from_bytes(content[len(MAGIC):start], "little")
    header = change(json.loads(content[start:start + size]))
    header = header if isinstance(header, bytes) else json.dumps(header, sort_keys=True).encode()
    content = MAGIC + len(header).to_bytes(4, "little") + header + content[start + size:-32]
    path.write_bytes(content + hashlib.sha256(content).digest())


def test_a_program_comes_back(path):
    program = Program.load(path, ARCH)
    assert program.host == stated(2) and program.arch == ARCH and program.window_bytes == 4096
    assert [i.opcode for i in program.instructions] == [Opcode.BEGIN, Opcode.END]
    before = path.read_bytes()
    program.save(path)
    assert path.read_bytes() == before
    rewrite(path, lambda header: header)
    assert path.read_bytes() == before


def test_a_program_of_another_sum_is_refused(path):
    program = Program.load(path)
    at = INSTRUCTION_BYTES + 3              # END's checksum
    image = bytearray(program.image)
    image[at] ^= 1
    program.image = bytes(image)
    program.save(path)
    with pytest.raises(ProgramError, match="the checksum in the program's END is wrong; build"):
        Program.load(path)


def test_the_instruction_that_is_none_is_named(path):
    program = Program.load(path)
    program.image = program.image[:INSTRUCTION_BYTES] + bytes(INSTRUCTION_BYTES)
    program.save(path)
    with pytest.raises(ProgramError, match="instruction 1: 0 is no opcode; build it again"):
        Program.load(path)


def test_a_program_of_no_network_comes_back(path):
    program = Program.load(path)
    program.host = Host()
    program.save(path)
    assert Program.load(path).host == Host()


def test_keys_of_a_later_version_are_passed_over(path):
    rewrite(path, lambda header: header | {"more": 1, "host": header["host"] | {"more": 2}})
    assert Program.load(path, ARCH).host == stated(2)


def changed(part, **fields):
    def change(header):
        inner = header
        for key in part:
            inner = inner[key]
        inner.update(fields)
        return header
    return change


def without(part, name):
    def change(header):
        inner = header
        for key in part:
            inner = inner[key]
        del inner[name]
        return header
    return change


@pytest.mark.parametrize("change, text", [
    (lambda header: b"{", ": the header is no JSON; build it again$"),
    (lambda header: b'"\xff"', ": the header is no JSON; build it again$"),
    (lambda header: [], r": the header must be an object, not \[\]; build it again$"),
    (without((), "host"), r": the header\.host is missing; build it again$"),
    (changed((), code_offset="0"), r"the header\.code_offset must be a whole number, not '0'; "),
    (changed((), instructions=1 << 40), "code in bytes 0 to 52776558133248 of an image of 96"),
    (changed((), code_offset=-4), "sizes contradict each other: code in bytes -4 to "),
    (changed((), image_bytes=5), "sizes contradict each other: .* of an image of 5, of which"),
    (changed((), window_bytes=1 << 33), "contradict each other: .* in a window of 8589934592; "),
    (changed((), identity="0" * 16), "was made for another version of the instruction set"),
    (changed(("arch",), colour="red"), r"made by another version, .*'colour'.*; build it again$"),
    (without(("arch",), "rows"), r"made by another version, .*'rows'.*; build it again$"),
    (changed(("arch",), rows=0), r"made by another version, .*rows.*; build it again$"),
    (without(("host", "layers", 1), "macs"),
     r"made by another version: host\.layers\[1\]\.macs is missing; build it again$"),
    (changed(("host",), batch=None),
     r"made by another version: host\.batch must be a whole number, not None; build it again$"),
])
def test_a_header_that_is_not_as_it_must_be_is_refused(path, change, text):
    rewrite(path, change)
    with pytest.raises(ProgramError, match=text) as caught:
        Program.load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_foreign_damaged_and_other_chips_files_are_refused(path):
    with pytest.raises(ProgramError, match=r"was made for the chip 'mine' .* not for 'chip' "):
        Program.load(path, Arch(rows=4, columns=5))
    content = path.read_bytes()
    for end in (len(MAGIC), 40, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ProgramError, match="truncated or damaged"):
            Program.load(path)
    path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    with pytest.raises(ProgramError, match="truncated or damaged"):
        Program.load(path)
    path.write_bytes(b"PNG")
    with pytest.raises(ProgramError, match="is no Systolith program"):
        Program.load(path)

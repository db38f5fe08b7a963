"""The serial transport, against a line that behaves as `hw.bridge` does."""

import random
from binascii import crc_hqx

import pytest
from systolith.hw.board.bridge import REGISTER_SPACE
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.rtl.device import Device, DeviceError
from systolith.sim.rtl.serial_link import SerialLink


class Line:
    """The far end of the line: 64 KiB of memory and registers."""

    def __init__(self, arch):
        self.memory = bytearray(range(256)) * 256
        self.registers = {registers.address(name): value for name, value in (
            ("ID", registers.ID), ("VERSION", registers.VERSION),
            ("IDENTITY_LOW", identity(arch) & 0xFFFFFFFF), ("IDENTITY_HIGH", identity(arch) >> 32))}
        self.answer, self.commands = bytearray(), []
        self.damage = self.damage_answer = bytes

    def pause(self, seconds):
        """Nothing to wait for."""

    @property
    def in_waiting(self):
        return len(self.answer)

    def reset_input_buffer(self):
        self.answer.clear()

    def write(self, data):
        if data == b"?":
            self.answer += b"?"
            return
        data = self.damage(data)
        letter, address, more = data[:1], int.from_bytes(data[1:5], "little"), data[5:7]
        words, content = int.from_bytes(more, "little") + 1, data[9:-2]
        check = crc_hqx(data[:7], 0xFFFF)
        if check.to_bytes(2, "little") != data[7:9]:
            return
        if letter == b"W":
            check = crc_hqx(content, check)
            if check.to_bytes(2, "little") != data[-2:]:
                return
        self.commands.append((letter, address, words))
        assert len(content) == (4 * words if letter == b"W" else 0)
        answer, fine = b"", True
        if address & REGISTER_SPACE:
            offset = address - REGISTER_SPACE
            if letter == b"W":
                self.registers[offset] = int.from_bytes(content, "little")
            else:
                answer = self.registers.get(offset, 0).to_bytes(4, "little")
        else:
            fine = address + 4 * words <= len(self.memory)
            if letter == b"W" and fine:
                self.memory[address:address + 4 * words] = content
            elif letter == b"R":
                answer = bytes(self.memory[address:address + 4 * words]).ljust(4 * words, b"\0")
        answer += b"K" if fine else b"E"
        self.answer += self.damage_answer(answer + crc_hqx(answer, check).to_bytes(2, "little"))

    def read(self, size):
        part, self.answer = bytes(self.answer[:min(size, 100)]), self.answer[min(size, 100):]
        return part


@pytest.fixture
def line():
    return Line(Arch(rows=2, columns=2))


def test_a_device_is_found(line):
    assert Device(SerialLink(line)).identity == identity(Arch(rows=2, columns=2))


@pytest.mark.parametrize("offset, size", [(0, 4), (3, 1), (5, 300), (2, 2), (1, 6), (1000, 4096)])
def test_memory_at_any_byte(line, offset, size):
    link, before = SerialLink(line), bytes(line.memory)
    data = bytes((7 * n + 1) & 255 for n in range(size))
    assert link.read_memory(offset, size) == before[offset:offset + size]
    link.write_memory(offset, data)
    assert line.memory == before[:offset] + data + before[offset + size:]


def test_long_transfers_take_several_commands(line, monkeypatch):
    monkeypatch.setattr(SerialLink, "MOST", 16)
    link = SerialLink(line)
    link.write_memory(0, bytes(range(200)))
    assert [words for letter, _, words in line.commands if letter == b"W"] == [16, 16, 16, 2]
    assert link.read_memory(0, 200) == bytes(range(200))


def test_registers_and_waiting(line):
    link = SerialLink(line)
    link.write_register(registers.address("WINDOW_SIZE"), 12345)
    assert link.read_register(registers.address("WINDOW_SIZE")) == 12345
    line.registers |= {registers.address("STATUS"): 1, registers.address("CYCLES"): 500}
    link.wait(limit=499)
    line.registers[registers.address("STATUS")] = 2
    link.wait(limit=None)


def test_what_goes_wrong_is_said(line):
    link = SerialLink(line)
    with pytest.raises(DeviceError, match="refused an access to byte 0x10000 of the memory"):
        link.write_memory(1 << 16, b"1234")
    line.answer += b"?"
    with pytest.raises(DeviceError, match="answer is damaged"):
        link.write_register(registers.address("CONTROL"), 1)
    line.answer += b"?"
    link.write_memory(0, b"1234")
    assert line.memory[:4] == b"1234", "given again"
    line.write = lambda data: None
    line.answer.clear()
    with pytest.raises(DeviceError, match="does not answer"):
        link.read_memory(0, 4)


def test_bits_that_are_wrong_change_nothing(line):
    """A bit is wrong in every third command and every fourth answer."""
    link, rng = SerialLink(line), random.Random(1)

    def damages(one_in):
        def damage(data):
            data = bytearray(data)
            if rng.randrange(one_in) == 0:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(data)
        return damage
    line.damage, line.damage_answer = damages(3), damages(4)
    link.REPEATS = 20
    expected = bytearray(line.memory)
    for _ in range(60):
        at, size = rng.randrange(1000), rng.randrange(1, 200)
        data = rng.randbytes(size)
        link.write_memory(at, data)
        expected[at:at + size] = data
        assert line.memory == expected
        at, size = rng.randrange(1000), rng.randrange(1, 200)
        assert link.read_memory(at, size) == expected[at:at + size]

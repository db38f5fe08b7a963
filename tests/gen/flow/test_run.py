"""Running a build on a device: a simulated board from the serial line's pins on, with the real core
inside, and a core in memory."""

import os
import pty
import select
import threading
import tty

import numpy as np
import pytest
from systolith.gen.chip.verilog import board_verilog
from systolith.gen.flow.build import PROGRAM
from systolith.gen.flow.run import connect, run
from systolith.gen.flow.simulate import encode, image_of
from systolith.gen.kit.errors import UserError
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl.board import DIVISOR, SimulatedBoard
from systolith.sim.rtl.device import Device
from systolith.sim.rtl.pynq_core import OVERLAY
from systolith.sim.rtl.serial_link import SerialLink

from ...builds import small_build
from ...sim import pynq_stand_in
from ...sim.core_in_memory import CoreInMemory
from . import test_host_c as c

ARCH = Arch(name="small", board="ulx3s-85f", rows=3, columns=2, activation="int4",
            weight="int4", bus_bits=32, activation_depth=256, weight_depth=64,
            accumulator_depth=64, parameter_depth=16, queue_depth=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_build(tmp_path_factory.mktemp("build"), ARCH)


@pytest.fixture(scope="module")
def board(made):
    with SimulatedBoard(BOARDS[ARCH.board], board_verilog(ARCH, made.verilog, DIVISOR),
                        timeout=2.0) as simulated:
        yield simulated


def images(made, count):
    return np.random.default_rng(1).uniform(
        -8, 7, (count, *made.graph.inputs[0].shape)).astype(np.float32)


def test_a_board_computes_what_the_golden_model_does(made):
    x = images(made, 2)
    found = run(made, x, "sim:board", check=True)
    assert found.images == 2 and found.comparison.bits == 0 and found.comparison.elements > 0
    golden = made.graph.decode_outputs(
        {name: made.graph.run(made.graph.encode_inputs(x), ARCH)[name]
         for name in made.graph.outputs}, x)
    assert np.array_equal(found.outputs, golden)
    assert 0 < found.compute_cycles < found.cycles < 2 * found.cycles_model


def test_the_host_in_c(made, board, tmp_path):
    x, host, program = images(made, 2), c.compiled(made, tmp_path), made.folder / PROGRAM
    done, results = c.ran(host, board.path, program, x, tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(results, c.expected(made, x).ravel())
    done, _ = c.ran(host, "/dev/null", program, x, tmp_path)
    assert done.returncode == 1 and "is no serial line" in done.stderr


def test_a_core_beside_the_processors(made, monkeypatch, tmp_path):
    for suffix in ("bit", "hwh"):
        (made.folder / OVERLAY).with_suffix(f".{suffix}").touch()
    with CoreInMemory(tmp_path / "memory", made.program) as core:
        buffers = pynq_stand_in.install(monkeypatch, core)
        found = run(made, images(made, 1), "pynq", check=True)
        assert found.comparison.bits == 0 and found.comparison.elements > 0
        assert buffers[0].freed
        with pytest.raises(UserError, match=r"pynq:other\.bit: other\.bit: no such file"):
            run(made, images(made, 1), "pynq:other.bit")


def test_a_wrong_result_is_seen(made, monkeypatch):
    image = bytearray(made.program.image)
    section = next(part for part in made.program.host.memory if part.section == "weights")
    start = section.offset
    image[start:start + section.bytes] = bytes(section.bytes)
    monkeypatch.setattr(made.program, "image", bytes(image))
    assert run(made, images(made, 1), "sim:board", check=True).comparison.bits


@pytest.mark.parametrize("noise", [b"x", b"W\0\0", b"W\0\x01\0\0\x07\0abc"],
                         ids=["a byte", "half a head", "half a payload"])
def test_the_line_recovers_from_what_a_dead_host_left(board, noise):
    board.write(noise)
    link = SerialLink(board)
    link.synchronize()
    assert Device(link).identity == identity(ARCH)


def test_a_command_whose_end_is_lost_is_given_again(board, monkeypatch):
    link = SerialLink(board)
    whole, sent = board.write, []

    def lossy(data):
        sent.append(data)
        whole(data[:-2] if len(sent) == 1 else data)
    monkeypatch.setattr(board, "write", lossy)
    link.write_memory(256, bytes(range(64)))
    assert len(sent) > 1 and link.read_memory(256, 64) == bytes(range(64))


def test_noise_goes_unnoticed_neither_way(board, monkeypatch):
    """A bit of a payload is wrong on its way to the board, then one of an answer."""
    link, write, read, sent = SerialLink(board), board.write, board.read, []

    def noisy_write(data):
        sent.append(data)
        write(data[:60] + bytes([data[60] ^ 8]) + data[61:] if len(sent) == 1 else data)

    def noisy_read(size):
        data = read(size)
        if size == 65 and len(reads) == 0:
            reads.append(data)
            return bytes([data[0] ^ 1]) + data[1:]
        return data
    reads = []
    link.write_memory(1024, bytes(256))
    monkeypatch.setattr(board, "write", noisy_write)
    link.write_memory(1024, bytes(range(256)))
    assert len(sent) > 1
    monkeypatch.setattr(board, "read", noisy_read)
    assert link.read_memory(1024, 64) == bytes(range(64))
    assert len(reads) == 1


def test_reset_in_the_middle_of_a_transfer_and_of_a_run(made, board):
    link, host = SerialLink(board), made.program.host
    link.synchronize()
    core = Device(link)
    core.load(made.program)
    board.write(b"W\0\0\0\0\xff\0")            # half of a command, then the button
    board.press_reset()
    link.synchronize()
    # What was acknowledged is there, but registers, which reset.
    assert link.read_memory(0, len(made.program.image)) == made.program.image
    core.load(made.program)
    link.write_register(registers.address("CONTROL"), registers.CONTROL_START)
    board.press_reset()
    assert not core.status.busy
    core.load(made.program)
    inputs, codes = encode(made, images(made, 1), None)
    data = pack_inputs(made.program, image_of(codes, np.array([0])))
    found = core.run(writes=[(host.input_offset, data)],
                     reads=[(host.output_offset, host.output_bytes)]).check()
    golden = made.graph.run(made.graph.encode_inputs(inputs), ARCH)
    for name, values in unpack_outputs(made.program, found.outputs[0]).items():
        assert np.array_equal(values, golden[name][0])


class NoisyTerminal:
    """A terminal between a host and a board, as a context manager: a bit is wrong in the parts with
    these numbers of what the board sends."""

    def __init__(self, board, wrong):
        self.board, self.wrong = board, wrong
        self.own, other = pty.openpty()
        tty.setraw(other)
        self.path, self.stopped = os.ttyname(other), threading.Event()
        self.thread = threading.Thread(target=self._relay, daemon=True)

    def _relay(self):
        passed = 0
        while not self.stopped.is_set():
            ready, _, _ = select.select([self.own, self.board.file], [], [], 0.01)
            if self.own in ready:
                self.board.write(os.read(self.own, 4096))
            if self.board.file in ready:
                data = os.read(self.board.file, 4096)
                passed += 1
                os.write(self.own, bytes([data[0] ^ (passed in self.wrong)]) + data[1:])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()
        os.close(self.own)


def test_the_host_in_c_asks_again_for_what_is_damaged(made, board, tmp_path):
    x, host = images(made, 1), c.compiled(made, tmp_path)
    SerialLink(board).synchronize()
    with NoisyTerminal(board, {3, 7}) as noisy:
        done, results = c.ran(host, noisy.path, made.folder / PROGRAM, x, tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(results, c.expected(made, x).ravel())


def test_an_unanswered_start_is_not_given_again(board, monkeypatch):
    link, sent = SerialLink(board), []
    monkeypatch.setattr(board, "write", sent.append)
    with pytest.raises(Exception, match="does not answer"):
        link.write_register(registers.address("CONTROL"), registers.CONTROL_START)
    assert len(sent) == 1


@pytest.mark.parametrize("device, message", [
    ("toaster", "'toaster' is no device; devices are serial:PORT"),
    ("sim:", "is no device"),
    ("serial:", "is no device"),
    ("serial:/dev/ttyUSB99@fast", "'fast' is no number"),
    ("mem:/dev/mem", "is no device"),
    ("mem:/dev/mem@1", "a core in memory is mem:FILE@REGISTERS,WINDOW,BYTES"),
    ("mem:/dev/mem@0x1000,0x2001,0x1000", "must be multiples of 4096"),
    ("mem:/nowhere@0x1000,0x2000,0x1000", "cannot be mapped: .*No such file"),
])
def test_devices_that_are_not_there(made, device, message):
    with pytest.raises(UserError, match=message):
        run(made, images(made, 1), device)


def test_a_build_without_a_board(made, monkeypatch):
    monkeypatch.setattr(made, "arch", Arch(rows=1, columns=1))
    with pytest.raises(UserError, match="sim:board needs a build for a board"), \
            connect("sim:board", made):
        pass

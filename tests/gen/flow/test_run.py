"""Running a build on a device: a simulated board from the serial line's pins on, with the real core
inside, and a core in memory."""

import numpy as np
import pytest
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.build import CORE, PROGRAM, Build
from systolith.gen.flow.run import connect, run
from systolith.gen.kit.errors import UserError
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.rtl.board import DIVISOR, SimulatedBoard
from systolith.sim.rtl.device import Device
from systolith.sim.rtl.serial_link import SerialLink

from ...networks import random_network
from . import test_host_c as c

ARCH = Arch(name="small", board="ulx3s-85f", rows=3, columns=2, activation="int4",
            weight="int4", bus_bits=32, activation_depth=256, weight_depth=64,
            accumulator_depth=64, parameter_depth=16, queue_depth=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    graph, _ = random_network(2, ARCH, layers=2, size=6)
    (folder / CORE).write_text(core_verilog(ARCH))
    program = compile_graph(graph, ARCH)
    program.save(folder / PROGRAM)
    return Build(folder, ARCH, graph, program)


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

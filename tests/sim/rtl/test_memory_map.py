"""A core in this machine's address space: a file stands for it, and the instruction-level simulator
for the core."""

import threading
import time

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.rtl.device import Device, DeviceError
from systolith.sim.rtl.memory_map import MemoryMap

from ...networks import random_network

ARCH = Arch(rows=2, columns=2, activation="int4", weight="int4")
REGISTERS, WINDOW, BYTES = 0x1000, 0x4000, 1 << 16


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "memory"
    place.write_bytes(bytes(WINDOW + BYTES))
    with MemoryMap(place, REGISTERS, WINDOW, BYTES) as mapped:
        for name, value in (("ID", registers.ID), ("VERSION", registers.VERSION),
                            ("IDENTITY_LOW", identity(ARCH) & 0xFFFFFFFF),
                            ("IDENTITY_HIGH", identity(ARCH) >> 32)):
            mapped.write_register(registers.address(name), value)
    return place


class Core(threading.Thread):
    """Waits for a start, runs the program in the file, says that it is done."""

    def __init__(self, path, program):
        super().__init__(daemon=True)
        self.path, self.program = path, program

    def run(self):
        with MemoryMap(self.path, REGISTERS, WINDOW, BYTES) as mapped:
            while not mapped.read_register(registers.address("CONTROL")):
                time.sleep(0.001)
            memory = bytearray(mapped.read_memory(0, self.program.window_bytes))
            Simulator(ARCH, memory).run(self.program.instructions)
            mapped.write_memory(0, bytes(memory))
            mapped.write_register(registers.address("STATUS"), 2)


def test_a_program_runs(path):
    graph, _ = random_network(1, ARCH, layers=1, size=4)
    program = compile_graph(graph, ARCH)
    codes = np.random.default_rng(0).integers(0, 16, (1, *graph.inputs[0].shape))
    host = program.host
    Core(path, program).start()
    with MemoryMap(path, REGISTERS, WINDOW, BYTES) as mapped:
        device = Device(mapped)
        device.load(program)
        mapped.write_register(registers.address("STATUS"), 1)
        found = device.run(writes=[(host.input_offset, pack_inputs(program, codes[0]))],
                           reads=[(host.output_offset, host.output_bytes)]).check()
        assert mapped.read_register(registers.address("WINDOW_BASE")) == WINDOW
    golden = graph.run(codes, ARCH)
    for name, values in unpack_outputs(program, found.outputs[0]).items():
        assert np.array_equal(values, golden[name][0])


def test_what_lies_beyond_the_window_is_not_touched(path):
    with MemoryMap(path, REGISTERS, WINDOW, BYTES) as mapped:
        with pytest.raises(DeviceError, match="needs 65,537 bytes of memory, and the device has"):
            mapped.write_memory(BYTES, b"x")
        mapped.write_memory(BYTES - 1, b"x")
        assert mapped.read_memory(BYTES - 1, 1) == b"x"

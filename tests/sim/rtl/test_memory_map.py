"""A core in this machine's address space: a file stands for it, and the instruction-level simulator
for the core."""

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl.device import Device, DeviceError
from systolith.sim.rtl.memory_map import MemoryMap

from ...networks import random_network
from ..core_in_memory import WINDOW, CoreInMemory

ARCH = Arch(rows=2, columns=2, activation="int4", weight="int4")


@pytest.fixture
def compiled():
    graph, _ = random_network(1, ARCH, layers=1, size=4)
    return graph, compile_graph(graph, ARCH)


def test_a_program_runs(compiled, tmp_path):
    graph, program = compiled
    codes = np.random.default_rng(0).integers(0, 16, (1, *graph.inputs[0].shape))
    host = program.host
    with CoreInMemory(tmp_path / "memory", program) as core, \
            MemoryMap(core.path, *core.places) as mapped:
        device = Device(mapped)
        device.load(program)
        found = device.run(writes=[(host.input_offset, pack_inputs(program, codes[0]))],
                           reads=[(host.output_offset, host.output_bytes)]).check()
        assert mapped.read_register(registers.address("WINDOW_BASE")) == WINDOW
    golden = graph.run(codes, ARCH)
    for name, values in unpack_outputs(program, found.outputs[0]).items():
        assert np.array_equal(values, golden[name][0])


def test_what_lies_beyond_the_window_is_not_touched(compiled, tmp_path):
    with CoreInMemory(tmp_path / "memory", compiled[1]) as core, \
            MemoryMap(core.path, *core.places) as mapped:
        size = core.places[2]
        with pytest.raises(DeviceError, match=f"needs {size + 1:,} bytes of memory, and the devic"):
            mapped.write_memory(size, b"x")
        mapped.write_memory(size - 1, b"x")
        assert mapped.read_memory(size - 1, 1) == b"x"

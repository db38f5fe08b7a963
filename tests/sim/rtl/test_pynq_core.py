"""The transport on a Zynq, with a stand-in for the package `pynq`."""

import sys

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl.device import Device, DeviceError
from systolith.sim.rtl.pynq_core import OVERLAY, PynqCore

from ...networks import random_network
from .. import pynq_stand_in
from ..core_in_memory import WINDOW, CoreInMemory

ARCH = Arch(rows=2, columns=2, activation="int4", weight="int4")


@pytest.fixture
def core(tmp_path):
    graph, _ = random_network(1, ARCH, layers=1, size=4)
    for suffix in ("bit", "hwh"):
        (tmp_path / OVERLAY).with_suffix(f".{suffix}").touch()
    with CoreInMemory(tmp_path / "memory", compile_graph(graph, ARCH)) as core:
        core.graph, core.overlay = graph, tmp_path / OVERLAY
        yield core


def test_a_program_runs_in_a_buffer_of_the_system(core, monkeypatch):
    buffers = pynq_stand_in.install(monkeypatch, core)
    program, host = core.program, core.program.host
    codes = np.random.default_rng(0).integers(0, 16, (1, *core.graph.inputs[0].shape))
    with PynqCore(core.overlay, program.window_bytes) as transport:
        device = Device(transport)
        device.load(program)
        found = device.run(writes=[(host.input_offset, pack_inputs(program, codes[0]))],
                           reads=[(host.output_offset, host.output_bytes)]).check()
        assert transport.read_register(registers.address("WINDOW_BASE")) == WINDOW
        assert transport.window_base == WINDOW and WINDOW % 4096 == 0
        assert not buffers[0].freed
    assert [buffer.freed for buffer in buffers] == [True]
    golden = core.graph.run(codes, ARCH)
    for name, values in unpack_outputs(program, found.outputs[0]).items():
        assert np.array_equal(values, golden[name][0])


def test_a_run_that_goes_on_is_ended_before_its_memory_is_given_back(core, monkeypatch):
    buffers = pynq_stand_in.install(monkeypatch, core)
    with PynqCore(core.overlay, core.program.window_bytes) as transport:
        assert transport.read_register(registers.address("STATUS")) == 1
        transport.wait(limit=-1)
    assert buffers[0].mapped.read_register(registers.address("CONTROL")) == registers.CONTROL_RESET


def test_what_is_missing_is_said(core, monkeypatch):
    def message(window=4096, overlay=core.overlay, **options):
        pynq_stand_in.install(monkeypatch, core, **options)
        with pytest.raises(DeviceError) as error:
            PynqCore(overlay, window)
        return str(error.value)

    assert "holds 0 Systolith cores" in message(kinds=())
    assert "holds 2 Systolith cores" in message(kinds=("systolith:ip:systolith:0.1",) * 2)
    assert "other.bit: no such file; Vivado makes it" in message(
        overlay=core.overlay.with_name("other.bit"))
    core.overlay.with_suffix(".hwh").unlink()
    assert ".hwh: no such file" in message()
    core.overlay.with_suffix(".hwh").touch()

    def nothing(*shape):
        raise MemoryError("CMA")
    pynq_stand_in.install(monkeypatch, core)
    monkeypatch.setattr(sys.modules["pynq"], "allocate", nothing)
    with pytest.raises(DeviceError, match="no room for 4,096 bytes"):
        PynqCore(core.overlay, 4096)
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(DeviceError, match="the package pynq is missing"):
        PynqCore(core.overlay, 4096)

"""The host driver, on registers that answer without a core."""

import pytest
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import ErrorCode, UnitState
from systolith.sim.rtl import device as device_module
from systolith.sim.rtl.device import (
    Device,
    DeviceError,
    Status,
    devices_of,
    memory_bytes,
    spread,
    wait_for_reset,
)

ARCH = Arch(rows=2, columns=3)
address = registers.address


class Registers:
    """A transport to a core that is done at once, and notes what it is told."""

    window_base = 0x7000

    def __init__(self, **values):
        self.values = {"ID": registers.ID, "VERSION": registers.VERSION, "STATUS": 2, "WAITING": 0,
                       "WINDOW_BASE": self.window_base, "WATCHDOG": 9,
                       "IDENTITY_LOW": identity(ARCH) & 0xFFFFFFFF,
                       "IDENTITY_HIGH": identity(ARCH) >> 32} | values
        self.names = {register.offset: register.name for register in registers.REGISTERS}
        self.memory = bytearray(64)
        self.told = []

    def read_register(self, offset):
        return self.values.get(self.names[offset], offset)

    def write_register(self, offset, value):
        self.told.append((self.names[offset], value))

    def read_memory(self, offset, size):
        return bytes(self.memory[offset:offset + size])

    def write_memory(self, offset, data):
        self.told.append(("memory", offset))
        self.memory[offset:offset + len(data)] = data

    def wait(self, limit):
        self.told.append(("wait", limit))


def test_loads_and_runs():
    transport = Registers(CYCLES=100, COMPUTE_FIRST=20, COMPUTE_LAST=89, BUSY_POST=7)
    device = Device(transport)
    assert device.identity == identity(ARCH)
    device.load(Program(ARCH, [], bytes(range(40)), 0x40, 0x80), watchdog=9)
    result = device.run([(3, b"\xAA\xBB")], [(2, 4), (0, 1)], limit=55).check()
    assert transport.told == [
        ("memory", 0), ("WINDOW_BASE", 0x7000), ("WINDOW_SIZE", 0x80), ("PROGRAM", 0x40),
        ("WATCHDOG", 9), ("memory", 3), ("CONTROL", registers.CONTROL_START), ("wait", 55)]
    assert result.outputs == [b"\x02\xAA\xBB\x05", b"\x00"]
    assert (result.cycles, result.compute_cycles) == (100, 70)
    assert result.activity["post"]["running"] == 7
    assert result.activity["array"] == {"running": 0x44, "tokens": 0x54}     # their offsets
    device.reset()
    assert transport.told[-1] == ("CONTROL", registers.CONTROL_RESET)


def test_a_chip_without_counters_counts_cycles_alone():
    device = Device(Registers(COUNTERS=0, CYCLES=100))
    device.load(Program(ARCH, [], b"", 0x40, 0x80), watchdog=9)
    result = device.run()
    assert (result.cycles, result.compute_cycles, result.activity) == (100, None, None)


def test_refuses_what_is_no_core_and_another_chips_program():
    with pytest.raises(DeviceError, match="ID register must read 0x53595354, not 0x0"):
        Device(Registers(ID=0))
    with pytest.raises(DeviceError, match="registers are of version 7"):
        Device(Registers(VERSION=7))
    other = Arch(name="other", rows=3, columns=3)
    transport = Registers()
    with pytest.raises(DeviceError, match=r"made for the chip 'other'.*build the program for this"):
        Device(transport).load(Program(other, [], b"", 0, 64))
    assert not transport.told


def test_status_names_unit_and_what_it_waits_for():
    status = Status.decode(4 | ErrorCode.WATCHDOG << 4 | 4 << 8 | 12 << 16,
                           0x03_04_52_01, 0x1234)
    assert status.error == ErrorCode.WATCHDOG and status.layer == 12
    assert status.units["array"] == (UnitState.TOKENS, ["load", "post"])
    assert str(status) == (
        "stopped on error 5, no progress for as long as the watchdog allows (unit sequencer, "
        "layer 12, byte 0x1234 of the window); load running, array waits for a token from load "
        "and post, post waits for its neighbour, store waits for memory")
    assert str(Status.decode(2, 0, 0)) == "done"
    assert str(Status.decode(1, 1, 0)).startswith("busy; load running, array idle")


@pytest.mark.parametrize("status, waiting", [(6 << 8, 0), (4 | 15 << 4, 0), (1, 9)])
def test_registers_that_no_core_has(status, waiting):
    with pytest.raises(DeviceError, match="is it a Systolith core"):
        Status.decode(status, waiting, 0)


class Slow(Registers):
    """A core whose soft reset ends at the given look at STATUS."""

    def __init__(self, looks, **values):
        super().__init__(**values)
        self.looks = looks

    def read_register(self, offset):
        value = super().read_register(offset)
        if self.names[offset] == "STATUS" and self.looks:
            self.looks -= 1
            value |= registers.STATUS_RESETTING
        return value


def test_a_soft_reset_is_waited_for_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(device_module, "_RESET_SECONDS", 0.001)
    slow = Slow(5)
    Device(slow).reset()
    assert slow.told == [("CONTROL", registers.CONTROL_RESET)] and not slow.looks
    slow = Slow(5)
    Device(slow).run()      # the start is not lost
    assert slow.told[0] == ("CONTROL", registers.CONTROL_START) and not slow.looks
    for command in (Device.reset, Device.run):
        slow = Slow(1 << 30)
        with pytest.raises(DeviceError, match=r"a soft reset does not end, .* reset inputs"):
            command(Device(slow))
        assert ("CONTROL", registers.CONTROL_START) not in slow.told
        vain = Slow(1 << 30, STATUS=4 | ErrorCode.RESET << 4)       # the core says so itself
        with pytest.raises(DeviceError, match=r"a soft reset does not end, .* FPGA again"):
            command(Device(vain))
        assert vain.looks == (1 << 30) - 1
    assert "9, a soft reset does not" in str(Status.decode(8 | 4 | ErrorCode.RESET << 4, 0, 0))
    assert str(Status.decode(8, 0, 0)).startswith("a soft reset waits for")


def test_a_window_that_must_begin_at_0_is_told():
    with pytest.raises(DeviceError, match=r"begins at 0x0, and its memory is at 0x7000; build"):
        Device(Registers(WINDOW_BASE=0)).load(Program(ARCH, [], bytes(40), 0x40, 0x80))


def test_without_a_watchdog_a_run_needs_a_limit():
    transport = Registers(WATCHDOG=0)
    with pytest.raises(DeviceError, match=r"WATCHDOG is 0.*run\(limit=...\) or load\("):
        Device(transport).run()
    assert not transport.told
    Device(transport).run(limit=7)
    assert transport.told[-1] == ("wait", 7)


def test_a_run_that_did_not_finish():
    result = Device(Registers(STATUS=1, WAITING=3)).run()
    with pytest.raises(DeviceError, match="did not finish after 48 cycles: busy; load waits for"):
        result.check()


class Several:
    """The registers of some cores, of which each finishes at its own time."""
    window_base = 0x10000

    def __init__(self, times):
        self.cores = [Registers() for _ in times]
        self.times, self.left = times, [0] * len(times)
        self.starts, self.resets, self.memory = [], [], {}

    def read_register(self, offset):
        core, offset = divmod(offset, 256)
        if offset == address("STATUS"):
            return 1 if self.left[core] else 2
        return self.cores[core].read_register(offset)

    def write_register(self, offset, value):
        core, offset = divmod(offset, 256)
        if offset == address("CONTROL"):
            (self.starts if value == 1 else self.resets).append(core)
            self.left[core] = self.times[core] if value == 1 else 0
            return
        self.cores[core].write_register(offset, value)

    def wait(self, limit):
        least = min(left for left in self.left if left)
        self.left = [max(0, left - least) for left in self.left]

    def write_memory(self, offset, data):
        self.memory[offset] = bytes(data)

    def read_memory(self, offset, size):
        return self.memory[offset][:size]


def test_runs_go_to_the_core_that_is_free():
    arch = Arch(rows=2, columns=3, cores=2)
    program = Program(arch, [], bytes(64), 0, 5000)
    transport = Several([30, 10])
    devices = devices_of(transport, program)
    assert memory_bytes(arch, 5000) == 8192 + 5000
    begun = []
    found = spread(devices, [([(4, bytes([run]))], [(4, 1)]) for run in range(5)],
                   begins=lambda run, core: begun.append((run, core)))
    assert [run for run, _ in begun] == list(range(5)) and begun[:3] == [(0, 0), (1, 1), (2, 1)]
    assert [core for _, core in begun].count(1) == 3        # it is three times as fast
    assert [run.outputs for run in found] == [[bytes([run])] for run in range(5)]
    assert set(transport.memory) == {4, 8192 + 4}
    assert len(transport.resets) == 1           # the first one with nothing left to do


def test_another_error_does_not_end_the_wait_for_a_reset():
    """The error of the run before stays until the reset is over."""
    busy = registers.STATUS_RESETTING | 4 | ErrorCode.BUS << 4
    seen = [busy, busy, 0]
    wait_for_reset(lambda offset: seen.pop(0))
    assert not seen
    vain = registers.STATUS_RESETTING | 4 | ErrorCode.RESET << 4
    with pytest.raises(DeviceError):
        wait_for_reset(lambda offset: vain)

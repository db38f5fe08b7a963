"""What cocotb runs inside the simulator: the host driver on the simulated core.

The jobs come as a file, named by the plusarg `jobs`, from `sim.rtl`, and the results go back as
`results.pickle`. The driver is ordinary blocking code in a thread; a register access or a
transfer is a few events, and waiting for the core is one.
"""

import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb
from cocotb.task import bridge, resume
from cocotb.triggers import RisingEdge, ValueChange
from systolith.hw.spec.widths import has_window_base

from .core import RtlRun
from .device import Device, DeviceError, devices_of, memory_bytes, spread

#: Multiple of 4096; not 0, where a chip allows it, so that an address without it is outside.
WINDOW_BASE = 0x4000_3000

_LOAD, _DUMP, _FILL, _LOG, _TRACE = 1, 2, 3, 4, 5


class SimulatedTransport:
    """Registers and memory of `harness.sv`, as `Device` wants them.

    Attributes
    ----------
    clocks, seconds : int, float
        Simulated while waiting for the core, and what that took.
    """

    def __init__(self, dut: Any):
        self.dut = dut
        self.window_base = 0
        self.clocks, self.seconds = 0, 0.0
        self.read_register = resume(self._read_register)
        self.write_register = resume(self._write_register)
        self.wait = resume(self._wait)
        self.transfer = resume(self._transfer)
        self.start = resume(self._start)

    def read_memory(self, offset: int, size: int) -> bytes:
        self.transfer(_DUMP, 0, offset, size)
        return Path("dump.bin").read_bytes()[:size]

    def write_memory(self, offset: int, data: bytes) -> None:
        Path("load.bin").write_bytes(data)
        self.transfer(_LOAD, 0, offset, len(data))

    def set_fault(self, fault: tuple | None, response: int = 2) -> None:
        """See `Job`."""
        self.dut.fault.value, self.dut.fault_first.value, self.dut.fault_last.value = (
            fault or (0, 0, 0))
        self.dut.fault_response.value = response

    async def _start(self, job):
        """Reset everything and set the memory up for a job."""
        dut = self.dut
        dut.rst.value = 1
        self.window_base = WINDOW_BASE if has_window_base(job.program.arch) else 0
        dut.window_base.value = self.window_base
        size = memory_bytes(job.program.arch, job.program.window_bytes)
        dut.window_size.value = size
        dut.latency.value = job.latency
        dut.stalls.value = round(job.stalls * 256)
        dut.seed.value = job.seed
        self.set_fault(job.fault, job.response)
        await self._transfer(_FILL, job.seed & 0xFFFFFFFF, 0, size)
        for _ in range(3):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)

    async def _transfer(self, kind, index, offset, size):
        dut = self.dut
        dut.transfer_kind.value = kind
        dut.transfer_index.value = index
        dut.transfer_offset.value = offset
        dut.transfer_size.value = size
        dut.transfer.value = 1 - int(dut.transferred.value)
        await ValueChange(dut.transferred)

    async def _access(self, write, offset, value):
        dut = self.dut
        dut.csr_write.value = write
        dut.csr_address.value = offset
        dut.csr_data.value = value
        dut.csr_request.value = 1 - int(dut.csr_done.value)
        await ValueChange(dut.csr_done)
        if response := int(dut.csr_response.value):
            raise DeviceError(f"register {offset:#x} did not answer" if response & 4 else
                              f"register {offset:#x} answered with the error {response}")
        return int(dut.csr_result.value)

    async def _read_register(self, offset):
        return await self._access(0, offset, 0)

    async def _write_register(self, offset, value):
        await self._access(1, offset, value)

    async def _wait(self, limit):
        dut = self.dut
        clocks, seconds = int(dut.cycle.value), time.perf_counter()
        dut.limit.value = 0xFFFFFFFF if limit is None else limit
        dut.waiting.value = 1
        await RisingEdge(dut.finished)
        self.clocks += (int(dut.cycle.value) - clocks) & 0xFFFFFFFF
        self.seconds += time.perf_counter() - seconds
        dut.waiting.value = 0


def _run(dut, jobs):
    """(results of every run of every job, clocks, seconds)"""
    transport = SimulatedTransport(dut)
    results: list[list[RtlRun]] = []

    def start(job):
        transport.start(job)
        device = Device(transport)
        device.load(job.program, job.watchdog)
        return device

    def run(device, job, what, **facts):
        transport.transfer(_LOG, sum(map(len, results)), 0, 0)
        found = device.run(what.writes, what.reads, job.limit)
        results[-1].append(RtlRun(**vars(found), **facts))
        return found.status.done and found.status.error is None

    def run_all(job):
        """Runs of a job on several cores; how they end is in the results."""
        if job.again:
            raise ValueError("a run again after a reset is for chips of one core")
        transport.start(job)
        first = sum(map(len, results))
        transport.transfer(_LOG, first, 0, 0)
        devices = devices_of(transport, job.program)
        for device in devices:
            device.load(job.program, job.watchdog)
        results.append([RtlRun(**vars(found)) for found in spread(
            devices, [(what.writes, what.reads) for what in job.runs], job.limit,
            lambda run, core: transport.transfer(_TRACE, first + run, core, 0))])

    for job in jobs:
        if job.program.arch.cores > 1:
            run_all(job)
            continue
        device = start(job)
        results.append([])
        for what in job.runs:
            if not run(device, job, what):
                break
        if job.again:
            good = replace(job, fault=None, limit=job.limit_again)
            device, reset = _reset(transport, device, good, start)
            run(device, good, job.runs[0], reset=reset)
    transport.transfer(_LOG, sum(map(len, results)), 0, 0)
    return results, transport.clocks, transport.seconds


def _reset(transport, device, job, start):
    """The device after the reset that a job wants, with the memory as it was at first; and which
    reset it was."""
    reset = job.again
    if reset == "soft":
        try:
            device.reset()
        except DeviceError:
            reset = "soft in vain"
    if reset != "soft":
        return start(job), reset
    transport.set_fault(None)
    transport.transfer(_FILL, job.seed & 0xFFFFFFFF, 0, job.program.window_bytes)
    device.load(job.program, job.watchdog)
    return device, reset


@cocotb.test()
async def bench(dut: Any) -> None:
    jobs = pickle.loads(Path(str(cocotb.plusargs["jobs"])).read_bytes())
    try:
        outcome = await bridge(_run)(dut, jobs)
    except DeviceError as error:
        outcome = error
    Path("results.pickle").write_bytes(pickle.dumps(outcome))

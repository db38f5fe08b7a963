"""The driver of a core on the host: load a program, run it, report how it ended. The same for
simulated and real cores; they differ in the transport alone.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.counts import Counts
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import ErrorCode, UnitState

__all__ = ["MEANING", "Device", "DeviceError", "RunResult", "Status", "Transport", "devices_of",
           "memory_bytes", "spread", "wait_for_reset", "window_stride"]

#: What each error means, as users are told.
MEANING = {
    ErrorCode.ILLEGAL: "illegal instruction, or BEGIN is missing",
    ErrorCode.IDENTITY: "the program was made for another chip",
    ErrorCode.WINDOW: "address outside the window",
    ErrorCode.BUS: "the memory bus answered with an error",
    ErrorCode.WATCHDOG: "no progress for as long as the watchdog allows",
    ErrorCode.TOKENS: "more tokens given than a counter holds",
    ErrorCode.PROTOCOL: "the memory bus answered what nothing had asked for",
    ErrorCode.LAST: "the memory bus ended a burst at the wrong beat (RLAST)",
    ErrorCode.CHECKSUM: "the program in memory is not the one that was compiled: its checksum is "
                        "wrong; load it again",
    ErrorCode.RESET: "a soft reset does not end, because the memory bus owes answers to bursts of "
                     "the run before: reset core and memory by their reset inputs, or configure "
                     "the FPGA again",
}


class DeviceError(RuntimeError):
    """A core that does not answer, is another one than expected, or has not finished its run."""


@dataclass(frozen=True)
class Status:
    """STATUS, WAITING and ERROR_ADDRESS, decoded. `str()` tells it in a sentence.

    `resetting`: a soft reset waits until the memory bus is quiet.
    `error` is None or an `ErrorCode`; `unit`, `layer` and `address` say where it was found, the
    last two None on chips that do not say it.
    `units` maps a unit's name to (UnitState, names of units whose token it waits for).
    """
    busy: bool
    done: bool
    resetting: bool
    error: ErrorCode | None
    unit: str
    layer: int | None
    address: int | None
    units: dict

    @classmethod
    def decode(cls, status: int, waiting: int, address: int) -> "Status":
        """From the registers. Raises DeviceError for values that no core gives."""
        number = status >> 8 & 7
        states = {}
        try:
            for unit in Unit:
                code = waiting >> (8 * unit)
                states[unit.name.lower()] = (UnitState(code & 15), [
                    giver.name.lower() for giver in Unit if code >> (4 + giver) & 1])
            return cls(
                busy=bool(status & 1), done=bool(status & 2), resetting=bool(status & 8),
                error=ErrorCode(status >> 4 & 15) if status & 4 else None,
                unit="sequencer" if number == registers.SEQUENCER else Unit(number).name.lower(),
                layer=None if status >> 11 & 1 else status >> 16 & 0xFFF,
                address=None if status >> 11 & 1 else address, units=states)
        except ValueError:
            raise DeviceError(f"no core has STATUS {status:#010x} with WAITING {waiting:#010x}: "
                              "is it a Systolith core?") from None

    def __str__(self):
        if self.resetting and self.error != ErrorCode.RESET:
            return "a soft reset waits for what the memory bus still owes"
        if self.done and self.error is None:
            return "done"
        if self.error is None:
            return f"{'busy' if self.busy else 'idle'}; {self._waits()}"
        where = f"unit {self.unit}" + (
            "" if self.address is None else f", layer {self.layer}, byte {self.address:#x} of the "
            "window")
        return (f"stopped on error {self.error.value}, {MEANING[self.error]} ({where}); "
                f"{self._waits()}")

    def _waits(self):
        text = {UnitState.IDLE: "idle", UnitState.RUNNING: "running",
                UnitState.MEMORY: "waits for memory", UnitState.UNIT: "waits for its neighbour"}
        return ", ".join(
            f"{name} waits for a token from {' and '.join(givers)}"
            if state == UnitState.TOKENS else f"{name} {text[state]}"
            for name, (state, givers) in self.units.items())


@dataclass
class RunResult(Counts):
    """One run: what it took, how it ended, and what it left in memory, in the order asked for."""
    status: Status
    outputs: list = field(default_factory=list)

    def check(self) -> Self:
        """Raises DeviceError unless the run has reached its end."""
        if not self.status.done or self.status.error is not None:
            raise DeviceError(f"the run did not finish after {self.cycles} cycles: {self.status}")
        return self


class Transport(Protocol):
    """How a `Device` reaches the registers and the memory of its core."""

    @property
    def window_base(self) -> int:
        """Where the window lies in the address space of the core's memory port; a multiple of
        4096."""

    @property
    def read_register(self) -> Callable[[int], int]:
        """Function of a register's byte offset: its 32-bit value."""

    @property
    def write_register(self) -> Callable[[int, int], None]:
        """Function of a register's byte offset and its new value."""

    @property
    def wait(self) -> Callable[[int | None], None]:
        """Function of a number of clock cycles (None: no limit) that returns when the core is not
        busy any more, or after so many cycles."""

    def read_memory(self, offset: int, size: int) -> bytes:
        """`size` bytes of memory from byte `offset` of the window on."""

    def write_memory(self, offset: int, data: bytes) -> None:
        """Write `data` to memory from byte `offset` of the window on."""


#: How long a soft reset may take: so many looks at STATUS and so many seconds, both. A core says
#: itself after RESET_CYCLES of silence that it is in vain; this is for one that does not.
_RESET_READS, _RESET_SECONDS = 20_000, 1.0


def wait_for_reset(read_register: Callable[[int], int], pause: float = 0) -> None:
    """Wait until a soft reset is over, which was written before, and `pause` seconds between looks.

    read_register: see `Transport`. Raises DeviceError where the reset does not end.
    """
    reads, end = _RESET_READS, time.monotonic() + _RESET_SECONDS
    while (status := read_register(registers.address("STATUS"))) & registers.STATUS_RESETTING:
        reads -= 1
        vain = status & 4 and status >> 4 & 15 == ErrorCode.RESET
        if vain or (reads <= 0 and time.monotonic() > end):
            raise DeviceError(MEANING[ErrorCode.RESET])
        time.sleep(pause)


class Device:
    """A core that runs programs. Raises DeviceError where the registers are not those of a core.

    Parameters
    ----------
    transport : Transport
    """

    def __init__(self, transport: Transport):
        self.transport = transport
        found = self._read("ID")
        if found != registers.ID:
            raise DeviceError(f"the ID register must read {registers.ID:#x}, not {found:#x}: there "
                              "is no Systolith core, or it is in reset")
        if (version := self._read("VERSION")) != registers.VERSION:
            raise DeviceError(f"the registers are of version {version}, this driver is for "
                              f"version {registers.VERSION}")

    @property
    def identity(self) -> int:
        """The chip's identity, as `systolith.hw.spec.identity`."""
        return self._read("IDENTITY_LOW") | self._read("IDENTITY_HIGH") << 32

    @property
    def status(self) -> Status:
        return Status.decode(*map(self._read, ("STATUS", "WAITING", "ERROR_ADDRESS")))

    def reset(self) -> None:
        """Soft reset, which also ends a run; needed after an error.

        Raises DeviceError where the memory bus does not bring what the core has asked for: then
        core and memory need a reset by their reset inputs.
        """
        self._write("CONTROL", registers.CONTROL_RESET)
        wait_for_reset(self.transport.read_register)

    def load(self, program: Program, watchdog: int = 1 << 16) -> None:
        """Put a `Program` into memory and open the window for it.

        watchdog: cycles without progress after which a run ends with an error; 0: never.
        Raises DeviceError for a program that was made for another chip.
        """
        found = self.identity
        if identity(program.arch) != found:
            raise DeviceError(
                f"the program was made for the chip {program.arch.name!r} (identity "
                f"{identity(program.arch):016x}), this chip's identity is {found:016x}; build "
                "the program for this chip")
        self.transport.write_memory(0, program.image)
        self._write("WINDOW_BASE", self.transport.window_base)
        if (base := self._read("WINDOW_BASE")) != self.transport.window_base:
            raise DeviceError(
                f"this chip's window begins at {base:#x}, and its memory is at "
                f"{self.transport.window_base:#x}; build it with bus.address_bits=32")
        self._write("WINDOW_SIZE", program.window_bytes)
        self._write("PROGRAM", program.code_offset)
        self._write("WATCHDOG", watchdog)
        if self._read("WATCHDOG") != watchdog:
            raise DeviceError(f"this chip's watchdog cannot wait for {watchdog:,} cycles: its "
                              "control.watchdog_bits are too few")

    def run(self, writes: Iterable[tuple[int, bytes]] = (), reads: Iterable[tuple[int, int]] = (),
            limit: int | None = None) -> RunResult:
        """Run the program once; a `RunResult`, also after an error (see its `check`).

        writes: (offset in the window, bytes) to put into memory before the start.
        reads: (offset, size) to take from memory in the end.
        limit: clock cycles to wait; the core is left running when they are over.
        Raises DeviceError where nothing would end the wait: without a limit and with the watchdog
        off, or where the bus is not quiet after a soft reset.
        """
        self.start(writes, limit)
        self.transport.wait(limit)
        return self.result(reads)

    def start(self, writes: Iterable[tuple[int, bytes]] = (), limit: int | None = None) -> None:
        """Begin a run, without waiting for its end; arguments and errors as of `run`."""
        wait_for_reset(self.transport.read_register)
        if limit is None and not self._read("WATCHDOG"):
            raise DeviceError("with the watchdog off (WATCHDOG is 0) a run needs a limit of "
                              "cycles, or nothing ends the wait for a core that hangs: "
                              "run(limit=...) or load(program, watchdog=...)")
        for offset, content in writes:
            self.transport.write_memory(offset, content)
        self._write("CONTROL", registers.CONTROL_START)

    def result(self, reads: Iterable[tuple[int, int]] = ()) -> RunResult:
        """What has become of a run; `reads` as of `run`."""
        counters = bool(self._read("COUNTERS"))
        return RunResult(
            status=self.status, cycles=self._read("CYCLES"),
            compute_first=self._read("COMPUTE_FIRST") if counters else None,
            compute_last=self._read("COMPUTE_LAST") if counters else None,
            activity=self._activity() if counters else None,
            outputs=[self.transport.read_memory(offset, size) for offset, size in reads])

    def _activity(self):
        return {unit.name.lower(): {state.name.lower(): self._read(registers.counter(unit, state))
                                    for state in states}
                for unit, states in registers.COUNTED.items()}

    def _read(self, name):
        return self.transport.read_register(registers.address(name))

    def _write(self, name, value):
        self.transport.write_register(registers.address(name), value)


class _Part:
    """A transport to core `core` of several: its registers, and its window, which is the memory
    from byte `core * size` on."""

    def __init__(self, transport: Transport, core: int, size: int) -> None:
        self.transport, self._registers, self._memory = (
            transport, core << registers.CORE_BITS, core * size)
        self.window_base = transport.window_base + self._memory
        self.wait = transport.wait

    def read_register(self, offset: int) -> int:
        return self.transport.read_register(self._registers + offset)

    def write_register(self, offset: int, value: int) -> None:
        self.transport.write_register(self._registers + offset, value)

    def read_memory(self, offset: int, size: int) -> bytes:
        return self.transport.read_memory(self._memory + offset, size)

    def write_memory(self, offset: int, data: bytes) -> None:
        self.transport.write_memory(self._memory + offset, data)


def window_stride(arch: Arch, window_bytes: int) -> int:
    """Bytes from one core's window to the next one's."""
    return window_bytes if arch.cores == 1 else -(-window_bytes // PAGE_BYTES) * PAGE_BYTES


def memory_bytes(arch: Arch, window_bytes: int) -> int:
    """Bytes of memory that all cores of a chip need for programs of so large a window."""
    return window_bytes + (arch.cores - 1) * window_stride(arch, window_bytes)


def devices_of(transport: Transport, program: Program) -> list[Device]:
    """The cores that a transport reaches, each with its own window for `program`: a copy of the
    program in each, one after the other. Raises DeviceError where one is not there."""
    arch = program.arch
    if arch.cores == 1:
        return [Device(transport)]
    stride = window_stride(arch, program.window_bytes)
    return [Device(_Part(transport, core, stride)) for core in range(arch.cores)]


def spread(devices: Sequence[Device], runs: Iterable[tuple[Iterable, Iterable]],
           limit: int | None = None, begins: Callable[[int, int], None] | None = None
           ) -> list[RunResult]:
    """Run a program on several cores at once, which all have it loaded.

    Parameters
    ----------
    devices : list of Device
        Of one transport, whose `wait` ends when any core is not busy any more; one that looks at
        STATUS knows of core 0 alone.
    runs : iterable of (writes, reads)
        As of `Device.run`. Each goes to the first core that is free.
    limit : int or None
        Clock cycles to wait for the next core that ends; what runs then is left running, and
        nothing more is begun.
    begins : function or None
        Of a run's number and its core's, before each start.

    Returns a `RunResult` for each run that has begun, in their order. After a run that has not
    reached its end nothing more begins. Raises DeviceError as `Device.run`.
    """
    found: dict[int, RunResult] = {}
    running: dict[int, tuple[int, Iterable]] = {}           # core: (run, its reads)
    waiting = enumerate(runs)

    def begin(core):
        item = next(waiting, None)
        if item is None:
            return False
        run, (writes, reads) = item
        if begins is not None:
            begins(run, core)
        devices[core].start(writes, limit)
        running[core] = run, reads
        return True

    for core in range(len(devices)):
        begin(core)
    good = True
    while running:
        devices[0].transport.wait(limit)
        over = [core for core in running if not devices[core].status.busy]
        if not over and limit is None:
            continue
        for core in over or list(running):
            run, reads = running.pop(core)
            found[run] = result = devices[core].result(reads)
            good = good and result.status.done and result.status.error is None
            if not result.status.busy and not (good and begin(core)) and running:
                devices[core].reset()           # it has nothing to do: the others share its
                                                # interrupt, which this lowers
    return [found[run] for run in sorted(found)]

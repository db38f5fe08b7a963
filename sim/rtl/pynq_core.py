"""The transport of a `Device` on a Zynq: the core in the logic beside the processors that run this,
by the package `pynq`, which the images of PYNQ bring."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from systolith.hw.spec import registers

from .device import DeviceError, wait_for_reset
from .memory_map import poll

__all__ = ["OVERLAY", "PynqCore"]

#: The bitstream that the script of `systolith verilog --board pynq-z2` makes.
OVERLAY = "systolith.bit"
#: How the overlay's description names the core: vendor, library, name.
_CORE = "systolith:ip:systolith:"


class PynqCore:
    """What `Device` asks of a transport, as a context manager.

    Parameters
    ----------
    overlay : Path
        The bitstream, with its .hwh beside it; the logic is configured with it.
    window_bytes : int
        Memory of the cores: so much is taken from what the system has set aside for buffers.
    cores : int
        Of the chip.

    Raises DeviceError where there is no PYNQ, no such overlay, no core in it, or too little memory.
    """

    #: Seconds between two looks at STATUS.
    PAUSE = 0.0005

    def __init__(self, overlay: Path, window_bytes: int, cores: int = 1) -> None:
        self._cores = cores
        try:
            import pynq
        except ImportError:
            raise DeviceError("the package pynq is missing: run this on a board with an image of "
                              "PYNQ, in its environment") from None
        for file in (overlay, overlay.with_suffix(".hwh")):
            if not file.is_file():
                raise DeviceError(f"{file}: no such file; Vivado makes it by pynq-z2.tcl")
        try:
            self.overlay = pynq.Overlay(str(overlay))
        except (OSError, RuntimeError, ValueError) as error:
            raise DeviceError(f"{overlay} cannot be loaded: {error}") from None
        found = [item for item in self.overlay.ip_dict.values()
                 if str(item.get("type")).startswith(_CORE)]
        if len(found) != 1:
            raise DeviceError(f"{overlay}: holds {len(found)} Systolith cores, not one")
        self._registers = pynq.MMIO(found[0]["phys_addr"], found[0]["addr_range"])
        # whole pages, and one more, should the buffer not begin with one
        self._buffer: Any = None
        try:
            self._buffer = pynq.allocate((-(-window_bytes // 4096) * 4096 + 4096,), "u1")
        except (MemoryError, OSError, RuntimeError) as error:
            raise DeviceError(f"there is no room for {window_bytes:,} bytes in the memory set "
                              f"aside for buffers: {error}") from None
        self._first = -self._buffer.device_address % 4096
        self.window_base = self._buffer.device_address + self._first

    def read_register(self, offset: int) -> int:
        return int(self._registers.read(offset))

    def write_register(self, offset: int, value: int) -> None:
        self._registers.write(offset, value)

    def read_memory(self, offset: int, size: int) -> bytes:
        self._buffer.invalidate()               # what the core has written, not what was cached
        return self._buffer[self._first + offset:self._first + offset + size].tobytes()

    def write_memory(self, offset: int, data: bytes) -> None:
        place = self._buffer[self._first + offset:self._first + offset + len(data)]
        place[:] = memoryview(data)
        self._buffer.flush()

    def wait(self, limit: int | None) -> None:
        """Until the core is not busy any more; at most `limit` of its cycles."""
        poll(self.read_register, limit, self.PAUSE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for first in range(0, self._cores << registers.CORE_BITS, 1 << registers.CORE_BITS):
            def read(offset, first=first):
                return self.read_register(first + offset)
            if read(registers.address("STATUS")) & 1:
                # it would write to memory that is somebody else's by then
                self.write_register(first + registers.address("CONTROL"), registers.CONTROL_RESET)
                wait_for_reset(read, self.PAUSE)                # or the buffer stays taken
        self._buffer.freebuffer()

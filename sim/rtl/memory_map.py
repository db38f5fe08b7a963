"""The transport of a `Device` whose registers and memory stand in this machine's address space."""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from systolith.hw.spec import registers

from .device import DeviceError

__all__ = ["MemoryMap", "poll"]


def poll(read_register: Callable[[int], int], limit: int | None, pause: float) -> None:
    """Read a core's registers every `pause` seconds until it is not busy any more, or has taken
    more than `limit` cycles (None: no limit)."""
    while read_register(registers.address("STATUS")) & 1:
        if limit is not None and read_register(registers.address("CYCLES")) > limit:
            return
        time.sleep(pause)


class MemoryMap:
    """What `Device` asks of a transport, for a core beside the processor that runs this, such as
    on a Zynq: as a context manager.

    Parameters
    ----------
    path : Path
        What is mapped, such as /dev/mem.
    register_base : int
        Address of the core's registers in it.
    window_base : int
        Address of the core's memory, the same for the core's memory port; a multiple of 4096.
    window_bytes : int
        Size of that memory, which nobody else uses; a multiple of 4096.
    cores : int
        Of the chip, whose registers follow each other.

    Raises DeviceError where it cannot be mapped.
    """

    #: Seconds between two looks at STATUS.
    PAUSE = 0.0005

    def __init__(self, path: Path, register_base: int, window_base: int,
                 window_bytes: int, cores: int = 1) -> None:
        page = mmap.PAGESIZE
        if window_base % 4096 or window_bytes % 4096 or window_bytes < 4096:
            raise DeviceError("the window's address and size must be multiples of 4096, not "
                              f"{window_base:#x} and {window_bytes:#x}")
        self.window_base, self.window_bytes = window_base, window_bytes
        try:
            file = os.open(path, os.O_RDWR | os.O_SYNC)
            try:
                start = register_base // page * page
                self._registers = mmap.mmap(
                    file, register_base - start + (cores << registers.CORE_BITS), offset=start)
                self._offset = register_base - start
                start = window_base // page * page
                self._memory = mmap.mmap(file, window_base - start + window_bytes, offset=start)
                self._first = window_base - start
            finally:
                os.close(file)
        except (OSError, ValueError, OverflowError) as error:
            raise DeviceError(f"{path} cannot be mapped: {error}") from None
        self._words = memoryview(self._registers).cast("I")

    def read_register(self, offset: int) -> int:
        return self._words[(self._offset + offset) // 4]

    def write_register(self, offset: int, value: int) -> None:
        self._words[(self._offset + offset) // 4] = value

    def read_memory(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return self._memory[self._first + offset:self._first + offset + size]

    def write_memory(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self._memory[self._first + offset:self._first + offset + len(data)] = bytes(data)

    def _check(self, offset: int, size: int) -> None:
        if not 0 <= offset <= offset + size <= self.window_bytes:
            raise DeviceError(f"the program needs {offset + size:,} bytes of memory, and the "
                              f"device has {self.window_bytes:,}")

    def wait(self, limit: int | None) -> None:
        """Until the core is not busy any more; at most `limit` of its cycles."""
        poll(self.read_register, limit, self.PAUSE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._words.release()
        self._registers.close()
        self._memory.close()

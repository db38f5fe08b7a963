"""The transport of a `Device` in a LiteX SoC: its bus over a server of Etherbone frames, such as
LiteX's `litex_server`, which in turn has a serial line, Ethernet or PCIe to the SoC.

Nothing of LiteX is needed here; what there is to know of the SoC is in the file that `systolith
litex` writes. No frame is acknowledged on its way to the SoC, and a serial line may lose bytes:
what is written is read back, and a start is believed when the core shows it.
"""

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from systolith.hw.spec import registers

from .device import DeviceError
from .etherbone import WordBus
from .litex_sdram import start_sdram

__all__ = ["MAP", "LitexLink", "read_map"]

#: The file that describes a SoC.
MAP = "soc.json"
#: The bit of STATUS of a run under way.
_BUSY = 1


def read_map(path: Path) -> dict[str, Any]:
    """The description of a SoC. Raises DeviceError where the file is missing or no such one."""
    try:
        found = json.loads(path.read_text())
        found["registers"], found["memory"]["origin"], found["csr"], found["sdram"]["sequence"]
        return found
    except OSError as error:
        raise DeviceError(f"{path} cannot be read ({error.strerror}): make it with `systolith "
                          "litex`, or name another, litex:HOST:PORT@FILE") from None
    except (ValueError, KeyError, TypeError):
        raise DeviceError(f"{path} does not describe a LiteX SoC: make it with `systolith litex`"
                          ) from None


class LitexLink:
    """What `Device` asks of a transport, for the core of a LiteX SoC.

    Parameters
    ----------
    bus : WordBus
    soc : mapping
        The SoC's description, of `read_map`.

    Creating one ends a run that somebody has left, and starts the SDRAM. Raises DeviceError where
    the SDRAM does not keep what is written.
    """

    #: Words that are written before they are read back.
    BLOCK = 256
    #: How often a write is tried, and seconds after which the SoC has forgotten half a command.
    TRIES, SILENCE = 4, 0.2
    #: Seconds between two looks at STATUS.
    PAUSE = 0.0005

    def __init__(self, bus: WordBus, soc: Mapping[str, Any]) -> None:
        self.bus = bus
        self._registers = int(soc["registers"])
        self.window_base = int(soc["memory"]["origin"])
        self.window_bytes = int(soc["memory"]["bytes"])
        if self.read_register(registers.address("ID")) != registers.ID:
            return                  # `Device` says it
        if self._status() & _BUSY:
            self._forget_run()
        # The search for a DDR memory's delays takes a minute; what it found lasts until the FPGA
        # is configured again.
        if not (soc["sdram"]["leveling"] and self._memory_works()):
            start_sdram(bus, soc["csr"], soc["sdram"])
            self._try_memory()

    def read_register(self, offset: int) -> int:
        return self.bus.read(self._registers + offset)[0]

    def write_register(self, offset: int, value: int) -> None:
        core = offset >> registers.CORE_BITS << registers.CORE_BITS
        if offset - core != registers.address("CONTROL"):
            self._write(self._registers + offset, [value])
        elif value & registers.CONTROL_START:
            self._start(core)
        else:
            self.bus.write(self._registers + offset, [value])

    def _start(self, core):
        """A start that is sure, where frames get lost: the state before is none that a run
        leaves. `core`: where the core's registers begin."""
        if self._status(core) & ~registers.STATUS_RESETTING:
            self._forget_run(core)
        control = self._registers + core + registers.address("CONTROL")
        for _ in range(self.TRIES):
            self.bus.write(control, [registers.CONTROL_START])
            if self._status(core):
                return
            time.sleep(self.SILENCE)
        raise DeviceError("the core does not start: what is written to its registers gets lost")

    def _forget_run(self, core=0):
        control = self._registers + core + registers.address("CONTROL")
        for _ in range(self.TRIES):
            self.bus.write(control, [registers.CONTROL_RESET])
            end = time.monotonic() + self.SILENCE
            while time.monotonic() < end:
                if not self._status(core):
                    return
        raise DeviceError("a soft reset of the core does not end: configure the FPGA again")

    def _status(self, core=0):
        return self.read_register(core + registers.address("STATUS"))

    def read_memory(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        first, last = offset // 4 * 4, -(-(offset + size) // 4) * 4
        words = self.bus.read(self.window_base + first, (last - first) // 4)
        return struct.pack(f"<{len(words)}I", *words)[offset - first:offset - first + size]

    def write_memory(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        end = offset + len(data)
        front, back = offset % 4, -end % 4
        if front:
            data = self.read_memory(offset - front, front) + bytes(data)
        if back:
            data = bytes(data) + self.read_memory(end, back)
        words = struct.unpack(f"<{len(data) // 4}I", data)
        for first in range(0, len(words), self.BLOCK):
            self._write(self.window_base + offset - front + 4 * first,
                        words[first:first + self.BLOCK])

    def _write(self, address, words):
        """Write words, until they can be read back."""
        words = list(words)
        for _ in range(self.TRIES):
            self.bus.write(address, words)
            found = self.bus.read(address, len(words))
            if found == words:
                return
            time.sleep(self.SILENCE)
        wrong = next(n for n, word in enumerate(found) if word != words[n])
        raise DeviceError(f"the SoC does not keep what is written to address "
                          f"{address + 4 * wrong:#010x}: {words[wrong]:#010x} reads as "
                          f"{found[wrong]:#010x}")

    def _memory_works(self):
        try:
            self._try_memory()
            return True
        except DeviceError:
            return False

    def _try_memory(self):
        """Different words in each eighth of the memory, read when all are written: a memory that
        is smaller than it should be has some of them at the same place."""
        count = 16
        places = [self.window_bytes * n // 8 for n in range(8)]
        sent = {place: [(place + n) * 0x9E3779B1 & 0xFFFFFFFF for n in range(count)]
                for place in places}
        for place, words in sent.items():
            self._write(self.window_base + place, words)
        for place, words in sent.items():
            if (found := self.bus.read(self.window_base + place, count)) != words:
                raise DeviceError(f"the SDRAM does not keep its contents at byte {place:#x}: "
                                  f"{words[0]:#x} ... reads as {found[0]:#x} ...")

    def _check(self, offset, size):
        if not 0 <= offset <= offset + size <= self.window_bytes:
            raise DeviceError(f"the program needs {offset + size:,} bytes of memory, and the "
                              f"SoC has {self.window_bytes:,}")

    def wait(self, limit: int | None) -> None:
        """Until the core is not busy any more; at most `limit` of its cycles."""
        while self._status() & _BUSY:
            if limit is not None and self.read_register(registers.address("CYCLES")) > limit:
                return
            time.sleep(self.PAUSE)

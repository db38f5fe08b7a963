"""The transport of a `Device` on a board: memory and registers over a serial line.

The commands are those of `systolith.hw.board.bridge`. Needs the package `pyserial` (the extra
`board`) only where the line is opened by name.
"""

import time
from binascii import crc_hqx
from typing import Any

from systolith.hw.board.bridge import REGISTER_SPACE
from systolith.hw.board.crc import START
from systolith.hw.spec import registers

from .device import DeviceError

__all__ = ["SerialLink"]

_SILENT = "the board does not answer: is it connected, configured, and out of reset?"


class _Garbled(DeviceError):
    """Bytes were lost on the line, or came that are no answer."""


class SerialLink:
    """What `sim.device.Device` asks of a transport.

    Parameters
    ----------
    port : str or object
        The line's name, such as /dev/ttyUSB0, or an open one with pyserial's `read(size)`,
        `write(data)`, `in_waiting` and `reset_input_buffer()`, and with `pause(seconds)` where its
        time is not this machine's.
    baud : int
        Bits a second, where the line is opened here.
    timeout : float
        Seconds to wait for an answer.
    """

    #: Words in one command: as many as its 16-bit count can say.
    MOST = 1 << 16
    #: Seconds between two looks at STATUS.
    PAUSE = 0.002
    #: Seconds of silence after which the bridge has forgotten an unfinished command, with a margin:
    #: 0.13 at 1 Mbit/s.
    SILENCE = 0.2
    #: How often a command is given again.
    REPEATS = 3
    #: Silences until a board counts as dead: the longest answer takes 2.6 s at 1 Mbit/s.
    PATIENCE = 20

    #: The board's memory stands at address 0.
    window_base = 0

    def __init__(self, port: Any, baud: int = 1_000_000, timeout: float = 2.0) -> None:
        if isinstance(port, str):
            port = self._open(port, baud, timeout)
        self.port = port
        #: How time passes: a simulated board has a time of its own.
        self.pause = getattr(port, "pause", time.sleep)

    @staticmethod
    def _open(name: str, baud: int, timeout: float) -> Any:
        try:
            import serial
        except ImportError:
            raise DeviceError("a serial line needs pyserial; `pip install 'systolith[board]'` "
                              "brings it") from None
        try:
            return serial.Serial(name, baud, timeout=timeout)
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(f"the serial line {name} cannot be opened: {error}") from None

    def read_register(self, offset: int) -> int:
        return int.from_bytes(self._read(REGISTER_SPACE + offset, 1), "little")

    def write_register(self, offset: int, value: int) -> None:
        self._write(REGISTER_SPACE + offset, value.to_bytes(4, "little"))

    def read_memory(self, offset: int, size: int) -> bytes:
        first, end = offset // 4 * 4, -(-(offset + size) // 4) * 4
        content = bytearray()
        while first + len(content) < end:
            words = min(self.MOST, (end - first - len(content)) // 4)
            content += self._read(first + len(content), words)
        return bytes(content[offset - first:offset - first + size])

    def write_memory(self, offset: int, data: bytes) -> None:
        """Whole words are written; what they hold beside `data` is read before."""
        end = offset + len(data)
        front, back = offset % 4, -end % 4
        data = (self.read_memory(offset - front, front) + bytes(data)
                + self.read_memory(end, back))
        step = 4 * self.MOST
        for start in range(0, len(data), step):
            self._write(offset - front + start, data[start:start + step])

    def wait(self, limit: int | None) -> None:
        """Until the core is not busy any more. `limit` counts clock cycles, which a host does not
        see: with one, this looks at CYCLES."""
        while self.read_register(registers.address("STATUS")) & 1:
            if limit is not None and self.read_register(registers.address("CYCLES")) > limit:
                return
            time.sleep(self.PAUSE)

    def synchronize(self) -> None:
        """Bring the board to where it waits for a command, whatever came before: another host's
        unfinished command, noise, lost bytes. Raises DeviceError where it does not answer."""
        for _ in range(self.PATIENCE):
            # An unfinished command is forgotten after silence; an unfinished answer comes to its
            # end.
            self.pause(self.SILENCE)
            self.port.reset_input_buffer()
            self.port.write(b"?")
            if self.port.read(1) == b"?":
                self.pause(self.SILENCE / 16)
                if not self.port.in_waiting:
                    return
        raise _Garbled(_SILENT)

    def _write(self, address: int, data: bytes) -> None:
        # A start that is given again would be a second run.
        in_core = REGISTER_SPACE | (1 << registers.CORE_BITS) - 1      # whichever core's it is
        once = address & in_core == REGISTER_SPACE + registers.address("CONTROL")
        self._ask(b"W", address, len(data) // 4, data, 0, once)

    def _read(self, address: int, words: int) -> bytes:
        return self._ask(b"R", address, words, b"", 4 * words, False)

    def _ask(self, letter: bytes, address: int, words: int, data: bytes, size: int,
             once: bool) -> bytes:
        """The `size` bytes that answer a command, which is given again where it or its answer is
        lost or damaged."""
        head = letter + address.to_bytes(4, "little") + (words - 1).to_bytes(2, "little")
        check = crc_hqx(head, START)
        command = head + check.to_bytes(2, "little")
        if data:
            check = crc_hqx(data, check)
            command += data + check.to_bytes(2, "little")
        for _ in range(self.REPEATS):
            try:
                return self._try(command, check, address, size)
            except _Garbled:
                if once:
                    raise
            self.synchronize()
        return self._try(command, check, address, size)

    def _try(self, command: bytes, check: int, address: int, size: int) -> bytes:
        self.port.write(command)
        answer, expected = self._take(size + 1), self._take(2)
        if crc_hqx(answer, check).to_bytes(2, "little") != expected:
            raise _Garbled("the board's answer is damaged; is it the right line and speed?")
        if answer[-1:] == b"E":
            where = f"{address & ~REGISTER_SPACE:#x} of the " + (
                "registers" if address & REGISTER_SPACE else "memory")
            raise DeviceError(f"the board refused an access to byte {where}")
        return answer[:-1]

    def _take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.port.read(size - len(data))
            if not part:
                raise _Garbled(_SILENT)
            data += part
        return bytes(data)

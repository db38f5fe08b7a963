"""The transport of a `Device` on a board: memory and registers over a serial line.

The commands are those of `systolith.hw.board.bridge`. Needs the package `pyserial` (the extra
`board`) only where the line is opened by name.
"""

import time

from systolith.hw.board.bridge import REGISTER_SPACE
from systolith.hw.spec import registers

from .device import DeviceError

__all__ = ["SerialLink"]


class SerialLink:
    """What `sim.device.Device` asks of a transport.

    Parameters
    ----------
    port : str or object
        The line's name, such as /dev/ttyUSB0, or an open one with `read(size)`, `write(data)`.
    baud : int
        Bits a second, where the line is opened here.
    timeout : float
        Seconds to wait for an answer.
    """

    #: Words in one command: as many as its 16-bit count can say.
    MOST = 1 << 16
    #: Seconds between two looks at STATUS.
    PAUSE = 0.002

    #: The board's memory stands at address 0.
    window_base = 0

    def __init__(self, port, baud=1_000_000, timeout=2.0):
        if isinstance(port, str):
            import serial
            port = serial.Serial(port, baud, timeout=timeout)
        self.port = port

    def read_register(self, offset):
        return int.from_bytes(self._read(REGISTER_SPACE + offset, 1), "little")

    def write_register(self, offset, value):
        self._write(REGISTER_SPACE + offset, value.to_bytes(4, "little"))

    def read_memory(self, offset, size):
        first, end = offset // 4 * 4, -(-(offset + size) // 4) * 4
        content = bytearray()
        while first + len(content) < end:
            words = min(self.MOST, (end - first - len(content)) // 4)
            content += self._read(first + len(content), words)
        return bytes(content[offset - first:offset - first + size])

    def write_memory(self, offset, data):
        """Whole words are written; what they hold beside `data` is read before."""
        end = offset + len(data)
        front, back = offset % 4, -end % 4
        data = (self.read_memory(offset - front, front) + bytes(data)
                + self.read_memory(end, back))
        step = 4 * self.MOST
        for start in range(0, len(data), step):
            self._write(offset - front + start, data[start:start + step])

    def wait(self, limit):
        """Until the core is not busy any more. `limit` counts clock cycles, which a host does not
        see: with one, this looks at CYCLES."""
        while self.read_register(registers.address("STATUS")) & 1:
            if limit is not None and self.read_register(registers.address("CYCLES")) > limit:
                return
            time.sleep(self.PAUSE)

    def _write(self, address, data):
        self.port.write(self._head(b"W", address, len(data) // 4) + data)
        self._finish(address)

    def _read(self, address, words):
        self.port.write(self._head(b"R", address, words))
        data = self._take(4 * words)
        self._finish(address)
        return data

    @staticmethod
    def _head(command, address, words):
        return command + address.to_bytes(4, "little") + (words - 1).to_bytes(2, "little")

    def _finish(self, address):
        answer = self._take(1)
        if answer != b"K":
            where = f"{address & ~REGISTER_SPACE:#x} of the " + (
                "registers" if address & REGISTER_SPACE else "memory")
            raise DeviceError(f"the board refused an access to byte {where}" if answer == b"E" else
                              f"the board answered {answer!r}; is it the right line and speed?")

    def _take(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.port.read(size - len(data))
            if not part:
                raise DeviceError("the board does not answer: is it connected, configured, and out "
                                  "of reset?")
            data += part
        return bytes(data)

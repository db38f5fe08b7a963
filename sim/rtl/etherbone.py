"""The bus of a SoC over TCP: frames of Etherbone, as LiteX's `litex_server` serves them."""

import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from .device import DeviceError

__all__ = ["Etherbone", "WordBus"]


class WordBus(Protocol):
    """32-bit words at byte addresses of a SoC's bus."""

    def read(self, address: int, count: int = 1) -> list[int]:
        """`count` words from `address` on."""

    def write(self, address: int, words: Sequence[int]) -> None:
        """Write words from `address` on; they may get lost."""


class Etherbone:
    """A SoC's bus over TCP, as a context manager: the frames that `litex_server` serves.

    Parameters
    ----------
    host, port : str, int
        Of the server.
    timeout : float
        Seconds to wait for an answer.

    Raises DeviceError where nobody listens, or does not answer.
    """

    #: Words in a frame; 255 at most.
    MOST = 64
    #: magic, version, sizes of addresses and words; of its record: flags, byte enables, words that
    #: are written, words that are asked for, address (of an answer: for it).
    _FRAME = struct.Struct(">HBB4xBBBBI")

    def __init__(self, host: str, port: int, timeout: float = 5.0) -> None:
        self._server = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # the server's greeting, its kind of link
            greeting = self._socket.recv(128)
        except OSError as error:
            raise DeviceError(f"no litex_server at {self._server} ({error}); start one: "
                              "litex_server --uart --uart-port /dev/ttyUSB0 --uart-baudrate "
                              "1000000") from None
        if not greeting.startswith(b"Comm"):
            self._socket.close()
            raise DeviceError(f"{self._server} is no litex_server: it greets with {greeting!r}")

    def read(self, address: int, count: int = 1) -> list[int]:
        words: list[int] = []
        while len(words) < count:
            size = min(count - len(words), self.MOST)
            first = address + 4 * len(words)
            self._send(self._FRAME.pack(0x4E6F, 0x10, 0x44, 0, 15, 0, size, 0)
                       + struct.pack(f">{size}I", *range(first, first + 4 * size, 4)))
            answer = self._take(self._FRAME.size)
            magic, *_, written, asked, _ = self._FRAME.unpack(answer)
            if magic != 0x4E6F or asked or written != size:
                raise DeviceError(f"{self._server} sent no Etherbone frame with {size} words")
            words += struct.unpack(f">{size}I", self._take(4 * size))
        return words

    def write(self, address: int, words: Sequence[int]) -> None:
        for first in range(0, len(words), self.MOST):
            part = words[first:first + self.MOST]
            self._send(self._FRAME.pack(0x4E6F, 0x10, 0x44, 0, 15, len(part), 0,
                                        address + 4 * first)
                       + struct.pack(f">{len(part)}I", *part))

    def _send(self, frame):
        try:
            self._socket.sendall(frame)
        except OSError as error:
            raise DeviceError(f"the connection to {self._server} broke: {error}") from None

    def _take(self, size):
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except TimeoutError:
                raise DeviceError(
                    f"the board does not answer litex_server at {self._server}: is it configured "
                    "with this SoC, and has the server the right line and speed?") from None
            except OSError as error:
                raise DeviceError(f"the connection to {self._server} broke: {error}") from None
            if not part:
                raise DeviceError(f"litex_server at {self._server} closed the connection")
            data += part
        return bytes(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._socket.close()

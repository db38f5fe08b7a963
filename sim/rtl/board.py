"""A whole board in Verilator, from its pins on, whose serial line is a terminal of this machine."""

import fcntl
import os
import select
import subprocess
import sys
import tempfile
import termios
import tty
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import verilate

__all__ = ["DIVISOR", "SimulatedBoard"]

#: Clock cycles per bit of the serial line: as few as the receiver can follow, to save time.
DIVISOR = 4

#: The board's pins as the host sees them; what else goes in is what it is while nobody touches it.
_PINS = """
module pins(input clk, input reset, input rx, output tx);
  {module} board(.{clock}(clk), .{rx}(rx), .{tx}(tx){idle});
endmodule
"""


class SimulatedBoard:
    """A board that runs, as a context manager.

    Parameters
    ----------
    board : Board
        Of which `module`, and of `top` CLOCK, RX, TX and IDLE, are asked for.
    verilog : str
        Its top level and all inside, with a serial line of `DIVISOR` clock cycles per bit.
    timeout : float
        Seconds to wait for the board's next byte.

    Attributes
    ----------
    path : str
        The terminal that a host opens in place of /dev/ttyUSB0, at any rate.
    file : int
        The same, open.

    Raises SimulationError where there is no Verilator, or the board cannot be compiled.
    """

    def __init__(self, board: Any, verilog: str, timeout: float = 60.0) -> None:
        top = board.top
        if top is None:
            raise verilate.SimulationError(f"the {board.name} has no serial line")
        idle = "".join(f", .{name}(reset ? {top.PRESSED.get(name, value)} : {value})"
                       for name, value in top.IDLE.items())
        pins = _PINS.format(module=board.module, clock=top.CLOCK, rx=top.RX, tx=top.TX, idle=idle)
        executable = verilate.build(
            {"board.v": verilog, "pins.v": pins,
             "board.cpp": (Path(__file__).parent / "board.cpp").read_text()},
            "pins", flags=["-CFLAGS", f"-DDIVISOR={DIVISOR}"], optimize="-O1")
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen([executable], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self._process.stdout is not None
        self.path = self._process.stdout.readline().strip()
        if not self.path:
            self.close()
            raise verilate.SimulationError("the simulated board has not started")
        self.timeout = timeout
        self.file = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.file, termios.TCSANOW)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes that the board has sent; b"" after `timeout` seconds without one."""
        ready, _, _ = select.select([self.file], [], [], self.timeout)
        return os.read(self.file, size) if ready else b""

    def pause(self, seconds: float) -> None:
        """Wait for as long in the board's time, at 1 Mbit/s, however fast the simulation is."""
        self._request(f"{round(seconds * 1000 * DIVISOR)}")

    def press_reset(self) -> None:
        """Hold the board's reset button for 1,000 clock cycles."""
        self._request("r1")

    def _request(self, line: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    @property
    def in_waiting(self) -> int:
        """Bytes that the board has sent and nobody has read."""
        return int.from_bytes(fcntl.ioctl(self.file, termios.FIONREAD, bytes(4)), sys.byteorder)

    def reset_input_buffer(self) -> None:
        """Forget what the board has sent so far."""
        termios.tcflush(self.file, termios.TCIFLUSH)

    def write(self, data: bytes) -> None:
        """Send all of `data` to the board."""
        while data:
            data = data[os.write(self.file, data[:1024]):]

    def close(self) -> None:
        """End the simulation."""
        if hasattr(self, "file"):
            os.close(self.file)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

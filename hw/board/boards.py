"""Boards that a chip can be put on, and what stands around the core there."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from types import MappingProxyType
from typing import ClassVar

from amaranth.hdl import Cat, ClockDomain, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.widths import register_bits

from .block_memory import BlockMemory
from .bridge import RegisterMaster, SerialBridge
from .parts import PARTS, Part
from .pll import LOOPS, Pll, PllError, Ratio, ratio
from .single_port_memory import SinglePortMemory

__all__ = ["BOARDS", "Board", "Icebreaker", "SerialBoard", "SerialSystem", "TangNano20k", "Ulx3s",
           "ZynqBoard"]


class SerialSystem(wiring.Component):
    """A core with its memory in block RAM; its host is connected by a serial line.

    Parameters
    ----------
    core : Component
        With the members `m_axi`, `s_axi` and `irq` of `systolith.hw.core.top.Core`.
    arch : Arch
    divisor : int
        Clock cycles per bit of the serial line.
    memory_bytes : int
        Size of the memory, which stands at address 0.
    single_port : bool
        The memory is a `SinglePortMemory`, not a `BlockMemory`.

    Members
    -------
    rx : In(1)
    tx : Out(1)
    command : Out(1)
        A command of the host is under way.
    reading, writing : Out(1)
        A beat is read or written on the memory bus.
    finished : Out(1)
        The core's interrupt: it is done, or stopped on an error.
    """

    def __init__(self, core: wiring.Component, *, arch: Arch, divisor: int, memory_bytes: int,
                 single_port: bool = False) -> None:
        self.core = core
        self.arch = arch
        self.divisor = divisor
        self.memory_bytes = memory_bytes
        self.single_port = single_port
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "command": Out(1), "reading": Out(1),
            "writing": Out(1), "finished": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        kind = SinglePortMemory if self.single_port else BlockMemory
        m.submodules.memory_slave = memory = kind(
            size=self.memory_bytes, data_bits=self.arch.bus_bits)
        m.submodules.bridge = bridge = SerialBridge(divisor=self.divisor)
        m.submodules.register_master = registers = RegisterMaster(
            address_bits=register_bits(self.arch))
        wiring.connect(m, core.m_axi, memory.axi)
        wiring.connect(m, bridge.memory, memory.words)
        wiring.connect(m, bridge.registers, registers.words)
        wiring.connect(m, registers.axi, core.s_axi)
        m.d.comb += [
            bridge.rx.eq(self.rx), self.tx.eq(bridge.tx), self.command.eq(bridge.busy),
            self.reading.eq(memory.axi.rvalid & memory.axi.rready),
            self.writing.eq(memory.axi.wvalid & memory.axi.wready),
            self.finished.eq(core.irq),
        ]
        return m


class SerialBoard(wiring.Component, ABC):
    """Top level of a board whose core has its memory on the chip and its host on a serial line.

    The core runs at the oscillator's clock, or at one that a `Pll` makes of it. The line is 8N1
    with `BAUD` bits a second and the commands of `systolith.hw.board.bridge`. A subclass has the
    ports and constants of its board.

    Parameters
    ----------
    core : Component
        With the members `m_axi`, `s_axi` and `irq` of `systolith.hw.core.top.Core` and its property
        `blocks`.
    arch : Arch
    memory_bytes : int
    clock_mhz : float or None
        The clock, as of `ratio_of`; None: the oscillator's.
    divisor : int or None
        Clock cycles per bit of the line; None: as many as `BAUD` takes.

    Attributes
    ----------
    CLOCK_HZ : int
        Of the oscillator.
    FAMILY : str
        Of the board's part; a key of `LOOPS`.
    SINGLE_PORT : bool
        Whether the memory is one that reads or writes in a cycle, but not both.
    PORTS : dict
        Members of the component.
    CLOCK, RX, TX : str
        Ports of the clock and of the serial line as the board sees it.
    IDLE : dict
        The other inputs and what they are while nobody touches the board.
    PRESSED : dict
        The same of the input that resets, while its button is held.
    """

    CLOCK_HZ: int
    FAMILY: str
    BAUD = 1_000_000
    #: How far off the serial line's bits may be; receivers stand twice as much.
    BAUD_ERROR = 0.02
    SINGLE_PORT = False
    PORTS: ClassVar[dict]
    CLOCK: str
    RX: str
    TX: str
    IDLE: ClassVar[dict]
    PRESSED: ClassVar[dict]

    def __init__(self, core: wiring.Component, *, arch: Arch, memory_bytes: int,
                 clock_mhz: float | None = None, divisor: int | None = None) -> None:
        self.arch = arch
        self.memory_bytes = memory_bytes
        self.ratio = self.ratio_of(clock_mhz)
        self.hz = self.CLOCK_HZ if self.ratio is None else round(self.ratio.mhz * 1_000_000)
        self.system = SerialSystem(core, arch=arch, memory_bytes=memory_bytes,
                                   divisor=divisor or round(self.hz / self.BAUD),
                                   single_port=self.SINGLE_PORT)
        super().__init__(self.PORTS)

    @classmethod
    def ratio_of(cls, clock_mhz: float | None) -> Ratio | None:
        """The loop's dividers for a clock that is not above `clock_mhz`; None: no loop, since it
        is the oscillator's.

        Raises PllError where the loop cannot make it, or the serial line would be more than
        `BAUD_ERROR` off.
        """
        if clock_mhz is None or clock_mhz * 1e6 == cls.CLOCK_HZ:
            return None
        found = ratio(LOOPS[cls.FAMILY], cls.CLOCK_HZ / 1e6, clock_mhz)
        cycles = found.mhz * 1_000_000 / cls.BAUD
        fast = float(cycles / round(cycles)) - 1
        if abs(fast) > cls.BAUD_ERROR:
            raise PllError(f"makes {float(found.mhz):g} MHz, of which the serial line's "
                           f"{cls.BAUD:,} bits a second are no whole part ({fast:+.1%}); take "
                           "whole MHz")
        return found

    @property
    def blocks(self) -> Mapping[str, wiring.Component]:
        """Verilog modules that must be emitted along: name -> block."""
        return self.system.core.blocks

    @abstractmethod
    def reset(self) -> Value:
        """The reset of the board, high while it is held."""

    def _bits(self, seconds):
        """Bits of a counter of clocks that overflows after about `seconds`."""
        return round(log2(seconds * self.hz))

    @abstractmethod
    def shown(self, alive: Value, activity: list[Value], finished: Value) -> list:
        """Assignments to the lights, from values that are high where a light is on: `alive`
        blinks; `activity` are host command, memory read, memory written."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = sync = ClockDomain()
        oscillator, reset = getattr(self, self.CLOCK), self.reset()
        if self.ratio is None:
            m.d.comb += sync.clk.eq(oscillator)
        else:
            m.submodules.pll = pll = Pll(target=self.FAMILY, oscillator_mhz=self.CLOCK_HZ / 1e6,
                                         ratio=self.ratio)
            m.d.comb += [pll.oscillator.eq(oscillator), sync.clk.eq(pll.clock)]
            reset = reset | ~pll.locked
        m.submodules.reset = ResetSynchronizer(reset)
        m.submodules.system = system = self.system

        blink = Signal(self._bits(1.34))
        m.d.sync += blink.eq(blink + 1)
        # what is short is seen for up to eight ticks
        slow = blink[self._bits(0.084) - 3]
        slow_then = Signal()
        stretched = []
        m.d.sync += slow_then.eq(slow)
        for name in ("command", "reading", "writing"):
            left = Signal(3, name=f"{name}_left")
            active = Signal(name=f"{name}_then")     # the core's paths end here, not at a light
            m.d.sync += active.eq(getattr(system, name))
            with m.If(active):
                m.d.sync += left.eq(-1)
            with m.Elif((left != 0) & (slow != slow_then)):
                m.d.sync += left.eq(left - 1)
            stretched.append(left != 0)
        m.d.comb += [
            system.rx.eq(getattr(self, self.RX)), getattr(self, self.TX).eq(system.tx),
            *self.shown(blink[-1], stretched, system.finished),
        ]
        return m


class Ulx3s(SerialBoard):
    """Top level of a ULX3S: pins as in `constraints/ulx3s.lpf`.

    Its oscillator has 25 MHz. The core's memory is block RAM, its host the USB serial port. The
    button FIRE1 resets. Light-emitting diodes, from bit 0: alive (blinks), host command, memory
    read, memory written, finished; the short ones are stretched to about 84 ms.
    """

    CLOCK_HZ, FAMILY = 25_000_000, "ecp5"
    PORTS: ClassVar[dict] = {
        "clk_25mhz": In(1), "btn": In(7), "ftdi_txd": In(1, init=1), "ftdi_rxd": Out(1, init=1),
        "led": Out(8), "wifi_gpio0": Out(1, init=1),
    }
    CLOCK, RX, TX = "clk_25mhz", "ftdi_txd", "ftdi_rxd"
    IDLE: ClassVar[dict] = {"btn": 1}
    PRESSED: ClassVar[dict] = {"btn": 3}

    def reset(self) -> Value:
        return self.btn[1]

    def shown(self, alive: Value, activity: list[Value], finished: Value) -> list:
        return [
            self.led.eq(Cat(alive, *activity, finished, Const(0, 3))),
            # low would restart the board from its microcontroller
            self.wifi_gpio0.eq(1),
        ]


class Icebreaker(SerialBoard):
    """Top level of an iCEBreaker: pins as in `constraints/icebreaker.pcf`.

    Its oscillator has 12 MHz. The core's memory are the part's four blocks of SPRAM, its host the
    second port of the USB bridge. The user button resets. The green light blinks; the red one shows
    a host command, stretched to about 84 ms, and stays on when the core has finished.
    """

    CLOCK_HZ, FAMILY = 12_000_000, "ice40"
    SINGLE_PORT = True
    PORTS: ClassVar[dict] = {
        "clk_12mhz": In(1), "btn_n": In(1), "uart_rx": In(1, init=1), "uart_tx": Out(1, init=1),
        "led_green_n": Out(1, init=1), "led_red_n": Out(1, init=1),
    }
    CLOCK, RX, TX = "clk_12mhz", "uart_rx", "uart_tx"
    IDLE: ClassVar[dict] = {"btn_n": 1}
    PRESSED: ClassVar[dict] = {"btn_n": 0}

    def reset(self) -> Value:
        return ~self.btn_n

    def shown(self, alive: Value, activity: list[Value], finished: Value) -> list:
        return [self.led_green_n.eq(~alive), self.led_red_n.eq(~(activity[0] | finished))]


class TangNano20k(SerialBoard):
    """Top level of a Tang Nano 20K: pins as in `constraints/tang_nano_20k.cst`.

    Its oscillator has 27 MHz. The core's memory is block RAM, its host the USB serial port. The
    button S1 resets. Lights, from bit 0: alive (blinks), host command, memory read, memory written,
    finished; the short ones are stretched to about 84 ms.
    """

    CLOCK_HZ, FAMILY = 27_000_000, "gowin"
    PORTS: ClassVar[dict] = {
        "clk_27mhz": In(1), "btn": In(2), "uart_rx": In(1, init=1), "uart_tx": Out(1, init=1),
        "led_n": Out(6, init=0x3F),
    }
    CLOCK, RX, TX = "clk_27mhz", "uart_rx", "uart_tx"
    IDLE: ClassVar[dict] = {"btn": 0}
    PRESSED: ClassVar[dict] = {"btn": 1}

    def reset(self) -> Value:
        return self.btn[0]

    def shown(self, alive: Value, activity: list[Value], finished: Value) -> list:
        return [self.led_n.eq(~Cat(alive, *activity, finished, Const(0, 1)))]


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
    part : Part
    top : class or None
        Its top level, `top(core, arch=..., memory_bytes=..., clock_mhz=...)`; None: the vendor's
        tool makes it.
    module : str
        The name of its Verilog module.
    clock_mhz : float
        Of its oscillator, or of what stands for one: the core's clock there, where the chip asks
        for no other one.
    memory_bytes : int
        External memory that the core reaches.
    constraints : str
        File in `systolith.constraints`.
    loader : str
        What openFPGALoader calls the board.
    """
    name: str
    part: Part
    top: type["SerialBoard"] | None
    module: str
    clock_mhz: float
    memory_bytes: int
    constraints: str
    loader: str

    def runs_at(self, asked_mhz: float | None) -> float:
        """MHz at which a core runs there whose chip asks for `asked_mhz`; None: the board's own.
        Raises PllError."""
        if self.top is None:
            return asked_mhz or self.clock_mhz
        found = self.top.ratio_of(asked_mhz)
        return self.clock_mhz if found is None else float(found.mhz)


@dataclass(frozen=True)
class ZynqBoard(Board):
    """A board whose part has processors beside its logic: they are the host, and the core uses
    their memory. The vendor's tool makes its bitstream; `module` is the core with its AXI ports.

    Attributes
    ----------
    device : str
        The part with package and speed grade.
    board_part : str
        What the vendor's tool calls the board, where it has been told of it.
    register_base : int
        Address at which the processors see the core's registers.
    memory_range : int
        Bytes of the processors' memory, from address 0 on, that the core's port reaches. It uses
        `memory_bytes` at most, which the system gives it.
    pins : dict
        Port -> pin, 3.3 V.
    """
    device: str
    board_part: str
    register_base: int
    memory_range: int
    pins: Mapping[str, str]


BOARDS: dict[str, Board] = {board.name: board for board in (
    Board("ulx3s-85f", PARTS["LFE5U-85F"], Ulx3s, "ulx3s", 25.0, 1 << 17, "ulx3s.lpf", "ulx3s"),
    # 64 of its 112 KiB of block RAM; the rest is the core's
    Board("ulx3s-12f", PARTS["LFE5U-12F"], Ulx3s, "ulx3s", 25.0, 1 << 16, "ulx3s.lpf", "ulx3s"),
    Board("icebreaker", PARTS["iCE40UP5K"], Icebreaker, "icebreaker", 12.0, 1 << 17,
          "icebreaker.pcf", "ice40_generic"),
    # 32 of its 92 KiB of block RAM
    Board("tang-nano-20k", PARTS["GW2AR-18"], TangNano20k, "tang_nano_20k", 27.0, 1 << 15,
          "tang_nano_20k.cst", "tangnano20k"),
    # as much as PYNQ's images set aside for buffers; the light LD0
    ZynqBoard("pynq-z2", PARTS["XC7Z020"], None, "systolith", 100.0, 1 << 27, "", "",
              device="xc7z020clg400-1", board_part="tul.com.tw:pynq-z2:part0:1.0",
              register_base=0x43C0_0000, memory_range=1 << 29,
              pins=MappingProxyType({"finished": "R14"})),
)}

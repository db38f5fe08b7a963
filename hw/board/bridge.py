"""Access for a host on a serial line: reads and writes the board's memory and the core's registers.

Every command is one byte, then the address (4 bytes), the number of 32-bit words less one (2 bytes)
and a check (2 bytes); everything is little-endian.

| command | what the host sends after it | answer |
|---|---|---|
| `W` | the words, a check | `K`, or `E` if any word met an error; a check |
| `R` | nothing | the words, then `K` or `E`, a check |

Addresses are byte addresses, multiples of 4, counted up from word to word. Bit 31 set: the
core's registers; clear: the memory. Any other command byte is answered by `?`.

A check is the CRC (`crc.py`) of all bytes since the command's first, less earlier checks, both
ways: an answer is of the command that the board has understood. A command whose check is wrong is
neither executed nor answered, nor is anything that follows it without `SerialBridge.timeout` cycles
of silence; one that stops in its middle is forgotten after as many. Of a `W` all words but the last
are written before its check is seen, so that one that is not answered must be given again; a single
word is written after its check alone.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.core.axi import AXILiteSignature

from . import crc
from .uart import UartReceiver, UartTransmitter

__all__ = ["REGISTER_SPACE", "RegisterMaster", "SerialBridge", "WordSignature"]

#: The address bit that selects the registers.
REGISTER_SPACE = 1 << 31


class WordSignature(wiring.Signature):
    """Access to 32-bit words, one at a time, seen from who asks.

    A request stays until its response; whoever asks takes a response in the cycle in which it
    comes.

    Members
    -------
    request : Out(stream)
        `address` (bytes; the two lowest bits are ignored), `write`, `data`.
    response : In(stream)
        `data`, `error`; one for each request, also for a write.
    """

    def __init__(self) -> None:
        super().__init__({
            "request": Out(stream.Signature(
                data.StructLayout({"address": 32, "write": 1, "data": 32}))),
            "response": In(stream.Signature(data.StructLayout({"data": 32, "error": 1}))),
        })


class RegisterMaster(wiring.Component):
    """Turns word accesses into AXI4-Lite transfers.

    Parameters
    ----------
    address_bits : int
        Width of the AXI4-Lite port's addresses; higher address bits are ignored.

    Members
    -------
    words : In(WordSignature)
    axi : Out(AXILiteSignature)
    """

    def __init__(self, *, address_bits: int) -> None:
        self.address_bits = address_bits
        super().__init__({"words": In(WordSignature()), "axi": Out(AXILiteSignature(address_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, request, response = self.axi, self.words.request, self.words.response
        got = request.payload
        m.d.comb += [axi.awaddr.eq(got.address), axi.araddr.eq(got.address),
                     axi.wdata.eq(got.data), axi.wstrb.eq(0b1111)]
        address_sent = Signal()
        data_sent = Signal()
        with m.FSM():
            with m.State("ASK"):
                with m.If(request.valid & got.write):
                    m.d.comb += [axi.awvalid.eq(~address_sent), axi.wvalid.eq(~data_sent)]
                    m.d.sync += [address_sent.eq(address_sent | axi.awready),
                                 data_sent.eq(data_sent | axi.wready)]
                    with m.If((address_sent | axi.awready) & (data_sent | axi.wready)):
                        m.d.sync += [address_sent.eq(0), data_sent.eq(0)]
                        m.next = "WRITTEN"
                with m.Elif(request.valid):
                    m.d.comb += axi.arvalid.eq(1)
                    with m.If(axi.arready):
                        m.next = "READ"
            with m.State("WRITTEN"):
                m.d.comb += [response.valid.eq(axi.bvalid),
                             response.payload.error.eq(axi.bresp != 0), axi.bready.eq(1)]
                with m.If(axi.bvalid):
                    m.d.comb += request.ready.eq(1)
                    m.next = "ASK"
            with m.State("READ"):
                m.d.comb += [response.valid.eq(axi.rvalid), response.payload.data.eq(axi.rdata),
                             response.payload.error.eq(axi.rresp != 0),
                             axi.rready.eq(1)]
                with m.If(axi.rvalid):
                    m.d.comb += request.ready.eq(1)
                    m.next = "ASK"
        return m


class _Command:
    """Registers of the command that is under way."""

    def __init__(self) -> None:
        self.write = Signal()       # it is W, not R
        self.failed = Signal()      # a word has met an error
        self.header = Signal(data.StructLayout({"address": 32, "more": 16}))
        self.word = Signal(32)
        self.place = Signal(3)      # byte of the header or of the word
        self.crc = Signal(16)
        self.wrong = Signal()       # the check's first byte was wrong

    def covers(self, byte: Value) -> Any:
        """The assignment that takes a byte into the check."""
        return self.crc.eq(crc.following(self.crc, byte))


class _Access:
    """Signals of the access to one word."""

    def __init__(self) -> None:
        self.request = Signal()
        self.response = Signal()
        self.error = Signal()
        self.answer = Signal(32)    # the word that was read


class SerialBridge(wiring.Component):
    """Executes the commands that come over a serial line.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit of the line.
    timeout : int or None
        Cycles of silence after which a command is forgotten; None: the time of 13,107 bytes.

    Members
    -------
    rx : In(1)
    tx : Out(1)
    memory, registers : Out(WordSignature)
    busy : Out(1)
        A command is under way.
    """

    def __init__(self, *, divisor: int, timeout: int | None = None) -> None:
        self.divisor = divisor
        self.timeout = timeout or divisor << 17
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1),
            "memory": Out(WordSignature()), "registers": Out(WordSignature()), "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(transmitter.line)]

        command = _Command()
        access = self._elaborate_access(m, command)
        silence = Signal(range(self.timeout + 1))
        with m.FSM() as fsm:
            self._elaborate_command(m, command, receiver, silence == self.timeout)
            self._elaborate_checks(m, command, receiver, silence == self.timeout)
            self._elaborate_words(m, command, access, transmitter)
            self._elaborate_answers(m, command, transmitter)
        # A host that stops in the middle of a command must not lock the line.
        awaited = [fsm.ongoing(state) for state in
                   ("HEADER", "HEADER CHECK", "TAKE", "WORDS CHECK", "DEAF")]
        with m.If(receiver.strobe | ~Cat(awaited).any()):
            m.d.sync += silence.eq(0)
        with m.Else():
            m.d.sync += silence.eq(silence + 1)
        m.d.comb += self.busy.eq(~fsm.ongoing("COMMAND"))
        return m

    def _elaborate_access(self, m, command):
        """The word's access at the side that the address selects."""
        access = _Access()
        header = command.header
        to_registers = header.address[31]
        for side, selected in ((self.registers, to_registers), (self.memory, ~to_registers)):
            asked = Signal(name="asked")        # a cycle later: the way to a side is long
            m.d.sync += asked.eq(access.request & selected & ~access.response)
            m.d.comb += [side.request.valid.eq(asked),
                         side.request.payload.address.eq(header.address[:31]),
                         side.request.payload.write.eq(command.write),
                         side.request.payload.data.eq(command.word),
                         side.response.ready.eq(asked)]
        registers, memory = self.registers.response, self.memory.response
        m.d.comb += [
            access.response.eq(Mux(to_registers, registers.valid, memory.valid)),
            access.answer.eq(Mux(to_registers, registers.payload.data, memory.payload.data)),
            access.error.eq(Mux(to_registers, registers.payload.error, memory.payload.error)),
        ]
        return access

    def _elaborate_command(self, m, command, receiver, forgotten):
        """States in which the host sends: the command's byte, its header, words to be written."""
        header, place, word = command.header, command.place, command.word
        with m.State("COMMAND"):
            m.d.sync += [place.eq(0), command.failed.eq(0),
                         command.crc.eq(crc.following(Const(crc.START, 16), receiver.data)),
                         command.write.eq(receiver.data == ord("W"))]
            with m.If(receiver.strobe):
                with m.If((receiver.data == ord("W")) | (receiver.data == ord("R"))):
                    m.next = "HEADER"
                with m.Else():
                    m.next = "UNKNOWN"
        with m.State("HEADER"):
            with m.If(receiver.strobe):
                m.d.sync += [header.eq(Cat(header.as_value()[8:], receiver.data)),
                             place.eq(place + 1), command.covers(receiver.data)]
                with m.If(place == 5):
                    m.d.sync += place.eq(0)
                    m.next = "HEADER CHECK"
            with m.Elif(forgotten):
                m.next = "COMMAND"
        with m.State("TAKE"):
            with m.If(receiver.strobe):
                m.d.sync += [word.eq(Cat(word[8:], receiver.data)), place.eq(place + 1),
                             command.covers(receiver.data)]
                with m.If(place == 3):
                    m.d.sync += place.eq(0)
                    with m.If(header.more == 0):
                        m.next = "WORDS CHECK"
                    with m.Else():
                        m.next = "ACCESS"
            with m.Elif(forgotten):
                m.next = "COMMAND"

    def _elaborate_checks(self, m, command, receiver, forgotten):
        """States of what the host sends to be compared with the check, and of the silence that is
        awaited where it is wrong."""
        place = command.place
        for state, takes in (("HEADER CHECK", 1), ("WORDS CHECK", 0)):
            with m.State(state):
                with m.If(receiver.strobe):
                    wrong = receiver.data != command.crc.word_select(place[0], 8)
                    m.d.sync += [place.eq(~place[0]), command.wrong.eq(wrong)]
                    with m.If(place[0]):
                        with m.If(wrong | command.wrong):
                            m.next = "DEAF"
                        with m.Elif(command.write & takes):
                            m.next = "TAKE"
                        with m.Else():
                            m.next = "ACCESS"
                with m.Elif(forgotten):
                    m.next = "COMMAND"
        with m.State("DEAF"):
            with m.If(forgotten):
                m.next = "COMMAND"

    def _elaborate_words(self, m, command, access, transmitter):
        """States of a word: its access, its bytes to the host, the step to the next one."""
        header, place, word = command.header, command.place, command.word
        with m.State("ACCESS"):
            m.d.comb += access.request.eq(1)
            with m.If(access.response):
                m.d.sync += command.failed.eq(command.failed | access.error)
                with m.If(command.write):
                    m.next = "NEXT"
                with m.Else():
                    m.d.sync += word.eq(access.answer)
                    m.next = "GIVE"
        with m.State("GIVE"):
            m.d.comb += [transmitter.i.valid.eq(1), transmitter.i.payload.eq(word[:8])]
            with m.If(transmitter.i.ready):
                m.d.sync += [word.eq(word[8:]), place.eq(place + 1), command.covers(word[:8])]
                with m.If(place == 3):
                    m.d.sync += place.eq(0)
                    m.next = "NEXT"
        with m.State("NEXT"):
            m.d.sync += [header.address[:31].eq(header.address[:31] + 4),
                         header.more.eq(header.more - 1)]
            with m.If(header.more == 0):
                m.next = "ANSWER"
            with m.Elif(command.write):
                m.next = "TAKE"
            with m.Else():
                m.next = "ACCESS"

    def _elaborate_answers(self, m, command, transmitter):
        """States that send how a command has ended."""
        place = command.place
        ending = Signal(8)
        m.d.comb += ending.eq(Mux(command.failed, ord("E"), ord("K")))
        for state, answer in (("ANSWER", ending), ("UNKNOWN", ord("?")),
                              ("CHECK", command.crc.word_select(place[0], 8))):
            with m.State(state):
                m.d.comb += [transmitter.i.valid.eq(1), transmitter.i.payload.eq(answer)]
                with m.If(transmitter.i.ready):
                    if state == "ANSWER":
                        m.d.sync += command.covers(ending)
                        m.next = "CHECK"
                    elif state == "CHECK":
                        m.d.sync += place.eq(1)
                        with m.If(place[0]):
                            m.next = "COMMAND"
                    else:
                        m.next = "COMMAND"

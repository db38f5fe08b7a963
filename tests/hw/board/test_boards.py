# amaranth: UnusedElaboratable=no
"""A board's surroundings of the core: memory, serial line, registers, pins."""

import random
import re
from binascii import crc_hqx
from importlib import resources
from typing import ClassVar

import pytest
from amaranth.hdl import Fragment, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from systolith.hw.board import boards, crc
from systolith.hw.board.block_memory import BlockMemory
from systolith.hw.board.bridge import REGISTER_SPACE, RegisterMaster, SerialBridge
from systolith.hw.board.pll import PllError
from systolith.hw.board.single_port_memory import SinglePortMemory
from systolith.hw.board.uart import UartReceiver, UartTransmitter
from systolith.hw.core.axi import AXI4Signature, AXILiteSignature
from systolith.hw.core.csr import Csr
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity

DIVISOR = 4


class StubCore(wiring.Component):
    """The core's registers, without what is behind them."""
    blocks: ClassVar = {}

    def __init__(self, arch):
        self.registers = Csr(arch=arch)
        super().__init__({"m_axi": Out(AXI4Signature(32, arch.bus_bits)),
                          "s_axi": In(AXILiteSignature(8)), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = self.registers
        wiring.connect(m, wiring.flipped(self.s_axi), self.registers.bus)
        m.d.comb += self.irq.eq(self.registers.irq)
        return m


def simulate(dut, process):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()


async def send(ctx, line, content, divisor=DIVISOR):
    for byte in content:
        for bit in [0, *(byte >> n & 1 for n in range(8)), 1]:
            ctx.set(line, bit)
            await ctx.tick().repeat(divisor)


async def receive(ctx, line, count, divisor=DIVISOR, patience=20000):
    """`count` bytes from an idle line, or fewer after `patience` cycles of silence."""
    content = bytearray()
    while len(content) < count:
        for _ in range(patience):
            if not ctx.get(line):
                break
            await ctx.tick()
        else:
            break
        await ctx.tick().repeat(divisor + divisor // 2)
        byte = 0
        for bit in range(8):
            byte |= ctx.get(line) << bit
            await ctx.tick().repeat(divisor)
        assert ctx.get(line) == 1, "stop bit"
        content.append(byte)
    return bytes(content)


def command(letter, address, words, content=b""):
    head = letter + address.to_bytes(4, "little") + (words - 1).to_bytes(2, "little")
    check = crc_hqx(head, 0xFFFF)
    end = content + crc_hqx(content, check).to_bytes(2, "little") if content else b""
    return head + check.to_bytes(2, "little") + end


def answer_to(request, content=b"", end=b"K"):
    """What answers a request, with its check."""
    covered = request[:7] + request[9:-2] + content + end
    return content + end + crc_hqx(covered, 0xFFFF).to_bytes(2, "little")


@pytest.mark.parametrize("divisor", [4, 7, 25])
def test_uart_carries_every_byte(divisor):
    m = Module()
    m.submodules.transmitter = transmitter = UartTransmitter(divisor=divisor)
    m.submodules.receiver = receiver = UartReceiver(divisor=divisor)
    m.d.comb += receiver.line.eq(transmitter.line)
    sent = [*range(0, 256, 5), 255, 0]
    got = []

    async def process(ctx):
        for byte in sent:
            ctx.set(transmitter.i.payload, byte)
            ctx.set(transmitter.i.valid, 1)
            await ctx.tick().until(transmitter.i.ready)
        ctx.set(transmitter.i.valid, 0)
        await ctx.tick().repeat(12 * divisor)

    async def listen(ctx):
        while True:
            _, _, data, strobe = await ctx.tick().sample(receiver.data, receiver.strobe)
            if strobe:
                got.append(data)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    assert got == sent


def test_host_writes_and_reads_memory_and_registers():
    arch = Arch(rows=3, columns=2)
    core = StubCore(arch)
    dut = boards.SerialSystem(core, arch=arch, divisor=DIVISOR, memory_bytes=8192)
    content = random.Random(1).randbytes(12)

    async def process(ctx):
        async def ask(request, content=b"", end=b"K"):
            await send(ctx, dut.rx, request)
            expected = answer_to(request, content, end)
            assert await receive(ctx, dut.tx, len(expected)) == expected

        await ask(command(b"W", 4092, 3, content))
        await ask(command(b"R", 4092, 3), content)
        # a word alone, in the middle of a beat
        await ask(command(b"W", 4096, 1, b"\x01\x02\x03\x04"))
        changed = content[:4] + b"\x01\x02\x03\x04" + content[8:]
        await ask(command(b"R", 4092, 3), changed)
        # registers
        for name, value in (("ID", registers.ID), ("VERSION", registers.VERSION),
                            ("IDENTITY_HIGH", identity(arch) >> 32)):
            await ask(command(b"R", REGISTER_SPACE + registers.address(name), 1),
                      value.to_bytes(4, "little"))
        at = REGISTER_SPACE + registers.address("WINDOW_SIZE")
        await ask(command(b"W", at, 1, (8192).to_bytes(4, "little")))
        await ask(command(b"R", at, 1), (8192).to_bytes(4, "little"))
        # mistakes
        await ask(command(b"W", 8192, 1, b"\xff\xff\xff\xff"), end=b"E")
        await send(ctx, dut.rx, command(b"R", 1 << 20, 1))
        assert (await receive(ctx, dut.tx, 7))[4:5] == b"E"
        await send(ctx, dut.rx, b"x")
        assert await receive(ctx, dut.tx, 1) == b"?"
        await ask(command(b"R", 0, 1), b"\0\0\0\0")
        process.done = True

    simulate(dut, process)
    assert process.done


def test_the_check_is_that_of_the_standard_library():
    rng = random.Random(1)
    m, before, byte, after = Module(), Signal(16), Signal(8), Signal(16)
    m.d.comb += after.eq(crc.following(before, byte))

    async def process(ctx):
        for _ in range(50):
            one, two = rng.randrange(1 << 16), rng.randrange(256)
            ctx.set(before, one)
            ctx.set(byte, two)
            await ctx.delay(1e-6)
            assert ctx.get(after) == crc_hqx(bytes([two]), one)
        process.done = True

    simulator = Simulator(m)
    simulator.add_testbench(process)
    simulator.run()
    assert process.done


#: What happens to a command on its way: (bytes) -> bytes.
DAMAGE = {
    "letter": lambda b: b"R" + b[1:],
    "address": lambda b: b[:1] + bytes([b[1] ^ 4]) + b[2:],
    "count": lambda b: b[:5] + bytes([b[5] ^ 1]) + b[6:],
    "check of the header": lambda b: b[:8] + bytes([b[8] ^ 0x80]) + b[9:],
    "word": lambda b: b[:9] + bytes([b[9] ^ 0x10]) + b[10:],
    "check": lambda b: b[:-1] + bytes([b[-1] ^ 1]),
    "lost in the header": lambda b: b[:3] + b[4:],
    "lost in the word": lambda b: b[:10] + b[11:],
    "noise in the header": lambda b: b[:3] + b"\x55" + b[3:],
    "noise in the word": lambda b: b[:11] + b"\x55" + b[11:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_command_is_neither_executed_nor_answered(damage):
    timeout = 40 * 10 * DIVISOR
    m = Module()
    m.submodules.bridge = dut = SerialBridge(divisor=DIVISOR, timeout=timeout)
    m.submodules.master = master = RegisterMaster(address_bits=8)
    m.submodules.core = core = StubCore(Arch(rows=2, columns=2))
    wiring.connect(m, dut.registers, master.words)
    wiring.connect(m, master.axi, core.s_axi)
    at = REGISTER_SPACE + registers.address("WINDOW_SIZE")
    good = command(b"W", at, 1, b"\x01\x02\x03\x04")

    async def process(ctx):
        async def ask(request, content=b""):
            await send(ctx, dut.rx, request)
            expected = answer_to(request, content)
            assert await receive(ctx, dut.tx, len(expected)) == expected
        await send(ctx, dut.rx, DAMAGE[damage](good))
        # silence: no answer, and afterwards the next command is understood
        assert await receive(ctx, dut.tx, 1, patience=timeout + 10) == b""
        await ask(command(b"R", at, 1), b"\0\0\0\0")
        await ask(good)
        await ask(command(b"R", at, 1), b"\x01\x02\x03\x04")
        process.done = True

    simulate(m, process)
    assert process.done


def test_an_unfinished_command_is_forgotten():
    dut = SerialBridge(divisor=DIVISOR, timeout=300)

    async def process(ctx):
        await send(ctx, dut.rx, b"W\0\0")
        assert ctx.get(dut.busy) == 1
        await ctx.tick().repeat(320)
        assert ctx.get(dut.busy) == 0
        await send(ctx, dut.rx, b"?")
        assert await receive(ctx, dut.tx, 1) == b"?"
        process.done = True

    simulate(dut, process)
    assert process.done


@pytest.mark.parametrize("kind, data_bits, seed", [
    (BlockMemory, 32, 1), (BlockMemory, 64, 2), (BlockMemory, 128, 3),
    (SinglePortMemory, 32, 4), (SinglePortMemory, 64, 5)])
def test_axi_bursts_match_a_plain_memory(kind, data_bits, seed):
    """Random bursts with random stalls, host accesses in between; data, IDs, responses, last."""
    size, beat = 8192, data_bits // 8
    dut = kind(size=size, data_bits=data_bits)
    axi, words = dut.axi, dut.words
    rng = random.Random(seed)
    model = bytearray(size)

    async def write(ctx, address, beats, identifier):
        ctx.set(axi.awaddr, address)
        ctx.set(axi.awlen, len(beats) - 1)
        ctx.set(axi.awid, identifier)
        ctx.set(axi.awvalid, 1)
        await ctx.tick().until(axi.awready)
        ctx.set(axi.awvalid, 0)
        for number, (content, strobes) in enumerate(beats):
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(axi.wdata, int.from_bytes(content, "little"))
            ctx.set(axi.wstrb, strobes)
            ctx.set(axi.wlast, number == len(beats) - 1)
            ctx.set(axi.wvalid, 1)
            await ctx.tick().until(axi.wready)
            ctx.set(axi.wvalid, 0)
            for n in range(beat):
                if strobes >> n & 1 and address < size:
                    model[address + number * beat + n] = content[n]
        while rng.random() < 0.5:
            await ctx.tick()
        ctx.set(axi.bready, 1)
        resp, got = await ctx.tick().sample(axi.bresp, axi.bid).until(axi.bvalid)
        ctx.set(axi.bready, 0)
        assert (resp, got) == (0 if address < size else BlockMemory.SLVERR, identifier)

    async def read(ctx, address, count, identifier):
        ctx.set(axi.araddr, address)
        ctx.set(axi.arlen, count - 1)
        ctx.set(axi.arid, identifier)
        ctx.set(axi.arvalid, 1)
        await ctx.tick().until(axi.arready)
        ctx.set(axi.arvalid, 0)
        for number in range(count):
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(axi.rready, 1)
            data, got, last, resp = await ctx.tick().sample(
                axi.rdata, axi.rid, axi.rlast, axi.rresp).until(axi.rvalid)
            ctx.set(axi.rready, 0)
            assert (got, last) == (identifier, number == count - 1)
            if address < size:
                at = address + number * beat
                assert data == int.from_bytes(model[at:at + beat], "little")
                assert resp == 0
            else:
                assert resp == BlockMemory.SLVERR

    async def host(ctx, address, value=None):
        ctx.set(words.request.payload.address, address)
        ctx.set(words.request.payload.write, value is not None)
        ctx.set(words.request.payload.data, value or 0)
        ctx.set(words.request.valid, 1)
        data, error = await ctx.tick().sample(
            words.response.payload.data, words.response.payload.error).until(words.response.valid)
        ctx.set(words.request.valid, 0)
        assert error == (address >= size)
        if value is not None and address < size:
            model[address:address + 4] = value.to_bytes(4, "little")
        elif value is None and address < size:
            assert data == int.from_bytes(model[address:address + 4], "little")

    async def process(ctx):
        for _ in range(120):
            page = rng.choice([0, 4096, size, 4096 * 9])
            count = rng.randint(1, 9)
            address = page + beat * rng.randrange(4096 // beat - count)
            kind = rng.random()
            if kind < 0.4:
                await write(ctx, address, [(rng.randbytes(beat), rng.getrandbits(beat))
                                           for _ in range(count)], rng.randrange(2))
            elif kind < 0.8:
                await read(ctx, address, count, rng.randrange(2))
            elif kind < 0.9:
                await host(ctx, page + 4 * rng.randrange(1024), rng.getrandbits(32))
            else:
                await host(ctx, page + 4 * rng.randrange(1024))
        process.done = True

    simulate(dut, process)
    assert process.done


@pytest.mark.parametrize("kind, latency", [
    (BlockMemory, BlockMemory.READ_LATENCY), (SinglePortMemory, 2)])
@pytest.mark.parametrize("beats", [1, 8])
def test_reads_come_one_beat_a_cycle_over_successive_bursts(kind, latency, beats):
    dut = kind(size=4096, data_bits=32)
    axi = dut.axi
    valid = []

    async def process(ctx):
        ctx.set(axi.arlen, beats - 1)
        ctx.set(axi.arvalid, 1)
        ctx.set(axi.rready, 1)
        for _ in range(40):
            _, _, now = await ctx.tick().sample(axi.rvalid)
            valid.append(now)

    simulate(dut, process)
    assert valid == [0] * latency + [1] * (40 - latency)


def test_beats_wait_for_the_reader_and_none_is_lost():
    """Nobody takes a beat for a while: the queue fills, and then all come in order."""
    dut = BlockMemory(size=4096, data_bits=32)
    axi = dut.axi
    got = []

    async def process(ctx):
        ctx.set(axi.awlen, 31)
        ctx.set(axi.awvalid, 1)
        await ctx.tick().until(axi.awready)
        ctx.set(axi.awvalid, 0)
        ctx.set(axi.wvalid, 1)
        ctx.set(axi.wstrb, 15)
        for number in range(32):
            ctx.set(axi.wdata, 1000 + number)
            ctx.set(axi.wlast, number == 31)
            await ctx.tick().until(axi.wready)
        ctx.set(axi.wvalid, 0)
        ctx.set(axi.arlen, 31)
        ctx.set(axi.arvalid, 1)
        await ctx.tick().until(axi.arready)
        ctx.set(axi.arvalid, 0)
        await ctx.tick().repeat(40)
        ctx.set(axi.rready, 1)
        for _ in range(32):
            _, _, valid, word, last = await ctx.tick().sample(axi.rvalid, axi.rdata, axi.rlast)
            got.append((valid, word, last))

    simulate(dut, process)
    # one a cycle from the first one on, although the memory is `READ_LATENCY` away
    assert got == [(1, 1000 + number, number == 31) for number in range(32)]


@pytest.mark.parametrize("name", [name for name, board in boards.BOARDS.items() if board.top])
def test_clock_and_serial_line_follow_the_loop(name):
    board, arch = boards.BOARDS[name], Arch(rows=2, columns=2)

    def top(mhz):
        made = board.top(StubCore(arch), arch=arch, memory_bytes=board.memory_bytes, clock_mhz=mhz)
        subfragments = Fragment.get(made, None).subfragments
        return made, any(inside == "pll" for _, inside, _ in subfragments)
    for mhz in (None, board.clock_mhz):
        made, has_loop = top(mhz)
        assert (made.hz, has_loop) == (board.top.CLOCK_HZ, False)
        assert made.system.divisor == board.clock_mhz
    made, has_loop = top(48.0)
    assert has_loop and made.hz == round(board.runs_at(48.0) * 1e6)
    assert abs(made.system.divisor - made.hz / 1e6) <= 0.5
    assert 46 < board.runs_at(48.0) <= 48


def test_size_and_divisor_are_checked():
    with pytest.raises(ValueError, match="size must be a multiple of 4096 bytes, not 5000"):
        BlockMemory(size=5000, data_bits=32)
    with pytest.raises(ValueError, match="divisor must be at least 4 cycles per bit, not 3"):
        UartReceiver(divisor=3)
    with pytest.raises(ValueError, match="divisor must be at least 2 cycles per bit, not 1"):
        UartTransmitter(divisor=1)


@pytest.mark.parametrize("name", [name for name, board in boards.BOARDS.items() if board.top])
def test_constraints_name_every_pin_once_and_no_other(name):
    board = boards.BOARDS[name]
    arch = Arch(rows=2, columns=2)
    top = board.top(StubCore(arch), arch=arch, memory_bytes=board.memory_bytes)
    Fragment.get(top, None)                             # else Amaranth warns that nobody uses it
    text = (resources.files("systolith.constraints") / board.constraints).read_text()
    pins = set()
    for port, member in top.signature.members.items():
        width = member.shape if isinstance(member.shape, int) else 1
        pins |= {port} if width == 1 else {f"{port}[{n}]" for n in range(width)}
    place, electric = LINES[board.constraints.rpartition(".")[2]]
    located = re.findall(place, text, re.MULTILINE)
    assert sorted(comp for comp, _ in located) == sorted(pins)
    assert len({site for _, site in located}) == len(located)
    if electric:
        assert sorted(re.findall(electric, text)) == sorted(pins)
    assert board.clock_mhz * 1e6 == board.top.CLOCK_HZ
    assert board.top.CLOCK in pins
    if board.constraints.endswith(".lpf"):
        assert f'FREQUENCY PORT "{board.top.CLOCK}" {board.clock_mhz:g} MHZ' in text


#: By kind of file: a line that places a pin (name, site), and one that says its voltage (name).
LINES = {
    "lpf": (r'^LOCATE COMP "(\S+)" SITE "(\w+)"', r'IOBUF PORT "(\S+)"'),
    "pcf": (r"^set_io(?: -\S+ \S+)? (\S+) (\d+)$", None),
    "cst": (r'^IO_LOC "(\S+)" (\d+);', r'IO_PORT "(\S+)"'),
}


@pytest.mark.parametrize("mhz, fast", [(3.5, "+4.2%"), (4, "-10.7%")])
def test_a_clock_of_which_bits_are_no_whole_part(mhz, fast):
    """3.125 MHz is three clocks a bit, too short; 3.57 is four, too long."""
    with pytest.raises(PllError, match=re.escape(f"are no whole part ({fast})")):
        boards.Ulx3s.ratio_of(mhz)

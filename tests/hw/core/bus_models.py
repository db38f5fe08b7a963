"""A core between cocotbext-axi's models of a memory and of a host, inside the simulator.

The cases come as `cases.pickle` in the working folder, see `test_bus_models.py`; what became of
them goes back as `found.pickle`.
"""

import itertools
import logging
import pickle
import random
import warnings
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam
from systolith.hw.spec.registers import address

BASE = 0x5000
#: Clock cycles that a run, and a soft reset, may take.
LIMIT = 60_000
PERIOD = 10             # of the clock, in ns


class Bench:
    """The models around a core, and what is done to what the memory answers."""

    def __init__(self, dut, memory_bytes):
        self.dut = dut
        self.memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clock, dut.rst,
                             size=memory_bytes)
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clock, dut.rst)
        memory, host = self.memory, self.host
        self.channels = {
            "ar": memory.read_if.ar_channel, "r": memory.read_if.r_channel,
            "aw": memory.write_if.aw_channel, "w": memory.write_if.w_channel,
            "b": memory.write_if.b_channel,
            "host ar": host.read_if.ar_channel, "host r": host.read_if.r_channel,
            "host aw": host.write_if.aw_channel, "host w": host.write_if.w_channel,
            "host b": host.write_if.b_channel}
        self.fault = None
        self.counts, self.bursts, self.strobes = {}, [], set()
        for name in ("r", "b"):
            self._tamper(name, self.channels[name])
        for name in ("ar", "aw", "w"):
            self._watch(name, self.channels[name])

    def _tamper(self, name, channel):
        """Answers go through `self.fault`: (channel, number of the answer, what to change)."""
        send = channel.send

        async def changed(item):
            number = self.counts[name] = self.counts.get(name, -1) + 1
            change = self.fault[2] if self.fault and self.fault[:2] == (name, number) else {}
            for field, value in change.items():
                if hasattr(item, field):
                    setattr(item, field, value)
            for _ in range(change.get("times", 1)):
                await send(item)
        channel.send = changed

    def _watch(self, name, channel):
        receive = channel.recv

        async def seen():
            item = await receive()
            if name == "w":
                self.strobes.add(int(item.wstrb))
            else:
                fields = ("addr", "len", "id", "size", "burst")
                self.bursts.append((name, *(int(getattr(item, name + field)) for field in fields)))
            return item
        channel.recv = seen

    def stall(self, shares, seed):
        """Each channel pauses in so many of its cycles, at random: {channel: share}."""
        draw = random.Random(seed)

        def pauses(share):
            own = random.Random(draw.random())
            return (own.random() < share for _ in itertools.count())
        for name, channel in self.channels.items():
            channel.clear_pause_generator()
            channel.pause = False
            if shares.get(name):
                channel.set_pause_generator(pauses(shares[name]))

    async def reset(self):
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clock, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clock, 2)

    async def write(self, name, value):
        answer = await self.host.write(address(name), value.to_bytes(4, "little"))
        assert answer.resp == 0

    async def read(self, name):
        answer = await self.host.read(address(name), 4)
        assert answer.resp == 0
        return int.from_bytes(answer.data, "little")

    async def finished(self):
        if not int(self.dut.irq.value):
            await First(RisingEdge(self.dut.irq), Timer(LIMIT * PERIOD, "ns"))
        return bool(int(self.dut.irq.value))

    async def run(self, case):
        """One case: what STATUS says, the memory, and what the core asked for."""
        self.fault, self.counts, self.bursts, self.strobes = None, {}, [], set()
        self.stall(case.get("stalls", {}), case.get("seed", 0))
        await self.reset()
        self.memory.write(BASE, case["image"])
        outside = self.memory.read(0, BASE), self.memory.read(
            BASE + case["window"], self.memory.size - BASE - case["window"])
        for name, value in {"WINDOW_BASE": BASE, "WINDOW_SIZE": case["window"],
                            "PROGRAM": case["program"],
                            "WATCHDOG": case.get("watchdog", 5000)}.items():
            await self.write(name, value)
        self.fault = case.get("fault")
        await self.write("CONTROL", 1)
        if "soft" in case:
            await ClockCycles(self.dut.clock, case["soft"])
            begun = not int(self.dut.irq.value)
            await self.write("CONTROL", 3)
        elif "hard" in case:
            await ClockCycles(self.dut.clock, case["hard"])
            begun = not int(self.dut.irq.value)
            await self.reset()
            for name, value in {"WINDOW_BASE": BASE, "WINDOW_SIZE": case["window"],
                                "PROGRAM": case["program"], "WATCHDOG": 5000}.items():
                await self.write(name, value)
            await self.write("CONTROL", 1)
        else:
            begun = True
        found = {"begun": begun, "finished": await self.finished(),
                 "status": await self.read("STATUS"), "where": await self.read("ERROR_ADDRESS"),
                 "memory": self.memory.read(BASE, case["window"]), "bursts": list(self.bursts),
                 "strobes": set(self.strobes), "answers": dict(self.counts)}
        if self.fault:
            self.fault = None
            # with a start that follows: the interrupt comes when its run has ended, or never will
            self.memory.write(BASE, case["image"])
            await self.write("CONTROL", 3)
            found |= {"finished again": await self.finished(), "after": await self.read("STATUS"),
                      "again": self.memory.read(BASE, case["window"])}
        found["outside"] = outside == (self.memory.read(0, BASE), self.memory.read(
            BASE + case["window"], self.memory.size - BASE - case["window"]))
        return found


@cocotb.test()
async def bench(dut):
    warnings.simplefilter("ignore")
    logging.getLogger("cocotb").setLevel(logging.ERROR)
    cases = pickle.loads(Path("cases.pickle").read_bytes())
    Clock(dut.clock, PERIOD, "ns").start()
    models = Bench(dut, 1 << 17)
    Path("found.pickle").write_bytes(pickle.dumps([await models.run(case) for case in cases]))

"""cocotbext-axi's masters and memory around a `SharedBus`, inside the simulator; what they have
found goes to `found.pickle`, see `test_shared_bus.py`."""

import itertools
import logging
import pickle
import random
import warnings
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Combine
from cocotbext.axi import AxiBus, AxiMaster, AxiRam

CORES, REGION = 3, 1 << 12
#: Share of cycles in which each channel stalls, in each case.
STALLS = (0, 0.3, 0.6, 0.8)


async def use(master, core, seed, wrong, done):
    """Reads and writes at random places of a core's region, some at the same time."""
    draw, content = random.Random(f"{core} {seed}"), bytearray(REGION)
    for _ in range(20):
        place = draw.randrange(REGION // 4) * 4
        data = draw.randbytes(min(REGION - place, draw.choice((4, 16, 200, 1000))))
        first = draw.randrange(REGION - 64)
        pending = master.init_read(core * REGION + first, 64, arid=0)
        await pending.wait()
        if bytes(pending.data.data) != bytes(content[first:first + 64]):
            wrong.append((core, first, "before"))
        await master.write(core * REGION + place, data, awid=0)
        content[place:place + len(data)] = data
        done[core] += 1
        answer = await master.read(core * REGION + place, len(data), arid=0)
        if bytes(answer.data) != data:
            wrong.append((core, place, "after"))
        done[core] += 1


@cocotb.test()
async def bench(dut):
    warnings.simplefilter("ignore")
    logging.getLogger("cocotb").setLevel(logging.ERROR)
    Clock(dut.clock, 10, "ns").start()
    memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clock, dut.rst, size=CORES * REGION)
    masters = [AxiMaster(AxiBus.from_prefix(dut, f"m{core}_axi"), dut.clock, dut.rst)
               for core in range(CORES)]
    order = []
    receive = memory.read_if.ar_channel.recv

    async def seen():
        item = await receive()
        order.append(int(item.araddr) // REGION)
        return item
    memory.read_if.ar_channel.recv = seen
    found = []
    for seed, share in enumerate(STALLS):
        draw = random.Random(seed)

        def pauses(own, share=share):
            return (own.random() < share for _ in itertools.count())
        for part in (memory, *masters):
            for channel in (part.read_if.ar_channel, part.read_if.r_channel,
                            part.write_if.aw_channel, part.write_if.w_channel,
                            part.write_if.b_channel):
                channel.clear_pause_generator()
                channel.pause = False
                if share:
                    channel.set_pause_generator(pauses(random.Random(draw.random())))
        dut.rst.value = 1
        await ClockCycles(dut.clock, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clock, 2)
        memory.write(0, bytes(CORES * REGION))
        order.clear()
        wrong, done = [], [0] * CORES
        await Combine(*(cocotb.start_soon(use(master, core, seed, wrong, done))
                        for core, master in enumerate(masters)))
        found.append({"wrong": wrong, "accesses": done, "order": list(order)})
    Path("found.pickle").write_bytes(pickle.dumps(found))

"""What joins several cores: proofs by induction, and cocotbext-axi's masters and memory around it
under random stalls."""

import pickle
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
from amaranth.back import verilog
from amaranth.hdl import Array, Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator
from systolith.gen.measure.yosys import AreaError
from systolith.hw.core.register_slice import RegisterSlice
from systolith.hw.core.register_windows import RegisterWindows
from systolith.hw.core.shared_bus import Owners, SharedBus, Turns
from systolith.hw.spec.registers import CORE_BITS
from systolith.sim.rtl.core import build_bench, run_bench

from .proofs import opened, prove, written
from .test_bus_proofs import held

HERE = Path(__file__).parent
CORES, DATA_BITS = 3, 32


def proven(tmp_path, m, component, ok, given=(), **signals):
    prove(tmp_path, written(m, component, ok=ok, **signals), given)


@pytest.mark.parametrize("queue, full", [(False, False), (True, False), (True, True)])
def test_nothing_is_lost_doubled_or_overtaken(queue, full, tmp_path):
    """Any one item, chosen when it is accepted, leaves with its content after as many others as
    were there before it; and what is offered stays until it is taken. Not so where entries are
    written that there is no room for."""
    component = Owners(width=2, depth=3) if queue else RegisterSlice(2)
    m = Module()
    m.submodules.unit, own = opened(component)
    if queue:
        new, enters, leaves, shown, out = (
            component.new, component.write, component.read, component.some, component.oldest)
        places = [own[f"entry_{n}"] for n in range(3)]
        polite = (full | ~(component.write & component.full)) & ~(component.read & ~component.some)
    else:
        i, o = component.i, component.o
        new, enters, leaves, shown, out = (
            i.payload, i.valid & i.ready, o.valid & o.ready, o.valid, o.payload)
        places = [o.payload, own["spare"]]
        polite = Value.cast(1)
    count, before, content = Signal(3), Signal(3), Signal(2)
    choose, watched, ok, assumed = Signal(), Signal(), Signal(), Signal()
    waited, was = Signal(), Signal(2)
    counted = own["free"] == Const(1, 4) << count if queue else o.valid + own["full"] == count
    m.d.sync += [count.eq(count + enters - leaves), waited.eq(shown & ~leaves), was.eq(out)]
    with m.If(watched & leaves):
        m.d.sync += [watched.eq(before != 0), before.eq(before - 1)]
    with m.If(~watched & enters & choose):
        m.d.sync += [watched.eq(1), before.eq(count - leaves), content.eq(new)]
    m.d.comb += [
        assumed.eq(polite),
        ok.eq(counted & (count <= len(places)) & (shown == (count != 0))
              & (~waited | (shown & (out == was)))
              & (~watched | ((before < count) & (Array(places)[before] == content)))),
    ]
    with pytest.raises(AreaError) if full else nullcontext():
        proven(tmp_path, m, component, ok, ["assumed"], assumed=assumed, choose=choose)


@pytest.mark.parametrize("who", range(CORES))
def test_whoever_waits_sees_each_other_one_served_once_at_most(who, tmp_path):
    component = Turns(CORES)
    m = Module()
    m.submodules.unit = component
    wanted, turn, taken = component.wanted, component.turn, component.taken
    waited, assumed, ok = Signal(), Signal(), Signal()
    waits = wanted[who] & ~(turn[who] & taken)
    served = [Signal(2, name=f"served_{n}") for n in range(CORES)]
    m.d.sync += waited.eq(waits)
    for n, count in enumerate(served):
        with m.If(~waits):
            m.d.sync += count.eq(0)
        with m.Elif(taken & turn[n] & (n != who)):
            m.d.sync += count.eq(count + 1)
    ring = [(who - distance) % CORES for distance in range(CORES)]      # who, and those before
    m.d.comb += [
        # what is wanted stays wanted until it is taken, and nobody is served without wanting
        assumed.eq((wanted[who] | ~waited) & (~taken | (wanted & turn).any())),
        ok.eq(((turn == 1) | (turn == 2) | (turn == 4)) & Cat(
            (served[n] <= 1) & ((served[n] == 0) | Cat(turn[later] for later in ring[:place]).any())
            for place, n in enumerate(ring) if place).all()),
    ]
    proven(tmp_path, m, component, ok, ["assumed"], assumed=assumed)


def test_what_is_offered_to_memory_stays_and_one_core_at_a_time_is_served(tmp_path):
    component = SharedBus(cores=CORES, data_bits=DATA_BITS)
    m = Module()
    m.submodules.unit = component
    ok = Signal()

    def at_most_one(names):
        return Cat(~(getattr(a, name) & getattr(b, name)) for name in names
                   for n, a in enumerate(component.cores) for b in list(component.cores)[:n]).all()
    m.d.comb += ok.eq(Cat(held(m, component.axi, channel) for channel in ("aw", "w", "ar")).all()
                      & at_most_one(["wready", "rvalid", "bvalid"]))
    proven(tmp_path, m, component, ok)


def test_registers_of_a_core_are_held_and_answers_too(tmp_path):
    """Where a core answers what it has taken, and nothing else."""
    component = RegisterWindows(cores=CORES)
    m = Module()
    m.submodules.unit, own = opened(component)
    ok, assumed = Signal(), Signal()
    m.d.comb += assumed.eq(Cat(
        ~getattr(core, valid) | ~own[f"{channel}_asking"] for core in component.cores
        for valid, channel in (("rvalid", "ar"), ("bvalid", "aw"), ("bvalid", "w"))).all())
    # an answer waits where nothing else is under way
    idle = [~valid | ~own[f"{way}_waits"] & ~own[f"{way}_accepted"] for way, valid in (
        ("read", component.bus.rvalid), ("write", component.bus.bvalid))]
    quiet = [~own[f"{channel}_asking"] | own[f"{way}_waits"] for way, channel in (
        ("read", "ar"), ("write", "aw"), ("write", "w"))]
    once = [~(own[f"{way}_waits"] & own[f"{way}_accepted"]) for way in ("read", "write")]
    m.d.comb += ok.eq(Cat(*idle, *quiet, *once, *(
        held(m, component.bus, channel) for channel in ("b", "r")), *(
        held(m, core, channel) for core in component.cores for channel in ("aw", "w", "ar"))).all())
    proven(tmp_path, m, component, ok, ["assumed"], assumed=assumed)


def test_an_access_goes_to_the_core_that_its_address_names():
    component = RegisterWindows(cores=CORES)
    bus, seen = component.bus, []

    async def host(ctx):
        for core in range(4):
            ctx.set(bus.awaddr, core << CORE_BITS | 0x20)
            ctx.set(bus.wdata, 100 + core)
            ctx.set(bus.wstrb, 15)
            ctx.set(bus.bready, 1)
            for signal, till in ((bus.awvalid, bus.awready),):
                ctx.set(signal, 1)
                ctx.set(bus.wvalid, 1)
                await ctx.tick().until(till)
                ctx.set(signal, 0)
                ctx.set(bus.wvalid, 0)
            answer = await ctx.tick().sample(bus.bresp).until(bus.bvalid)
            ctx.set(bus.araddr, core << CORE_BITS | 0x24)
            ctx.set(bus.rready, 1)
            ctx.set(bus.arvalid, 1)
            await ctx.tick().until(bus.arready)
            ctx.set(bus.arvalid, 0)
            data, response = await ctx.tick().sample(bus.rdata, bus.rresp).until(bus.rvalid)
            assert (answer[0], response, data) == (
                (0, 0, 1000 * core + 0x24) if core < CORES else (3, 3, 0))

    async def core(ctx, number):
        port = component.cores[number]
        ctx.set(port.awready, 1)
        ctx.set(port.wready, 1)
        ctx.set(port.arready, 1)
        async for _, _, wrote, where, what, asked, place in ctx.tick().sample(
                port.awvalid & port.wvalid, port.awaddr, port.wdata, port.arvalid, port.araddr):
            if wrote:
                seen.append((number, where, what))
            if wrote or (ctx.get(port.bvalid) and not ctx.get(port.bready)):
                ctx.set(port.bvalid, 1)
            else:
                ctx.set(port.bvalid, 0)
            if asked:
                ctx.set(port.rdata, 1000 * number + place)
                ctx.set(port.rvalid, 1)
            elif ctx.get(port.rready):
                ctx.set(port.rvalid, 0)
    m = Module()
    m.submodules.unit = component
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    for number in range(CORES):
        async def serve(ctx, number=number):
            await core(ctx, number)
        simulator.add_testbench(serve, background=True)
    simulator.run()
    assert seen == [(core, 0x20, 100 + core) for core in range(CORES)]


def wrapper(component):
    """Verilog of a module whose signals a testbench sets: the component, and its ports as m0_...,
    m1_... of the cores and m_axi_... of the memory."""
    ports, lines = {}, []
    for path, member, value in component.signature.flatten(component):
        name = "m_axi_" + path[1] if path[0] == "axi" else f"m{path[1]}_axi_{path[2]}"
        ports[name] = (Value.cast(value), None)
        bits = len(Value.cast(value))
        kind = ("reg", "rw", " = 0") if member.flow == wiring.In else ("wire", "rd", "")
        lines.append(f"  {kind[0]} [{bits - 1}:0] {name} /* verilator public_flat_{kind[1]} */"
                     f"{kind[2]};")
    text = verilog.convert(component, name="shared_bus", ports=ports)
    return text, "\n".join([
        "module shared_bus_models (input clk);",
        "  reg clock /* verilator public_flat_rw */ = 0;",
        "  reg rst /* verilator public_flat_rw */ = 1;", *lines,
        "  shared_bus bus (.clk(clock), .*);", "endmodule", ""])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """[what each case has found] of `shared_bus_models.py`."""
    folder = tmp_path_factory.mktemp("shared")
    text, around = wrapper(SharedBus(cores=CORES, data_bits=DATA_BITS))
    executable = build_bench({"bus.v": text, "around.sv": around}, "shared_bus_models")
    (folder / "shared_bus_models.py").write_text((HERE / "shared_bus_models.py").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        run_bench(executable, "shared_bus_models", "shared_bus_models", folder=folder, timeout=300)
    return pickle.loads((folder / "found.pickle").read_bytes())


def test_masters_read_what_they_wrote_whatever_stalls(found):
    """Each in a region of its own, all at once; and the bus is shared: their bursts alternate."""
    assert len(found) == 4
    for case in found:
        assert case["wrong"] == [] and case["accesses"] == [40] * CORES
    order = found[0]["order"]
    assert sum(a != b for a, b in pairwise(order)) > len(order) // 2
    assert {order.count(core) for core in range(CORES)} == {len(order) // CORES}

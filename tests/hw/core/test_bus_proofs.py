"""Rules of the bus, proven by induction: for every state that a run from reset can reach, whatever
the memory, the host and the other units do."""

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from systolith.gen.measure.yosys import AreaError
from systolith.hw.core import burst_queue, item_queue
from systolith.hw.core.arbiter import ReadArbiter
from systolith.hw.core.burst_queue import BurstQueue
from systolith.hw.core.bursts import Bursts
from systolith.hw.core.csr import Csr
from systolith.hw.core.item_queue import ItemQueue
from systolith.hw.core.store import Store
from systolith.hw.core.tokens import TokenCounters
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import burst_limit

from .proofs import fails, opened, prove, written

ARCHS = [Arch(rows=4, columns=4, activation="int4", weight="int4", bus_bits=32, burst_beats=16),
         Arch(rows=2, columns=2, bus_bits=64), Arch(rows=3, columns=3, bus_bits=128, burst_beats=1),
         Arch(rows=16, columns=16, bus_bits=128, burst_beats=256)]
CHANNELS = {"aw": "valid addr len size burst id", "w": "valid data strb last",
            "ar": "valid addr len size burst id", "b": "valid resp", "r": "valid data resp"}


def held(m, axi, channel):
    """The signal that a channel's valid and payload are as before, if it waited."""
    now = Cat(getattr(axi, name) for name in (
        f"{channel}{part}" for part in CHANNELS[channel].split()) if name in axi.signature.members)
    before, waited = Signal(len(now)), Signal()
    m.d.sync += [before.eq(now), waited.eq(getattr(axi, f"{channel}valid")
                                           & ~getattr(axi, f"{channel}ready"))]
    return ~waited | (now == before)


@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.bus_bits} {arch.burst_beats}")
@pytest.mark.parametrize("unit, bus, channels", [
    (Store, "axi", ["aw", "w"]), (ReadArbiter, "axi", ["ar"]), (Csr, "bus", ["b", "r"])])
def test_what_is_offered_stays_until_it_is_taken(unit, bus, channels, arch, tmp_path):
    m = Module()
    m.submodules.unit = component = unit(arch=arch)
    ok = Signal()
    m.d.comb += ok.eq(Cat(held(m, getattr(component, bus), channel) for channel in channels).all())
    prove(tmp_path, written(m, component, ok=ok))


@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.bus_bits} {arch.burst_beats}")
def test_bursts_stay_within_a_block_and_a_page_and_a_run_ends(arch, tmp_path):
    component = Bursts(arch=arch, run_bits=18, tag=data.StructLayout({"tag": 1}))
    m = Module()
    m.submodules.unit, own = opened(component)
    run, o = component.run, component.o
    # What is left of the run, counted apart from the component.
    left = Signal(19)
    beats = Signal(10)
    some, ok = Signal(), Signal()
    place = o.payload.offset[:len(o.payload.last)]
    m.d.comb += [some.eq(~run.valid | (run.payload.beats != 0)),
                 beats.eq(o.payload.last - place + 1)]
    with m.If(run.valid & run.ready):
        m.d.sync += left.eq(run.payload.beats)
    with m.Elif(o.valid & o.ready):
        m.d.sync += left.eq(left - beats)
    # The registers say the same; with this the rest is inductive.
    end = Cat(own["end_low"], own["blocks"])
    same = ~component.busy | ((end == own["low"] + left) & (left != 0))
    settled = ~own["o__valid"] | (
        (own["ends"] == ((own["blocks"] == 0) | ((own["blocks"] == 1) & (own["end_low"] == 0))))
        & (own["last_low"] == Mux(own["blocks"] == 0, own["end_low"] - 1, -1)[:len(own["low"])]))
    limit = burst_limit(arch)
    m.d.comb += ok.eq(same & settled & (~o.valid | (
        (place <= o.payload.last) & (beats <= limit) & (beats <= left)
        & ((place ^ o.payload.last) < limit) & (o.payload.ends == (left == beats)))))
    prove(tmp_path, written(m, component, ok=ok, some=some), ["some"])


@pytest.mark.parametrize("assumed", [True, False])
def test_a_queue_knows_what_it_holds(assumed, tmp_path):
    component = BurstQueue(width=3, depth=4)
    m = Module()
    m.submodules.unit, own = opened(component)
    polite, ok = Signal(), Signal()
    count = Signal(4)
    m.d.sync += count.eq(count + component.write - component.read)
    m.d.comb += [
        polite.eq(~(component.write & component.full) & ~(component.read & ~component.some)),
        ok.eq((count <= 4) & (component.held == (count != 0)) & (component.full == (count == 4))
              & (component.held | ~component.some)
              & (own["level"] == count + own["was_read"]) & (~own["was_read"] | own["there"])
              & (own["any_held"] == (own["level"] != 0)) & (own["filled"] == (own["level"] == 4))
              & (own["more"] == (own["level"] > 1))
              & (~own["fetched"] | (count != component.some))
              & ((own["target__addr"] - own["number"] - (count - component.some))[:2] == 0)),
    ]
    text = written(m, component, ok=ok, polite=polite)
    if assumed:
        prove(tmp_path, text, ["polite"], steps=6)
    else:
        with pytest.raises(AreaError):
            prove(tmp_path, text)


class SpiedMemory(Memory):
    """A memory with one more port, `spy`, which shows a word at once."""
    made = None

    def __init__(self, **options):
        super().__init__(**options)
        self.spy = self.read_port(domain="comb")
        SpiedMemory.made = self


@pytest.mark.parametrize("assumed", [True, False])
@pytest.mark.parametrize("module", [item_queue, burst_queue])
def test_what_goes_into_a_queue_comes_out_once_and_in_order(module, assumed, tmp_path, monkeypatch):
    """Any one entry, chosen when it is written, leaves with its content after as many others as
    were there before it; not so where entries are written that there is no room for."""
    monkeypatch.setattr(module, "Memory", SpiedMemory)
    items = module is item_queue
    component = (ItemQueue if items else BurstQueue)(width=2, depth=4)
    m = Module()
    m.submodules.unit, own = opened(component)
    spy = SpiedMemory.made.spy
    out, new, shown, leaves = (
        (component.o.payload, component.item, component.o.valid,
         component.o.valid & component.o.ready) if items else
        (component.oldest, component.new, component.some, component.read))
    target, source = (own["write__addr"], own["read__addr"]) if items else (
        own["target__addr"], own["number"])
    # How many are here; how many of them before the one that is watched, and its content.
    count, before, content = Signal(4), Signal(4), Signal(2)
    choose, watched, polite, ok = (Signal(name=name) for name in (
        "choose", "watched", "polite", "ok"))
    m.d.sync += count.eq(count + component.write - leaves)
    with m.If(watched & leaves):
        m.d.sync += [watched.eq(before != 0), before.eq(before - 1)]
    with m.If(~watched & component.write & choose):
        m.d.sync += [watched.eq(1), before.eq(count - leaves), content.eq(new)]
    # An item at the output is not in memory any more.
    gone = shown
    at_output = shown & (before == 0)
    m.d.comb += [
        polite.eq(~(component.write & (count == 4)) & (items | ~(leaves & ~shown))),
        spy.addr.eq(source + before - gone),
        ok.eq((count <= 4) & (count >= gone) & ((target - source - (count - gone))[:2] == 0)
              & (shown | (count <= 1) | (not items)) & (~shown | (count != 0))
              & (items or (own["level"] == count + own["was_read"])
                 & (~own["was_read"] | own["there"])
                 & (own["any_held"] == (own["level"] != 0)) & (component.held == (count != 0))
                 & (own["more"] == (own["level"] > 1))
                 & (~own["fetched"] | (count != gone))
                 & (~(watched & own["fetched"] & (before == gone))
                    | (SpiedMemory.made.read_ports[1].data == content)))
              & (~watched | (before < count))
              & (~watched | ~at_output | (out == content))
              & (~watched | at_output | (spy.data == content))),
    ]
    text = written(m, component, ok=ok, polite=polite, choose=choose)
    if assumed:
        prove(tmp_path, text, ["polite"], steps=6)
    else:
        with pytest.raises(AreaError):
            prove(tmp_path, text, steps=8)


def proven(folder, text, holds):
    """That what is `polite` proves a design, or that this fails."""
    if holds:
        prove(folder, text, ["polite"])
    else:
        fails(prove, folder, text, ["polite"])


@pytest.mark.parametrize("greedy", [False, True])
def test_a_token_counter_counts_and_never_goes_below_zero(greedy, tmp_path):
    """Where a token is taken only if it is available, and none in two cycles that follow each
    other, as a greedy unit would."""
    component = TokenCounters(3)
    m = Module()
    m.submodules.unit, own = opened(component)
    give, take = component.give[0][1], component.take[1][0]
    count, given, taken, some = (own[f"{name}_load_array"] for name in (
        "count", "given", "taken", "some"))
    tokens, took = Signal(signed(6)), Signal()
    polite, ok = Signal(), Signal()
    m.d.sync += [tokens.eq(Mux(component.clear, 0, tokens + give - take)), took.eq(take)]
    m.d.comb += [
        polite.eq(~(take & ~(some & (greedy | ~took))) & ~(give & (tokens == 8))),
        ok.eq((count == tokens - 1 - given + taken) & (tokens >= 0) & (tokens <= 8)
              & (~some | took | (tokens >= 1))),
    ]
    text = written(m, component, ok=ok, polite=polite)
    proven(tmp_path, text, not greedy)


@pytest.mark.parametrize("greedy", [False, True])
def test_tokens_of_few_columns_come_earlier_and_all_are_taken_at_once(greedy, tmp_path):
    """ARRAY's tokens for POST in two counters: each says exactly whether its tokens suffice, and
    the usual one, which can be short of some, whether those that were taken have come. Not so where
    POST takes what neither has."""
    component = TokenCounters(3, 1)
    m = Module()
    m.submodules.unit, own = opened(component)
    gives = [component.give_near[0], component.give[1][2]]
    take = component.take[2][1]
    counts = [own["count_near_0"], own["count_array_post"]]
    given = [own["given_near_0"], own["given_array_post"]]
    taken = own["taken_array_post"]
    tokens = [Signal(signed(6), name=f"tokens_{n}") for n in range(2)]
    took, polite, ok = (Signal(name=name) for name in ("took", "polite", "ok"))
    late = tokens[0] - tokens[1]        # tokens that have not come to the usual counter
    m.d.sync += took.eq(take)
    for count, give in zip(tokens, gives, strict=True):
        m.d.sync += count.eq(Mux(component.clear, 0, count + give - take))
    some, come = component.available_near, component.come_near
    m.d.comb += [
        polite.eq(~(take & ~(greedy | (some[0] & ~took)))
                  & ~(gives[0] & ((tokens[0] == 8) | (late == 7))) & ~(gives[1] & (late == 0))
                  & ~(component.clear & take)),
        ok.eq(Cat((count == number - 1 - new + taken) & (some[n] == (number + took >= 1))
                  & (come[n] == (number + took >= 0)) for n, (count, number, new) in enumerate(
                      zip(counts, tokens, given, strict=True))).all()
              & (tokens[0] >= 0) & (tokens[0] <= 8) & (late >= 0) & (late <= 7)
              & (taken == took)),
    ]
    text = written(m, component, ok=ok, polite=polite)
    proven(tmp_path, text, not greedy)

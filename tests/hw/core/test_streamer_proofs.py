"""No loss and no duplication in what LOAD and POST carry between their queues, proven by induction
on four chips each; and that each proof fails where the unit has a fault."""

from dataclasses import replace
from functools import reduce
from operator import and_, or_

import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from systolith.hw.core import load, post, result_writer, window_reader
from systolith.hw.core.arbiter import burst_share
from systolith.hw.core.window_reader import mark_layout
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination, Opcode, Pooling
from systolith.hw.spec.timing import ITEMS, LOAD_BURSTS, lane_entry
from systolith.hw.spec.widths import payload

from .proofs import fails, mostly_slow, named, opened, parts, planted, prove, watched, written

#: Words of one beat and of several, memories of all kinds.
ARCHS = [Arch(rows=4, columns=4, activation="int4", weight="int4", bus_bits=32, burst_beats=16),
         Arch(rows=2, columns=2, bus_bits=64, operand_depth=8, table_depth=256, address_bits=20),
         Arch(rows=3, columns=3, bus_bits=128, burst_beats=1, depthwise=True),
         Arch(rows=4, columns=4, activation="bipolar1", weight="bipolar1", bit_planes=True,
              bus_bits=64)]
chips = pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.bus_bits}")


def prove_runs(m, component, own, run):
    """(what may be assumed, what holds) of the front half: of each instruction one run for each
    row, where the strides say, and its tokens once."""
    i, accept = component.i, own["accept"]
    instruction = i.payload
    before, waited = Signal(len(instruction.as_value())), Signal()
    m.d.sync += [before.eq(instruction.as_value()), waited.eq(i.valid & ~i.ready)]
    counts, memory = component._word_beats(), instruction.memory
    whole = reduce(lambda other, item: Mux(memory == item[0], item[1], other), counts.items(), 0)
    count = Mux(instruction.word_beats != 0, instruction.word_beats, whole)
    # Rows that were handed on, and where the next one lies.
    rows, offset, base = Signal(13), Signal.like(own["offset"]), Signal.like(own["base"])
    beat_bits = (component.arch.beat_bytes - 1).bit_length()
    here, there = (Mux(rows == 0, first, following)[:len(following)] for first, following in (
        (instruction.address[beat_bits:], offset), (instruction.base, base)))
    final = rows + 1 == instruction.rows
    with m.If(accept):
        m.d.sync += [rows.eq(Mux(final, 0, rows + 1)),
                     offset.eq(here + instruction.row_stride[beat_bits:]),
                     base.eq(there + instruction.base_stride)]
    ready, kept, tag = own["ready"], own["number"], run.payload.tag
    polite = ((~waited | (i.valid & (instruction.as_value() == before))) & (instruction.rows != 0)
              & reduce(or_, (memory == number for number in counts)) & (count <= whole))
    left = ~own["started"] | ready
    ok = [own["started"] == (rows != 0), ~(own["started"] | ready) | waited,
          ~waited | (rows < instruction.rows),
          # (after an instruction's last run it begins again, whether that is accepted or not)
          (kept == (rows + 1 + ready)[:len(kept)]) | (ready & own["final"] & (kept == 1)),
          left | (((own["offset"] + instruction.row_stride[beat_bits:])[:len(offset)] == offset)
                  & ((own["base"] + instruction.base_stride)[:len(base)] == base)),
          ~ready | ((own["offset"] == here) & (own["base"] == there) & (own["final"] == final)
                    & (own["length"] == instruction.words * count)
                    & (own["last_beat"] == (count - 1)[:len(own["last_beat"])])
                    & (own["wait"] == Mux(rows == 0, instruction.wait, 0))),
          ~accept | ((run.payload.offset == here) & (tag.base == there) & (tag.final == final)
                     & (run.payload.beats == instruction.words * count)
                     & (tag.memory == 1 << memory) & (tag.signal == instruction.signal)),
          i.ready == (accept & final),
          component.take == Mux(accept & (rows == 0), instruction.wait, 0)]
    return polite, reduce(and_, ok)


def prove_words(m, component, own, choose):
    """(what may be assumed, what holds) of the back half: any one beat leaves in the word that it
    belongs to, at the address that it has, and each word leaves once."""
    beats, o, arch = component.read.beats, component.o, component.arch
    tag, slots = beats.payload.tag, max(component._word_beats().values())
    taken, leaves = beats.valid & beats.ready, o.valid & o.ready
    new = beats.payload.starts & beats.payload.first
    # The beat's number in its word, the word's address, and what is known of the word at `o`.
    number, address, last = Signal(range(slots + 1)), Signal.like(tag.base), Signal.like(
        tag.last_beat)
    here = Mux(new, tag.base, address)[:len(address)]
    ends = taken & (number == tag.last_beat)
    with m.If(taken):
        m.d.sync += [number.eq(Mux(ends, 0, number + 1)), last.eq(tag.last_beat),
                     address.eq(here + ends)]
    count = Signal(3)
    m.d.sync += count.eq(count + ends - leaves)
    memory, word, signal, gives = (Signal.like(signal) for signal in (
        o.payload.memory, o.payload.address, own["signal"], component.give))
    final = beats.payload.stops & beats.payload.ends & tag.final
    with m.If(ends):
        m.d.sync += [memory.eq(tag.memory), word.eq(here), signal.eq(Mux(final, tag.signal, 0))]
    m.d.sync += gives.eq(Mux(leaves, signal, 0))
    # One beat, chosen as it comes, until its word leaves.
    seen, whole = Signal(), Signal()
    content, slot = Signal(arch.bus_bits), Signal(range(slots))
    with m.If(seen & whole & leaves):
        m.d.sync += seen.eq(0)
    with m.If(taken & choose & (~seen | (whole & leaves))):
        m.d.sync += [seen.eq(1), content.eq(beats.payload.data), slot.eq(number), whole.eq(ends)]
    with m.Elif(seen & ends):
        m.d.sync += whole.eq(1)
    kept = own["content"]
    polite = ((tag.last_beat < slots) & ((number == 0) | (~new & (tag.last_beat == last)))
              & (tag.memory != 0))
    # The place of the beat that comes next holds whatever the bus has.
    above = reduce(and_, ((number == 0) | (number >= n) | (kept.word_select(n, arch.bus_bits) == 0)
                          for n in range(1, slots)), Const(1))
    beyond = reduce(and_, ((last >= n) | (kept.word_select(n, arch.bus_bits) == 0)
                           for n in range(1, slots)), Const(1))
    ok = [own["beat"] == number, own["fresh"] == (number == 0), (number == 0) | (number <= last),
          ~seen | whole | (slot < number),
          number < slots, count == o.valid, (o.payload.memory != 0) == o.valid,
          (number == 0) | ~o.valid, ~(new & beats.valid) | (own["word"] == tag.base), above,
          (own["address"] == address), ~(seen & whole) | o.valid,
          ~o.valid | ((o.payload.memory == memory) & (o.payload.address == word) & beyond
                      & (own["signal"] == signal)),
          ~seen | (kept.word_select(slot, arch.bus_bits) == content), component.give == gives]
    # What it has said of the word before (memories of even and of odd words are written by it).
    told, odd = Signal.like(component.upcoming), Signal()
    m.d.sync += [told.eq(component.upcoming), odd.eq(component.upcoming_odd)]
    ok += [o.payload.memory == told, ~o.valid | (o.payload.address[0] == odd)]
    return polite, reduce(and_, ok)


def prove_load(module, arch, folder):
    with pytest.MonkeyPatch.context() as patch:
        made = watched(patch, module, "Bursts")
        component = module.Load(arch=arch)
        m = Module()
        m.submodules.unit, own = opened(component)
    choose, polite, ok = Signal(), Signal(), Signal()
    runs_polite, runs = prove_runs(m, component, own, made[0].run)
    words_polite, words = prove_words(m, component, own, choose)
    # Bursts that are asked for and have not come whole; those of runs that are not short twice.
    request, beats, open_ = component.read.request, component.read.beats, Signal(5)
    asked, ended = request.ready, beats.valid & beats.ready & beats.payload.stops
    asks, gives = (burst_share(arch, tag) for tag in (request.payload.tag, beats.payload.tag))
    m.d.sync += open_.eq(open_ + Mux(asked, asks, 0) - Mux(ended, gives, 0))
    m.d.comb += [
        polite.eq(runs_polite & words_polite & (~asked | request.valid)
                  & (~ended | (open_ >= gives))),
        ok.eq(runs & words & (own["outstanding"] == open_) & (open_ <= LOAD_BURSTS)
              & (~request.valid | (open_ + asks <= LOAD_BURSTS)))]
    prove(folder, written(m, component, ok=ok, polite=polite, choose=choose), ["polite"], steps=3)


@chips
def test_load_brings_each_beat_once_into_its_word(arch, tmp_path):
    prove_load(load, arch, tmp_path)


@pytest.mark.parametrize("old, new", mostly_slow([
    ("no_windows(self.o.ready)", "no_windows(Const(1))"),
    ("m.d.sync += self.o.valid.eq(0)", "pass"),
    ("m.d.comb += self.upcoming.eq(self.o.payload.memory)", "pass"),
    ("m.d.comb += self.upcoming_odd.eq(self.o.payload.address[0])", "pass"),
    ("self.upcoming_odd.eq(word[0])]", "self.upcoming_odd.eq(address[0])]"),
    ("address.eq(word + word_ends)", "address.eq(word + 1)"),
    ("m.d.sync += content[arch.bus_bits:].eq(0)", "pass"),
    ("final.eq(number == instruction.rows)", "final.eq(number >= instruction.rows - 1)"),
    ("m.d.sync += [ready.eq(0), started.eq(~final)]", "m.d.sync += started.eq(~final)"),
    ("beats.payload.stops & beats.payload.ends & tag.final", "beats.payload.stops & tag.final"),
    ("outstanding < LOAD_BURSTS - 1)", "outstanding <= LOAD_BURSTS)"),
    ("Mux(ended, gives, 0)", "ended")]))
def test_a_beat_or_row_lost_or_brought_twice_is_found(old, new, tmp_path):
    fails(prove_load, planted(load, old, new), ARCHS[1], tmp_path)


def stages(arch, own, pooling, fields, operand, table):
    """[(a parity that all results in it share where they meet operands, whether a word is there,
    whether it counts: it is a result, its mark)] of the registers of POST's pipeline, in the order
    in which results go through them. The second turns of results are the last ones."""
    def mark(signal):
        return data.View(mark_layout(arch), signal)
    lanes = [mark(own[f"mark_{n}"]) for n in range(
        1, sum(name.startswith("mark_") for name in own) + 1)]
    first = [(n, one.valid & ~one.again, fields.raw | one.last, one)
             for n, one in enumerate(lanes, 1)]
    second = [(n + 1, one.valid & one.again, 1, one) for n, one in enumerate(lanes, 1)]
    time = len(lanes)
    if arch.table_depth:
        looked = [mark(own[f"looked_{n}"]) for n in (0, 1)]
        first += [(time + n, one.valid & ~one.again & table & ~operand, one.last, one)
                  for n, one in enumerate(looked, 1)]
        second += [(time + n + 1, one.valid & one.again & table & operand, 1, one)
                   for n, one in enumerate(looked, 1)]
        time, result = time + 1, mark(own["result_mark"])
        first.append((time, result.valid & ~result.again, result.last, result))
        second.append((time + 1, result.valid & result.again, 1, result))
    for name in ("column_mark", "mark_1", "mark_2"):
        time, one = time + 1, mark(pooling[name])
        first.append((time, one.valid, one.last, one))
    for n in range(sum(name.startswith("returning_") for name in own)):
        one = mark(own[f"returning_{n}"])
        first.append((time + 1 + n, one.valid, 1, one))
    return first + second


def absent(block, name, **ports):
    """Instead of a lane: marks do not depend on what it computes."""
    block._MustUse__silence = True          # Amaranth would warn of it
    return Module()


def prove_post(post, arch, folder, **patches):
    """Each result that is begun is written once, chunk by chunk in order; an instruction ends with
    the last of them; and of items for the store unit no more are begun than there is room for. What
    the lanes compute does not matter."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in patches.items():
            patch.setattr(post, name, getattr(module, name))
        patch.setattr(post, "place", absent)
        readers, writers = (watched(patch, post, name) for name in ("WindowReader", "ResultWriter"))
        component = post.Post(arch=arch)
        m = Module()
        m.submodules.unit, own = opened(component)
    (reader,), (writer,) = readers, writers
    pooling, reads, writes = (parts(m.submodules.unit, name) for name in (
        "pooling", "reader", "writer"))
    queue = parts(m.submodules.unit, "writer", "queue")
    fields = data.View(payload(arch, Opcode.POST), own["fields"])
    operand = fields.operand.any() if arch.operand_depth else Const(0)
    table = fields.table if arch.table_depth else Const(0)
    raw, chunks, to_store = fields.raw, arch.chunks, fields.destination == Destination.STORE
    begin, running, reading = own["begin"], own["running"], reads["reading"]

    # Results under way, items that are begun and not in the queue, items in it, the next chunk.
    count, begun, waiting = (Signal(6, name=name) for name in ("under_way", "begun", "waiting"))
    following = Signal(range(max(chunks, 2)))
    leaves, push = writer.mark.valid, writes["push"]

    # how many of a group's chunks there are, 0 for all; the last one's number
    first_bit, bits = arch.group_bits_of_post
    asked = fields.group[first_bit:first_bit + bits] if chunks > 1 else Const(0)
    final = named(m, (Mux(asked.any(), asked, chunks) - 1)[:len(following)])

    def after(chunk):
        return Mux(chunk == final, 0, chunk + 1)[:len(following)]
    m.d.sync += [
        count.eq(count + (reader.mark.valid & (raw | reader.mark.last)) - leaves),
        begun.eq(begun + reader.reserve - push),
        waiting.eq(waiting + push - (component.items.valid & component.items.ready)),
        following.eq(Mux(leaves, after(following), following))]
    ok, ended, total, items, chunk = [], Const(0), Const(0, 6), Const(0, 6), following
    pipeline = stages(arch, own, pooling, fields, operand, table)
    for n, (parity, there, counts, mark) in reversed([*enumerate(pipeline, 1)]):
        result = named(m, there & counts)
        # raw results are written when they enter the lanes
        ok += [~(there & raw)] if n > lane_entry(arch) + 1 else []
        ok += [~there | (running & ~begin & ~ended),
               ~result | ((mark.chunk == chunk) & (mark.whole == (chunk == final)))]
        if arch.operand_depth:
            ok.append(~(there & operand) | (reads["odd"] == parity % 2))
        ended, chunk, total, items = (named(m, value) for value in (
            ended | (result & mark.end & mark.whole), Mux(result, after(chunk), chunk),
            (total + result)[:6], (items + (result & to_store & (raw | mark.whole)))[:6]))
    lanes = [data.View(mark_layout(arch), own[f"mark_{n}"]) for n in range(
        1, sum(name.startswith("mark_") for name in own) + 1)]
    ok += [~mark.again | (mark.valid & operand & (n >= lane_entry(arch)))
           for n, mark in enumerate(lanes, 1)]
    ok += [~mark.valid | (operand & mark.again) for mark in (
        data.View(mark_layout(arch), own[name]) for name in own if name.startswith("returning_"))]
    if arch.table_depth:
        # what is looked up and what is not, decided a cycle before
        now, looked = lanes[-1], data.View(mark_layout(arch), own["looked_1"])
        ok += [own["direct"] == (now.valid & ~raw & ~(table & ~(now.again ^ operand))),
               own["late"] == (looked.valid & table & ~(looked.again ^ operand))]
    ok += [~running | (following <= final), count == total,
           running == (begin | reading | ended | writes["end"]),
           ~(begin & reading), ~(ended & reading),
           ~writes["end"] | ((count == 0) & ~reading & ~begin), running | (count == 0),
           reading | (chunk == 0), ~reading | (reads["to_store"] == to_store)]
    first_chunk = Const(1)
    if chunks > 1:
        first_chunk = reads["chunk"] == 0
        ok.append(~reading | ((reads["chunk"] == chunk)
                              & (reader.mark.whole == (chunk == final))
                              & (reads["final"] == final)))
    ok.append(~(reading & raw) | (reads["last_row"] & reads["last_column"] & reads["pool_first"]))
    half = reading & to_store & ~raw & ~(reads["pool_first"] & first_chunk)
    used, shown = named(m, begun + waiting), queue["o__valid"]
    ok += [begun == items + half + push, begun <= ITEMS, waiting <= ITEMS, used <= ITEMS,
           writes["free"] == ((Const(1) << (ITEMS - used)[:5]) - 1)[:ITEMS],
           ((queue["write__addr"] - queue["read__addr"] - waiting + shown)[:4] == 0),
           waiting >= shown, shown | (waiting <= 1)]
    # What is said of writes in the cycle before them.
    told, odd = Signal(), Signal()
    m.d.sync += [told.eq(component.writes), odd.eq(component.upcoming_odd)]
    ok += [(component.write_enable != 0) == told, ~told | (component.write_address[0] == odd)]
    polite, fine = Signal(), Signal()
    m.d.comb += [fine.eq(Cat(ok).all()), polite.eq(~running | ((asked <= chunks) & (~raw | (
        (fields.pool_x == 1) & (fields.pool_y == 1) & (fields.pooling == Pooling.LARGEST)
        & to_store & ~operand & ~table))))]
    prove(folder, written(m, component, ok=fine, polite=polite), ["polite"], steps=3)


#: Groups of one chunk and of several, with and without operands and tables, two groups in a word.
POSTS = [replace(ARCHS[0], post_lanes=2), replace(ARCHS[1], multiplier_bits=17),
         Arch(rows=2, columns=2, post_lanes=1, operand_depth=8, multiplier_bits=17),
         replace(ARCHS[3], post_lanes=1), Arch(rows=4, columns=2, post_lanes=2)]


@pytest.mark.parametrize("arch", POSTS, ids=["chunks", "operands", "both", "signs", "places"])
def test_post_writes_each_result_once(arch, tmp_path):
    prove_post(post, arch, tmp_path)


@pytest.mark.parametrize("chip, module, old, new", mostly_slow([
    (1, post, "combined.valid & combined.again, pooled.valid", "combined.valid, pooled.valid"),
    (1, post, "marks[-2].valid & ~raw & ~wanted(marks[-2])", "marks[-2].valid & ~raw"),
    (1, post, "range(self.operand_lane.latency - 1)", "range(self.operand_lane.latency)"),
    (1, window_reader, "& ~(combined & odd)", ""),
    (3, post, "delayed.valid.eq(marks[-1].valid & ~raw)", "delayed.valid.eq(marks[-1].valid)"),
    (3, post, "self.i.valid & ~running & (missing == 0)", "self.i.valid & (missing == 0)"),
    (3, window_reader, "mark.end.eq(last_x & last_y)", "mark.end.eq(last_y)"),
    (3, result_writer, "self.room.eq(free[0])", "self.room.eq(1)"),
    (3, result_writer, "self.upcoming_odd.eq(address.upcoming_odd)",
     "self.upcoming_odd.eq(address.word[0])"),
    (4, result_writer, "ends & to_activation & some", "ends & some"),
    (3, result_writer, "self.mark.valid & (fields.raw | self.mark.whole)", "self.mark.valid")]))
def test_a_result_lost_or_written_twice_is_found(chip, module, old, new, tmp_path):
    made = planted(module, old, new)
    classes = {window_reader: "WindowReader", result_writer: "ResultWriter"}
    if module is post:
        fails(prove_post, made, POSTS[chip], tmp_path)
    else:
        fails(lambda: prove_post(post, POSTS[chip], tmp_path, **{classes[module]: made}))

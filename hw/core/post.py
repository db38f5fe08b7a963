"""The POST unit: accumulators to results, pooled, combined with operands, into memory or to the
store unit.

WindowReader says which accumulator word is read; PostLane requantizes one channel of it; Pooling
takes the largest result of a window; OperandLane combines it with an operand; ResultWriter writes
it. TableLane looks results up, before pooling or, where there is an operand, after that. A mark
travels with each word and says what it is.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.near import near_columns
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import TABLE_LOOKUP, gain_by_pooling, lane_entry
from systolith.hw.spec.widths import payload

from .accumulator import integer_of
from .blocks import place
from .map_address import MapAddress
from .operand_lane import OperandLane, turn_shapes
from .pooling import Pooling
from .post_lane import PostLane
from .products import register
from .result_writer import ResultWriter
from .table_lane import TableLane
from .unit import ExecutionUnit
from .window_reader import WindowReader, mark_layout

__all__ = ["Post"]

_LAYOUT = isa.layout(isa.Opcode.POST)


class Post(ExecutionUnit):
    """Executes POST instructions, one at a time.

    The accumulator words of a result's window are read one a cycle, for each chunk of its group
    (`WindowReader`; `hw.spec.loops.reads` is that order in numpy), in every second cycle where
    results are combined with operands: each result then goes through its lane a second time, an
    odd number of cycles (`timing.second_turn`) after the first. An item is written
    `timing.item_latency` cycles after its last read.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. Tokens are taken when the instruction is accepted, whose first read is
        `timing.POST_START` cycles later, and given in the cycle of its last write. It is popped
        from `i` when it is accepted, on chips without prefetch with its last write.
    read_address : Out, read_data : In(ArrayLayout(accumulators, columns))
        Accumulators; data one cycle after the address.
    parameter_address : Out, parameter_data : In
        Parameter memory; data one cycle after the address.
    write_enable, write_address, write_data, writes, upcoming_odd : Out
    copy_enable, copy_address, copies, items : Out
        Results: see `ResultWriter`.
    operand_address : Out, operand_data : In(activation_bits)
        Operand memory, if the chip has one; data one cycle after the address.
    table_enable, table_address, table_data : In
        The table memory's write port, if the chip has one.
    trace_valid, trace_layer, trace_raw, trace_item : Out
        Every result as it is written, wherever it goes.
    written : Out(1)
        An item is written.
    available_near : In, come_near : In
        ARRAY's tokens for each number of near columns, and for all, see `TokenCounters`: those of
        the columns that an instruction reads are waited for. On chips that have near columns.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.lane, self.entry = PostLane(arch=arch), lane_entry(arch)
        self.operand_lane = OperandLane(arch=arch) if arch.operand_depth else None
        self.table_lane = TableLane(arch=arch) if arch.table_depth else None
        super().__init__(isa.Opcode.POST, arch=arch, own={
            "read_address": Out(range(arch.accumulator_depth)),
            "read_data": In(data.ArrayLayout(signed(arch.kept_bits), arch.columns)),
            "parameter_address": Out(range(arch.parameter_depth)),
            "parameter_data": In(arch.post_lanes * arch.parameter_bits),
            "write_enable": Out(arch.slots),
            "write_address": Out(range(arch.activation_depth)),
            "write_data": Out(arch.activation_bits), "writes": Out(1),
            "upcoming_odd": Out(1),
            **({"operand_address": Out(range(arch.operand_depth)),
                "operand_data": In(arch.activation_bits),
                "copy_enable": Out(arch.groups_per_word), "copies": Out(1),
                "copy_address": Out(range(arch.operand_depth))} if arch.operand_depth else {}),
            **({"table_enable": In(1), "table_address": In(arch.table_address_bits),
                "table_data": In(arch.activation.width)} if arch.table_depth else {}),
            "items": Out(stream.Signature(arch.item_bits)),
            "trace_valid": Out(1), "trace_layer": Out(_LAYOUT["layer"].shape),
            "trace_raw": Out(1), "trace_item": Out(arch.item_bits),
            "written": Out(1),
            **({"available_near": In(len(near_columns(arch)) + 1),
                "come_near": In(len(near_columns(arch)) + 1)} if near_columns(arch) else {}),
        })

    @property
    def blocks(self) -> dict[str, wiring.Component]:
        """Verilog modules to be emitted along: name -> block."""
        blocks = {"systolith_post_lane": self.lane}
        if self.operand_lane is not None:
            blocks["systolith_operand_lane"] = self.operand_lane
        if self.table_lane is not None:
            blocks["systolith_table_lane"] = self.table_lane
        return blocks

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch = self.arch
        fields = Signal(payload(arch, isa.Opcode.POST), reset_less=arch.prefetch)
        begin = Signal()
        m.submodules.reader = reader = WindowReader(arch=arch)
        m.submodules.pooling = pooling = Pooling(arch=arch)
        m.submodules.writer = writer = ResultWriter(arch=arch)
        for part in (reader, writer):
            m.d.comb += [part.begin.eq(begin), *_share(part.fields, fields)]
        if arch.banks > 1:
            m.d.comb += writer.fields.apart.eq(fields.slot[arch.copy_bits:])
        self._elaborate_control(m, fields, begin, reader, writer)

        # Registers of their own, as much hangs on the instruction's; it stays as it is from two
        # cycles before the first word is read.
        raw = register(m, fields.raw, "raw_items")
        operand = register(m, fields.operand.any(), "combined") if arch.operand_depth else Const(0)
        table = fields.table if arch.table_depth else Const(0)
        back = Signal(mark_layout(arch))        # results in their second turn, back at the lanes
        ahead = Signal.like(back)               # the same, when parameters are read for them
        marks = self._elaborate_marks(m, reader.mark, raw, back,
                                      self.entry + self.lane.latency)
        again = self._elaborate_operands(m, fields, begin, pooling, marks, back, ahead)
        ordered, raws, least = self._elaborate_lanes(m, fields, marks, again, back.valid)
        results, mark, coming = self._elaborate_tables(m, raw, table, operand, marks, ordered)
        pool = Signal(mark_layout(arch))
        if coming is None:
            m.d.comb += pool.valid.eq(mark.valid & ~mark.again)
        else:       # a register, since much hangs on it
            m.d.sync += pool.valid.eq(coming.valid & ~coming.again)
        m.d.comb += [*(pool[name].eq(mark[name]) for name in _but_valid(pool)),
                     pooling.mark.eq(pool),
                     pooling.summed.eq(fields.pooling == isa.Pooling.SUM),
                     *(pooling.results[lane].eq(result) for lane, result in enumerate(results))]
        if least:
            m.d.comb += pooling.least.eq(Cat(least))

        # What is written: sums as they are, combined results, or pooled ones. Much hangs on the
        # mark, which is chosen a cycle before.
        pooled, combined = pooling.coming, marks[-2] if coming is None else coming
        chosen = _choose(operand, combined, pooled) if arch.operand_depth else pooled
        valid = Mux(operand, combined.valid & combined.again, pooled.valid & pooled.last)
        written = Signal.like(pool, name="written_mark")
        m.d.sync += [written.eq(_choose(raw, marks[self.entry], chosen)),
                     written.valid.eq(Mux(raw, marks[self.entry].valid, valid))]
        m.d.comb += [writer.mark.eq(written), writer.fields.raw.eq(raw),
                     *(writer.results[lane].eq(pooling.best[lane])
                       for lane in range(arch.post_lanes)),
                     *(writer.raws[lane].eq(raw) for lane, raw in enumerate(raws))]
        if arch.operand_depth:
            m.d.comb += [writer.combines.eq(operand), *(
                writer.combined[lane].eq(result) for lane, result in enumerate(results))]
        self._elaborate_writes(m, fields, marks, ahead, reader, writer)
        return m

    def _elaborate_control(self, m, fields, begin, reader, writer):
        """One instruction at a time; what the sequencer and the registers see."""
        running = Signal()
        start = Signal()
        missing = Signal(4)
        m.d.comb += [
            missing.eq(self._missing(m)),
            start.eq(self.i.valid & ~running & (missing == 0)),
            self.i.ready.eq(start if self.arch.prefetch else writer.finish),
            self.take.eq(Mux(start, self.i.payload.wait, 0)),
            self.give.eq(Mux(writer.finish, fields.signal, 0)),
            self.busy.eq(running | self.i.valid),
        ]
        m.d.sync += [begin.eq(start),
                     self.progress.eq(start | reader.read | writer.written
                                      | (self.items.valid & self.items.ready))]
        if not self.arch.prefetch:
            m.d.comb += fields.eq(self.i.payload)
        else:
            with m.If(~running):        # whatever stands there: nothing reads it before `begin`
                m.d.sync += fields.eq(self.i.payload)
        with m.If(start):
            m.d.sync += running.eq(1)
        with m.Elif(writer.finish):
            m.d.sync += running.eq(0)
        with m.If(running):
            m.d.comb += self.state.eq(Mux(reader.waiting, UnitState.UNIT, UnitState.RUNNING))
        with m.Elif(self.i.valid):
            m.d.comb += [self.missing.eq(missing),
                         self.state.eq(Mux(missing != 0, UnitState.TOKENS, UnitState.RUNNING))]

    def _missing(self, m):
        """Units whose tokens are missing."""
        new, arch, near = self.i.payload, self.arch, near_columns(self.arch)
        missing = new.wait & ~self.available
        if not near:
            return missing
        # ARRAY's tokens are those of the columns that are read
        which = arch.group_bits_of_post[0]
        count = new.group[which:]
        chunks = Signal(range(2 * arch.columns // arch.post_lanes + 1), name="last_chunk")
        fits = [chunks <= columns // arch.post_lanes for columns in near]
        few = Cat(*(fit & ~Cat(fits[:n]).any() for n, fit in enumerate(fits)), ~Cat(fits).any())
        sums = Mux(new.wait[isa.Unit.ARRAY], (few & self.available_near).any(),
                   (few & self.come_near).any())
        m.d.comb += chunks.eq(new.group[:which] * arch.chunks
                              + Mux(count == 0, arch.chunks, count))
        return Cat(missing[:isa.Unit.ARRAY], ~sums, missing[isa.Unit.ARRAY + 1:])

    def _elaborate_marks(self, m, mark, raw, back, stages):
        """The mark of the word that was read, by the number of cycles since; a result's second turn
        comes in just before the lanes."""
        marks = [mark]
        for stage in range(stages):
            delayed = Signal.like(mark, name=f"mark_{stage + 1}")
            m.d.sync += delayed.eq(marks[-1])
            if stage == self.entry + 1:             # raw items have been written
                m.d.sync += delayed.valid.eq(marks[-1].valid & ~raw)
            if stage + 2 == self.entry and self.arch.operand_depth:
                entering = Signal.like(mark, name="entering")
                m.d.comb += entering.eq(_choose(back.valid, back, delayed))
                delayed = entering
            marks.append(delayed)
        return marks

    @property
    def _early_parameters(self):
        """Whether parameters are read a cycle early, so that a register follows their memory."""
        return self.entry == 4 and not self.arch.slope_offsets

    def _elaborate_lanes(self, m, fields, marks, again, returns):
        """Requantization of a chunk's columns. `returns`: a second turn enters. Returns for each
        lane the ordered integer, the raw sum and, for bipolar results, whether the smallest one of
        a window is wanted."""
        arch, lanes = self.arch, self.arch.post_lanes
        entering, entry = marks[self.entry - 1], marks[self.entry]
        parts = arch.columns // lanes
        words = Signal(arch.columns * arch.kept_bits, reset_less=True)
        part = Signal(range(parts), reset_less=True)
        selected = Signal(lanes * arch.kept_bits, reset_less=True)
        parameters = Signal(lanes * arch.parameter_bits, reset_less=True)
        first_part = Signal(range(parts), reset_less=True)
        m.d.sync += first_part.eq(fields.group[:arch.group_bits_of_post[0]] * arch.chunks)
        m.d["sync" if self.entry == 4 else "comb"] += [
            part.eq(first_part + marks[2].chunk),
            words.eq(self.read_data), selected.eq(words.word_select(part, len(selected))),
            parameters.eq(register(m, self.parameter_data, "parameter_word")
                          if self._early_parameters else self.parameter_data)]
        if arch.operand_depth:
            with m.If(returns):         # a register, as much hangs on it
                m.d.sync += [selected.eq(0), parameters.eq(self._late_parameters())]
        limits = self._elaborate_limits(m, fields, marks)
        more = Signal(reset_less=True)
        m.d.sync += more.eq((fields.pooling == isa.Pooling.SUM) & ~entering.first
                            & ~entering.again)
        ordered, raws, least = [], [], []
        for lane in range(lanes):
            ordered.append(Signal(signed(arch.first_bits), name=f"ordered_{lane}"))
            raws.append(Signal(signed(arch.accumulator_bits + 1), name=f"raw_{lane}"))
            if arch.activation.binary:
                least.append(Signal(name=f"least_{lane}"))
            bent = {}
            if arch.slope_offsets:
                late = fields.operand == isa.Combination.LATE
                bent = {"bent": entry.again == late,
                        "coarse": fields.operand.any() & ~entry.again}
            accumulator = selected.word_select(lane, arch.kept_bits).as_signed()
            if arch.float_sums:
                accumulator = integer_of(m, accumulator, arch.accumulator_bits)
            m.submodules[f"lane_{lane}"] = place(
                self.lane, "systolith_post_lane", **bent,
                accumulator=accumulator,
                parameters=parameters.word_select(lane, arch.parameter_bits),
                counts=entry.valid & ~entry.again, more=more, **limits,
                ordered=ordered[-1], raw_out=raws[-1], **(again[lane] if again else {}),
                **({"least": least[-1]} if least else {}))
        return ordered, raws, least

    def _late_parameters(self):
        """The parameters of a second turn, where slopes come late: all others are 0."""
        if not self.arch.slope_offsets:
            return 0
        mask = Cat(Const(-1 if name in ("below_multiplier", "below_shift", "offset") else 0, bits)
                   for name, (bits, _) in self.arch.parameters.items())
        return self.parameter_data & mask.replicate(self.arch.post_lanes)

    def _elaborate_limits(self, m, fields, marks):
        """The lanes' ports `zero_point`, `low` and `high`: those of the turn of each result."""
        late, names = self.lane.late, ("zero_point", "low", "high")
        found = {name: Signal.like(getattr(self.lane, name), name=name, reset_less=True)
                 for name in names}
        limits = {name: Signal.like(found[name], name=f"last_{name}", reset_less=True)
                  for name in names[1:]}
        # the instruction stays as it is from long before the first result
        m.d.sync += [limit.eq(fields[name] - (0 if self.arch.activation.floating
                                              else fields.zero_point))
                     for name, limit in limits.items()]
        last = {"zero_point": fields.zero_point, **limits}
        if not self.arch.operand_depth:
            m.d.comb += [value.eq(last[name]) for name, value in found.items()]
            return found
        for name, first, stage in (("zero_point", Const(0), late[0]), ("low", fields.first_low,
                                   late[1]), ("high", fields.first_high, late[1])):
            # two registers before: what is chosen, and that
            mark = marks[len(marks) - 1 - stage - 2]
            turn = register(m, fields.operand.any() & ~mark.again, f"{name}_of_first")
            m.d.sync += found[name].eq(Mux(turn, first, last[name]))
        return found

    def _elaborate_operands(self, m, fields, begin, pooling, marks, back, ahead):
        """Reads the operand of each pooled result, and brings both to the lanes a second time
        (`back`, and two cycles before that `ahead`). Returns the lanes' ports for it, or nothing
        for chips without operands."""
        arch, lanes, width = self.arch, self.arch.post_lanes, self.arch.activation.width
        if self.operand_lane is None:
            return []
        m.submodules.operand_map = address = MapAddress(len(self.operand_address))
        # The memory, its register and the choice of a chunk take as long as pooling.
        early = pooling.mark
        m.d.comb += [
            address.begin.eq(begin), address.base.eq(fields.operand_base),
            *_share(address.fields, fields), address.last_x.eq(early.end_row),
            address.step.eq(early.valid & early.last & early.whole
                            & ~fields.broadcast),
            self.operand_address.eq(address.word),
        ]
        slot = fields.slot[:(arch.groups_per_word - 1).bit_length()]
        word = Signal.like(self.operand_data, reset_less=True)
        place_, first_place = (Signal(range(arch.groups_per_word * arch.chunks), name=name,
                                      reset_less=True) for name in ("place", "first_place"))
        operands = Signal(lanes * width, reset_less=True)
        m.d.sync += [word.eq(self.operand_data), first_place.eq(slot * arch.chunks),
                     place_.eq(first_place + register(m, early.chunk, "chunk_operand")),
                     operands.eq(word.word_select(place_, lanes * width))]
        returning = Signal.like(back, name="returning")
        m.d.comb += [returning.eq(pooling.pooled), returning.again.eq(1), returning.first.eq(1),
                     returning.valid.eq(pooling.pooled.valid & pooling.pooled.last
                                        & fields.operand.any())]
        stages = [returning]
        for number in range(self.operand_lane.latency - 1):
            delayed = Signal.like(back, name=f"returning_{number}")
            m.d.sync += delayed.eq(stages[-1])
            stages.append(delayed)
        m.d.comb += [back.eq(stages[-1]), ahead.eq(stages[-3])]
        # as many bits as the chip's factors have
        factors = {name: Signal(signed(arch.gain_bits), name=f"factor_{name}")
                   for name in ("gain", "operand_gain")}
        m.d.comb += [factor.eq(fields[name]) for name, factor in factors.items()]
        gain = {"operand_gain": factors["operand_gain"]}
        if gain_by_pooling(arch):
            gain = {"load": register(m, begin, "gain_pooled")}
            m.d.comb += [pooling.preset.eq(begin), pooling.gain.eq(factors["operand_gain"])]
        ports = []
        for lane in range(lanes):
            given = {name: Signal(shape, name=f"{name}_{lane}")
                     for name, shape in turn_shapes(arch).items()}
            m.submodules[f"operand_lane_{lane}"] = place(
                self.operand_lane, "systolith_operand_lane", first=pooling.best[lane],
                operand=operands.word_select(lane, width), combination=fields.operand,
                **gain, operand_zero=fields.operand_zero,
                entering=returning.valid, valid=back.valid, **given)
            ports.append(dict(
                again=marks[self.entry].again, **given, gain=factors["gain"],
                gain_shift=fields.operand_shift, gain_ties=fields.operand_ties))
        return ports

    def _elaborate_tables(self, m, raw, table, operand, marks, ordered):
        """The lanes' tables. Returns the results, looked up where they are to be, their mark, and
        what the mark is in the next cycle, None on chips without tables.

        Of results that are combined with operands the combined ones are looked up, which come
        between the others as well TABLE_LOOKUP cycles later.
        """
        now = marks[-1]
        if not self.arch.table_depth:
            return ordered, now, None
        direct = Signal()
        late = Signal()
        looked = now
        for stage in range(TABLE_LOOKUP):
            before, looked = looked, Signal.like(now, name=f"looked_{stage}")
            m.d.sync += looked.eq(before)

        def wanted(mark):
            return mark.valid & table & ~(mark.again ^ operand)
        m.d.sync += [direct.eq(marks[-2].valid & ~raw & ~wanted(marks[-2])),
                     late.eq(wanted(before))]
        mark, coming = (Signal.like(now, name=name) for name in ("result_mark", "coming_mark"))
        m.d.comb += [*(coming[name].eq(Mux(late, looked[name], now[name]))
                       for name in _but_valid(coming)),
                     coming.valid.eq(direct | late)]
        m.d.sync += mark.eq(coming)
        results = []
        for lane, number in enumerate(ordered):
            found = Signal(signed(self.arch.activation.width + 1), name=f"found_{lane}")
            address = Signal(signed(self.arch.table_address_bits), name=f"table_address_{lane}")
            m.d.comb += address.eq(number)
            m.submodules[f"table_lane_{lane}"] = place(
                self.table_lane, "systolith_table_lane",
                number=address, ordered=found,
                write_enable=self.table_enable, write_address=self.table_address,
                write_data=self.table_data)
            result = Signal(number.shape(), name=f"result_{lane}", reset_less=True)
            # The bits between a code and its sign need not repeat the sign, as codes that are
            # looked up are compared with each other alone: 0 by a reset instead of a choice.
            width = self.arch.activation.width
            m.d.sync += [result[:width].eq(Mux(late, found[:width], number[:width])),
                         result[-1].eq(Mux(late, found[-1], number[-1])),
                         result[width:-1].eq(number[width:-1])]
            with m.If(late):
                m.d.sync += result[width:-1].eq(0)
            results.append(result)
        return results, mark, coming

    def _elaborate_writes(self, m, fields, marks, ahead, reader, writer):
        """The unit's ports to the memories and to the store unit."""
        parameter_address = Signal.like(self.parameter_address, reset_less=True)
        chunk = marks[self.entry // 2 - 1 - self._early_parameters].chunk
        if self.arch.slope_offsets:
            chunk = Mux(ahead.valid, ahead.chunk, chunk)
        m.d.sync += parameter_address.eq(fields.parameters + chunk)
        m.d.comb += [
            self.read_address.eq(reader.address),
            self.parameter_address.eq(parameter_address),
            reader.room.eq(writer.room), writer.reserve.eq(reader.reserve),
            self.write_enable.eq(writer.write_enable),
            self.write_address.eq(writer.write_address),
            self.write_data.eq(writer.write_data), self.writes.eq(writer.writes),
            self.upcoming_odd.eq(writer.upcoming_odd),
            self.written.eq(writer.written),
            self.trace_valid.eq(writer.written), self.trace_layer.eq(fields.layer),
            self.trace_raw.eq(fields.raw), self.trace_item.eq(writer.item),
        ]
        if self.arch.operand_depth:
            m.d.comb += [self.copy_enable.eq(writer.copy_enable), self.copies.eq(writer.copies),
                         self.copy_address.eq(writer.copy_address)]
        wiring.connect(m, writer.items, wiring.flipped(self.items))


def _share(some, fields):
    """Statements that give a part's view of the instruction, `some`, the fields that it has."""
    return [some[name].eq(fields[name]) for name, _ in some.shape()
            if name in fields.shape().members]


def _choose(condition, one, other):
    """A mark: `one` where the condition holds, else `other`."""
    return data.View(one.shape(), Mux(condition, one.as_value(), other.as_value()))


def _but_valid(mark):
    """The names of a mark's fields besides `valid`, of those that have bits."""
    return [name for name, field in mark.shape()
            if name != "valid" and Shape.cast(field.shape).width]

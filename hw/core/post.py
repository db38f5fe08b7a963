"""The POST unit: accumulators to results, pooled, combined with operands, into memory or to the
store unit.

WindowReader says which accumulator word is read; PostLane requantizes one channel of it; Pooling
takes the largest result of a window; OperandLane combines it with an operand; ResultWriter writes
it. TableLane looks results up, before pooling or, where there is an operand, after that. A mark
travels with each word and says what it is.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import TABLE_LOOKUP, operand_latency, post_latency

from .blocks import place
from .map_address import MapAddress
from .operand_lane import OperandLane
from .pooling import Pooling
from .post_lane import PostLane
from .result_writer import ResultWriter
from .table_lane import TableLane
from .unit import ExecutionUnit
from .window_reader import WindowReader

__all__ = ["Post"]

_LAYOUT = isa.layout(isa.Opcode.POST)


class Post(ExecutionUnit):
    """Executes POST instructions, one at a time.

    The accumulator words of a result's window are read one a cycle, for each chunk of its group
    (`WindowReader`; `hw.spec.loops.reads` is that order in numpy). An item is written
    `latency` cycles after its last read, one that is combined with an operand `operand_latency`
    cycles after it, and `TABLE_LOOKUP` cycles later where results are looked up in the table.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. Tokens are taken when the instruction is accepted, whose first read is
        in the next cycle, and given in the cycle of its last write.
    read_address : Out, read_data : In(ArrayLayout(accumulators, columns))
        Accumulators; data one cycle after the address.
    parameter_address : Out, parameter_data : In
        Parameter memory; data one cycle after the address.
    write_enable, write_address, write_data, copy_enable, copy_address, items : Out
        Results: see `ResultWriter`.
    operand_address : Out, operand_data : In(activation_bits)
        Operand memory, if the chip has one; data one cycle after the address.
    table_enable, table_address, table_data : In
        The table memory's write port, if the chip has one.
    trace_valid, trace_layer, trace_raw, trace_item : Out
        Every result as it is written, wherever it goes.
    written : Out(1)
        An item is written.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.lane = PostLane(arch=arch)
        self.operand_lane = OperandLane(arch=arch) if arch.operand_depth else None
        self.table_lane = TableLane(arch=arch) if arch.table_depth else None
        super().__init__(isa.Opcode.POST, arch=arch, own={
            "read_address": Out(range(arch.accumulator_depth)),
            "read_data": In(data.ArrayLayout(signed(arch.accumulator_bits), arch.columns)),
            "parameter_address": Out(range(arch.parameter_depth)),
            "parameter_data": In(arch.post_lanes * arch.parameter_bits),
            "write_enable": Out(arch.groups_per_word),
            "write_address": Out(range(arch.activation_depth)),
            "write_data": Out(arch.activation_bits),
            **({"operand_address": Out(range(arch.operand_depth)),
                "operand_data": In(arch.activation_bits),
                "copy_enable": Out(arch.groups_per_word),
                "copy_address": Out(range(arch.operand_depth))} if arch.operand_depth else {}),
            **({"table_enable": In(1), "table_address": In(arch.table_address_bits),
                "table_data": In(arch.activation.width)} if arch.table_depth else {}),
            "items": Out(stream.Signature(arch.item_bits)),
            "trace_valid": Out(1), "trace_layer": Out(_LAYOUT["layer"].shape),
            "trace_raw": Out(1), "trace_item": Out(arch.item_bits),
            "written": Out(1),
        })

    @property
    def latency(self) -> int:
        """Cycles from the read of an item's last accumulator word to the item's write."""
        return post_latency(self.arch)

    @property
    def blocks(self) -> dict[str, wiring.Component]:
        """Verilog modules to be emitted along: name -> block."""
        blocks = {"systolith_post_lane": self.lane}
        if self.operand_lane is not None:
            blocks["systolith_operand_lane"] = self.operand_lane
        if self.table_lane is not None:
            blocks["systolith_table_lane"] = self.table_lane
        return blocks

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        fields = Signal(_LAYOUT, reset_less=True)
        start = Signal()
        m.submodules.reader = reader = WindowReader(arch=arch)
        m.submodules.pooling = pooling = Pooling(arch=arch)
        m.submodules.writer = writer = ResultWriter(arch=arch)
        for part in (reader, writer):
            m.d.comb += [part.start.eq(start), part.instruction.eq(self.i.payload),
                         *_share(part.fields, fields)]
        self._elaborate_control(m, fields, start, reader, writer)

        table = fields.table if arch.table_depth else Const(0)
        operand = fields.operand if arch.operand_depth else Const(0)
        marks = self._elaborate_marks(m, reader.mark, table, operand)
        ordered, raws, least = self._elaborate_lanes(m, fields, marks)
        numbers, looked = self._elaborate_tables(m) if arch.table_depth else ([], [])

        # Results without an operand are looked up in the table before pooling, so the function
        # need not be monotone; results with an operand after both.
        direct, combined = self.latency - 1, operand_latency(arch) - 1
        mark, firsts, results = marks[direct], ordered, ordered
        if arch.table_depth:
            mark = _choose(table & ~operand, marks[direct + TABLE_LOOKUP], mark)
            firsts = _each(table & ~operand, looked, ordered)
        m.d.comb += [
            pooling.mark.eq(mark), pooling.summed.eq(fields.pooling == isa.Pooling.SUM),
            *(pooling.results[lane].eq(first) for lane, first in enumerate(firsts))]
        if least:
            m.d.comb += pooling.least.eq(Cat(least))
        codes = [_code(best, arch.activation) for best in pooling.best]
        if arch.operand_depth:
            sums = self._elaborate_operands(m, fields, start, pooling, marks[self.latency].chunk)
            results = _each(operand, sums, ordered)
            ending = marks[combined]
            if arch.table_depth:
                ending = _choose(table, marks[combined + TABLE_LOOKUP], ending)
                sums = _each(table, looked, sums)
            mark = _choose(operand, ending, mark)
            codes = _each(operand, [_code(value, arch.activation) for value in sums], codes)
        m.d.comb += [number.eq(result) for number, result in zip(numbers, results, strict=False)]
        m.d.comb += [writer.valid.eq(mark.valid & mark.last), writer.chunk.eq(mark.chunk),
                     writer.codes.eq(Cat(codes)),
                     *(writer.raws[lane].eq(raw) for lane, raw in enumerate(raws))]
        self._elaborate_writes(m, fields, reader, writer)
        return m

    def _elaborate_control(self, m, fields, start, reader, writer):
        """One instruction at a time; what the sequencer and the registers see."""
        running = Signal()
        missing = Signal(4)
        m.d.comb += [
            missing.eq(self.i.payload.wait & ~self.available),
            start.eq(self.i.valid & ~running & (missing == 0)),
            self.i.ready.eq(start),
            self.take.eq(Mux(start, self.i.payload.wait, 0)),
            self.give.eq(Mux(writer.finish, fields.signal, 0)),
            self.busy.eq(running | self.i.valid),
            self.progress.eq(start | reader.read | writer.written
                             | (self.items.valid & self.items.ready)),
        ]
        with m.If(start):
            m.d.sync += [fields.eq(self.i.payload), running.eq(1)]
        with m.Elif(writer.finish):
            m.d.sync += running.eq(0)
        with m.If(running):
            m.d.comb += self.state.eq(Mux(reader.reading & ~reader.read, UnitState.UNIT,
                                          UnitState.RUNNING))
        with m.Elif(self.i.valid):
            m.d.comb += [self.missing.eq(missing),
                         self.state.eq(Mux(missing != 0, UnitState.TOKENS, UnitState.RUNNING))]

    def _ends(self, table, operand):
        """Pipeline stages at which items may be written, and whether this instruction's go on to a
        later one: an instruction that uses a later stage must not be written at an earlier one."""
        arch = self.arch
        direct, combined = self.latency - 1, operand_latency(arch) - 1
        ends = {direct: operand | table}
        if arch.table_depth:
            ends[direct + TABLE_LOOKUP] = operand
        if arch.operand_depth:
            ends[combined] = table
        if arch.operand_depth and arch.table_depth:
            ends[combined + TABLE_LOOKUP] = Const(0)
        return ends

    def _elaborate_marks(self, m, mark, table, operand):
        """The mark of the word that was read, by the number of cycles since."""
        marks, ends = [mark], self._ends(table, operand)
        for stage in range(max(ends)):
            delayed = Signal.like(mark, name=f"mark_{stage}")
            m.d.sync += delayed.eq(marks[-1])
            if stage in ends:
                m.d.sync += delayed.valid.eq(marks[-1].valid & ends[stage])
            marks.append(delayed)
        return marks

    def _elaborate_lanes(self, m, fields, marks):
        """Requantization of a chunk's columns. Returns for each lane the ordered integer, the raw
        sum and, for bipolar results, whether the smallest one of a window is wanted."""
        arch, lanes, chunk = self.arch, self.arch.post_lanes, marks[1].chunk
        zero_point, low, high = (Signal.like(getattr(self.lane, name), name=name)
                                 for name in ("zero_point", "low", "high"))
        m.d.comb += [zero_point.eq(fields.zero_point), low.eq(fields.low), high.eq(fields.high)]
        if arch.operand_depth:
            with m.If(fields.operand):
                m.d.comb += [zero_point.eq(0), low.eq(fields.first_low), high.eq(fields.first_high)]
        columns = Array(
            Cat(self.read_data[part * lanes + lane] for lane in range(lanes))
            for part in range(arch.columns // lanes))
        selected = Signal(lanes * arch.accumulator_bits, reset_less=True)
        parameters = Signal(lanes * arch.parameter_bits, reset_less=True)
        m.d.sync += [selected.eq(columns[fields.group * arch.chunks + chunk]
                                 if len(columns) > 1 else columns[0]),
                     parameters.eq(self.parameter_data)]
        summed = fields.pooling == isa.Pooling.SUM
        ordered, raws, least = [], [], []
        for lane in range(lanes):
            ordered.append(Signal(signed(arch.first_bits), name=f"ordered_{lane}"))
            raws.append(Signal(signed(arch.accumulator_bits + 1), name=f"raw_{lane}"))
            if arch.activation.binary:
                least.append(Signal(name=f"least_{lane}"))
            m.submodules[f"lane_{lane}"] = place(
                self.lane, "systolith_post_lane",
                accumulator=selected.word_select(lane, arch.accumulator_bits).as_signed(),
                parameters=parameters.word_select(lane, arch.parameter_bits),
                more=summed & ~marks[2].first, raw=fields.raw,
                zero_point=zero_point, low=low, high=high,
                ordered=ordered[-1], raw_out=raws[-1],
                **({"least": least[-1]} if least else {}))
        return ordered, raws, least

    def _elaborate_operands(self, m, fields, start, pooling, chunk):
        """Reads the operand of each result when its window's last word arrives at `pooling`.
        Returns what the lanes make of both, ordered integers, `OperandLane.latency` cycles after
        the cycle in which `pooling.largest` holds the result of chunk `chunk`."""
        arch, lanes, width = self.arch, self.arch.post_lanes, self.arch.activation.width
        m.submodules.operands = address = MapAddress(len(self.operand_address))
        arriving = pooling.mark
        m.d.comb += [
            address.start.eq(start), address.instruction.eq(self.i.payload),
            address.base.eq(self.i.payload.operand_base), *_share(address.fields, fields),
            address.step.eq(arriving.valid & arriving.last & (arriving.chunk == arch.chunks - 1)
                            & ~fields.broadcast),
            self.operand_address.eq(address.word),
        ]
        slot = fields.slot[:(arch.groups_per_word - 1).bit_length()]
        operands = self.operand_data.word_select(slot * arch.chunks + chunk, lanes * width)
        results = []
        for lane in range(lanes):
            operand = operands.word_select(lane, width)
            results.append(Signal(signed(arch.last_bits), name=f"combined_{lane}"))
            m.submodules[f"operand_lane_{lane}"] = place(
                self.operand_lane, "systolith_operand_lane", first=pooling.largest[lane],
                operand=operand,
                product=fields.product, gain=fields.gain, operand_gain=fields.operand_gain,
                operand_zero=fields.operand_zero, shift=fields.operand_shift,
                ties=fields.operand_ties,
                zero_point=fields.zero_point, low=fields.low, high=fields.high, ordered=results[-1])
        return results

    def _elaborate_tables(self, m):
        """The lanes' tables: (numbers to be looked up, ordered integers that stand there)."""
        numbers, results = [], []
        for lane in range(self.arch.post_lanes):
            numbers.append(Signal(signed(self.arch.table_address_bits), name=f"number_{lane}"))
            results.append(Signal(signed(self.arch.activation.width + 1), name=f"looked_{lane}"))
            m.submodules[f"table_lane_{lane}"] = place(
                self.table_lane, "systolith_table_lane", number=numbers[-1], ordered=results[-1],
                write_enable=self.table_enable, write_address=self.table_address,
                write_data=self.table_data)
        return numbers, results

    def _elaborate_writes(self, m, fields, reader, writer):
        """The unit's ports to the memories and to the store unit."""
        m.d.comb += [
            self.read_address.eq(reader.address),
            self.parameter_address.eq(fields.parameters + reader.mark.chunk),
            reader.room.eq(writer.room), writer.reserve.eq(reader.reserve),
            self.write_enable.eq(writer.write_enable),
            self.write_address.eq(writer.write_address),
            self.write_data.eq(writer.write_data),
            self.written.eq(writer.written),
            self.trace_valid.eq(writer.written), self.trace_layer.eq(fields.layer),
            self.trace_raw.eq(fields.raw), self.trace_item.eq(writer.item),
        ]
        if self.arch.operand_depth:
            m.d.comb += [self.copy_enable.eq(writer.copy_enable),
                         self.copy_address.eq(writer.copy_address)]
        wiring.connect(m, writer.items, wiring.flipped(self.items))


def _share(some, fields):
    """Statements that give a part's view of the instruction, `some`, the fields that it has."""
    return [some[name].eq(fields[name]) for name, _ in some.shape()]


def _choose(condition, one, other):
    """A mark: `one` where the condition holds, else `other`."""
    return data.View(one.shape(), Mux(condition, one.as_value(), other.as_value()))


def _each(condition, ones, others):
    """`one` where the condition holds, else `other`, lane by lane."""
    return [Mux(condition, one, other) for one, other in zip(ones, others, strict=True)]


def _code(ordered, form):
    """The code of an ordered integer."""
    if form.floating:
        magnitude = Mux(ordered < 0, -ordered, ordered)[:form.width - 1]
        return Cat(magnitude, ordered < 0)
    return ordered[:form.width]

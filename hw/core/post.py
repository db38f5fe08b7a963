"""The POST unit: accumulators to results, pooled, combined with operands, into memory or to the
store unit."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import ITEMS, TABLE_LOOKUP, operand_latency, post_latency

from .blocks import place
from .operand_lane import OperandLane
from .post_lane import PostLane
from .table_lane import TableLane

__all__ = ["Post"]

_LAYOUT = isa.layout(isa.Opcode.POST)


class Post(wiring.Component):
    """The POST unit.

    For each result, for each chunk of its group, the accumulator words of its window are read,
    one a cycle, column by column (`sim.access.reads` is that order in numpy); a result to the
    store unit first waits for room in the FIFO (a raw one for each chunk). An item is written
    `latency` cycles after its last read, one that is combined with an operand `operand_latency`
    cycles after it, and `TABLE_LOOKUP` cycles later where results are looked up in the table.
    One instruction is worked on at a time.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i : In(stream of POST instructions)
    available, take, give : tokens
        Taken when the instruction is accepted; its first read is in the next cycle. Given in the
        cycle of its last write.
    read_address : Out, read_data : In(ArrayLayout(accumulators, columns))
        Accumulators; data one cycle after the address.
    parameter_address : Out, parameter_data : In
        Parameter memory; data one cycle after the address.
    write_enable : Out(groups_per_word), write_address : Out, write_data : Out(activation_bits)
        The activation memory's write port, which is always ready.
    operand_address : Out, operand_data : In(activation_bits)
        Operand memory, if the chip has one; data one cycle after the address.
    copy_enable : Out(groups_per_word), copy_address : Out
        The operand memory's write port, likewise; the data are `write_data`.
    table_enable, table_address, table_data : In
        The table memory's write port, if the chip has one.
    items : Out(stream of arch.item_bits)
        To the store unit: groups (each code `activation.width` bits) or raw chunks.
    trace_valid, trace_layer, trace_raw, trace_item : Out
        Every result as it is written, wherever it goes.
    busy, state, missing, progress, written
        For the sequencer; `written` pulses with every write.
    """

    def __init__(self, *, arch):
        self.arch = arch
        self.lane = PostLane(arch=arch)
        self.operand_lane = OperandLane(arch=arch) if arch.operand_depth else None
        self.table_lane = TableLane(arch=arch) if arch.table_depth else None
        super().__init__({
            "i": In(stream.Signature(_LAYOUT)),
            "available": In(4), "take": Out(4), "give": Out(4),
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
            "trace_valid": Out(1), "trace_layer": Out(12), "trace_raw": Out(1),
            "trace_item": Out(arch.item_bits),
            "busy": Out(1), "state": Out(4), "missing": Out(4), "progress": Out(1),
            "written": Out(1),
        })

    @property
    def latency(self):
        """Cycles from the read of an item's last accumulator word to the item's write."""
        return post_latency(self.arch)

    @property
    def blocks(self):
        blocks = {"systolith_post_lane": self.lane}
        if self.operand_lane is not None:
            blocks["systolith_operand_lane"] = self.operand_lane
        if self.table_lane is not None:
            blocks["systolith_table_lane"] = self.table_lane
        return blocks

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        lanes, chunks = arch.post_lanes, arch.chunks
        width = arch.activation.width
        fields = Signal(_LAYOUT, reset_less=True)
        running = Signal()
        start, finish = Signal(), Signal()
        missing = Signal(4)

        # One instruction at a time.
        m.d.comb += [
            missing.eq(self.i.payload.wait & ~self.available),
            start.eq(self.i.valid & ~running & (missing == 0)),
            self.i.ready.eq(start),
            self.take.eq(Mux(start, self.i.payload.wait, 0)),
            self.give.eq(Mux(finish, fields.signal, 0)),
            self.busy.eq(running | self.i.valid),
        ]
        with m.If(start):
            m.d.sync += [fields.eq(self.i.payload), running.eq(1)]
        with m.Elif(finish):
            m.d.sync += running.eq(0)

        # Reads: results, chunks, columns of the window, rows. A result for the store unit needs
        # room in the FIFO.
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=arch.item_bits, depth=ITEMS)
        room = Signal(range(ITEMS + 1), init=ITEMS)
        reading, read, reserve = Signal(), Signal(), Signal()
        x_left, y_left = Signal(12, reset_less=True), Signal(12, reset_less=True)
        columns_left, rows_left = Signal(8, reset_less=True), Signal(4, reset_less=True)
        chunk = Signal(range(chunks), reset_less=True)
        pool_first, column_first, row_first = (
            Signal(name=f"{what}_first", reset_less=True) for what in ("pool", "column", "row"))
        address, column, origin = (
            Signal(range(arch.accumulator_depth), name=name, reset_less=True)
            for name in ("address", "column", "origin"))
        needs_room, last_pool = Signal(), Signal()
        last_chunk, last_row, last_x = chunk == chunks - 1, rows_left == 0, x_left == 0
        m.d.comb += last_pool.eq(last_row & (columns_left == 0))
        next_column = Signal.like(column)
        m.d.comb += next_column.eq(column + 1 + Mux(
            last_pool, Mux(last_x, fields.turn, fields.jump), 0))
        lead, summed = (fields.pooling == mode for mode in (isa.Pooling.LEAD, isa.Pooling.SUM))
        carried = (fields.pooling == isa.Pooling.CARRIED) | lead

        def columns_of(instruction, first):
            """Columns to read for a result, less one."""
            return instruction.pool_x - 1 + ((instruction.pooling == isa.Pooling.LEAD) & first)
        m.d.comb += [
            needs_room.eq((fields.destination == isa.Destination.STORE) & pool_first
                          & (fields.raw | (chunk == 0))),
            read.eq(reading & (~needs_room | (room != 0))),
            reserve.eq(read & needs_room),
            self.read_address.eq(address),
            self.parameter_address.eq(fields.parameters + chunk),
        ]
        m.d.sync += room.eq(room - reserve + (fifo.r_rdy & fifo.r_en))
        with m.If(read):
            m.d.sync += [pool_first.eq(last_pool), column_first.eq(last_row)]
            with m.If(~last_row):
                m.d.sync += [rows_left.eq(rows_left - 1), address.eq(address + fields.row)]
            with m.Elif(last_pool & ~last_chunk):
                m.d.sync += [rows_left.eq(fields.pool_y - 1), chunk.eq(chunk + 1),
                             columns_left.eq(columns_of(fields, row_first)),
                             address.eq(origin), column.eq(origin)]
            with m.Else():
                m.d.sync += [rows_left.eq(fields.pool_y - 1), columns_left.eq(columns_left - 1),
                             address.eq(next_column), column.eq(next_column)]
                with m.If(last_pool):
                    m.d.sync += [columns_left.eq(columns_of(fields, last_x)), chunk.eq(0),
                                 origin.eq(next_column), row_first.eq(last_x),
                                 x_left.eq(x_left - 1)]
                    with m.If(last_x):
                        m.d.sync += [x_left.eq(fields.out_x - 1), y_left.eq(y_left - 1)]
                        with m.If(y_left == 0):
                            m.d.sync += reading.eq(0)
        with m.If(start):
            new, first = self.i.payload, self.i.payload.accumulator
            m.d.sync += [reading.eq(1), chunk.eq(0), pool_first.eq(1), column_first.eq(1),
                         row_first.eq(1), rows_left.eq(new.pool_y - 1),
                         columns_left.eq(columns_of(new, 1)),
                         x_left.eq(new.out_x - 1), y_left.eq(new.out_y - 1),
                         address.eq(first), column.eq(first), origin.eq(first)]

        # Lanes. Flags that travel with a read: whether it is one, and its position in its result.
        mark = Signal(data.StructLayout({"valid": 1, "first": 1, "last": 1, "column": 1,
                                         "carried": 1, "chunk": range(chunks)}))
        m.d.comb += [mark.valid.eq(read), mark.first.eq(pool_first), mark.last.eq(last_pool),
                     mark.column.eq(column_first), mark.chunk.eq(chunk),
                     mark.carried.eq(carried & pool_first & ~row_first)]
        marks = [mark]
        table = fields.table if arch.table_depth else Const(0)
        operand = fields.operand if arch.operand_depth else Const(0)
        # Pipeline stages at which an item may be written, and whether this instruction uses a later
        # one. An instruction that uses a later stage must not be written at an earlier one.
        direct, combined = self.latency - 1, operand_latency(arch) - 1
        ends = {direct: operand | table}
        if arch.table_depth:
            ends[direct + TABLE_LOOKUP] = operand
        if arch.operand_depth:
            ends[combined] = table
        if arch.operand_depth and arch.table_depth:
            ends[combined + TABLE_LOOKUP] = Const(0)
        for stage in range(max(ends)):
            delayed = Signal.like(mark, name=f"mark_{stage}")
            m.d.sync += delayed.eq(marks[-1])
            if stage in ends:
                m.d.sync += delayed.valid.eq(marks[-1].valid & ends[stage])
            marks.append(delayed)
        zero_point, low, high = (Signal.like(getattr(self.lane, name))
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
        m.d.sync += [selected.eq(columns[fields.group * chunks + marks[1].chunk]
                                 if len(columns) > 1 else columns[0]),
                     parameters.eq(self.parameter_data)]
        ordered, raw, least = [], [], []
        for lane in range(lanes):
            ordered.append(Signal(signed(arch.first_bits), name=f"ordered_{lane}"))
            raw.append(Signal(signed(arch.accumulator_bits + 1), name=f"raw_{lane}"))
            least.append(Signal(name=f"least_{lane}"))
            m.submodules[f"lane_{lane}"] = place(
                self.lane, "systolith_post_lane",
                accumulator=selected.word_select(lane, arch.accumulator_bits).as_signed(),
                parameters=parameters.word_select(lane, arch.parameter_bits),
                more=summed & ~marks[2].first, raw=fields.raw,
                zero_point=zero_point, low=low, high=high,
                ordered=ordered[-1], raw_out=raw[-1],
                **({"least": least[-1]} if arch.activation.binary else {}))

        # Pooling: the maximum so far (for bipolar channels that say so, the minimum), or the last
        # result, which is that of the whole sum; the column's own maximum is kept for the next
        # result. Then the code, and the group that it completes. Results without an operand are
        # looked up in the table before pooling, so the function need not be monotone.
        def chosen(condition, one, other):
            return data.View(mark.shape(), Mux(condition, one.as_value(), other.as_value()))
        arriving, item_valid = marks[direct], Signal()
        numbers, looked = self._elaborate_tables(m) if arch.table_depth else ([], [])
        firsts = ordered
        if arch.table_depth:
            arriving = chosen(table & ~operand, marks[direct + TABLE_LOOKUP], arriving)
            firsts = [Mux(table & ~operand, *pair) for pair in zip(looked, ordered, strict=True)]
        largest, codes = [], []
        for lane, first in enumerate(firsts):
            new, old, top, known, best = (
                Signal(signed(arch.first_bits), name=f"{name}_{lane}", reset_less=True)
                for name in ("new", "largest", "top", "known", "best"))
            tops = Array(Signal.like(new, name=f"top_{lane}_{part}", reset_less=True)
                         for part in range(chunks))
            # Either of two equal results may be taken.
            m.d.comb += [
                new.eq(first), top.eq(tops[arriving.chunk]),
                known.eq(Mux(arriving.carried, top, old)),
                best.eq(Mux((arriving.first & ~arriving.carried) | summed
                            | ((new > known) ^ least[lane]),
                            new, known))]
            largest.append(old)
            with m.If(arriving.valid):
                m.d.sync += old.eq(best)
                with m.If(arriving.column | ((new > top) ^ least[lane])):
                    m.d.sync += tops[arriving.chunk].eq(new)
            codes.append(_code(best, arch.activation))
        results = ordered
        if arch.operand_depth:
            sums = self._elaborate_operands(m, fields, start, arriving, largest,
                                            marks[self.latency])
            results = [Mux(operand, *pair) for pair in zip(sums, ordered, strict=True)]
            ending = marks[combined]
            if arch.table_depth:
                ending = chosen(table, marks[combined + TABLE_LOOKUP], ending)
                sums = [Mux(table, *pair) for pair in zip(looked, sums, strict=True)]
            arriving = chosen(operand, ending, arriving)
            codes = [Mux(operand, _code(other, arch.activation), code)
                     for other, code in zip(sums, codes, strict=True)]
        m.d.comb += [number.eq(result) for number, result in zip(numbers, results, strict=False)]
        group = Signal(arch.group_bits, reset_less=True)
        item_raw = Signal(lanes * arch.raw_bits, reset_less=True)
        with m.If(arriving.valid & arriving.last):
            m.d.sync += [
                group.word_select(arriving.chunk, lanes * width).eq(Cat(codes)),
                item_raw.eq(Cat(_extend(value, arch.raw_bits)
                                for value in raw)),
            ]
        m.d.sync += item_valid.eq(arriving.valid & arriving.last
                                  & (fields.raw | (arriving.chunk == chunks - 1)))

        # Writes, with counters of their own: addresses need not go through the pipeline.
        items_x, items_y = Signal(12, reset_less=True), Signal(12, reset_less=True)
        items_chunk = Signal(range(chunks), reset_less=True)
        word, row = Signal(20, reset_less=True), Signal(20, reset_less=True)
        last_of_result = ~fields.raw | (items_chunk == chunks - 1)
        to_store = fields.destination == isa.Destination.STORE
        to_activation = ~to_store & (fields.destination != isa.Destination.OPERAND)
        slot = fields.slot[:(arch.groups_per_word - 1).bit_length()]
        item = Signal(arch.item_bits)
        m.d.comb += [
            item.eq(Mux(fields.raw, item_raw, group)),
            finish.eq(item_valid & last_of_result & (items_x == 0) & (items_y == 0)),
            self.write_address.eq(word),
            self.write_data.eq(group.replicate(arch.groups_per_word)),
            self.write_enable.eq(Mux(item_valid & to_activation, 1 << slot, 0)),
            fifo.w_en.eq(item_valid & to_store), fifo.w_data.eq(item),
            self.items.valid.eq(fifo.r_rdy), self.items.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.items.ready),
            self.written.eq(item_valid),
            self.trace_valid.eq(item_valid), self.trace_layer.eq(fields.layer),
            self.trace_raw.eq(fields.raw), self.trace_item.eq(item),
        ]
        with m.If(item_valid):
            m.d.sync += items_chunk.eq(items_chunk + 1)
            with m.If(last_of_result):
                m.d.sync += [items_chunk.eq(0), items_x.eq(items_x - 1),
                             word.eq(word + fields.stride_x)]
                with m.If(items_x == 0):
                    m.d.sync += [items_x.eq(fields.out_x - 1), items_y.eq(items_y - 1),
                                 word.eq(row + fields.stride_y), row.eq(row + fields.stride_y)]
        with m.If(start):
            new = self.i.payload
            m.d.sync += [items_chunk.eq(0), items_x.eq(new.out_x - 1), items_y.eq(new.out_y - 1),
                         word.eq(new.base), row.eq(new.base)]
        if arch.operand_depth:
            # Both memories are written at the same strides.
            apart = Signal.like(self.copy_address, reset_less=True)
            m.d.comb += [
                self.copy_address.eq(word + apart),
                self.copy_enable.eq(Mux(item_valid & fields.destination[1], 1 << slot, 0)),
            ]
            with m.If(start):
                m.d.sync += apart.eq(self.i.payload.copy_base - self.i.payload.base)

        m.d.comb += self.progress.eq(start | read | item_valid | (self.items.valid
                                                                  & self.items.ready))
        with m.If(running):
            m.d.comb += self.state.eq(Mux(reading & ~read, UnitState.UNIT, UnitState.RUNNING))
        with m.Elif(self.i.valid):
            m.d.comb += [self.missing.eq(missing),
                         self.state.eq(Mux(missing != 0, UnitState.TOKENS, UnitState.RUNNING))]
        return m

    def _elaborate_operands(self, m, fields, start, arriving, largest, mark):
        """Reads the operand of each result whose last word arrives; returns what the lanes make of
        both, ordered integers, `OperandLane.latency` cycles after `largest` and `mark`."""
        arch = self.arch
        lanes, chunks = arch.post_lanes, arch.chunks
        width = arch.activation.width
        word, row = Signal.like(self.operand_address), Signal.like(self.operand_address)
        x_left = Signal(12, reset_less=True)
        m.d.comb += self.operand_address.eq(word)
        with m.If(arriving.valid & arriving.last & (arriving.chunk == chunks - 1)
                  & ~fields.broadcast):
            m.d.sync += [x_left.eq(x_left - 1), word.eq(word + fields.stride_x)]
            with m.If(x_left == 0):
                m.d.sync += [x_left.eq(fields.out_x - 1), word.eq(row + fields.stride_y),
                             row.eq(row + fields.stride_y)]
        with m.If(start):
            new = self.i.payload
            m.d.sync += [x_left.eq(new.out_x - 1), word.eq(new.operand_base),
                         row.eq(new.operand_base)]
        slot = fields.slot[:(arch.groups_per_word - 1).bit_length()]
        operands = self.operand_data.word_select(slot * chunks + mark.chunk, lanes * width)
        results = []
        for lane in range(lanes):
            operand = operands.word_select(lane, width)
            results.append(Signal(signed(arch.last_bits), name=f"combined_{lane}"))
            m.submodules[f"operand_lane_{lane}"] = place(
                self.operand_lane, "systolith_operand_lane", first=largest[lane], operand=operand,
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


def _code(ordered, form):
    """The code of an ordered integer."""
    if form.floating:
        magnitude = Mux(ordered < 0, -ordered, ordered)[:form.width - 1]
        return Cat(magnitude, ordered < 0)
    return ordered[:form.width]


def _extend(value, bits):
    """`value`, sign-extended to `bits` bits."""
    return Cat(value, value[-1].replicate(bits - len(value)))

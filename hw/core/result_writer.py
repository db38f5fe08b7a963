"""Where POST's results go: chunks become groups, which are written to memories or to the store
unit."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import ITEMS

from . import map_address
from .map_address import MapAddress

__all__ = ["ResultWriter", "fields_layout"]

_LAYOUT = isa.layout(isa.Opcode.POST)


def fields_layout(arch: Arch) -> data.StructLayout:
    """What a ResultWriter needs of an instruction while it is worked on."""
    return data.StructLayout({
        **map_address.FIELDS.members, "destination": _LAYOUT["destination"].shape, "raw": 1,
        "slot": range(arch.groups_per_word)})


class ResultWriter(wiring.Component):
    """Collects the chunks of a group and writes each item in the cycle after its last chunk.

    An item is a group of results, or one chunk of raw sums. Addresses are counted here: they need
    not go through the pipeline.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start : In(1), instruction : In(POST layout)
        Results of `instruction` follow.
    fields : In(fields_layout(arch))
        Fields of the instruction that is worked on, from the cycle after `start` on.
    valid : In(1), chunk : In(range(chunks))
        Results of a whole window are at `codes` and `raws`, and which chunk of the group they are.
    codes : In(arch.post_lanes * activation.width)
        One code a channel.
    raws : In(ArrayLayout(signed(arch.accumulator_bits + 1), arch.post_lanes))
        One raw sum a channel.
    written : Out(1)
        An item is written in this cycle.
    finish : Out(1)
        And is the instruction's last one.
    item : Out(arch.item_bits)
        The item.
    write_enable : Out(groups_per_word), write_address : Out, write_data : Out(activation_bits)
        The activation memory's write port, which is always ready.
    copy_enable : Out(groups_per_word), copy_address : Out
        The operand memory's write port, if the chip has one; the data are `write_data`.
    reserve : In(1)
        An item for the store unit has been begun.
    room : Out(1)
        One more may be begun: fewer than `timing.ITEMS` are begun and not taken by the store unit.
    items : Out(stream of arch.item_bits)
        To the store unit: groups (each code `activation.width` bits) or raw chunks.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "start": In(1), "instruction": In(_LAYOUT), "fields": In(fields_layout(arch)),
            "valid": In(1), "chunk": In(range(arch.chunks)),
            "codes": In(arch.post_lanes * arch.activation.width),
            "raws": In(data.ArrayLayout(signed(arch.accumulator_bits + 1), arch.post_lanes)),
            "written": Out(1), "finish": Out(1), "item": Out(arch.item_bits),
            "write_enable": Out(arch.groups_per_word),
            "write_address": Out(range(arch.activation_depth)),
            "write_data": Out(arch.activation_bits),
            **({"copy_enable": Out(arch.groups_per_word),
                "copy_address": Out(range(arch.operand_depth))} if arch.operand_depth else {}),
            "reserve": In(1), "room": Out(1), "items": Out(stream.Signature(arch.item_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        arch, fields = self.arch, self.fields
        group, raw, complete = self._elaborate_chunks(m)
        m.submodules.address = address = MapAddress(_LAYOUT["base"].width)
        chunk = Signal(range(arch.chunks), name="chunk_written", reset_less=True)
        y_left = Signal(_LAYOUT["out_y"].shape, reset_less=True)
        last_of_result = ~fields.raw | (chunk == arch.chunks - 1)
        with m.If(complete):
            m.d.sync += chunk.eq(chunk + 1)
            with m.If(last_of_result):
                m.d.sync += [chunk.eq(0), y_left.eq(y_left - address.last_x)]
        with m.If(self.start):
            m.d.sync += [chunk.eq(0), y_left.eq(self.instruction.out_y - 1)]

        to_store = fields.destination == isa.Destination.STORE
        to_activation = ~to_store & (fields.destination != isa.Destination.OPERAND)
        m.d.comb += [
            address.start.eq(self.start), address.instruction.eq(self.instruction),
            address.base.eq(self.instruction.base),
            *(address.fields[name].eq(fields[name]) for name, _ in address.fields.shape()),
            address.step.eq(complete & last_of_result),
            self.written.eq(complete),
            self.item.eq(Mux(fields.raw, raw, group)),
            self.finish.eq(complete & last_of_result & address.last_x & (y_left == 0)),
            self.write_address.eq(address.word),
            self.write_data.eq(group.replicate(arch.groups_per_word)),
            self.write_enable.eq(Mux(complete & to_activation, 1 << fields.slot, 0)),
        ]
        if arch.operand_depth:
            # Both memories are written at the same strides.
            apart = Signal.like(self.copy_address, reset_less=True)
            m.d.comb += [
                self.copy_address.eq(address.word + apart),
                self.copy_enable.eq(Mux(complete & fields.destination[1], 1 << fields.slot, 0)),
            ]
            with m.If(self.start):
                m.d.sync += apart.eq(self.instruction.copy_base - self.instruction.base)
        self._elaborate_items(m, complete & to_store)
        return m

    def _elaborate_chunks(self, m):
        """Registers of the group and the raw chunk; returns both, and that one is complete."""
        arch = self.arch
        group = Signal(arch.group_bits, reset_less=True)
        raw = Signal(arch.post_lanes * arch.raw_bits, reset_less=True)
        complete = Signal()
        with m.If(self.valid):
            m.d.sync += [
                group.word_select(self.chunk, len(self.codes)).eq(self.codes),
                raw.eq(Cat(_extend(value, arch.raw_bits) for value in self.raws)),
            ]
        m.d.sync += complete.eq(self.valid
                                & (self.fields.raw | (self.chunk == arch.chunks - 1)))
        return group, raw, complete

    def _elaborate_items(self, m, write):
        """The FIFO to the store unit, and the count of its free places. A place is taken when an
        item is begun, since the pipeline cannot wait."""
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self.arch.item_bits, depth=ITEMS)
        free = Signal(range(ITEMS + 1), init=ITEMS)
        m.d.sync += free.eq(free - self.reserve + (fifo.r_rdy & fifo.r_en))
        m.d.comb += [
            self.room.eq(free != 0),
            fifo.w_en.eq(write), fifo.w_data.eq(self.item),
            self.items.valid.eq(fifo.r_rdy), self.items.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.items.ready),
        ]


def _extend(value, bits):
    """`value`, sign-extended to `bits` bits."""
    return Cat(value, value[-1].replicate(bits - len(value)))

"""Where POST's results go: chunks become groups, which are written to memories or to the store
unit."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import ITEMS

from . import map_address
from .item_queue import ItemQueue
from .map_address import MapAddress
from .products import register
from .window_reader import mark_layout

__all__ = ["ResultWriter", "fields_layout"]

_LAYOUT = isa.layout(isa.Opcode.POST)


def fields_layout(arch: Arch) -> data.StructLayout:
    """What a ResultWriter needs of an instruction while it is worked on."""
    return data.StructLayout({
        **({"signs": 1} if arch.parts else {}),
        **map_address.FIELDS.members, "destination": _LAYOUT["destination"].shape, "raw": 1,
        "base": _LAYOUT["base"].shape, "copy_base": _LAYOUT["copy_base"].shape,
        "slot": range(arch.slots), **({"apart": 3} if arch.banks > 1 else {})})


class ResultWriter(wiring.Component):
    """Collects the chunks of a group and writes each item in the cycle after its last chunk; codes
    of chunks that do not come are 0.

    An item is a group of results, or one chunk of raw sums. Addresses are counted here: they need
    not go through the pipeline.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    begin : In(1), fields : In(fields_layout(arch))
        Results of the instruction whose fields are these follow.
    mark : In(mark_layout(arch))
        Valid: results of a whole window are at `results` (or `combined`) or `raws`.
    results : In(ArrayLayout(signed(arch.first_bits), arch.post_lanes)), combined : In(as results)
        One ordered integer a channel: pooled results, or, if the chip has operands, those combined
        with one; their lowest bits are integers' codes.
    combines : In(1)
        The instruction's results are the combined ones.
    raws : In(ArrayLayout(signed(arch.accumulator_bits + 1), arch.post_lanes))
        One raw sum a channel.
    written : Out(1)
        An item is written in this cycle.
    finish : Out(1)
        And is the instruction's last one.
    item : Out(arch.item_bits)
        The item.
    write_enable : Out(slots), write_address : Out, write_data : Out(activation_bits)
        The activation memory's write port, which is always ready.
    copy_enable : Out(groups_per_word), copy_address : Out
        The operand memory's write port, if the chip has one; the data are `write_data`.
    writes, copies : Out(1)
        In the next cycle, `write_enable`, `copy_enable` is not 0.
    upcoming_odd : Out(1)
        The lowest bit of `write_address` in the next cycle.
    reserve : In(1)
        An item for the store unit has been begun.
    room : Out(1)
        One more may be begun: fewer than `timing.ITEMS` are begun and not taken by the store unit.
    items : Out(stream of arch.item_bits)
        To the store unit: groups (each code `activation.width` bits) or raw chunks.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        results = data.ArrayLayout(signed(arch.first_bits), arch.post_lanes)
        super().__init__({
            "begin": In(1), "fields": In(fields_layout(arch)), "mark": In(mark_layout(arch)),
            "results": In(results),
            **({"combined": In(results), "combines": In(1)} if arch.operand_depth else {}),
            "raws": In(data.ArrayLayout(signed(arch.accumulator_bits + 1), arch.post_lanes)),
            "written": Out(1), "finish": Out(1), "item": Out(arch.item_bits),
            "write_enable": Out(arch.slots),
            "write_address": Out(range(arch.activation_depth)),
            "write_data": Out(arch.activation_bits),
            "writes": Out(1), "upcoming_odd": Out(1),
            **({"copy_enable": Out(arch.groups_per_word), "copies": Out(1),
                "copy_address": Out(range(arch.operand_depth))} if arch.operand_depth else {}),
            "reserve": In(1), "room": Out(1), "items": Out(stream.Signature(arch.item_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, fields = self.arch, self.fields
        item, signs = self._elaborate_chunks(m)
        m.submodules.map = address = MapAddress(max(
            len(self.write_address), len(self.copy_address) if arch.operand_depth else 0))
        # All that a write needs is decided on in the cycle before it.
        ends = self.mark.valid & (fields.raw | self.mark.whole)
        to_store = fields.destination == isa.Destination.STORE
        to_activation = ~to_store & (fields.destination != isa.Destination.OPERAND)
        complete, push, end_row, end = (Signal(name=name) for name in (
            "complete", "push", "end_row", "end"))
        enable, following = (Signal.like(self.write_enable, name=name)
                             for name in ("enable", "enable_next"))
        writes = following.any()
        words = item[:arch.group_bits].replicate(arch.groups_per_word)
        slots = (1 << fields.slot)[:arch.slots]
        if arch.banks > 1:
            slots = self._copies(m, slots)
        where, content = slots, words
        if arch.parts:
            # A group of codes is as many groups of parts; and above one of parts come zeros.
            codes = Cat((fields.slot == slot).replicate(arch.code_signs)
                        for slot in range(arch.groups_per_word))
            above = Cat(fields.slot <= slot for slot in range(arch.slots))
            here = register(m, slots, "here")
            where = Mux(fields.signs, above, codes)
            content = Mux(fields.signs, Cat(
                signs & one.replicate(len(signs)) for one in here), words)
        if arch.slots > 1:      # the instruction stays as it is from long before the first result
            some = register(m, where.any(), "somewhere")
            where = register(m, where, "where")
            writes = ends & to_activation & some
        m.d.sync += [enable.eq(following), complete.eq(ends), push.eq(ends & to_store),
                     end_row.eq(self.mark.end_row), end.eq(ends & self.mark.end & self.mark.whole)]
        m.d.comb += [
            address.begin.eq(self.begin), address.base.eq(fields.base),
            *(address.fields[name].eq(fields[name]) for name, _ in address.fields.shape()),
            address.step.eq(complete), address.last_x.eq(end_row),
            self.written.eq(complete), self.finish.eq(end),
            self.item.eq(item),
            self.write_address.eq(address.word),
            self.write_enable.eq(enable), self.writes.eq(writes),
            self.upcoming_odd.eq(address.upcoming_odd),
        ]
        m.d.comb += [self.write_data.eq(content),
                     following.eq(Mux(ends & to_activation, where, 0))]
        if arch.operand_depth:
            self._elaborate_copy(m, ends, address.word)
        self._elaborate_items(m, push)
        return m

    def _copies(self, m, slots):
        """The slots of a word in which a group is written, from the first one, one bit each."""
        arch = self.arch
        each = arch.slots // arch.banks         # of a bank
        found = Signal(arch.slots, name="slots")
        m.d.comb += found.eq(slots)
        with m.Switch(self.fields.apart):
            for number in range(1, arch.banks.bit_length() + 1):
                period = each << number - 1
                if period < arch.slots:
                    with m.Case(number):
                        m.d.comb += found.eq(
                            Cat(slots[:period].replicate(-(-arch.slots // period)))[:arch.slots])
        return found

    def _elaborate_copy(self, m, ends, word):
        """The operand memory is written at the same strides, so many words apart."""
        fields = self.fields
        apart = Signal.like(self.copy_address)
        copy, following = (Signal.like(self.copy_enable, name=name)
                           for name in ("copy", "copy_next"))
        m.d.sync += [apart.eq(fields.copy_base - fields.base), copy.eq(following)]
        m.d.comb += [
            following.eq(Mux(ends & fields.destination[1], 1 << fields.slot, 0)),
            self.copy_address.eq(word + apart), self.copy_enable.eq(copy),
            self.copies.eq(following.any()),
        ]

    def _elaborate_chunks(self, m):
        """Registers of the item, a group or a raw chunk, and, on chips with signs or halves, those
        of the group."""
        arch = self.arch
        # One register for both: choosing what comes in shares its LUTs with the choice of codes.
        item = Signal(arch.item_bits, reset_less=True)
        codes = Signal(arch.post_lanes * arch.activation.width)
        m.d.comb += codes.eq(Cat(
            _code(Mux(self.combines, self.combined[lane], self.results[lane])
                  if arch.operand_depth else self.results[lane], arch.activation)
            for lane in range(arch.post_lanes)))
        part, width = arch.part, arch.activation.width
        signs = None if part is None else Signal(arch.group * part.width, name="signs",
                                                 reset_less=True)
        with m.If(self.mark.valid):
            with m.If(self.fields.raw):
                m.d.sync += item.eq(Cat(_extend(value, arch.raw_bits) for value in self.raws))
            with m.Else():
                if arch.chunks == 1:
                    # Amaranth drops an assignment to the word that a number of no bits selects, in
                    # Verilog alone, where another one to the same signal comes before it
                    m.d.sync += item.eq(codes)
                else:
                    with m.If(self.mark.chunk == 0):        # chunks that are left out are 0
                        m.d.sync += item.eq(0)
                    m.d.sync += item[:arch.group_bits].word_select(
                        self.mark.chunk, len(codes)).eq(codes)
            if part is not None and signs is not None:
                each = [codes.word_select(n, width) for n in range(arch.post_lanes)]
                parts = Cat(~code[-1] if part.binary else code[:part.width] for code in each)
                m.d.sync += signs.word_select(self.mark.chunk, len(parts)).eq(parts)
        return item, signs

    def _elaborate_items(self, m, push):
        """The queue to the store unit, and the count of its free places. A place is taken when an
        item is begun, since the pipeline cannot wait."""
        m.submodules.queue = queue = ItemQueue(width=self.arch.item_bits, depth=ITEMS)
        wiring.connect(m, queue.o, wiring.flipped(self.items))
        # As many ones as there are free places: the next read sees at once whether there is one.
        free = Signal(ITEMS, init=(1 << ITEMS) - 1)
        taken = queue.o.valid & queue.o.ready
        with m.If(self.reserve ^ taken):
            m.d.sync += free.eq(Mux(self.reserve, free >> 1, Cat(Const(1, 1), free)))
        m.d.comb += [
            self.room.eq(free[0]),
            queue.write.eq(push), queue.item.eq(self.item),
        ]


def _code(ordered, form):
    """The code of an ordered integer."""
    if form.floating:
        magnitude = Mux(ordered < 0, -ordered, ordered)[:form.width - 1]
        return Cat(magnitude, ordered < 0)
    return ordered[:form.width]


def _extend(value, bits):
    """`value`, sign-extended to `bits` bits."""
    return Cat(value, value[-1].replicate(bits - len(value)))

"""One column's accumulators: a memory of wide sums, or of floats, and the one adder as wide.

The memory is read twice and written once a cycle: the array adds to it while post-processing
drains it.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from systolith.hw.element.block_scale import add_number, scaled_number
from systolith.hw.element.float_add import FloatAdder, ToFloat
from systolith.hw.formats import Float
from systolith.hw.spec.arch import Arch

__all__ = ["FLOAT_SUMS", "AccumulatorColumn", "integer_of"]

#: Sums as floats: a sign, 6 bits of exponent and 9 of mantissa; its smallest number is one step of
#: the array's sums, and its largest is beyond all of them.
FLOAT_SUMS = Float(6, 9)


class AccumulatorColumn(wiring.Component):
    """Accumulators below one array column.

    The control for a sum comes two cycles before the sum; the result is in the memory for reads
    from `timing.REVISIT` cycles after the control on. The same word must not be added to earlier:
    nothing is forwarded. With `arch.float_sums` a sum is rounded to `FLOAT_SUMS` a cycle after it
    came, and all that follows is a cycle later.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    enable, first, valid, address : In
        A sum arrives in the cycle after the next one; it overwrites word `address` if `first`, else
        adds to it, exactly, or saturating where arch.accumulator says so. Without `valid` it is
        padding that contributes nothing, whatever the array has made of it: zero stands for it.
    double : In(1)
        It adds to twice the word instead, with arch.bit_planes; or the sum counts 2**bits times,
        bits being a weight's, with arch.wide_weights; only with either.
    enable_out, first_out, valid_out, address_out, double_out : Out
        The control, one cycle later, for the next column.
    sum : In(signed(arch.scaled_bits))
        The column's sum, or what `ScaledNumber` makes it of.
    read_address : In
        Second read port, for post-processing.
    read_data : Out(signed(arch.kept_bits))
        Its word, one cycle later: an integer, or a code of `FLOAT_SUMS`.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        address_bits = range(arch.accumulator_depth)
        self.given = scaled_number(arch)
        double = {"double": In(1), "double_out": Out(1)} if arch.counts_more else {}
        super().__init__({
            **double,
            "enable": In(1), "first": In(1), "valid": In(1), "address": In(address_bits),
            "enable_out": Out(1), "first_out": Out(1), "valid_out": Out(1),
            "address_out": Out(address_bits),
            "sum": In(self.given.shape if self.given else signed(arch.scaled_bits)),
            "read_address": In(address_bits),
            "read_data": Out(signed(arch.kept_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.arch.kept_bits
        # What is read while it is written does not count (REVISIT), so synthesis need not care.
        m.submodules.memory = memory = Memory(
            shape=signed(bits), depth=self.arch.accumulator_depth, init=[],
            attrs={"no_rw_check": 1})
        own = memory.read_port()
        drain = memory.read_port()
        write = memory.write_port()

        def delayed(value, name):
            register = Signal.like(value, name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register
        enable, first, valid, address = (delayed(getattr(self, name), name) for name in (
            "enable", "first", "valid", "address"))
        m.d.comb += [own.addr.eq(self.address), drain.addr.eq(self.read_address),
                     self.read_data.eq(drain.data),
                     self.enable_out.eq(enable), self.first_out.eq(first),
                     self.valid_out.eq(valid), self.address_out.eq(address)]
        if self.arch.float_sums:
            m.d.comb += own.addr.eq(address)
            enable, first, valid, address = (
                delayed(value, f"{value.name}_later") for value in (enable, first, valid, address))
        held = Signal(signed(bits + self.arch.bit_planes), reset_less=True)
        word = own.data
        if self.arch.counts_more:
            double = delayed(self.double, "double")
            m.d.comb += self.double_out.eq(double)
        if self.arch.bit_planes:
            word = Mux(double, own.data << 1, own.data)
        m.d.sync += held.eq(Mux(first, 0, word))

        # With the sum:
        adds = delayed(valid, "adds")
        writes, number = delayed(enable, "enable_then"), self.sum
        given = self.given
        late = given is not None and given.late
        if given is not None and late:
            number = Signal(signed(self.arch.scaled_bits), name="number")
            m.d.comb += number.eq(given.number(self.sum))
        if self.arch.float_sums:
            self._add_floats(m, held, number, write)
            m.d.sync += [write.en.eq(writes & (adds | delayed(first, "first_then"))),
                         write.addr.eq(delayed(address, "address_then"))]
            with m.If(~adds):
                m.d.sync += write.data.eq(0)
            return m
        total = Signal(signed(bits + 1 + self.arch.bit_planes))
        if self.arch.wide_weights:
            number = Mux(delayed(double, "double_then"), self.sum << self.arch.weight.width,
                         self.sum)
        if self.arch.bit_planes:
            number = Mux(adds, self.sum, 0)
        else:
            # Padding that is the first writes zero, by the register's reset; other padding nothing.
            writes = writes & (adds | delayed(first, "first_then"))
        m.d.comb += total.eq(add_number(held, number, len(total)) if late else number + held)
        m.d.sync += [write.en.eq(writes), write.addr.eq(delayed(address, "address_then"))]
        if self.arch.accumulator is None:
            m.d.sync += write.data.eq(total)
        else:
            over = total[bits - 1:]
            with m.If(over.all() | ~over.any()):
                m.d.sync += write.data.eq(total)
            with m.Else():
                m.d.sync += write.data.eq(Mux(total[-1], -(1 << (bits - 1)), (1 << (bits - 1)) - 1))
        if not self.arch.bit_planes:
            with m.If(~adds):
                m.d.sync += write.data.eq(0)
        return m

    def _add_floats(self, m, held, number, write):
        """The sum, rounded, is added to the word that is held, as floats."""
        m.submodules.to_float = rounds = ToFloat(
            FLOAT_SUMS, self.arch.scaled_bits, FLOAT_SUMS.exponent)
        m.submodules.adder = adder = FloatAdder(FLOAT_SUMS)
        chunk = Signal(FLOAT_SUMS.width, reset_less=True)
        m.d.comb += [rounds.image.eq(number), adder.a.eq(held), adder.b.eq(chunk)]
        m.d.sync += [chunk.eq(rounds.o), write.data.eq(adder.o)]


def integer_of(m: Module, code: Value, bits: int) -> Signal:
    """A signed integer of so many bits from a code of `FLOAT_SUMS`, in steps of sums."""
    man = FLOAT_SUMS.man
    fraction, field = code[:man], code[man:FLOAT_SUMS.width - 1]
    normal = Signal()
    places = Signal.like(field)
    magnitude = Signal(bits)
    number = Signal(signed(bits))
    m.d.comb += [normal.eq(field.any()), places.eq(field - normal),
                 magnitude.eq(Cat(fraction, normal) << places),
                 number.eq(Mux(code[FLOAT_SUMS.width - 1], -magnitude, magnitude))]
    return number

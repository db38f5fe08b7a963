"""Sums that are not exact, smaller than exact ones: a narrowed window, chunks of short floats.

The order of summation is part of their definition; `sim/model/narrow_sums.py` has their golden
models.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.formats import Float
from systolith.hw.spec.lfsr import Lfsr

from .arithmetic import Arithmetic, Operands
from .float_add import FloatAdder, lfsr_after

__all__ = ["ChunkedAccumulator", "Windowed"]


class Windowed(Arithmetic):
    """Partial sums without their lowest bits, saturating at top and bottom.

    An element's dot product is exact, over all of its lanes. Its `cut` lowest bits are dropped,
    which rounds toward minus infinity, and adding it to the partial sum saturates to `bits` bits.
    So rows are summed from the top down; `total` has zeros for the bits that were cut.

    Parameters
    ----------
    inner : Arithmetic
        Gives the dot products; with terms = lanes it is no wider than they are.
    cut : int
        Lowest bits that every partial sum loses, at least 0.
    bits : int
        Width of a partial sum, at least 2.
    registered : bool
        A pipeline stage of its own for the addition.
    """

    def __init__(self, inner: Arithmetic, cut: int, bits: int, *,
                 registered: bool = False) -> None:
        if cut < 0 or bits < 2:
            raise ValueError(f"a window must cut at least 0 bits and have at least 2, not cut="
                             f"{cut!r}, bits={bits!r}")
        self.inner = inner
        self.cut = cut
        self.registered = registered
        self.fast_stages = inner.fast_stages + 1
        self.most_stages = inner.most_stages + 1
        super().__init__(inner.activation, inner.weight, inner.lanes, inner.terms,
                         structure=inner.structure, stages=inner.stages + registered)
        self.activation_bits = inner.activation_bits
        self.weight_bits = inner.weight_bits
        self.sum_bits = cut + bits
        self.psum_bits = bits
        self.psum_scale = cut

    def decode_activation(self, m: Module, codes: Value) -> Value:
        return self.inner.decode_activation(m, codes)

    def decode_weight(self, m: Module, codes: Value) -> Value:
        return self.inner.decode_weight(m, codes)

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        inner = self.inner
        own = Signal(signed(inner.psum_bits), name="own")
        head = Const(inner.head(1), signed(inner.psum_bits))
        m.d.comb += own.eq(inner.accumulate(m, operands, head))
        if self.registered:
            own = operands.register(own, "own_stage")
        term = inner.total(own, 1) >> self.cut
        total = Signal(signed(max(len(term), self.psum_bits) + 1), name="total")
        m.d.comb += total.eq(psum + term)
        largest = (1 << (self.psum_bits - 1)) - 1
        fits = total[self.psum_bits - 1:].all() | ~total[self.psum_bits - 1:].any()
        return Mux(fits, total, Mux(total[-1], ~largest, largest))

    def total(self, psum: Value, rows: int) -> Value:
        return Cat(Const(0, self.cut), psum).as_signed()


class ChunkedAccumulator(wiring.Component):
    """Sums of short floats, in chunks: one adder, one term a cycle, nothing stalls.

    Terms are added to the sum of their chunk; each complete chunk is added to the sum of the
    chunks before it. Both need the same adder and never in the same cycle: a chunk's sum starts
    as its first term, and in that cycle, or an idle one, the chunk before is added.

    Short chunks lose less than one long sum, in which terms are lost once the sum is so large that
    they are less than half of its last place (Wang et al., arXiv 1812.08011).

    Parameters
    ----------
    format : Float
        The format of terms and sums; see `FloatAdder`.
    chunk : int or None
        Terms in a chunk; the last chunk of a sum may be shorter. None: one chunk.
    rounding : str
        One of `float_add.ROUNDINGS`.
    seed : int or None
        State of the `Lfsr` with which every sum begins, not 0; with stochastic rounding only.
        Each addition takes a number, first those inside a chunk, then the chunk's own.

    Members
    -------
    term : In(format.width)
        A code.
    valid, last : In(1)
        A term comes; it is the last one of its sum.
    sum : Out(format.width)
    sum_valid : Out(1)
        `sum` is the sum whose last term came two cycles before.
    inner, total : Out(format.width)
        The registers: the sum of a chunk's terms, and of the chunks before.
    """

    def __init__(self, format: Float, chunk: int | None = None, rounding: str = "even",
                 seed: int | None = None) -> None:
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1 or None, not {chunk!r}")
        if (rounding == "stochastic") != (seed is not None):
            raise ValueError("stochastic rounding needs a seed, the others have none: rounding is "
                             f"{rounding!r}, seed is {seed!r}")
        if seed is not None and not 0 < seed < 1 << Lfsr.WIDTH:
            raise ValueError(f"seed must be from 1 to 2**{Lfsr.WIDTH} - 1, not {seed!r}")
        self.adder = FloatAdder(format, rounding)
        self.chunk = chunk
        self.seed = seed
        super().__init__({
            "term": In(format.width), "valid": In(1), "last": In(1),
            "sum": Out(format.width), "sum_valid": Out(1),
            "inner": Out(format.width), "total": Out(format.width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adder = adder = self.adder
        first = Signal(init=1)          # the next term begins a chunk
        complete = Signal()             # the term ends one
        chunk_done = Signal()           # `inner` is a chunk that is not in `total` yet
        sum_done = Signal()             # and it is the last one
        m.d.comb += [
            complete.eq(self.last),
            adder.a.eq(Mux(chunk_done, self.total, self.inner)),
            adder.b.eq(Mux(chunk_done, self.inner, self.term)),
        ]
        if self.chunk is not None:
            count = Signal(range(self.chunk))
            with m.If(self.valid):
                m.d.sync += count.eq(Mux(complete, 0, count + 1))
            m.d.comb += complete.eq(self.last | (count == self.chunk - 1))

        with m.If(self.valid):
            m.d.sync += [self.inner.eq(Mux(first, self.term, adder.o)), first.eq(complete)]
        m.d.sync += [chunk_done.eq(self.valid & complete), sum_done.eq(self.valid & self.last),
                     self.sum_valid.eq(sum_done)]
        with m.If(chunk_done):
            m.d.sync += [self.total.eq(Mux(sum_done, 0, adder.o)), self.sum.eq(adder.o)]

        if self.seed is not None:
            state = Signal(Lfsr.WIDTH, init=self.seed)
            m.d.comb += adder.random.eq(state)
            with m.If(sum_done):
                m.d.sync += state.eq(self.seed)
            with m.Elif(chunk_done | (self.valid & ~first)):
                m.d.sync += state.eq(lfsr_after(state))
        return m

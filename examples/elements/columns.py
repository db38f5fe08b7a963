"""Columns with sums that `systolith build` does not have: Verilog, and a check in the simulator.

`python columns.py NAME... [-o DIR]` takes any of the names below (without one: all), writes
DIR/NAME.v and plays random numbers, which must come out of Verilator as the golden model says:

- mx: dot products of MX numbers (e2m1 in blocks of 32, an E8M0 scale each), exact in a block;
- pool: weights from a pool of 64 vectors of 8, activations bit by bit;
- window: int8 products without their 5 lowest bits, in sums of 11 bits that saturate;
- chunks: 65,536 terms in DLFloat (1-6-9), added one by one and in chunks of 64.
"""

import argparse
from pathlib import Path

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.core.blocks import emit
from systolith.hw.element.column import Column
from systolith.hw.element.column_scale import BlockAccumulator, ColumnScale
from systolith.hw.element.element import arithmetic
from systolith.hw.element.narrow_sums import ChunkedAccumulator, Windowed
from systolith.hw.element.pools import Plane, PlaneAccumulator
from systolith.hw.formats import parse
from systolith.hw.formats.blocks import WeightPool, block_formats
from systolith.sim.model.narrow_sums import bit_planes, block_sums, chunked_sum, windowed
from systolith.sim.rtl.players import play

ROWS, LANES = 8, 4
BLOCK = ROWS * LANES


class Accumulated(wiring.Component):
    """A column with an accumulator below it, whose other inputs come with the codes `a` and `w`.

    total: from `latency` cycles after the codes on.
    """

    def __init__(self, column, accumulator):
        self.column, self.accumulator = column, accumulator
        self.latency = column.latency + 1
        self.flags = [name for name, member in accumulator.signature.members.items()
                      if member.flow == In and name != "sum"]
        super().__init__({
            "a": In(len(column.a)), "w": In(len(column.w)),
            **{name: In(len(getattr(accumulator, name))) for name in self.flags},
            "total": Out(accumulator.total.shape())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.column, m.submodules.accumulator = self.column, self.accumulator
        m.d.comb += [self.column.a.eq(self.a), self.column.w.eq(self.w),
                     self.accumulator.sum.eq(self.column.total),
                     self.total.eq(self.accumulator.total)]
        for name in self.flags:
            value = getattr(self, name)
            for cycle in range(self.column.latency):
                before, value = value, Signal(len(value), name=f"{name}_{cycle}")
                m.d.sync += value.eq(before)
            m.d.comb += getattr(self.accumulator, name).eq(value)
        return m


def words(codes, width):
    """Codes [N, n] side by side, the first one lowest."""
    places = np.array([width * n for n in range(codes.shape[1])], object)
    return (codes.astype(object) << places).sum(axis=1)


def played_out(inputs, cycles):
    """The inputs, with as many idle cycles behind them."""
    return {name: np.append(values, [0] * cycles) for name, values in inputs.items()}


def signed(values, bits):
    return (np.asarray(values, object) ^ (1 << (bits - 1))) - (1 << (bits - 1))


def mx(random):
    form, blocks = block_formats()["mxfp4_e2m1"], 3
    rules = arithmetic(form.element, form.element, LANES, BLOCK, stages=1)
    window = {"activation_scale": form.scale, "weight_scale": form.scale,
              "sum_exponent": 2 * form.element.exponent, "exponent": -5, "bits": 32}
    circuit = Accumulated(Column(rules, ROWS), BlockAccumulator(
        ColumnScale(sum_bits=rules.sum_bits, **window)))

    values = random.normal(0, 1, (2, 200, blocks * BLOCK))
    (a, a_scales), (w, w_scales) = (form.encode(side) for side in values)
    inputs = {"a": words(a.reshape(-1, BLOCK), 4), "w": words(w.reshape(-1, BLOCK), 4),
              "activation_code": a_scales.ravel(), "weight_code": w_scales.ravel(),
              "valid": np.ones(200 * blocks), "first": np.arange(200 * blocks) % blocks == 0}

    def check(outputs):
        found = signed(outputs["total"][circuit.latency - 1:], 32).reshape(200, blocks)
        products = form.element.product_image(form.element, a, w)
        expected = block_sums(products.reshape(200, blocks, BLOCK).sum(axis=-1),
                              a_scales, w_scales, **window)
        assert (found == expected).all()
        exact = (form.decode(a, a_scales) * form.decode(w, w_scales)).sum(axis=1)
        off = abs(found[:, -1].astype(float) * 2.0 ** -5 - exact).max()
        assert off <= blocks * 2.0 ** -5
        return f"200 sums of {blocks} blocks; what the window cuts: at most {off:.1e}"
    return circuit, played_out(inputs, circuit.latency - 1), check


def pool(random):
    weights, pixels, bits = WeightPool(random.integers(-128, 128, (64, 8))), 200, 8
    rules = arithmetic(Plane(), weights, 1, ROWS, stages=1)
    circuit = Accumulated(Column(rules, ROWS), PlaneAccumulator(rules.sum_bits, bits))

    a = random.integers(-128, 128, (pixels, ROWS * 8))
    codes = random.integers(0, 64, (pixels, ROWS))
    planes = np.moveaxis(bit_planes(a, bits), 0, 1).reshape(pixels * bits, ROWS)
    first = np.arange(pixels * bits) % bits == 0
    inputs = {"a": words(planes, 8), "w": np.repeat(words(codes, weights.width), bits),
              "valid": np.ones(len(first)), "first": first, "negative": first}

    def check(outputs):
        totals = signed(outputs["total"][circuit.latency - 1:], len(circuit.total))
        expected = (a * weights.image(codes).reshape(pixels, -1)).sum(axis=1)
        assert (totals[bits - 1::bits] == expected).all()
        return f"{pixels} dot products of {ROWS * 8} in {bits} cycles each"
    return circuit, played_out(inputs, circuit.latency - 1), check


def window(random):
    int8, rows, lanes, cut, bits = parse("int8"), 4, 2, 5, 11
    circuit = Column(Windowed(arithmetic(int8, int8, lanes, lanes, stages=1), cut, bits), rows)
    a, w = random.integers(0, 256, (2, 500, rows * lanes))

    def check(outputs):
        found = signed(outputs["psum"][circuit.latency - 1:], bits)
        expected = windowed(int8.product_image(int8, a, w), rows, lanes, cut, bits)
        assert (found == expected).all()
        ended = (abs(2 * expected + 1) == (1 << bits) - 1).sum()
        return f"500 dot products of {rows * lanes}; {ended} ended at the window's top or bottom"
    return circuit, played_out({"a": words(a, 8), "w": words(w, 8)}, circuit.latency - 1), check


class NaiveAndChunked(wiring.Component):
    """The same terms in both: naive and chunked are codes of the sum, two cycles after `last`."""

    def __init__(self, form, chunk):
        self.form, self.chunk = form, chunk
        super().__init__({"term": In(form.width), "valid": In(1), "last": In(1),
                          "naive": Out(form.width), "chunked": Out(form.width)})

    def elaborate(self, platform):
        m = Module()
        for name, chunk in (("naive", None), ("chunked", self.chunk)):
            m.submodules[name] = sums = ChunkedAccumulator(self.form, chunk)
            m.d.comb += [sums.term.eq(self.term), sums.valid.eq(self.valid),
                         sums.last.eq(self.last), getattr(self, name).eq(sums.sum)]
        return m


def chunks(random):
    form, count, chunk = parse("dlfloat16"), 65536, 64
    terms = form.encode(random.triangular(0, 0, 3, count))      # positive, below 4, of mean 1
    inputs = {"term": terms, "valid": np.ones(count), "last": np.arange(count) == count - 1}

    def check(outputs):
        naive, chunked = (int(outputs[name][-1]) for name in ("naive", "chunked"))
        assert naive == chunked_sum(terms, form)
        assert chunked == chunked_sum(terms, form, chunk)
        exact = form.decode(terms).sum()
        naive, chunked = form.decode([naive, chunked]).tolist()
        return (f"{count} terms: exactly {exact:.0f}, one by one {naive:.0f}, in chunks of {chunk} "
                f"{chunked:.0f} ({100 * (chunked / exact - 1):+.2f} %)")
    return NaiveAndChunked(form, chunk), played_out(inputs, 1), check


EXAMPLES = {example.__name__: example for example in (mx, pool, window, chunks)}


def run(names, folder):
    """Write and check examples; a line of text for each. AssertionError where a bit differs."""
    made = [EXAMPLES[name](np.random.default_rng(8)) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    for name, (circuit, _, _) in zip(names, made, strict=True):
        (folder / f"{name}.v").write_text(emit(circuit, f"{name}_column"))
    outputs = play([circuit for circuit, _, _ in made], [inputs for _, inputs, _ in made])
    return [f"{name}: as the golden model; {check(found)}"
            for name, (_, _, check), found in zip(names, made, outputs, strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXAMPLES))
    parser.add_argument("-o", "--output", default="columns", type=Path, metavar="DIR")
    options = parser.parse_args()
    for name in options.names:
        if name not in EXAMPLES:
            parser.error(f"NAME must be one of {', '.join(EXAMPLES)}, not {name!r}")
    print(*run(options.names or list(EXAMPLES), options.output), sep="\n")

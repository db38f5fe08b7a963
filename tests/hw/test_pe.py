"""Processing elements in Verilated RTL, edge decoders included, one vector a clock.

All elements are compiled into one executable; each reads its vectors from a file of its own and
is compared with integers that numpy multiplies.
"""

import zlib

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from systolith.hw.formats import Bipolar, Float, parse
from systolith.hw.pe import ProcessingElement, arithmetic
from systolith.sim import verilate

EVERY_PAIR = [
    ("e3m2", "e3m2"), ("e4m3", "e4m3"), ("int4", "int4"), ("int8", "int8"), ("e2m1", "e2m1"),
    ("e5m2", "e5m2"), ("int4", "int8"), ("e2m3", "e3m2"), ("e4m3fn", "e3m4"), ("e3m0", "e2m3"),
    ("e4m3fnuz", "e1m0"), ("e1m2", "e4m0"), ("uint8", "int8"), ("int1", "uint3"),
]
SEVERAL_LANES = [
    ("int8", "int8", 3), ("e3m2", "e4m3", 2), ("e2m1", "e2m1", 5), ("int16", "int16", 2),
    ("uint2", "uint2", 7), ("e5m2", "e4m3b11fnuz", 4),
]
XNOR = [("bipolar1", "bipolar1", lanes) for lanes in
        (1, 2, 64, 70, *np.random.default_rng(3).integers(3, 64, 3).tolist())]
CASES = [(*pair, 1) for pair in EVERY_PAIR] + SEVERAL_LANES + XNOR


def case_name(case):
    return "{}_{}_{}".format(*case)


def parameters(case):
    activation, weight, lanes = case
    return {"activation": parse(activation), "weight": parse(weight), "lanes": lanes,
            "terms": 3 * lanes}


def stimulus_layout(case):
    activation, weight, lanes, _ = parameters(case).values()
    return data.StructLayout({
        "a": lanes * activation.width, "valid": 1, "w": lanes * weight.width, "load": 1,
        "swap": 1, "psum": signed(arithmetic(**parameters(case)).psum_bits)})


def response_layout(case):
    rules = arithmetic(**parameters(case))
    return data.StructLayout({
        "psum_out": signed(rules.psum_bits), "a_out": rules.activation_bits,
        "w_out": rules.weight_bits, "load_out": 1, "swap_out": 1,
        "a_decoded": rules.activation_bits, "w_decoded": rules.weight_bits})


def add_decoded_element(m, case, stimulus, response):
    """A processing element behind the edge decoders: codes in, everything that it gives out."""
    m.submodules[case_name(case)] = element = ProcessingElement(**parameters(case))
    rules = element.arithmetic
    m.d.comb += [
        response.a_decoded.eq(rules.decode_activation(m, stimulus.a, stimulus.valid)),
        response.w_decoded.eq(rules.decode_weight(m, stimulus.w)),
        element.a_in.eq(response.a_decoded), element.w_in.eq(response.w_decoded),
        element.load_in.eq(stimulus.load), element.swap_in.eq(stimulus.swap),
        element.psum_in.eq(stimulus.psum), response.psum_out.eq(element.psum_out),
        response.a_out.eq(element.a_out), response.w_out.eq(element.w_out),
        response.load_out.eq(element.load_out), response.swap_out.eq(element.swap_out),
    ]


#: Reads the vectors of one element, if its file is there, and writes what comes out. A vector is
#: applied at a falling edge; outputs are written at the next one, after the rising edge between.
PLAYER = """
module player_{name}(input clk, output reg done, output reg [{inputs}-1:0] stimulus,
                     input [{outputs}-1:0] response);
  integer source, sink, found;
  initial begin
    source = $fopen("{name}.in", "r");
    done = source == 0;
    if (!done) sink = $fopen("{name}.out", "w");
    found = 0;
  end
  always @(negedge clk) if (!done) begin
    if (found == 1) $fwrite(sink, "%h\\n", response);
    found = $fscanf(source, "%h", stimulus);
    if (found != 1) begin
      done <= 1;
      $fclose(sink);
    end
  end
endmodule
"""

#: One element between its player and its ports of `elements`.
CONNECTION = """
  wire [{inputs}-1:0] stimulus_{name};
  wire [{outputs}-1:0] response_{name};
  player_{name} player_{name}(clk, done[{number}], stimulus_{name}, response_{name});
"""

TOP = """
module players(input clk);
  wire [{count}-1:0] done;
  {connections}
  elements elements(.clk(clk), .rst(1'b0), {ports});
  always @(posedge clk) if (&done) $finish;
endmodule
"""

MAIN = """
#include "Vtop.h"
int main() {
  VerilatedContext context;
  Vtop top{&context};
  while (!context.gotFinish()) { top.clk = !top.clk; top.eval(); }
  top.final();
  return 0;
}
"""


@pytest.fixture(scope="module")
def executable():
    # One Verilog for all, since starting Amaranth's Yosys is what takes time.
    elements, signals, players, connections = Module(), [], [], []
    for number, case in enumerate(CASES):
        name = case_name(case)
        stimulus = Signal(stimulus_layout(case), name=f"stimulus_{name}")
        response = Signal(response_layout(case), name=f"response_{name}")
        add_decoded_element(elements, case, stimulus, response)
        signals += [stimulus.as_value(), response.as_value()]
        facts = {"name": name, "number": number, "inputs": stimulus.shape().size,
                 "outputs": response.shape().size}
        players.append(PLAYER.format(**facts))
        connections.append(CONNECTION.format(**facts))
    top = TOP.format(count=len(CASES), connections="".join(connections),
                     ports=", ".join(f".{signal.name}({signal.name})" for signal in signals))
    return verilate.build({
        "elements.v": verilog.convert(elements, name="elements", ports=signals,
                                      strip_internal_attrs=True),
        "players.v": "".join(players) + top, "main.cpp": MAIN}, "players")


def pack(codes, width):
    """Codes of all lanes (last axis) as one Python integer for each vector."""
    words = np.zeros(len(codes), object)
    for lane in range(codes.shape[1]):
        words |= codes[:, lane].astype(object) << (lane * width)
    return words


def play(executable, folder, case, a, valid, w, load, swap, psum):
    """Outputs after each vector, by name; psum_out as signed integers (object arrays)."""
    values = {"a": pack(a, parse(case[0]).width), "valid": valid,
              "w": pack(w, parse(case[1]).width), "load": load, "swap": swap, "psum": psum}
    vectors = np.zeros(len(a), object)
    for field, place in stimulus_layout(case):
        bits = np.asarray(values[field]).astype(object) & ((1 << place.width) - 1)
        vectors |= bits << place.offset
    name = case_name(case)
    (folder / f"{name}.in").write_text("".join(f"{vector:x}\n" for vector in vectors))
    verilate.run(executable, folder=folder, timeout=60)
    lines = (folder / f"{name}.out").read_text().split()
    assert len(lines) == len(vectors) > 0
    words = np.array([int(line, 16) for line in lines], object)
    results = {field: words >> place.offset & ((1 << place.width) - 1)
               for field, place in response_layout(case)}
    sign = 1 << (arithmetic(**parameters(case)).psum_bits - 1)
    results["psum_out"] = (results["psum_out"] ^ sign) - sign
    return results


def latest(events):
    """For each cycle the latest one, itself included, with an event; -1 where there was none."""
    return np.maximum.accumulate(np.where(events, np.arange(len(events)), -1))


def before(values, first):
    """Values of the cycle before; `first` in the first cycle."""
    return np.concatenate([[first], values[:-1]])


def check(executable, folder, case, a, valid, w, load, swap, psum):
    """Play vectors and compare all that leaves the element with what its docstring says."""
    activation, weight = parse(case[0]), parse(case[1])
    results = play(executable, folder, case, a, valid, w, load, swap, psum)

    # Indices of the vectors that the registers hold after each cycle.
    shadow = latest(load)
    swapped = latest(swap)
    active = np.where(swapped >= 0, before(shadow, -1)[swapped], -1)
    held = before(active, -1)

    dot = (activation.image(a).astype(object)[:-1]
           * weight.image(w).astype(object)[held[1:]]).sum(axis=1)
    expected = psum[1:] + np.where(valid[:-1], dot, 0)
    defined = held[1:] >= 0
    assert defined.sum() > 0.7 * len(defined)
    wrong = np.flatnonzero(defined & (results["psum_out"][1:] != expected))
    assert not len(wrong), (
        f"{len(wrong)} of {len(defined)} sums differ; vector {wrong[0]}: a={a[wrong[0]]} "
        f"valid={valid[wrong[0]]} w={w[held[wrong[0] + 1]]} psum={psum[wrong[0] + 1]}: "
        f"{results['psum_out'][wrong[0] + 1]} instead of {expected[wrong[0]]}")

    assert (results["load_out"] == load).all()
    assert (results["swap_out"] == swap).all()
    assert (results["a_out"] == results["a_decoded"]).all()
    loaded = shadow >= 0
    assert (results["w_out"][loaded] == results["w_decoded"][shadow[loaded]]).all()


def finite_codes(fmt):
    codes = np.arange(1 << fmt.width)
    return codes[np.isfinite(fmt.decode(codes))]


def random_psums(random, case, count, terms):
    """Sums of `terms` products: any that may come from above, the extremes among them."""
    activation, weight = parse(case[0]), parse(case[1])
    products = [x * y for x in activation.image_range for y in weight.image_range]
    low, high = min(0, *products) * terms, max(0, *products) * terms
    fractions = random.integers(0, 1 << 62, count).astype(object)
    psums = low + fractions * (high - low) // ((1 << 62) - 1)
    extreme = random.random(count)
    psums[extreme < 0.1] = low
    psums[extreme > 0.9] = high
    return psums


def random_of(case):
    return np.random.default_rng(zlib.crc32(case_name(case).encode()))


@pytest.mark.parametrize("case", CASES[:len(EVERY_PAIR)], ids=case_name)
def test_every_pair_of_operands(executable, tmp_path, case):
    random = random_of(case)
    activations, weights = (finite_codes(parse(name)) for name in case[:2])
    for fmt, codes in ((parse(case[0]), activations), (parse(case[1]), weights)):
        special = isinstance(fmt, Float) and fmt.special != "none"
        assert special or len(codes) == 1 << fmt.width

    # Every activation with each weight in turn; the next weight is loaded at a random moment of
    # the stream before and swapped in with its own first activation. The first run only loads.
    runs, length = len(weights) + 1, len(activations)
    streams = np.stack([random.permutation(activations) for _ in range(runs)])
    load, swap = np.zeros((2, runs, length), bool)
    load[np.arange(runs - 1), random.integers(0, length, runs - 1)] = True
    swap[1:, 0] = True
    w = random.choice(weights, (runs, length))
    w[:-1][load[:-1]] = random.permutation(weights)
    count = runs * length
    check(executable, tmp_path, case, streams.reshape(count, 1), np.ones(count, bool),
          w.reshape(count, 1), load.reshape(count), swap.reshape(count),
          random_psums(random, case, count, 2))


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_random_lanes_flags_and_invalid_activations(executable, tmp_path, case):
    activation, weight, lanes = parse(case[0]), parse(case[1]), case[2]
    random, count = random_of(case), 3000
    a = random.choice(finite_codes(activation), (count, lanes))
    w = random.choice(finite_codes(weight), (count, lanes))
    if isinstance(activation, Bipolar):
        a[::7], w[::3], w[1::3] = 1, 1, 0
        a[3::7] = 0
    load, swap = random.random(count) < 0.3, random.random(count) < 0.3
    load[0], swap[1] = True, True
    valid = random.random(count) < 0.7
    assert (load & swap).any() and (swap & ~valid).any()
    check(executable, tmp_path, case, a, valid, w, load, swap,
          random_psums(random, case, count, 2 * lanes))


def test_weights_hold_while_others_are_loaded(executable, tmp_path):
    case = ("int8", "int8", 1)
    #        load 5   swap    load 7          swap+load 9      swap
    load = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0], bool)
    swap = np.array([0, 1, 0, 0, 0, 1, 0, 1, 0], bool)
    w = np.array([5, 0, 7, 0, 0, 9, 0, 0, 0])[:, None]
    a = np.array([1, 1, 1, 2, 3, 1, 2, 1, 2])[:, None]
    psum = np.zeros(len(a), object)
    psum[-1] = 100
    results = play(executable, tmp_path, case, a, np.ones(len(a), bool), w, load, swap, psum)
    assert results["psum_out"][2:].tolist() == [5, 5, 10, 15, 7, 14, 109]
    assert results["w_out"].tolist() == [5, 5, 7, 7, 7, 9, 9, 9, 9]


def test_no_register_has_a_reset():
    element = ProcessingElement(activation=parse("int4"), weight=parse("int4"), lanes=2, terms=8)
    assert "if (rst)" not in verilog.convert(element)


@pytest.mark.parametrize("activation,weight,message", [
    ("int8", "e4m3", "one family .float, int, bipolar., not int8 and e4m3"),
    ("bipolar1", "int8", "one family"),
    ("bipolar2", "bipolar1", "must be bipolar1, not bipolar2"),
    ("e4m3", "e8m0fnu", "must be signed, not e8m0fnu"),
])
def test_formats_without_products_are_refused(activation, weight, message):
    with pytest.raises(ValueError, match=message):
        arithmetic(parse(activation), parse(weight), 1, 1)

# amaranth: UnusedElaboratable=no
"""Narrowed windows, float adders and chunked sums in Verilated RTL against their golden models."""

import zlib

import numpy as np
import pytest
from systolith.hw.element.column import Column
from systolith.hw.element.element import arithmetic
from systolith.hw.element.float_add import FloatAdder, ToFloat
from systolith.hw.element.narrow_sums import ChunkedAccumulator, Windowed
from systolith.hw.formats import parse
from systolith.hw.spec.lfsr import RANDOM_BITS
from systolith.sim.model import narrow_sums
from systolith.sim.rtl.players import play

DLFLOAT = parse("dlfloat16")
SEED = 0x1234567
TERMS = 65536

ADDERS = {f"add {name} {rounding}": FloatAdder(parse(name), rounding)
          for name, rounding in (("e4m3fn", "even"), ("e4m3b11dlfloat", "even"), ("e3m2", "away"),
                                 ("e5m2dl", "zero"), ("e3m4ieee", "stochastic"),
                                 ("dlfloat16", "even"), ("dlfloat16", "away"),
                                 ("dlfloat16", "stochastic"), ("e5m10ieee", "zero"))}
# With units above and below the lowest one of the results.
IMAGES = {f"image {name} {rounding}": ToFloat(parse(name), bits, exponent, rounding)
          for name, rounding, bits, exponent in (
              ("dlfloat16", "even", 40, -18), ("dlfloat16", "away", 53, -52),
              ("e4m3dl", "zero", 24, -20), ("e3m2", "even", 30, 0),
              ("e5m2", "stochastic", 40, -30))}
CHUNKED = {
    "chunks of 5": ChunkedAccumulator(DLFLOAT, 5, "away"),
    "chunks of 1": ChunkedAccumulator(DLFLOAT, 1),
    "chunks of 7": ChunkedAccumulator(DLFLOAT, 7, "stochastic", SEED),
    "chunks of 3": ChunkedAccumulator(parse("e4m3"), 3, "zero"),
}
MANY = {"naive of many": ChunkedAccumulator(DLFLOAT),
        "chunks of many": ChunkedAccumulator(DLFLOAT, 64)}


def column(activation, weight, lanes, rows, cut, bits, **options):
    inner = arithmetic(parse(activation), parse(weight), lanes, lanes, stages=1)
    return Column(Windowed(inner, cut, bits, **options), rows)


WINDOWS = {
    # A product of int3 x int3 has 5 bits and a sign: every cut there is.
    **{f"window int3 cut {cut}": column("int3", "int3", 1, 3, cut, 4) for cut in range(7)},
    "window e4m3": column("e4m3", "e4m3", 1, 4, 16, 20),
    "window e4m3, registered": column("e4m3", "e4m3", 1, 4, 24, 12, registered=True),
    "window int8, 3 lanes": column("int8", "int8", 3, 3, 5, 12),
    "window int4 x uint8, 2 bits": column("int4", "uint8", 1, 5, 9, 2),
    "window e3m2, 2 lanes, wide": column("e3m2", "e3m2", 2, 2, 3, 40),
    "window bipolar": column("bipolar1", "bipolar1", 9, 3, 1, 4),
}


def random_of(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def adder_inputs(name):
    """Pairs of codes: all of short formats; of long ones any, near ones and neighbours of 0."""
    format, random = ADDERS[name].format, random_of(name)
    codes = format.finite_codes()
    if format.width <= 8:
        a, b = (side.ravel() for side in np.meshgrid(codes, codes))
    else:
        a, b = random.choice(codes, (2, 20000))
        magnitude = (1 << (format.width - 1)) - 1
        near = np.clip((a & magnitude) + random.integers(-3000, 3000, len(a)), 0, format.max_code)
        b = np.where(random.random(len(a)) < 0.7, near | (b & ~magnitude), b)
        small = random.random(len(a)) < 0.1
        a, b = (np.where(small, side & (~magnitude | 1023), side) for side in (a, b))
    if ADDERS[name].rounding != "stochastic":
        return {"a": a, "b": b}
    return {"a": a, "b": b, "random": random.integers(0, 1 << RANDOM_BITS, len(a))}


def image_inputs(name):
    """Random images of all sizes, numbers of the format, and the middles between them."""
    component, random = IMAGES[name], random_of(name)
    format, bits = component.format, len(component.image)
    assert bits <= 53                                   # float64 holds every image
    sizes = random.integers(0, bits, 20000)
    images = random.integers(-1 << 62, 1 << 62, len(sizes)) >> (63 - sizes)
    near = random.choice(format.finite_codes(), 10000)
    scaled = np.ldexp(format.decode(near), -component.exponent)
    scaled += random.integers(-1, 2, len(near)) * np.ldexp(
        1.0, np.frexp(scaled)[1] - format.man - 2)
    images[:len(near)] = np.clip(scaled, -2.0 ** (bits - 1), 2.0 ** (bits - 1) - 1)
    images[-1] = -1 << (bits - 1)
    if component.rounding != "stochastic":
        return {"image": images}
    return {"image": images, "random": random.integers(0, 1 << RANDOM_BITS, len(images))}


def chunk_inputs(name):
    """Sums of 1 to 60 terms, with idle cycles between terms."""
    format, random = CHUNKED[name].adder.format, random_of(name)
    lengths = [1, 2, *random.integers(1, 60, 40).tolist()]
    terms = random.choice(format.finite_codes(), sum(lengths))
    terms[::2] = format.encode(random.normal(0, 1, len(terms[::2])))
    valid = np.ones(len(terms) + 200, bool)
    valid[random.choice(len(valid), 200, replace=False)] = False
    valid = np.append(valid, [False] * 3)
    ends = np.zeros(len(terms), bool)
    ends[np.cumsum(lengths) - 1] = True
    last, codes = np.zeros(len(valid), bool), random.integers(0, 1 << 16, len(valid))
    codes[valid], last[valid] = terms, ends
    return {"term": codes, "valid": valid, "last": last}


def many_inputs(name):
    # Of mean 1, below 4: from 4,096 on they are less than half of a sum's last place.
    terms = DLFLOAT.encode(np.random.default_rng(8).triangular(0, 0, 3, TERMS))
    place = np.arange(TERMS + 2)
    return {"term": np.append(terms, [0, 0]), "valid": place < TERMS, "last": place == TERMS - 1}


def column_codes(name):
    """Codes [N, rows * lanes] of activations and weights: any, and the largest in all rows."""
    rules, random = WINDOWS[name].rules, random_of(name)
    codes = []
    for format in (rules.activation, rules.weight):
        some = random.choice(format.finite_codes(), (1500, WINDOWS[name].rows * rules.lanes))
        extremes = format.encode(np.array([np.inf, -np.inf]))
        some[:500] = random.choice(extremes, (500, 1))
        some[500:1000:2] = random.choice(extremes, some[500:1000:2].shape)
        codes.append(some)
    return codes


def column_inputs(name):
    rules = WINDOWS[name].rules
    words = {}
    for port, codes, format in zip("aw", column_codes(name), (rules.activation, rules.weight),
                                   strict=True):
        places = [format.width * n for n in range(codes.shape[1])]
        words[port] = (codes.astype(object) << np.array(places, object)).sum(axis=1)
        words[port] = np.append(words[port], [0] * (WINDOWS[name].latency - 1))
    return words


@pytest.fixture(scope="module")
def played():
    """Everything that is simulated here, in one executable: name -> (inputs, outputs)."""
    inputs_of = {name: (component, make(name)) for cases, make in (
        (ADDERS, adder_inputs), (IMAGES, image_inputs), (CHUNKED, chunk_inputs),
        (MANY, many_inputs), (WINDOWS, column_inputs)) for name, component in cases.items()}
    outputs = play(*map(list, zip(*inputs_of.values(), strict=True)))
    return {name: (inputs, found)
            for (name, (_, inputs)), found in zip(inputs_of.items(), outputs, strict=True)}


@pytest.mark.parametrize("name", ADDERS)
def test_adder(played, name):
    format, rounding = ADDERS[name].format, ADDERS[name].rounding
    inputs, found = played[name]
    found = found["o"]
    x, y = format.decode(inputs["a"]), format.decode(inputs["b"])
    if rounding == "stochastic":
        expected = format.encode(narrow_sums.rounded(
            narrow_sums.odd_sum(x, y), format, rounding, inputs["random"]))
    else:
        # Of operands of 11 bits float64 holds the sum, or a neighbour on the same side of a tie.
        expected = format.encode(x + y + 0.0, rounding)
    expected[format.decode(expected) == 0] = 0
    wrong = np.flatnonzero(found != expected)
    assert not len(wrong), (f"{len(wrong)} of {len(x)}: {x[wrong[0]]} + {y[wrong[0]]} is "
                            f"{format.decode(found[wrong[0]])}, not "
                            f"{format.decode(expected[wrong[0]])}")
    assert len(np.unique(found)) > min(len(format.finite_codes()), len(found)) // 3


@pytest.mark.parametrize("name", IMAGES)
def test_images_to_floats(played, name):
    component = IMAGES[name]
    format, rounding = component.format, component.rounding
    inputs, found = played[name]
    values = np.ldexp(inputs["image"].astype(np.float64), component.exponent)
    expected = narrow_sums.rounded(values, format, rounding, inputs.get("random"))
    assert (found["o"] == format.encode(expected)).all()
    if rounding != "stochastic":
        assert (expected == format.decode(format.encode(values, rounding))).all()


@pytest.mark.parametrize("name", CHUNKED)
def test_chunked_sums_in_every_step(played, name):
    component = CHUNKED[name]
    format, rounding = component.adder.format, component.adder.rounding
    inputs, found = played[name]
    valid, terms = inputs["valid"], inputs["term"][inputs["valid"]]
    ends = np.flatnonzero(inputs["last"][valid]) + 1
    inside, totals, sums, chunk_ends = [], [], [], []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        steps, chunks = narrow_sums.chunked_sums(terms[start:end], format, component.chunk,
                                                  rounding, component.seed)
        inside.append(steps)
        totals.append(np.append(chunks[:-1], 0))        # 0 is what the last one leaves
        sums.append(chunks[-1])
        chunk = component.chunk or end - start
        chunk_ends += [min(n + chunk, end) - 1 for n in range(start, end, chunk)]
    assert (format.decode(found["inner"][valid]) == np.concatenate(inside)).all()
    after = np.flatnonzero(valid)[chunk_ends] + 1
    assert (format.decode(found["total"][after]) == np.concatenate(totals)).all()
    done = np.flatnonzero(found["sum_valid"])
    assert (done == np.flatnonzero(inputs["last"]) + 1).all()
    assert (found["sum"][done] == format.encode(np.array(sums))).all()


@pytest.mark.parametrize("name", MANY)
def test_many_positive_terms(played, name):
    inputs, found = played[name]
    terms = inputs["term"][:TERMS]
    inside, totals = narrow_sums.chunked_sums(terms, DLFLOAT, MANY[name].chunk)
    assert (DLFLOAT.decode(found["inner"][:TERMS]) == inside).all()
    assert found["sum_valid"].tolist() == [0] * TERMS + [1, 0]
    total, exact = DLFLOAT.decode(found["sum"][TERMS]), DLFLOAT.decode(terms).sum()
    assert total == totals[-1]
    if MANY[name].chunk is None:
        assert total == 4096
    else:
        assert abs(total / exact - 1) < 0.004


@pytest.mark.parametrize("name", WINDOWS)
def test_window(played, name):
    component, (_, found) = WINDOWS[name], played[name]
    rules = component.rules
    a, w = column_codes(name)
    products = rules.activation.product_image(rules.weight, a, w)
    expected = narrow_sums.windowed(products, component.rows, rules.lanes, rules.cut,
                                     rules.psum_bits)
    for port, scale in (("psum", 0), ("total", rules.cut)):
        sign = 1 << (len(getattr(component, port)) - 1)
        sums = (found[port][component.latency - 1:] ^ sign) - sign
        assert (sums == expected << scale).all(), port
    low, high = -(1 << (rules.psum_bits - 1)), (1 << (rules.psum_bits - 1)) - 1
    reaches = {low, high} <= set(expected.tolist())
    bound = rules.activation.product_bound(rules.weight) * rules.lanes * component.rows
    assert reaches or bound >> rules.cut <= high


@pytest.mark.parametrize("arguments, message", [
    (("e3m2flush", "even"), "radix 2 with a mantissa and with lowest .subnormal. or .dlfloat."),
    (("e3m0", "even"), "with a mantissa"), (("e3m2r4", "even"), "radix 2"),
    (("e3m2", "log"), "rounding must be one of even, away, zero, stochastic, not 'log'"),
])
def test_formats_that_are_not_added(arguments, message):
    with pytest.raises(ValueError, match=message):
        FloatAdder(parse(arguments[0]), arguments[1])


@pytest.mark.parametrize("arguments, message", [
    ((0,), "chunk must be at least 1 or None, not 0"),
    ((8, "stochastic"), "stochastic rounding needs a seed"), ((8, "even", 1), "have none"),
    ((8, "stochastic", 0), "seed must be from 1 to"),
])
def test_options_of_chunks_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChunkedAccumulator(DLFLOAT, *arguments)


@pytest.mark.parametrize("cut, bits", [(-1, 8), (0, 1)])
def test_windows_that_make_no_sense(cut, bits):
    with pytest.raises(ValueError, match=f"not cut={cut}, bits={bits}"):
        column("int4", "int4", 1, 1, cut, bits)

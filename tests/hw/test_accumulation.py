"""Narrowed windows, float adders and chunked sums in Verilated RTL against their golden models."""

import numpy as np
import pytest
from systolith.hw.accumulation import ChunkedAccumulator
from systolith.hw.float_add import RANDOM_BITS, FloatAdder, ToFloat
from systolith.hw.formats import parse
from systolith.sim import accumulation

from .players import Players

DLFLOAT = parse("dlfloat16")
SEED = 0x1234567
TERMS = 65536

ADDERS = {f"add_{name}_{rounding}": FloatAdder(parse(name), rounding)
          for name, rounding in (("e4m3fn", "even"), ("e5m2", "away"), ("e4m3b11dlfloat", "even"),
                                 ("e3m2", "zero"), ("e2m5dl", "away"), ("e5m2dl", "zero"),
                                 ("e3m4ieee", "stochastic"), ("e4m3dl", "stochastic"),
                                 ("dlfloat16", "even"), ("dlfloat16", "away"),
                                 ("dlfloat16", "stochastic"), ("e5m10ieee", "even"))}
# Products of e4m3 and of e5m2 have units above and below the lowest one of the results.
IMAGES = {f"image_{name}_{rounding}_{bits}_{-exponent}":
          ToFloat(parse(name), bits, exponent, rounding)
          for name, rounding, bits, exponent in (
              ("dlfloat16", "even", 40, -18), ("dlfloat16", "away", 53, -52),
              ("e4m3", "even", 20, -9), ("e4m3dl", "zero", 24, -20), ("e3m2", "even", 30, 0),
              ("e5m2", "stochastic", 40, -30), ("dlfloat16", "stochastic", 50, -48))}
CHUNKED = {
    "naive": ChunkedAccumulator(DLFLOAT),
    "chunked_64": ChunkedAccumulator(DLFLOAT, 64),
    "chunked_5_away": ChunkedAccumulator(DLFLOAT, 5, "away"),
    "chunked_1": ChunkedAccumulator(DLFLOAT, 1),
    "chunked_7_random": ChunkedAccumulator(DLFLOAT, 7, "stochastic", SEED),
    "chunked_3_e4m3": ChunkedAccumulator(parse("e4m3"), 3, "zero"),
}


@pytest.fixture(scope="module")
def players():
    return Players(ADDERS | IMAGES | CHUNKED)


def finite_codes(format):
    codes = np.arange(1 << format.width)
    return codes[np.isfinite(format.decode(codes))]


def operands(format, random):
    """Pairs of codes: all of short formats; of long ones any, near ones and neighbours of 0."""
    codes = finite_codes(format)
    if format.width <= 8:
        return [side.ravel() for side in np.meshgrid(codes, codes)]
    a, b = random.choice(codes, (2, 40000))
    magnitude = (1 << (format.width - 1)) - 1
    near = np.clip((a & magnitude) + random.integers(-3000, 3000, len(a)), 0, format.max_code)
    b = np.where(random.random(len(a)) < 0.7, near | (b & ~magnitude), b)
    small = random.random(len(a)) < 0.1
    return np.where(small, a & ~magnitude | a & 1023, a), np.where(small, b & ~magnitude | b & 1023,
                                                                   b)


@pytest.mark.parametrize("name", ADDERS)
def test_adder(players, tmp_path, name):
    format, rounding = ADDERS[name].format, ADDERS[name].rounding
    random = np.random.default_rng(len(name))
    a, b = operands(format, random)
    numbers = random.integers(0, 1 << RANDOM_BITS, len(a))
    inputs = {"random": numbers} if rounding == "stochastic" else {}
    found = players.play(tmp_path, name, a=a, b=b, **inputs)["o"]
    x, y = format.decode(a), format.decode(b)
    if rounding == "stochastic":
        total = accumulation.rounded(accumulation._odd_sum(x, y), format, rounding, numbers)
        expected = format.encode(total)
    else:
        # Of operands of 11 bits float64 holds the sum, or a neighbour on the same side of a tie.
        expected = format.encode(x + y + 0.0, rounding)
    expected[format.decode(expected) == 0] = 0
    wrong = np.flatnonzero(found != expected)
    assert not len(wrong), (f"{len(wrong)} of {len(a)}: {x[wrong[0]]} + {y[wrong[0]]} is "
                            f"{format.decode(found[wrong[0]])}, not "
                            f"{format.decode(expected[wrong[0]])}")
    assert len(np.unique(found)) > len(finite_codes(format)) // 3


@pytest.mark.parametrize("name", IMAGES)
def test_images_to_floats(players, tmp_path, name):
    component = IMAGES[name]
    format, bits = component.format, len(component.image)
    assert bits <= 53                                   # float64 holds every image
    random = np.random.default_rng(bits)
    sizes = random.integers(0, bits, 20000)
    images = random.integers(-1 << 62, 1 << 62, len(sizes)) >> (63 - sizes)
    near = random.choice(finite_codes(format), 10000)   # numbers, and the middle between them
    scaled = np.ldexp(format.decode(near), -component.exponent)
    scaled += random.integers(-1, 2, len(near)) * np.ldexp(
        1.0, np.frexp(scaled)[1] - format.man - 2)
    images[:len(near)] = np.clip(scaled, -2.0 ** (bits - 1), 2.0 ** (bits - 1) - 1)
    images[-1] = -1 << (bits - 1)
    numbers = random.integers(0, 1 << RANDOM_BITS, len(images))
    inputs = {"random": numbers} if component.rounding == "stochastic" else {}
    found = players.play(tmp_path, name, image=images, **inputs)["o"]
    values = np.ldexp(images.astype(np.float64), component.exponent)
    expected = format.encode(accumulation.rounded(values, format, component.rounding, numbers))
    assert (found == expected).all()
    if component.rounding != "stochastic":
        by_format = format.encode(values + 0.0, component.rounding)
        assert (format.decode(found) == format.decode(by_format)).all()


def stream(terms, lengths, random, idle):
    """`terms` as sums of `lengths` terms, with idle cycles between; (term, valid, last, place)."""
    valid = np.ones(len(terms) + idle, bool)
    valid[random.choice(len(valid), idle, replace=False)] = False
    valid = np.append(valid, [False] * 3)
    ends = np.zeros(len(terms), bool)
    ends[np.cumsum(lengths) - 1] = True
    last, codes = np.zeros(len(valid), bool), random.integers(0, 1 << 16, len(valid))
    codes[valid], last[valid] = terms, ends
    return codes, valid, last


@pytest.mark.parametrize("name", CHUNKED)
def test_chunked_sums_in_every_step(players, tmp_path, name):
    component = CHUNKED[name]
    format, rounding = component.adder.format, component.adder.rounding
    random = np.random.default_rng(len(name))
    lengths = [1, 2, *random.integers(1, 60, 40).tolist()]
    terms = random.choice(finite_codes(format), sum(lengths))
    terms[::2] = format.encode(random.normal(0, 1, len(terms[::2])))
    codes, valid, last = stream(terms, lengths, random, 200)
    found = players.play(tmp_path, name, term=codes, valid=valid, last=last)
    inside, totals, ends, chunk_ends = [], [], [], []
    for start, length in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True):
        steps, sums = accumulation.chunked_sums(terms[start:start + length], format,
                                                component.chunk, rounding, component.seed)
        inside.append(steps)
        totals.append(np.append(sums[:-1], 0))          # what the last one leaves
        ends.append(sums[-1])
        step = component.chunk or length
        chunk_ends += [min(n + step, length) + start - 1 for n in range(0, length, step)]
    decode = format.decode
    assert (decode(found["inside"][valid]) == np.concatenate(inside)).all()
    at = np.flatnonzero(valid)[chunk_ends] + 1
    assert (decode(found["total"][at]) == np.concatenate(totals)).all()
    done = np.flatnonzero(found["done"])
    assert (done == np.flatnonzero(last) + 1).all()
    assert (decode(found["sum"][done]) == ends).all()
    assert (format.encode(np.array(ends)) == found["sum"][done]).all()


@pytest.mark.parametrize("name, stalls", [("naive", True), ("chunked_64", False)])
def test_many_positive_terms(players, tmp_path, name, stalls):
    # Of mean 1, below 4: from 4,096 on they are less than half of a sum's last place.
    terms = DLFLOAT.encode(np.random.default_rng(8).triangular(0, 0, 3, TERMS))
    found = players.play(tmp_path, name, term=np.append(terms, [0, 0]),
                         valid=np.arange(TERMS + 2) < TERMS, last=np.arange(TERMS + 2) == TERMS - 1)
    inside, totals = accumulation.chunked_sums(terms, DLFLOAT, CHUNKED[name].chunk)
    assert (DLFLOAT.decode(found["inside"][:TERMS]) == inside).all()
    assert found["done"].tolist() == [0] * TERMS + [1, 0]
    total, exact = DLFLOAT.decode(found["sum"][TERMS]), DLFLOAT.decode(terms).sum()
    assert total == totals[-1]
    if stalls:
        assert total == 4096
    else:
        assert abs(total / exact - 1) < 0.004


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("arguments, message", [
    (("e3m2flush", "even"), "radix 2 with a mantissa and with lowest .subnormal. or .dlfloat."),
    (("e3m0", "even"), "with a mantissa"), (("e3m2r4", "even"), "radix 2"),
    (("e3m2", "log"), "rounding must be one of even, away, zero, stochastic, not 'log'"),
])
def test_formats_that_are_not_added(arguments, message):
    with pytest.raises(ValueError, match=message):
        FloatAdder(parse(arguments[0]), arguments[1])


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_options_of_chunks_that_make_no_sense():
    with pytest.raises(ValueError, match="chunk must be at least 1 or None, not 0"):
        ChunkedAccumulator(DLFLOAT, 0)
    with pytest.raises(ValueError, match="stochastic rounding needs a seed"):
        ChunkedAccumulator(DLFLOAT, 8, "stochastic")
    with pytest.raises(ValueError, match="the others have none"):
        ChunkedAccumulator(DLFLOAT, 8, seed=1)
    with pytest.raises(ValueError, match="seed must be from 1 to"):
        ChunkedAccumulator(DLFLOAT, 8, "stochastic", 0)

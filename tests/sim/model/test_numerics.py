"""Exact arithmetic against plain Python integers and Fractions."""


import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Float, Int, parse
from systolith.sim.model import numerics

FORMATS = [Int(8), Int(4), Int(5, signed=False), parse("e3m2"), parse("e4m3"), parse("e2m1"),
           Float(4, 0), Float(1, 3), Bipolar(1)]


def naive_passes(images, weight, stride, dilation, pads, pad_image, vector):
    """Sums of each pass, as Python integers, in the chip's order: {(n, o, y, x): [sum, ...]}."""
    count, channels, height, width = images.shape
    outputs, _, kernel_y, kernel_x = weight.shape
    out_y = (height + pads[0] + pads[2] - dilation[0] * (kernel_y - 1) - 1) // stride[0] + 1
    out_x = (width + pads[1] + pads[3] - dilation[1] * (kernel_x - 1) - 1) // stride[1] + 1
    result = np.empty((count, outputs, out_y, out_x), dtype=object)
    for n, o, y, x in np.ndindex(result.shape):
        passes = []
        for ky, kx in np.ndindex(kernel_y, kernel_x):
            row = y * stride[0] + ky * dilation[0] - pads[0]
            column = x * stride[1] + kx * dilation[1] - pads[1]
            inside = 0 <= row < height and 0 <= column < width
            products = [(int(images[n, c, row, column]) if inside else pad_image)
                        * int(weight[o, c, ky, kx]) for c in range(channels)]
            passes += [sum(products[c:c + vector]) for c in range(0, channels, vector)]
        result[n, o, y, x] = passes
    return result


@st.composite
def convolutions(draw):
    bits = draw(st.sampled_from([1, 4, 8, 20, 26, 33, 50]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    size = [max(1, dilation[n] * (kernel[n] - 1) + 1 - pads[n] - pads[n + 2]) + draw(
        st.integers(0, 3)) for n in (0, 1)]
    channels = draw(st.integers(1, 5))
    images = rng.integers(-(1 << bits), 1 << bits, (draw(st.integers(1, 2)), channels, *size))
    weight_bits = draw(st.sampled_from([1, 8, 17, 33]))
    weight = rng.integers(-(1 << weight_bits), 1 << weight_bits,
                          (draw(st.integers(1, 3)), channels, *kernel))
    return images, weight, dict(
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 2))), dilation=dilation, pads=pads,
        pad_image=draw(st.integers(-9, 9)))


@settings(max_examples=60)
@given(convolutions())
def test_convolution_is_exact_for_every_size_of_numbers(case):
    images, weight, geometry = case
    expected = np.vectorize(sum, otypes=[object])(naive_passes(*case[:2], **geometry, vector=99))
    assert (numerics.convolve(images, weight, **geometry) == expected).all()


@settings(max_examples=40)
@given(convolutions(), st.integers(1, 4), st.integers(3, 64))
def test_accumulators_saturate_after_each_pass(case, vector, bits):
    images, weight, geometry = case
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def accumulate(passes):
        total = 0
        for item in passes:
            total = min(max(total + item, low), high)
        return total
    passes = naive_passes(images, weight, **geometry, vector=vector)
    expected = np.vectorize(accumulate, otypes=[object])(passes)
    result = numerics.saturating_convolve(images, weight, bits=bits, vector=vector, **geometry)
    assert (result == expected).all()


def test_a_dense_layer_of_many_images_is_exact():
    rng = np.random.default_rng(1)
    images = rng.integers(-128, 128, (300, 40, 1, 1))
    weight = rng.integers(-128, 128, (7, 40, 1, 1))
    assert (numerics.convolve(images, weight)[:, :, 0, 0]
            == images[:, :, 0, 0] @ weight[:, :, 0, 0].T).all()


def test_large_batches_are_split_without_a_trace(monkeypatch):
    rng = np.random.default_rng(2)
    images, weight = rng.integers(-8, 8, (9, 3, 6, 5)), rng.integers(-8, 8, (4, 3, 3, 2))
    whole = numerics.convolve(images, weight)
    monkeypatch.setattr(numerics, "_PATCHES", 100)
    assert (numerics.convolve(images, weight) == whole).all()


def test_a_kernel_larger_than_the_input_is_refused():
    with pytest.raises(ValueError, match="reaches over 3 x 3 pixels"):
        numerics.convolve(np.zeros((1, 1, 2, 5), int), np.zeros((1, 1, 3, 3), int))


def test_weights_for_other_channels_are_refused():
    with pytest.raises(ValueError, match="do not fit images"):
        numerics.convolve(np.zeros((1, 2, 2, 5), int), np.zeros((1, 1, 1, 1), int))


def test_images_by_table_equal_the_formats_images():
    format = parse("e4m3")
    codes = np.arange(256).reshape(4, 64)
    assert (numerics.images_of(format, codes) == format.image(codes)).all()
    with pytest.raises(ValueError, match="must be from 0 to 255"):
        numerics.images_of(format, np.array([256]))


@pytest.mark.parametrize("name", ["e4m3fn", "e4m3fnuz", "e5m2ieee", "e3m2", "int5"])
def test_images_of_codes_that_are_numbers(name):
    format = parse(name)
    every = np.arange(1 << format.width)
    finite = format.finite_codes()
    assert finite.tolist() == every[np.isfinite(format.decode(every))].tolist()
    codes = np.random.default_rng(3).choice(finite, (3, 50))
    assert (np.ldexp(numerics.images_of(format, codes).astype(float), format.exponent)
            == format.decode(codes)).all()
    assert numerics.images_of(format, codes[:, :0]).shape == (3, 0)
    for wrong in [1 << format.width, -1, *set(every.tolist()) - set(finite.tolist())]:
        with pytest.raises(ValueError):
            numerics.images_of(format, [finite[0], wrong])


@pytest.mark.parametrize("kind", [np.int64, object])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_each_channel_has_its_bias(shape, kind):
    sums = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    bias = [5, -7, 1 << 62]
    found = numerics.add_bias(sums, bias)
    for index in np.ndindex(shape):
        assert found[index] == int(sums[index]) + bias[index[1]]


@pytest.mark.parametrize("upper_first", [False, True])
@pytest.mark.parametrize("part, width", [(Int(4), 8), (Bipolar(1), 4), (Int(2), 4)])
def test_parts_of_codes_are_numbers_of_their_own(part, width, upper_first):
    codes = np.arange(1 << width).reshape(-1, 4)
    found, count = numerics.parts_of(part, codes, width, upper_first), width // part.width
    assert found.shape == (len(codes), 4 * count)
    for n, code in np.ndenumerate(codes):
        bits = [int(code) >> part.width * k & (1 << part.width) - 1 for k in range(count)]
        mine = found[n[0], n[1] * count:(n[1] + 1) * count]
        assert mine.tolist() == [int(part.image(b)) for b in (bits[::-1] if upper_first else bits)]


@pytest.mark.parametrize("groups, inputs, outputs, size", [
    (2, 4, 6, 9), (3, 6, 3, 9), (4, 4, 4, 9), (2, 4, 2, 1 << 30)])
def test_groups_are_convolutions_side_by_side(groups, inputs, outputs, size):
    rng = np.random.default_rng(1)
    images = rng.integers(-size, size, (2, inputs, 5, 4))
    weight = rng.integers(-size, size, (outputs, inputs // groups, 3, 2))
    found = numerics.convolve(images, weight, groups=groups, stride=(2, 1), pads=(1, 0, 1, 1))
    parts = [numerics.convolve(images[:, n * inputs // groups:(n + 1) * inputs // groups],
                               weight[n * outputs // groups:(n + 1) * outputs // groups],
                               stride=(2, 1), pads=(1, 0, 1, 1)) for n in range(groups)]
    assert (found == np.concatenate(parts, axis=1)).all()

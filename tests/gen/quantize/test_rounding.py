"""Rounding by results: what is minimized is the layer's error, and never above that of the nearest
codes."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from systolith.gen.importer.run import Evaluator
from systolith.gen.quantize.rounding import Correlation, round_by_results

EVALUATOR = Evaluator([helper.make_opsetid("", 13)])


def layer(rng, groups, inputs, outputs, kernel, **attributes):
    """(a convolution, its weights)."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, **attributes)
    return node, rng.normal(0, 1, (outputs, inputs // groups, *kernel)).astype(np.float32)


def result(node, weight, data):
    return EVALUATOR.run(node, [data, np.float32(weight)])[0].astype(np.float64)


def error(node, weight, codes, real, found):
    return np.square(result(node, weight, real) - result(node, codes, found)).sum()


def near(values, rows, columns):
    return np.clip(np.rint(values), -2, 2)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 32), groups=st.sampled_from([1, 2, 4]),
       kernel=st.sampled_from([(1, 1), (3, 2), (3,)]), stride=st.integers(1, 2),
       dilation=st.integers(1, 2), pad=st.integers(0, 2))
def test_errors_are_those_of_the_layer(seed, groups, kernel, stride, dilation, pad):
    """What the matrices say of two roundings is what the convolution says."""
    rng, rank = np.random.default_rng(seed), len(kernel)
    node, weight = layer(rng, groups, 4, 8, kernel, strides=[stride] * rank,
                         dilations=[dilation] * rank, pads=[pad] * 2 * rank)
    real = rng.normal(0, 1, (3, 4, *[6] * rank)).astype(np.float32)
    found = (real + rng.normal(0, 0.1, real.shape)).astype(np.float32)
    correlation = Correlation(node, weight)
    correlation.add(real[:1], found[:1])
    correlation.add(real[1:], found[1:])

    def stated(codes):
        total = np.square(result(node, weight, real)).sum()
        for group in range(groups):
            rows = slice(group * 8 // groups, (group + 1) * 8 // groups)
            w, q = (item[rows].reshape(8 // groups, -1) for item in (weight, codes))
            total += np.einsum("ij,ij->", q @ correlation.h[group], q) - 2 * np.einsum(
                "ij,ij->", w @ correlation.c[group], q)
        return total
    codes = near(weight, None, None)
    assert stated(codes) == pytest.approx(error(node, weight, codes, real, found), rel=1e-3,
                                          abs=1e-3)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32), method=st.sampled_from(["feedback", "learned"]))
def test_never_worse_than_the_nearest_codes(seed, method):
    rng = np.random.default_rng(seed)
    node, weight = layer(rng, 2, 4, 6, (3, 3), pads=[1] * 4)
    # Neighbouring pixels and channels are alike, as those of images are.
    real = np.float32(rng.normal(0, 0.3, (8, 4, 6, 6)) + rng.normal(1, 1, (8, 1, 1, 1)))
    found = real + np.float32(rng.normal(0, 0.1, real.shape))
    correlation = Correlation(node, weight)
    correlation.add(real, found)
    codes = round_by_results(method, weight.reshape(6, -1), correlation, near).reshape(weight.shape)
    assert np.array_equal(codes, near(codes, None, None))
    plain = near(weight, None, None)
    assert error(node, weight, codes, real, found) <= error(
        node, weight, plain, real, found) * 1.02 + 1e-3
    if method == "learned":
        assert error(node, weight, codes, real, found) < 0.9 * error(
            node, weight, plain, real, found)


def test_few_weights_are_rounded_almost_as_well_as_possible():
    """Every rounding of four weights tried."""
    rng, ratios = np.random.default_rng(5), []
    for _ in range(20):
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
        weight = rng.normal(0, 1, (1, 4)).astype(np.float32)
        data = np.float32(rng.normal(0, 1, (30, 4)) @ rng.normal(0, 1, (4, 4)))
        correlation = Correlation(node, weight)
        correlation.add(data, data)
        found = round_by_results("learned", weight, correlation, near)

        def off(codes, data=data, weight=weight):
            return np.square(data @ (np.asarray(codes) - weight).T).sum()
        best = min(off([codes]) for codes in product(range(-2, 3), repeat=4))
        ratios.append(off(found) / best)
    assert min(ratios) >= 0.99 and np.median(ratios) < 1.3


def test_layers_that_are_too_large_or_of_another_kind():
    rng = np.random.default_rng(0)
    node, weight = layer(rng, 1, 4, 8, (3, 3))
    assert Correlation.possible(node, weight)
    assert not Correlation.possible(node, np.zeros((1, 513, 3, 3)))
    assert not Correlation.possible(helper.make_node("ConvTranspose", "xw", "y"), weight)


@pytest.mark.parametrize("method", ["feedback", "learned"])
def test_each_group_is_rounded_with_its_own_channels(method):
    rng = np.random.default_rng(5)
    node, weight = layer(rng, 3, 6, 6, (1, 1))
    real = rng.normal(0, 1, (2, 6, 4, 4)).astype(np.float32)
    correlation = Correlation(node, weight)
    correlation.add(real, real)
    seen = set()

    def rounded(values, rows, columns):
        seen.add((rows.start, rows.stop))
        assert len(values) == rows.stop - rows.start
        return near(values, rows, columns)
    round_by_results(method, weight.reshape(6, -1), correlation, rounded)
    assert seen == {(0, 2), (2, 4), (4, 6)}

"""Pools of weights: the best ones, and layers that have them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.calibrate import fit_weights
from systolith.gen.quantize.pools import best_pool, fit_pool, round_to_pool, weight_form
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.quantize.rounded import sqnr
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode

from ...onnx_exact import on_chip
from ...onnx_networks import Network

REALS = st.floats(-8, 8, allow_nan=False, width=32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(REALS, st.floats(0, 4, width=32)), min_size=1, max_size=20),
       st.integers(1, 5))
def test_no_pool_is_better(items, count):
    """All pools of a few integers, tried one by one."""
    numbers, importance = map(np.array, zip(*items, strict=True))
    top = 5

    def cost(pool):
        near = np.square(numbers[:, None] - np.array(pool)).min(axis=1)
        return float((importance * near).sum())
    found = best_pool(numbers, importance, count, top)
    assert 0 in found and len(found) <= count and (np.diff(found) > 0).all()
    assert abs(found).max() <= top
    others = [n for n in range(-top, top + 1) if n]
    least = min(cost((0, *some)) for size in range(count) for some in combinations(others, size))
    assert cost(found) == pytest.approx(least, rel=1e-6, abs=1e-6)


def test_rounding_takes_the_nearest_weight():
    pool = np.array([-7, -2, 0, 3])
    values = np.array([-100, -4.6, -4.4, -0.9, 1.4, 1.6, 50.0])
    assert (round_to_pool(pool, 2 * values, np.float32(2))
            == 2 * np.array([-7, -7, -2, 0, 0, 3, 3])).all()


@pytest.mark.parametrize("draw", ["normal", "laplace"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_pool_is_finer_than_as_many_even_steps(draw, bits):
    rng = np.random.default_rng(bits)
    weight = np.float32(getattr(rng, draw)(size=(8, 16, 3, 3)) * rng.uniform(0.1, 3, (8, 1, 1, 1)))
    scales, pool, rounded = fit_pool(Int(8), weight, 0, bits)
    codes = rounded / scales[:, None, None, None]
    assert (np.rint(codes) == pytest.approx(codes, abs=1e-3))
    assert set(np.unique(np.rint(codes))) <= set(pool) and len(pool) <= 1 << bits and 0 in pool
    plain = fit_weights(Int(bits), weight, 0)[1]
    assert sqnr(weight, rounded) > sqnr(weight, plain) + 0.5
    # scales and pool together are better than the pool alone
    assert sqnr(weight, rounded) > sqnr(weight, fit_pool(Int(8), weight, 0, bits, "min-max")[2])


def test_weights_that_are_few_are_not_changed():
    rng = np.random.default_rng(0)
    codes = rng.choice([-127, -40, 0, 5, 99], (4, 60))
    codes[:, 0] = -127
    scales, pool, rounded = fit_pool(Int(8), np.float32(codes / 64), 0, 3)
    assert (rounded == np.float32(codes / 64)).all() and (scales == np.float32(1 / 64)).all()
    assert list(pool) == [-127, -40, 0, 5, 99]
    zeros = fit_pool(Int(8), np.zeros((2, 9), np.float32), 0, 4)
    assert not zeros[2].any() and (zeros[0] > 0).all()


@pytest.mark.parametrize("name, form, bits", [
    ("pool4", Int(8), 4), ("int6:pool2", Int(6), 2), ("int16:pool3", Int(16), 3),
    ("int4", Int(4), None)])
def test_names(name, form, bits):
    assert weight_form(name) == (form, bits)


@pytest.mark.parametrize("name, text", [
    ("pool5", "pool5"), ("int4:pool4", "fewer bits than int4"), ("e3m2:pool4", "e3m2:pool4"),
    ("pool", "pool")])
def test_names_that_are_none(name, text):
    with pytest.raises(ValueError, match=text):
        weight_form(name)


@pytest.mark.parametrize("activation", ["int8", "int6"])
@pytest.mark.parametrize("rounding", ["nearest", "feedback", "learned"])
def test_layers_have_pools_of_their_own(activation, rounding):
    """Also in files of QONNX (int6), and with biases and scales corrected; the chip takes them."""
    net = Network(np.random.default_rng(3), (12, 6, 6))
    x = "x"
    for number in range(3):
        w = np.float32(net.rng.standard_normal((12, 12, 3, 3)) / 8)
        x = net.node("Conv", x, w, np.float32(net.rng.standard_normal(12) / 8), pads=[1] * 4,
                     name=f"conv{number}")
        x = net.node("Relu", x)
    data = np.float32(net.rng.standard_normal((16, *net.shape)))
    recipe = Recipe(activation, "pool4", rounding=rounding, renormalize=True, layers={
        "conv1": {"weight": "int8"}, "conv2": {"weight": "int7:pool3"}})
    made = quantize(net.model(x), data, recipe)
    assert [row["weight"] for row in made.rows] == [None, "pool4", "int8", "int7:pool3"]
    different = [len(np.unique(conv.weights.images)) for conv in load(made.model).layers]
    assert different[0] <= 16 < different[1] and different[2] <= 8
    arch = Arch(rows=8, columns=8, weight_pools=(4, 3), bus_bits=32)
    graph = load(made.model)
    program = on_chip(widened(graph, arch), graph.encode_inputs(data[:1]), arch, 1)
    seen = {i.layer: i.narrow for i in program.instructions if i.opcode == Opcode.ARRAY}
    assert seen == {0: 1, 1: 0, 2: 2}


def test_a_recipe_names_what_is_no_pool():
    with pytest.raises(UserError, match="pool9"):
        Recipe(weight="pool9").formats()
    with pytest.raises(UserError, match="fewer bits than int3"):
        Recipe(layers={"conv": {"weight": "int3:pool4"}}).formats()
    with pytest.raises(UserError, match="sawb"):
        Recipe(weight="pool4", weight_range="sawb").formats()

"""Weights in blocks: what OCP Microscaling makes of them; no block worse than with other scales."""

import numpy as np
import pytest
from systolith.gen.quantize.blocks import block_numbers, fit_blocks, top
from systolith.gen.quantize.calibrate import round_weights
from systolith.hw.formats import parse

from ... import oracles

#: The chip's names, and those of the standard.
MX = {"mxint8": "mxint8", "mxfp8": "mxfp8_e4m3", "mxfp8_e5m2": "mxfp8_e5m2",
      "mxfp6": "mxfp6_e3m2", "mxfp6_e2m3": "mxfp6_e2m3", "mxfp4": "mxfp4_e2m1"}


def rounded(form, weight, blocks, method, least=0.0):
    scales, steps = fit_blocks(form, weight, blocks, method, least)
    # A step is the channel's scale times a factor that there is.
    factors = steps / scales[:, None] * 2 ** form.block_scale.man
    assert np.isin(np.rint(factors), form.block_scale.factors).all()
    assert np.abs(factors - np.rint(factors)).max() < 1e-3
    return round_weights(form, weight, steps)


@pytest.mark.parametrize("name", MX)
def test_mx_weights_are_what_gfloat_makes_of_them(name):
    rng, form = np.random.default_rng(4), parse(name)
    weight = np.float32(rng.standard_normal((6, 4, 32, 3))
                        * 2.0 ** rng.integers(0, 6, (6, 4, 1, 3)))
    blocks = block_numbers(32, 128, 3)
    found = rounded(form, weight.reshape(6, -1), blocks, "min-max").reshape(weight.shape)
    for where in np.ndindex(6, 4, 3):
        block = where[0], where[1], slice(None), where[2]
        assert np.array_equal(found[block], oracles.gfloat_block(MX[name], weight[block]))


@pytest.mark.parametrize("name", ["mxint8", "mxfp4", "nvfp4", "mls"])
def test_the_least_error(name):
    rng, form = np.random.default_rng(2), parse(name)
    weight = np.float32(rng.standard_t(3, (8, 64)) * 0.05)
    blocks = block_numbers(16, 64, 1)
    error = {}
    for method in ("min-max", "mse"):
        off = rounded(form, weight, blocks, method) - weight
        error[method] = np.square(off.reshape(8, 4, 16)).sum(axis=2)
    assert (error["mse"] <= error["min-max"] * (1 + 1e-5)).all()
    assert name == "mxint8" or error["mse"].sum() < 0.99 * error["min-max"].sum()


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mls"])
def test_scales_have_a_floor_and_small_blocks_the_smallest(name):
    form = parse(name)
    weight = np.float32([[1.0] * 32 + [1e-6] * 32, [0.0] * 64])
    blocks = block_numbers(32, 64, 1)
    found = rounded(form, weight, blocks, "min-max")
    assert np.allclose(found[0, :32], 1, rtol=0.1)
    assert not found[0, 32:].any() and not found[1].any()
    scales, _ = fit_blocks(form, weight, blocks, "mse", np.float32([0.5, 0.3]))
    assert (scales >= np.float32([0.5, 0.3])).all() and (scales < 2 * top(form)).all()


def test_blocks_lie_along_the_channels_of_a_tap():
    numbers = block_numbers(16, 40, 2).reshape(40, 2)
    assert numbers[:, 0].tolist() == [0] * 16 + [2] * 16 + [4] * 8
    assert numbers[:, 1].tolist() == [1] * 16 + [3] * 16 + [5] * 8
    assert not block_numbers(16, 15, 9).any()

"""Kernels made of kernels."""

from types import SimpleNamespace

import numpy as np
import pytest
from systolith.gen.importer.kernels import spread
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Int
from systolith.sim.model.numerics import convolve
from systolith.sim.model.weights import Weights


def refuse(why):
    raise UserError(why)


NODE, VALUE = SimpleNamespace(fail=refuse), SimpleNamespace(nodes=["conv"])


@pytest.mark.parametrize("dilation, counts, steps", [
    ((1, 1), (2, 2), (1, 1)), ((2, 1), (1, 3), (1, 2)), ((1, 3), (2, 1), (4, 1)),
    ((1, 1), (1, 1), (1, 1))])
def test_a_spread_kernel_adds_up_its_results(dilation, counts, steps):
    rng = np.random.default_rng(1)
    weights = Weights(rng.integers(-9, 9, (3, 2, 2, 2)), Int(8))
    made = spread(weights, dilation, counts, steps, VALUE, NODE)
    pixels = rng.integers(-9, 9, (1, 2, 12, 12))
    apart = np.zeros((3, 2, dilation[0] + 1, dilation[1] + 1), np.int64)
    apart[:, :, ::dilation[0], ::dilation[1]] = weights.images
    single, found = convolve(pixels, apart), convolve(pixels, made.images)
    height, width = found.shape[2:]
    assert (found == sum(single[:, :, y * steps[0]:y * steps[0] + height,
                                x * steps[1]:x * steps[1] + width]
                         for y in range(counts[0]) for x in range(counts[1]))).all()


@pytest.mark.parametrize("counts, steps, format", [
    ((1, 1), (1, 1), Bipolar(1)), ((1, 2), (1, 2), Bipolar(1)), ((1, 2), (1, 3), Int(2)),
    ((1, 2), (1, 1), Int(3)), ((4, 2), (1, 1), Int(3)), ((1, 3), (1, 1), Int(3))])
def test_signs_become_the_narrowest_numbers(counts, steps, format):
    signs = Weights(np.ones((1, 1, 1, 2), int), Bipolar(1))
    assert spread(signs, (1, 1), counts, steps, VALUE, NODE).format == format


def test_weights_without_a_code_are_refused():
    with pytest.raises(UserError, match="one layer for both needs larger weights than int8 has"):
        spread(Weights(np.full((1, 1, 1, 2), 127), Int(8)), (1, 1), (1, 2), (1, 1), VALUE, NODE)

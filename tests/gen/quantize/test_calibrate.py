"""Ranges, against what the literature says of known distributions."""

import numpy as np
import pytest
from systolith.gen.quantize.calibrate import HALF_STEP_SAWB, SAWB, Statistics, fit, fit_weights
from systolith.hw.formats import parse

RNG = np.random.default_rng(0)
#: Four tensors of each: the larger they are, the worse is their largest number as a clip.
DRAWN = {"gauss": RNG.normal(0, 1, (4, 160000)),
         "laplace": RNG.laplace(0, 1, (4, 160000))}


def squared_error(form, numbers, method):
    return np.square(numbers - fit_weights(form, numbers, 0, method)[1]).mean()


def best_error(form, numbers):
    """With the best clip of many."""
    top = form.image_range[1]
    return min(np.square(numbers - scale * np.clip(np.rint(numbers / scale), -top, top)).mean()
               for scale in np.linspace(0.02, 1, 200) * np.abs(numbers).max() / top)


@pytest.mark.parametrize("name, least", [("gauss", 2.6), ("laplace", 4.3)])
def test_the_least_error_at_4_bits(name, least):
    """Choukroun et al., 1902.06822, state how much larger the error of min-max is."""
    form = parse("int4")
    assert squared_error(form, DRAWN[name], "min-max") / squared_error(
        form, DRAWN[name], "mse") >= least


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("bits, most", [(2, 1.02), (4, 1.02), (8, 1.03)])
def test_sawb_is_near_the_best_clip(name, bits, most):
    form = parse(f"int{bits}")
    assert bits in SAWB
    found, best = squared_error(form, DRAWN[name], "sawb"), best_error(form, DRAWN[name])
    assert found < most * best


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("bits, most", [(2, 1.02), (3, 1.02), (4, 1.02)])
def test_sawb_of_half_steps_is_near_the_best_clip(name, bits, most):
    form, numbers = parse(f"bipolar{bits}"), DRAWN[name][:1, :40000]
    best = min(np.square(numbers - scale * np.clip(2 * np.floor(numbers / scale / 2) + 1,
                                                   1 - 2 ** bits, 2 ** bits - 1)).mean()
               for scale in np.linspace(0.02, 1, 200) * np.abs(numbers).max() / (2 ** bits - 1))
    assert bits in HALF_STEP_SAWB
    for method in ("sawb", "mse"):
        assert best * 0.99 < squared_error(form, numbers, method) < most * best


def test_sawb_takes_all_where_its_formula_is_no_good():
    even = np.float64([[-1, 1] * 32])
    assert fit_weights(parse("int4"), even, 0, "sawb")[0] == pytest.approx(1 / 7)


def test_statistics_of_batches_are_those_of_all_numbers():
    """In whichever batch the smallest and the largest are, and however many a sample has."""
    numbers = np.float32(RNG.permutation(np.arange(-6000, 6000)))
    whole, in_parts = Statistics(), Statistics()
    whole.add(np.sort(numbers), 0.1, RNG)
    for part in np.split(np.sort(numbers)[::-1], 8):
        in_parts.add(part, 0.1, RNG)
    for found in (whole, in_parts, Statistics().join([in_parts])):
        assert (found.low, found.high, found.count) == (-6000, 5999, 12000)
        assert sorted(found.extremes) == [*range(-6000, -5744), *range(5744, 6000)]
        assert len(found.sample) == 1200


def divergence(numbers, quantizer):
    """Kullback-Leibler, between the histograms of numbers and of their codes at 8 bits' cells."""
    edges = np.linspace(numbers.min(), numbers.max(), 257)
    p = np.histogram(numbers, edges)[0] + 1e-6
    spread = quantizer(numbers) + RNG.uniform(-0.5, 0.5, numbers.shape) * quantizer.scale
    q = np.histogram(spread, edges)[0] + 1e-6
    return float((p / p.sum() * np.log(p / p.sum() / (q / q.sum()))).sum())


def test_the_least_divergence():
    numbers = np.float32(np.abs(RNG.laplace(0, 1, 50000)))
    statistics = Statistics()
    statistics.add(numbers, 1, RNG)
    form = parse("int4")
    whole, near = (fit(form, statistics, method) for method in ("min-max", "kl"))
    assert near.limits[1] < 0.9 * whole.limits[1]
    assert divergence(numbers, near) < divergence(numbers, whole)

"""Dot products from passes of +-1 planes against the direct integer products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Int, parse
from systolith.sim.model.bit_planes import combine, horner, planes_of

FORMATS = [*(Int(bits, signed) for bits in range(1, 9) for signed in (False, True)),
           *(Bipolar(bits) for bits in range(1, 9))]


def dot(activation, weight, a, w, counts=True):
    """By planes: codes a, w [terms] with `counts`, the terms that are not gated."""
    left, right = planes_of(activation, a), planes_of(weight, w)
    counts = np.broadcast_to(counts, a.shape)
    gated = left.bits * counts
    return combine((gated[:, None] * right.bits).sum(axis=2), left, right, terms=counts.sum(),
                   weight_sums=(right.bits * counts).sum(axis=1),
                   activation_sums=gated.sum(axis=1))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_planes_of_every_code(fmt):
    codes = np.arange(1 << fmt.width)
    planes = planes_of(fmt, codes)
    assert set(planes.bits.ravel().tolist()) == {-1, 1}
    assert planes.bits.shape == (fmt.width, len(codes))
    weighted = (planes.bits * 2 ** np.arange(fmt.width)[:, None]).sum(axis=0) + planes.constant
    assert (weighted == planes.scale * fmt.image(codes)).all()


@given(st.sampled_from(FORMATS), st.sampled_from(FORMATS), st.data())
def test_dot_products_are_those_of_the_images(activation, weight, data):
    terms = data.draw(st.integers(1, 40))
    a, w = (np.array(data.draw(st.lists(st.integers(0, (1 << fmt.width) - 1), min_size=terms,
                                        max_size=terms))) for fmt in (activation, weight))
    exact = activation.image(a) * weight.image(w)
    assert dot(activation, weight, a, w) == exact.sum()
    counts = np.array(data.draw(st.lists(st.booleans(), min_size=terms, max_size=terms)))
    assert dot(activation, weight, a, w, counts) == exact[counts].sum()


@given(st.sampled_from([fmt for fmt in FORMATS if isinstance(fmt, Int)]),
       st.sampled_from(FORMATS), st.integers(1, 30), st.integers(0, 30), st.integers(0))
def test_zeros_of_integers_fill_lanes_and_borders(activation, weight, terms, more, seed):
    # Whatever the weights of lanes without a channel are, and without any gate.
    random = np.random.default_rng(seed)
    a, w = (random.integers(0, 1 << fmt.width, terms + more) for fmt in (activation, weight))
    a[terms:] = activation.zero_code
    exact = (activation.image(a) * weight.image(w))[:terms].sum()
    assert dot(activation, weight, a, w) == exact


@given(st.sampled_from([-1, 1]), st.integers(1, 8), st.integers(1, 30), st.integers(0))
def test_bipolar_borders_of_minus_and_plus_one_and_true_zero(border, bits, terms, seed):
    random = np.random.default_rng(seed)
    activation, weight = Bipolar(1), Bipolar(bits)
    a, w = random.integers(0, 2, terms), random.integers(0, 1 << bits, terms)
    outside = random.random(terms) < 0.4
    images = np.where(outside, border, activation.image(a))
    padded = activation.encode(images)
    assert dot(activation, weight, padded, w) == (images * weight.image(w)).sum()
    inside = np.where(outside, 0, activation.image(a))
    assert dot(activation, weight, a, w, ~outside) == (inside * weight.image(w)).sum()


@given(st.integers(1, 30), st.integers(0, 15), st.integers(0))
def test_channel_tails_of_binary_layers_cancel(terms, pairs, seed):
    # Activations of -1 with weights that alternate, in an even number of lanes.
    random = np.random.default_rng(seed)
    one = Bipolar(1)
    a, w = random.integers(0, 2, (2, terms + 2 * pairs))
    a[terms:], w[terms::2], w[terms + 1::2] = 0, 0, 1
    assert dot(one, one, a, w) == (one.image(a) * one.image(w))[:terms].sum()


def test_an_accumulator_that_doubles_takes_the_last_plane_first():
    sums = np.array([[1, -1], [3, 5], [-2, 7]])
    assert horner(sums).tolist() == [1 + 6 - 8, -1 + 10 + 28]


def test_floats_have_no_planes():
    with pytest.raises(ValueError, match="integers and bipolar numbers, not of e4m3"):
        planes_of(parse("e4m3"), [0])

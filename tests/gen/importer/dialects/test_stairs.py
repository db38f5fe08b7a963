"""Staircases of equal steps that count thresholds."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.importer.dialects.stairs import _line, _missed


@given(base=st.integers(-300, 300), step=st.integers(1, 40), count=st.integers(1, 40),
       jitter=st.integers(0, 1), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_the_line_is_on_the_right_side_of_every_threshold(base, step, count, jitter, seed):
    rng = np.random.default_rng(seed)
    thresholds = np.sort(base + step * np.arange(count) + rng.integers(0, jitter + 1, count))
    sums = np.arange(-500, 2000)
    gain, offset, wrong = _line([Fraction(int(item)) for item in thresholds], Fraction(1),
                                Fraction(0), (None, None), False, (-500, 1999))
    counts = np.clip([round(gain * int(item) + offset) for item in sums], 0, count)
    expected = (sums[:, None] >= thresholds).sum(axis=1)
    assert wrong or (counts == expected).all()
    assert jitter or not wrong


def test_an_edge_is_right_between_two_sums_only():
    assert _missed(Fraction(9, 2), 5) == 0
    assert [_missed(Fraction(item), 5) for item in (4, 5, 6, 3)] == [1, 1, 1, 2]
    assert _missed(Fraction(13, 2), 5) == 2

"""The vectors that elements are tested with: what they promise to contain."""

from types import SimpleNamespace

import numpy as np
import pytest
from systolith.hw.formats import Int
from systolith.sim.rtl.elements import _random_psums, every_pair


@pytest.mark.parametrize("shadow, stages, columns", [(True, 1, 1), (True, 3, 2), (False, 2, 2)])
def test_every_pair_of_words_meets(shadow, stages, columns):
    rules = SimpleNamespace(activation=Int(2), weight=Int(1), lanes=2, stages=stages, psum_bits=9)
    bench = SimpleNamespace(arithmetic=rules, columns=columns,
                            element=SimpleNamespace(shadow=shadow))
    a, w, load, swap, psums = (getattr(every_pair(bench, np.random.default_rng(1)), name)
                               for name in ("a", "w", "load", "swap", "psum"))
    words = (a << 2 * np.arange(2)).sum(-1)
    weights = (w << np.arange(2)).sum(-1)
    assert swap.sum() == 4 and psums.shape == (len(words), columns)
    for column in range(columns):
        met, loaded, used, since = set(), None, None, 99
        for n, word in enumerate(words):
            if shadow:
                if swap[n]:
                    used, since = loaded, 0
                if load[n]:
                    # not sooner after a swap than the stages allow
                    assert since >= stages - 1
                    loaded = weights[n, column]
                since += 1
            elif swap[n]:
                used = weights[n, column]
            if used is not None:
                met.add((int(word), int(used)))
        assert met == {(one, other) for one in range(16) for other in range(4)}


@pytest.mark.parametrize("bits", [3, 20, 40])
def test_sums_from_above_reach_the_extremes(bits):
    psums = _random_psums(np.random.default_rng(1), bits, (500, 2))
    assert psums.min() >= 0 and psums.max() < 1 << bits
    found = set(psums.ravel().tolist())
    assert {1 << bits - 1, (1 << bits - 1) - 1} <= found and len(found) > 7

"""Cycles of a run, and what the array could do in them."""

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.counts import Counts


def test_both_ends_compute():
    assert Counts(100, 20, 89, None).compute_cycles == 70
    assert Counts(100, 20, 20, None).compute_cycles == 1
    assert Counts(7, 0, 0, None).compute_cycles == 0, "nothing was computed"
    assert Counts(7, None, None, None).compute_cycles is None, "the chip does not say"


def test_utilization_is_the_share_of_what_the_array_can_do():
    arch = Arch(rows=4, columns=5, lanes=2)
    assert arch.utilization(400, 20) == 0.5 and arch.utilization(800, 20) == 1
    assert arch.utilization(0, 20) == 0 and arch.utilization(400, 0) == 0

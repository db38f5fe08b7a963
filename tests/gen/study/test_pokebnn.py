import pytest
from systolith.gen.study.pokebnn import PUBLISHED, pokebnn


@pytest.mark.parametrize("multiplier", PUBLISHED)
def test_effort_is_the_published_one(multiplier):
    assert round(pokebnn(multiplier).ace / 1e9, 2) == PUBLISHED[multiplier]


def test_parts_of_the_smallest_published():
    """What the layers add that a multiplier does not change: (4*4*3*32 + 9*64) products a pixel."""
    first = (4 * 4 * 3 * 32 + 9 * 64) * 56 * 56
    tiny = pokebnn(1 / 64)                          # a channel in the first stage
    assert tiny.macs > first and tiny.ace > 64 * first
    assert tiny.ace < 64 * first + 64 * 8 * 4 * 1000 + 56 * 56 * 64 * 20

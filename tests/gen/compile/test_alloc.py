"""Places: rings give every word in turn, maps alive together never overlap."""

import random

import pytest
from systolith.gen.compile.alloc import ALIGNMENT, Ring, Sections, place
from systolith.hw.spec.host import Section


@pytest.mark.parametrize("seed", range(20))
def test_what_a_ring_still_finds_was_not_overwritten(seed):
    draw = random.Random(seed)
    ring = Ring(draw.randint(5, 60))
    owner = [None] * ring.depth
    for name in range(200):
        words = draw.randint(1, ring.depth)
        base = ring.place(name, words)
        assert 0 <= base and base + words <= ring.depth
        owner[base:base + words] = [name] * words
        for old in range(name + 1):
            if (found := ring.find(old)) is not None:
                assert owner[found] == old and (found == 0 or owner[found - 1] != old)
        assert ring.find(name) == base
    assert ring.peak <= ring.depth


def test_a_ring_hands_out_the_oldest_words_first():
    ring = Ring(10)
    assert [ring.place(name, 4) for name in "abcd"] == [0, 4, 0, 4]
    assert [ring.find(name) for name in "abcd"] == [None, None, 0, 4]
    assert ring.place("e", 2) == 8              # the end that was left free
    with pytest.raises(ValueError, match=r"^11 words do not fit a memory of 10$"):
        ring.place("f", 11)


@pytest.mark.parametrize("seed", range(100))
def test_maps_that_live_together_do_not_overlap(seed):
    draw = random.Random(seed)
    depth, layers = draw.randint(10, 100), draw.randint(1, 12)
    sizes, lives = {}, {}
    for n in range(draw.randint(0, 12)):
        first = draw.randrange(layers)
        sizes[f"map{n}"] = draw.randint(1, depth + 10)
        lives[f"map{n}"] = first, draw.randint(first, layers - 1)
    wanted = [draw.choice((0, 0, draw.randint(1, depth))) for _ in range(layers)]
    result = place(sizes, lives, lambda layer, maps: wanted[layer], layers, depth)
    for one, base in result.maps.items():
        assert 0 <= base and base + sizes[one] <= depth
        for two, other in result.maps.items():
            together = lives[one][0] <= lives[two][1] and lives[two][0] <= lives[one][1]
            if one != two and together:
                assert base + sizes[one] <= other or other + sizes[two] <= base
    for layer, want in enumerate(wanted):
        assert (layer in result.gaps) == (want > 0)
        if want:
            base, words = result.gaps[layer]
            assert words >= want and 0 <= base and base + words <= depth
            for name, start in result.maps.items():
                if lives[name][0] <= layer <= lives[name][1]:
                    assert start + sizes[name] <= base or base + words <= start


def test_everything_stays_where_it_fits():
    result = place({"a": 6, "b": 4, "c": 6}, {"a": (0, 1), "b": (1, 2), "c": (2, 3)},
                   lambda layer, maps: 0, 4, 10)
    assert set(result.maps) == {"a", "b", "c"}


def test_the_largest_map_leaves_for_a_buffer():
    result = place({"a": 6, "b": 3}, {"a": (0, 1), "b": (0, 1)}, lambda layer, maps: 5, 2, 10)
    assert set(result.maps) == {"b"} and result.gaps[0][1] == 7


def test_sections_follow_each_other_aligned():
    sections = Sections("code", "data", "nothing", "rest")
    assert [sections.add("data", 10), sections.add("data", 65), sections.add("rest", 1)] == [
        0, ALIGNMENT, 0]
    sections.add("code", 5)
    assert sections.close() == 5 * ALIGNMENT
    assert sections.table() == (
        Section("code", 0, 64), Section("data", 64, 192), Section("rest", 256, 64))

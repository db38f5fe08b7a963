"""Which passes of a layer an ARRAY instruction makes, from where its weights come from."""

from types import SimpleNamespace

import numpy as np
import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Box
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.loops import filled
from systolith.sim.machine.sums import _lines, find_passes

ARCH = Arch(rows=4, columns=4)
#: Two blocks of columns: twelve passes of four words, then two.
LAYER = SimpleNamespace(
    height=filled(Instruction(Opcode.ARRAY), ARCH), side=0, narrow=0, words=4, weight_bytes=[8, 8],
    weight_places=[0, 12 * 32, 14 * 32],
    runs=[[(0, Box(1, 3, 2, 2, 0, 2), 0)],
          [(0, Box(0, 1, 0, 1, 0, 1), 0), (1, Box(2, 1, 3, 1, 1, 1), 1)]])


def found(first, kernel, step=8, last=0):
    count = 4 * int(np.prod(kernel))
    tags = np.arange(count) * step + 32 * first
    tags[-1] += last
    names = ("kernel_y", "kernel_x", "blocks")
    made = Instruction(Opcode.ARRAY, dict(zip(names, kernel, strict=True)))
    return find_passes(tags, made, LAYER, ARCH, 0)


@pytest.mark.parametrize("first, kernel, at", [
    (0, (3, 2, 2), (0, 0, (1, 2, 0))), (4, (2, 2, 2), (0, 4, (2, 2, 0))),
    (8, (1, 2, 2), (0, 8, (3, 2, 0))), (5, (1, 1, 1), (0, 5, (2, 2, 1))),
    (2, (1, 1, 2), (0, 2, (1, 3, 0))), (11, (1, 1, 1), (0, 11, (3, 3, 1))),
    (12, (1, 1, 1), (1, 0, (0, 0, 0))), (13, (1, 1, 1), (1, 1, (2, 3, 1)))])
def test_passes_are_found_by_their_weights(first, kernel, at):
    assert found(first, kernel) == at


@pytest.mark.parametrize("first, kernel", [
    (4, (2, 2, 1)), (0, (1, 2, 1)), (0, (2, 1, 2)),             # not whole rows, columns
    (2, (1, 2, 2)), (1, (1, 1, 2)), (3, (1, 1, 2))])            # beyond a column, a block
def test_other_passes_than_they_are_are_seen(first, kernel):
    assert found(first, kernel) == "takes its weights for other passes than they are"


@pytest.mark.parametrize("first, kernel, changes", [
    (8, (2, 2, 2), {}), (0, (1, 1, 1), {"step": 16}), (0, (1, 1, 2), {"last": 8}),
    (13, (1, 1, 2), {}), (14, (1, 1, 1), {}), (-1, (1, 1, 1), {}), (0.25, (1, 1, 1), {})])
def test_weights_that_do_not_follow_each_other_are_seen(first, kernel, changes):
    assert "does not find its weights" in found(first, kernel, **changes)


@pytest.mark.parametrize("taps, above, fine", [(1, None, False), (2, None, True), (1, 1, True)])
def test_pixels_may_be_left_out_by_the_last_of_taps_alone(taps, above, fine):
    """Four words, one of which the instruction takes for padding; never the other way round."""
    axis, i = SimpleNamespace(size=4, taps=taps, above=above), SimpleNamespace(replicate=0)
    there = np.arange(4).reshape(2, 2, 1)
    inside = there < 3
    found = _lines(10 + there, there, inside, "y", axis, i, 13)
    assert isinstance(found, str) != fine
    if fine:
        assert found[0].tolist() == [10, 11, 12] and found[1].tolist() == [0, 1, 2]
    beyond = _lines(11 + there, there + 1, np.ones_like(inside), "y", axis, i, 13)
    assert "takes pixels for padding, or padding for pixels, along y" in beyond

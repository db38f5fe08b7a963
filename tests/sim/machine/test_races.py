"""Two units on the same words: excused where post reads the sums in the order in which the array
makes them, after its early token."""

import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.memories import Space
from systolith.sim.machine.races import find_races

ARCH = Arch(rows=2, columns=2)
ARRAY, POST = 1 << Unit.ARRAY, 1 << Unit.POST


def races(array, post, signal=POST, wait=ARRAY):
    return find_races([
        Instruction(Opcode.BEGIN), Instruction(Opcode.ARRAY, array, signal=signal),
        Instruction(Opcode.POST, post | {"base": 200}, wait=wait), Instruction(Opcode.END)], ARCH)


@pytest.mark.parametrize("early", [0, 1])
def test_post_may_follow_the_array(early):
    assert races({"out_x": 4, "early": early}, {"out_x": 4}) == []


def test_without_a_token_both_meet():
    assert races({"out_x": 4}, {"out_x": 4}, 0, 0) == [(1, 2, Space.ACCUMULATOR)]
    assert races({"out_x": 4}, {"out_x": 4, "accumulator": 4}, 0, 0) == []


def test_an_early_token_is_for_the_same_order_alone():
    # rows of a window that lie two words apart: post would be ahead of the array
    post = {"pool_y": 2, "row": 2, "out_x": 2, "jump": -3}
    assert races({"out_x": 4}, post) == []
    assert races({"out_x": 4, "early": 1}, post) == [(1, 2, Space.ACCUMULATOR)]

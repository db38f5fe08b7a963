"""When words of windows are whole and leave, by hand."""

from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.timing import CUT_LATENCY
from systolith.sim.machine.windows import Run, Windows


def windows(vector, rows=1, **fields):
    """Runs of one LOAD on a bus of eight bytes."""
    found = Windows(vector, 8)
    code = Instruction(Opcode.LOAD, dict(rows=rows, **fields))
    found.runs.extend(Run(code, 5, row, (0, 0, None), 0, 0) for row in range(rows))
    return found


def test_a_word_is_whole_with_the_beat_of_its_last_byte():
    found = windows(9, words=3, step_even=1, step_odd=2, spare=4)
    assert found.begins and found.end == 9
    assert found.enter(10) == 10 + CUT_LATENCY and not found.begins
    assert found.enter(20) == 20 + CUT_LATENCY      # bytes 0 to 15: words end at 9, 10 and 12
    ends = []
    for cycle in (23, 24, 25):
        assert found.whole == 22
        ends.append(found.end)
        assert found.leave(cycle)[0] == cycle - 23
    assert ends == [9, 10, 12] and found.left == 25


def test_a_word_needs_no_later_beat_than_its_own():
    """A beat comes in while the next word needs it not yet."""
    found = windows(2, words=8, step_even=2, step_odd=2, spare=0)
    assert [found.enter(come) for come in (10, 11)] == [12, 13]
    assert (found.bytes, found.end, found.whole) == (16, 2, 12)     # 14 bytes beyond: one beat
    for cycle in range(14, 18):
        found.leave(cycle)
    assert (found.end, found.whole) == (10, 13)


def test_a_beat_waits_while_one_is_there_beyond_the_next_word():
    found = windows(2, words=8, step_even=2, step_odd=2, spare=0)
    found.enter(10)
    found.enter(11)
    found.leave(20)
    assert found.bytes - found.end == 12
    found.leave(30)
    found.leave(40)                     # now the next word ends at 8, eight bytes before the beats
    found.leave(50)                     # and now at 10
    assert found.entry(12) == 50


def test_runs_follow_each_other_and_the_last_ones_end_the_instruction():
    found = windows(3, rows=2, words=2, step_even=1, step_odd=1, spare=4)       # 3 + 1 + 4 bytes
    found.enter(0)
    assert found.leave(5) == (0, None) and found.leave(6) == (1, None)
    assert found.begins and found.end == 8 + 3 and len(found.runs) == 1
    found.enter(7)
    assert not found.begins and found.leave(12) == (2, None)
    number, ended = found.leave(13)
    assert number == 3 and ended is not None and (ended.number, ended.row) == (5, 1)
    assert not found.runs

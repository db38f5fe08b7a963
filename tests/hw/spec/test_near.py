"""Near rows and columns: which arrays have them, and which instructions use them."""

from dataclasses import replace

import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.near import (
    columns_behind,
    last_column,
    near_columns,
    near_rows,
    near_rows_of,
    skipped_rows,
)

BINARY = {"activation": "bipolar1", "weight": "bipolar1"}


@pytest.mark.parametrize("size, near", [
    (1, ()), (16, ()), (31, ()), (32, (16,)), (63, (16,)), (64, (16, 32)), (130, (16, 32, 64))])
def test_arrays_of_at_least_twice_as_many_rows_or_columns_have_near_ones(size, near):
    assert near_rows(Arch(rows=size, columns=2)) == near
    assert near_columns(Arch(rows=2, columns=size)) == near


def test_none_where_rows_differ_or_lanes_read_more_columns():
    assert not near_rows(Arch(rows=64, columns=2, **BINARY))
    assert near_columns(Arch(rows=2, columns=64, **BINARY))
    assert not near_rows(Arch(rows=64, columns=8, lanes=2, tap_rows=True))
    assert near_columns(Arch(rows=64, columns=64, post_lanes=32)) == (32,)


def array(**fields):
    return Instruction(Opcode.ARRAY, fields=fields)


def test_passes_take_place_in_the_fewest_near_rows_that_hold_them():
    arch = Arch(rows=64, columns=4, post_lanes=4)
    assert [near_rows_of(array(height=n), arch) for n in (0, 1, 8, 9, 16, 17, 31)] == [
        0, 16, 16, 32, 32, 0, 0]
    assert [skipped_rows(array(height=n), arch) for n in (0, 8, 16, 17)] == [0, 48, 32, 0]
    assert near_rows_of(array(height=4, side=1), arch) == 0
    assert near_rows_of(array(height=4, starts=1), arch) == 0
    # units of three rows: five of them fit 16 rows
    assert [near_rows_of(array(height=n), replace(arch, rows=72)) for n in (5, 6)] == [16, 32]


def test_the_columns_that_a_post_reads():
    square = Arch(rows=64, columns=64, post_lanes=16)
    wide = Arch(rows=4, columns=64, post_lanes=2)      # groups of four columns, two chunks each

    def last(arch, group, chunks):
        which = arch.group_bits_of_post[0]
        return last_column(Instruction(Opcode.POST, fields={"group": group + (chunks << which)}),
                           arch)
    assert [last(square, 0, n) for n in (0, 1, 3)] == [64, 16, 48]
    assert [last(wide, n, 0) for n in (0, 3, 15)] == [4, 16, 64]
    assert last(wide, 3, 1) == 14
    assert [columns_behind(n, square) for n in (16, 64)] == [48, 0]

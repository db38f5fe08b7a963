from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.spec import loops
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Pooling

ARCH = Arch(rows=3, columns=6, post_lanes=1, operand_depth=8)
small = st.integers(1, 4)


@given(st.fixed_dictionaries({name: small for name in (
    "kernel_y", "kernel_x", "blocks", "out_y", "out_x", "pool_y", "pool_x")}),
    st.fixed_dictionaries({name: st.integers(-9, 9) for name in (
        "y_start", "x_start", "stride_ky", "stride_kx", "stride_oy", "stride_ox", "stride_py",
        "stride_px")}))
def test_array_loops_are_those_of_nested_for(counts, strides):
    i = Instruction(Opcode.ARRAY, counts | strides)
    order = list(product(*map(range, (i.out_y, i.out_x, i.pool_y, i.pool_x))))
    assert loops.pixels(i) == loops.results(i) == len(order)
    assert loops.passes(i) == i.kernel_y * i.kernel_x * i.blocks
    assert loops.begins(i).tolist() == list(range(len(order)))
    assert loops.steps(i, ARCH) == len(order)
    y, x = loops.coordinates(i)
    for ky, kx in product(range(i.kernel_y), range(i.kernel_x)):
        for oy, ox, py, px in order:
            assert y[ky, oy, py] == (i.y_start + ky * i.stride_ky + oy * i.stride_oy
                                     + py * i.stride_py)
            assert x[kx, ox, px] == (i.x_start + kx * i.stride_kx + ox * i.stride_ox
                                     + px * i.stride_px)


def test_results_from_the_top_start_at_some_pixels():
    i = Instruction(Opcode.ARRAY, dict(out_y=2, out_x=5, pool_y=3, starts=2, start_y=2, start_x=2,
                                       results_x=3))
    expected = [(oy * 5 + ox) * 3 + py
                for oy in range(2) for py in (0, 2) for ox in (0, 2, 4)]
    assert loops.begins(i).tolist() == expected
    assert loops.results(i) == len(expected)
    assert (loops.pixels(i), loops.steps(i, ARCH)) == (30, 33)


@given(st.fixed_dictionaries({"out_y": small, "out_x": small, "pool_y": small, "pool_x": small,
                              "row": st.integers(0, 20), "jump": st.integers(-3, 3),
                              "turn": st.integers(0, 9), "accumulator": st.integers(0, 50)}))
def test_windows_are_read_column_by_column(fields):
    i = Instruction(Opcode.POST, fields)
    expected, word = [], i.accumulator
    for _ in range(i.out_y):
        for x in range(i.out_x):
            for column in range(i.pool_x):
                expected += [word + n * i.row for n in range(i.pool_y)]
                word += 1 + (i.jump if column == i.pool_x - 1 and x < i.out_x - 1 else 0)
        word += i.turn
    assert loops.reads(i).tolist() == expected
    assert loops.windows(i).tolist() == np.reshape(expected, (i.out_y * i.out_x, -1)).tolist()


def test_carried_columns_belong_to_two_windows():
    fields = dict(out_x=3, pool_x=2, pool_y=1)
    lead = Instruction(Opcode.POST, fields | {"pooling": Pooling.LEAD})
    assert loops.reads(lead).tolist() == list(range(7))
    assert loops.windows(lead).tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    carried = Instruction(Opcode.POST, fields | {"pooling": Pooling.CARRIED})
    assert loops.reads(carried).tolist() == list(range(6))
    assert loops.windows(carried).tolist() == [[0, 0, 1], [1, 2, 3], [3, 4, 5]]


def test_items_and_bytes():
    post = Instruction(Opcode.POST, dict(out_y=2, out_x=5, destination=1))
    assert loops.item_count(post, ARCH) == loops.results(post) == 10
    post.fields["raw"] = 1
    assert loops.item_count(post, ARCH) == 10 * ARCH.chunks == 30
    store = Instruction(Opcode.STORE, dict(rows=3, items=4))
    assert loops.item_count(store, ARCH) == 12
    assert loops.moved_bytes(store, ARCH) == 12 * ARCH.group_bytes
    load = Instruction(Opcode.LOAD, dict(memory=1, rows=2, words=7))
    assert loops.moved_bytes(load, ARCH) == 14 * ARCH.weight_bytes


def test_a_group_of_columns_and_some_of_its_chunks_share_a_field():
    """Chips of up to 256 columns; a count that the field has no bits for means all chunks."""
    for columns, rows, lanes in ((64, 64, 16), (48, 16, 4), (255, 85, 1), (6, 4, 1), (256, 256, 1)):
        arch = Arch(rows=rows, columns=columns, post_lanes=lanes)
        for group in {0, arch.groups_per_columns - 1}:
            for chunks in range(1, arch.chunks + 1):
                post = Instruction(Opcode.POST, dict(group=loops.group_field(group, chunks, arch)))
                post.check_ranges()
                assert loops.column_group(post, arch) == group
                assert loops.chunk_count(post, arch) in (chunks, arch.chunks)
                if columns != 255:
                    assert loops.chunk_count(post, arch) == chunks

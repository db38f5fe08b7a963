import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Unit
from systolith.hw.spec.memories import (
    MEMORIES,
    Space,
    item_bytes,
    loadable,
    memory_flags,
    word_bytes,
)

ARCH = Arch(rows=4, columns=6, lanes=2, operand_depth=16, table_depth=256, weight_depth=24,
            weight_pools=(2, 4, 3))


def test_every_memory_has_a_row_and_load_fills_the_first_ones():
    assert list(MEMORIES) == [space for space in Space if space != Space.EXTERNAL]
    assert [row.name for row in loadable(ARCH)] == [memory.name.lower() for memory in Memory]
    assert all((Unit.LOAD in row.writers) == (row.bytes_field is not None)
               for row in MEMORIES.values())
    small = Arch(rows=4, columns=6)
    assert [Memory(row.space) for row in loadable(small)] == [
        Memory.ACTIVATION, Memory.WEIGHT, Memory.PARAMETER]
    assert memory_flags(ARCH) == len(Memory) and memory_flags(small) == 3


def test_sizes():
    depths = {space: space.depth(ARCH) for space in Space}
    assert depths[Space.WEIGHT] == 24 and depths[Space.OPERAND] == 16
    assert depths[Space.TABLE] == 256 and depths[Space.EXTERNAL] is None
    bits = {space: row.bits(ARCH) for space, row in MEMORIES.items()}
    assert bits[Space.ACTIVATION] == bits[Space.OPERAND] == 4 * 2 * 8
    assert bits[Space.WEIGHT] == 6 * 2 * 8 and bits[Space.TABLE] == 8
    # a pool has as many words as the largest
    assert depths[Space.POOL] == 3 * 16 and bits[Space.POOL] == 8
    assert bits[Space.PARAMETER] == ARCH.post_lanes * ARCH.parameter_bits
    assert bits[Space.ACCUMULATOR] == 6 * ARCH.accumulator_bits
    assert word_bytes(Memory.WEIGHT, ARCH) == 16 and word_bytes(Memory.TABLE, ARCH) == 8
    assert [item_bytes(raw, ARCH) for raw in (0, 1)] == [ARCH.group_bytes, ARCH.raw_bytes]
    with pytest.raises(ValueError, match="ACCUMULATOR cannot be loaded"):
        word_bytes(Space.ACCUMULATOR, ARCH)

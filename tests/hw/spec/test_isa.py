"""Ranges and widths of the instructions' fields."""

from systolith.hw.spec import isa
from systolith.hw.spec.isa import HEAD, OPCODES, Destination, Memory, Opcode, Pooling


def test_fields_that_name_something_end_with_the_last_of_it():
    fields = {(opcode, item.name): item for opcode, items in OPCODES.items() for item in items}
    for place, names in {(Opcode.LOAD, "memory"): Memory, (Opcode.POST, "pooling"): Pooling,
                         (Opcode.POST, "destination"): Destination}.items():
        assert (fields[place].low, fields[place].high) == (min(names), max(names))
    counts = [item for item in fields.values() if item.least is not None]
    assert {item.least for item in counts} == {1} and not any(item.signed for item in counts)
    assert all(sum(item.width for item in HEAD + items) <= isa.INSTRUCTION_BITS
               for items in OPCODES.values())
    assert [item.width for item in HEAD] == [3, 4, 4, 12]
    assert set(Opcode) == set(OPCODES) == set(range(1, 7))

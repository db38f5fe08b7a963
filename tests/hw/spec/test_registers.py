from systolith.hw.spec import registers
from systolith.hw.spec.registers import REGISTERS


def test_names_and_offsets_are_unique_and_every_register_stands_in_the_table():
    assert len({register.offset for register in REGISTERS}) == len(REGISTERS)
    assert len({register.name for register in REGISTERS}) == len(REGISTERS)
    table = registers.markdown_table()
    for register in REGISTERS:
        assert f"| 0x{register.offset:02X} | {register.name} |" in table

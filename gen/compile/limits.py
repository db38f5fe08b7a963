"""The highest values that the fields of instructions hold: {field: value}."""

from systolith.hw.spec import isa
from systolith.hw.spec.isa import Opcode

__all__ = ["ARRAY", "LIMITS", "LOAD", "POST"]

LOAD, ARRAY, POST = ({item.name: item.high for item in isa.OPCODES[opcode]}
                     for opcode in (Opcode.LOAD, Opcode.ARRAY, Opcode.POST))
#: Of an ARRAY instruction whose results one POST reads.
LIMITS = ARRAY | {name: min(ARRAY[name], POST[name]) for name in ("out_y", "out_x")}

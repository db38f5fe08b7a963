"""The registers that the host reads and writes, and the meaning of their fields.

`Csr` in `hw/core/csr.py` serves them; driver, simulators and documentation read them here.
"""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.lib import data

from .isa import Unit

__all__ = ["CONTROL_RESET", "CONTROL_START", "CORE_BITS", "COUNTED", "ID", "REGISTERS", "REPORT",
           "RESET_CYCLES", "SEQUENCER", "STATUS_RESETTING", "VERSION", "ErrorCode", "Register",
           "UnitState", "address", "counter", "markdown_table"]

#: Content of the ID register: "STYS" in memory order.
ID = 0x53595354
#: Content of the VERSION register: the version of this register map.
VERSION = 2
#: Bits of a byte address within a core's registers. On chips of several cores core k's stand from
#: byte k << CORE_BITS on.
CORE_BITS = 8
#: The bits of CONTROL.
CONTROL_START = 1
CONTROL_RESET = 2
#: The bit of STATUS that says that a soft reset waits for the bus.
STATUS_RESETTING = 8
#: The bus is given up, in a soft reset, when it has been silent for so many cycles, or as many as
#: WATCHDOG says, if that is less and not 0. A power of two.
RESET_CYCLES = 1 << 16
#: The sequencer's number where a unit is named.
SEQUENCER = 4


class ErrorCode(IntEnum):
    """Why the core has stopped."""
    ILLEGAL = 1     #: illegal instruction, or BEGIN missing
    IDENTITY = 2    #: the program was made for another chip
    WINDOW = 3      #: address outside the window
    BUS = 4         #: RRESP or BRESP was not OKAY
    WATCHDOG = 5    #: no progress
    TOKENS = 6      #: a token counter overflowed
    PROTOCOL = 7    #: an answer on the memory bus that nothing had asked for
    CHECKSUM = 8    #: the program was not fetched as it was compiled: END's checksum is another one
    RESET = 9       #: a soft reset does not end: the memory bus owes answers
    LAST = 10       #: RLAST at the wrong beat, so that a burst is longer or shorter than asked for


class UnitState(IntEnum):
    """State of a unit: what it does or waits for."""
    IDLE = 0
    RUNNING = 1
    TOKENS = 2      #: the next instruction waits for tokens
    MEMORY = 3      #: external memory has not answered
    UNIT = 4        #: the next unit has no room, or the one before it gives nothing


#: The states that are counted, of each unit those that it can be in; all others are idle cycles.
COUNTED = {
    Unit.LOAD: (UnitState.RUNNING, UnitState.TOKENS, UnitState.MEMORY, UnitState.UNIT),
    Unit.ARRAY: (UnitState.RUNNING, UnitState.TOKENS),
    Unit.POST: (UnitState.RUNNING, UnitState.TOKENS, UnitState.UNIT),
    Unit.STORE: (UnitState.RUNNING, UnitState.TOKENS, UnitState.MEMORY, UnitState.UNIT),
}


#: What a unit says about an error; `valid` in one cycle is enough.
REPORT = data.StructLayout({"valid": 1, "code": 4, "unit": 3, "layer": 12, "address": 32})


@dataclass(frozen=True)
class Register:
    """One 32-bit register: name, byte offset, access ("r", "rw", "w") and what it holds."""
    name: str
    offset: int
    access: str
    doc: str


#: Offset and name of the first of four counters (one a unit), and what it counts.
_COUNTERS = {
    UnitState.RUNNING: (0x40, "BUSY", "at work"),
    UnitState.TOKENS: (0x50, "WAIT_TOKENS", "waiting for tokens with nothing in work"),
    UnitState.MEMORY: (0x60, "WAIT_MEMORY", "waiting for external memory"),
    UnitState.UNIT: (0x70, "WAIT_UNIT", "waiting for its neighbour"),
}


def counter(unit: Unit, state: UnitState) -> str:
    """The name of the register that counts the cycles of a `Unit` in a `UnitState`."""
    return f"{_COUNTERS[state][1]}_{unit.name}"


REGISTERS = (
    Register("ID", 0x00, "r", "0x53595354"),
    Register("VERSION", 0x04, "r", "version of the register map"),
    Register("IDENTITY_LOW", 0x08, "r", "hash of chip description and instruction set, bits 31:0"),
    Register("IDENTITY_HIGH", 0x0C, "r",
             "hash of chip description and instruction set, bits 63:32"),
    Register("CONTROL", 0x10, "w", "write 1 to bit 0: start (ignored while busy or after an "
                                   "error); to bit 1: soft reset, once the bus is quiet; a start "
                                   "with it, or until then, follows it"),
    Register("STATUS", 0x14, "r", "bit 0 busy, 1 done, 2 error, 3 resetting: a soft reset waits "
                                  "for the bus (with error 9: in vain), [7:4] error code, "
                                  "[10:8] unit (0 load, 1 array, 2 post, 3 store, 4 sequencer), 11 "
                                  "the chip does not say where errors are found: layer and address "
                                  "are 0; [27:16] layer"),
    Register("WAITING", 0x18, "r", "8 bits a unit: [3:0] 0 idle, 1 running, 2 waiting for tokens, "
                                   "3 for memory, 4 for the next unit; [7:4] the units whose "
                                   "tokens are missing"),
    Register("ERROR_ADDRESS", 0x1C, "r", "byte in the window where the error was found"),
    Register("WINDOW_BASE", 0x20, "rw", "first byte of the window; a multiple of 4096. 0 on "
             "chips with fewer than 32 bits of address"),
    Register("WINDOW_SIZE", 0x24, "rw", "bytes in the window"),
    Register("PROGRAM", 0x28, "rw", "offset of BEGIN in the window; a multiple of 64"),
    Register("WATCHDOG", 0x2C, "rw", "cycles without any progress before error 5; 0: off. Some "
             "chips have fewer bits of it"),
    Register("CYCLES", 0x30, "r", "cycles from start to done"),
    Register("COMPUTE_FIRST", 0x34, "r", "CYCLES at the start of the first array "
             "pass; with COUNTERS"),
    Register("COMPUTE_LAST", 0x38, "r", "CYCLES when the last result was written; "
             "with COUNTERS"),
    Register("COUNTERS", 0x3C, "r", "1: the chip has the counters that follow, and "
             "the two before; 0: they read as 0"),
    *(Register(counter(unit, state), offset + 4 * unit, "r",
               f"cycles that {unit.name.lower()} was {what}")
      for state, (offset, _, what) in _COUNTERS.items() for unit in Unit
      if state in COUNTED[unit]),
)

_OFFSETS = {register.name: register.offset for register in REGISTERS}


def address(name: str) -> int:
    """The byte offset of the register `name`."""
    return _OFFSETS[name]


def markdown_table() -> str:
    """The registers as a table for the documentation."""
    rows = [f"| 0x{item.offset:02X} | {item.name} | {item.access} | {item.doc} |"
            for item in REGISTERS]
    return "\n".join(["| offset | register | access | meaning |", "|---|---|---|---|", *rows])

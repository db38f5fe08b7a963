"""Values of instructions' fields that a regression is to have executed."""

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import HEAD, OPCODES, Opcode, Unit
from systolith.hw.spec.legality import BOUNDS, executes

from .fields import limits

__all__ = ["bins"]

#: Fields of which a program has no choice.
_GIVEN = {(Opcode.BEGIN, "identity"), (Opcode.END, "checksum")}
#: Legal values up to which a field is to have each of them.
_FEW = 4
_BOUNDED = {(bound.opcode, bound.field) for bound in BOUNDS}


def bins(code: Instruction, arch: Arch) -> dict[str, tuple[set[str], str]]:
    """{field: (names of its values that a chip can execute, that of the instruction's)}.

    A field of few values has each. Others have `least`, `most` and `between`: where the chip's
    bounds are known (`hw/spec/legality.py`), the ends themselves, else the smallest value, and
    those that need the highest bit that the chip keeps, or, below zero, the sign and that bit. Of
    `wait` and `signal` each unit is a field of its own.
    """
    found: dict[str, tuple[set[str], str]] = {}
    for item in OPCODES[code.opcode]:
        ends = limits(code, item, arch) if (code.opcode, item.name) not in _GIVEN else None
        if ends is None or ends[0] == ends[1]:
            continue
        low, high, value = *ends, code.fields[item.name]
        if high - low < _FEW:
            names = {str(value) for value in range(low, high + 1)
                     if executes(arch, code.opcode, item.name, value)}
            if len(names) > 1:
                found[item.name] = names, str(value)
        elif executes(arch, code.opcode, item.name, high):
            if (code.opcode, item.name) not in _BOUNDED:
                low, high = -(-low // 2), (high + 1) // 2
            found[item.name] = {"least", "between", "most"}, (
                "most" if value >= high else "least" if value <= low else "between")
    if code.unit is not None:
        layer = (1 << HEAD[3].width) - 1
        found["layer"] = {"least", "between", "most"}, {0: "least", layer: "most"}.get(
            code.layer, "between")
        for name, mask in (("wait", code.wait), ("signal", code.signal)):
            for unit in Unit:
                if unit != code.unit:
                    found[f"{name}.{unit.name.lower()}"] = {"0", "1"}, str(mask >> unit & 1)
    return found

"""What the regression covers: lines and toggles of the cores' Verilog, and values of fields of
instructions.

What it cannot cover is in `REASONS`, each with the reason; a reason of what was covered, or of what
no core has, is wrong.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from systolith.gen.kit.tables import text_table
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import HEAD, OPCODES, Opcode, Unit
from systolith.hw.spec.legality import BOUNDS, executes
from systolith.sim.random.fields import limits
from systolith.sim.rtl.coverage import Coverage

__all__ = ["REASONS", "Covered", "Reason", "bins", "wrong_reasons"]

#: Fields of which a program has no choice.
_GIVEN = {(Opcode.BEGIN, "identity"), (Opcode.END, "checksum")}
#: Legal values up to which a field is to have each of them.
_FEW = 4
_BOUNDED = {(bound.opcode, bound.field) for bound in BOUNDS}


@dataclass(frozen=True)
class Reason:
    """Why points are not covered, however long the regression runs.

    Attributes
    ----------
    where : str
        The module without "systolith_core.", or the instruction; a regular expression.
    what : str
        The line as `Coverage` has it, or the field and its value (`base most`); a regular
        expression.
    why : str
    """
    where: str
    what: str
    why: str

    def of(self, where: str, what: str) -> bool:
        return bool(re.fullmatch(self.where, where) and re.fullmatch(self.what, what))


REASONS: tuple[Reason, ...] = ()


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


@dataclass
class Covered:
    """What runs on some chips have covered.

    Attributes
    ----------
    cores : dict
        Chip's name -> its `Coverage`.
    wanted, met : set of (instruction, field, value)
        Values of fields that these chips execute, and those that they have executed; see `bins`.
    """
    cores: dict[str, Coverage] = field(default_factory=dict)
    wanted: set[tuple[str, str, str]] = field(default_factory=set)
    met: set[tuple[str, str, str]] = field(default_factory=set)

    def run(self, code: Iterable[Instruction], arch: Arch) -> None:
        """Add instructions that a chip has executed."""
        for item in code:
            for name, (names, value) in bins(item, arch).items():
                self.wanted |= {(item.opcode.name, name, other) for other in names}
                self.met.add((item.opcode.name, name, value))

    def add(self, other: "Covered") -> None:
        for name, coverage in other.cores.items():
            self.cores.setdefault(name, Coverage()).add(coverage)
        self.wanted |= other.wanted
        self.met |= other.met

    def lines(self) -> dict[tuple[str, str], list[int]]:
        """{(module, line's text): [how many there are, how many of them were executed]}."""
        found: dict[tuple[str, str], list[int]] = {}
        for coverage in self.cores.values():
            for line in coverage.lines.values():
                counts = found.setdefault((_short(line.module), line.text), [0, 0])
                counts[0] += 1
                counts[1] += line.count > 0
        return found

    def points(self) -> dict[tuple[str, str], list[int]]:
        """`lines`, and values of fields as (instruction, "field value")."""
        return self.lines() | {(code, f"{name} {value}"): [1, int((code, name, value) in self.met)]
                               for code, name, value in self.wanted}

    def figures(self) -> dict[str, tuple[int, int]]:
        """{what: (covered, all)}: lines, those under a condition, bits that have gone up and down,
        values of fields."""
        lines = [line for core in self.cores.values() for line in core.lines.values()]
        branches = [line for line in lines if line.branch]
        bits = [way for core in self.cores.values() for way in core.bits.values()]
        return {"lines": (sum(line.count > 0 for line in lines), len(lines)),
                "lines under a condition": (
                    sum(line.count > 0 for line in branches), len(branches)),
                "bits that have toggled": (
                    sum(up > 0 and down > 0 for up, down in bits), len(bits)),
                "values of fields": (len(self.met & self.wanted), len(self.wanted))}

    def still(self) -> Counter[str]:
        """Bits that have not toggled both ways, by module."""
        return Counter(_short(module) for core in self.cores.values()
                       for (module, _), (up, down) in core.bits.items() if not (up and down))

    def uncovered(self, reasons: Sequence[Reason] = REASONS) -> list[tuple[str, str, int, str]]:
        """(module or instruction, line or value, how many such were not covered, the reason or "")
        in order."""
        return [(*point, total - met, next((item.why for item in reasons if item.of(*point)), ""))
                for point, (total, met) in sorted(self.points().items()) if met < total]

    def text(self, reasons: Sequence[Reason] = REASONS) -> str:
        """Figures and uncovered points, as `regress --coverage` prints them."""
        rows = [["coverage", "of", ""], *(
            [name, str(total), f"{met / max(total, 1):.1%}"]
            for name, (met, total) in self.figures().items())]
        lines = [text_table(rows, "lrr")]
        if still := self.still():
            lines.append("bits that have not toggled: " + ", ".join(
                f"{name} {count}" for name, count in still.most_common(8)))
        if missing := self.uncovered(reasons):
            lines += ["not covered:", text_table([["in", "what", "times", "reason"], *(
                [where, what[:70], str(count), why] for where, what, count, why in missing)],
                "llrl")]
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"figures": {name: list(pair) for name, pair in self.figures().items()},
                "chips": sorted(self.cores),
                "uncovered": [dict(zip(("in", "what", "times", "reason"), item, strict=True))
                              for item in self.uncovered()],
                "still": dict(self.still().most_common())}


def wrong_reasons(covered: Covered, reasons: Sequence[Reason] = REASONS,
                  every: bool = True) -> list[str]:
    """What is wrong with reasons: points that were covered after all, or, where the chips have
    `every` optional part, are on no chip."""
    points, wrong = covered.points(), []
    for reason in reasons:
        mine = {point: met for point, (_, met) in points.items() if reason.of(*point)}
        if not mine and every:
            wrong.append(f"no chip has {reason.where!r}: {reason.what!r}, of which gen/study/"
                         f"coverage.py says: {reason.why}")
        wrong += [f"{where}: {what!r} was covered {met} times, and gen/study/coverage.py says: "
                  f"{reason.why}" for (where, what), met in sorted(mine.items()) if met]
    return wrong


def _short(module):
    return module.removeprefix("systolith_core.").removeprefix("systolith_")

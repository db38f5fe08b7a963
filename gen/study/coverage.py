"""What the regression covers: lines and toggles of the cores' Verilog, and values of fields of
instructions.

What it cannot cover is in `REASONS`, each with the reason; a reason of what was covered, or of what
no core has, is wrong.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from systolith.gen.kit.tables import text_table
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.sim.random.bins import bins
from systolith.sim.rtl.coverage import Coverage

__all__ = ["REASONS", "Covered", "Reason", "wrong_reasons"]


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
    chips : function of Arch to bool
        On which chips lines are not covered; all, where it is left out.
    """
    where: str
    what: str
    why: str
    chips: Callable[[Arch], bool] | None = None

    def of(self, where: str, what: str, arch: Arch | None = None) -> bool:
        """Whether it is of a point, of a chip's `arch` where it is a line."""
        return bool(re.fullmatch(self.where, where) and re.fullmatch(self.what, what)
                    and (self.chips is None or (arch is not None and self.chips(arch))))


REASONS: tuple[Reason, ...] = (
    Reason("arbiter", r"if \(\$\) begin: closed <= 1'h1;",
           "no program of the regression has a burst outside its window; "
           "tests/sim/rtl/test_core.py runs one"),
    Reason(r"csr\.counters", r"4'h8:: \$ = 4'he;|4'hf:: \$ = 0;|casez \(more\): 4'h[8f]:",
           "a counter comes by every 13 cycles, and no more is counted in between: 14 is not "
           "reached, and to the state of ones no count leads"),
    Reason("STORE", "(items|rows) most",
           "what a STORE writes has come from accumulators, of which random chips have at most "
           "70"),
    Reason("LOAD", "spare most",
           "less is left over of a beat, and the buses of these chips with windows have 4 and 8 "
           "bytes"),
    Reason("LOAD", "step_(even|odd) most",
           "windows go on by at most two words, and those of these chips have 6 and 9 codes"),
    Reason("ARRAY", "(blocks|kernel_x|kernel_y) 3",
           "the chip whose fields end there has two words of weights, and a pass takes one"),
)


@dataclass
class Covered:
    """What runs on some chips have covered.

    Attributes
    ----------
    cores : dict
        Chip's name -> its `Coverage`.
    arches : dict
        Chip's name -> its Arch, for reasons that are of some chips alone.
    wanted, met : set of (instruction, field, value)
        Values of fields that these chips execute, and those that they have executed; see `bins`.
    """
    cores: dict[str, Coverage] = field(default_factory=dict)
    wanted: set[tuple[str, str, str]] = field(default_factory=set)
    met: set[tuple[str, str, str]] = field(default_factory=set)
    arches: dict[str, Arch] = field(default_factory=dict)

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
        self.arches |= other.arches

    def points(self) -> dict[tuple[str, str], dict[str, list[int]]]:
        """{(module, line's text): {chip's name: [how many there are, how many were executed]}}, and
        values of fields as (instruction, "field value"), which are of no chip: its name is ""."""
        found: dict[tuple[str, str], dict[str, list[int]]] = {}
        for chip, coverage in self.cores.items():
            for line in coverage.lines.values():
                counts = found.setdefault((_short(line.module), line.text), {}).setdefault(
                    chip, [0, 0])
                counts[0] += 1
                counts[1] += line.count > 0
        return found | {(code, f"{name} {value}"): {"": [1, int((code, name, value) in self.met)]}
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
        in order: a line once for each reason that it has on some chips. Where `reasons` has none,
        but the same line was executed elsewhere, random programs can reach it, and that is said.
        """
        found: Counter[tuple[str, str, str]] = Counter()
        for (where, what), chips in self.points().items():
            for chip, (total, met) in chips.items():
                if met < total:
                    arch = self.arches.get(chip)
                    why = next((item.why for item in reasons if item.of(where, what, arch)),
                               _chance(chips))
                    found[where, what, why] += total - met
        return [(where, what, count, why) for (where, what, why), count in sorted(found.items())]

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
        mine = [(where, what, chip, met) for (where, what), chips in points.items()
                for chip, (_, met) in chips.items()
                if reason.of(where, what, covered.arches.get(chip))]
        if not mine and every:
            wrong.append(f"no chip has {reason.where!r}: {reason.what!r}, of which gen/study/"
                         f"coverage.py says: {reason.why}")
        wrong += [f"{where}: {what!r} was covered {met} times{f' on {chip}' if chip else ''}, and "
                  f"gen/study/coverage.py says: {reason.why}"
                  for where, what, chip, met in sorted(mine) if met]
    return wrong


def _chance(chips):
    """That a line was executed on some chips, of {chip's name: [lines, executed]}; "": on none."""
    names = sorted(name for name, (_, met) in chips.items() if met)
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"not drawn; executed on {', '.join(names[:2])}{more}" if names else ""


def _short(module):
    return module.removeprefix("systolith_core.").removeprefix("systolith_")

"""What Verilator counted while a core ran: which lines of its Verilog, which bits of its signals.

Lines are those that Verilator knows as executable, but for two kinds that any run covers: the
initial values of registers, and the `if` without content by which Yosys makes simulators run a
block when they start. Toggles are of every bit of every signal that Verilator counts, up and down.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Coverage", "Line", "read"]

_POINT = re.compile(r"C '(.*)' (\d+)$")
_MODULE = re.compile(r"module \\?([^\s(]+)")
_DECLARATION = re.compile(r"\s*(reg|wire|integer|logic)\b")
_STUB = "if (at_start )"
#: Names of expressions, whose numbers differ from chip to chip, and so do their parts and the
#: widths of zeros.
_NUMBERED = re.compile(r"\\?\$\d+ ?")
_PART = re.compile(r"\$\[\d+(:0)?\]")
_ZERO = re.compile(r"= \d+'h0;")


@dataclass
class Line:
    """A line of the core's Verilog.

    Attributes
    ----------
    module : str
    text : str
        The condition that it is under, if any, and the line itself; expressions without a name
        are `$`.
    branch : bool
        Whether it is under a condition.
    count : int
        How often it was executed.
    """
    module: str
    text: str
    branch: bool
    count: int = 0


@dataclass
class Coverage:
    """Lines by their number in the Verilog, and (ups, downs) of each (module, bit of a signal)."""
    lines: dict[int, Line] = field(default_factory=dict)
    bits: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, other: "Coverage") -> None:
        """Add what another run on the same Verilog has counted."""
        for number, line in other.lines.items():
            self.lines.setdefault(number, Line(line.module, line.text, line.branch)
                                  ).count += line.count
        for bit, (up, down) in other.bits.items():
            mine = self.bits.get(bit, (0, 0))
            self.bits[bit] = mine[0] + up, mine[1] + down


def read(data: str, verilog: str, file: str = "core.v") -> Coverage:
    """What Verilator's `coverage.dat` says of the file `file`, whose text is `verilog`."""
    source = verilog.split("\n")
    counts: dict[int, int] = {}
    branches: set[int] = set()
    found = Coverage()
    for facts, count in _points(data):
        if facts["f"] != file:
            continue
        kind, _, module = facts["page"].partition("/")
        if kind == "v_toggle":
            name, _, way = facts["o"].rpartition(":")
            up, down = found.bits.get((module, name), (0, 0))
            found.bits[module, name] = (up + count, down) if way == "0->1" else (up, down + count)
        elif facts["o"] not in ("cond_then", "cond_else"):
            for number in _numbers(facts.get("S", "")):
                counts[number] = counts.get(number, 0) + count
                if facts["o"] != "block":
                    branches.add(number)
    modules = _modules(source)
    for number, count in sorted(counts.items()):
        text = source[number - 1]
        if _STUB in text or _DECLARATION.match(text):
            continue
        branch = number in branches
        shown = f"{_condition(source, number)}: {text.strip()}" if branch else text.strip()
        found.lines[number] = Line(modules[number - 1], _alike(shown), branch, count)
    return found


def _alike(text):
    """A line as it is on every chip that has it."""
    return _ZERO.sub("= 0;", _PART.sub("$[]", _NUMBERED.sub("$", text)))


def _points(data: str) -> Iterator[tuple[dict[str, str], int]]:
    """(facts, count) of each point; the facts' names are Verilator's."""
    for line in data.split("\n"):
        if found := _POINT.match(line):
            facts = dict(part.split("\x02", 1) for part in found[1].split("\x01") if part)
            yield facts, int(found[2])


def _numbers(text):
    """Numbers of lines such as "3,5-7"."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _modules(source):
    """The module that each line is in."""
    names, name = [], ""
    for text in source:
        if found := _MODULE.match(text):
            name = found[1]
        names.append(name)
    return names


def _condition(source, number):
    """The line, less indented, that a line is under; of one that is a condition, itself is not."""
    def indent(text):
        return len(text) - len(text.lstrip())
    mine = indent(source[number - 1])
    for text in reversed(source[:number - 1]):
        if text.strip() and indent(text) < mine:
            return text.strip()
    return ""

"""The slowest paths of a placed design, in the names of its own modules and signals.

nextpnr's report has one path for each pair of clock edges, hop by hop, in names of cells and nets
that Yosys has made from the design's: a cell is called after a net at one of its pins, as in
`core.load.offset_TRELLIS_FF_Q_3`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Path", "critical_paths", "own_name"]

#: The part of a cell's name that Yosys has appended; names of the design have no capitals.
_MADE = re.compile(r"(_(?=[A-Z][A-Z0-9]+(_|\$|$))|\$(?=[A-Za-z])).*")
#: The hierarchy of the board's top level, or of a SoC, around the core, which is left out.
_AROUND = re.compile(r"^(system\.core\.placed|systolith_core)\.")
_BITS = re.compile(r"(\[\d+\])+$")


@dataclass(frozen=True)
class Path:
    """A path from register to register.

    `names` are those of the design along it, from the register where it begins to the one where
    it ends, each module.signal; `logic` and `routing` its delay in ns, `levels` the number of
    cells that it passes.
    """
    names: tuple[str, ...]
    logic: float
    routing: float
    levels: int

    @property
    def ns(self) -> float:
        return self.logic + self.routing

    def to_dict(self) -> dict[str, Any]:
        return {"ns": round(self.ns, 3), "logic_ns": round(self.logic, 3),
                "routing_ns": round(self.routing, 3), "levels": self.levels,
                "names": list(self.names)}

    def __str__(self):
        return (f"{' -> '.join(self.names)} ({self.ns:.1f} ns: logic {self.logic:.1f}, routing "
                f"{self.routing:.1f})")


def critical_paths(report: Mapping[str, Any]) -> list[Path]:
    """The paths from register to register in nextpnr's report, a `Path` each, slowest first."""
    found = [_path(path["path"]) for path in report.get("critical_paths", ())
             if "<async>" not in (path["from"], path["to"])]
    return sorted(found, key=lambda path: -path.ns)


def _path(hops):
    delays = {"routing": 0.0, "logic": 0.0}
    for hop in hops:
        delays["routing" if hop["type"] == "routing" else "logic"] += hop["delay"]
    names: list[str] = []
    for hop in hops:
        name = own_name(hop["net"]) if hop["type"] == "routing" else None
        if name and (not names or names[-1] != name):
            names.append(name)
    begin, end = own_name(hops[0]["from"]["cell"]), own_name(hops[-1]["to"]["cell"])
    if begin and not names:
        names = [begin]
    if end and names[-1:] != [end]:
        names.append(end)
    return Path(tuple(names) or ("?",), delays["logic"], delays["routing"],
                sum(hop["type"] == "logic" for hop in hops))


def own_name(name: str) -> str | None:
    """The design's own name in that of a cell or a net; None where all of it was made by a tool."""
    name = _AROUND.sub("", name.removeprefix("\\"))
    name = _BITS.sub("", _MADE.sub("", _BITS.sub("", name)))
    last = name.rpartition(".")[2]
    return name if last and not last.startswith(("$", "\\$")) else None

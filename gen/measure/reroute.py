"""Detours in a routed ECP5, to be routed again.

nextpnr's "router2" looks for a place for all wires, not for a short way: a wire of two tiles in a
dense place may come to 5 ns. "router1" finds the shortest way for each, but takes a quarter of an
hour for all of a core. So the second routes again what the first has routed in detours.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .refine import place_of, wire_delay

__all__ = ["forget_detours"]

#: ns beyond the usual delay of a wire of this length, from which on it is a detour.
_DETOUR = 0.4
_WIRE = re.compile(r"\(INTERCONNECT\s+(\S+)\s+(\S+)\s+\([\d.]+:[\d.]+:([\d.]+)")


def forget_detours(module: dict[str, Any], delays: Iterable[str]) -> int:
    """Drop the routes of nets with detours from a module of nextpnr's JSON, as routed; how many
    nets that are. `delays`: the lines of the SDF file of the same design, in ps."""
    tiles = {name.replace("\\", ""): place_of(cell)[1:3]
             for name, cell in module["cells"].items()}
    wires = [(found[1].replace("\\", ""), found[2].replace("\\", ""), float(found[3]) / 1000)
             for line in delays if (found := _WIRE.search(line))]
    readers = Counter(source for source, _, _ in wires)
    detours = set()
    for source, target, delay in wires:
        one, other = (tiles.get(pin.rpartition("/")[0]) for pin in (source, target))
        if one is not None and other is not None and (
                delay > wire_delay(one, other) + 0.069 * math.log(readers[source]) + _DETOUR):
            detours.add(source)
    nets = set()
    for name, cell in module["cells"].items():
        own = name.replace("\\", "")
        for pin, bits in cell["connections"].items():
            if f"{own}/{pin}" in detours and not _fixed(cell):
                nets.update(bits)
    dropped = 0
    for net in module["netnames"].values():
        if len(net["bits"]) == 1 and net["bits"][0] in nets:
            dropped += net["attributes"].pop("ROUTING", None) is not None
    return dropped


def _fixed(cell):
    """Whether a cell drives clocks, or a constant, whose wires are no paths."""
    return cell["type"] in ("DCCA", "EHXPLLL") or (
        cell["type"] == "TRELLIS_COMB" and not any(
            cell["connections"].get(pin) for pin in ("A", "B", "C", "D", "FCI")))

"""A timeline of the units as a trace that Perfetto and chrome://tracing open.

The format is Chrome's trace events: complete events (`X`) and names (`M`). Viewers take times for
microseconds; here one is a cycle. Events of a track must lie apart or inside each other, and of two
that begin together the outer one must come first. Nothing says `displayTimeUnit`: with it, some
versions of Perfetto read other units.
"""

import gzip
import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import new_file
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import Memory, Opcode, Unit
from systolith.hw.spec.loops import moved_bytes, passes, pixels, results
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import UnitState
from systolith.sim.machine.cycles import Timing

from .profile import layer_windows, profile

__all__ = ["WAITS", "Track", "clip", "span", "trace_events", "tracks", "write_trace"]

#: The states of waiting: their names in the trace, and colours in chrome://tracing.
WAITS = {UnitState.TOKENS: ("wait: tokens", "thread_state_sleeping"),
         UnitState.MEMORY: ("wait: memory", "thread_state_iowait"),
         UnitState.UNIT: ("wait: neighbour", "terrible")}
_PROCESS = 1


@dataclass
class Track:
    """One unit's time, in half-open ranges of cycles that come in order.

    Attributes
    ----------
    slices : list of (begin, end, number of the instruction)
        When the unit was occupied by which instruction. They do not overlap: where the unit begins
        one while the last words of another are on their way, the begin counts; of several loads
        that are asked for at the same time, each has the time in which it comes first.
    waits : list of (begin, end, UnitState, Unit or None)
        Each inside one slice, or outside all. The unit is the one whose token came last.
    """
    slices: list
    waits: list


def tracks(program: Program, timing: Timing) -> dict[Unit, Track]:
    """{Unit: Track} of a program and its `Timing`."""
    found = {}
    for unit in Unit:
        own = [(first, last + 1, number) for number, (code, (first, last)) in
               enumerate(zip(program.instructions, timing.instructions, strict=True))
               if code.unit == unit]
        slices, free = [], 0
        for place, (begin, end, number) in enumerate(own):
            if unit == Unit.LOAD:
                begin = max(begin, free)
            elif place + 1 < len(own):
                end = min(end, own[place + 1][0])
            if unit == Unit.STORE and not program.instructions[number].signal:
                end = min(end, timing.instructions[number][1])      # nothing to give: a cycle less
            slices.append((begin, end, number))
            free = end
        edges = [edge for begin, end, _ in slices for edge in (begin, end)]
        waits = []
        for state, first, last, giver in timing.waits[unit]:
            while first <= last:
                place = bisect_right(edges, first)
                until = min([last + 1, *edges[place:place + 1]])
                waits.append((first, until, state, giver))
                first = until
        found[unit] = Track(slices, waits)
    return found


def span(text: str, cycles: int) -> tuple[int, int]:
    """(begin, end) from a text such as "1000:5000", ":5000" or "1000:". Raises UserError."""
    begin, colon, end = text.partition(":")
    try:
        first, last = int(begin or 0), int(end or cycles)
    except ValueError:
        first = last = 0
    if not colon or not 0 <= first < min(last, cycles):
        raise UserError(f"cycles must be BEGIN:END with 0 <= BEGIN < END, and BEGIN below the "
                        f"run's {cycles:,} cycles, not {text!r}")
    return first, min(last, cycles)


def clip(ranges: Iterable[tuple], begin: int, end: int) -> list[tuple]:
    """The parts between two cycles of (begin, end, ...) ranges."""
    return [(max(item[0], begin), min(item[1], end), *item[2:]) for item in ranges
            if item[0] < end and item[1] > begin]


def _units(mask):
    return ", ".join(unit.name.lower() for unit in Unit if mask >> unit & 1)


def _name(code, layer):
    """The name of a slice in the trace: its layer, and what the instruction moves."""
    if code.opcode == Opcode.LOAD:
        return f"{layer}: {Memory(code.memory).name.lower()}s"
    return layer


def _arguments(program, timing, number):
    code, arch = program.instructions[number], program.arch
    first, last = timing.instructions[number]
    known = {"instruction": number, "layer": code.layer, "begun": first, "done": last}
    if code.opcode == Opcode.LOAD:
        known |= {"bytes": moved_bytes(code, arch)}
    elif code.opcode == Opcode.STORE:
        known |= {"bytes": moved_bytes(code, arch)}
    elif code.opcode == Opcode.ARRAY:
        known |= {"passes": passes(code),
                  "pixels of a pass": pixels(code)}
    else:
        known |= {"results": results(code)}
    if code.wait:
        known["takes tokens of"] = _units(code.wait)
    if code.signal:
        known["gives tokens to"] = _units(code.signal)
    return known | {key: int(value) for key, value in code.fields.items() if value}


def trace_events(program: Program, timing: Timing, begin: int = 0,
                 end: int | None = None) -> list[dict]:
    """The events of a program's run, or of its cycles [begin, end), as plain data."""
    end = timing.cycles if end is None else end
    names = [layer.name for layer in program.host.layers]
    chip = program.arch.name
    events = [{"name": "process_name", "ph": "M", "pid": _PROCESS, "tid": _PROCESS, "args": {
        "name": f"{program.host.network} on {chip} (1 us is 1 cycle)"}}]
    for place, name in enumerate(("Layers", *(unit.name.capitalize() for unit in Unit))):
        for key, value in (("name", name), ("sort_index", place)):
            events.append({"name": f"thread_{key}", "ph": "M", "pid": _PROCESS,
                           "tid": _PROCESS + place, "args": {key: value}})

    def add(place, name, category, first, last, **more):
        events.append({"name": name, "cat": category, "ph": "X", "ts": first, "dur": last - first,
                       "pid": _PROCESS, "tid": _PROCESS + place, **more})

    costs = profile(program, timing)
    for first, last, layer in clip(layer_windows(program, timing), begin, end):
        cost = costs[layer]
        add(0, names[layer], "layer", first, last, args={
            "layer": layer, "macs": program.host.layers[layer].macs,
            "cycles": cost.cycles, "utilization": round(cost.utilization, 4),
            "bound": cost.bound, "first cycle": cost.first_cycle,
            "last cycle": cost.last_cycle, "loaded bytes": sum(cost.loaded_bytes.values()),
            "stored bytes": cost.stored_bytes})
    for unit, track in tracks(program, timing).items():
        own: list[tuple] = [(first, -last, number)
                            for first, last, number in clip(track.slices, begin, end)]
        own += [(first, -last, state, giver)
                for first, last, state, giver in clip(track.waits, begin, end)]
        for first, last, what, *giver in sorted(own, key=lambda item: (*item[:2], len(item))):
            if giver:
                name, colour = WAITS[what]
                more = {"args": {"token of": giver[0].name.lower()}} if giver[0] is not None else {}
                add(1 + unit, name, "wait", first, -last, cname=colour, **more)
            else:
                code = program.instructions[what]
                add(1 + unit, _name(code, names[code.layer]), unit.name.lower(), first, -last,
                    args=_arguments(program, timing, what))
    return events


def write_trace(program: Program, timing: Timing, path: Path | str, begin: int = 0,
                end: int | None = None) -> Path:
    """Write a trace, one event a line; packed where the file's name ends with .gz."""
    lines = ",\n".join(json.dumps(event, separators=(",", ":"))
                       for event in trace_events(program, timing, begin, end))
    about = {"network": program.host.network, "chip": program.arch.name,
             "identity": f"{identity(program.arch):016x}", "cycles": str(timing.cycles),
             "unit of time": "cycle"}
    text = f'{{"traceEvents":[\n{lines}\n],\n"otherData":{json.dumps(about)}}}\n'.encode()
    with new_file(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0) if Path(path).suffix == ".gz" else text)
    return Path(path)

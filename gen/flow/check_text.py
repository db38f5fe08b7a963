"""The text that `systolith check` prints."""

import re

from systolith.gen.importer import reader
from systolith.gen.kit.notes import lines as note_lines
from systolith.gen.kit.tables import text_table
from systolith.gen.report.report import effort_line, host_lines
from systolith.hw.spec.arch import Arch
from systolith.sim.model.effort import efforts

from .check import REFUSED, Check
from .check_float import RANDOM

__all__ = ["text_of"]

#: A message about a node.
_NODE = re.compile(r"node (?P<name>'.*?'|\".*?\") \((?P<operator>\w+)\): (?P<text>.*)", re.S)
#: The most nodes that are named with the same message.
_NAMED = 4


def text_of(found: Check, arch: Arch | None = None) -> str:
    """The text that `systolith check` prints for a `Check`."""
    lines = []
    if found.quantized:
        lines += [f"A float network, looked at as quantized: {found.quantized}.", ""]
        if RANDOM in found.quantized:
            lines += ["That shows what maps and how; it says nothing about accuracy. --calibration "
                      "X.npy takes real data.", ""]
    problems = _alike(found.problems)
    numbers = {problem: n for n, problem in enumerate(problems, 1)}
    rows = [(name, operator, f"refused: problem {numbers[key]}" if became.startswith(REFUSED) and (
        key := (operator, became.removeprefix(REFUSED))) in numbers else became)
            for name, operator, became in found.nodes]
    lines += [text_table([["node", "operator", "becomes"], *rows]), ""]
    if found.layers:
        needs = [[name, need, *([] if bits is None else [bits, bits - need])]
                 for name, need, bits in found.layers]
        heading = ["layer", "bits of its sums", *([] if arch is None else ["chip", "slack"])]
        lines += [text_table([heading, *needs], "lrrr"[:len(heading)]), ""]
        if all(bits is None or bits >= need for _, need, bits in found.layers):
            lines += ["Bits come from the layers' actual weights and any activations: within them "
                      "no sum can overflow.", ""]
    for name, (used, there) in found.memories.items():
        lines.append(f"{name} memory: {used:,} of {there:,} words")
    graph = found.graph
    if graph is not None:
        activations, weights = map(", ".join, reader.required_formats(graph))
        lines += [f"{graph.name}: {len(graph.layers)} layers, "
                  f"{effort_line(efforts(graph))}, activations in {activations}, "
                  f"weights in {weights}"]
        lines += host_lines(graph.host_work())
        lines += [f"Note: {note}." for note in note_lines(found.notes)]
    if found.problems:
        lines += ["", *(f"{n}. {_told(operator, text, names)}" for n, ((operator, text), names) in
                        enumerate(problems.items(), 1)), ""]
    for row in found.savings:
        shares = ", ".join(f"{row[what]:,} -> {row[f'{what}_with']:,} {unit}" for what, unit in (
            ("cycles", "cycles"), ("bytes", "bytes of memory")) if row[what] != row[f"{what}_with"])
        value = str(row["value"]).lower() if isinstance(row["value"], bool) else row["value"]
        lines.append(f"It would pay: --set {row['key']}={str(value).replace(' ', '')} ({shares})")
    lines.append(_verdict(found, arch))
    return "\n".join(lines)


def _alike(problems):
    """{(operator, what is wrong): names of the nodes} of messages; operator "" and no names of
    those that are about no node."""
    found: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        match = _NODE.fullmatch(problem)
        key = (match["operator"], match["text"]) if match else ("", problem)
        found.setdefault(key, []).extend([match["name"]] if match else [])
    return found


def _told(operator, text, names):
    if not names:
        return text
    more = len(names) - _NAMED
    return (f"node{'s' * (len(names) > 1)} {', '.join(names[:_NAMED])}"
            f"{f' and {more} more' if more > 0 else ''} ({operator}): {text}")


def _verdict(found, arch):
    if found.maps:
        return "It maps" + (" on a chip of these formats." if arch is None else
                            f" on {arch.name}.")
    count = len(found.problems)
    text = f"It does not map{'' if arch is None else f' on {arch.name}'}: " + (
        "1 problem." if count == 1 else f"{count} problems.")
    if found.changes:
        changes = " ".join(f"{key}={str(value).lower() if isinstance(value, bool) else value}"
                           for key, value in found.changes.items())
        text += (f" {'With' if not found.open else 'Part of it goes away with'} --set {changes}"
                 f"{' it maps.' if not found.open else '; then remains: '}")
        text += " ".join(found.open)
    return text

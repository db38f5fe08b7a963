"""Functions that Verilator writes for each instance of a module, made one where they differ only in
what they read elsewhere.

A model runs as fast as the processor can fetch its code, all of which is executed in each clock.
Verilator itself merges functions that are the same to the letter; those of instances whose inputs
it has replaced by parts of other signals are not. Here these signals become arguments. Parts that
lie at another place in a word for each instance keep functions apart.
"""

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["MERGE", "merged"]

#: This file: executables in a cache are known by what they were made with.
MERGE = Path(__file__).read_text()

_FUNCTION = re.compile(
    r"^(?:VL_INLINE_OPT )?void (\w+)\((\w+)\* vlSelf\) \{\n(.*?)^\}\n", re.DOTALL | re.MULTILINE)
#: A signal of another module, or a word of one.
_OUTSIDE = re.compile(r"vlSymsp->TOP\w*\.\w+(?:\[(?:0x)?[0-9a-fA-F]+U\])*")
_DEBUG = re.compile(r"VL_DEBUG_IF\(.*?\); \);|//[^\n]*")


def merged(text: str) -> str:
    """The C++ of a file that Verilator wrote, with as few bodies of functions as possible.

    Functions of one class whose bodies differ only in the signals of other modules that they name
    become calls of one function, which gets these signals by reference.
    """
    alike: dict[tuple, list] = {}
    for found in _FUNCTION.finditer(text):
        body = " ".join(_DEBUG.sub("", found[3]).split())
        if '"' not in body and "#" not in body:
            alike.setdefault((found[2], _OUTSIDE.sub("@", body)), []).append((found, body))
    changes = []
    for (kind, skeleton), functions in alike.items():
        if len(functions) > 1:
            changes += _as_one(kind, skeleton, functions)
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _as_one(kind, skeleton, functions):
    """(start, end, new text) of functions that become calls, the first after what they call."""
    named = [_OUTSIDE.findall(body) for _, body in functions]
    places: dict[Sequence[str], int] = {}       # what the functions name at a place: the argument
    parts = skeleton.split("@")
    body = parts[0]
    for part, names in zip(parts[1:], zip(*named, strict=True), strict=True):
        same = len(set(names)) == 1
        body += (names[0] if same else f"given{places.setdefault(names, len(places))}") + part
    common = f"{functions[0][0][1]}__common"
    types = "".join(f", typename T{n}" for n in range(len(places)))
    given = "".join(f", T{n}& given{n}" for n in range(len(places)))
    changes = []
    for number, (found, _) in enumerate(functions):
        arguments = "".join(f", {names[number]}" for names in places)
        changes.append((found.start(), found.end(), (
            f"template <typename T{types}>\nVL_ATTR_NOINLINE static void {common}(T* vlSelf{given})"
            f" {{\n{body}\n}}\n\n" if not number else "") + (
            f"void {found[1]}({kind}* vlSelf) {{\n"
            f"    Vtop__Syms* const vlSymsp VL_ATTR_UNUSED = vlSelf->vlSymsp;\n"
            f"    {common}(vlSelf{arguments});\n}}\n")))
    return changes

"""A design in Yosys' language RTLIL, cut into modules that stand alone.

Each module's text is canonical: wires, memories, cells and the modules inside it are numbered in
the order of their declarations, notes of Amaranth are left out. Modules of different chips with the
same logic have the same text, and modules inside them are black boxes with the same ports.
"""

import re
from dataclasses import dataclass

__all__ = ["LoneModule", "lone_modules"]

_MODULE = re.compile(r"^module (\S+)\n(.*?)^end$", re.MULTILINE | re.DOTALL)
#: A name: it ends at a space.
_NAME = re.compile(r"(?<!\S)[\\$]\S+")
_WIRE = re.compile(r"^  wire (.*?)(\S+)$")
_KEPT = re.compile(r"^\s*attribute \\(?!src |generator |top |amaranth\.)")


@dataclass(frozen=True)
class LoneModule:
    """A module of a design.

    Attributes
    ----------
    text : str
        Canonical RTLIL of the module, named `top`, and of black boxes for those inside it.
    inside : dict of str to str
        {name in `text`: name in the design} of the modules inside it.
    names : dict of str to str
        {name in `text`: name in the design} of its memories.
    """
    text: str
    inside: dict[str, str]
    names: dict[str, str]


def lone_modules(design: str, tops: frozenset[str] = frozenset()) -> dict[str, LoneModule]:
    """{name: `LoneModule`} of the modules of an RTLIL text as Amaranth writes it.

    `tops` are names of modules that keep their own name in their canonical text, in which others
    are called `top`.
    """
    bodies = {found[1].removeprefix("\\"): found[2] for found in _MODULE.finditer(design)}
    ports = {name: _ports(body) for name, body in bodies.items()}
    return {name: _lone(body, ports, name if name in tops else "top")
            for name, body in bodies.items()}


def _ports(body):
    """The lines that declare a module's ports, in their order."""
    return "".join(f"{line}\n" for line in body.splitlines()
                   if (found := _WIRE.match(line)) and re.search(r"\b(input|output|inout) ",
                                                                 found[1]))


def _lone(body, ports, top):
    renamed: dict[str, str] = {}
    inside: dict[str, str] = {}
    memories: dict[str, str] = {}
    lines = body.splitlines()
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] in ("wire", "memory", "cell", "process"):
            renamed[words[-1]] = new = f"\\n{len(renamed)}"
            if words[0] == "memory":
                memories[new[1:]] = words[-1].removeprefix("\\")
            elif words[0] == "cell" and words[1][1:] in ports and words[1] not in inside:
                inside[words[1]] = f"\\m{len(inside)}"

    def rename(text):
        return _NAME.sub(lambda found: renamed.get(found[0], found[0]), text)
    kept = []
    in_cell = False
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if not word or (word == "attribute" and not _KEPT.match(line)):
            continue
        if word == "cell":
            in_cell = True
            kind, name = rest.split()
            line = f"  cell {inside.get(kind, kind)} {renamed[name]}"
        elif in_cell and word == "end":
            in_cell = False
        elif in_cell and word == "connect":
            # a port has a name of its own module's
            port, _, value = rest.partition(" ")
            line = f"    connect {port} {rename(value)}"
        elif word == "parameter":
            if rest.startswith("\\MEMID "):
                own = rest.split()[1].strip('"').replace("\\\\", "\\")
                line = f'    parameter \\MEMID "{renamed[own]}"'.replace('"\\', '"\\\\')
        elif word != "attribute":
            line = rename(line)
        kept.append(line)
    boxes = "".join(f"attribute \\blackbox 1\nmodule {new}\n{ports[old[1:]]}end\n"
                    for old, new in inside.items())
    return LoneModule(f"module \\{top}\n" + "\n".join(kept) + f"\nend\n{boxes}",
                      {new[1:]: old[1:] for old, new in inside.items()}, memories)

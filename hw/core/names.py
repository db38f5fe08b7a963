"""Names of generated Verilog that a person can follow.

Amaranth gives what has no name of its own, or one that is taken, a name with a `$`: `$12` is an
expression, `port$1737$13` one that leaves a module, `ready$45` another signal of a module that is
called so. Often there is a name all the same: a signal that is nothing but that expression, or the
port of an instance that drives it. `readable` uses these names in the RTLIL that Amaranth writes,
before Yosys makes Verilog of it; what is computed stays the same.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["readable"]

_NAME = re.compile(r"[\\$]\S+")
#: Names without a meaning.
_MADE = re.compile(r"\$\w+|\\port\$\d+\$\d+|\\\$signal(\$\d+)?")
#: A name that was taken, perhaps of a field or an element: name, number, field.
_TAKEN = re.compile(r"(\\[\w.\[\]]+)\$\d+((?:\.\w+|\[\d+\])*)")
_WIRE = re.compile(r"  wire width (\d+)(?: (input|output|inout) \d+)?(?: +signed)? +(\S+)$")
_WHOLE = re.compile(r"([\\$]\S+)(?: \[(?:(\d+):)?0\])?")


@dataclass
class _Module:
    """What is said of a module, and what its wires are to be called.

    Attributes
    ----------
    name : str
    lines : list of str
    wires : dict
        Name -> (bits, "input", "output" or None where it is no port).
    cells : list
        (type, name, {port: signal}).
    aliases : dict
        Wires, and the wire of the same width that each is nothing but.
    names : set
        All that are taken.
    new : dict
        New names of wires.
    gone : set
        Wires that are not written: of no bits, or since another has their name.
    """
    name: str
    lines: list[str] = field(default_factory=list)
    wires: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    cells: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    new: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def called(self, name: str) -> str:
        return self.new.get(name, name)

    def whole(self, signal: str) -> str | None:
        """The wire of which a signal is all bits."""
        found = _WHOLE.fullmatch(signal)
        if not found or found[1] not in self.wires:
            return None
        sliced, bits = signal != found[1], self.wires[found[1]][0]
        return found[1] if not sliced or int(found[2] or 0) + 1 == bits else None

    def give(self, wire: str, wanted: str) -> None:
        """Give a wire a name, where it is taken with the lowest number from 2 on."""
        found, number = wanted, 2
        while found in self.names:
            found, number = f"{wanted}_{number}", number + 1
        self.names.add(found)
        self.new[wire] = found


def readable(text: str) -> str:
    """RTLIL as Amaranth writes it, with names where there are such."""
    modules = {module.name: module for module in _modules(text)}
    order = list(_inside_first(modules, next(iter(modules))))
    for module in order:
        _from_aliases(module)
        _from_instances(module, modules)
    for module in reversed(order):
        _from_outside(module, modules)
    for module in order:
        _with_numbers(module)
        _from_registers(module)
    return "".join(line for module in modules.values() for line in _written(module, modules))


def _modules(text: str) -> Iterator[_Module]:
    module: _Module | None = None
    cell: dict[str, str] = {}
    before: list[str] = []
    for line in text.splitlines(keepends=True):
        words = line.split(None, 2)
        if line.startswith("module "):
            module, before = _Module(words[1], before), []
        if module is None:
            before.append(line)
            continue
        module.lines.append(line)
        if found := _WIRE.match(line):
            module.wires[found[3]] = (int(found[1]), found[2])
            module.names.add(found[3])
        elif line.startswith("  memory "):
            module.names.add(line.split()[-1])
        elif line.startswith("  cell "):
            cell = {}
            module.cells.append((words[1], words[2].strip(), cell))
            module.names.add(words[2].strip())
        elif line.startswith("    connect "):
            cell[words[1]] = words[2].strip()
        elif line.startswith("connect "):
            source = module.whole(words[2].strip())
            if source and words[1] in module.wires and (
                    module.wires[words[1]][0] == module.wires[source][0]):
                module.aliases[words[1]] = source
        elif line.startswith("end"):
            _without_empty_wires(module)
            yield module
            module = None


def _without_empty_wires(module):
    """Wires of no bits, to which something is assigned at most, go."""
    empty = {wire for wire, (bits, port) in module.wires.items() if not bits and not port}
    for line in module.lines if empty else ():
        if not _WIRE.match(line):
            empty -= set(_NAME.findall(line)[line.startswith("connect "):])
    module.gone |= empty


def _inside_first(modules: Mapping[str, _Module], name: str) -> Iterator[_Module]:
    """A module after all that are inside it. Each is once in the design."""
    for kind, *_ in modules[name].cells:
        if kind in modules:
            yield from _inside_first(modules, kind)
    yield modules[name]


def _from_aliases(module):
    """A wire without a name takes that of one which is nothing but it, and this one goes."""
    for alias, source in module.aliases.items():
        if not _MADE.fullmatch(source) or source in module.new or _MADE.fullmatch(alias):
            continue
        if _TAKEN.fullmatch(alias) or (module.wires[alias][1] and module.wires[source][1]):
            continue
        module.new[source] = module.new[alias] = alias
        # a port keeps its line, which says that it is one
        module.gone.add(source if module.wires[alias][1] else alias)


def _from_instances(module, modules):
    """A wire without a name, or with one that was taken, is called after the port of the instance
    that drives it; one without a name else after a port that reads it."""
    for reads in (False, True):
        for kind, instance, pins in module.cells:
            inside = modules.get(kind)
            for port, signal in pins.items() if inside else ():
                wire, found = module.whole(signal), inside.called(port)
                if wire is None or wire in module.new or module.wires[wire][1] or "$" in found:
                    continue
                wanting = _MADE.fullmatch(wire) or (not reads and _TAKEN.fullmatch(wire))
                if wanting and (inside.wires[port][1] == "input") == reads:
                    module.give(wire, found if reads else f"{instance}_{found[1:]}")


def _from_outside(module, modules):
    """A port without a name is called after the wire that is connected to it."""
    for kind, _, pins in module.cells:
        inside = modules.get(kind)
        for port, signal in pins.items() if inside else ():
            wire = module.whole(signal)
            found = wire and module.called(wire)
            if found and "$" not in found and _MADE.fullmatch(port) and port not in inside.new:
                inside.give(port, found)


def _from_registers(module):
    """What a register takes next is called after it."""
    for kind, _, pins in module.cells:
        if kind == "$dff":
            register, wire = module.whole(pins["\\Q"]), module.whole(pins["\\D"])
            found = register and module.called(register)
            if found and wire and "$" not in found and _MADE.fullmatch(module.called(wire)):
                module.give(wire, f"{found}_next")


def _with_numbers(module):
    """Names that were taken get a number without a sign; what has no name becomes private."""
    for wire in module.wires:
        if wire in module.new or wire in module.gone or "$" not in wire:
            continue
        if found := _TAKEN.fullmatch(wire):
            whole, part = wire.removesuffix(found[2]), found[2]
            outer = module.called(whole) if part and whole in module.new else found[1]
            module.give(wire, outer + part)
        elif wire.startswith("\\$signature__"):
            module.give(wire, f"\\{wire.rpartition('__')[2]}")
        elif wire.startswith("\\"):
            module.give(wire, "$port" if module.wires[wire][1] else "$signal")


def _written(module, modules):
    """The lines of a module with its new names."""
    ports: Mapping[str, str] = {}
    waiting: list[str] = []
    for line in module.lines:
        words = line.split(None, 2)
        found = _WIRE.match(line)
        if line.startswith(("  attribute ", "\n")):
            waiting.append(line)
            continue
        if found and found[3] in module.gone:
            waiting.clear()
            continue
        yield from waiting
        waiting.clear()
        if line.startswith("connect ") and _says_nothing(module, words[1]):
            continue
        if line.startswith("  cell "):
            ports = modules[words[1]].new if words[1] in modules else {}
        elif line.startswith("    connect "):
            line = f"    connect {ports.get(words[1], words[1])} {_renamed(words[2], module)}"
        elif not line.startswith(("module ", "  memory ", "    parameter ", "  process ")):
            line = _renamed(line, module)
        yield line


def _says_nothing(module, wire):
    """Whether an assignment to a wire is of no bits, or of a wire that has its name now."""
    bits, source = module.wires[wire][0], module.aliases.get(wire)
    return not bits or (source is not None and module.called(source) == module.called(wire))


def _renamed(text, module):
    return _NAME.sub(lambda name: module.called(name[0]), text)

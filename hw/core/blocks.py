"""Blocks that stand many times in a design: emitted once as a Verilog module, placed by name.

Amaranth writes one module for every instance of a component; a 32 x 32 array of them is 115,000
lines that Yosys does not finish. `place` puts an `Instance` of a module instead, and `emit`
writes that module. Such a block has plain ports, one clock, and no reset.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Fragment, Instance, Value
from amaranth.lib import wiring

from .names import readable
from .verilog_text import from_rtlil

__all__ = ["emit", "emit_rtlil", "place", "rtlil_of", "verilog_of", "whole",
           "without_collection"]


def _ports(block):
    """(name, direction, value) of each port."""
    return [(path[0], member.flow, value) for path, member, value in
            block.signature.flatten(block)]


def place(block: wiring.Component, module: str, **connections: Any) -> Instance:
    """An `Instance` of the Verilog module `module` that `emit` writes from `block`.

    `connections` gives every input port a value and every output port a signal to drive.
    Raises TypeError where a port is missing or unknown, or has other bits than what it is given:
    Verilog would fill up with zeros, also where a number is signed.
    """
    ports = _ports(block)
    if {name for name, *_ in ports} != set(connections):
        raise TypeError(f"{module} must be connected at {sorted(name for name, *_ in ports)}, "
                        f"not at {sorted(connections)}")
    for name, _, port in ports:
        bits, given = len(Value.cast(port)), len(Value.cast(connections[name]))
        if bits != given:
            raise TypeError(f"{module}.{name} has {bits} bits, and is given {given}")
    return Instance(module, i_clk=ClockSignal(), **{
        f"{'i' if flow == wiring.In else 'o'}_{name}": connections[name]
        for name, flow, _ in ports})


def emit(block: wiring.Component, module: str) -> str:
    """Verilog of `block` as the module `module`, with its ports and a clock named clk."""
    fragment, ports = whole(block)
    return verilog_of(fragment, module, ports)


def verilog_of(fragment: Fragment, name: str, ports: Mapping[str, Any]) -> str:
    """Verilog of a fragment as the module `name`; `ports` are as Amaranth's `convert` takes them.
    """
    return from_rtlil([rtlil_of(fragment, name, ports)])[0]


def rtlil_of(fragment: Fragment, name: str, ports: Mapping[str, Any]) -> str:
    """RTLIL of a fragment as the module `name`, in names that a person can follow; `ports` are as
    Amaranth's `convert` takes them."""
    text, _ = rtlil.convert_fragment(fragment, name=name, ports=ports, emit_src=False)
    return readable(text)


@contextmanager
def without_collection() -> Iterator[None]:
    """Amaranth makes objects by the million, none of which go in between: looking for such takes
    a third of its time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def emit_rtlil(block: wiring.Component, module: str) -> str:
    """What `emit` writes as Verilog, in Yosys' own language."""
    fragment, ports = whole(block)
    return rtlil.convert(fragment, name=module, ports=ports, emit_src=False)


def whole(block: wiring.Component) -> tuple[Fragment, dict[str, Any]]:
    """(fragment, ports) of a block with a clock of its own."""
    domain = ClockDomain("sync", reset_less=True)
    fragment = Fragment.get(block, None)
    fragment.add_domains(domain)
    ports = {name: (Value.cast(value), None) for name, _, value in _ports(block)}
    return fragment, {"clk": (domain.clk, None), **ports}

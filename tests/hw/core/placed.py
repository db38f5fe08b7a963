"""Repeated blocks in Amaranth's simulator, which knows no Verilog: where a unit places a block by
the name of its Verilog module, a copy of the block stands."""

import copy

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from systolith.hw.core import array, compute, post

__all__ = ["place_copies"]


def place_copies(monkeypatch):
    """Until the test's end, arrays, ARRAY units and POST units can be simulated."""
    placed = []

    def place(block, module, **connections):
        if any(block is other for other in placed):
            block = _copy(block)
        placed.append(block)
        return _connected(block, module, connections)
    for module in (array, compute, post):
        monkeypatch.setattr(module, "place", place)


def _copy(block):
    """The block again, with ports of its own."""
    block = copy.copy(block)
    for name in block.signature.members:
        del block.__dict__[name]
    wiring.Component.__init__(block, block.signature)
    return block


def _connected(block, module, connections):
    m = Module()
    m.submodules.block = block
    ports = {path[0]: (member.flow, Value.cast(value)) for path, member, value in
             block.signature.flatten(block)}
    assert set(ports) == set(connections), module
    for name, (flow, value) in ports.items():
        given = Value.cast(connections[name])
        assert len(value) == len(given), f"{module}.{name}"
        m.d.comb += value.eq(given) if flow == wiring.In else given.eq(value)
    return m

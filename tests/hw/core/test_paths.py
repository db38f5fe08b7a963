"""Paths without a register through the whole core."""

from amaranth.hdl import Fragment, Value, _ir, _nir
from systolith.hw.core.store import Store
from systolith.hw.core.top import Core
from systolith.hw.spec.arch import Arch


def sources(netlist, net, known):
    """Bits of inputs that a bit depends on within a cycle, as a set of names."""
    stack, seen, found = [net], {net}, set()
    while stack:
        net = stack.pop()
        if net in known:
            found.add(known[net])
        elif not net.is_const:
            new = {source for source, _ in netlist.cells[net.cell].comb_edges_to(net.bit)} - seen
            seen |= new
            stack += new
    return found


def walk(component, *buses):
    """{output: inputs that it depends on within a cycle}, of the members of these names."""
    ports = {"_".join(map(str, path)): (Value.cast(value), None)
             for path, _, value in component.signature.flatten(component) if path[0] in buses}
    netlist = _ir.build_netlist(Fragment.get(component, None), ports=ports)
    known = {_nir.Net.from_cell(0, start + bit): name
             for name, (start, width) in netlist.top.ports_i.items() if name in ports
             for bit in range(width)}
    return {name: set().union(*(sources(netlist, net, known) for net in value))
            for name, value in netlist.top.ports_o.items()}


def test_paths_are_found():
    found = walk(Store(arch=Arch(rows=2, columns=2)), "axi", "items", "i")
    assert found["items_ready"] == {"axi_wready"}
    assert not found["axi_wvalid"]


def test_no_output_of_a_bus_depends_on_an_input_of_one_in_the_same_cycle():
    core = Core(arch=Arch(rows=2, columns=2, operand_depth=8, table_depth=256))
    found = walk(core, "m_axi", "s_axi")
    for block in core.blocks.values():      # modules of their own, not on these paths
        Fragment.get(block, None)
    assert {"m_axi_rready", "m_axi_arvalid", "s_axi_awready", "s_axi_wready"} <= found.keys()
    assert {name: inputs for name, inputs in found.items() if inputs} == {}

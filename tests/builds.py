"""Builds of small random networks, without the command's files that tests do not need."""

from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.build import CORE, PROGRAM, Build

from .networks import random_network

__all__ = ["small_build"]


def small_build(folder, arch):
    """A `Build` in `folder`: Verilog and program of two random layers."""
    graph, _ = random_network(2, arch, layers=2, size=6)
    (folder / CORE).write_text(core_verilog(arch))
    program = compile_graph(graph, arch)
    program.save(folder / PROGRAM)
    return Build(folder, arch, graph, program)

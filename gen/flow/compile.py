"""The one way from a network to a program: what `check` calls "it maps" is what `build` writes."""

from dataclasses import replace
from pathlib import Path

import onnx
from systolith.gen.compile.chip_formats import format_advice
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.emit import finish
from systolith.gen.compile.kin import Kin
from systolith.gen.compile.notes import bias_notes
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import ChipError, SignsOutside, UserError, WrongFormat
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.program import Program
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.graph import Graph

__all__ = ["compile_network"]


def compile_network(network: Graph | Path | str | onnx.ModelProto, arch: Arch, batch: int = 1, *,
                    name: str | None = None, progress: Reporter = SILENT,
                    kin: Kin | None = None) -> tuple[Graph, Program]:
    """(Graph, Program) of a network on a chip, the memory plan checked.

    Parameters
    ----------
    network : path, onnx.ModelProto or Graph
    arch : Arch
    batch : int
        Images that a run of the program computes.
    name : str or None
        What is said to be read; None: nothing is said.
    progress : Reporter
    kin : Kin or None
        Knows programs of the same network for chips that are related.

    Raises UserError for what cannot be read, ChipError for what the chip cannot compute.
    """
    if not isinstance(network, Graph):
        with (progress if name else SILENT).step(f"Reading {name}"):
            network = load(network, offsets=arch.slope_offsets)
    with progress.step(f"Compiling {network.name} for {arch.name}"):
        graph, program = _compiled(network, arch, batch, finish if kin is None else kin.finish)
    with progress.step("Checking the memory plan"):
        (check_memory_plan if kin is None else kin.check)(program)
    return replace(graph, notes=[*graph.notes, *bias_notes(graph, arch)]), program


def _compiled(network, arch, batch, finish):
    """(Graph, Program); signs that do not fit the chip become numbers."""
    apart: set[str] = set()
    while True:
        try:
            graph = widened(network, arch, apart)
        except WrongFormat as error:
            raise ChipError(f"{error}; {format_advice(network, arch)}") from None
        try:
            return graph, compile_graph(graph, arch, batch, finish=finish)
        except SignsOutside as error:
            apart.update(error.names)
        except ChipError:
            raise
        except UserError as error:
            raise ChipError(str(error)) from None

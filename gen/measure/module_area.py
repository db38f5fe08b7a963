"""Area of a chip by modules: each is mapped alone, once for all chips that have it.

The hierarchy is kept while a whole chip is mapped, so that what becomes of a module does not depend
on what is around it; a chip's area is the sum over its modules. What was mapped is kept by a hash
of the module's canonical netlist and of all that mapping depends on (`gen/kit/cache.py`). Yosys
breaks ties by names, which are other ones here: figures of a chip differ from those of
`chip_area` by some tenths of a percent of LUTs, and are the same in every run.
"""

import hashlib
import json
import tempfile
import time
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path

from systolith.gen.chip.verilog import core_rtlil
from systolith.gen.kit.cache import cached
from systolith.hw.spec.arch import Arch

from .area import Area, built_for, check_target, synthesis
from .hierarchy import PARTS, attribute, instances, leaves
from .netlist import LoneModule, lone_modules
from .yosys import memories_in_flipflops, run_yosys

__all__ = ["VERILOG", "module_area"]

_PE = "systolith_pe"


def module_area(arch: Arch, target: str = "ecp5", *, dsp: bool | str = True) -> Area:
    """The `Area` of the core of `arch`, built for `target`, by modules; arguments as of
    `chip_area`, for FPGAs."""
    check_target(target)
    start = time.monotonic()
    arch = built_for(arch, target, dsp=dsp)
    modules, in_flipflops = {}, []
    for name, module in lone_modules(core_rtlil(arch), frozenset({_PE})).items():
        top = _PE if name == _PE else "top"
        # how processing elements are mapped depends on the chip, see `chip_area`
        pe_dsp = dsp is True and arch.pe_dsp if name == _PE else True
        cells, there = _mapped(module, top, target, bool(dsp), pe_dsp)
        modules[name] = {module.inside.get(kind, kind): number for kind, number in cells.items()}
        in_flipflops += [f"{name}.{module.names.get(memory, memory)}: {size}"
                         for memory, size in there]
    parts: dict[str, Counter] = {name: Counter() for name in PARTS}
    attribute(modules, "systolith_core", "core top", 1, parts)
    return Area(target=target, parts={name: cells for name, cells in parts.items() if cells},
                pe=leaves(modules, _PE), pe_count=instances(modules, "systolith_core", _PE),
                in_flipflops=sorted(in_flipflops), seconds=time.monotonic() - start)


@cache
def _yosys():
    return version("pyosys")


def _mapped(module: LoneModule, top: str, target: str, dsp: bool, pe_dsp: bool) -> tuple:
    """(cells and modules inside by type, [(memory, size)] of memories that became flip-flops)."""
    commands = synthesis(target, top, dsp=dsp, pe_dsp=pe_dsp)
    facts = json.dumps([module.text, commands, VERILOG, _yosys()])
    key = hashlib.sha256(facts.encode()).hexdigest()
    return cached("modules", key, lambda: _map(module.text, top, commands))


#: What Amaranth does to write Verilog, and then the way of a whole chip; {} are paths.
VERILOG = ['read_rtlil "{0}"', "proc -nomux -norom", "memory_collect",
          'write_verilog -norename "{1}"', 'write_verilog -norename -blackboxes "{2}"',
          "design -reset", 'read_verilog -sv "{2}"', 'read_verilog -sv "{1}"']


def _map(text, top, commands):
    with tempfile.TemporaryDirectory(prefix="systolith-area-") as folder:
        rtlil, verilog, boxes, stat = (Path(folder) / name for name in (
            "in.il", "in.v", "boxes.v", "stat.json"))
        rtlil.write_text(text)
        log = run_yosys([*(line.format(rtlil, verilog, boxes) for line in VERILOG), *commands,
                         f'tee -q -o "{stat}" stat -json'], stat)
        found = json.loads(stat.read_text())["modules"]
    cells = {name.removeprefix("\\"): content["num_cells_by_type"]
             for name, content in found.items()}[top]
    there = [item.removeprefix(f"{top}.").split(": ", 1) for item in memories_in_flipflops(log)]
    return cells, there

"""Cells of a mapped design by part of the chip: modules are attributed by their names.

`modules` is everywhere {module: {cell or module inside it: number}}.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping

__all__ = ["PARTS", "attribute", "instances", "leaves"]

#: Parts of a chip, in the order of the reports.
PARTS = ("processing elements", "array edges", "accumulators", "array control", "post-processing",
         "scratchpads", "dma", "control", "core top", "board")
#: Which modules inside a part begin another part: the last component of a module's hierarchical
#: name. All others belong to the part around them.
_INSIDE = {
    "board": {"core": "core top", "systolith_core": "core top"},
    "core top": {"array": "array control", "post": "post-processing", "load": "dma",
                 "store": "dma", "arbiter": "dma", "sequencer": "control", "csr": "control",
                 "tokens": "control"},
    "array control": {"array": "array edges", "systolith_accumulator": "accumulators"},
    "array edges": {"systolith_pe": "processing elements"},
}
#: Cells of the scratchpads, which are memories directly in the module of the core.
_MEMORY = re.compile(r"DP16KD|PDPW16KD|TRELLIS_DPR16X4|RAM\w+|SB_RAM\w+|S?[SD]P(X9)?B?")


def attribute(modules: Mapping[str, Mapping[str, int]], module: str, part: str, times: int,
              parts: dict[str, Counter],
              is_memory: Callable[[str], object] = _MEMORY.fullmatch) -> None:
    """Add the cells of `times` instances of `module`, itself in `part`, to `parts`; `is_memory`:
    whether a cell in the core's own module is one of its scratchpads."""
    for name, number in modules[module].items():
        if name in modules:
            inner = _INSIDE.get(part, {}).get(name.rpartition(".")[2], part)
            attribute(modules, name, inner, times * number, parts, is_memory)
        elif part == "core top" and is_memory(name):
            parts["scratchpads"][name] += times * number
        else:
            parts[part][name] += times * number


def leaves(modules: Mapping[str, Mapping[str, int]], module: str) -> Counter:
    """{cell: number} of a module and of all modules inside it. `modules`: for each module its cells
    and the instances in it."""
    cells: Counter = Counter()
    for name, number in modules[module].items():
        if name in modules:
            cells.update({leaf: number * times for leaf, times in leaves(modules, name).items()})
        else:
            cells[name] += number
    return cells


def instances(modules: Mapping[str, Mapping[str, int]], top: str, module: str) -> int:
    """How many instances of a module there are in `top`."""
    return sum(number * (1 if name == module else instances(modules, name, module))
               for name, number in modules[top].items() if name in modules)

"""Cells that drive very many others, copied: each copy stands near its own readers.

A wire to hundreds of cells all over a unit takes more than half of a cycle, however little logic is
before it. Synthesis merges registers that are alike, so that this is done after it.
"""

from typing import Any

__all__ = ["copy_drivers"]

#: A driver with more readers than this is copied, so that none of the copies has more than `_EACH`.
_MOST, _EACH = 100, 64
#: Pins that clocks drive.
_CLOCKS = ("CLK", "CLKA", "CLKB", "WCK")


def copy_drivers(module: dict[str, Any]) -> int:
    """Copy flip-flops and LUTs with many readers; the number of copies.

    `module` is a flat module of Yosys' JSON, as mapped for the ECP5, and is changed. Readers are
    shared out in the order of their names, so that those of a unit, and of a register, stay
    together. A copy reads what the original reads: a clock, and ports of the module, are left as
    they are.
    """
    cells = module["cells"]
    readers: dict[int, list[tuple[str, str, int]]] = {}
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                for place, bit in enumerate(bits):
                    if not isinstance(bit, str):
                        readers.setdefault(bit, []).append((name, pin, place))
    following = 1 + max((bit for cell in cells.values() for bits in cell["connections"].values()
                         for bit in bits if not isinstance(bit, str)), default=0)
    following = max([following, *(bit + 1 for net in module.get("netnames", {}).values()
                                  for bit in net["bits"] if not isinstance(bit, str))])
    copies = 0
    for name, cell in list(cells.items()):
        pin = {"TRELLIS_FF": "Q", "LUT4": "Z"}.get(cell["type"])
        if pin is None or isinstance(cell["connections"][pin][0], str):
            continue
        mine = readers.get(cell["connections"][pin][0], [])
        if len(mine) <= _MOST or any(where in _CLOCKS for _, where, _ in mine):
            continue
        # (enables and resets apart from others: these choose what stands in a tile together)
        mine = sorted(mine, key=lambda one: (one[1] in ("CE", "LSR"), one))
        parts = -(-len(mine) // _EACH)
        for part in range(1, parts):
            first, last = (len(mine) * number // parts for number in (part, part + 1))
            own = f"{name}_copy_{part}"
            cells[own] = {**cell, "attributes": dict(cell.get("attributes", {})),
                          "parameters": dict(cell["parameters"]),
                          "connections": {**cell["connections"], pin: [following]}}
            module.setdefault("netnames", {})[own] = {
                "hide_name": 0, "bits": [following], "attributes": {}}
            for reader, where, place in mine[first:last]:
                bits = list(cells[reader]["connections"][where])
                bits[place] = following
                cells[reader]["connections"][where] = bits
            following += 1
            copies += 1
    return copies

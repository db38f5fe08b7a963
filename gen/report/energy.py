"""Energy of one image, estimated from counts and a table of energies: an estimate, never measured.

The table is a TOML file; `horowitz.toml` beside this module is the default, and another file of the
same keys takes its place (`energy = "mine.toml"` in a space):

    source = "where the figures come from"
    multiply_pj_per_bit2 = 0.0031   # of a multiplier, for each bit of one factor times each of the
                                    # other
    add_pj_per_bit = 0.0031         # of an adder
    sram_pj_per_64_bits = [[8192, 10.0], [32768, 20.0], [1048576, 100.0]]  # [bytes, energy]
    external_pj_per_bit = 20.3

What is counted: every product of the network with its addition, every bit that the memories on the
chip read or write, every byte over the bus, instructions among them. What is not: clock trees,
control, registers, leakage, and the parts of the array that have nothing to do.
"""

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.toml_text import read_toml
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import MEMORIES

__all__ = ["EnergyTable", "energy_pj", "read_energy"]

_NUMBERS = ("multiply_pj_per_bit2", "add_pj_per_bit", "external_pj_per_bit")


@dataclass(frozen=True)
class EnergyTable:
    """The keys of the table, see the module."""
    source: str
    multiply_pj_per_bit2: float
    add_pj_per_bit: float
    external_pj_per_bit: float
    sram_pj_per_64_bits: tuple[tuple[float, float], ...]

    def sram_pj_per_bit(self, size: float) -> float:
        """Picojoules for a bit of a memory of so many bytes: between the table's sizes, and beyond
        them, a power of the size."""
        rows = self.sram_pj_per_64_bits
        if len(rows) == 1 or size <= 0:
            return rows[0][1] / 64
        place = next((n for n in range(1, len(rows) - 1) if size <= rows[n][0]), len(rows) - 1)
        (low, first), (high, last) = rows[place - 1:place + 1]
        slope = math.log(last / first) / math.log(high / low)
        return first * (size / low) ** slope / 64


def read_energy(path: Path | str | None = None) -> EnergyTable:
    """The table in a file; None: the default. Raises UserError."""
    file = Path(str(resources.files(__package__) / "horowitz.toml")) if path is None else Path(path)
    data = read_toml(file)
    wanted = {"source", "sram_pj_per_64_bits", *_NUMBERS}
    if set(data) != wanted:
        raise UserError(f"{file}: must have the keys {', '.join(sorted(wanted))}, not "
                        f"{', '.join(sorted(data))}")
    rows = data["sram_pj_per_64_bits"]
    numbers = [data[name] for name in _NUMBERS]
    sizes = [row[0] for row in rows] if _pairs(rows) else []
    if not isinstance(data["source"], str) or not all(map(_positive, numbers)) or not sizes or (
            sizes != sorted(set(sizes))):
        raise UserError(f"{file}: source is a text, all energies are numbers from 0 up, and "
                        "sram_pj_per_64_bits is a list of [bytes, energy], sizes growing")
    multiply, add, external = map(float, numbers)
    return EnergyTable(data["source"], multiply, add, external, tuple(map(tuple, rows)))


def _positive(number):
    return isinstance(number, int | float) and not isinstance(number, bool) and number >= 0


def _pairs(rows):
    return isinstance(rows, list) and rows and all(
        isinstance(row, list) and len(row) == 2 and all(map(_positive, row)) and min(row) > 0
        for row in rows)


def energy_pj(arch: Arch, figures: dict[str, Any], table: EnergyTable) -> dict[str, float]:
    """Picojoules of one image, by where they go: "products", "sums", each memory of the chip,
    "external". `figures` as `counts.counts_of` gives them, with `macs`."""
    one, other = arch.activation, arch.weight
    product = one.significand_bits * other.significand_bits * table.multiply_pj_per_bit2
    if one.product_shift:                       # the sum of two logarithms
        product = max(one.magnitude_bits, other.magnitude_bits) * table.add_pj_per_bit
    bits: dict[str, int] = {}
    for way in ("reads", "writes"):
        for name, number in figures[way].items():
            bits[name] = bits.get(name, 0) + number
    # of one copy, where several lie side by side
    sizes = {row.name: row.depth(arch) * getattr(arch, row.bits_field) / 8
             for row in MEMORIES.values() if row.exists(arch)}
    moved = sum(figures[name] for name in ("loaded_bytes", "stored_bytes", "instruction_bytes"))
    return {
        "products": figures["macs"] * product,
        "sums": figures["macs"] * arch.psum_bits * table.add_pj_per_bit,
        **{name: number * table.sram_pj_per_bit(sizes[name])
           for name, number in bits.items() if number},
        "external": 8 * moved * table.external_pj_per_bit}

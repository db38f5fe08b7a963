"""Weight pools on a trained network and on a chip: accuracy, bytes and cycles beside integers."""

from pathlib import Path

from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.compile import compile_network
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.loops import moved_bytes
from systolith.sim.machine.cycles import cycles

from .figure import Figure
from .resnet import Digits

__all__ = ["pools"]

#: {weights: points of accuracy that they may lose, None where nothing is claimed}. Li and Gupta
#: lose less than one, with pools of vectors and training.
_MOST = {"int8": None, "int4": None, "pool4": 1.0, "int3": None, "pool3": 1.0, "int2": None,
         "pool2": None}
#: A chip that the bus bounds, without narrow weights and pools.
_CHIP = "sim-16x16-int8", ["bus.data_bits=32"]


def pools(folder: Path | None = None, images: int | None = None) -> list[Figure]:
    """Points that the shipped ResNet loses with int8 activations, for each format of weights,
    rounded to the nearest and as learned; bytes of weights that a chip of 16 x 16 int8 elements
    loads for an image, those of pools among them, and its cycles. Arguments as of `Digits`."""
    digits, figures = Digits(folder, images), []
    whole = None
    for weight, most in _MOST.items():
        bits, lost = int(weight[-1]), []
        for rounding in ("nearest", "learned")[:1 if bits == 8 else 2]:
            graph, points = digits.quantized(Recipe("int8", weight, rounding=rounding))
            lost.append(points)
        key, widths = ("pools", [bits, bits]) if weight.startswith("pool") else ("widths", [bits])
        preset, keys = _CHIP
        chip = load_chip(preset, keys + [f"buffers.weight_{key}={widths}"] * (bits < 8))
        _, program = compile_network(graph, chip)
        loaded = sum(moved_bytes(code, chip) for code in program.instructions
                     if code.opcode == Opcode.LOAD and code.memory in (Memory.WEIGHT, Memory.POOL))
        whole = whole or loaded
        claimed = bits / 8 if bits < 8 else 1.0
        figures.append(Figure(
            f"ResNet-8 in int8 x {weight}: points lost of {digits.exact:.1f}, rounded to the "
            "nearest, as learned", "" if most is None else f"<= {most:g}",
            ", ".join(f"{points:.1f}" for points in lost), most is None or lost[-1] <= most + 1e-6))
        figures.append(Figure(
            "the same on 16 x 16 elements, a bus of 32 bits: bytes of weights, cycles",
            f"{claimed:.3g} of int8's bytes, and 5 % for pools",
            f"{loaded:,}, {cycles(program).cycles:,}", loaded <= (claimed + 0.05) * whole))
    return figures

"""Random numbers of post-processing, such that results spread over the format."""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import OPCODES, Combination, Field, Opcode
from systolith.hw.spec.legality import BOUNDS, executes
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.widths import kept_bits
from systolith.hw.spec.words import pack_parameter_words
from systolith.sim.model.pool import Pool

__all__ = ["below_zero", "combination", "limits", "offsets", "operand_fields",
           "parameter_words", "parameters", "random_windows", "stretched"]

_BOUNDS = {(bound.opcode, bound.field): bound.limits for bound in BOUNDS}
#: Fields that are words of a memory.
_WORDS = {
    (Opcode.ARRAY, "weight_base"): Space.WEIGHT, (Opcode.ARRAY, "base"): Space.ACTIVATION,
    (Opcode.ARRAY, "accumulator"): Space.ACCUMULATOR,
    (Opcode.POST, "accumulator"): Space.ACCUMULATOR, (Opcode.POST, "base"): Space.ACTIVATION,
    (Opcode.POST, "parameters"): Space.PARAMETER, (Opcode.POST, "copy_base"): Space.OPERAND,
    (Opcode.POST, "operand_base"): Space.OPERAND}


def limits(code: Instruction, item: Field, arch: Arch) -> tuple[int, int] | None:
    """The smallest and largest value of an instruction's field that a chip keeps and its bounds
    allow; None where the field means nothing."""
    low, high, bits = item.low, item.high, kept_bits(arch, code.opcode)[item.name]
    if bits < item.width:
        top = 1 << max(bits - item.signed, 0)
        low, high = max(low, -top if item.signed else 0), min(high, top - 1)
    space = _WORDS.get((code.opcode, item.name))
    if (code.opcode, item.name) == (Opcode.LOAD, "base"):
        space = Space(code.memory)
    if space is not None:
        high = max(low, min(high, MEMORIES[space].depth(arch) - 1))
    bound = _BOUNDS.get((code.opcode, item.name))
    if bound is None:
        return low, high
    mine = bound(code, arch)
    return mine and (max(low, mine[0]), min(high, mine[1]))


def stretched(code: Instruction, arch: Arch, draw: Random) -> Instruction:
    """The instruction with some of its fields, but no counts and flags, at an end of what the chip
    keeps."""
    fields = [item for item in OPCODES[code.opcode] if item.width > 2 and item.least is None]
    changed = {}
    for item in draw.sample(fields, draw.randint(0, min(3, len(fields)))):
        if ends := limits(code, item, arch):
            changed[item.name] = draw.choice(ends)
    return Instruction(code.opcode, code.fields | changed, layer=draw.choice((code.layer, 0xFFF)))


def parameters(arch: Arch, data: np.random.Generator, shape: int | tuple[int, ...],
               scale: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bias, multiplier, shift and addend that spread sums of up to `scale` over the format's range,
    and some of any size."""
    top = 1 << arch.accumulator_bits - 1
    bias = data.integers(-scale, scale, shape)
    multiplier = data.integers(1, 1 << arch.multiplier_bits, shape)
    format = arch.activation
    width = format.width
    if format.floating:
        width += (1 << format.width - format.significand_bits) - 3      # binades
    if format.product_shift:                # the smallest number has more bits before its own
        width += format.product_shift - format.significand_bits
    shift = np.clip(arch.multiplier_bits - 1 + scale.bit_length() - width
                    + data.integers(-4, 4, shape), 0, 63)
    wild = data.random(shape)
    bias[wild < 0.2] = 0
    bias[wild < 0.06], bias[wild < 0.03] = -top, top - 1
    multiplier[wild > 0.9] = 0
    multiplier[wild > 0.93] = (1 << arch.multiplier_bits) - 1
    shift[wild > 0.96] = data.integers(0, 64)
    return bias, multiplier, shift, _addend(arch, data, multiplier)


def parameter_words(arch: Arch, data: np.random.Generator, ties: Random, count: int) -> bytes:
    """`count` parameter words as they lie in external memory."""
    shape = count, arch.post_lanes
    scale = min(1 << arch.accumulator_bits - 1, arch.term_bound * arch.vector)
    bias, multiplier, shift, addend = parameters(arch, data, shape, scale)
    below = (below_zero(arch, data, multiplier, shift)
             if "below_shift" in arch.parameters else None)
    breaks = np.reshape([ties.randrange(4) for _ in range(bias.size)], bias.shape)
    offset = offsets(arch, data, bias.shape) if "offset" in arch.parameters else None
    return pack_parameter_words(bias, multiplier, shift, arch, below, addend, breaks, offset)


def _addend(arch, data, multiplier):
    """A fraction of the multiplier, with as many bits as the chip holds; often none."""
    part = data.random(multiplier.shape)
    addend = (multiplier * np.where(part < 0.3, 0, part)).astype(np.int64)
    return np.sign(addend) * (abs(addend) // arch.addend_unit * arch.addend_unit)


def below_zero(arch: Arch, data: np.random.Generator, multiplier: np.ndarray,
               shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Multipliers, shifts and addends for sums below zero: smaller than those above zero, negative
    ones, or those above zero."""
    below = (multiplier * data.uniform(-1, 1, multiplier.shape)).astype(np.int64)
    kind = data.random(multiplier.shape)
    below = np.select([kind < 0.2, kind < 0.3], [multiplier, -multiplier], below)
    return (below, np.where(kind > 0.9, data.integers(0, 64, shift.shape), shift),
            _addend(arch, data, below))


def offsets(arch: Arch, data: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Offsets as the chip's parameters hold them: of any size, often none or less than a step."""
    bits = arch.parameters["offset"][0]
    wide = data.integers(-1 << bits - 1, 1 << bits - 1, shape)
    return np.where(data.random(shape) < 0.2, 0, wide >> data.integers(0, bits, shape))


def operand_fields(arch: Arch, draw: Random) -> tuple[dict[str, Any], int, tuple[int, int]]:
    """Fields of a POST or an `Operand` (factors, zero points, limits), the right shift, and the
    (smallest, largest) first result. On chips with offsets sometimes `late`, as of
    `Requantization`."""
    format = arch.activation
    bottom, top = format.ordered_range
    product = draw.random() < 0.4
    integers = not format.floating
    most = 1 << arch.first_bits - 1
    first = ((-most, most - 1) if integers and draw.random() < 0.5
             else (bottom, top))
    zero = draw.choice((0, draw.randint(bottom, top))) if integers else 0
    # The scale that spreads results over the format: c alone, or its product with the operand.
    size = max(0, first[1].bit_length() - format.width) if integers else 0
    if product:
        largest = top if integers else format.image_range[1]
        size += largest.bit_length()
    shift = min(63, max(0, arch.gain_bits - 2 + size + draw.randint(-2, 2)))
    if draw.random() < 0.1:
        shift = draw.randrange(64)
    reach = (1 << arch.gain_bits - 1) - 1
    gain, operand_gain = (draw.choice((-1, 1, 1, 1)) * draw.randint(reach >> 2, reach)
                          for _ in range(2))
    operand_gain = draw.choice((operand_gain >> size, operand_gain, 0, -reach - 1))
    low, high = draw.choice(((bottom, top), (0, top), tuple(
        sorted(draw.randint(bottom, top) for _ in range(2)))))
    late = {}
    if not product and executes(arch, Opcode.POST, "operand", Combination.LATE):
        late = {"late": draw.random() < 0.5}
        if late["late"]:
            operand_gain = draw.randint(-most, most - 1) >> draw.randrange(arch.first_bits)
    return late | dict(product=product, gain=gain, operand_gain=operand_gain, operand_zero=zero,
                zero_point=draw.choice((0, draw.randint(bottom, top))) if integers else 0,
                low=low, high=high), shift, first


def combination(fields: dict[str, Any]) -> Combination:
    """That of fields of an operand, of which those that a POST does not have are taken away."""
    product, late = fields.pop("product"), fields.pop("late", False)
    return (Combination.PRODUCT if product else Combination.LATE if late else Combination.SUM)


def random_windows(draw: Random, sizes: Sequence[int]) -> Pool:
    """Max pooling of a map (height, width)."""
    size, stride, pads = [], [], []
    for pixels in sizes:
        size.append(draw.choice((1, 2, 3, 3, 4)))
        stride.append(draw.randint(1, 4))
        before = draw.randrange(size[-1])
        # The last window holds a pixel, and the first one is there.
        out = draw.randint(1, (pixels - 1 + before) // stride[-1] + 1)
        reach = (out - 1) * stride[-1] + size[-1]
        pads.append((before, max(0, reach - pixels - before)))
    return Pool(tuple(size), tuple(stride),
                tuple(pad for side in zip(*pads, strict=True) for pad in side))

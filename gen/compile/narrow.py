"""A network with multipliers as narrow as a chip's (key post.multiplier_bits), and how far its
results then are from those of wide ones."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from systolith.gen.kit.notes import LEAST, Note
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import FIRST_BELOW, FIRST_BITS, MULTIPLIER_BITS, SHIFT_BITS
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Below

__all__ = ["FEWEST", "multiplier_need", "narrowed"]

#: The narrowest multipliers that a chip can have.
FEWEST = 16
#: Results may be farther from those of wide multipliers by so many steps.
_MOST = 0.5


def narrowed(graph: Graph, arch: Arch) -> Graph:
    """The network with multipliers of a chip's width, rounded, with a `Note` of each layer whose
    results move by LEAST steps or more, or else one of all the network. A layer that such
    multipliers do not suffice for stays as it is, and is refused by its row of `needs.NEEDS`."""
    bits = arch.multiplier_bits
    if bits == MULTIPLIER_BITS or any(note.kind == "multiplier" for note in graph.notes):
        return graph
    layers, moved = [], {"": 0.0}
    for conv in graph.layers:
        found = _narrow(conv, graph.tensors[conv.output], bits)
        if found is not None:
            conv, moved[conv.name] = found
        layers.append(conv)
    most = max(moved.values())
    notes = [Note("multiplier", name, off, detail=str(bits)) for name, off in moved.items()
             if off >= LEAST] or [Note("multiplier", "", most, detail=str(bits))]
    return replace(graph, layers=layers, notes=[*graph.notes, *notes])


def multiplier_need(conv: Conv, tensors: Mapping[str, Tensor], arch: Arch) -> int:
    """The least value of `multiplier_bits` with which a chip computes a layer; 0 where any does, or
    where the chip has the widest."""
    if arch.multiplier_bits == MULTIPLIER_BITS:
        return 0
    tensor = tensors[conv.output]
    return next((bits * (bits > FEWEST) for bits in range(FEWEST, MULTIPLIER_BITS)
                 if _narrow(conv, tensor, bits) is not None), MULTIPLIER_BITS)


def _narrow(conv, tensor, bits):
    """(layer with multipliers of so many bits, by how many steps its results move), or None."""
    own, form = conv.requantization, tensor.format
    if own is None:
        return conv, 0.0
    if form.binary:                         # signs ask only whether a multiplier is 0
        return replace(conv, requantization=replace(
            own, multiplier=np.minimum(own.multiplier, 1))), 0.0
    first = 0.0
    reach = 1 << form.man + 1 if form.floating else _reach(own)
    if own.late:
        # First results are added to operands as they are: they cannot be made coarser.
        operand, top = conv.operand, 1 << min(FIRST_BITS, bits - FIRST_BELOW) - 1
        if operand.gain >> bits or not (-top <= operand.operand_gain < top) or not (
                -top <= own.low <= own.high < top):
            return None
        reach = _reach(operand)
    elif conv.operand is not None:
        found = _narrow_operand(conv, form, bits)
        if found is None:
            return None
        conv, first, reach = found
        own = conv.requantization
    numbers = _scaled(own.multiplier, own.shift, own.addend, bits)
    if numbers is None:
        return None
    off, below = _moved(own.multiplier, own.shift, *numbers[:2]), own.below
    if below is not None:
        other = _scaled(below.multiplier, below.shift, below.addend, bits)
        if other is None:
            return None
        off = max(off, _moved(below.multiplier, below.shift, *other[:2]))
        below = Below(*other)
    return replace(conv, requantization=replace(
        own, multiplier=numbers[0], shift=numbers[1], addend=numbers[2], below=below)), (
        first + off * reach)


def _reach(limits):
    """How far integers within limits are from the zero point."""
    return max(abs(limits.low - limits.zero_point), abs(limits.high - limits.zero_point))


def _scaled(multiplier, shift, addend, bits):
    """Multipliers of at most `bits` bits, and a sign, with their shifts and addends; None where the
    shifts are too small."""
    size = np.array([int(item).bit_length() for item in abs(multiplier).tolist()], np.int64)
    drop = np.maximum(size - bits, 0)
    # a multiplier that is rounded up to one bit more
    drop += _rounded(abs(multiplier), drop) >> bits
    if (drop > shift).any():
        return None
    numbers = _rounded(multiplier, drop)
    limit = np.minimum(abs(_rounded(addend, drop)), abs(numbers))
    return numbers, shift - drop, np.sign(addend) * limit


def _rounded(numbers, drop):
    """numbers / 2**drop to the nearest integer, halves away from zero."""
    half = (np.int64(1) << drop) >> 1
    return np.sign(numbers) * ((abs(numbers) + half) >> drop)


def _moved(multiplier, shift, other, right):
    """The largest share by which factors, multiplier / 2**shift, change."""
    there = np.where(multiplier == 0, 1.0, multiplier)
    share = np.ldexp(other / there, shift - right) - (multiplier != 0)
    return float(abs(share).max(initial=0.0))


def _combined_moved(conv, gain, other, moved, most, side, there):
    """(by how many steps results within the limits move, as first results, of up to `most`, are
    `moved` and the factors of them and of operands, of up to `side`, become those `there`; what
    first results add to a result, in steps)."""
    operand, reach = conv.operand, _reach(conv.operand)
    first, second = most * abs(gain), 0 if operand.product else side * abs(other)
    times = 1
    if operand.product:
        first, times = first * side, side
    meets = min(first, reach + second)
    off = abs(gain) * times * moved + (abs(there[0] / gain - 1) * meets if gain else 0)
    if second:
        off += abs(there[1] / other - 1) * min(second, reach + first)
    return off, float(meets)


def _narrow_operand(conv, form, bits):
    """(layer whose first results and their factors have so few bits, by how many steps its results
    move, what first results add to one), or None where that is too far or shifts are too small."""
    own, operand = conv.requantization, conv.operand
    gain, other = (Fraction(item, 1 << operand.shift)
                   for item in (operand.gain, operand.operand_gain))
    moved, coarser = Fraction(0), 0
    if form.uniform:
        first = max(min(FIRST_BITS, bits - FIRST_BELOW), form.width + 1)
        coarser = max(0, max(own.high.bit_length(), (-1 - own.low).bit_length()) + 1 - first)
    if coarser:
        top = 1 << first - 1
        over = np.maximum(own.shift + coarser - ((1 << SHIFT_BITS) - 1), 0)
        below = own.below
        if below is not None:
            beyond = np.maximum(below.shift + coarser - ((1 << SHIFT_BITS) - 1), 0)
            below = Below(_rounded(below.multiplier, beyond), below.shift + coarser - beyond,
                          _rounded(below.addend, beyond))
        own = replace(
            own, multiplier=_rounded(own.multiplier, over), shift=own.shift + coarser - over,
            addend=_rounded(own.addend, over), below=below,
            offset=None if own.offset is None else _rounded(own.offset, np.int64(coarser)),
            low=max(-top, round(Fraction(own.low, 1 << coarser))),
            high=min(top - 1, round(Fraction(own.high, 1 << coarser))))
        gain *= 1 << coarser
        moved = Fraction(1, 2)
    most = max(abs(gain), 0 if operand.product else abs(other))
    shift = operand.shift
    while round(most * (1 << shift)) >> bits:
        shift -= 1
        if shift < 0:
            return None
    numbers = [round(item * (1 << shift)) for item in (gain, other)]
    if form.uniform:
        off, reach = _combined_moved(
            conv, gain, other, moved, max(-own.low, own.high), 1 << form.width,
            [Fraction(number, 1 << shift) for number in numbers])
        if off > _MOST:
            return None
    else:
        reach = 1 << form.man + 1
        off = Fraction(2 * reach, 1 << bits)
    changed = replace(operand, gain=numbers[0], shift=shift,
                      operand_gain=1 if operand.product else numbers[1])
    return replace(conv, requantization=own, operand=changed), float(off), reach

"""The weight and parameter words of a layer, as they lie in external memory."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from systolith.hw.spec.host import Box
from systolith.hw.spec.narrow import pack_rows
from systolith.hw.spec.words import pack_parameter_words, pack_weight_words
from systolith.sim.model.numerics import codes_of
from systolith.sim.model.requantization import Requantization

from .bias import chip_bias
from .blocks import scaled_words
from .few_weights import pool_codes
from .layer import Layer
from .parameters import parameter_tail, parameter_words
from .pass_order import pass_order, stored_passes

__all__ = ["parameter_bytes", "weight_bytes"]


def _pass_words(layer, codes, dtype, fill):
    """Weight codes [O, I, kh, kw] as an array [column block, kernel row, kernel column, block,
    array row, array column, lane] of `dtype`. `fill` is the code of idle lanes of layers whose
    passes are made twice."""
    if layer.side:
        codes = _beside(layer, codes)
    arch, (channels, inputs, kernel_y, kernel_x) = layer.arch, codes.shape
    out, vector = layer.column_blocks * arch.columns, layer.blocks * layer.vector
    padded = np.zeros((out, vector, kernel_y, kernel_x), dtype)
    for first in layer.places:
        padded[first:first + channels, :inputs] = codes
    if arch.weight.binary or (layer.signs and not layer.halves):
        # Idle lanes cancel in pairs of lanes or, with pairs of passes, between the two passes.
        idle = np.full(vector - inputs, fill) if layer.pairs else np.arange(vector - inputs) % 2
        padded[:, inputs:] = idle.astype(dtype)[:, None, None]
        # Sums of columns without channel must stay within the accumulators, too.
        spare = np.full(vector, fill) if layer.pairs else np.arange(vector) % 2
        padded[channels:] = spare.astype(dtype)[:, None, None]
    words = padded.reshape(layer.column_blocks, arch.columns, layer.blocks, arch.rows, -1,
                           kernel_y, kernel_x).transpose(0, 5, 6, 2, 3, 1, 4)
    words = words[:, :, :, :, :layer.height]
    if layer.halves:
        half = arch.weight.width // 2
        return codes_of(words >> half, arch.code_signs, half, upper_first=True).astype(dtype)
    return codes_of(words, arch.code_signs).astype(dtype) if layer.signs else words


def _beside(layer, codes):
    """Weight codes [O, I, kh, kw] of a layer that computes taps side by side: [O, parts * lanes of
    a part, kh, passes]. The last one of them sees the leftmost pixel."""
    channels, inputs, height, width = codes.shape
    taps, each = layer.beside, layer.arch.vector >> layer.side
    made = np.zeros((channels, 1 << layer.side, each, height, -(-width // taps)), codes.dtype)
    for tap in range(width):
        made[:, taps - 1 - tap % taps, :inputs, :, tap // taps] = codes[:, :, :, tap]
    return made.reshape(channels, -1, *made.shape[3:])


def _on_chip(layer, weights, arch):
    """The weights in the chip's format, which has them all: `check_layer`; signs as they are."""
    if layer.signs:
        return weights
    weights = weights.in_format(arch.weight)
    assert weights is not None, "the layer is checked"
    return weights


def weight_bytes(layer: Layer, parts: Sequence[Box]) -> bytes:
    """The weight words of a layer in the order in which the array takes them: column block by
    column block, part by part (boxes of `Plan.parts`), pass by pass; one word for each row of the
    array.
    """
    arch = layer.arch
    dtype = np.uint8 if arch.weight.width <= 8 else np.uint16
    if arch.weight.block_scale:
        scaled = scaled_words(layer)
        assert scaled is not None, "the layer is checked"
        return _in_order(layer, parts, [scaled.astype(dtype)])
    if layer.in_planes:
        return _in_order(layer, parts, _plane_words(layer, dtype))
    addends = [_on_chip(layer, weights, arch) for weights in layer.addends]
    if layer.from_above:
        words = [layer.from_above.words(weights.codes.astype(dtype), layer) for weights in addends]
        return _stored(np.concatenate(
            [words[turn][block].reshape(-1, arch.columns) for block in range(layer.column_blocks)
             for turn, _ in layer.turns(layer.kernel, block)]), layer)
    groups = layer.conv.geometry.groups
    turns = [_pass_words(layer, weights.dense(groups, fill).codes, dtype, fill > 0)
             for weights in addends for fill in ((-1, 1) if layer.pairs else (0,))]
    return _in_order(layer, parts, turns)


def _plane_words(layer, dtype):
    """The words of all passes, once for each plane of the layer's weights. Lanes and columns
    without channel have the weight 0 where there is one, all planes together: so the plane of -1
    is -1 in all lanes."""
    weights = layer.conv.weights.dense(layer.conv.geometry.groups)
    if weights.format.has_zero:
        weights = weights.with_zeros(layer.column_blocks * layer.arch.columns,
                                     layer.blocks * layer.vector)
    codes = [np.zeros(weights.shape, np.int64) if signs is None else signs.codes
             for _, signs in weights.planes]
    return [_pass_words(layer, item, dtype, 0) for item in codes]


def _in_order(layer, parts, turns):
    """The bytes of `weight_bytes` from the words of all passes, once for each turn."""
    arch = layer.arch
    uniform = len(set(layer.spans)) == 1 and len(layer.addends) == 1
    together = [slice(None)] if uniform else [slice(n, n + 1) for n in range(layer.column_blocks)]
    cut = []
    for mine in together:
        block = mine.start or 0
        # Each stored box once, in the order in which they are stored.
        boxes = {place: one for one, place in zip(
            reversed(pass_order(layer, parts, block)),
            reversed(stored_passes(layer, parts, block)), strict=True)
            if not layer.constant or one[1] < layer.constant}
        chosen = [turns[turn][mine, y:y + rows, x:x + columns, b:b + blocks]
                  for _, (_, turn, (y, rows, x, columns, b, blocks)) in sorted(boxes.items())]
        words = [item.reshape(len(item), -1, arch.columns * arch.lanes) for item in chosen]
        words.append(np.zeros((len(words[0]), layer.constant_passes * layer.height,
                               words[0].shape[2]), words[0].dtype))
        cut.append(np.concatenate(words, axis=1))
    return _stored(np.concatenate(
        [item.reshape(-1, arch.columns * arch.lanes) for item in cut]), layer)


def _stored(codes, layer):
    """Weight codes [passes * height, columns * lanes] of all column blocks as they lie in external
    memory."""
    arch = layer.arch
    if layer.weight_pool is not None:                  # their numbers in the pool
        pool = pool_codes(layer.conv.weights, arch)
        places = np.argsort(pool)
        codes = places[np.searchsorted(pool, codes, sorter=places)].astype(codes.dtype)
    codes = pack_rows(codes.reshape(-1, layer.height, arch.columns * arch.lanes), layer.narrow,
                      arch).reshape(-1, arch.columns * arch.lanes)
    words = np.frombuffer(pack_weight_words(codes, arch), np.uint8).reshape(len(codes), -1)
    return b"".join(words[first:end, :layer.stored.word_bytes(block)].tobytes()
                    for block, (first, end) in enumerate(pairwise(layer.stored.offsets)))


def parameter_bytes(layer: Layer) -> bytes:
    """The parameter words of a layer: `arch.chunks` words for each group of output channels, the
    last one without lanes that have no channel (`parameters.py`). On binary chips one more group
    follows, whose results are always -1, for lanes without channel. Results that are signs
    are -1 there, too."""
    conv, arch = layer.conv, layer.arch
    bipolar = arch.activation.binary
    total = (layer.groups + bipolar) * arch.group
    to_signs = layer.plain_signs
    lowest = -(1 << arch.accumulator_bits - 1) if bipolar or to_signs else 0
    held = conv.on_chip(arch).requantization or Requantization.plain(layer.channels)
    if layer.doubled:
        held = held.of_doubled()
    if to_signs:                                # nothing is rounded
        held = Requantization(np.minimum(held.multiplier, 1))
    # Signs need no shift: its lowest bit selects min pooling instead of max pooling.
    shifts = held.shift if not bipolar else conv.pool.least or 0
    columns = []
    for values, absent in ((chip_bias(layer), lowest),
                           (held.multiplier, int(bipolar or to_signs)), (shifts, 0),
                           (held.addend, 0), (held.ties, 0),
                           *((item, 0) for item in _below(held, conv.operand) or ())):
        column = np.full(total, absent, np.int64)
        for first in layer.places:
            column[first:first + layer.channels] = values
        columns.append(column.reshape(-1, arch.post_lanes))
    bias, multiplier, shift, addend, ties = columns[:5]
    below: Any = tuple(columns[5:]) or None
    offset: Any = None
    if held.offset is not None:
        unit = arch.offset_unit(conv.operand is not None and not held.late)
        offset = np.zeros(total, np.int64)
        offset[:layer.channels] = held.offset // unit
        offset = offset.reshape(-1, arch.post_lanes)
    words = pack_parameter_words(bias, multiplier, shift, arch, below, addend, ties, offset)
    absent = layer.groups * arch.chunks - parameter_words(layer)
    return words[:len(words) - (absent + 1) * arch.parameter_bytes + parameter_tail(layer)]


def _below(own, operand):
    """Multipliers, shifts and addends of a requantization below zero; None: as above zero. Late
    ones are those of the sum with the operand."""
    if not own.late:
        return own.below
    ones = np.ones_like(own.multiplier)
    if own.below is None:
        return ones * operand.gain, ones * operand.shift, 0 * ones
    return own.below._replace(addend=0 * ones)

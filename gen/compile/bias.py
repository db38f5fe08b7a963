"""Biases as the chip holds them, and their errors."""

from dataclasses import replace

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import MULTIPLIER_BITS
from systolith.sim.model.conv import Conv

from .layer import Layer

__all__ = ["bias_error", "bias_fraction", "chip_bias", "odd_tail"]


def odd_tail(layer: Layer) -> bool:
    """Whether an odd number of lanes for signs has no channel of a layer. Products of such lanes
    cancel in pairs; the last one is then corrected by the bias."""
    if layer.in_planes and layer.conv.weights.format.has_zero:
        return False
    return ((layer.arch.weight.binary or (layer.signs and not layer.halves)) and not layer.pairs
            and (layer.blocks * layer.vector - layer.conv.inputs) % 2 == 1)


def chip_bias(layer: Layer) -> np.ndarray:
    """int64 array [O]: the biases of a layer in the chip's accumulators. Less 1, or 1 in each plane
    of weights, for each tap where there is an odd tail, whose product is (-1) * (-1); twice the
    layer's where each pass is made twice (`Layer.pairs`)."""
    bias = layer.conv.on_chip(layer.arch).bias
    if layer.pairs:
        return 2 * bias
    return bias - layer.plane_sum * layer.y.kernel * layer.x.kernel * odd_tail(layer)


def bias_error(conv: Conv, arch: Arch) -> float:
    """The largest error of a layer's results that comes from biases with few fraction bits, in
    steps of the output (for floats: in smallest subnormals)."""
    held = conv.on_chip(arch)
    if held is conv:
        return 0.0
    carry = (held.bias - conv.bias).astype(np.float64)
    own, there = conv.requantization, held.requantization
    assert own is not None and there is not None        # raw layers have whole biases
    sides = [(own.multiplier, own.shift, own.addend, there.addend)]
    if own.below is not None and there.below is not None:
        sides.append((*own.below, there.below.addend))
    error = max(float(np.abs(np.ldexp(carry * factor + other - addend, -shift)).max())
                for factor, shift, addend, other in sides)
    operand = conv.operand
    if operand is None:
        return error
    reach = max(map(abs, arch.activation.image_range)) * 2 if operand.product else 1
    return error * abs(operand.gain) * reach / 2.0 ** operand.shift


def bias_fraction(conv: Conv, arch: Arch) -> int:
    """The least value of `bias_fraction` (key post.bias_fraction) with which `bias_error` is at
    most half a step; MULTIPLIER_BITS where none is."""
    return next(bits for bits in range(MULTIPLIER_BITS + 1) if bits == MULTIPLIER_BITS
                or bias_error(conv, replace(arch, bias_fraction=bits)) <= 0.5)

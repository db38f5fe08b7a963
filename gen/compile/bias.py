"""Biases as the chip holds them, and how far they are from the network's own."""

from dataclasses import replace

import numpy as np
from systolith.hw.spec.numbers import MULTIPLIER_BITS

__all__ = ["bias_error", "bias_fraction", "chip_bias", "odd_tail"]


def odd_tail(layer):
    """Whether the idle lanes after the last channel are odd in number, so that one product of
    theirs is not cancelled."""
    return (layer.arch.weight.binary and not layer.pairs
            and (layer.blocks * layer.arch.vector - layer.conv.inputs) % 2 == 1)


def chip_bias(layer):
    """The bias as the chip holds it, with what an odd tail adds to every sum taken off, one product
    of two -1 a tap; twice the bias of pairs of passes."""
    bias = layer.conv.on_chip(layer.arch).bias
    if layer.pairs:
        return 2 * bias
    return bias - layer.y.kernel * layer.x.kernel * odd_tail(layer)


def bias_error(conv, arch):
    """The largest error of a bias on this chip, in steps of the output (of its results, where these
    are floats: smallest subnormals)."""
    held = conv.on_chip(arch)
    if held is conv:
        return 0.0
    carry, own = (held.bias - conv.bias).astype(np.float64), conv.requantization
    sides = [(own.multiplier, own.shift, own.addend, held.requantization.addend)]
    if own.below is not None:
        sides.append((*own.below, held.requantization.below.addend))
    error = max(float(np.abs(np.ldexp(carry * factor + other - addend, -shift)).max())
                for factor, shift, addend, other in sides)
    operand = conv.operand
    if operand is None:
        return error
    reach = max(map(abs, arch.activation.image_range)) * 2 if operand.product else 1
    return error * abs(operand.gain) * reach / 2.0 ** operand.shift


def bias_fraction(conv, arch):
    """The least value of post.bias_fraction with which no bias is off by more than half a step."""
    return next(bits for bits in range(MULTIPLIER_BITS + 1) if bits == MULTIPLIER_BITS
                or bias_error(conv, replace(arch, bias_fraction=bits)) <= 0.5)

"""Kernels of convolutions that sum the results of other convolutions over a window."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from systolith.hw.formats import Int
from systolith.sim.model.weights import Weights

from .nodes import Node
from .values import Linear, Value

__all__ = ["spread", "unwindowed"]


def unwindowed(value: Value, node: Node) -> Value:
    """The result of a convolution with its sum pooling made part of the convolution's kernel.
    Raises UserError at `node` where the summed weights have no codes."""
    if value.window == (1, 1):
        return value
    own = value.linear
    assert isinstance(own, Linear)
    weights = spread(own.weights, own.dilation, value.window, own.stride, value, node)
    stride = tuple(s * n for s, n in zip(own.stride, value.window, strict=True))
    return replace(value, window=(1, 1),
                   linear=replace(own, weights=weights, stride=stride, dilation=(1, 1)))


def spread(weights: Weights, dilation: Sequence[int], counts: Sequence[int],
           steps: Sequence[int], value: Value, node: Node) -> Weights:
    """The kernel, without dilation, that adds up the results of the kernel `weights` with its
    `dilation` at `counts` (y, x) positions that are `steps` (y, x) pixels apart. Raises UserError
    at `node`, naming what makes `value`, where a weight of this kernel has no code."""
    images = weights.images
    (dy, dx), (sy, sx) = dilation, steps
    reach = [(size - 1) * d + 1 for size, d in zip(images.shape[2:], dilation, strict=True)]
    sizes = [r + (n - 1) * s for r, n, s in zip(reach, counts, steps, strict=True)]
    result = np.zeros((*images.shape[:2], *sizes), np.int64)
    for y, x in product(*map(range, counts)):
        result[:, :, y * sy:y * sy + reach[0]:dy, x * sx:x * sx + reach[1]:dx] += images
    format = weights.format
    if format.binary and (abs(result) != 1).any():
        format = Int(min(max(int(abs(result).max()).bit_length(), 1) + 1, 8))
    made = Weights(result, format)
    if not made.has_codes.all():
        node.fail(f"reads the result of {value.nodes[-1]!r} before it is quantized, and one layer "
                  f"for both needs larger weights than {format} has; put a quantizer between them")
    return made

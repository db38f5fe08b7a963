"""Kernels of convolutions that sum the results of other convolutions over a window."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from systolith.hw.formats import Format, Int

from .nodes import Node
from .values import Linear, Value

__all__ = ["format_of", "spread", "unwindowed"]


def unwindowed(value: Value, node: Node) -> Value:
    """The result of a convolution with its sum pooling made part of the convolution's kernel.
    Raises UserError at `node` where the summed weights have no codes."""
    if value.window == (1, 1):
        return value
    own = value.linear
    assert isinstance(own, Linear)
    images = spread(own.images, own.dilation, value.window, own.stride)
    form = format_of(images, own.format, value, node)
    stride = tuple(s * n for s, n in zip(own.stride, value.window, strict=True))
    return replace(value, window=(1, 1),
                   linear=replace(own, images=images, format=form, stride=stride,
                                  dilation=(1, 1)))


def spread(images: np.ndarray, dilation: Sequence[int], counts: Sequence[int],
           steps: Sequence[int]) -> np.ndarray:
    """The kernel, without dilation, that adds up the results of the kernel `images` [O, I, kh, kw]
    with its `dilation` at `counts` (y, x) positions that are `steps` (y, x) pixels apart."""
    (dy, dx), (sy, sx) = dilation, steps
    reach = [(size - 1) * d + 1 for size, d in zip(images.shape[2:], dilation, strict=True)]
    sizes = [r + (n - 1) * s for r, n, s in zip(reach, counts, steps, strict=True)]
    result = np.zeros((*images.shape[:2], *sizes), np.int64)
    for y, x in product(*map(range, counts)):
        result[:, :, y * sy:y * sy + reach[0]:dy, x * sx:x * sx + reach[1]:dx] += images
    return result


def format_of(images: np.ndarray, format: Format, value: Value, node: Node) -> Format:
    """The format for the weights `images` of a convolution and a mean in one layer: the
    convolution's `format`, or integers where that is binary. Raises UserError at `node`, naming
    what makes `value`, where a weight has no code in it."""
    if format.binary and (abs(images) != 1).any():
        format = Int(min(max(int(abs(images).max()).bit_length(), 1) + 1, 8))
    if not format.has_image(images).all():
        node.fail(f"reads the result of {value.nodes[-1]!r} before it is quantized, and one layer "
                  f"for both needs larger weights than {format} has; put a quantizer between them")
    return format

"""ConvTranspose: transposed convolutions, as ordinary ones whose results are interleaved.

In a transposed convolution of stride s, every s-th result uses the same taps of the kernel: s * s
ordinary convolutions with smaller kernels, each of which writes every s-th pixel of every s-th row.
"""

from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.crop import parts_value
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import Inputs, Part, Value, on_chip
from systolith.sim.model.placement import Placement
from systolith.sim.model.weights import Weights

from .linear import add_bias, linear
from .weights import weight_scale, weights_of
from .windows import as_map, spatial

__all__ = ["Axis"]


@dataclass
class Axis:
    """One axis of a transposed convolution: `size` pixels read; `pads` (before, after) remove
    results, `more` adds some at the end."""
    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    pads: tuple = (0, 0)
    more: int = 0

    @property
    def out(self) -> int:
        """Results along the axis."""
        return ((self.size - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
                - sum(self.pads) + self.more)

    def phase(self, origin: int) -> tuple[list[int], int, tuple[int, int]]:
        """The convolution that computes the results origin, origin + stride, ...: (taps in the
        order of a convolution's kernel, dilation, pads (before, after))."""
        taps = [k for k in range(self.kernel)
                if (origin + self.pads[0] - k * self.dilation) % self.stride == 0][::-1]
        first, last = ((origin + self.pads[0] - k * self.dilation) // self.stride
                       for k in ((taps[0], taps[-1]) if taps else (0, 0)))
        count = -(-(self.out - origin) // self.stride)
        if not taps:
            first = last = 0
        return (taps, self.dilation // gcd(self.dilation, self.stride),
                (-first, count + last - self.size))


def _axes(node, sizes, kernel, strides=None, dilations=None, pads=None, output_padding=None,
          output_shape=None, auto_pad="NOTSET"):
    """The Axis of each dimension; maps of one dimension have a height of 1."""
    rank = len(kernel)
    strides, dilations = (spatial(node, name, values, rank, 1) for name, values in
                          (("strides", strides), ("dilations", dilations)))
    more = spatial(node, "output_padding", output_padding, rank, 0)
    pads = [int(item) for item in pads or [0] * 2 * rank]
    node.expect("auto_pad", auto_pad, ("NOTSET", "VALID"))
    if output_shape is not None:
        node.fail("attribute output_shape is not supported; give pads and output_padding")
    if len(pads) != 2 * rank or min(*strides, *dilations) < 1 or min(*pads, *more) < 0:
        node.fail("attributes strides and dilations must be at least 1, pads and output_padding at "
                  f"least 0, not {strides}, {dilations}, {pads}, {more}")
    axes = [Axis(*item) for item in zip(sizes[-rank:], kernel, strides, dilations,
                                        zip(pads[:rank], pads[rank:], strict=True), more,
                                        strict=True)]
    if min(axis.out for axis in axes) < 1:
        node.fail("its result has no pixels: pads remove all of them; make pads smaller")
    return axes if rank == 2 else [Axis(1, 1), *axes]


@operator("ConvTranspose", roles=Role.LINEAR | Role.MAPS, rest=_axes)
def _conv_transpose(builder: Builder, node: Node, inputs: Inputs, group: int = 1,
                    kernel_shape: list[int] | None = None, **windows: Any) -> Value:
    value, weights = on_chip(inputs[0], node), weights_of(inputs[1], node)
    rank = len(weights.shape) - 2
    as_map(value, node)
    if len(value.shape) - 1 != rank:
        node.fail(f"its weights have {rank + 2} dimensions, and its input has "
                  f"{len(value.shape) + 1}")
    channels, each, *kernel = weights.shape
    if group < 1 or channels % group or channels != value.map[0]:
        node.fail(f"its weights are for {channels} channels in {group} groups, and its input has "
                  f"{value.map[0]}")
    if kernel_shape not in (None, kernel):
        node.fail(f"attribute kernel_shape must be that of its weights, {kernel}")
    axes = _axes(node, value.map[1:], kernel, **windows)
    size = [axis.kernel for axis in axes]
    # [O, I / group, kernel], the order of a convolution's weights.
    images, scale = (item.reshape(group, channels // group, each, *size).swapaxes(1, 2)
                     .reshape(group * each, channels // group, *size)
                     for item in (weights.images, weights.scale))
    scale = weight_scale(weights, scale, node)
    parts = []
    for origin in product(*(range(min(axis.stride, axis.out)) for axis in axes)):
        (down, dy, rows), (across, dx, columns) = (
            axis.phase(place) for axis, place in zip(axes, origin, strict=True))
        some = images[:, :, down or [0]][:, :, :, across or [0]]
        if not (down and across):
            some = np.zeros_like(some)              # no tap meets these results
        pads = rows[0], columns[0], rows[1], columns[1]
        part = linear(builder, node, value, Weights(some, weights.format), scale,
                      lambda size, kernel, d=(dy, dx), p=pads: ((1, 1), d, p), group)
        add_bias(part, inputs[2:3], node)
        parts.append(Part(part, Placement(0, tuple(axis.stride for axis in axes), origin)))
    sizes = (group * each, *(axis.out for axis in axes))
    return parts_value(parts, sizes if rank == 2 else (sizes[0], sizes[2]), sizes, node)

"""MaxPool and GlobalMaxPool: max pooling of a map.

The layer that makes the map pools it; where no layer does, or where other layers read the map too,
a layer that copies the map pools it. Windows with a dilation d are windows without dilation on
every d-th pixel: each such part of the map is pooled separately and writes its own results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd

from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import parts_value
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import HostInput, Inputs, Linear, Part, Value, activation
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool

from .stride import as_codes, sampled, stored
from .windows import as_map, spatial, window

__all__ = ["pooled_axes"]


def _pooled(builder, value, pool, node):
    """Max pooling of a value, merged with pooling that the value already has where one pass can do
    both."""
    if pool.nothing:
        return replace(value, nodes=[*value.nodes, node.name])
    if any(value.pads) or (value.parts and value.pool):
        value = plain(builder, value, node)
    sizes = pool.out(value.map[1:])
    shape = (value.map[0], *sizes) if len(value.shape) == 3 else (value.map[0], sizes[1])
    together = value.pool.then(pool) if value.pool else pool
    if together is None:
        if value.linear is not None:
            node.fail(f"pools the result of {value.nodes[-1]!r}, which pools too, before it is "
                      "quantized; put a quantizer between them")
        source, _, _ = builder.read(value, node)
        value, together = replace(value, source=source, low=None, high=None), pool
    return replace(value, pool=together, map=(value.map[0], *sizes), shape=shape,
                   nodes=[*value.nodes, node.name])


def _pool_steps(size, stride, pads, count):
    """The pooling steps along one axis that together pool windows of `size`, each small enough for
    an instruction: [(size, stride, pads)]. `count`: results along the axis."""
    most = Pool.MOST
    if size <= most:
        return [(size, stride, pads)]
    if count == 1:                              # the stride means nothing
        step = most // 2 + 1
    else:
        step = max(n for n in range(1, most // 2 + 2) if stride % n == 0)
    rest = -(-(size - most) // step) + 1
    first = size - (rest - 1) * step
    return [(first, step, pads),
            *_pool_steps(rest, rest if count == 1 else stride // step, (0, 0), count)]


def pooled_axes(builder: Builder, value: Value, axes: Sequence[tuple], node: Node) -> Value:
    """Max pooling over windows of any size; `axes` are (size, stride, (pads before, after),
    results) for rows and columns. Raises UserError at `node`."""
    steps = [_pool_steps(*axis) for axis in axes]
    while len(steps[0]) != len(steps[1]):
        min(steps, key=len).append((1, 1, (0, 0)))
    for y, x in zip(*steps, strict=True):
        pads = tuple(pad for side in zip(y[2], x[2], strict=True) for pad in side)
        value = _pooled(builder, value, Pool((y[0], x[0]), (y[1], x[1]), pads), node)
    return value


@dataclass
class Gaps:
    """One axis of dilated max pooling: `count` windows of `kernel` pixels, `dilation` apart, over
    `size` pixels; the first window starts `before` pixels before the map."""
    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    count: int

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int],
           ceil_mode: int, node: Node) -> "Gaps":
        """The axis of a MaxPool with these attributes; `pads` are (before, after). Raises UserError
        at `node` where a window has no pixel of the map."""
        reach = dilation * (kernel - 1) + 1
        rest = size + sum(pads) - reach
        count = (-(-rest // stride) if ceil_mode else rest // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + pads[0]:
            count -= 1                          # that window would begin after the map
        if count < 1 or (rest < 0 and not ceil_mode):
            node.fail(f"its window of {kernel} pixels, {dilation} apart, is larger than its input "
                      f"of {size}; make the window smaller or the pads larger")
        for start in range(-pads[0], -pads[0] + count * stride, stride):
            if not any(0 <= start + n * dilation < size for n in range(kernel)):
                node.fail(f"attribute pads: the window at {start} has no pixel of its input; pads "
                          "must be less than the window")
        return cls(size, kernel, stride, dilation, pads[0], count)

    def phases(self) -> list[tuple]:
        """Windows without dilation on every `dilation`-th pixel that together are the axis: [(first
        result, step of results, first pixel, pixels, stride, (pads before, after), results)]."""
        common = gcd(self.stride, self.dilation)
        turns, stride = self.dilation // common, self.stride // common
        found = []
        for first in range(min(turns, self.count)):
            start = first * self.stride - self.before
            pixel = start % self.dilation
            start = (start - pixel) // self.dilation
            if start > 0:                       # the pixels before it are in no window
                pixel, start = pixel + start * self.dilation, 0
            count = -(-(self.count - first) // turns)
            pixels = -(-(self.size - pixel) // self.dilation)
            after = (count - 1) * stride + self.kernel + start - pixels
            found.append((first, turns, pixel, pixels + min(after, 0), stride,
                          (-start, max(after, 0)), count))
        return found


def _with_gaps(builder, value, axes, node):
    """Dilated max pooling of a value."""
    value = plain(builder, value, node)
    channels, small = value.map[0], max(axis.kernel for axis in axes) <= Pool.MOST
    factor = uniform(value.gain)
    copied = value.linear is None and factor is not None and factor > 0
    codes, restored = value, lambda made: made
    if value.linear is not None and not isinstance(value.linear, Linear):
        node.fail(f"pools the result of {value.nodes[-1]!r} before it is quantized, in windows "
                  "with gaps; put a quantizer between them")
    if copied:
        codes, restored = as_codes(builder, value, node)
    parts = []
    for y, x in product(*(axis.phases() for axis in axes)):
        part = sampled(builder, node, codes, (y[2], x[2]), [axis.dilation for axis in axes],
                       (y[3], x[3]))
        if copied and not small:
            part = stored(builder, part, codes.source, f"{node.name}_part", node)
        part = pooled_axes(builder, part, [
            (axis.kernel, item[4], item[5], item[6])
            for axis, item in zip(axes, (y, x), strict=True)], node)
        if copied and small:
            part = stored(builder, part, codes.source, f"{node.name}_part", node)
        parts.append(Part(restored(part), Placement(0, (y[1], x[1]), (y[0], x[0]))))
    sizes = (channels, *(axis.count for axis in axes))
    shape = sizes if len(value.shape) == 3 else (channels, sizes[2])
    if len(parts) == 1:
        return replace(parts[0].value, shape=shape)
    return parts_value(parts, shape, sizes, node)


@operator("MaxPool", roles=Role.MAXIMUM | Role.MAPS | Role.SCALES, rest=window)
def _max_pool(builder, node: Node, inputs, ceil_mode=0, kernel_shape=None, storage_order=0,
              **windows):
    value = activation(inputs, node)
    if len(node.outputs) > 1 and node.outputs[1]:
        node.fail("its second output, the indices, is not supported; remove it")
    node.expect("storage_order", storage_order, (0, 1))
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    rank = len(value.shape) - 1
    sizes = list(value.shape[1:])
    kernel = spatial(node, "kernel_shape", kernel_shape, rank, 1)
    stride, dilation, pads = window(node, rank, sizes, kernel, **windows)
    node.expect("ceil_mode", ceil_mode, (0, 1))
    if any(d > 1 and k > 1 for d, k in zip(dilation, kernel, strict=True)):
        gaps = [Gaps(1, 1, 1, 1, 0, 1)] * (2 - rank) + [
            Gaps.of(*item, ceil_mode, node) for item in
            zip(sizes, kernel, stride, dilation, pads, strict=True)]
        return _with_gaps(builder, value, gaps, node)
    axes = [(1, 1, (0, 0), 1)] * (2 - rank)
    for n in range(rank):
        before, after = pads[n]
        if max(before, after) >= kernel[n]:
            node.fail(f"attribute pads must be less than kernel_shape, {kernel}, not {before} "
                      f"before and {after} after")
        rest = sizes[n] + before + after - kernel[n]
        count = (-(-rest // stride[n]) if ceil_mode else rest // stride[n]) + 1
        if ceil_mode and (count - 1) * stride[n] >= sizes[n] + before:
            count -= 1                          # that window would begin after the map
        if rest < 0 and not (ceil_mode and count > 0):
            node.fail(f"its window {kernel} is larger than its input {sizes}; make the window "
                      "smaller or the pads larger")
        after = max(0, (count - 1) * stride[n] + kernel[n] - sizes[n] - before)
        if kernel[n] > Pool.MOST and (before or after):
            node.fail(f"attribute pads must be 0 where windows are larger than {Pool.MOST}, not "
                      f"{before} before and {after} after a window of {kernel[n]}")
        axes.append((kernel[n], stride[n], (before, after), count))
    return pooled_axes(builder, value, axes, node)


@operator("GlobalMaxPool", roles=Role.MAXIMUM | Role.MAPS | Role.SCALES)
def _global_max_pool(builder: Builder, node: Node, inputs: Inputs) -> Value:
    value = activation(inputs, node)
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    return pooled_axes(builder, value, [(size, size, (0, 0), 1) for size in value.map[1:]],
                            node)

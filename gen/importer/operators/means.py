"""AveragePool and GlobalAveragePool: means over windows of a map.

Where windows have different divisors, since padding does not count or windows reach beyond the
padded map, the map is split into rectangles with one divisor each, each computed by a layer of its
own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import parts_value
from systolith.gen.importer.kernels import spread
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.scales import scaled
from systolith.gen.importer.values import HostInput, Linear, Pair, Part, Value, activation
from systolith.hw.spec import isa
from systolith.sim.model.placement import Placement
from systolith.sim.model.weights import Weights

from .linear import has_zero, linear
from .windows import as_map, spatial, window

_WINDOW = {item.name: item.high for item in isa.OPCODES[isa.Opcode.POST]}["pool_x"]
_SIDE = {item.name: item.high for item in isa.OPCODES[isa.Opcode.ARRAY]}["pool_y"]


def _map(inputs, node: Node) -> Value:
    """The first input, as a map; refused at `node` if it is none."""
    value = activation(inputs, node)
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    return value


@dataclass
class Axis:
    """One axis of average pooling: `count` windows of `kernel` pixels that are `dilation` apart;
    the first window starts `before` pixels before the map of `size` pixels."""
    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    count: int = 1

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int],
           ceil_mode: int, node: Node) -> "Axis":
        """The axis of an AveragePool with these attributes; `pads` are (before, after). Raises
        UserError at `node` where the window is larger than the input."""
        rest = size + sum(pads) - dilation * (kernel - 1) - 1
        count = (-(-rest // stride) if ceil_mode else rest // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + pads[0]:
            count -= 1                          # that window would begin after the map
        if count < 1:
            node.fail(f"its window of {kernel} pixels, {dilation} apart, is larger than its input "
                      f"of {size}; make the window smaller or the pads larger")
        before, after = pads
        return cls(size, kernel, stride, dilation, before, after, count)

    def runs(self, counted: bool | str, padded: bool) -> list[tuple]:
        """The runs of neighbouring windows with one divisor: [(first result, results, divisor,
        kernel, pads)].

        The divisor is the number of a window's pixels in the map; `counted`: in the padded map;
        `counted` "all": of all its pixels. `padded` False: pads of the runs are at most 0, since
        the map cannot be padded with zeros.
        """
        found: list[list] = []
        for n in range(self.count):
            places = [n * self.stride - self.before + k * self.dilation
                      for k in range(self.kernel)]
            taps = [k for k, place in enumerate(places) if 0 <= place < self.size]
            divisor = len(taps)
            if counted:
                divisor = sum(counted == "all" or -self.before <= place < self.size + self.after
                              for place in places)
            if found and found[-1][1] == divisor and (padded or found[-1][2] == taps):
                found[-1][0].append(n)
                found[-1][2] = taps if found[-1][2] == taps else list(range(self.kernel))
            else:
                found.append([[n], divisor, taps])
        return [self._run(*item) for item in found]

    def _run(self, results, divisor, taps):
        first = results[0] * self.stride - self.before + (taps[0] if taps else 0) * self.dilation
        reach = (len(taps) - 1) * self.dilation + 1
        after = first + (len(results) - 1) * self.stride + reach - self.size
        if after < 0 and (self.size - first - reach) // self.stride + 1 == len(results):
            after = 0                           # too few pixels for another window
        return results[0], len(results), divisor, len(taps), (-first, after)


@operator("AveragePool", roles=Role.MEAN | Role.MAPS | Role.SCALES, rest=window)
def _average_pool(builder, node, inputs, ceil_mode=0, count_include_pad=0, kernel_shape=None,
                  **windows):
    value = _map(inputs, node)
    rank, sizes = len(value.shape) - 1, list(value.shape[1:])
    kernel = spatial(node, "kernel_shape", kernel_shape, rank, 1)
    stride, dilation, pads = window(node, rank, sizes, kernel, **windows)
    counted = node.expect("count_include_pad", count_include_pad, (0, 1))
    node.expect("ceil_mode", ceil_mode, (0, 1))
    if counted and node.proto.op_type == "QLinearAveragePool":
        counted = "all"                         # ONNX Runtime's, unlike its AveragePool
    axes = [Axis(1, 1)] * (2 - rank) + [Axis.of(*item, ceil_mode, node) for item in zip(
        sizes, kernel, stride, dilation, pads, strict=True)]
    value = plain(builder, value, node)
    padded = value.linear is None and has_zero(builder, value)
    parts = []
    for y, x in product(*(axis.runs(counted, padded) for axis in axes)):
        if not (y[2] and x[2] and y[3] and x[3]):
            node.fail(f"attribute pads: a window {kernel} has no pixel of its input; pads must be "
                      "less than the window")
        part = mean(builder, node, value, (y[3], x[3]), [axis.stride for axis in axes],
                    [axis.dilation for axis in axes], (y[4][0], x[4][0], y[4][1], x[4][1]),
                    y[2] * x[2])
        parts.append(Part(part, Placement(0, (1, 1), (y[0], x[0]))))
    shape = (value.map[0], *(axis.count for axis in axes))
    result = parts[0].value if len(parts) == 1 else parts_value(parts, shape, shape, node)
    return replace(result, shape=shape if rank == 2 else (shape[0], shape[2]))


@operator("GlobalAveragePool", roles=Role.MEAN | Role.MAPS | Role.SCALES)
def _global_average_pool(builder, node, inputs):
    value = _map(inputs, node)
    size = value.map[1:]
    result = mean(builder, node, value, size, size, (1, 1), (0, 0, 0, 0))
    if len(value.shape) == 2:
        result.shape = result.map[0], 1
    return result


# The mean. Means are linear: without a quantizer between them, a convolution before or after a mean
# becomes one convolution with it.

def mean(builder: Builder, node: Node, value: HostInput | Value, kernel: Sequence[int],
         stride: Sequence[int], dilation: Sequence[int], pads: Sequence[int],
         divisor: int | None = None) -> Value:
    """The means over windows of a value's map, or their sums divided by `divisor`.

    `kernel`, `stride` and `dilation` are (y, x); `pads` (top, left, bottom, right) are zeros,
    negative ones crop. Windows that do not overlap and are not too large are summed after the layer
    (sum pooling); others become a convolution. Raises UserError at `node`.
    """
    divisor = divisor or prod(kernel)
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer before it")
    value = plain(builder, value, node) if value.parts else value
    kernel, stride, dilation = tuple(kernel), tuple(stride), tuple(dilation)
    small = prod(kernel) <= _WINDOW and max(kernel) <= _SIDE
    apart = kernel == stride and dilation == (1, 1) and not any(pads) and small
    if isinstance(value.linear, Pair):
        return _mean_of_pair(builder, node, value, (kernel, stride, dilation, pads), divisor)
    if value.linear is not None:
        return _mean_of_sums(node, value, kernel, stride, dilation, pads, apart, divisor)
    channels = value.map[0]
    format, one = builder.weights_of_one(value.source, node)
    # The stride of a window that covers the map has no effect, and a long one costs cycles.
    stride = tuple(1 if k >= size + pads[n] + pads[n + 2] else s for n, (k, size, s) in
                   enumerate(zip(kernel, value.map[1:], stride, strict=True)))
    added = kernel if apart else (1, 1)         # pixels that are summed after the layer
    if not small and kernel == value.map[1:] and dilation == (1, 1) and not any(pads):
        # A window over all of the map: taps so far apart that what lies between can be summed.
        added = _added(kernel)
        dilation, stride = added, (1, 1)
    taps = tuple(k // n for k, n in zip(kernel, added, strict=True))
    weights = Weights(np.full((channels, 1, *taps), one), format)
    scale = np.full(channels, exact(1).item() / (one * divisor), dtype=object)
    result = linear(builder, node, value, weights, scale / exact(2) ** format.exponent,
                    lambda size, _: ((1, 1), (1, 1), (0, 0, 0, 0)) if apart else (
                        stride, dilation, tuple(pads)), channels)
    result.offset = result.offset * prod(added)
    _add_up(result, added)
    return result


def _added(kernel):
    """The largest window whose sides divide those of `kernel` that can be summed after a layer."""
    return max((sides for sides in product(*([n for n in range(1, min(k, _SIDE) + 1) if k % n == 0]
                                             for k in kernel)) if prod(sides) <= _WINDOW), key=prod)


def _add_up(value, kernel):
    """The value with sum pooling over windows."""
    sizes = (size // n for size, n in zip(value.map[1:], kernel, strict=True))
    value.map = value.shape = (value.map[0], *sizes)
    value.window = kernel


def _mean_of_pair(builder, node, value, window, divisor):
    """The mean of a sum of two values, as the sum of their means; `window`: (kernel, stride,
    dilation, pads) of `mean`."""
    both, pair = value.linear, [value.linear.first, value.linear.second]
    if both.product or value.pool or value.slope is not None or value.low is not None or (
            value.high is not None):
        node.fail(f"averages the result of {value.nodes[-1]!r} before it is quantized, and that is "
                  "a product, or a sum with a Clip or pooling; put a quantizer between them")
    if any(window[-1]):
        node.fail(f"pads the result of {value.nodes[-1]!r} before it is quantized; put a quantizer "
                  "between them")
    # One pixel is the same for all of a window.
    times = exact(prod(window[0])).item() / divisor
    kernel, stride, dilation, pads = window
    means = []
    for item in pair:
        one = (mean(builder, node, item, kernel, stride, dilation, pads, divisor)
               if item.map == value.map else scaled(item, times * item.gain ** 0, 0 * item.gain))
        assert one is not None              # the factor is positive and the same for all channels
        means.append(one)
    largest = max(item.map for item in means)
    return replace(value, offset=value.offset * times, map=largest, shape=largest,
                   nodes=[*value.nodes, node.name],
                   linear=replace(both, first=means[0], second=means[1]))


def _mean_of_sums(node, value, kernel, stride, dilation, pads, apart, divisor):
    """The mean of the results of a convolution that no quantizer follows."""
    if (not isinstance(value.linear, Linear) or value.window != (1, 1) or value.pool
            or value.slope is not None or value.low is not None or value.high is not None
            or any(p > 0 for p in pads)):
        node.fail(f"averages the result of {value.nodes[-1]!r} before it is quantized, and that is "
                  "a sum, clipped, pooled or padded; put a quantizer between them")
    own, before, nodes = value.linear, value, [*value.nodes, node.name]
    # The offsets of all pixels of a window, divided by its divisor.
    value = replace(value, gain=value.gain / divisor, nodes=nodes,
                    offset=value.offset * prod(kernel) / divisor)
    if apart:
        _add_up(value, kernel)
        return value
    steps = [s * d for s, d in zip(own.stride, dilation, strict=True)]
    weights = spread(own.weights, own.dilation, kernel, steps, before, node)
    strides = tuple(s * t for s, t in zip(own.stride, stride, strict=True))
    sizes = [(size + pads[n] + pads[n + 2] - (k - 1) * d - 1) // t + 1 for n, (size, k, t, d) in
             enumerate(zip(value.map[1:], kernel, stride, dilation, strict=True))]
    if min(sizes) < 1:
        node.fail(f"its window {list(kernel)} is larger than its input {list(value.map[1:])}; make "
                  "the window smaller or the pads larger")
    shape = (value.map[0], *sizes)
    cut = tuple(p + q * s for p, q, s in zip(own.pads, pads, own.stride * 2, strict=True))
    return replace(value, map=shape, shape=shape,
                   linear=replace(own, weights=weights, stride=strides, dilation=(1, 1),
                                  pads=cut))

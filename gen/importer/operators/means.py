"""AveragePool and GlobalAveragePool: means over windows of a map.

Where the divisor is not the same everywhere, since padding does not count or windows reach over the
padded map, the map falls into rectangles of one divisor each, which layers of their own make.
"""

from dataclasses import dataclass, replace
from itertools import product

from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import parts_value
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import HostInput, Part, activation

from .linear import as_map, has_zero, mean, spatial, window


def _map(inputs, node):
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
    def of(cls, size, kernel, stride, dilation, pads, ceil_mode, node):
        """From the attributes of an AveragePool."""
        rest = size + sum(pads) - dilation * (kernel - 1) - 1
        count = (-(-rest // stride) if ceil_mode else rest // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + pads[0]:
            count -= 1                          # that window would begin after the map
        if count < 1:
            node.fail(f"its window of {kernel} pixels, {dilation} apart, is larger than its input "
                      f"of {size}; make the window smaller or the pads larger")
        before, after = pads
        return cls(size, kernel, stride, dilation, before, after, count)

    def runs(self, counted, padded):
        """[(first result, results, divisor, kernel, pads)] of neighbouring windows with the same
        divisor: of their pixels in the map, or, `counted`, in the padded map; "all": all. Without
        `padded`, no pads are above 0."""
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
        parts.append(Part(part, 0, (1, 1), (y[0], x[0])))
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

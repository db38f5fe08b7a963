"""MaxPool and GlobalMaxPool: the largest of windows of a map.

Post-processing does it behind the layer that makes the map; where there is none, or where others
read the map, too, behind a layer that copies it.
"""

from dataclasses import replace

from .onnx_copies import plain
from .onnx_layers import as_map, spatial, window
from .onnx_values import HostInput, Pool, activation

__all__ = ["OPERATORS"]


def _pooled(builder, value, pool, node):
    """Max pooling of a value, behind what it does already where that is possible at a time."""
    if pool.size == pool.stride == (1, 1):
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
    """[(size, stride, pads)] of windows along one axis, one behind the other, that together are
    windows of `size`, each small enough for an instruction; `count` is how many there are."""
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


def _pooled_by_steps(builder, value, axes, node):
    """Max pooling over windows of any size; `axes` are (size, stride, pads, results)."""
    steps = [_pool_steps(*axis) for axis in axes]
    while len(steps[0]) != len(steps[1]):
        min(steps, key=len).append((1, 1, (0, 0)))
    for y, x in zip(*steps, strict=True):
        pads = tuple(pad for side in zip(y[2], x[2], strict=True) for pad in side)
        value = _pooled(builder, value, Pool((y[0], x[0]), (y[1], x[1]), pads), node)
    return value


def _max_pool(builder, node, inputs):
    value = activation(inputs, node)
    if len(node.outputs) > 1 and node.outputs[1]:
        node.fail("its second output, the indices, is not supported")
    node.expect("storage_order", 0, (0, 1))
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer in front")
    as_map(value, node)
    rank = len(value.shape) - 1
    sizes = list(value.shape[1:])
    kernel = spatial(node, "kernel_shape", rank, 1)
    stride, dilation, pads = window(node, rank, sizes, kernel)
    ceil_mode = node.expect("ceil_mode", 0, (0, 1))
    axes = [(1, 1, (0, 0), 1)] * (2 - rank)
    for n in range(rank):
        if dilation[n] != 1 and kernel[n] != 1:
            node.fail(f"attribute dilations must be 1, not {dilation}: windows with gaps are not "
                      "supported")
        before, behind = pads[n]
        if max(before, behind) >= kernel[n]:
            node.fail(f"attribute pads must be less than kernel_shape, {kernel}, not {before} "
                      f"before and {behind} behind")
        rest = sizes[n] + before + behind - kernel[n]
        count = (-(-rest // stride[n]) if ceil_mode else rest // stride[n]) + 1
        if ceil_mode and (count - 1) * stride[n] >= sizes[n] + before:
            count -= 1                          # that window would begin behind the map
        if rest < 0 and not (ceil_mode and count > 0):
            node.fail(f"its window {kernel} is larger than its input {sizes}")
        behind = max(0, (count - 1) * stride[n] + kernel[n] - sizes[n] - before)
        if kernel[n] > Pool.MOST and (before or behind):
            node.fail(f"attribute pads must be 0 where windows are larger than {Pool.MOST}, not "
                      f"{before} before and {behind} behind a window of {kernel[n]}")
        axes.append((kernel[n], stride[n], (before, behind), count))
    return _pooled_by_steps(builder, value, axes, node)


def _global_max_pool(builder, node, inputs):
    value = activation(inputs, node)
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer in front")
    as_map(value, node)
    return _pooled_by_steps(builder, value, [(size, size, (0, 0), 1) for size in value.map[1:]],
                            node)


#: operator: (function(builder, node, inputs) -> value, attributes that it understands)
OPERATORS = {
    "GlobalMaxPool": (_global_max_pool, set()),
    "MaxPool": (_max_pool, {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads",
                            "storage_order", "strides"}),
}

"""AveragePool, GlobalAveragePool and ReduceMean: means over windows of a map."""

from .onnx_layers import as_map, mean, spatial, window
from .onnx_layout import any_layout
from .onnx_moves import axes_of
from .onnx_values import HostInput, activation, shape_text

__all__ = ["OPERATORS"]


def _map(inputs, node):
    value = activation(inputs, node)
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer in front")
    as_map(value, node)
    return value


def _average_pool(builder, node, inputs):
    value = _map(inputs, node)
    rank, sizes = len(value.shape) - 1, list(value.shape[1:])
    kernel = spatial(node, "kernel_shape", rank, 1)
    stride, dilation, pads = window(node, rank, sizes, kernel)
    counted = node.expect("count_include_pad", 0, (0, 1))
    if any(map(any, pads)) and not counted:
        node.fail("attribute count_include_pad must be 1 where it pads: the divisor is the same "
                  "everywhere then")
    if any(size > n for size, n in zip(kernel, sizes, strict=True)) and not any(map(any, pads)):
        node.fail(f"its window {kernel} is larger than its input {sizes}")
    ceil_mode = node.expect("ceil_mode", 0, (0, 1))
    for n in range(rank):
        rest = sizes[n] + sum(pads[n]) - dilation[n] * (kernel[n] - 1) - 1
        if ceil_mode and rest % stride[n]:
            node.fail("attribute ceil_mode=1 is supported where windows fill the input")
    lead = [1] * (2 - rank)
    (top, bottom), (left, right) = [(0, 0)] * (2 - rank) + list(pads)
    result = mean(builder, node, value, (*lead, *kernel), (*lead, *stride), (*lead, *dilation),
                  (top, left, bottom, right))
    if rank == 1:
        result.shape = result.map[0], result.map[2]
    return result


def _global_average_pool(builder, node, inputs):
    value = _map(inputs, node)
    size = value.map[1:]
    result = mean(builder, node, value, size, size, (1, 1), (0, 0, 0, 0))
    if len(value.shape) == 2:
        result.shape = result.map[0], 1
    return result


def _reduce_mean(builder, node, inputs):
    node.expect("noop_with_empty_axes", 0, (0, 1))
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    axes = axes_of(node, inputs)
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return value
    value = _map(inputs, node)
    axes = {axis % rank for axis in axes or range(rank)}
    if not axes <= set(range(2, rank)):
        node.fail(f"its axes must be among the spatial ones of {shape_text(value.shape)}, "
                  f"{list(range(2, rank))}, not {sorted(axes)}")
    kernel = [1] * (4 - rank) + [size if n + 2 in axes else 1
                                 for n, size in enumerate(value.shape[1:])]
    result = mean(builder, node, value, kernel, kernel, (1, 1), (0, 0, 0, 0))
    kept = [1 if n + 1 in axes else size for n, size in enumerate(value.shape)]
    if not node.expect("keepdims", 1, (0, 1)):
        kept = [size for n, size in enumerate(kept) if n + 1 not in axes]
    result.shape = tuple(kept)
    return result


#: operator: (function(builder, node, inputs) -> value, attributes that it understands)
OPERATORS = {
    "AveragePool": (_average_pool, {"auto_pad", "ceil_mode", "count_include_pad", "dilations",
                                    "kernel_shape", "pads", "strides"}),
    "GlobalAveragePool": (_global_average_pool, set()),
    "ReduceMean": (any_layout(_reduce_mean), {"axes", "keepdims", "noop_with_empty_axes"}),
}

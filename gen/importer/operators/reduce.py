"""ReduceMean, ReduceSum, ReduceMax and ReduceMin over any axes but the batch.

Rows and columns are pooled with windows as large as the map. Sums over channels are convolutions
with equal weights; the largest of the channels is found in pairs (`extremes`). The smallest of rows
and columns is the largest of the negated codes.
"""

from dataclasses import replace
from functools import wraps
from math import prod

import numpy as np
from systolith.gen.importer.copies import plain
from systolith.gen.importer.layout import as_shaped, filled, is_natural, relaid
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import own_target
from systolith.gen.importer.values import (
    HostInput,
    Value,
    activation,
    layout_of,
    shape_text,
    with_layout,
)
from systolith.sim.model.pool import Pool
from systolith.sim.model.weights import Weights

from .extremes import extreme_of_channels
from .linear import linear
from .means import mean
from .moves import axes_of
from .pool import pooled_axes
from .stride import as_codes, plain_weights
from .windows import as_map


def _any_layout(operator):
    """Decorator for an operator with attribute or input `axes` that reduces maps: it then reduces
    values in any order of elements, where an axis of the shape may be one or several axes of the
    map."""
    @wraps(operator)
    def reduced(builder, node, inputs, axes=None, keepdims=1, **others):
        value, given = inputs[0], {"axes": axes, "keepdims": keepdims, **others}
        if isinstance(value, HostInput) or not isinstance(value, Value) or is_natural(value):
            return operator(builder, node, inputs, **given)
        if axes is None and len(inputs) > 1 and inputs[1] is not None:
            axes = np.asarray(inputs[1].array).reshape(-1).tolist()
        value = filled(builder, node, value)
        rank = len(value.shape) + 1
        places = None if not axes else _axes_of_map(value)
        if axes and places is None and rank > 4 and value.rows == 1 and all(
                axis % rank for axis in axes):
            return _reduced_columns(builder, node, value, {axis % rank - 1 for axis in axes},
                                    operator, keepdims)
        if places is None or 0 in {axis % rank for axis in axes}:
            return operator(builder, node, [as_shaped(builder, node, value), *inputs[1:]], **given)
        axes = {axis % rank for axis in axes}
        over = sorted(axis + 1 for n in axes for axis in places[n - 1])
        result = replace(value, shape=tuple(value.map), order=None)
        result = operator(builder, node, [result], over) if over else result
        # The places of the results, from those of the first of the elements that each is made of.
        index = layout_of(value)[0]
        index = index[tuple(slice(0, 1) if n + 1 in axes else slice(None)
                            for n in range(rank - 1))]
        coordinates = [0 * item if n + 1 in over else item
                       for n, item in enumerate(np.unravel_index(index, value.map))]
        order = np.ravel_multi_index(coordinates, result.map)
        shape = [1 if n + 1 in axes else size for n, size in enumerate(value.shape)]
        if not keepdims:
            shape = [size for n, size in enumerate(shape) if n + 1 not in axes]
        return with_layout(result, order.reshape(1, *shape))
    return reduced


def _reduced_columns(builder, node, value, axes, operator, keepdims):
    """The reduction of the axes `axes` of a value's shape, after these are moved to the map's
    columns and all others to its channels."""
    index = layout_of(value)[0]
    kept = [n for n in range(index.ndim) if n not in axes]
    index = index.transpose(kept + sorted(axes)).reshape(
        prod(value.shape[n] for n in kept), 1, -1)
    result = operator(builder, node, [relaid(builder, node, value, index)], [3])
    shape = [1 if n in axes else size for n, size in enumerate(value.shape)]
    if not keepdims:
        shape = [value.shape[n] for n in kept]
    return with_layout(result, np.arange(len(index)).reshape(1, *shape))


def _axes_of_map(value):
    """For each axis of the shape of a value that is `filled`, the axes of the map (0 to 2) that it
    consists of; None where an axis of the map belongs to several."""
    if value.rows > 1:
        return None
    index = layout_of(value)[0]
    coordinates = np.stack(np.unravel_index(index, value.map))
    places: list[list[int]] = [[] for _ in value.shape]
    for axis, size in enumerate(value.map):
        if size == 1:
            continue
        along = [n for n in range(index.ndim) if (np.diff(coordinates[axis], axis=n) != 0).any()]
        if len(along) != 1:
            return None
        places[along[0]].append(axis)
    if any(prod(value.map[axis] for axis in own) != size
           for own, size in zip(places, value.shape, strict=True)):
        return None
    return places


def _dimensions(value, axes, node):
    """Which of (channels, rows, columns) of a value's map the `axes` of its shape (0: the first
    after the batch) are; dimensions of 1 are left out."""
    if len(value.shape) == 1:
        return {n for n, size in enumerate(value.map) if size > 1}
    large = [n for n, size in enumerate(value.map) if size > 1]
    if [size for size in value.shape if size > 1] != [value.map[n] for n in large]:
        as_map(value, node)                     # says what is wrong
        node.fail(f"reads {shape_text(value.shape)}, whose dimensions are not those of a map; "
                  "reshape it to [N, C, W] or [N, C, H, W] first")
    places = iter(large)
    found = [next(places) if size > 1 else None for size in value.shape]
    return {found[axis] for axis in axes} - {None}


@operator("ReduceMax", "ReduceMin", "ReduceSum", roles=Role.REDUCE)
@operator("ReduceMean", roles=Role.REDUCE | Role.MEAN)
@_any_layout
def _reduced(builder, node: Node, inputs, axes=None, keepdims=1, noop_with_empty_axes=0):
    node.expect("noop_with_empty_axes", noop_with_empty_axes, (0, 1))
    value = activation(inputs, node)
    axes = axes_of(node, axes, inputs)
    if not axes and noop_with_empty_axes:
        return value
    if isinstance(value, HostInput):
        node.fail("reduces the input before it is quantized; put a quantizer before it")
    rank = len(value.shape) + 1
    if any(not -rank <= axis < rank for axis in axes or ()):
        node.fail(f"its axes must be from {-rank} to {rank - 1} for {shape_text(value.shape)}, not "
                  f"{axes}")
    axes = {axis % rank - 1 for axis in axes or range(rank)}
    if -1 in axes:
        node.fail(f"its axes must leave the batch dimension of {shape_text(value.shape)}: from 1 "
                  f"to {rank - 1}")
    dimensions = _dimensions(value, axes, node)
    kept = [1 if n in axes else size for n, size in enumerate(value.shape)]
    if not node.expect("keepdims", keepdims, (0, 1)):
        kept = [size for n, size in enumerate(kept) if n not in axes]
    value = plain(builder, value, node)
    kind = node.operator.removeprefix("Reduce")
    if dimensions and kind in ("Mean", "Sum"):
        value = _sum(builder, node, value, dimensions, kind == "Mean")
    elif dimensions:
        value = _extreme(builder, node, value, dimensions, kind == "Min")
    return replace(value, shape=tuple(kept), nodes=list(dict.fromkeys([*value.nodes, node.name])))


def _sum(builder, node, value, dimensions, average):
    kernel = tuple(size if n in dimensions else 1 for n, size in enumerate(value.map))
    divisor = prod(kernel) if average else 1
    if kernel[1:] != (1, 1):
        value = mean(builder, node, value, kernel[1:], kernel[1:], (1, 1), (0, 0, 0, 0), divisor)
        divisor = 1
    if kernel[0] > 1:
        format, one = plain_weights(builder, value, node)
        weights = Weights(np.full((1, kernel[0], 1, 1), one), format)
        scale = exact([1]) / (one * divisor) / exact(2).item() ** format.exponent
        value = linear(builder, node, value, weights, scale,
                       lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)))
    return value


def _extreme(builder, node, value, dimensions, least):
    windows = [(size, size, (0, 0), 1) if n + 1 in dimensions else (1, 1, (0, 0), size)
               for n, size in enumerate(value.map[1:])]
    if dimensions & {1, 2}:
        value = (_negated(builder, node, value, windows) if least else
                 pooled_axes(builder, value, windows, node))
    if 0 in dimensions:
        value = extreme_of_channels(builder, node, value, least)
    return value


def _negated(builder, node, value, windows):
    """Min pooling of a quantized value, as max pooling of its negated codes."""
    if value.linear is not None or value.slope is not None or (uniform(value.gain) or 0) <= 0:
        node.fail(f"takes the smallest of the result of {value.nodes[-1]!r} before it is "
                  "quantized; put a quantizer between them")
    codes, restored = as_codes(builder, value, node)
    own = own_target(builder, codes.source)
    # Images i become -1 - i, which all have codes.
    turned = replace(own, zero_point=-1 - own.zero_point, low=-1 - own.high, high=-1 - own.low)
    negative = replace(codes, gain=-codes.gain, offset=-codes.offset)
    small = max(size for size, *_ in windows) <= Pool.MOST
    if small:
        negative = pooled_axes(builder, negative, windows, node)
    source = builder.quantize(negative, turned, f"{node.name}_negated", node)
    shape = tuple(builder.tensors[source].shape)
    # The real number of image i is now that of image -1 - i.
    made = restored(Value(source, shape, shape, codes.gain, codes.offset, nodes=value.nodes))
    made = replace(made, gain=-made.gain, offset=made.offset - made.gain)
    if small:
        return made
    up = replace(made, gain=-made.gain, offset=-made.offset)
    up = pooled_axes(builder, up, windows, node)
    source, *_ = builder.read(up, node)         # pooled before the sign changes again
    return replace(up, source=source, pool=None, gain=-up.gain, offset=-up.offset)

"""Operators that move elements and compute nothing: Concat, Split, Slice, Gather, Pad, Transpose.

What they make is read by the layers behind as channels or pixels of what there is, with weights
and pads that fit; see `onnx_copies`.
"""

from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from .onnx_copies import plain
from .onnx_crop import cropped, parts_value, rearranged
from .onnx_values import (
    HostInput,
    Linear,
    Order,
    Part,
    Value,
    activation,
    constant,
    exact,
    shape_text,
    uniform,
)

__all__ = ["OPERATORS", "axes_of", "integers", "picked"]


def axes_of(node, inputs, place=1):
    """The axes that a node names, by attribute or input; None where it names none."""
    if "axes" in node.attributes:
        return [int(item) for item in node.attributes["axes"]]
    if len(inputs) > place and inputs[place] is not None:
        return integers(inputs[place], node, "its axes")
    return None


def integers(value, node, what):
    """The integers of a constant."""
    array = np.asarray(constant(value, node, what).array)
    if array.dtype.kind not in "iu":
        node.fail(f"{what} must be integers, not {array.dtype}")
    return [int(item) for item in array.reshape(-1)]


# Elements by number.

def _elements(value):
    """The number of each element, in the shape of `value`."""
    return np.arange(prod(value.shape)).reshape(value.shape)


def _moved(builder, node, value, index, ordered=False):
    """The elements `index` of `value` (numbers as of `_elements`), in that shape: channels of its
    map, or a rectangle of pixels; `ordered`: or all of them in another order."""
    if isinstance(value, HostInput):
        node.fail("reads an input before it is quantized; put a quantizer in front")
    if index.size == 0:
        node.fail("leaves nothing")
    _, height, width = value.map
    plane, flat = height * width, index.reshape(-1)
    if flat.size % plane == 0:
        rows = flat.reshape(-1, plane)
        if not (rows[:, 0] % plane).any() and (rows == rows[:, :1] + np.arange(plane)).all():
            value = picked(builder, node, value, rows[:, 0] // plane)
            return replace(value, shape=index.shape)
    if index.ndim in (2, 3):
        pixels = index.reshape(len(index), -1, index.shape[-1])
        channels, corner = np.divmod(pixels[:, 0, 0], plane)
        y, x = divmod(int(corner[0]), width)
        rows, columns = pixels.shape[1:]
        expected = (channels[:, None, None] * plane + (y + np.arange(rows)[:, None]) * width
                    + x + np.arange(columns))
        if y + rows <= height and x + columns <= width and (pixels == expected).all():
            value = picked(builder, node, value, channels)
            value = cropped(builder, node, value, (-y, -x, y + rows - height, x + columns - width))
            return replace(value, shape=index.shape)
    if ordered:
        return replace(value, shape=index.shape, order=Order(index.reshape(-1), node),
                       nodes=[*value.nodes, node.name])
    return node.fail(f"moves pixels of a map of {' x '.join(map(str, value.map))}; supported are "
                     "whole channels in any order, and rectangles of neighbouring pixels")


def picked(builder, node, value, channels):
    """Some channels of a value's map."""
    nodes = [*value.nodes, node.name]
    if len(channels) == value.map[0] and (channels == np.arange(len(channels))).all():
        return replace(value, nodes=nodes)
    if len(set(channels.tolist())) < len(channels):
        node.fail("takes a channel more than once")
    value = plain(builder, value, node) if value.parts else value
    source = builder.tensors[value.source].shape[0]
    own = np.arange(source) if value.channels is None else value.channels
    linear = value.linear
    if linear is None:
        own = own[channels]
    elif not isinstance(linear, Linear):
        node.fail(f"takes channels of {value.nodes[-1]!r} before it is quantized; put a quantizer "
                  "between them")
    else:
        images, groups = linear.images, len(own) // linear.images.shape[1]
        if groups == len(images):
            own, images = own[channels], images[channels]
        elif groups > 1:
            node.fail(f"takes channels of the result of {value.nodes[-1]!r}, a convolution in "
                      "groups, before it is quantized; put a quantizer between them")
        else:
            images = images[channels]
        linear = replace(linear, images=images)
    whole = len(own) == source and (own == np.arange(source)).all()
    return replace(value, channels=None if whole else own, linear=linear, nodes=nodes,
                   gain=value.gain[channels], offset=value.offset[channels],
                   slope=None if value.slope is None else value.slope[channels],
                   pool=value.pool and value.pool.of_channels(channels),
                   map=(len(channels), *value.map[1:]))


# Operators.

def _transpose(builder, node, inputs):
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    order = list(node.attributes.get("perm", range(rank)[::-1]))
    if order[:1] != [0] or sorted(order) != list(range(rank)):
        node.fail(f"attribute perm must leave the batch dimension in front, not be {order}")
    if isinstance(value, HostInput):
        shape = tuple(value.shape[axis - 1] for axis in order[1:])
        return value.then("transpose", tuple(order), shape)
    elements = _elements(value) if value.order is None else (
        value.order.elements.reshape(value.shape))
    return _moved(builder, node, replace(value, order=None),
                  elements.transpose([n - 1 for n in order[1:]]), ordered=True)


def _axis(node, value, default=None):
    """Attribute axis as an axis of the shape without the batch dimension."""
    axis = node.attributes.get("axis", default)
    rank = len(value.shape) + 1
    if axis is None or not -rank <= axis < rank or axis % rank == 0:
        node.fail(f"attribute axis must be from 1 to {rank - 1} for {shape_text(value.shape)}, not "
                  f"{axis}: the batch dimension stays")
    return axis % rank - 1


def _concat(builder, node, inputs):
    for item in inputs:
        if isinstance(item, HostInput):
            node.fail(f"joins the input {item.name!r} before it is quantized; put a quantizer in "
                      "front")
        if not isinstance(item, Value):
            node.fail("joins an activation and a constant, which is not supported")
    axis = _axis(node, inputs[0])
    shapes = [list(item.shape) for item in inputs]
    if len({len(shape) for shape in shapes}) > 1 or any(
            size != shapes[0][n] for shape in shapes for n, size in enumerate(shape) if n != axis):
        node.fail("its inputs must have the same shape but for the axis, not "
                  + ", ".join(shape_text(shape) for shape in shapes))
    if len(inputs) == 1:
        return replace(inputs[0], nodes=[*inputs[0].nodes, node.name])
    shape = list(shapes[0])
    shape[axis] = sum(item[axis] for item in shapes)
    maps = [item.map for item in inputs]
    along = 0 if axis == 0 else axis - len(shape) + 3
    if axis and any(tuple(own) != (item.map[0], *item.map[4 - len(own):])
                    for own, item in zip(shapes, inputs, strict=True)):
        node.fail(f"joins along axis {axis + 1} what a reshape made of maps; join along axis 1")
    if any(item[n] != maps[0][n] for item in maps for n in range(3) if n != along):
        node.fail("joins maps of different sizes, "
                  + ", ".join(" x ".join(map(str, item)) for item in maps)
                  + ", as one dimension; make them equal")
    parts, at = [], 0
    for item in inputs:
        place = [0, 0, 0]
        place[along] = at
        parts.append(Part(item, place[0], (1, 1), (place[1], place[2])))
        at += item.map[along]
    sizes = list(maps[0])
    sizes[along] = at
    return parts_value(parts, shape, sizes, node)


def _split(builder, node, inputs):
    value = activation(inputs, node)
    axis = _axis(node, value, 0)
    total, count = value.shape[axis], len(node.outputs)
    if "split" in node.attributes:
        sizes = [int(item) for item in node.attributes["split"]]
    elif len(inputs) > 1 and inputs[1] is not None:
        sizes = integers(inputs[1], node, "its sizes")
    else:
        step = -(-total // count)
        sizes = [step] * (count - 1) + [total - step * (count - 1)]
    if len(sizes) != count or sum(sizes) != total or min(sizes) < 1:
        node.fail(f"its {count} parts must add up to {total}, not be {sizes}")
    starts = np.cumsum([0, *sizes])
    index = _elements(value)
    return [_moved(builder, node, value, index.take(range(a, b), axis))
            for a, b in pairwise(starts)]


def _slice(builder, node, inputs):
    value = activation(inputs, node)
    starts, ends = (integers(item, node, what) for item, what in
                    zip(inputs[1:3], ("its starts", "its ends"), strict=True))
    axes, steps = axes_of(node, inputs, 3), [1] * len(starts)
    if len(inputs) > 4 and inputs[4] is not None:
        steps = integers(inputs[4], node, "its steps")
    rank = len(value.shape) + 1
    axes = list(range(len(starts))) if axes is None else [axis % rank for axis in axes]
    cut = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, None if step < 0 and end < -(1 << 30) else end, step)
    if cut[0].step not in (None, 1) or (cut[0].start or 0) != 0 or (
            cut[0].stop is not None and cut[0].stop < 1 << 30):
        node.fail("must leave the batch dimension as it is")
    return _moved(builder, node, value, _elements(value)[tuple(cut[1:])])


def _gather(builder, node, inputs):
    value = activation(inputs, node)
    axis = _axis(node, value, 0)
    index = np.asarray(constant(inputs[1], node, "its indices").array)
    size = value.shape[axis]
    if index.dtype.kind not in "iu" or ((index < -size) | (index >= size)).any():
        node.fail(f"its indices must be integers from {-size} to {size - 1}, not {index.tolist()}")
    return _moved(builder, node, value, _elements(value).take(index.astype(np.int64) % size, axis))


def _pad(builder, node, inputs):
    mode = node.expect("mode", "constant", ("constant", "edge", "reflect", "wrap"))
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    pads = integers(inputs[1], node, "its pads")
    axes = axes_of(node, inputs, 3)
    axes = range(rank) if axes is None else [axis % rank for axis in axes]
    if len(pads) != 2 * len(axes):
        node.fail(f"its pads must be {2 * len(axes)} numbers, not {pads}")
    around = [(0, 0)] * rank
    for n, axis in enumerate(axes):
        around[axis] = pads[n], pads[n + len(axes)]
    if any(around[0]) or any(around[1]) or rank not in (3, 4):
        node.fail(f"pads the rows and columns of maps [N, C, W] and [N, C, H, W] only, not "
                  f"{shape_text(value.shape)} by {pads}")
    sizes = [size + sum(pair) for size, pair in zip(value.shape, around[1:], strict=True)]
    if min(sizes) < 1:
        node.fail("leaves nothing")
    most = [size - (mode == "reflect") for size in value.shape]
    if mode in ("reflect", "wrap") and any(max(pair) > size for pair, size in
                                           zip(around[1:], most, strict=True)):
        node.fail(f"attribute mode {mode!r} with pads {pads} needs more pixels than "
                  f"{shape_text(value.shape)} has")
    number = exact(0).item()
    if len(inputs) > 2 and inputs[2] is not None:
        number = constant(inputs[2], node, "its value").numbers.reshape(-1)[0]
    if isinstance(value, HostInput):
        return value.then("pad", (mode, tuple(around[1:]), float(number)), tuple(sizes))
    wanted = value.shape if rank == 4 else (value.shape[0], 1, value.shape[1])
    if tuple(wanted) != tuple(value.map):
        node.fail("pads what a reshape made of a map")
    rows, columns = around[2:] if rank == 4 else [(0, 0), around[2]]
    padded = any(item > 0 for item in (*rows, *columns))
    if mode in ("reflect", "wrap") and padded:
        value = rearranged(builder, node, value, mode, rows, columns)
        return replace(value, shape=tuple(sizes))
    image = None if mode == "edge" else 0
    if padded and image is not None:
        value = plain(builder, value, node) if value.parts else value
        image = _image_of(builder, node, value, number)
    value = cropped(builder, node, value, (rows[0], columns[0], rows[1], columns[1]), image)
    return replace(value, shape=tuple(sizes), nodes=[*value.nodes, node.name])


def _image_of(builder, node, value, number):
    """The image of the source that stands for `number`."""
    gain, offset = uniform(value.gain), uniform(value.offset)
    if value.linear is not None:
        return 0                                    # refused by `_cropped`
    format = builder.tensors[value.source].format
    image = None if not gain or offset is None else (number - offset) / gain
    low, high = format.image_range
    if image is None or image.denominator != 1 or not low <= image <= high or (
            int(format.image(format.encode(np.ldexp(float(image), format.exponent)))) != image):
        node.fail(f"pads with {float(number):g}, which has no code in its input; pad with 0 or "
                  "another number that has one")
    for bound, beyond in ((value.low, number < (value.low or 0)),
                          (value.high, number > (value.high or 0))):
        if bound is not None and beyond:
            node.fail(f"pads with {float(number):g} behind a Relu or Clip that excludes it; put a "
                      "quantizer between them")
    return int(image)


#: operator: (function(builder, node, inputs) -> value or values, attributes that it understands)
OPERATORS = {
    "Concat": (_concat, {"axis"}),
    "Gather": (_gather, {"axis"}),
    "Pad": (_pad, {"mode"}),
    "Slice": (_slice, set()),
    "Split": (_split, {"axis", "num_outputs", "split"}),
    "Transpose": (_transpose, {"perm"}),
}

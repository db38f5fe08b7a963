"""Operators that move elements and compute nothing: Concat, Split, Slice, Gather, Pad, Transpose,
DepthToSpace, SpaceToDepth.

The layers after them read the result as channels or pixels of existing tensors, with weights and
pads to match, or in another order of elements; see `layout` and `copies`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from systolith.gen.importer.align import joined_along, on_its_own, same_but_for_order
from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import cropped, parts_value, rearranged
from systolith.gen.importer.layout import filled, part_of
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import (
    HostInput,
    Inputs,
    Part,
    Symbol,
    Value,
    activation,
    constant,
    layout_of,
    shape_text,
    with_layout,
)
from systolith.sim.model.edges import after_step
from systolith.sim.model.placement import Placement

__all__ = ["axes_of", "integers"]


def axes_of(node: Node, axes: Sequence[int] | None, inputs: Inputs,
            place: int = 1) -> list[int] | None:
    """The axes that a node names by attribute (`axes`) or by the input at `place`; None where it
    names none. Raises UserError."""
    if axes is not None:
        return [int(item) for item in axes]
    if len(inputs) > place and inputs[place] is not None:
        return integers(inputs[place], node, "its axes")
    return None


def integers(value: Symbol | None, node: Node, what: str) -> list[int]:
    """The integers of a constant, an input of `node` that messages call `what`. Raises UserError
    where it is no constant, or not of integers."""
    array = np.asarray(constant(value, node, what).array)
    if array.dtype.kind not in "iu":
        node.fail(f"{what} must be integers, not {array.dtype}")
    return [int(item) for item in array.reshape(-1)]


# Elements by number.

def _layout(value):
    """The number of each element in a value's map, or in an input: int array [rows, *shape]."""
    if isinstance(value, HostInput):
        return np.arange(prod(value.shape)).reshape(1, *value.shape)
    return layout_of(value)


def _moved(builder, node, value, index):
    """The elements of a value whose numbers, as of `_layout`, are `index` [rows, *shape]."""
    if isinstance(value, HostInput):
        if index.size == 0:
            node.fail("its result has no elements; keep at least one along each axis")
        return value.then("take", index[0], index.shape[1:])
    return part_of(builder, node, value, index)


# Operators.

@operator("Transpose", roles=Role.TURN)
def _transpose(builder, node, inputs, perm=None):
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    order = list(range(rank)[::-1] if perm is None else perm)
    if order[:1] != [0] or sorted(order) != list(range(rank)):
        node.fail(f"attribute perm must leave the batch dimension first, not be {order}")
    if isinstance(value, HostInput):
        shape = tuple(value.shape[axis - 1] for axis in order[1:])
        return value.then("transpose", tuple(order), shape)
    return with_layout(value, layout_of(value).transpose(order), node)


@operator("DepthToSpace", roles=Role.SHUFFLE)
def _to_space(builder, node, inputs, blocksize=0, mode="DCR"):
    """DepthToSpace: blocks of channels become blocks of pixels."""
    value = activation(inputs, node)
    node.expect("mode", mode, ("DCR", "CRD"))
    block = _block(node, value, blocksize)
    channels, height, width = value.shape
    if channels % (block * block):
        node.fail(f"makes blocks of {block} x {block} pixels, so its {channels} channels must be a "
                  f"multiple of {block * block}")
    index = _layout(value)
    if mode == "DCR":
        index = index.reshape(-1, block, block, channels // block ** 2, height, width)
        index = index.transpose(0, 3, 4, 1, 5, 2)
    else:
        index = index.reshape(-1, channels // block ** 2, block, block, height, width)
        index = index.transpose(0, 1, 4, 2, 5, 3)
    return _moved(builder, node, value, index.reshape(
        len(index), channels // block ** 2, height * block, width * block))


@operator("SpaceToDepth", roles=Role.SHUFFLE)
def _to_depth(builder, node, inputs, blocksize=0):
    """SpaceToDepth: blocks of pixels become blocks of channels."""
    value = activation(inputs, node)
    block = _block(node, value, blocksize)
    channels, height, width = value.shape
    if height % block or width % block:
        node.fail(f"takes blocks of {block} x {block} pixels, so the height and width of its map, "
                  f"{height} x {width}, must be multiples of {block}")
    index = _layout(value).reshape(-1, channels, height // block, block, width // block, block)
    return _moved(builder, node, value, index.transpose(0, 3, 5, 1, 2, 4).reshape(
        len(index), channels * block ** 2, height // block, width // block))


def _block(node, value, block):
    """The attribute blocksize. Raises UserError where it or the value does not fit."""
    if len(value.shape) != 3 or block < 1:
        node.fail(f"takes maps [N, C, H, W] and an attribute blocksize from 1 up, not "
                  f"{shape_text(value.shape)} and {block}")
    return block


def _axis(node, value, axis):
    """Attribute `axis` as an axis of the shape without the batch dimension."""
    rank = len(value.shape) + 1
    if axis is None or not -rank <= axis < rank or axis % rank == 0:
        node.fail(f"attribute axis must be from 1 to {rank - 1} for {shape_text(value.shape)}, not "
                  f"{axis}: the batch dimension stays")
    return axis % rank - 1


@operator("Concat", roles=Role.PICK)
def _concat(builder, node, inputs, axis=None):
    if inputs and all(isinstance(item, HostInput) for item in inputs):
        return _joined_inputs(node, inputs, axis)
    for item in inputs:
        if isinstance(item, HostInput):
            node.fail(f"joins the input {item.name!r} before it is quantized; put a quantizer "
                      "between them")
        if not isinstance(item, Value):
            node.fail("joins an activation and a constant, which is not supported; make the "
                      "constant an input of the network, with a quantizer after it")
    axis = _axis(node, inputs[0], axis)
    _check_joined(node, inputs, axis)
    nodes = list(dict.fromkeys(name for item in inputs for name in item.nodes))
    if len(inputs) == 1 or same_but_for_order(inputs):
        value = replace(inputs[0], nodes=nodes)
        return with_layout(value, np.concatenate([layout_of(item) for item in inputs], axis + 1),
                           node)
    values = [filled(builder, node, item) for item in inputs]
    values, along, sizes, order = joined_along(values, axis) or joined_along(
        [on_its_own(builder, node, item) for item in values], axis) or node.fail(
        "joins maps of different sizes, "
        f"{', '.join(' x '.join(map(str, item.map)) for item in values)}, as one dimension; make "
        "them equal")
    parts, at = [], 0
    for item in values:
        place = [0, 0, 0]
        place[along] = at
        part = replace(item, shape=tuple(item.map), order=None, rows=1)
        parts.append(Part(part, Placement(place[0], (1, 1), (place[1], place[2]))))
        at += item.map[along]
    return with_layout(parts_value(parts, sizes, sizes, node), order)


def _check_joined(node, inputs, axis):
    shapes = [list(item.shape) for item in inputs]
    if len({len(shape) for shape in shapes}) > 1 or any(
            size != shapes[0][n] for shape in shapes for n, size in enumerate(shape) if n != axis):
        node.fail("its inputs must have the same shape but for the axis, not "
                  + ", ".join(shape_text(shape) for shape in shapes))
    if len({getattr(item, "rows", 1) for item in inputs}) > 1:
        node.fail("joins tensors of different numbers of images, which a Reshape or Flatten made "
                  "of another dimension; reshape all alike")


def _joined_inputs(node, inputs, axis):
    """The Concat of parts of one input of the network, as one step of the host."""
    axis = _axis(node, inputs[0], axis)
    _check_joined(node, inputs, axis)
    first = inputs[0]
    same = 0
    while all(len(item.steps) > same and item.steps[same] is first.steps[same]
              for item in inputs) and same < len(first.steps):
        same += 1
    shape = first.input_shape
    for operation, operand in first.steps[:same]:
        shape = after_step(shape, operation, operand)
    found = [_elements_of(item.steps[same:], shape) for item in inputs]
    if len({(item.name, item.bits) for item in inputs}) > 1 or any(item is None for item in found):
        node.fail("joins inputs before they are quantized; put a quantizer before each")
    start = replace(first, shape=shape, steps=first.steps[:same])
    index = np.concatenate(found, axis)
    return start.then("take", index, index.shape)


def _elements_of(steps, shape):
    """The indices of the elements that steps take from a tensor of this shape; None where a step
    computes."""
    index = np.arange(prod(shape)).reshape(shape)
    for operation, operand in steps:
        if operation == "take":
            index = index.reshape(-1)[operand]
        elif operation == "reshape":
            index = index.reshape(operand)
        elif operation == "transpose":
            index = index.transpose([n - 1 for n in operand[1:]])
        else:
            return None
    return index


@operator("Split", roles=Role.PICK)
def _split(builder, node, inputs, axis=0, num_outputs=None, split=None):
    value = activation(inputs, node)
    axis = _axis(node, value, axis)
    total, count = value.shape[axis], len(node.outputs)
    if split is not None:
        sizes = [int(item) for item in split]
    elif len(inputs) > 1 and inputs[1] is not None:
        sizes = integers(inputs[1], node, "its sizes")
    else:
        step = -(-total // count)
        sizes = [step] * (count - 1) + [total - step * (count - 1)]
    if len(sizes) != count or sum(sizes) != total or min(sizes) < 1:
        node.fail(f"its {count} parts must add up to {total}, not be {sizes}")
    starts = np.cumsum([0, *sizes])
    index = _layout(value)
    return [_moved(builder, node, value, index.take(range(a, b), axis + 1))
            for a, b in pairwise(starts)]


@operator("Slice", roles=Role.PICK)
def _slice(builder, node, inputs):
    value = activation(inputs, node)
    starts, ends = (integers(item, node, what) for item, what in
                    zip(inputs[1:3], ("its starts", "its ends"), strict=True))
    axes, steps = axes_of(node, None, inputs, 3), [1] * len(starts)
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
    return _moved(builder, node, value, _layout(value)[(slice(None), *cut[1:])])


@operator("Gather", roles=Role.PICK)
def _gather(builder, node, inputs, axis=0):
    value = activation(inputs, node)
    axis = _axis(node, value, axis)
    index = np.asarray(constant(inputs[1], node, "its indices").array)
    size = value.shape[axis]
    if index.dtype.kind not in "iu" or ((index < -size) | (index >= size)).any():
        node.fail(f"its indices must be integers from {-size} to {size - 1}, not {index.tolist()}")
    index = index.astype(np.int64) % size
    return _moved(builder, node, value, _layout(value).take(index, axis + 1))


@operator("Pad", roles=Role.PAD | Role.MAPS)
def _pad(builder, node, inputs, mode="constant"):
    node.expect("mode", mode, ("constant", "edge", "reflect", "wrap"))
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    pads = integers(inputs[1], node, "its pads")
    given = axes_of(node, None, inputs, 3)
    axes = list(range(rank)) if given is None else [axis % rank for axis in given]
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
        node.fail("its result has no elements; keep at least one along each axis")
    most = [size - (mode == "reflect") for size in value.shape]
    if mode in ("reflect", "wrap") and any(max(pair) > size for pair, size in
                                           zip(around[1:], most, strict=True)):
        node.fail(f"attribute mode {mode!r} with pads {pads} needs more pixels than "
                  f"{shape_text(value.shape)} has; make the pads smaller")
    number = exact(0).item()
    if len(inputs) > 2 and inputs[2] is not None:
        number = constant(inputs[2], node, "its value").numbers.reshape(-1)[0]
    if isinstance(value, HostInput):
        return value.then("pad", (mode, tuple(around[1:]), float(number)), tuple(sizes))
    wanted = value.shape if rank == 4 else (value.shape[0], 1, value.shape[1])
    if tuple(wanted) != tuple(value.map):
        node.fail(f"pads rows and columns of {shape_text(value.shape)}, which a reshape made of a "
                  "map of another shape; pad before the reshape")
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
    """The source's image whose real number is `number`."""
    gain, offset = uniform(value.gain), uniform(value.offset)
    if value.linear is not None:
        return 0                                    # refused by `_cropped`
    format = builder.tensors[value.source].format
    image: Any = None if not gain or offset is None else (number - offset) / gain
    low, high = format.image_range
    if image == 0 and not format.has_zero:
        return 0                                    # signs padded with nothing
    if image is None or image.denominator != 1 or not low <= image <= high or (
            not format.has_image(int(image))):
        instead = "with a scale of which that is a multiple, or pad with 0" if number else (
            "with a zero point within the range of codes")
        node.fail(f"pads with {float(number):g}, which has no code in its input; put a quantizer "
                  f"before it, {instead}")
    for bound, beyond in ((value.low, number < (value.low or 0)),
                          (value.high, number > (value.high or 0))):
        if bound is not None and beyond:
            node.fail(f"pads with {float(number):g} after a Relu or Clip that excludes it; put a "
                      "quantizer between them")
    return int(image)

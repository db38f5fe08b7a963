"""The order of an ONNX tensor's elements in a map, and moving elements where a layer needs it.

A value has an ONNX shape and a map (channels, rows, columns); `order` gives, for each place of the
shape, the element of the map. Transposes, reshapes, slices, shuffles of pixels and joins only
change the order, and operators that work element by element read any order. Tensors [N, T, C] have
a map of C channels with T pixels, so that a dense layer is a convolution of single pixels. An
operator that reads maps, a convolution or a pooling, gets a tensor whose elements are in the order
of its shape: by reading other channels or cropping where that suffices; by the host where the
tensor is an input; else by copies.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .copies import plain
from .crop import another_input, cropped
from .layers import moving_layer
from .moves_plan import moves
from .nodes import Node
from .rows import ROWS, Role, has
from .target import own_target
from .values import HostInput, Inputs, Linear, Value, layout_of, shape_text, with_layout

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["as_pixels", "as_shaped", "filled", "is_natural", "laid_out", "part_of", "picked",
           "read_by_dense", "relaid", "sides"]

#: Operators that read any order of elements, some orders at less cost.
_ASK = Role.LINEAR | Role.VIEW | Role.MOVE | Role.REDUCE
#: The most copies that one tensor may take.
_MOST = 4096


def sides(shape: Sequence[int]) -> tuple[int, ...] | None:
    """The sizes (channels, rows, columns) of the map of a tensor of 1 to 3 dimensions whose
    elements are in the map's order; None for other tensors. `shape` is without the batch
    dimension."""
    return {1: (*shape, 1, 1), 2: (*shape[:1], 1, *shape[1:]), 3: tuple(shape)}.get(len(shape))


def is_natural(value: Value) -> bool:
    """Whether the elements of a value are in the order of its map, and the map has the sizes of the
    value's shape."""
    return value.order is None and tuple(value.map) == sides(value.shape)


def _in_any_order(operator):
    """Whether an operator reads values in any order: operators that work element by element or move
    elements, and dense layers. All others read maps."""
    return operator in ROWS and not has(operator, Role.MAPS)


def read_by_dense(nodes: Sequence[Node]) -> set[str]:
    """Names of the model's tensors that only MatMul reads, directly or after operators that keep
    the order of elements: the host best lays such an input out for dense layers. `nodes` stand each
    after those that it reads."""
    dense, others = set(), set()
    for node in reversed(nodes):
        if node.operator == "MatMul":
            dense.add(node.inputs[0])
            others.update(node.inputs[1:])
        elif _in_any_order(node.operator) and not has(node.operator, _ASK):
            for names in (dense, others):
                if names & set(node.outputs):
                    names.update(node.inputs)
        else:
            others.update(node.inputs)
    return dense - others


def laid_out(builder: "Builder", node: Node, inputs: Inputs) -> Inputs:
    """The inputs of a node as its operator reads them: in any order of elements, or as maps in the
    order of their shapes. Raises UserError at `node` for rows (as of `Value`) that the operator
    cannot read."""
    if not has(node.operator, Role.ROWS):
        for item in inputs:
            if isinstance(item, HostInput) and item.rows > 1:
                _refuse_rows(node, item)
    if _in_any_order(node.operator):
        return inputs
    return [as_shaped(builder, node, item) if isinstance(item, Value) else item for item in inputs]


def _refuse_rows(node, value):
    node.fail(f"reads {shape_text(value.shape)} with {value.rows} times as many images as the "
              "network has, which a Reshape or Flatten made of another dimension; dense layers and "
              "functions of quantized tensors can: give that dimension back by a Reshape to [N, "
              f"{value.rows}, ...] first")


def as_shaped(builder: "Builder", node: Node, value: Value) -> Value:
    """The value with its elements in the order of its shape, where that has up to 3 dimensions;
    other values unchanged. Raises UserError at `node`."""
    if value.rows > 1:
        _refuse_rows(node, value)
    wanted = sides(value.shape)
    if wanted is None or is_natural(value):
        return value
    return replace(relaid(builder, node, value, layout_of(value).reshape(wanted)),
                   shape=value.shape)


def filled(builder: "Builder", node: Node, value: Value) -> Value:
    """The value with a map of which `order` has each element exactly once."""
    if value.order is None or (len(value.order) == prod(value.map)
                               and len(np.unique(value.order)) == len(value.order)):
        return value
    index = layout_of(value)
    if value.rows > 1:
        count = index[0].size
        moved = relaid(builder, node, value,
                       index.reshape(value.rows, -1).T.reshape(count, 1, value.rows))
        return with_layout(moved, np.arange(index.size).reshape(count, -1).T.reshape(index.shape))
    wanted = sides(index.shape[1:]) or (index[0].size, 1, 1)
    return replace(relaid(builder, node, value, index.reshape(wanted)), shape=value.shape)


def as_pixels(builder: "Builder", node: Node, value: Value) -> tuple[Value, np.ndarray, np.ndarray]:
    """(value, pixel of each row, channel of each column) of a value [..., K]: its last axis runs
    along all channels of the map, and each of its rows is one pixel."""
    value = filled(builder, node, value)
    index = layout_of(value)
    rows = index.reshape(-1, index.shape[-1])
    channel, pixel = np.divmod(rows, prod(value.map[1:]))
    if (channel == channel[:1]).all() and (pixel == pixel[:, :1]).all():
        return value, pixel[:, 0], channel[0]
    lead = index.shape[:-1]
    plane = lead[1:] if len(lead) == 3 and value.rows == 1 else (1, len(rows))
    moved = relaid(builder, node, value, rows.T.reshape(-1, *plane))
    order = np.arange(rows.size).reshape(rows.T.shape).T
    return (with_layout(moved, order.reshape(index.shape)), np.arange(len(rows)),
            np.arange(rows.shape[1]))


def part_of(builder: "Builder", node: Node, value: Value, index: np.ndarray) -> Value:
    """The elements of a value whose numbers in its map are `index` (int array [rows, *shape]).
    Whole channels and rectangles of pixels are selected at once; for other elements only the order
    is kept, and a layer that needs it moves them."""
    if index.size == 0:
        node.fail("its result has no elements; keep at least one along each axis")
    later = with_layout(value, index, node)
    _, height, width = value.map
    channel, pixel = np.divmod(index.reshape(-1), height * width)
    used, first = np.unique(channel, return_index=True)
    channels = channel[np.sort(first)]
    y, x = np.divmod(np.unique(pixel), width)
    top, left, rows, columns = (int(item) for item in (y.min(), x.min(), np.ptp(y) + 1,
                                                       np.ptp(x) + 1))
    whole = (rows, columns) == (height, width)
    if (index.size != len(channels) * rows * columns or len(y) != rows * columns
            or len(np.unique(index)) < index.size or (whole and len(used) == value.map[0])
            or value.parts or (not whole and (value.linear is not None
                                              or value.slope is not None))):
        return later
    part = _picked(builder, node, replace(value, nodes=later.nodes), channels)
    if part is None:
        return later
    if not whole:
        part = cropped(builder, node, part,
                       (-top, -left, top + rows - height, left + columns - width))
    place = np.zeros(value.map[0], np.int64)
    place[channels] = np.arange(len(channels))
    y, x = np.divmod(pixel, width)
    order = (place[channel] * rows + y - top) * columns + x - left
    return with_layout(part, order.reshape(index.shape))


def picked(builder: "Builder", node: Node, value: Value, channels: np.ndarray) -> Value:
    """The value with some `channels` of its map, each once. Raises UserError at `node` where they
    cannot be separated from the others."""
    found = _picked(builder, node, value, channels)
    return found or node.fail(f"takes channels of the result of {value.nodes[-1]!r} before it is "
                              "quantized; put a quantizer between them")


def _picked(builder, node, value, channels):
    """The value with some channels of its map, each once; None where what computes them cannot be
    split: convolutions in groups, sums and products."""
    if len(channels) == value.map[0] and (channels == np.arange(len(channels))).all():
        return value
    value = plain(builder, value, node) if value.parts else value
    source = builder.tensors[value.source].shape[0]
    own = np.arange(source) if value.channels is None else value.channels
    linear = value.linear
    if linear is None:
        own = own[channels]
    elif not isinstance(linear, Linear):
        return None
    else:
        groups = len(own) // linear.weights.shape[1]
        if groups == len(linear.weights):
            own = own[channels]
        elif groups > 1:
            return None
        linear = replace(linear, weights=linear.weights.of_outputs(channels),
                         ties=None if linear.ties is None else linear.ties[channels])
    whole = len(own) == source and (own == np.arange(source)).all()
    return replace(value, channels=None if whole else own, linear=linear,
                   gain=value.gain[channels], offset=value.offset[channels],
                   slope=None if value.slope is None else value.slope[channels],
                   pool=value.pool and value.pool.of_channels(channels),
                   map=(len(channels), *value.map[1:]))


def _composed(builder, node, value, index):
    """(source tensor, gain, offset of each channel of `index`, index into the source) for the
    elements `index` of a value's map."""
    if value.parts or any(pad > 0 for pad in value.pads) or (
            value.pool and (value.channels is not None or any(value.pads))):
        value = plain(builder, value, node)
    source, gain, offset = builder.read(value, node)
    channel, pixel = np.divmod(index, prod(value.map[1:]))
    offsets = offset[channel.reshape(len(index), -1)]
    if (offsets != offsets[:, :1]).any():
        node.fail("moves pixels between channels to which different numbers were added; put a "
                  "quantizer between them")
    if value.channels is not None or any(value.pads):
        y, x = np.divmod(pixel, value.map[2])
        channel = channel if value.channels is None else value.channels[channel]
        _, height, width = builder.tensors[source].shape
        index = (channel * height + y - value.pads[0]) * width + x - value.pads[1]
    return source, gain, offsets[:, 0], index


def relaid(builder: "Builder", node: Node, value: Value, index: np.ndarray) -> Value:
    """The value whose map, and shape, is `index` (int array [C, H, W]) of the value's map: by
    reading other channels or cropping where that suffices, else in a tensor of its own. Raises
    UserError at `node` for values that are not quantized."""
    _, height, width = value.map
    channel, pixel = np.divmod(index.reshape(len(index), -1), height * width)
    channels = channel[:, 0]
    if (channel == channels[:, None]).all() and (pixel == pixel[:1]).all() and (
            value.linear is None or index.shape[1:] == (height, width)):
        y, x = np.divmod(pixel[0], width)
        expected = ((y[0] + np.arange(index.shape[1]))[:, None] * width + x[0]
                    + np.arange(index.shape[2]))
        fits = x[0] + index.shape[2] <= width and (pixel[0] == expected.reshape(-1)).all()
        part = None
        if fits and len(np.unique(channels)) == len(channels):
            part = _picked(builder, node, value, channels)
        whole = index.shape[1:] == (height, width)
        if part is not None and (whole or (part.linear is None and part.slope is None)):
            if not whole:
                part = cropped(builder, node, part, tuple(int(item) for item in (
                    -y[0], -x[0], y[0] + index.shape[1] - height,
                    x[0] + index.shape[2] - width)))
            return replace(part, shape=index.shape, map=index.shape, order=None, rows=1, moved=[])
    if value.linear is not None or value.slope is not None:
        maker = next(item for item in [*reversed(value.nodes), node.name]
                     if item not in value.moved)
        node.fail(f"needs the pixels of {maker!r} in another order before they are "
                  "quantized; put a quantizer between them")
    source, gain, offset, index = _composed(builder, node, value, index)
    name, place = _moved_tensor(builder, node, source, index, value.moved or [node.name])
    gains = np.full(len(index), gain, dtype=object)
    return Value(name, index.shape, index.shape, gains, offset, channels=place,
                 nodes=[item for item in value.nodes if item not in value.moved])


def _moved_tensor(builder, node, source, index, nodes):
    """(tensor, its channels in the order of `index`, or None: all as they are) that holds the
    elements `index` [C, H, W] of the tensor `source`. The host makes it where the source is an
    input, else copies do."""
    key = source, index.shape, index.tobytes()
    if key in builder.moved:
        return builder.moved[key]
    if source in builder.inputs:
        made = another_input(builder, source, ("take", index), index.shape, node), None
    else:
        made = _copied(builder, node, source, index, nodes)
    builder.moved[key] = made
    return made


def _copied(builder, node, source, index, nodes):
    tensor = builder.tensors[source]
    found, place = moves(index, tensor.shape)
    if len(found) > 1:
        # By way of one pixel of many channels, where that takes fewer copies.
        size = prod(tensor.shape[1:])
        needed = np.unique(index)
        needed = needed[np.argsort(needed % size, kind="stable")]
        where = np.zeros(prod(tensor.shape), np.int64)
        where[needed] = np.arange(len(needed))
        if len(np.unique(needed % size)) > 1 and prod(index.shape[1:]) > 1:
            others, _ = moves(where[index], (len(needed), 1, 1))
            if len(np.unique(needed % size)) + len(others) < len(found):
                middle, _ = _moved_tensor(builder, node, source, needed.reshape(-1, 1, 1), nodes)
                return _moved_tensor(builder, node, middle, where[index], nodes)
    weights = builder.weight_format or tensor.format
    if weights.zero_code is None and any(len(move.channels) < tensor.shape[0] for move in found):
        node.fail("reads elements of a binary map in another order, which binary weights cannot "
                  "copy: they have no 0 for the channels that a copy leaves out; move them before "
                  "the binary quantizer, after one of more bits")
    if len(found) > _MOST:
        node.fail(f"reads elements that {', '.join(map(repr, nodes))} moved, which takes "
                  f"{len(found):,} copies, and may take {_MOST:,}; move them at the network's "
                  "start or end")
    name = builder.add_tensor(f"{source}_moved", index.shape, own_target(builder, source))
    for move in found:
        builder.add_layer(moving_layer(builder, source, name, move, nodes, node), copy=True)
    whole = (place == np.arange(len(place))).all()
    return name, None if whole else place

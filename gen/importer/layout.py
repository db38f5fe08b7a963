"""Where the elements of an ONNX tensor lie in a map, and moving them where a layer needs it.

A value has an ONNX shape and a map (channels, rows, columns), and `order` says which element of the
map stands at each place of the shape. Transposes, reshapes, slices, shuffles of pixels and joins
only change the order: what works element by element needs none. Tensors [N, T, C] lie as C
channels of T pixels, so that a dense layer is a convolution of single pixels. What reads maps, a
convolution or a pooling, gets a tensor whose elements lie as its shape says: nothing to do where
channels change places or a rectangle is cut out, for the host where it is an input, and copies
otherwise.
"""

from dataclasses import replace
from functools import wraps
from math import prod

import numpy as np

from .copies import plain
from .crop import another_input, cropped
from .layers import moving_layer
from .moves_plan import moves
from .rows import ROWS, Role, has
from .target import own_target
from .values import HostInput, Linear, Value, layout_of, shape_text, with_layout

__all__ = ["aligned", "any_layout", "as_pixels", "as_shaped", "filled", "joined_along", "laid_out",
           "on_its_own", "part_of", "picked", "read_by_dense", "same_but_for_order"]

#: Operators that are the easier for one order of elements, of those that read any.
_ASK = Role.LINEAR | Role.VIEW | Role.MOVE | Role.REDUCE
#: The most copies that one tensor may take.
_MOST = 4096


def _sides(shape):
    """The sizes of the map (channels, rows, columns) of a tensor of 1 to 3 dimensions whose order
    is the map's."""
    return {1: (*shape, 1, 1), 2: (*shape[:1], 1, *shape[1:]), 3: tuple(shape)}.get(len(shape))


def _in_any_order(operator):
    """Whether an operator reads values in any order: it works element by element, or moves
    elements, or is a dense layer. All others get maps."""
    return operator in ROWS and not has(operator, Role.MAPS)


def read_by_dense(nodes):
    """Names of the model's tensors of which dense layers multiply the last axis before anything
    else asks how elements lie: an input among them is best turned around by the host."""
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


def laid_out(builder, node, inputs):
    """The inputs of a node as its operator can read them: in any element order, or as maps."""
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


def as_shaped(builder, node, value):
    """The value with a map of the same shape as the value, where it has up to 3 dimensions."""
    if value.rows > 1:
        _refuse_rows(node, value)
    sides = _sides(value.shape)
    if sides is None or (value.order is None and tuple(value.map) == sides):
        return value
    return replace(relaid(builder, node, value, layout_of(value).reshape(sides)),
                   shape=value.shape)


def filled(builder, node, value):
    """The value with a map in which each element of the order occurs once."""
    if value.order is None or (len(value.order) == prod(value.map)
                               and len(np.unique(value.order)) == len(value.order)):
        return value
    index = layout_of(value)
    sides = _sides(index.shape[1:]) or (index[0].size, 1, 1)
    if value.rows > 1:
        sides = index[0].size, 1, value.rows
        return with_layout(relaid(builder, node, value, index.reshape(value.rows, -1).T.reshape(
            sides)), np.arange(index.size).reshape(sides[0], -1).T.reshape(index.shape))
    return replace(relaid(builder, node, value, index.reshape(sides)), shape=value.shape)


def as_pixels(builder, node, value):
    """(value, pixel of each row, channel of each column): a value [..., K] whose last axis lies
    along channels, all of them, each row at a pixel of its own."""
    value = filled(builder, node, value)
    index = layout_of(value)
    rows = index.reshape(-1, index.shape[-1])
    channel, pixel = np.divmod(rows, prod(value.map[1:]))
    if (channel == channel[:1]).all() and (pixel == pixel[:, :1]).all():
        return value, pixel[:, 0], channel[0]
    lead = index.shape[:-1]
    sides = (lead[1:] if len(lead) == 3 and value.rows == 1 else (1, len(rows)))
    moved = relaid(builder, node, value, rows.T.reshape(-1, *sides))
    order = np.arange(rows.size).reshape(rows.T.shape).T
    return (with_layout(moved, order.reshape(index.shape)), np.arange(len(rows)),
            np.arange(rows.shape[1]))


def part_of(builder, node, value, index):
    """The elements of a value that `index` [rows, *shape] names by their numbers in its map: whole
    channels and rectangles of neighbouring pixels are taken at once, all else when a layer reads
    it."""
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


def picked(builder, node, value, channels):
    """Some channels of a value's map, each once."""
    found = _picked(builder, node, value, channels)
    return found or node.fail(f"takes channels of the result of {value.nodes[-1]!r} before it is "
                              "quantized; put a quantizer between them")


def _picked(builder, node, value, channels):
    """Some channels of a value's map, each once; None where they cannot be had from what makes
    it."""
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
        images, groups = linear.images, len(own) // linear.images.shape[1]
        if groups == len(images):
            own, images = own[channels], images[channels]
        elif groups > 1:
            return None
        else:
            images = images[channels]
        linear = replace(linear, images=images,
                         ties=None if linear.ties is None else linear.ties[channels])
    whole = len(own) == source and (own == np.arange(source)).all()
    return replace(value, channels=None if whole else own, linear=linear,
                   gain=value.gain[channels], offset=value.offset[channels],
                   slope=None if value.slope is None else value.slope[channels],
                   pool=value.pool and value.pool.of_channels(channels),
                   map=(len(channels), *value.map[1:]))


def _composed(builder, node, value, index):
    """(source tensor, gain, offset of each channel of index, index into the source)."""
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


def relaid(builder, node, value, index):
    """The value whose map is `index` [C, H, W] of the value's map; its shape is that map."""
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
    """(tensor, its channels in the order of `index` or None) that holds `index` [C, H, W] of the
    tensor `source`, made by the host where that is an input, else by copies."""
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


# Values in the same order.

def _is_natural(value):
    return value.order is None and tuple(value.map) == _sides(value.shape)


def aligned(builder, node, values):
    """Two values that are combined element by element, such that their maps lie alike: the second
    may be one pixel of each channel, for all of the first's."""
    if not all(isinstance(item, Value) for item in values) or all(map(_is_natural, values)):
        return values
    if len({item.rows for item in values}) > 1:
        node.fail("combines tensors of different numbers of images, which a Reshape or Flatten "
                  "made of another dimension; reshape both alike")
    if len({tuple(item.shape) for item in values}) > 1:
        return _broadcast(builder, node, values)
    first, second = values
    if tuple(first.map) == tuple(second.map) and np.array_equal(layout_of(first),
                                                                layout_of(second)):
        return values
    return _same(builder, node, values)


def _movable(builder, value):
    """Rank of a value by how cheaply its elements can be moved (higher is cheaper); None: they
    cannot."""
    if value.linear is not None or value.slope is not None:
        return None
    return value.source not in builder.inputs


def _same(builder, node, values):
    """Two values of one shape, brought to the order of one of them."""
    costs = [_movable(builder, item) for item in values]
    if costs == [None, None]:
        node.fail(f"combines the results of {values[0].nodes[-1]!r} and {values[1].nodes[-1]!r}, "
                  "which lie in different orders, before they are quantized; put a quantizer "
                  "after one of them")
    mover = min((n for n in (0, 1) if costs[n] is not None), key=lambda n: (costs[n], -n))
    kept = filled(builder, node, values[1 - mover])
    places = np.zeros(prod(kept.map), np.int64)
    places[layout_of(kept).reshape(-1)] = layout_of(values[mover]).reshape(-1)
    moved = relaid(builder, node, values[mover], places.reshape(kept.map))
    moved = replace(moved, shape=kept.shape, order=kept.order, rows=kept.rows)
    result = [moved, kept] if mover == 0 else [kept, moved]
    return result


def _broadcast(builder, node, values):
    """A value and one that ONNX broadcasts: one number for each channel."""
    large = int(prod(values[0].shape) < prod(values[1].shape))
    whole = filled(builder, node, values[large])
    index, plane = layout_of(whole), prod(whole.map[1:])
    try:
        own = np.broadcast_to(layout_of(values[1 - large]), index.shape)
    except ValueError:
        return values
    numbers = np.full(whole.map[0], -1, np.int64)
    numbers[(index // plane).reshape(-1)] = own.reshape(-1)
    if (numbers[index // plane] != own).any():
        return values
    moved = relaid(builder, node, values[1 - large], numbers.reshape(-1, 1, 1))
    moved = replace(moved, shape=(whole.map[0], *[1] * (len(whole.shape) - 1)))
    return [moved, whole] if large else [whole, moved]


# Reductions.

def any_layout(operator):
    """An operator with attribute or input `axes` that reduces maps as one for values in any order:
    each axis of the shape may be one or several axes of the map."""
    @wraps(operator)
    def reduced(builder, node, inputs, axes=None, keepdims=1, **others):
        value, given = inputs[0], {"axes": axes, "keepdims": keepdims, **others}
        if isinstance(value, HostInput) or not isinstance(value, Value) or _is_natural(value):
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
    """A reduction of the axes `axes` of a value's shape, which are moved to a map's columns, and
    all others to its channels."""
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
    """For each axis of the shape of a value that is `filled`, those of the map (0 to 2) that it
    consists of; None where it is not so simple."""
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


# Joining.

def on_its_own(builder, node, value):
    """The value as a map of its own shape, or else as one pixel of many channels."""
    index = layout_of(value)
    sides = _sides(value.shape) if value.rows == 1 else None
    if sides is not None:
        return as_shaped(builder, node, value)
    moved = relaid(builder, node, value, index.reshape(-1, 1, 1))
    return with_layout(moved, np.arange(index.size).reshape(index.shape))


def joined_along(values, axis):
    """(values, axis of the map, its sizes, order [rows, *shape]) of values joined along an axis of
    their shapes, 0 being the first after the images; None where their maps do not fit. Each must be
    `filled`."""
    best = None
    for along in range(3):
        maps = [item.map for item in values]
        if any(item[n] != maps[0][n] for item in maps for n in range(3) if n != along):
            continue
        sizes = list(maps[0])
        sizes[along] = sum(item[along] for item in maps)
        at, parts = 0, []
        for item in values:
            places = list(np.unravel_index(layout_of(item), item.map))
            places[along] = places[along] + at
            parts.append(np.ravel_multi_index(places, sizes))
            at += item.map[along]
        order = np.concatenate(parts, axis + 1)
        rank = _simplicity(order, sizes)
        if best is None or rank > best[0]:
            best = rank, along, tuple(sizes), order
    return best and (values, *best[1:])


def _simplicity(order, sizes):
    """How many kinds of layers can read a value in its order: 2 all, 1 dense layers only, 0
    none."""
    flat = order.reshape(-1)
    if (flat == np.arange(flat.size)).all():
        return 2
    channel, pixel = np.divmod(order.reshape(-1, order.shape[-1]), prod(sizes[1:]))
    return int((channel == channel[:1]).all() and (pixel == pixel[:, :1]).all())


def same_but_for_order(values):
    """Whether all values are the same elements, taken in several ways."""
    first = values[0]
    return all(item.source == first.source and item.linear is first.linear
               and item.parts is first.parts and tuple(item.map) == tuple(first.map)
               and item.pool == first.pool and item.window == first.window
               and tuple(item.pads) == tuple(first.pads) and item.pad_image == first.pad_image
               and (item.low, item.high) == (first.low, first.high)
               and np.array_equal(item.gain, first.gain)
               and np.array_equal(item.offset, first.offset)
               and _equal(item.channels, first.channels) and _equal(item.slope, first.slope)
               for item in values[1:])


def _equal(one, other):
    return (one is None) == (other is None) and (one is None or np.array_equal(one, other))

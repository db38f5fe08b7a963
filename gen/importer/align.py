"""Values that an operator combines: brought to one order of elements, or joined along an axis."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .layout import as_shaped, filled, is_natural, relaid, sides
from .nodes import Node
from .values import Value, layout_of, with_layout

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["aligned", "joined_along", "on_its_own", "same_but_for_order"]


# Element by element.

def aligned(builder: "Builder", node: Node, values: Sequence[Value]) -> Sequence[Value]:
    """Two values that are combined element by element, with their elements in one order; the second
    may be one pixel for each channel, for all pixels of the first. Raises UserError at `node` where
    values that are not quantized would have to be moved."""
    if all(map(is_natural, values)):
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
    """Rank of a value by how cheaply its elements can be moved: an input, by the host (False),
    before a quantized tensor, by copies (True). None: they cannot be moved."""
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
    return [moved, kept] if mover == 0 else [kept, moved]


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


# Joining.

def on_its_own(builder: "Builder", node: Node, value: Value) -> Value:
    """The value with a map of its own shape, or, where it has no such map, of one pixel with many
    channels."""
    index = layout_of(value)
    if value.rows == 1 and sides(value.shape) is not None:
        return as_shaped(builder, node, value)
    moved = relaid(builder, node, value, index.reshape(-1, 1, 1))
    return with_layout(moved, np.arange(index.size).reshape(index.shape))


def joined_along(values: Sequence[Value], axis: int) -> tuple | None:
    """(values, axis of the map, sizes of the map, order [rows, *shape]) of values joined along an
    axis of their shapes (0: the first after the batch); None where their maps do not fit. Each
    value must be `filled`."""
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
    """Which layers can read a value in its order: 2 all, 1 dense layers, 0 none."""
    flat = order.reshape(-1)
    if (flat == np.arange(flat.size)).all():
        return 2
    channel, pixel = np.divmod(order.reshape(-1, order.shape[-1]), prod(sizes[1:]))
    return int((channel == channel[:1]).all() and (pixel == pixel[:, :1]).all())


def same_but_for_order(values: Sequence[Value]) -> bool:
    """Whether all values have the same elements, only in other orders."""
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

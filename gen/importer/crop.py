"""Values that are cropped, padded, or have their pixels rearranged."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from systolith.sim.model.placement import Placement

from .copies import join_pads, plain
from .nodes import Node
from .rationals import exact
from .target import Target
from .values import Part, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["another_input", "cropped", "is_input", "parts_value", "rearranged"]


def parts_value(parts: list[Part], shape: Sequence[int], sizes: Sequence[int], node: Node) -> Value:
    """The value that `node` joins from `parts`, of an ONNX `shape` without batch dimension; `sizes`
    are (channels, height, width) of its map."""
    ones = np.full(sizes[0], exact(1).item(), dtype=object)
    return Value("", tuple(shape), tuple(sizes), ones, 0 * ones, parts=parts, nodes=[node.name])


def cropped(builder: "Builder", node: Node, value: Value, pads: Sequence[int],
            image: int | None = 0) -> Value:
    """A quantized value padded by `pads` (top, left, bottom, right) with `image` (None: the nearest
    pixel); negative pads crop. Raises UserError at `node` where the value is not quantized."""
    if value.linear is not None or value.slope is not None:
        node.fail("crops or pads a value that is not quantized; put a quantizer before it")
    together = join_pads(value.pads, pads)
    padded = [any(p > 0 for p in item) for item in (value.pads, pads)]
    if value.parts or value.pool or together is None or (
            all(padded) and image != value.pad_image):
        value = plain(builder, _unpooled(builder, value, node), node)
        together = tuple(pads)
    top, left, bottom, right = pads
    channels, height, width = value.map
    return replace(value, pads=together, pad_image=image if padded[1] else value.pad_image,
                   map=(channels, height + top + bottom, width + left + right))


def _unpooled(builder, value, node):
    """The value with its pending max pooling done."""
    if value.parts or not value.pool:
        return value
    source, _, _ = builder.read(value, node)
    return replace(value, source=source, pool=None, low=None, high=None)


def _runs(size, pads, mode):
    """The runs of neighbouring pixels of which a padded axis consists: [(first, end, place)], the
    source pixels first to end - 1 standing from `place` on. `mode` is that of numpy.pad; negative
    pads crop."""
    index = np.pad(np.arange(size), [max(item, 0) for item in pads], mode=mode)
    index = index[max(-pads[0], 0):len(index) - max(-pads[1], 0)]
    steps = [list(run) for _, run in groupby(enumerate(index.tolist()),
                                             key=lambda item: item[1] - item[0])]
    return [(run[0][1], run[-1][1] + 1, run[0][0]) for run in steps]


def rearranged(builder: "Builder", node: Node, value: Value, mode: str, rows: Sequence[int],
               columns: Sequence[int]) -> Value:
    """A value padded with pixels from elsewhere in the map: `mode` is "reflect" or "wrap" of
    numpy.pad, `rows` and `columns` are (before, after), negative ones crop. The host pads the
    network's inputs; other values become copies."""
    channels, height, width = value.map
    around = (0, 0), tuple(rows), tuple(columns)
    sizes = (channels, height + sum(rows), width + sum(columns))
    if is_input(builder, value):
        source = another_input(builder, value.source, ("pad", (mode, around, 0.0)), sizes, node)
        return replace(value, source=source, map=sizes, nodes=[*value.nodes, node.name])
    value = plain(builder, value, node)
    parts = []
    for top, bottom, y in _runs(height, rows, mode):
        for left, right, x in _runs(width, columns, mode):
            part = cropped(builder, node, value, (-top, -left, bottom - height, right - width))
            parts.append(Part(part, Placement(0, (1, 1), (y, x))))
    return plain(builder, parts_value(parts, sizes, sizes, node), node)


def is_input(builder: "Builder", value: Value) -> bool:
    """Whether a value is a whole quantized input of the network, unchanged."""
    return (value.source in builder.inputs and value.linear is None and not value.parts
            and value.channels is None and not any(value.pads) and not value.pool
            and value.low is None and value.high is None)


def another_input(builder: "Builder", source: str, step: tuple[str, Any], shape: Sequence[int],
                  node: Node) -> str:
    """Add an input tensor of the map `shape`: the input `source` after one more `step` (operation,
    operand) of the host, as of `sim.model.edges.Encoder`. Returns its name."""
    encoder = next(item for item in builder.encoders if item.tensor == source)
    old = builder.tensors[source]
    name = builder.add_tensor(f"{source}_{node.name}", shape, Target(
        old.format, old.scale, old.zero_point, *builder.limits[source]))
    builder.inputs.append(name)
    steps = [*encoder.steps, ("reshape", old.shape), step]
    builder.encoders.append(replace(encoder, tensor=name, steps=steps))
    return name

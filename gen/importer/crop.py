"""Values that are cropped, padded, or have their pixels rearranged."""

from dataclasses import replace
from itertools import groupby

import numpy as np

from .copies import join_pads, plain
from .target import Target
from .values import Part, Value, exact

__all__ = ["another_input", "cropped", "is_input", "parts_value", "rearranged"]


def parts_value(parts, shape, sizes, node):
    """The value joined from `parts`; `sizes` are those of its map."""
    ones = np.full(sizes[0], exact(1).item(), dtype=object)
    return Value("", tuple(shape), tuple(sizes), ones, 0 * ones, parts=parts, nodes=[node.name])


def cropped(builder, node, value, pads, image=0):
    """A value padded with `image`; negative pads crop."""
    if value.linear is not None or value.slope is not None:
        node.fail("cuts or pads what is not quantized; put a quantizer before it")
    together = join_pads(value.pads, pads)
    padded = [any(p > 0 for p in item) for item in (value.pads, pads)]
    if value.parts or value.pool or together is None or (
            all(padded) and image != value.pad_image):
        value = plain(builder, _unpooled(builder, value, node), node)
        together = pads
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
    """[(first, end, place)]: runs of neighbouring positions of which an axis consists that is
    padded by `mode` of numpy.pad, or, where pads are negative, cut."""
    index = np.pad(np.arange(size), [max(item, 0) for item in pads], mode=mode)
    index = index[max(-pads[0], 0):len(index) - max(-pads[1], 0)]
    steps = [list(run) for _, run in groupby(enumerate(index.tolist()),
                                             key=lambda item: item[1] - item[0])]
    return [(run[0][1], run[-1][1] + 1, run[0][0]) for run in steps]


def rearranged(builder, node, value, mode, rows, columns):
    """A value padded with pixels from elsewhere, "reflect" or "wrap" of numpy.pad; `rows` and
    `columns` are (before, after). The host does it to what only it has made, else they are
    copies."""
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
            parts.append(Part(part, 0, (1, 1), (y, x)))
    return plain(builder, parts_value(parts, sizes, sizes, node), node)


def is_input(builder, value):
    """Whether a value is a whole input of the network, unchanged."""
    return (value.source in builder.inputs and value.linear is None and not value.parts
            and value.channels is None and not any(value.pads) and not value.pool
            and value.low is None and value.high is None)


def another_input(builder, source, step, shape, node):
    """A tensor like the input `source`, with which the host does one `step` more, as of
    `Encoder`."""
    encoder = next(item for item in builder.encoders if item.tensor == source)
    old = builder.tensors[source]
    name = builder.add_tensor(f"{source}_{node.name}", shape, Target(
        old.format, old.scale, old.zero_point, *builder.limits[source]))
    builder.inputs.append(name)
    steps = [*encoder.steps, ("reshape", old.shape), step]
    builder.encoders.append(replace(encoder, tensor=name, steps=steps))
    return name

"""Every n-th pixel of a map, as dilated pooling and resizing need."""

from dataclasses import replace

import numpy as np
from systolith.gen.importer.target import own_target
from systolith.gen.importer.values import Linear, Value, exact

from .linear import linear

__all__ = ["as_codes", "plain_weights", "sampled", "stored"]


def plain_weights(builder, value, node):
    """(format, image) of weights of one, for layers that copy or add up."""
    format = builder.weight_format or builder.tensors[value.source].format
    one = 0 if format.binary else int(format.image(format.encode(1.0)))
    if one < 1:
        node.fail(f"needs weights of one, and there is none in {format}; quantize the weights to "
                  "more bits")
    return format, one


def as_codes(builder, value, node):
    """(codes, restored) of a quantized value, pooled and clipped where it is: `codes` is the value
    of its tensor's own scale, and `restored` gives the numbers back to a value of such codes."""
    gain, offset = value.gain, value.offset
    if value.slope is not None:
        node.fail(f"reads the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them")
    if value.pool or value.low is not None or value.high is not None:
        source, *_ = builder.read(value, node)
        value = replace(value, source=source, pool=None, low=None, high=None)
    target = own_target(builder, value.source)
    units = np.full(value.map[0], target.unit, dtype=object)
    codes = Value(value.source, value.map, value.map, units, -target.zero_point * units,
                  channels=value.channels, pads=value.pads, pad_image=value.pad_image,
                  nodes=value.nodes)
    return codes, lambda made: replace(made, gain=gain, offset=offset)


def stored(builder, codes, source, name, node, target=None):
    """A value of codes like those of the tensor `source`, rounded to these, or to those of
    `target`, as a tensor."""
    own = target or own_target(builder, source)
    made = builder.quantize(codes, own, name, node)
    shape = tuple(builder.tensors[made].shape)
    units = np.full(shape[0], own.unit, dtype=object)
    return Value(made, shape, shape, units, -own.zero_point * units, nodes=codes.nodes)


def sampled(builder, node, value, first, step, count):
    """The pixels first + n * step, n < count, of both axes, all (y, x), of a value: a convolution
    that no quantizer follows with a longer stride, or one that copies. Pixels beyond the map are
    the nearest ones, and only quantized values have them."""
    sizes = value.map[1:]
    pads = tuple(-n for n in first) + tuple(
        n + (many - 1) * s + 1 - size for n, s, many, size in
        zip(first, step, count, sizes, strict=True))
    if value.linear is None:
        if any(p > 0 for p in pads):
            value = replace(value, map=(value.map[0], *(
                size + max(a, 0) + max(b, 0) for size, a, b in
                zip(sizes, pads[:2], pads[2:], strict=True))), pads=tuple(
                    max(p, 0) for p in pads), pad_image=None)
        format, one = plain_weights(builder, value, node)
        channels = value.map[0]
        images = np.full((channels, 1, 1, 1), one)
        scale = np.full(channels, exact(1).item() / one / exact(2).item() ** format.exponent,
                        dtype=object)
        cut = tuple(min(p, 0) for p in pads)
        return linear(builder, node, value, format, images, scale,
                      lambda size, kernel: (tuple(step), (1, 1), cut), channels)
    own = value.linear
    if not isinstance(own, Linear) or value.window != (1, 1) or value.pool or any(
            p > 0 for p in pads):
        node.fail(f"reads the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them")
    pads = tuple(p + q * s for p, q, s in zip(own.pads, pads, own.stride * 2, strict=True))
    stride = tuple(s * t for s, t in zip(own.stride, step, strict=True))
    shape = (value.map[0], *count)
    return replace(value, map=shape, shape=shape, nodes=[*value.nodes, node.name],
                   linear=replace(own, stride=stride, pads=pads))

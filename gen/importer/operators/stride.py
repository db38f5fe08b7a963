"""Every n-th pixel of a map, which dilated pooling and resizing need."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.target import Target, own_target
from systolith.gen.importer.values import Linear, Value
from systolith.hw.formats import Format
from systolith.sim.model.weights import Weights

from .linear import linear

__all__ = ["as_codes", "plain_weights", "sampled", "stored"]


def plain_weights(builder: Builder, value: Value, node: Node) -> tuple[Format, int]:
    """(format, image of 1) of weights of 1 and 0, for layers that copy or add up. Raises UserError
    at `node` where the weights' format has no 1 or no 0."""
    format, one = builder.weights_of_one(value.source, node)
    if format.binary:
        node.fail(f"needs weights of 1 and 0, and there is no 0 in {format}; quantize the weights "
                  "to more bits")
    return format, one


def as_codes(builder: Builder, value: Value, node: Node) -> tuple[Value, Callable[[Value], Value]]:
    """(codes, restored) of a quantized value, its pooling and clipping done: `codes` has the scale
    of its tensor, and `restored` gives a value with such codes the numbers of the given value.
    Raises UserError at `node` for values that are not quantized."""
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


def stored(builder: Builder, codes: Value, source: str, name: str, node: Node,
           target: Target | None = None) -> Value:
    """`codes`, which are like those of the tensor `source`, in a tensor of their own called `name`
    or like it, rounded by `target` (None: to codes like those of `source`)."""
    own = target or own_target(builder, source)
    made = builder.quantize(codes, own, name, node)
    shape = tuple(builder.tensors[made].shape)
    units = np.full(shape[0], own.unit, dtype=object)
    return Value(made, shape, shape, units, -own.zero_point * units, nodes=codes.nodes)


def sampled(builder: Builder, node: Node, value: Value, first: Sequence[int], step: Sequence[int],
            count: Sequence[int]) -> Value:
    """The pixels first + n * step, n < count, of a value; all three are (y, x). A convolution that
    no quantizer follows gets a longer stride; quantized values are copied. Pixels beyond the map
    are the nearest ones, of quantized values only. Raises UserError at `node`."""
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
        scale = np.full(channels, exact(1).item() / one / exact(2).item() ** format.exponent,
                        dtype=object)
        cut = tuple(min(p, 0) for p in pads)
        return linear(builder, node, value, Weights.ones(format, channels), scale,
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

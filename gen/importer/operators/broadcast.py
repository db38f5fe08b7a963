"""Maps that ONNX broadcasts to others, and constants that differ from pixel to pixel.

A channel is repeated by weights of 1, rows and columns by padding with the nearest pixel: one
layer, exact. A constant map is one more input of the program, which the host fills with the same
codes for each image. 8-bit codes hold what a quantizer made; other numbers are sums of several
codes each, with an error of about 2**-17 of the largest number.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm, prod

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import cropped
from systolith.gen.importer.layout import as_shaped, filled
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import (
    AnyConstant,
    Linear,
    QuantizedConstant,
    Value,
    layout_of,
    like,
    per_channel,
    shape_text,
)
from systolith.hw.formats import Int
from systolith.sim.model.edges import Encoder
from systolith.sim.model.weights import Weights

from .linear import linear
from .stride import as_codes, plain_weights, stored

__all__ = ["by_channel", "constant_map", "differs_by_position", "spread"]

#: How many codes of the largest weight make up a number, besides one of weight 1.
_HIGH = 3


def _sides(shape):
    """(channels, rows, columns) of a value's map as its shape says."""
    return {1: (*shape, 1, 1), 2: (*shape[:1], 1, *shape[1:]), 3: tuple(shape)}.get(len(shape))


# Activations.

def spread(builder: Builder, node: Node, values: Sequence[Value],
           pixels: bool = True) -> Sequence[Value]:
    """Two values that ONNX broadcasts to each other, with maps of equal sizes; with `pixels`, one
    of them may keep a map of one pixel. Raises UserError at `node` where shapes do not fit."""
    maps = [tuple(item.map) for item in values]
    natural = all(item.order is None and item.rows == 1 and _sides(item.shape) == own
                  for item, own in zip(values, maps, strict=True))
    if maps[0] == maps[1] or not natural or len({len(item.shape) for item in values}) > 1:
        return values
    sizes = tuple(max(pair) for pair in zip(*maps, strict=True))
    if any(size not in (1, most) for own in maps for size, most in zip(own, sizes, strict=True)):
        node.fail(f"combines {shape_text(values[0].shape)} with {shape_text(values[1].shape)}, "
                  "which do not broadcast")
    pixel = (sizes[0], 1, 1)
    made = []
    for item, own, other in zip(values, maps, maps[::-1], strict=True):
        # At most one stays a pixel: the other one has rows or columns.
        stays = pixels and own[1:] == (1, 1) and other[1:] != (1, 1)
        made.append(_repeated(builder, node, item, pixel if stays else sizes))
    return made


def _repeated(builder, node, value, sizes):
    """A value whose single channel, row or column is repeated to a map of `sizes`."""
    if tuple(value.map) == tuple(sizes):
        return value
    value = plain(builder, value, node)
    times = sizes[0] if value.map[0] < sizes[0] else 1
    rows, columns = (most - size for most, size in zip(sizes[1:], value.map[1:], strict=True))
    shape = {1: sizes[:1], 2: (sizes[0], sizes[2]), 3: tuple(sizes)}[len(value.shape)]
    if isinstance(value.linear, Linear) and not (rows or columns) and not (
            value.pool and value.pool.least):
        return replace(value, shape=shape, map=tuple(sizes), nodes=[*value.nodes, node.name],
                       gain=np.repeat(value.gain, times), offset=np.repeat(value.offset, times),
                       slope=None if value.slope is None else np.repeat(value.slope, times),
                       linear=replace(value.linear,
                                      weights=value.linear.weights.repeated(times, axis=0)))
    if value.linear is not None or value.slope is not None:
        node.fail(f"broadcasts the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them")
    gain, offset = (np.repeat(item, times) for item in (value.gain, value.offset))
    codes, _ = as_codes(builder, value, node)
    source = codes.source
    format, one = plain_weights(builder, value, node)
    if rows or columns:
        codes = cropped(builder, node, codes, (0, 0, rows, columns), None)
    scale = np.full(sizes[0], exact(1).item() / one / exact(2).item() ** format.exponent,
                    dtype=object)
    made = linear(builder, node, codes, Weights.ones(format, sizes[0]), scale,
                  lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)),
                  1 if times > 1 else sizes[0])
    made = stored(builder, made, source, f"{node.name}_repeated", node)
    return replace(made, gain=gain, offset=offset, shape=shape)


# Constants.

def differs_by_position(numbers: np.ndarray, value: Value) -> bool:
    """Whether a constant that ONNX broadcasts against a value is not one number for each channel of
    its map: it differs within a channel, or has more elements than the value."""
    full = (value.rows, *value.shape)
    try:
        shape = np.broadcast_shapes(numbers.shape, full)
    except ValueError:
        return False                            # refused where channels are expected
    if numbers.size == 1:
        return False
    if shape != full:
        return len(shape) == len(full) and shape[0] == full[0]
    channel = (layout_of(value) // prod(value.map[1:])).reshape(-1)
    found = np.broadcast_to(numbers, full).reshape(-1)
    first = np.empty(value.map[0], dtype=object)
    first[channel] = found
    return bool((first[channel] != found).any())


def by_channel(builder: Builder, node: Node, numbers: np.ndarray, value: Value,
               what: str) -> tuple[np.ndarray, Value]:
    """(one number for each channel of the map, the value), for `numbers` that broadcast against the
    value; the value gets a map of its shape where its channels are not those of its shape. Raises
    UserError at `node`; the message calls the numbers `what`."""
    if differs_by_position(np.asarray(numbers, dtype=object), value) and value.rows == 1:
        value = as_shaped(builder, node, value)
    return per_channel(numbers, value, node, what), value


def constant_map(builder: Builder, node: Node, operand: AnyConstant, numbers: np.ndarray,
                 value: Value) -> tuple[Value, Value]:
    """(the constant as a value, the value), with maps of equal sizes. `numbers` (Fractions) are the
    constant's, or computed from those of `operand`. Raises UserError at `node`."""
    shape = np.broadcast_shapes(numbers.shape, (value.rows, *value.shape))
    if shape[1:] != tuple(value.shape):
        sizes = _sides(shape[1:])
        if sizes is None or value.order is not None or value.rows > 1 or (
                _sides(value.shape) != tuple(value.map)):
            node.fail(f"its constant of shape {list(numbers.shape)} does not fit "
                      f"{shape_text(value.shape)}")
        value = _repeated(builder, node, value, sizes)
    value = filled(builder, node, value)
    place = layout_of(value)

    def in_map(array):
        found = np.empty(prod(value.map), dtype=object)
        found[place.reshape(-1)] = np.broadcast_to(array, place.shape).reshape(-1)
        return found.reshape(value.map)
    format = builder.tensors[value.source].format
    if not format.uniform:
        node.fail(f"its constant of shape {list(numbers.shape)} differs by position, and the "
                  f"network's activations are in {format}; supported are integers")
    numbers = in_map(numbers)
    made = _codes(builder, node, operand, numbers, format, in_map)
    if made is None:
        made = _of_several(builder, node, numbers, format)
    return like(value, replace(made, shape=value.shape)), value


def _input(builder, node, codes, scale, zero, format):
    """Add a tensor that the host fills with the images `codes` [C, H, W]; returns its name."""
    target = Target(format, float(scale), zero, int(codes.min()), int(codes.max()))
    name = builder.add_tensor(f"{node.name}_constant", codes.shape, target)
    reals = ((codes - zero) * float(scale)).astype(np.float32)
    first = builder.encoders[0]
    builder.inputs.append(name)
    builder.encoders.append(Encoder(first.name, first.shape, name, [("constant", reals)],
                                    target.low, target.high))
    return name


def _codes(builder, node, operand, numbers, format, in_map):
    """The constant as codes of one scale; None where no scale gives exact codes."""
    scale = uniform(exact(operand.scale)) if isinstance(operand, QuantizedConstant) else None
    scale = scale and scale * Fraction(2) ** operand.format.exponent
    if not scale or any((item / scale).denominator > 1 for item in numbers.flat):
        whole = lcm(*(item.denominator for item in numbers.flat))
        scale = Fraction(gcd(*(int(item * whole) for item in numbers.flat)), whole) or Fraction(1)
    if Fraction(float(scale)) != scale:
        return None
    images = np.array([int(item / scale) for item in numbers.flat]).reshape(numbers.shape)
    low, high = format.image_range
    least, most = min(0, int(images.min())), max(0, int(images.max()))
    if most - least > high - low:
        return None
    zero = 0 if low <= least and most <= high else low - least
    source = _input(builder, node, images + zero, scale, zero, format)
    units = np.full(len(images), scale, dtype=object)
    return Value(source, images.shape, images.shape, units, -zero * units, nodes=[node.name])


def _of_several(builder, node, numbers, format):
    """The constant as a convolution of several codes for each number: all with the weight `top` but
    one with the weight 1. Codes and weights have at least 8 bits, whatever the network's own."""
    weight = builder.weight_format or format
    if not weight.uniform:
        node.fail(f"its constant of shape {list(numbers.shape)} differs by position, and no codes "
                  f"of one scale give its numbers, nor do sums of codes with weights in {weight}; "
                  "quantize the constant")
    format, weight = (item if item.width >= 8 else Int(8) for item in (format, weight))
    top, largest = weight.image_range[1], format.image_range[1]
    top = min(top, 2 * largest + 1)
    count = _HIGH if top > 63 else 2 * _HIGH
    channels = len(numbers)
    off, units = Fraction(0), []
    codes = np.zeros((channels, count + 1, *numbers.shape[1:]), np.int64)
    for n, plane in enumerate(numbers):
        unit = max(map(abs, plane.flat)) / (top * largest * count) or Fraction(1)
        units.append(unit)
        off = max([off, *(abs(item / unit - round(item / unit)) for item in plane.flat)])
        left = np.array([round(item / unit) for item in plane.flat]).reshape(plane.shape)
        for k in range(count):
            codes[n, k] = np.clip(np.rint(left / top), -largest, largest)
            left = left - top * codes[n, k]
        codes[n, count] = np.clip(left, -largest, largest)
    source = _input(builder, node, codes.reshape(-1, *numbers.shape[1:]), 1, 0, format)
    builder.notes.tensor(source, "constant", node.name, off / (top * count + 1))
    images = np.full((channels, count + 1, 1, 1), top)
    images[:, count] = 1
    gains = np.array(units, dtype=object)
    return Value(source, numbers.shape, numbers.shape, gains, 0 * gains,
                 Linear(node.name, Weights(images, weight), (1, 1), (1, 1), (0, 0, 0, 0), 0),
                 nodes=[node.name])

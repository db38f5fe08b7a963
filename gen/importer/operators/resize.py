"""Resize by any factor: where results lie among the pixels, and the convolutions that compute them.

Along an axis the results n, n + p, n + 2 p, ... lie at equal distances and at the same place
between two pixels, for the smallest such p: p convolutions of one or two taps with a stride write
every p-th result each. The map is extended by its nearest pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import floor, lcm

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import cropped, parts_value
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.target import own_target
from systolith.gen.importer.values import HostInput, Part, Value
from systolith.sim.model.placement import Placement
from systolith.sim.model.weights import Weights

from .bilinear import finer, half_step, images_of, interpolating, rounded
from .linear import linear
from .stride import as_codes, plain_weights, sampled, stored
from .windows import as_map

__all__ = ["MODES", "NEAREST", "TOGETHER", "Axis", "resized"]

#: Most layers that make a map at once instead of rows and then columns, and most copies of its
#: channels for weights that are longer than a weight's format.
TOGETHER, _COPIES = 256, 8
_HALF = Fraction(1, 2)
#: How far float32's rounding may move a place.
_NOISE = np.float32(1e-5)


@dataclass(frozen=True)
class Axis:
    """An axis of `size` pixels that becomes `out` pixels, `scale` (a Fraction) times as many.
    `roi`: (first, last) of the part that tf_crop_and_resize takes, as shares of the axis."""
    size: int
    out: int
    scale: Fraction
    roi: tuple = (0, 1)


def _symmetric(n, axis, number):
    adjustment = number(axis.out) / (number(axis.scale) * number(axis.size))
    offset = number(axis.size) / number(2) * (number(1) - adjustment)
    return offset + (n + number(_HALF)) / number(axis.scale) - number(_HALF)


def _crop(n, axis, number):
    first, last, end = number(axis.roi[0]), number(axis.roi[1]), number(axis.size - 1)
    if axis.out < 2:
        return number(_HALF) * (first + last) * end
    return first * end + n * (last - first) * end / number(axis.out - 1)


def _half_pixel(n, axis, number):
    return (n + number(_HALF)) / number(axis.scale) - number(_HALF)


#: Attribute coordinate_transformation_mode: where result n lies; `number` makes the numbers of the
#: arithmetic, exact ones or float32, operation by operation as ONNX Runtime does it.
MODES: dict[str, Callable] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda n, axis, number:
        _half_pixel(n, axis, number) if axis.out > 1 else number(0),
    "tf_half_pixel_for_nn": lambda n, axis, number: (n + number(_HALF)) / number(axis.scale),
    "asymmetric": lambda n, axis, number: n / number(axis.scale),
    "align_corners": lambda n, axis, number:
        n * number(axis.size - 1) / number(axis.out - 1) if axis.out > 1 else number(0),
    "tf_crop_and_resize": _crop,
}
#: Attribute nearest_mode.
NEAREST: dict[str, Callable] = {
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _binary(scale):
    """Whether a factor is a power of two, with which float32 is exact."""
    return bin(scale.numerator * scale.denominator).count("1") == 1


def _places(axis, mode, nearest, node):
    """[(first pixel, weights)] for each result of an axis."""
    if axis.scale == 1 and axis.out == axis.size and mode != "tf_crop_and_resize":
        return [(n, (Fraction(1),)) for n in range(axis.size)]
    number = Fraction if nearest is None else lambda item: np.float32(float(item))
    where = [MODES[mode](number(n), axis, number) for n in range(axis.out)]
    if mode == "tf_crop_and_resize" and not all(0 <= item <= axis.size - 1 for item in where):
        node.fail("its roi reaches beyond its input, where extrapolation_value would stand; keep "
                  "roi from 0 to 1")
    if nearest is not None:
        if mode == "half_pixel_symmetric" and not _binary(axis.scale) and any(
                NEAREST[nearest](item - _NOISE) != NEAREST[nearest](item + _NOISE)
                for item in where):
            node.fail(f"takes the nearest pixel where a result lies exactly on the border between "
                      f"two of {axis.size}, which float32 decides in an order that runtimes do not "
                      "share; use coordinate_transformation_mode 'half_pixel' or mode 'linear'")
        return [(int(NEAREST[nearest](item)), (Fraction(1),)) for item in where]
    return [(floor(item), (1 - item % 1, item % 1) if item % 1 else (Fraction(1),))
            for item in where]


def _phases(places):
    """The convolutions along an axis: [(first result, step of results, first pixel, stride,
    results, weights)]."""
    many = len(places)
    for step in range(1, many + 1):
        runs = [places[n::step] for n in range(step)]
        strides = [run[1][0] - run[0][0] if len(run) > 1 else 1 for run in runs]
        if all(weights == run[0][1] and first == run[0][0] + n * stride
               for run, stride in zip(runs, strides, strict=True)
               for n, (first, weights) in enumerate(run)) and min(strides) > 0:
            break
    return [(n, step, run[0][0], stride, len(run), run[0][1])
            for n, (run, stride) in enumerate(zip(runs, strides, strict=True))]


def _same(size):
    return _phases([(n, (Fraction(1),)) for n in range(size)])


def resized(builder: Builder, node: Node, value: HostInput | Value, axes: Sequence[Axis], mode: str,
            nearest: str | None) -> Value:
    """A quantized value resized along `axes` (y, x). `mode`: coordinate_transformation_mode;
    `nearest`: nearest_mode, None for linear interpolation. Raises UserError at `node`."""
    if isinstance(value, HostInput):
        node.fail("resizes the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    value = plain(builder, value, node)
    rank = len(value.shape)
    down, across = (_phases(_places(axis, mode, nearest, node)) for axis in axes)
    sizes = value.map[0], axes[0].out, axes[1].out
    if nearest is not None:
        made = _nearest(builder, node, value, down, across, sizes)
    else:
        made = _linear(builder, node, value, down, across, sizes)
    made.shape = sizes if rank == 3 else (sizes[0], sizes[2])
    return made


def _nearest(builder, node, value, down, across, sizes):
    if value.linear is not None:
        parts = [Part(sampled(builder, node, value, (y[2], x[2]), (y[3], x[3]), (y[4], x[4])),
                      Placement(0, (y[1], x[1]), (y[0], x[0]))) for y, x in product(down, across)]
        return parts_value(parts, sizes, sizes, node)
    if len(down) * len(across) > len(down) + len(across):
        middle = sizes[0], sizes[1], value.map[2]
        value = plain(builder, _nearest(builder, node, value, down, _same(value.map[2]), middle),
                      node)
        down = _same(sizes[1])
    codes, restored = as_codes(builder, value, node)
    parts = []
    for y, x in product(down, across):
        part = sampled(builder, node, codes, (y[2], x[2]), (y[3], x[3]), (y[4], x[4]))
        part = stored(builder, part, codes.source, f"{node.name}_part", node)
        parts.append(Part(restored(part), Placement(0, (y[1], x[1]), (y[0], x[0]))))
    return parts[0].value if len(parts) == 1 else parts_value(parts, sizes, sizes, node)


def _linear(builder, node, value, down, across, sizes):
    format = builder.weight_format or builder.tensors[value.source].format
    if format.binary:
        node.fail("interpolates, and binary weights cannot; use mode 'nearest'")
    format = interpolating(format, [y[5] for y in down], [x[5] for x in across])
    if value.linear is not None:
        node.fail(f"interpolates the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them")
    source, gain, offset = builder.read(value, node)
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    value = Value(source, value.map, value.map, gain * ones, offset, nodes=value.nodes)
    whole = [_whole(np.outer(y[5], x[5]))[0].max() for y, x in product(down, across)]
    copies = -(-int(max(whole)) // format.image_range[1]) if format.uniform else 1
    exactly = all(images_of(format, np.outer(y[5], x[5])) for y, x in product(down, across))
    if not exactly and 1 < copies <= _COPIES and len(whole) <= TOGETHER:
        value = _copied(builder, node, value, copies)
        exactly = True
    else:
        copies = 1
    if len(down) > 1 and len(across) > 1 and (not exactly or len(whole) > TOGETHER):
        middle = sizes[0], sizes[1], value.map[2]
        codes, restored = as_codes(builder, value, node)
        rows = parts_value(_interpolated(builder, node, codes, format, down, _same(value.map[2])),
                           middle, middle, node)
        target, steps = finer(own_target(builder, source))
        value = restored(stored(builder, rows, source, f"{node.name}_rows", node, target))
        value = replace(value, gain=value.gain / steps)
        if any(len(y[5]) > 1 for y in down):
            builder.notes.tensor(value.source, "rows", node.name, half_step(target.format))
        down = _same(sizes[1])
    parts = _interpolated(builder, node, value, format, down, across, copies)
    return parts[0].value if len(parts) == 1 else parts_value(parts, sizes, sizes, node)


def _whole(weights):
    """(integers, unit) of weights: weights = integers * unit."""
    whole = lcm(*(item.denominator for item in weights.flat))
    return np.array([int(item * whole) for item in weights.flat]).reshape(weights.shape), Fraction(
        1, whole)


def _copied(builder, node, value, copies):
    """A value with each channel repeated `copies` times in a row."""
    codes, _ = as_codes(builder, value, node)
    format, one = plain_weights(builder, value, node)
    channels = value.map[0]
    scale = np.full(channels * copies, exact(1).item() / one / exact(2).item() ** format.exponent,
                    dtype=object)
    made = linear(builder, node, codes, Weights.ones(format, channels * copies), scale,
                  lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)), channels)
    made = stored(builder, made, codes.source, f"{node.name}_copies", node)
    return replace(made, gain=np.repeat(value.gain, copies),
                   offset=np.repeat(value.offset, copies))


def _interpolated(builder, node, value, format, down, across, copies=1):
    """The results of both axes' phases, not quantized, as a list of Part. Each channel stands there
    `copies` times in a row, so that weights may be that many times as large as a code's."""
    channels, parts = value.map[0] // copies, []
    ones = np.full(channels, exact(1).item(), dtype=object)
    for y, x in product(down, across):
        weights = np.outer(y[5], x[5])
        if copies > 1:
            left, unit = _whole(weights)
            each, layers = format.image_range[1], []
            for _ in range(copies):
                layers.append(np.minimum(left, each))
                left = left - layers[-1]
            images = np.stack(layers)
        else:
            images, unit = rounded(builder, node, format, weights)
            images = images[None]
        before = -y[2], -x[2]
        after = tuple(item[2] + (item[4] - 1) * item[3] + len(item[5]) - size
                      for item, size in zip((y, x), value.map[1:], strict=True))
        padded = cropped(builder, node, value, (*before, *after), None)
        images = np.broadcast_to(images, (channels, *images.shape))
        part = linear(builder, node, padded, Weights(images, format),
                      ones * unit / Fraction(2) ** format.exponent,
                      lambda size, kernel, s=(y[3], x[3]): (s, (1, 1), (0, 0, 0, 0)), channels)
        parts.append(Part(part, Placement(0, (y[1], x[1]), (y[0], x[0]))))
    return parts

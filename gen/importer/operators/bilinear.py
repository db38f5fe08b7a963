"""Bilinear upsampling by whole factors: convolutions with two fixed weights along each axis.

Every s-th result along an axis lies at the same place between two pixels, so s convolutions write
every s-th result each; only with aligned corners does each result need one of its own. The map is
extended by its nearest pixels. Where the products of both axes' weights have codes, rows and
columns are computed at once and exactly; else rows first, rounded to codes as fine as the input's
range allows.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import floor, gcd, lcm

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.crop import cropped, parts_value
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.target import Target, own_target
from systolith.gen.importer.values import HostInput, Part, Value
from systolith.hw.formats import Format, Int
from systolith.sim.model.placement import Placement
from systolith.sim.model.weights import Weights

from .linear import linear
from .windows import as_map

__all__ = ["MODES", "enlarged", "finer", "half_step", "images_of", "interpolating", "rounded"]

#: Attribute coordinate_transformation_mode: where result n of an axis of `size` pixels enlarged by
#: `factor` lies among the pixels.
MODES = {
    "half_pixel": lambda n, size, factor: (n + Fraction(1, 2)) / factor - Fraction(1, 2),
    "asymmetric": lambda n, size, factor: Fraction(n, factor),
    "align_corners": lambda n, size, factor: Fraction(n * (size - 1), max(1, size * factor - 1)),
}
MODES["pytorch_half_pixel"] = MODES["half_pixel_symmetric"] = MODES["half_pixel"]


def _taps(place):
    """(first pixel, weights) of what lies at `place`."""
    first = floor(place)
    rest = place - first
    return first, (1 - rest, rest) if rest else (Fraction(1),)


def _phases(size, factor, mode):
    """[(origin, step, pads, weights)]: the convolutions along an axis."""
    if factor == 1:
        return [(0, 1, (0, 0), (Fraction(1),))]
    count = 1 if mode != "align_corners" else size
    phases = []
    for origin in range(factor * count):
        first, weights = _taps(MODES[mode](origin, size, factor))
        results = size // count
        phases.append((origin, factor if count == 1 else 1,
                       (-first, first + results - 1 + len(weights) - size), weights))
    return phases


def images_of(format: Format, weights: np.ndarray) -> tuple[np.ndarray, Fraction] | None:
    """(images, unit) with weights (Fractions) = images * unit; None where the images have no codes
    in `format`."""
    whole = lcm(*(item.denominator for item in weights.flat))
    numbers = [int(item * whole) for item in weights.flat]
    common = gcd(*numbers)
    images = np.array([item // common for item in numbers]).reshape(weights.shape)
    top = format.image_range[1]
    if images.max() > top or not format.has_image(images).all():
        return None
    return images, Fraction(common, whole)


def interpolating(format: Format, *phases: Sequence) -> Format:
    """The format for interpolation weights. `phases` are, for each axis, lists of the weights of
    its convolutions. It is the network's own `format` where that has them, at least axis by axis;
    else integers of 8 bits in place of narrower ones."""
    exactly = all(images_of(format, np.array(item)) for axis in phases for item in axis)
    return format if exactly or not format.complete or format.width >= 8 else Int(8)


def rounded(builder: Builder, node: Node, format: Format,
            weights: np.ndarray) -> tuple[np.ndarray, Fraction]:
    """(images, unit) with images * unit as near as possible to the weights (Fractions), which sum
    to 1, as the images * unit do. Takes a note of the error."""
    exactly = images_of(format, weights)
    if exactly:
        return exactly
    top = format.image_range[1]
    wanted = np.array([float(item / max(weights.flat) * top) for item in weights.flat])
    images = format.image(format.from_image(wanted))
    images, unit = images.reshape(weights.shape), Fraction(1, int(images.sum()))
    # The weights sum to 1: one pixel's excess is another pixel's deficit.
    off = sum(abs(int(image) * unit - weight)
              for image, weight in zip(images.flat, weights.flat, strict=True)) / 2
    builder.notes.add("weights", node.name, off, "range", str(format))
    return images, unit


def _parts(builder, node, value, format, phases):
    """The results of the convolutions of all phases of both axes, as a list of Part."""
    channels = value.map[0]
    parts, ones = [], np.full(channels, exact(1).item(), dtype=object)
    for down, across in product(*phases):
        images, unit = rounded(builder, node, format, np.outer(down[3], across[3]))
        pads = down[2][0], across[2][0], down[2][1], across[2][1]
        padded = cropped(builder, node, value, pads, None)
        weights = Weights(np.broadcast_to(images, (channels, 1, *images.shape)), format)
        scale = ones * unit / Fraction(2) ** format.exponent
        part = linear(builder, node, padded, weights, scale,
                      lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)), channels)
        parts.append(Part(part, Placement(0, (down[1], across[1]), (down[0], across[0]))))
    return parts


def enlarged(builder: Builder, node: Node, value: HostInput | Value, factors: Sequence[int],
             mode: str) -> Value:
    """A quantized value enlarged by `factors` (y, x); `mode`: a coordinate_transformation_mode of
    `MODES`. Raises UserError at `node`."""
    if isinstance(value, HostInput):
        node.fail("enlarges the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    source, gain, offset = builder.read(plain(builder, value, node), node)
    format = builder.weight_format or builder.tensors[source].format
    if format.binary:
        format = Int(8)                         # interpolating is not for binary chips
    axes = [_phases(size, factor, mode) for size, factor in
            zip(value.map[1:], factors, strict=True)]
    format = interpolating(format, *([item[3] for item in axis] for axis in axes))
    channels, height, width = value.map
    ones = np.full(channels, exact(1).item(), dtype=object)
    value = Value(source, value.shape, value.map, gain * ones, offset, nodes=value.nodes)
    sizes = channels, height * factors[0], width * factors[1]
    shape = sizes if len(value.shape) == 3 else (channels, sizes[2])
    if min(factors) > 1 and (mode == "align_corners" or None in [
            images_of(format, np.outer(down[3], across[3])) for down, across in product(*axes)]):
        value = _rows(builder, node, value, format, axes[0])
        axes[0] = _phases(sizes[1], 1, mode)
    return parts_value(_parts(builder, node, value, format, axes), shape, sizes, node)


def finer(target: Target) -> tuple[Target, int]:
    """(target, steps): a target with the same range and a scale that is 1 / `steps` of the given
    one, as small as 8-bit integers allow; the target itself, and 1, where these have no room."""
    steps, bits = 1, target.format.width
    if not target.format.complete or bits > 8:
        return target, steps
    ends = target.low, target.high, target.zero_point
    while all(-64 <= steps * end <= 63 for end in ends) and steps < 128:
        steps *= 2
    return replace(target, format=Int(8), scale=target.scale / steps, **{
        key: steps * getattr(target, key) for key in ("zero_point", "low", "high")}), steps


def half_step(form: Format) -> Fraction:
    """How far rounding to a format can move an image; for floats, where their steps are largest."""
    return Fraction(int(np.diff(np.unique(form.image(form.finite_codes()))).max()), 2)


def _rows(builder, node, value, format, phases):
    """A value enlarged along its columns by `phases`, rounded to codes as fine as its range
    allows."""
    target, (channels, height, width) = own_target(builder, value.source), value.map
    step = phases[0][1]
    sizes = channels, height * step if step > 1 else len(phases), width
    units = np.full(channels, target.unit, dtype=object)
    codes = replace(value, gain=units, offset=-target.zero_point * units)
    parts = _parts(builder, node, codes, format, [phases, _phases(width, 1, None)])
    target, steps = finer(target)
    source = builder.quantize(parts_value(parts, sizes, sizes, node), target,
                              f"{node.name}_rows", node)
    builder.notes.tensor(source, "rows", node.name, half_step(target.format))
    return replace(value, source=source, gain=value.gain / steps, map=sizes, shape=sizes)

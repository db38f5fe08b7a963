"""Resize, Upsample, Expand and Tile: enlarged maps and repeated elements. Nearest upsampling by
whole factors interleaves copies of a value pixel by pixel; other resizing is in `resize` and
`bilinear`."""

from fractions import Fraction
from itertools import product
from math import floor, prod
from typing import Any

import numpy as np
from systolith.gen.importer.crop import parts_value
from systolith.gen.importer.file import check_size
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import (
    HostInput,
    Part,
    activation,
    constant,
)
from systolith.sim.model.placement import Placement

from . import resize
from .bilinear import MODES, enlarged
from .windows import as_map


def _repeated(node, value, factors):
    """A value with every pixel repeated `factors` (y, x) times."""
    if isinstance(value, HostInput):
        node.fail("enlarges the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    channels, height, width = value.map
    sizes = channels, height * factors[0], width * factors[1]
    check_size(node.outputs[0], sizes)
    shape = sizes if len(value.shape) == 3 else (channels, sizes[2])
    parts = [Part(value, Placement(0, tuple(factors), origin))
             for origin in product(*map(range, factors))]
    return parts_value(parts, shape, sizes, node)


def _whole_factors(node, value, scales):
    """(y, x): whole factors, from scales of all dimensions, the batch first."""
    rank = len(value.shape) + 1
    if len(scales) != rank or any(item < 1 or item != int(item) for item in scales) or (
            scales[0] != 1 or scales[1] != 1):
        node.fail(f"must enlarge rows and columns by whole factors, not by "
                  f"{[float(item) for item in scales]}")
    return [1] * (4 - rank) + [int(item) for item in scales[2:]]


def _dimensions(node, value, inputs, axes, policy):
    """[(new size, factor)] of all dimensions but the batch."""
    rank, old = len(value.shape) + 1, [1, *value.shape]
    axes = [int(axis) % rank for axis in (range(rank) if axes is None else axes)]
    scales, sizes = (None if item is None else constant(item, node, "its size").numbers.reshape(-1)
                     for item in [*inputs[2:], None, None][:2])
    by_scales = scales is not None and len(scales) > 0
    given: Any = scales if by_scales else sizes
    if given is None or len(given) != len(axes):
        node.fail("needs scales or sizes for all dimensions, or for those of its axes")
    found = [(size, Fraction(1)) for size in old]
    if by_scales:
        for axis, scale in zip(axes, given, strict=True):
            size = int(np.float32(float(scale)) * np.float32(old[axis]))
            simple = scale.limit_denominator(1000)
            near = abs(simple - scale) <= scale / (1 << 22)
            found[axis] = size, simple if near else scale
    else:
        wanted = {axis: int(size) for axis, size in zip(axes, given, strict=True)}
        ratios = [Fraction(size, old[axis]) for axis, size in wanted.items()]
        for axis, size in wanted.items():
            scale = Fraction(size, old[axis])
            if policy != "stretch":
                scale = min(ratios) if policy == "not_larger" else max(ratios)
                size = floor(scale * old[axis] + Fraction(1, 2))
            found[axis] = size, scale
    if found[0] != (1, 1) or found[1] != (old[1], 1):
        # The batch is 1 here; files with another fixed one give its size.
        if found[1] != (old[1], 1) or by_scales:
            node.fail(f"must leave batch and channels as they are, not resize them by "
                      f"{[float(item) for _, item in found[:2]]}")
    if min(size for size, _ in found[1:]) < 1:
        node.fail(f"its result has no pixels, sizes {[size for size, _ in found[1:]]}; scales and "
                  "sizes must keep at least one")
    return found[1:]


def _roi(node, value, inputs, axes, place):
    """((first, last)) of rows and columns, from the input roi."""
    rank = len(value.shape) + 1
    axes = [int(axis) % rank for axis in (range(rank) if axes is None else axes)]
    found = [(Fraction(0), Fraction(1))] * rank
    if place == "tf_crop_and_resize":
        if len(inputs) < 2 or inputs[1] is None:
            node.fail("needs its input roi, as attribute coordinate_transformation_mode says")
        numbers = constant(inputs[1], node, "its roi").numbers.reshape(-1)
        if len(numbers) != 2 * len(axes):
            node.fail(f"its roi must have {2 * len(axes)} numbers, not {len(numbers)}")
        for n, axis in enumerate(axes):
            found[axis] = numbers[n], numbers[n + len(axes)]
    return found[2:]


@operator("Resize", roles=Role.REPEAT | Role.MAPS)
def _resize(builder, node: Node, inputs, antialias=0, axes=None,
            coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75, exclude_outside=0,
            extrapolation_value=0.0, keep_aspect_ratio_policy="stretch", mode="nearest",
            nearest_mode="round_prefer_floor"):
    value = activation(inputs, node)
    node.expect("mode", mode, ("nearest", "linear"))
    place = node.expect("coordinate_transformation_mode", coordinate_transformation_mode,
                        tuple(resize.MODES))
    node.expect("antialias", antialias, (0,))
    if mode == "linear":
        node.expect("exclude_outside", exclude_outside, (0,))
    nearest = node.expect("nearest_mode", nearest_mode, tuple(resize.NEAREST))
    if isinstance(value, HostInput):
        node.fail("resizes the input before it is quantized; put a quantizer before it")
    as_map(value, node)
    policy = node.expect("keep_aspect_ratio_policy", keep_aspect_ratio_policy,
                         ("stretch", "not_larger", "not_smaller"))
    dimensions = _dimensions(node, value, inputs, axes, policy)[1:]
    whole = all(scale == int(scale) and size == scale * old for (size, scale), old in
                zip(dimensions, value.shape[1:], strict=True))
    factors = [1] * (2 - len(dimensions)) + [int(scale) for _, scale in dimensions]
    together = place == "align_corners" and prod(size for size, _ in dimensions) <= (
        resize.TOGETHER)
    if whole and mode == "linear" and place in MODES and not together and (
            place != "pytorch_half_pixel" or max(size for size, _ in dimensions) > 1):
        return enlarged(builder, node, value, factors, place)
    if whole and mode == "nearest" and (place, nearest) in _REPEATS:
        return _repeated(node, value, factors)
    sides = [resize.Axis(old, size, scale, roi) for (size, scale), old, roi in
             zip(dimensions, value.shape[1:], _roi(node, value, inputs, axes, place), strict=True)]
    sides = [resize.Axis(1, 1, Fraction(1))] * (2 - len(sides)) + sides
    return resize.resized(builder, node, value, sides, place,
                          nearest if mode == "nearest" else None)


#: Attributes of nearest enlargements that give each pixel the same number of times.
_REPEATS = {("asymmetric", "floor"), *product(("half_pixel", "half_pixel_symmetric"),
                                              ("round_prefer_floor", "round_prefer_ceil"))}


@operator("Upsample", roles=Role.REPEAT | Role.MAPS)
def _upsample(builder, node, inputs, mode="nearest", scales=None):
    value = activation(inputs, node)
    node.expect("mode", mode, ("nearest",))
    scales = list(constant(inputs[1], node, "its scales").numbers.reshape(-1))
    return _repeated(node, value, _whole_factors(node, value, scales))


@operator("Expand", roles=Role.REPEAT | Role.MAPS)
def _expand(builder, node, inputs):
    value = activation(inputs, node)
    wanted = [int(item) for item in constant(inputs[1], node, "its shape").numbers.reshape(-1)]
    old = [1, *value.shape]
    if len(wanted) > len(old):
        node.fail(f"adds dimensions to [N, {', '.join(map(str, value.shape))}]; add them by a "
                  "Reshape before it")
    wanted = [1] * (len(old) - len(wanted)) + wanted
    return _tiled(node, value, [max(new // size, 1) for new, size in
                                zip(wanted, old, strict=True)])


@operator("Tile", roles=Role.REPEAT | Role.MAPS)
def _tile(builder, node, inputs):
    value = activation(inputs, node)
    times = [int(item) for item in constant(inputs[1], node, "its repeats").numbers.reshape(-1)]
    if len(times) != len(value.shape) + 1:
        node.fail(f"must have one number of repeats for each of {len(value.shape) + 1} dimensions, "
                  f"not {len(times)}")
    return _tiled(node, value, times)


def _tiled(node, value, times):
    """A value with each dimension, the batch first, so many times."""
    if times[0] != 1 or min(times) < 1:
        node.fail(f"must leave the batch as it is and repeat dimensions at least once, not {times}")
    if max(times) == 1:
        return value
    if isinstance(value, HostInput):
        node.fail("repeats the input before it is quantized; put a quantizer before it")
    if len(value.shape) == 1:
        node.fail("repeats a vector; give it the dimensions of the map before it")
    as_map(value, node)
    if any(size > 1 and count > 1 for size, count in zip(value.shape[1:], times[2:], strict=True)):
        node.fail("repeats rows or columns of more than one pixel; use Resize with mode 'nearest', "
                  "or Concat along the axis")
    factors = [1] * (4 - len(times)) + times[2:]
    result = _repeated(node, value, factors) if max(factors) > 1 else value
    if times[1] == 1:
        return result
    channels, height, width = result.map
    sizes = channels * times[1], height, width
    check_size(node.outputs[0], sizes)
    shape = sizes if len(value.shape) == 3 else (sizes[0], width)
    return parts_value([Part(result, Placement(n * channels)) for n in range(times[1])],
                       shape, sizes, node)

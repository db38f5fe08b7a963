"""Tensors that are joined from others, and parts of tensors: layers that copy codes.

Concat, Pad, Split and the like compute nothing. While a network is read, each becomes a layer that
copies codes, which is always right; `passes.copies` then removes most of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from systolith.hw.formats import Int
from systolith.sim.model.placement import Placement

from .layers import copy_layer
from .nodes import Node
from .rationals import uniform
from .target import Target, own_target
from .values import Part, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["join", "join_codes", "join_pads", "plain", "quantize_parts", "resolved"]


def join_pads(inner: Sequence[int], outer: Sequence[int]) -> tuple[int, ...] | None:
    """The pads (top, left, bottom, right) that are `outer` pads around a map with `inner` pads,
    whatever their codes; None where `inner` crops what `outer` would pad again."""
    if any(p < 0 < q for p, q in zip(inner, outer, strict=True)):
        return None
    return tuple(p + q for p, q in zip(inner, outer, strict=True))


# Values.

def resolved(value: Value, part: Part, node: Node) -> Value:
    """A part of a value with the gain, offset, limits and pooling of the whole applied. Raises
    UserError at `node` where both pool and one pooling cannot do it."""
    own, first = part.value, part.placement.first_channel
    gain, offset = (item[first:first + own.map[0]] for item in (value.gain, value.offset))
    ends = []
    for bound in (own.low, own.high):
        ends.append(None if bound is None else bound * gain[0] + offset[0])
    low, high = ends[::-1] if gain[0] < 0 else ends
    # Intersection of the part's limits with those of the whole value.
    lows, highs = ([item for item in (one, other) if item is not None]
                   for one, other in ((low, value.low), (high, value.high)))
    low, high = max(lows, default=None), min(highs, default=None)
    if low is not None and high is not None and low > high:
        low = high = value.low if value.low == low else value.high
    inner = own.pool and own.pool.scaled(gain)
    outer = value.pool and value.pool.of_channels(range(first, first + own.map[0]))
    pool, shape = inner or outer, own.map
    if outer:
        shape = own.map[0], *outer.out(own.map[1:])
        if inner and (pool := inner.then(outer)) is None:
            node.fail(f"pools the result of {own.nodes[-1]!r}, which pools too, before it is "
                      "quantized; put a quantizer between them")
    return replace(own, gain=own.gain * gain, offset=own.offset * gain + offset, pool=pool,
                   low=low, high=high, map=shape,
                   shape=shape, order=None, rows=1, nodes=[*own.nodes, *value.nodes])


def _apart(value):
    """Whether the parts of a value are interleaved pixel by pixel."""
    return any(part.placement.apart for part in value.parts)


def _check_parts(value, node):
    """Refuse a value in parts whose gain, offset or pooling its parts cannot apply."""
    if value.pool and _apart(value):
        node.fail(f"pools the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them")
    for part in value.parts:
        first = part.placement.first_channel
        some = slice(first, first + part.value.map[0])
        gain, offset = value.gain[some], value.offset[some]
        if part.value.slope is not None and ((gain != 1).any() or value.offset.any()):
            node.fail("scales a value that has one factor below zero and another above "
                      "(LeakyRelu, PRelu); put a quantizer between them")
        bounds = [item for item in (part.value.low, part.value.high) if item is not None]
        if bounds and (uniform(gain) in (None, 0) or uniform(offset) is None) and (
                any(bounds) or offset.any() or (gain <= 0).any()):
            node.fail("scales or moves channels differently after a Relu or Clip; put a quantizer "
                      "between them")


def quantize_parts(builder: "Builder", value: Value, target: Target, name: str, node: Node) -> str:
    """Quantize a value in parts by `target`; returns the name of its tensor, `name` or one like it.
    Raises UserError at `node`."""
    parts = value.parts or []
    if value.pool and not value.pool.least and _apart(value):
        # Quantizers keep the order, so codes can be pooled as well.
        ends = [[part.placement.origin[n] + (part.value.map[1 + n] - 1) * part.placement.step[n] + 1
                 for part in parts] for n in (0, 1)]
        whole = quantize_parts(builder, replace(value, pool=None, map=(
            value.map[0], *map(max, ends))), target, name, node)
        gain = np.full(value.map[0], target.unit, dtype=object)
        codes = replace(value, source=whole, parts=None, gain=gain,
                        offset=-target.zero_point * gain, low=None, high=None, order=None)
        return builder.pooled_codes(codes, node).source
    _check_parts(value, node)
    pieces, made = [], dict[tuple, str]()
    for part in parts:
        key = id(part.value), part.placement.first_channel
        if key not in made:
            made[key] = builder.quantize(resolved(value, part, node), target, f"{name}_part", node)
        pieces.append((made[key], part.placement))
    return join(builder, name, value.map, pieces, target, value.nodes, node)


def join(builder: "Builder", name: str, shape: Sequence[int],
         pieces: Sequence[tuple[str, Placement]], target: Target, nodes: Sequence[str],
         node: Node) -> str:
    """Add a tensor of the map `shape` that is joined from `pieces`, (tensor, Placement) each, and
    holds codes of `target`; returns its name, `name` or one like it. `nodes`: names of the ONNX
    nodes that its copies stand for."""
    limits = [builder.limits[piece] for piece, _ in pieces]
    bounds = min(low for low, _ in limits), max(high for _, high in limits)
    name = builder.add_tensor(name, shape, replace(target, low=bounds[0], high=bounds[1]))
    if not any(placement.apart for _, placement in pieces):
        builder.joined[name] = pieces, target, nodes, node
    for piece, placement in pieces:
        layer = copy_layer(builder, piece, name, None, nodes, node)
        builder.add_layer(replace(layer, placement=placement), copy=True)
    return name


def join_codes(builder: "Builder", name: str, shape: Sequence[int],
               pieces: Sequence[tuple[str, Placement]], nodes: Sequence[str], node: Node) -> str:
    """Add a tensor that is joined from the integer codes of `pieces`, whatever their scales;
    otherwise as of `join`."""
    kept = {piece: builder.tensors[piece] for piece, _ in pieces}
    form = max((tensor.format for tensor in kept.values()), key=lambda item: item.width)
    limits = [builder.limits[piece] for piece in kept]
    target = Target(form, 1.0, 0, min(low for low, _ in limits),
                            max(high for _, high in limits))
    for piece, tensor in kept.items():
        # With equal scales, copies copy codes.
        builder.tensors[piece] = replace(tensor, scale=1.0, zero_point=0)
    result = join(builder, name, shape, pieces, target, nodes, node)
    builder.tensors.update(kept)
    # A layer that pools or clips it must stay separate.
    builder.joined.pop(result, None)
    return result


def plain(builder: "Builder", value: Value, node: Node) -> Value:
    """The value as all channels of one tensor: parts are joined, some channels or pixels of a
    tensor are copied. Results that are not quantized are returned unchanged. Raises UserError at
    `node` where parts differ in scale or are not quantized."""
    if not isinstance(value, Value) or value.linear is not None:
        return value
    if value.parts:
        key = (id(value.parts), value.low, value.high, value.pool, *value.gain, *value.offset)
        if key not in builder.plains:
            # Keeping the parts keeps their id from being given to others.
            builder.plains[key] = value.parts, _joined(builder, value, node)
        made = builder.plains[key][1]
        return replace(made, shape=value.shape, order=value.order, rows=value.rows,
                       nodes=value.nodes)
    if value.channels is None and not any(value.pads):
        return value
    tensor = builder.tensors[value.source]
    channels = () if value.channels is None else tuple(value.channels.tolist())
    key = value.source, channels, value.pads, value.pad_image
    if key in builder.plains:
        return replace(value, source=builder.plains[key], channels=None, pads=(0, 0, 0, 0))
    unit = Fraction(tensor.scale) * Fraction(2) ** tensor.format.exponent
    gain = np.full(value.map[0], unit, dtype=object)
    codes = replace(value, gain=gain, offset=-tensor.zero_point * gain, low=None, high=None,
                    slope=None, pool=None, map=_unpooled(builder, value))
    target = own_target(builder, value.source)
    if not tensor.format.has_zero and value.pad_image == 0 and max(value.pads) > 0:
        target = replace(target, format=Int(2), low=-1, high=1)     # signs and zeros
    name = builder.quantize(codes, target, f"{value.source}_part", node)
    builder.plains[key] = name
    return replace(value, source=name, channels=None, pads=(0, 0, 0, 0))


def _unpooled(builder, value):
    """The map (channels, height, width) of a value before its pooling."""
    top, left, bottom, right = value.pads
    _, height, width = builder.tensors[value.source].shape
    return value.map[0], height + top + bottom, width + left + right


def _joined(builder, value, node):
    """A value in parts as codes of one tensor."""
    # A part may be in parts itself, as upsampling before a Concat makes them.
    value = replace(value, parts=[
        replace(part, value=plain(builder, part.value, node)) if part.value.parts else part
        for part in value.parts])
    _check_parts(value, node)
    parts = [resolved(value, part, node) for part in value.parts]
    targets: set[tuple | None] = set()
    for part in parts:
        if part.linear is not None or part.slope is not None:
            node.fail(f"reads the result of {part.nodes[-1]!r} before it is quantized; put a "
                      "quantizer between them")
        tensor = builder.tensors[part.source]
        gain, offset = uniform(part.gain), uniform(part.offset)
        scale = None if not gain else gain / Fraction(2) ** tensor.format.exponent
        zero = None if not gain or offset is None else -offset / gain
        if scale is None or scale < 0 or Fraction(float(scale)) != scale or zero is None or (
                zero.denominator != 1):
            targets.add(None)
        else:
            targets.add((tensor.format, float(scale), int(zero)))
    if None in targets or len(targets) > 1:
        made = _of_scales(builder, value, node)
        if made is not None:
            return made
        node.fail(f"reads the result of {value.nodes[-1]!r}, whose parts have different scales or "
                  "zero points; put a quantizer between them")
    kind, = targets
    assert kind is not None
    format, scale, zero = kind
    value, bounds = _unclipped(value, parts, format, node)
    limits = [builder.limits[part.source] for part in parts]
    target = Target(format, scale, zero, min(low for low, _ in limits),
                            max(high for _, high in limits))
    name = quantize_parts(builder, value, target, f"{value.nodes[-1]}_joined", node)
    unit = Fraction(scale) * Fraction(2) ** format.exponent
    gain = np.full(value.map[0], unit, dtype=object)
    return replace(value, source=name, parts=None, gain=gain, offset=-zero * gain, low=bounds[0],
                   high=bounds[1], pool=None)


def _unclipped(value, parts, format, node):
    """(a value in parts, (low, high)): without its limits, and these, where the limits of its
    `parts` (with the value's own applied) have no codes, so that copies would round them; else the
    value itself and (None, None)."""
    def has_code(part, bound):
        image = (bound - part.offset[0]) / part.gain[0]
        return image.denominator == 1 and format.has_image(int(image))
    if all(bound is None or has_code(part, bound)
           for part in parts for bound in (part.low, part.high)):
        return value, (None, None)
    bounds = {(part.low, part.high) for part in parts}
    if len(bounds) > 1:
        node.fail(f"reads the result of {value.nodes[-1]!r}, whose parts are clipped to different "
                  "numbers without codes; put a quantizer between them")
    return replace(value, low=None, high=None, parts=[
        replace(part, value=replace(part.value, low=None, high=None)) for part in value.parts
        ]), bounds.pop()


def _of_scales(builder, value, node):
    """A value in parts whose scales differ, joined as codes; None where its parts are not whole
    channels of integers."""
    parts = sorted(value.parts, key=lambda part: part.placement.first_channel)
    if _apart(value):
        return None
    values = [builder.codes(plain(builder, resolved(value, part, node), node), node)
              for part in parts]
    if not all(builder.tensors[item.source].format.uniform for item in values):
        return None
    pieces, at = [], 0
    for item in values:
        pieces.append((item.source, Placement(at)))
        at += item.map[0]
    name = f"{value.nodes[-1]}_joined"
    source = join_codes(builder, name, value.map, pieces, value.nodes, node)
    gain, offset = (np.concatenate(numbers) for numbers in
                    zip(*((item.gain, item.offset) for item in values), strict=True))
    return replace(value, source=source, parts=None, gain=gain, offset=offset, low=None, high=None,
                   pool=None)

"""Quantizers whose channels differ in zero point or limits, or in the sign of a factor after a
MaxPool.

An instruction has one zero point and one pair of limits for all its channels, so channels are split
into groups; each group is a layer that writes its channels of one tensor.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from systolith.hw.formats import Int
from systolith.sim.model.placement import Placement
from systolith.sim.model.weights import Weights

from .copies import join
from .layers import quantizing_layer
from .layout import picked
from .nodes import Node
from .rationals import exact
from .target import Target
from .values import HostInput, Linear, Value, per_channel, shape_text

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["each", "in_range_of_each", "in_scale_of_each", "mirrored"]


def each(numbers: np.ndarray, value: HostInput | Value, node: Node, what: str) -> np.ndarray:
    """`numbers`, which broadcast against an activation, as one number for each channel of its map.
    Raises UserError at `node` where they do not fit; the message calls them `what`."""
    if isinstance(value, HostInput):
        if numbers.size == 1 or (numbers.ndim == len(value.shape) + 1
                                 and numbers.shape[1] == numbers.size == value.shape[0]):
            return np.broadcast_to(numbers.reshape(-1), value.shape[:1])
        node.fail(f"{what} of shape {list(numbers.shape)} must be one number, or one for each of "
                  f"the {value.shape[0]} channels of {shape_text(value.shape)}")
    return per_channel(numbers, value, node, what)


def in_scale_of_each(builder: "Builder", value: HostInput | Value, target: Target,
                     scales: np.ndarray, zeros: Sequence[int],
                     limits: tuple[Sequence[int], Sequence[int]], name: str,
                     node: Node) -> tuple[str, np.ndarray | None]:
    """Quantize a value with a scale and a zero point for each channel.

    `target` gives the format; its scale is 1. `scales` and `zeros` (zero points) have one number
    for each channel; `limits` are (lows, highs) as of `in_range_of_each`, whose result this
    returns.
    """
    sides = (1, -1) + (1,) * (len(value.shape) - 1)
    if isinstance(value, HostInput):
        value = value.then("divide", np.float32(scales).reshape(sides))
        lows, highs = limits
        return in_range_of_each(builder, value, target, lows, highs, name, node, zeros)
    scales = exact(np.float64(scales))
    lows, highs = (list(item) for item in limits)
    ends = []
    for bound in (value.low, value.high):
        ends.append(None if bound is None else [
            replace(target, zero_point=int(zero)).order(bound / scale)
            for scale, zero in zip(scales, zeros, strict=True)])
    if ends[0]:
        lows = [max(pair) for pair in zip(lows, ends[0], strict=True)]
    if ends[1]:
        highs = [min(pair) for pair in zip(highs, ends[1], strict=True)]
    value = replace(value, low=None, high=None, gain=value.gain / scales,
                    offset=value.offset / scales)
    return in_range_of_each(builder, value, target, lows, highs, name, node, zeros)


def in_range_of_each(builder: "Builder", value: HostInput | Value, target: Target,
                     lows: Sequence[int], highs: Sequence[int], name: str, node: Node,
                     zeros: Sequence[int] | None = None) -> tuple[str, np.ndarray | None]:
    """Quantize a value by `target` with limits for each channel (`lows`, `highs`: ordered
    integers), and with a zero point for each channel if there are `zeros`.

    Returns (name of the tensor, channels): the value's channel n is the tensor's channel
    channels[n]; None: in the same order. Raises UserError at `node`.
    """
    zeros = [target.zero_point] * len(lows) if zeros is None else [int(item) for item in zeros]
    every = list(zip(lows, highs, zeros, strict=True))
    kinds = sorted(set(every))
    if len(kinds) == 1:
        (low, high, zero), = kinds
        return builder.quantize(value, replace(target, low=low, high=high, zero_point=zero), name,
                                node), None
    if not isinstance(value, Value) or not isinstance(value.linear, Linear | None) or (
            value.parts or any(value.pads) or not _separable(builder, value)):
        if len(set(zeros)) > 1:
            node.fail("has a zero point for each channel, which is supported after a convolution "
                      "in one group or a depthwise one only; give it one zero point")
        target = replace(target, zero_point=zeros[0])
        value = _quantized(builder, value, replace(target, low=min(lows), high=max(highs)),
                           f"{name}_wide", node)
    groups = []
    for low, high, zero in kinds:
        own = np.array([n for n, kind in enumerate(every) if kind == (low, high, zero)])
        groups.append((own, picked(builder, node, value, own),
                       replace(target, low=low, high=high, zero_point=zero)))
    pieces, order = _pieces(builder, groups, target, name, node)
    moved = (order != np.sort(order)).any()
    made = join(builder, f"{name}_grouped" if moved else name, value.map, pieces, target,
                value.nodes, node)
    return made, np.argsort(order) if moved else None


def _pieces(builder, groups, target, name, node):
    """([(tensor, Placement)], channels in the order of the tensors) of groups of channels,
    (channels, value, Target) each, after quantizing. All tensors get the zero point of `target`,
    since what is joined from them reads codes alone."""
    pieces, count = [], 0
    for own, value, each_target in groups:
        piece = builder.quantize(value, each_target, f"{name}_part", node)
        builder.tensors[piece] = replace(builder.tensors[piece], zero_point=target.zero_point)
        pieces.append((piece, Placement(count)))
        count += len(own)
    return pieces, np.concatenate([own for own, *_ in groups])


def _separable(builder, value):
    """Whether some channels of a value can be computed without the others: codes, or a convolution
    in one group or a depthwise one."""
    if value.linear is None:
        return True
    count = builder.tensors[value.source].shape[0] if value.channels is None else (
        len(value.channels))
    groups = count // value.linear.weights.shape[1]
    return groups in (1, len(value.linear.weights))


def _quantized(builder, value, target, name, node) -> Value:
    """The codes, as a value, that `target` makes of a value."""
    shape = value.shape
    source = builder.quantize(value, target, name, node)
    tensor = builder.tensors[source]
    gain = np.full(tensor.shape[0], target.unit, dtype=object)
    nodes = value.nodes if isinstance(value, Value) else []
    return Value(source, tuple(shape), tensor.shape, gain, -target.zero_point * gain,
                 nodes=list(nodes))


def mirrored(builder: "Builder", value: Value, target: Target, name: str, node: Node) -> str:
    """Quantize a max-pooled value with negative factors after the pooling: min pooling for those
    channels. Returns the name of the tensor.

    Such a channel is computed with the other sign, so that max pooling finds the smallest result,
    as the code low + high - code (floats: the negated code), which rounds alike since ties go to
    even. A layer with weights of 1 and -1 turns its codes around. Raises UserError at `node`.
    """
    assert value.pool is not None
    maker = f"rounds {value.nodes[-1]!r}, which has a negative factor after a MaxPool"
    if value.slope is not None:
        node.fail(f"{maker} and a slope below zero; put a quantizer between the two")
    form = builder.weight_format or target.format
    form = Int(2) if form.binary else form      # with a 0 for the other channels
    one, factor = form.copying
    if one < 1 or not form.has_image(-one):
        node.fail(f"{maker}; that needs weights of 1 and -1, which {form} does not have: put the "
                  "MaxPool after the factor")
    if not _separable(builder, value):
        node.fail(f"{maker} of a convolution in groups; put a quantizer between them")
    turned = np.array(value.pool.least)
    opposite = replace(target, zero_point=target.low + target.high - target.zero_point)
    if target.format.floating:
        opposite = replace(target, low=-target.high, high=-target.low)
    groups = []
    if not turned.all():
        own = np.flatnonzero(~turned)
        groups.append((own, picked(builder, node, value, own), target))
    if turned.any():
        own = np.flatnonzero(turned)
        groups.append((own, _negative(picked(builder, node, value, own)), opposite))
    pieces, order = _pieces(builder, groups, target, name, node)
    joined, channels = pieces[0][0], len(turned)
    images = np.full((channels, 1, 1, 1), one)
    if len(pieces) > 1:
        joined = join(builder, f"{name}_joined", value.map, pieces, target, value.nodes, node)
        images = np.zeros((channels, channels, 1, 1), np.int64)
        images[np.arange(channels), np.argsort(order), 0, 0] = one
    gain = np.where(turned, -1, 1).astype(object) * target.unit
    zeros = np.where(turned, opposite.zero_point, target.zero_point).astype(object)
    back = Value(joined, value.shape, value.map, gain / Fraction(factor), -gain * zeros,
                 Linear(next(iter(value.nodes), node.name), Weights(images, form), (1, 1),
                        (1, 1), (0, 0, 0, 0), 0), nodes=list(value.nodes))
    result = builder.add_tensor(name, value.map, target)
    builder.add_layer(quantizing_layer(builder, back, target, result, node))
    return result


def _negative(value):
    """A min-pooled value with the other sign, which is max-pooled."""
    low, high = (None if item is None else -item for item in (value.high, value.low))
    return replace(value, gain=-value.gain, offset=-value.offset, low=low, high=high,
                   pool=replace(value.pool, least=()))

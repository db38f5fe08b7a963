"""The larger or the smaller of two maps, and of the channels of one.

Of codes with the same scale, max(a, b) = a + relu(b - a) and min(a, b) = a - relu(a - b), both
exact: relu(b - a) has as many values as there are codes, so its zero point is the lowest one.
Channels are compared in pairs, round by round. Values that are not quantized, or have another
scale, are quantized first as the result will be, since quantizers keep the order. Signs x and y are
the numbers +1 and -1: their maximum, OR, is the sign of x + y + 1, their minimum that of x + y - 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain, resolved
from systolith.gen.importer.kinds import quantized
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.target import own_target
from systolith.gen.importer.values import Kind, Part, Value, like, shape_text
from systolith.sim.model.weights import Weights

from .linear import linear
from .pairs import pair
from .stride import as_codes, plain_weights

__all__ = ["Extreme", "extreme_of", "extreme_of_channels"]


@dataclass
class Extreme(Kind):
    """The largest (`least`: the smallest) of `values`, or, with `channels`, of the channels of the
    only value. `name`: the node's."""
    name: str
    values: list
    least: bool
    channels: bool = False


def extreme_of(builder: Builder, node: Node, values: Sequence[Value], least: bool) -> Value:
    """The largest (`least`: the smallest) of values of the same shape, element by element. Raises
    UserError at `node` where shapes differ."""
    values = [plain(builder, item, node) for item in values]
    first = values[0]
    for item in values[1:]:
        if tuple(item.map) != tuple(first.map) or len(item.shape) != len(first.shape):
            node.fail(f"compares {shape_text(first.shape)} with {shape_text(item.shape)}; "
                      "supported are equal shapes")
    return _now_or_later(builder, node, first, Extreme(node.name, values, least), first.map,
                         first.shape)


def extreme_of_channels(builder: Builder, node: Node, value: Value, least: bool) -> Value:
    """The largest (`least`: the smallest) of all channels of a value, for each pixel."""
    value = plain(builder, value, node)
    sizes = (1, *value.map[1:])
    return _now_or_later(builder, node, value, Extreme(node.name, [value], least, True), sizes,
                         sizes)


def _now_or_later(builder, node, value, extreme, sizes, shape):
    """The value of an Extreme: computed in codes where all values have codes of the same scale;
    else left to the quantizer after it."""
    targets = {_own(builder, item) for item in extreme.values}
    if None not in targets and len(targets) == 1 and len(
            {(uniform(item.gain), uniform(item.offset)) for item in extreme.values}) == 1:
        codes = [as_codes(builder, item, node) for item in extreme.values]
        least = extreme.least ^ (value.gain[0] < 0)
        sources = [item.source for item, _ in codes]
        lows, highs = zip(*(builder.limits[item] for item in sources), strict=True)
        target = replace(own_target(builder, sources[0]), low=min(lows), high=max(highs))
        source = _found(builder, replace(extreme, least=least), sources, target,
                        f"{node.name}_codes", node)
        ones = np.full(sizes[0], exact(1).item(), dtype=object)
        made = Value(source, tuple(shape), tuple(sizes), value.gain[0] * ones,
                     value.offset[0] * ones, nodes=[*value.nodes, node.name])
        return made if extreme.channels else like(value, made)
    ones = np.full(sizes[0], exact(1).item(), dtype=object)
    made = Value(value.source, tuple(shape), tuple(sizes), ones, 0 * ones, linear=extreme,
                 nodes=[node.name])
    return made if extreme.channels else like(value, made)


def _own(builder, value):
    """(format, scale, zero point) of a quantized value's codes; None for values that are not
    quantized, or whose pooled codes a negative factor turns around."""
    gain, offset = uniform(value.gain), uniform(value.offset)
    if value.linear is not None or value.slope is not None or not gain or offset is None:
        return None
    tensor = builder.tensors[value.source]
    if not tensor.format.uniform or (gain < 0 and value.pool):
        return None
    return tensor.format, tensor.scale, tensor.zero_point


@quantized.register
def _(extreme: Extreme, builder, value, target, name, node):
    if not (target.format.uniform or (target.format.binary and not extreme.channels)):
        node.fail(f"quantizes the result of {extreme.name!r}, an extreme of maps, to "
                  f"{target.format}; supported are integers, and signs where it is one of two maps")
    gains = {item > 0 for item in value.gain}
    if len(gains) > 1:
        node.fail(f"scales the result of {extreme.name!r} with factors of both signs; put a "
                  "quantizer between them")
    pool, value = value.pool, replace(value, pool=None)
    sources = []
    for item in extreme.values:
        outer = value
        if extreme.channels:
            if uniform(value.gain) is None or uniform(value.offset) is None:
                node.fail(f"scales the result of {extreme.name!r} by another factor in each "
                          "channel; put a quantizer between them")
            ones = np.full(item.map[0], exact(1).item(), dtype=object)
            outer = replace(value, gain=value.gain[0] * ones, offset=value.offset[0] * ones)
        part = plain(builder, resolved(outer, Part(item), node), node)
        sources.append(builder.quantize(part, target, f"{name}_part", node))
    extreme = replace(extreme, least=extreme.least ^ (not gains.pop()))
    if target.format.binary:
        made = _of_signs(builder, extreme, sources, target, name, node)
        return builder.variant(made, pool, *builder.limits[made], value.nodes, node)
    made = _found(builder, extreme, sources, target, name, node)
    if pool:
        made, *_ = builder.read(replace(_value(builder, made, extreme), pool=pool), node)
    return made


def _found(builder, extreme, sources, target, name, node):
    """The tensor of an Extreme of tensors (`sources`) that have the scale and zero point of
    `target`; returns its name."""
    if extreme.channels:
        return _of_channels(builder, extreme, sources[0], target, name, node)
    made = sources[0]
    for other in sources[1:]:
        if other == made:
            continue
        first, second = (_value(builder, item, extreme) for item in (made, other))
        made = _combined(builder, extreme, _beyond(builder, extreme, pair(
            node, [first, second] if extreme.least else [second, first], "subtract"), target, name,
            node), first, target, name, node)
    return made


def _of_signs(builder, extreme, sources, target, name, node):
    """The tensor of an Extreme of tensors of signs; returns its name."""
    made = sources[0]
    for other in sources[1:]:
        value = pair(node, [_value(builder, item, extreme) for item in (made, other)], "add")
        ones = np.full(value.map[0], target.unit, dtype=object)
        made = builder.quantize(replace(value, offset=-ones if extreme.least else ones),
                                replace(target, strict=False), name, node)
    return made


def _of_channels(builder, extreme, source, target, name, node):
    """The tensor of an Extreme of the channels of the tensor `source`; returns its name."""
    while (channels := builder.tensors[source].shape[0]) > 1:
        value = _value(builder, source, extreme)
        format, one = plain_weights(builder, value, node)
        count = -(-channels // 2)
        # Neighbours, so that each two are a group; of an odd number the last one is alone.
        groups = count if channels % 2 == 0 else 1
        own, others = (np.zeros((count, channels), np.int64) for _ in range(2))
        own[range(count), range(0, channels, 2)] = one
        others[range(channels // 2), range(1, channels, 2)] = one
        alone = channels // 2 if channels % 2 else count
        others[alone:] = own[alone:]
        sides = own - others if extreme.least else others - own
        scale = np.full(count, exact(1).item() / one / exact(2).item() ** format.exponent,
                        dtype=object)
        firsts, differences = (
            linear(builder, node, value, Weights(_grouped(item, groups), format), scale,
                   lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)), groups)
            for item in (own, sides))
        last = count == 1
        source = _combined(builder, extreme, _beyond(builder, extreme, differences, target, name,
                                                     node),
                           firsts, target, name if last else f"{name}_round", node)
    return source


def _grouped(weights, groups):
    """The weights [O, C / groups, 1, 1] of a convolution in groups, from those of a dense one [O,
    C]."""
    each = weights.shape[1] // groups
    blocks = weights.reshape(len(weights), groups, each)
    if groups > 1:
        blocks = blocks[range(groups), range(groups)][:, None]
    return blocks.reshape(len(weights), each, 1, 1)


def _value(builder, source, extreme):
    """The codes of a tensor as a value with the tensor's own scale."""
    own, shape = own_target(builder, source), tuple(builder.tensors[source].shape)
    units = np.full(shape[0], own.unit, dtype=object)
    return Value(source, shape, shape, units, -own.zero_point * units, nodes=[extreme.name])


def _beyond(builder, extreme, difference, target, name, node):
    """relu(difference) of two codes, exact, as a value."""
    low, high = target.format.image_range
    all_codes = replace(target, zero_point=low, low=low, high=high)
    made = builder.quantize(difference, all_codes, f"{name}_beyond", node)
    return _value(builder, made, extreme)


def _combined(builder, extreme, beyond, first, target, name, node):
    """The tensor of first + beyond, or, for the least, first - beyond; returns its name."""
    value = pair(node, [first, beyond], "subtract" if extreme.least else "add")
    return builder.quantize(replace(value, nodes=[extreme.name]), target, name, node)

"""Sums of more than two addends, or in which more than one addend is not quantized, as the results
of one convolution.

Each addend that is not quantized is written as digits (`digits`). The last layer reads all digits
and the addends that are quantized, with weights that say how many units each step is. Where one of
the addends is a convolution whose results stand at the pixels that it reads, that convolution is
the last layer, and the digits are more channels of its input.
"""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor, prod

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.codes import Function
from systolith.gen.importer.copies import join_codes, plain
from systolith.gen.importer.layers import identity
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import uniform
from systolith.gen.importer.reach import reach_of
from systolith.gen.importer.scales import common_unit, scaled
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import Linear, Pair, Value, like
from systolith.hw.formats import Int
from systolith.sim.model.placement import Placement
from systolith.sim.model.weights import Weights

from .addends import Addend, addends, folded
from .digits import Digits

__all__ = ["added_up"]

#: The step of the result is to have this many units, where that takes no more than so many layers
#: for the low digits of an addend, and no more than so many weights for the high one.
_UNITS, _RANGES, _WEIGHTS = 512, 8, 24
#: The fewest units that a step may have.
_LEAST = 12


def added_up(builder: Builder, value: Value, target: Target | None, node: Node) -> Value | None:
    """The sum `value` (a `Pair` that is no product) as the results of one convolution. `target`:
    what quantizes it (None: nothing does). None where that is no format of integers. Raises
    UserError at `node` where an addend cannot be written as digits."""
    if target is not None and not target.format.uniform:
        return None
    found = [_whole(builder, item, node) for item in addends(value)]
    found = folded(found)
    for item in found:
        _check(builder, item, node)
    if len(found) == 1:
        item, = found
        ones = item.value.gain ** 0
        return _after(scaled(item.value, ones * item.sign, 0 * ones), value)
    for item in found:
        item.reach = reach_of(builder, item.value, node)
    clipped = any(item.clipped or isinstance(item.linear, Function) for item in found)
    step = _steps(value, target, found)
    if clipped:
        step = np.full(len(step), min(step), dtype=object)
    if target is not None:
        _within_result(found, value, target)
    forms = [builder.tensors[item.value.source].format for item in found]
    forms += [] if target is None else [target.format]
    # Of narrower formats, digits would take far more layers to be as fine.
    form = max((item for item in (Int(8), *forms) if item.uniform),
               key=lambda item: item.width)
    weights = builder.weight_format
    weights = weights if weights is not None and weights.uniform else form
    sizes = max(item.value.map[1:] for item in found)
    assert isinstance(value.linear, Pair)
    made = Digits(builder, node, value.linear.name, form, weights, sizes)
    sums, unit = _joined(made, found, step / _UNITS, clipped)
    real = max(unit * abs(value.gain)) if target is None else None
    builder.notes.digits(made, max(unit / step), real)
    return _after(sums, value)


def _steps(value, target, found):
    """The step of the quantizer in each channel, in the numbers of the sum."""
    if target is None:
        most = max(max(item.reach) for item in found)
        return np.full(value.map[0], (most or 1) * _UNITS / (1 << 18), dtype=object)
    known = [target.unit / abs(g) if g else None for g in value.gain]
    largest = max((item for item in known if item is not None), default=Fraction(1))
    steps = np.array([largest if item is None else item for item in known], dtype=object)
    return steps if value.slope is None else steps / max(1, *map(abs, value.slope))


def _whole(builder, item, node):
    """An Addend as a whole tensor; codes with their pooling done."""
    value = plain(builder, item.value, node)
    if value.linear is None and value.slope is None:
        value = builder.pooled_codes(value, node, needed=False)
        if builder.tensors[value.source].format.binary:
            value = identity(builder, value, None, node)
    return Addend(value, item.sign)


def _check(builder, item, node):
    value = item.value
    name = value.nodes[-1] if value.nodes else value.source
    if not isinstance(value.linear, Linear | Function | None):
        node.fail(f"adds the result of {name!r} before it is quantized, and that is a product, a "
                  "sum with a Clip or pooling, or a function of a convolution's results; put a "
                  "quantizer between them")
    form = builder.tensors[value.source].format
    if not (form.uniform or form.binary):
        node.fail(f"adds the result of {name!r} before it is quantized; put a quantizer between "
                  "them, as results in other formats than integers need")
    if isinstance(value.linear, Function) and value.pool:
        node.fail(f"adds a MaxPool of the result of {name!r} before it is quantized; put a "
                  "quantizer between them")


def _after(sums, value):
    """The operations after a sum (gain, limits, pooling), applied to the convolution that computes
    it."""
    return like(value, replace(
        sums, shape=value.shape, map=value.map, gain=sums.gain * value.gain,
        offset=sums.offset * value.gain + value.offset, low=value.low, high=value.high,
        slope=value.slope, pool=value.pool,
        nodes=list(dict.fromkeys([*sums.nodes, *value.nodes]))))


def _within_result(found, value, target):
    """Limit the reach of addends to where the result saturates whatever the other addends are."""
    if value.slope is not None or value.window != (1, 1):
        return
    ends = [target.unit * (item - target.zero_point) for item in (target.low - 1, target.high + 1)]
    for n, (g, o) in enumerate(zip(value.gain, value.offset, strict=True)):
        if g:
            most = max(abs((end - o) / g) for end in ends)
            total = sum(item.reach[n] for item in found)
            for item in found:
                item.reach[n] = min(item.reach[n], most + total - item.reach[n])


def _last(made, found, wanted, clipped):
    """The convolution among the addends that can add up the digits of the others, of several the
    one with the most products: (Addend, tap (y, x), unit, factor, Weights); None where there is
    none."""
    builder, best = made.builder, None
    for item in found:
        value, own = item.value, item.linear
        tensor = builder.tensors[value.source]
        if not (item.direct and isinstance(own, Linear) and tensor.format.uniform) or (
                own.weights.format != made.weights or value.window != (1, 1) or own.stride != (1, 1)
                or made.size != tuple(tensor.shape[1:]) or value.map[1:] != tensor.shape[1:]
                or (value.gain == 0).any() or _groups(builder, value) > 1):
            continue
        tap = [pad // d for pad, d in zip(own.pads[:2], own.dilation, strict=True)]
        if any(pad % d for pad, d in zip(own.pads[:2], own.dilation, strict=True)) or any(
                not 0 <= t < k for t, k in zip(tap, own.weights.shape[2:], strict=True)):
            continue
        unit = abs(value.gain)
        factor = np.array([max(1, min(floor(w / u), made.weight)) for w, u in
                           zip(wanted, unit, strict=True)], dtype=object)
        unit = unit * factor
        weights = own.weights.negated(value.gain * item.sign < 0)
        # Not where the sums' own unit is too large, or too small for the others' digits.
        if (clipped and uniform(unit) is None) or not weights.has_codes.all() or any(
                u > 2 * w for u, w in zip(unit, wanted, strict=True)):
            continue
        others = [max(ceil(r / u) for r, u in zip(other.reach, unit, strict=True))
                  for other in found if other is not item]
        if any(units * max(factor) > _WEIGHTS * made.weight * made.most
               or units > 2 * _RANGES * made.most ** 2 for units in others):
            continue
        if best is None or prod(weights.shape) > prod(best[-1].shape):
            best = item, tap, unit, factor, weights
    return best


def _groups(builder, value):
    count = (builder.tensors[value.source].shape[0] if value.channels is None
             else len(value.channels))
    return count // value.linear.weights.shape[1]


def _joined(made, found, wanted, clipped):
    """(the convolution that adds up all Addends, as a Value in the numbers of the sum; the unit of
    the digits [channels], which is `wanted` where possible)."""
    builder, channels = made.builder, len(wanted)
    best = _last(made, found, wanted, clipped)
    offset = np.full(channels, Fraction(0), dtype=object)
    linear = Linear(made.name, Weights(np.zeros((channels, 0, 1, 1)), made.weights), (1, 1),
                    (1, 1), (0, 0, 0, 0), 0)
    main, tap, pieces, first = None, (0, 0), [], 0
    if best:
        main, tap, unit, factor, turned = best
        gain, offset = unit / factor, main.value.offset * main.sign
        source = main.value.source
        pieces, first = [(source, Placement(0))], builder.tensors[source].shape[0]
        linear = replace(main.linear, name=made.name, weights=turned)
    else:
        unit, factor = _unit(made, found, wanted, clipped), np.full(channels, 1, dtype=object)
        gain = unit
    for item in found:
        if item is main:
            continue
        weights = _counted(item, unit, factor)
        if weights is None:
            _check_fine(made, unit, wanted)
            made.digits(item, unit, factor)
        else:
            made.add(item.value.source, weights)
            offset = offset + item.sign * item.value.offset
    own = np.arange(first) if main is None or main.value.channels is None else main.value.channels
    total = first + sum(len(weights) for _, weights in made.pieces)
    wide = linear.weights.reading(own, total).images.copy()
    for tensor, weights in made.pieces:
        pieces.append((tensor, Placement(first)))
        numbers = np.arange(len(weights))
        wide[numbers % channels, first + numbers, tap[0], tap[1]] = weights
        first += len(weights)
    shape = (channels, *made.size)
    source = join_codes(builder, f"{made.name}_digits", (first, *made.size), pieces, [made.name],
                        made.node)
    nodes = list(dict.fromkeys(name for item in found for name in item.value.nodes))
    return Value(source, shape, shape, gain, offset, replace(
        linear, weights=replace(linear.weights, images=wide)),
                 nodes=nodes), unit


def _check_fine(made, unit, wanted):
    finest = min(w * _UNITS / u for w, u in zip(wanted, unit, strict=True))
    if finest < _LEAST:
        made.node.fail(f"rounds the sum {made.name!r}, whose addends are so large that one step of "
                       f"the result is only {float(finest):.2g} steps of the sum as the chip holds "
                       "it; put a quantizer after one of the addends")


def _unit(made, found, wanted, clipped):
    """The unit of each channel where no convolution among the addends adds up the digits."""
    unit, most = wanted.copy(), 2 * _RANGES * made.most ** 2
    codes = [abs(item.value.gain[0]) for item in found if _counted(item) is not None]
    if not codes:
        units = [u * _power(max(item.reach[n] for item in found) / u / most)
                 for n, u in enumerate(unit)]
        return np.array([max(units)] * len(units) if clipped else units, dtype=object)
    # Steps of what is quantized are whole units, all of them where they have a common one.
    common, loose = common_unit(codes), [item for item in found if _counted(item) is None]
    if common is None or max(codes) / common > made.weight * _WEIGHTS:
        common, loose = max(codes), found
    if not loose:
        # The finest unit that needs no further digits, for the sake of the bias.
        common /= 1 << max(0, floor(made.weight * common / max(codes)).bit_length() - 1)
    else:
        common /= min(_power(common / min(unit)), made.weight * _WEIGHTS)
        common *= _power(max(max(item.reach) for item in loose) / common / most)
    return np.full(len(unit), common, dtype=object)


def _power(number):
    """The least power of two, at least 1, that is not less than a number. Multipliers of such units
    lose no bits, so that ties stay ties."""
    return 1 << max(0, ceil(number) - 1).bit_length()


def _counted(item, unit=None, factor=1):
    """The weights [channels] with which the last layer reads an Addend of codes: its steps in
    units, if these are whole (without `unit`: its gain, if it is one). None for other addends."""
    value = item.value
    if value.linear is not None or not item.direct:
        return None
    if unit is None:
        return value.gain if uniform(value.gain) else None
    weights = item.sign * value.gain / unit * factor
    if any(number.denominator != 1 for number in weights):
        return None
    return np.array([int(number) for number in weights], dtype=object)

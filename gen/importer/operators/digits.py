"""Sums of which more than one addend is not quantized, or of more than two: digits of each addend,
which one convolution adds up.

A result has few bits, so what no quantizer rounds is written as several results: in steps of a
unit, a fraction of the step of the quantizer after the sum, an addend is high * base + low. The
layer that makes `high` rounds the addend to base units; the layers that make `low` compute the
addend again, with `high` as their operand, and round the rest to units. Where the rest has more
values than the format, several layers have a range each, and `low` is the sum of what they give.

The last layer reads all digits and the addends that are quantized already, with weights that say
how many units each step is. Where one of the addends is a convolution whose results stand at the
pixels that it reads, that convolution is the last layer, and the digits are more channels of its
input.
"""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
from systolith.gen.importer.codes import Function, lookup, reals
from systolith.gen.importer.copies import join_codes, plain
from systolith.gen.importer.layers import identity, quantizing_layer
from systolith.gen.importer.reach import reach_of
from systolith.gen.importer.scales import common_unit, scaled
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import Linear, Place, Value, like, uniform
from systolith.hw.formats import Int
from systolith.hw.spec.numbers import FIRST_BITS, GAIN_BITS, SHIFT_BITS
from systolith.sim.model.conv import Operand

from .addends import Addend, addends, folded

__all__ = ["added_up", "gains"]

#: The step of the result is to have this many units, where that takes no more than so many layers
#: for the low digits of an addend, and no more than so many weights for the high one.
_UNITS, _RANGES, _WEIGHTS = 512, 8, 24
#: The fewest units that a step may have.
_LEAST = 12


def gains(ratios, node):
    """(integers, shift) with integer * 2**-shift as near as possible to each of two ratios."""
    largest = max(map(abs, ratios))
    most = 1 << GAIN_BITS - 1
    shift = 0
    while shift < (1 << SHIFT_BITS) - 1 and round(largest * 2 ** (shift + 1)) < most:
        shift += 1
    numbers = [round(item * 2 ** shift) for item in ratios]
    if max(map(abs, numbers)) >= most:
        node.fail(f"one step of an input is {float(largest):.6g} steps of the result, and must be "
                  f"less than {most}; choose a larger output scale")
    return numbers, shift


class _Sum:
    """A sum that is being written as digits. `form`: of the digits; `weights`: the format of the
    last layer's weights; `size`: (height, width) of the result."""

    def __init__(self, builder, node, name, form, weights, size):
        self.builder, self.node, self.name = builder, node, name
        self.form, self.weights, self.size = form, weights, tuple(size)
        self.most = (1 << form.width - 1) - 1
        self.weight = weights.image_range[1]
        self.pieces = []                    # (tensor, weights [channels]) each
        self.off = Fraction(0)              # how far the sum can be off, in units
        self.written = []                   # (lowest digits, others) of each addend

    @property
    def target(self):
        return Target(self.form, 1.0, 0, -self.most, self.most)

    def add(self, tensor, weights):
        """Let the last layer read a tensor with `weights` [channels]; more than a weight can say
        by reading it more than once."""
        tensor = self._spread_out(tensor)
        times = max(1, ceil(max(abs(weights)) / self.weight))
        parts = np.concatenate([[w // times + (n < w % times) for w in weights]
                                for n in range(times)])
        self.pieces.append((self._repeated(tensor, times) if times > 1 else tensor, parts))

    def _repeated(self, tensor, times):
        """A tensor whose channels are those of a tensor several times."""
        builder, old = self.builder, self.builder.tensors[tensor]
        channels = old.shape[0]
        one = int(self.weights.image(self.weights.encode(1.0)))
        images = np.tile(one * np.eye(channels, dtype=np.int64), (times, 1))[..., None, None]
        shape = times * channels, *old.shape[1:]
        unit = np.full(times * channels, Fraction(old.scale), dtype=object)
        value = Value(tensor, shape, shape, unit / one, -old.zero_point * unit,
                      Linear(self.name, images, self.weights, (1, 1), (1, 1), (0, 0, 0, 0), 0),
                      nodes=[self.name])
        target = Target(old.format, old.scale, old.zero_point, *builder.limits[tensor])
        return builder.quantize(value, target, f"{tensor}_repeated", self.node)

    def _spread_out(self, tensor):
        """A tensor of one pixel as a map."""
        builder, old = self.builder, self.builder.tensors[tensor]
        if old.shape[1:] == self.size:
            return tensor
        unit = np.full(old.shape[0], Fraction(old.scale), dtype=object)
        shape = old.shape[0], *self.size
        value = Value(tensor, shape, shape, unit, -old.zero_point * unit, nodes=[self.name],
                      pads=(0, 0, self.size[0] - 1, self.size[1] - 1), pad_image=None)
        return plain(builder, value, self.node).source

    def digits(self, item, unit, factor):
        """Write an Addend in digits of `unit` [channels], which count `factor` [channels] each."""
        value, sign = item.value, item.sign
        if value.pool and value.pool.least:
            if not all(value.pool.least):
                self.node.fail(f"adds {value.nodes[-1]!r}, which has factors of both signs after a "
                               "MaxPool; put a quantizer between them")
            sign = -sign
            value = scaled(value, -value.gain ** 0, 0 * value.gain)
        units = max(ceil(r / u) for r, u in zip(item.reach, unit, strict=True))
        numbers, factor = scaled(value, 1 / unit, 0 * unit), factor * sign
        base = max(1, ceil(Fraction(units, self.most)))
        self.off += Fraction(1, 2)
        if isinstance(value.linear, Function):
            self._of_function(numbers, base, factor)
            return
        high = self._high(numbers, base)
        lows = list(self._low(numbers, base, high, units)) if base > 1 else []
        self.add(high, base * factor)
        for low in lows:
            self.add(low, factor)
        self.written.append((lows or [high], [high] if lows else []))

    def _high(self, numbers, base):
        """The high digit: the tensor of a value in units, rounded to multiples of `base`."""
        builder, target = self.builder, replace(self.target, scale=Fraction(base))
        target = _clipped(target, numbers)
        name = builder.add_tensor(f"{self.name}_high", numbers.map, self.target)
        builder.add_layer(quantizing_layer(builder, numbers, target, name, self.node))
        return name

    def _low(self, numbers, base, high, units):
        """The low digits: tensors of the remainder of a value, at most so many units, after the
        digit `high`."""
        builder, most = self.builder, (1 << FIRST_BITS - 1) - 1
        step = Fraction(1)                  # of first results, as fine as they can be
        while units <= most * step / 2 and step > Fraction(1, 1 << 10):
            step /= 2
        self.off += step / 2 if step < 1 else 0
        integers, shift = gains([step, Fraction(-base)], self.node)
        fine = _clipped(replace(self.target, scale=step, low=-most - 1, high=most), numbers)
        ranges = self._ranges(base)
        for n in range(ranges):
            name = builder.add_tensor(f"{self.name}_low", numbers.map, self.target)
            layer = quantizing_layer(builder, numbers, fine, name, self.node)
            layer.operand = Operand(
                high, gain=integers[0], operand_gain=integers[1], shift=shift,
                zero_point=self._place(n, ranges), low=-self.most, high=self.most)
            builder.add_layer(layer)
            yield name

    def _ranges(self, base):
        """How many low digits there are."""
        return ceil((Fraction(base, 2) + 1) / self.most)

    def _place(self, n, ranges):
        """The offset that moves the remainder into the n-th of so many ranges."""
        return self.most * (ranges - 1 - 2 * n)

    def _of_function(self, value, base, factor):
        builder = self.builder
        value = plain(builder, value, self.node)
        low, high = builder.limits[value.source]
        numbers = reals(builder, value, np.arange(low, high + 1), self.node).astype(np.float64)
        units = np.rint(numbers).astype(np.int64)
        tops = np.rint(units / base).astype(np.int64)
        rest, ranges = units - base * tops, self._ranges(base) if base > 1 else 0
        tables = [(tops, base * factor)] + [
            (np.clip(rest + self._place(n, ranges), -self.most, self.most), factor)
            for n in range(ranges)]
        for table, weights in tables:
            name = builder.add_tensor(f"{self.name}_digit", value.map, self.target)
            builder.add_layer(lookup(builder, value.source, name, table, value, self.node))
            self.add(name, weights)


def _clipped(target, value):
    """The target with the limits of a value."""
    low, high = target.low, target.high
    if value.low is not None:
        low = target.order(value.low)
    if value.high is not None:
        high = target.order(value.high)
    return replace(target, low=low, high=high)


def added_up(builder, value, target, node):
    """The value of a Pair that is no product as the results of one convolution; `target`: what
    rounds it (None: nothing). None where it is not one of integers."""
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
    made = _Sum(builder, node, value.linear.name, form, weights, sizes)
    sums, unit = _joined(made, found, step / _UNITS, clipped)
    real = max(unit * abs(value.gain)) if target is None else None
    builder.notes.digits(made, max(unit / step), real)
    return _after(sums, value)


def _steps(value, target, found):
    """The step of the result in each channel, in the numbers of the sum."""
    if target is None:
        most = max(max(item.reach) for item in found)
        return np.full(value.map[0], (most or 1) * _UNITS / (1 << 18), dtype=object)
    known = [target.unit / abs(g) if g else None for g in value.gain]
    largest = max((item for item in known if item is not None), default=Fraction(1))
    steps = np.array([largest if item is None else item for item in known], dtype=object)
    return steps if value.slope is None else steps / max(1, *map(abs, value.slope))


def _whole(builder, item, node):
    """An Addend as all of a tensor, that of codes not pooled."""
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
        node.fail(f"adds a maximum of the result of {name!r} before it is quantized; put a "
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
    """(Addend, tap (y, x), unit, factor, images) of the convolution that can add up the others'
    digits, of several the one of the most products; None where there is none."""
    builder, best = made.builder, None
    for item in found:
        value, own = item.value, item.linear
        tensor = builder.tensors[value.source]
        if not (item.direct and isinstance(own, Linear) and tensor.format.uniform) or (
                own.format != made.weights or value.window != (1, 1) or own.stride != (1, 1)
                or made.size != tuple(tensor.shape[1:]) or value.map[1:] != tensor.shape[1:]
                or (value.gain == 0).any() or _groups(builder, value) > 1):
            continue
        tap = [pad // d for pad, d in zip(own.pads[:2], own.dilation, strict=True)]
        if any(pad % d for pad, d in zip(own.pads[:2], own.dilation, strict=True)) or any(
                not 0 <= t < k for t, k in zip(tap, own.images.shape[2:], strict=True)):
            continue
        unit = abs(value.gain)
        factor = np.array([max(1, min(floor(w / u), made.weight)) for w, u in
                           zip(wanted, unit, strict=True)], dtype=object)
        unit = unit * factor
        turn = np.where(value.gain * item.sign < 0, -1, 1)[:, None, None, None]
        images = own.images * turn
        low, high = own.format.image_range
        # Not where the sums' own unit is too large, or too small for the others' digits.
        if (clipped and uniform(unit) is None) or images.min() < low or images.max() > high or any(
                u > 2 * w for u, w in zip(unit, wanted, strict=True)):
            continue
        others = [max(ceil(r / u) for r, u in zip(other.reach, unit, strict=True))
                  for other in found if other is not item]
        if any(units * max(factor) > _WEIGHTS * made.weight * made.most
               or units > 2 * _RANGES * made.most ** 2 for units in others):
            continue
        if best is None or own.images.size > best[-1].size:
            best = item, tap, unit, factor, images
    return best


def _groups(builder, value):
    count = (builder.tensors[value.source].shape[0] if value.channels is None
             else len(value.channels))
    return count // value.linear.images.shape[1]


def _joined(made, found, wanted, clipped):
    """(the convolution that adds up all Addends, as a Value in their numbers; the unit of digits
    [channels]), which is `wanted` if that can be."""
    builder, channels = made.builder, len(wanted)
    best = _last(made, found, wanted, clipped)
    offset = np.full(channels, Fraction(0), dtype=object)
    linear = Linear(made.name, np.zeros((channels, 0, 1, 1), np.int64), made.weights, (1, 1),
                    (1, 1), (0, 0, 0, 0), 0)
    main, tap, pieces, first = None, (0, 0), [], 0
    if best:
        main, tap, unit, factor, images = best
        gain, offset = unit / factor, main.value.offset * main.sign
        source = main.value.source
        pieces, first = [(source, Place(0))], builder.tensors[source].shape[0]
        linear = replace(main.linear, name=made.name, images=images)
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
    wide = np.zeros((channels, total, *linear.images.shape[2:]), np.int64)
    wide[:, own] = linear.images
    for tensor, weights in made.pieces:
        pieces.append((tensor, Place(first)))
        numbers = np.arange(len(weights))
        wide[numbers % channels, first + numbers, tap[0], tap[1]] = weights
        first += len(weights)
    shape = (channels, *made.size)
    source = join_codes(builder, f"{made.name}_digits", (first, *made.size), pieces, [made.name],
                        made.node)
    nodes = list(dict.fromkeys(name for item in found for name in item.value.nodes))
    return Value(source, shape, shape, gain, offset, replace(linear, images=wide),
                 nodes=nodes), unit


def _check_fine(made, unit, wanted):
    finest = min(w * _UNITS / u for w, u in zip(wanted, unit, strict=True))
    if finest < _LEAST:
        made.node.fail(f"rounds the sum {made.name!r}, whose addends are so large that one step of "
                       f"the result is only {float(finest):.2g} steps of the sum as the chip holds "
                       "it; put a quantizer after one of the addends")


def _unit(made, found, wanted, clipped):
    """The unit of each channel where no convolution adds up the others' digits."""
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
    """The least power of two that is not less than a number, 1 at least: multipliers of such units
    lose no bits, so that ties stay ties."""
    return 1 << max(0, ceil(number) - 1).bit_length()


def _counted(item, unit=None, factor=1):
    """The weights [channels] of an Addend of codes whose steps are whole units, or, without unit,
    the same for all channels; None for any other."""
    value = item.value
    if value.linear is not None or not item.direct:
        return None
    if unit is None:
        return value.gain if uniform(value.gain) else None
    weights = item.sign * value.gain / unit * factor
    if any(number.denominator != 1 for number in weights):
        return None
    return np.array([int(number) for number in weights], dtype=object)

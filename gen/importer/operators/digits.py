"""An addend as digits: several tensors of codes that one convolution adds up.

A result has few bits, so an addend that no quantizer rounds is written as several results: in steps
of a unit, a fraction of the step of the quantizer after the sum, it is high * base + low. The layer
that makes `high` rounds the addend to base units; the layers that make `low` compute the addend
again, with `high` as their operand, and round the remainder to units. Where the remainder has more
values than the format, several layers have a range each, and `low` is the sum of their results.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.codes import Function, lookup, reals
from systolith.gen.importer.copies import plain
from systolith.gen.importer.layers import quantizing_layer
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.scales import scaled
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import Linear, Value
from systolith.hw.formats import Format
from systolith.hw.spec.numbers import FIRST_BITS, GAIN_BITS, SHIFT_BITS
from systolith.sim.model.requantization import Operand
from systolith.sim.model.weights import Weights

from .addends import Addend

__all__ = ["Digits", "gains"]


def gains(ratios: Sequence[Fraction], node: Node) -> tuple[list[int], int]:
    """(integers, shift) with integer * 2**-shift as near as possible to each of the ratios, within
    the bits of an operand's gain. Raises UserError at `node` where a ratio is too large."""
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


class Digits:
    """The digits of a sum's addends, collected for the convolution that adds them up.

    Parameters
    ----------
    builder : Builder
    node : Node
        For errors.
    name : str
        Of the sum.
    form : Format
        Of the digits, integers.
    weights : Format
        Of the last layer's weights.
    size : (height, width)
        Of the sum.

    Attributes
    ----------
    pieces : list of (tensor, weights [channels])
        What the last layer reads.
    off : Fraction
        How far the sum can be off, in units.
    written : list of (lowest digits, others)
        Names of the tensors of each addend.
    """

    def __init__(self, builder: Builder, node: Node, name: str, form: Format, weights: Format,
                 size: Sequence[int]):
        self.builder, self.node, self.name = builder, node, name
        self.form, self.weights, self.size = form, weights, tuple(size)
        self.most = (1 << form.width - 1) - 1
        self.weight = weights.image_range[1]
        self.pieces: list[tuple[str, np.ndarray]] = []
        self.off = Fraction(0)
        self.written: list[tuple[list[str], list[str]]] = []

    @property
    def target(self) -> Target:
        """What quantizes digits: integers from -most to most, of scale 1."""
        return Target(self.form, 1.0, 0, -self.most, self.most)

    def add(self, tensor: str, weights: np.ndarray) -> None:
        """Let the last layer read a tensor with integer `weights` [channels]; it reads the tensor
        several times where they are too large for its weights' format."""
        tensor = self._spread_out(tensor)
        times = max(1, ceil(max(abs(weights)) / self.weight))
        parts = np.concatenate([[w // times + (n < w % times) for w in weights]
                                for n in range(times)])
        self.pieces.append((self._repeated(tensor, times) if times > 1 else tensor, parts))

    def _repeated(self, tensor, times):
        """The tensor whose channels are those of `tensor`, `times` times."""
        builder, old = self.builder, self.builder.tensors[tensor]
        channels = old.shape[0]
        one, factor = self.weights.copying
        images = np.tile(one * np.eye(channels, dtype=np.int64), (times, 1))[..., None, None]
        shape = times * channels, *old.shape[1:]
        unit = np.full(times * channels, Fraction(old.scale), dtype=object)
        value = Value(tensor, shape, shape, unit / factor, -old.zero_point * unit,
                      Linear(self.name, Weights(images, self.weights), (1, 1), (1, 1), (0, 0, 0, 0),
                             0),
                      nodes=[self.name])
        target = Target(old.format, old.scale, old.zero_point, *builder.limits[tensor])
        return builder.quantize(value, target, f"{tensor}_repeated", self.node)

    def _spread_out(self, tensor):
        """A tensor of one pixel, repeated to the size of the sum."""
        builder, old = self.builder, self.builder.tensors[tensor]
        if old.shape[1:] == self.size:
            return tensor
        unit = np.full(old.shape[0], Fraction(old.scale), dtype=object)
        shape = old.shape[0], *self.size
        value = Value(tensor, shape, shape, unit, -old.zero_point * unit, nodes=[self.name],
                      pads=(0, 0, self.size[0] - 1, self.size[1] - 1), pad_image=None)
        return plain(builder, value, self.node).source

    def digits(self, item: Addend, unit: np.ndarray, factor: np.ndarray) -> None:
        """Write an Addend as digits of `unit` (real numbers [channels]), which the last layer reads
        with weights that are multiples of `factor` [channels]. Raises UserError."""
        value, sign = item.value, item.sign
        if value.pool and value.pool.least:
            if not all(value.pool.least):
                self.node.fail(f"adds {value.nodes[-1]!r}, which has factors of both signs after a "
                               "MaxPool; put a quantizer between them")
            sign = -sign
            negative = scaled(value, -value.gain ** 0, 0 * value.gain)
            assert negative is not None         # the factor is the same for all channels
            value = negative
        assert item.reach is not None
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
        """Add the layer of the high digit: of a value in units, rounded to multiples of `base`.
        Returns the name of its tensor."""
        builder, target = self.builder, replace(self.target, scale=Fraction(base))
        target = _clipped(target, numbers)
        name = builder.add_tensor(f"{self.name}_high", numbers.map, self.target)
        builder.add_layer(quantizing_layer(builder, numbers, target, name, self.node))
        return name

    def _low(self, numbers, base, high, units):
        """Add the layers of the low digits: of what the high digit (the tensor `high`) leaves of a
        value of at most `units`. Yields the names of their tensors."""
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
            builder.add_layer(replace(layer, operand=Operand(
                high, gain=integers[0], operand_gain=integers[1], shift=shift,
                zero_point=self._place(n, ranges), low=-self.most, high=self.most)))
            yield name

    def _ranges(self, base):
        """How many low digits cover the remainder of a high digit."""
        return ceil((Fraction(base, 2) + 1) / self.most)

    def _place(self, n, ranges):
        """What is added to the remainder so that the n-th of so many low digits covers its
        range."""
        return self.most * (ranges - 1 - 2 * n)

    def _of_function(self, value, base, factor):
        """Write a function of codes as digits, by tables."""
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

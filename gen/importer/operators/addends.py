"""The addends of sums: which values are added, how large they are, and which of them are one
convolution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from systolith.gen.importer.codes import Function
from systolith.gen.importer.scales import scaled
from systolith.gen.importer.values import Kind, Linear, Pair, Value
from systolith.sim.model.weights import Weights

__all__ = ["Addend", "addends", "folded"]


@dataclass
class Addend:
    """A value that is added (`sign` 1) or subtracted (-1). `reach`: the largest magnitude of each
    channel (array of Fraction), once it is known."""
    value: Value
    sign: int = 1
    reach: np.ndarray | None = None

    @property
    def linear(self) -> Kind | None:
        """What the value is computed from."""
        return self.value.linear

    @property
    def clipped(self) -> bool:
        """Whether the value has a limit other than 0."""
        return bool(self.value.low or self.value.high)

    @property
    def direct(self) -> bool:
        """Whether nothing but gain and offset follows the convolution or the codes."""
        value = self.value
        return (value.low is None and value.high is None and not value.pool
                and value.slope is None)


# Taking the sum apart.

def addends(value: Value, sign: int = 1) -> list[Addend]:
    """The Addends of a sum (a value with a `Pair`), those of sums in it included. `sign`: of the
    sum itself."""
    found: list[Addend] = []
    both = value.linear
    assert isinstance(both, Pair)
    for item, own in ((both.first, sign), (both.second, sign * both.sign)):
        inner: list[Addend | None] = []
        if isinstance(item.linear, Pair) and not item.linear.product and Addend(item).direct:
            for part in addends(item, own):
                term = scaled(part.value, item.gain, 0 * item.gain)
                inner.append(None if term is None else Addend(term, part.sign))
            if item.offset.any() and inner[0]:
                moved = scaled(inner[0].value, item.gain ** 0, inner[0].sign * own * item.offset)
                inner[0] = None if moved is None else Addend(moved, inner[0].sign)
        whole = [part for part in inner if part is not None]
        found += whole if whole and len(whole) == len(inner) else [Addend(item, own)]
    return found


# Convolutions of one tensor.

def _together(one, other):
    """Two convolutions of the same tensor merged into one; None where their weights have no codes
    in a common unit, or their kernels do not fit."""
    a, b = one.linear, other.linear
    if (one.source != other.source or a.weights.format != b.weights.format or a.stride != b.stride
            or not a.weights.format.uniform or one.window != (1, 1) or other.window != (1, 1)
            or not np.array_equal(one.channels, other.channels)):
        return None
    small = [item.weights.shape[2:] == (1, 1) for item in (a, b)]
    if small[0] and not small[1]:
        return _together(other, one)
    padded = [any(p > 0 for p in item.pads) for item in (a, b)]
    if (all(padded) and a.pad_image != b.pad_image) or (padded[1] and not padded[0]) or (
            a.dilation != b.dilation and not small[1]):
        return None
    count = max(item.weights.shape[1] for item in (a, b))
    wide = [_dense(item.weights.images, count) for item in (a, b)]
    if any(item is None for item in wide):
        return None
    place = []                      # of the second kernel in the first
    for n in (0, 1):
        moved = a.pads[n] - b.pads[n]
        place.append(moved // a.dilation[n])
        if moved % a.dilation[n] or not 0 <= place[n] <= (
                wide[0].shape[2 + n] - wide[1].shape[2 + n]):
            return None
    images, (y, x) = wide[0].copy(), place
    window = images[:, :, y:y + wide[1].shape[2], x:x + wide[1].shape[3]]
    unit = np.empty(len(images), dtype=object)
    high = a.weights.format.image_range[1]
    for n, numbers in enumerate(zip(one.gain, other.gain, strict=True)):
        unit[n], k, m = _units(*numbers)
        if max(abs(k), abs(m)) > high:
            return None
        images[n] *= k
        window[n] += m * wide[1][n]
    if abs(images).max() > high:
        return None
    return replace(one, gain=unit, offset=one.offset + other.offset, nodes=list(dict.fromkeys(
        [*one.nodes, *other.nodes])), linear=replace(
            a, weights=replace(a.weights, images=images)))


def _units(one, other):
    """(unit, k, m) with one = k * unit and other = m * unit, integers as small as possible."""
    if not one or not other:
        return one or other or Fraction(1), int(bool(one)), int(bool(other))
    ratio = one / other
    unit = abs(other) / ratio.denominator
    return unit, int(one / unit), int(other / unit)


def _dense(images, count):
    """The weights [O, count, kh, kw] of a dense convolution, from those of a dense or a depthwise
    one; None for other groups."""
    if images.shape[1] == count:
        return images
    if images.shape[1] != 1 or len(images) != count:
        return None
    wide = np.zeros((count, count, *images.shape[2:]), images.dtype)
    wide[np.arange(count), np.arange(count)] = images[:, 0]
    return wide


def folded(addends: Sequence[Addend]) -> list[Addend]:
    """The Addends, with convolutions of one tensor merged into one where that is exact."""
    values: list[tuple] = []
    others = []
    formats = {item.value.source: item.linear.weights.format for item in addends
               if isinstance(item.linear, Linear)}
    for item in addends:
        value = item.value
        same = sum(other.value.source == value.source for other in addends) > 1
        if not (item.direct and same and value.source in formats) or isinstance(
                value.linear, Function):
            others.append(item)
            continue
        value = _as_linear(value, formats[value.source])
        value = replace(value, gain=value.gain * item.sign, offset=value.offset * item.sign)
        for n, (before, count) in enumerate(values):
            both = _together(before, value)
            if both is not None:
                values[n] = both, [*count, item]
                break
        else:
            values.append((value, [item]))
    # Addends that are merged with no other stay unchanged.
    return [*(items[0] if len(items) == 1 else Addend(value) for value, items in values), *others]


def _as_linear(value, format):
    """A quantized value as the result of a 1 x 1 convolution whose weights are 1."""
    if value.linear is not None:
        return value
    one, factor = format.copying
    weights = Weights.ones(format, value.map[0], max(one, 1))
    return replace(value, gain=value.gain / max(factor, 1), linear=Linear(
        value.source, weights, (1, 1), (1, 1), (0, 0, 0, 0), 0))

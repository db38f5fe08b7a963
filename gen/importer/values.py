"""Symbolic values of ONNX tensors while a network is read: constants, inputs, or values on the
chip.

Scales and offsets are exact rational numbers (arrays of `Fraction`, one for each channel).
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import isqrt, prod

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Format

from .file import check_finite, one_line

__all__ = ["Constant", "HostInput", "Kind", "Linear", "Node", "Origin", "Pair", "Part", "Place",
           "Pool", "QuantizedConstant", "Value", "activation", "codes_of", "constant", "exact",
           "layout_of", "like", "per_channel", "shape_text", "square_root", "uniform",
           "with_layout"]


def exact(array):
    """The numbers of an array as Fractions (dtype object), the same shape."""
    array = np.asarray(array)
    if array.dtype == object:
        return array
    numbers = array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)
    result = np.empty(array.size, dtype=object)
    result[:] = [Fraction(item) for item in numbers.reshape(-1).tolist()]
    return result.reshape(array.shape)


def square_root(number):
    """The square root of a Fraction: exact where it is rational, else right to 512 bits."""
    scale = 1 << 1024
    product = number.numerator * number.denominator
    return Fraction(isqrt(product * scale * scale), scale * number.denominator)


def uniform(array):
    """The one value that all elements have, or None."""
    flat = np.asarray(array, dtype=object).reshape(-1)
    return flat[0] if all(item == flat[0] for item in flat) else None


@dataclass
class Node:
    """An ONNX node with its attributes as Python values."""
    name: str
    operator: str
    domain: str
    inputs: list
    outputs: list
    attributes: dict
    proto: object

    def __str__(self):
        return f"node {self.name!r} ({self.operator})"

    def fail(self, message):
        raise UserError(f"{self}: {message}")

    def expect(self, attribute, value, accepted):
        """`value`, that of an attribute; UserError where it is not among `accepted`."""
        if value not in accepted:
            self.fail(f"attribute {attribute} must be "
                      f"{' or '.join(map(repr, accepted))}, not "
                      f"{one_line(repr(value), 80)}")
        return value


@dataclass
class Constant:
    """A constant of the network."""
    name: str
    array: np.ndarray

    @property
    def numbers(self):
        """The array as Fractions; UserError where a number is not finite."""
        check_finite(self.name, self.array)
        return exact(self.array)

    @property
    def floats(self):
        return self.array.astype(np.float64).astype(np.float32)

    @property
    def shape(self):
        return self.array.shape


@dataclass
class QuantizedConstant:
    """A constant that has passed a quantizer: real = images * 2**format.exponent * scale.

    `images` (int64) and `scale` (float64) have the constant's shape. `codes` is the format of the
    codes where the images, less a zero point, need another.
    """
    name: str
    images: np.ndarray
    scale: np.ndarray
    format: Format
    codes: Format | None = None

    @property
    def floats(self):
        images = np.ldexp(self.images.astype(np.float64), self.format.exponent)
        return (images * self.scale).astype(np.float32)

    array = floats

    @property
    def numbers(self):
        """The real numbers as Fractions."""
        unit = Fraction(2) ** self.format.exponent
        # numpy makes one number of arrays without dimensions
        return np.asarray(exact(self.images) * exact(self.scale) * unit, dtype=object)

    @property
    def shape(self):
        return self.images.shape


@dataclass
class HostInput:
    """An ONNX input that no quantizer has seen yet; `steps` as of `sim.model.edges.Encoder`."""
    name: str
    input_shape: tuple
    shape: tuple
    bits: int = 0               # of integer inputs: they are codes; 0: real numbers
    signed: bool = True
    steps: list = field(default_factory=list)
    # The short float that quantizers read it in; "": float32. Between, as in ONNX Runtime on a
    # processor, nothing is rounded.
    rounding: str = ""
    rows: int = 1               # as of `Value`; steps have it before the shape

    @property
    def whole(self):
        """Shape of one image as the next step sees it: `shape`, with `rows` as its first dimension
        where it is not 1."""
        return self.shape if self.rows == 1 else (self.rows, *self.shape)

    def then(self, operation, operand, shape=None):
        return replace(self, shape=self.shape if shape is None else shape,
                       steps=[*self.steps, (operation, operand)])


class Kind:
    """What a value can be computed from, other than the codes of a tensor; see `kinds`."""


@dataclass
class Linear(Kind):
    """A convolution of the source's images with `images` [O, I / groups, kh, kw] of `format`."""
    name: str
    images: np.ndarray
    format: Format
    stride: tuple
    dilation: tuple
    pads: tuple
    pad_image: int | None       # None: the nearest pixel
    ties: np.ndarray | None = None      # as of `sim.model.conv.Conv`, where they are known already


@dataclass
class Pair(Kind):
    """The sum (`sign` 1), difference (-1) or product of two values; `name` is the node's."""
    name: str
    first: "Value"
    second: "Value"
    product: bool = False
    sign: int = 1


@dataclass(frozen=True)
class Pool:
    """Max pooling over windows of `size` that stand `stride` apart, all (y, x); `pads` (top, left,
    bottom, right) are less than the window; padded pixels are ignored. `least`: for each channel
    whether the minimum is taken instead, as a negative factor after the pooling needs; (): for
    none."""
    size: tuple
    stride: tuple
    pads: tuple = (0, 0, 0, 0)
    least: tuple = ()

    #: What an instruction can address.
    MOST = 15

    @classmethod
    def of(cls, layer):
        """The max pooling of a `sim.model.conv.Conv`; None where it has none."""
        pool = cls(*layer.windows)
        return None if pool.size == pool.stride == (1, 1) else pool

    @property
    def fields(self):
        """The fields of a `sim.model.conv.Conv` that say so."""
        return {"pool": self.size, "pool_stride": self.stride, "pool_pads": self.pads,
                "least": np.array(self.least) if self.least else None}

    def scaled(self, gain):
        """This pool followed by a per-channel factor: where the factor is negative, max pooling
        becomes min pooling."""
        least = np.array(self.least or [False] * len(gain)) ^ (gain < 0).astype(bool)
        return replace(self, least=tuple(least.tolist()) if least.any() else ())

    def of_channels(self, channels):
        """This pool of some of the channels alone."""
        least = tuple(self.least[n] for n in channels) if self.least else ()
        return replace(self, least=least if any(least) else ())

    def out(self, sizes):
        """(height, width) of the pooled map, from those of the map."""
        return tuple((sizes[n] + self.pads[n] + self.pads[n + 2] - self.size[n]) // self.stride[n]
                     + 1 for n in (0, 1))

    def then(self, other):
        """One pool that does the same as this one followed by `other`; None where there is none."""
        gaps = any(s > k for s, k in zip(self.stride, self.size, strict=True))
        size = tuple(k + (other.size[n] - 1) * self.stride[n] for n, k in enumerate(self.size))
        if gaps or any(other.pads) or max(size) > self.MOST or self.least or other.least:
            return None
        # The pads at the end reach as far as the last window does, as they did before.
        return Pool(size, tuple(s * t for s, t in zip(self.stride, other.stride, strict=True)),
                    self.pads)


@dataclass
class Value:
    """Real numbers that the chip knows: real = gain * S + offset, clipped and pooled.

    S is what `linear` says: the exact sum that a convolution (`Linear`) computes from the images of
    the tensor `source`, these images themselves (None), both summed over windows, or another kind
    of result; or, with `parts`, each part's own value.

    Attributes
    ----------
    shape : tuple
        The ONNX shape without the batch dimension.
    map : (channels, height, width)
    window : (py, px)
        Window of sum pooling of S, without overlap; (1, 1) where `linear` is None.
    gain, offset : arrays of Fraction [channels]
    slope : array of Fraction [channels] or None
        Factor of numbers below zero, applied after gain and offset (PRelu); None: no such factor.
    low, high : Fraction or None
        Limits, applied after the slope.
    pool : Pool or None
        Max pooling, after all of these.
    nodes : list of str
        ONNX nodes since the source.
    channels : array of int or None
        Channels of the source that are read; None: all.
    pads : (top, left, bottom, right)
        Of the images, where linear is None: pixels of `pad_image` around them (None: the nearest
        one), or, negative ones, cut off.
    parts : list of Part or None
    order : int64 array [rows * elements of shape] or None
        The number of the element of `map` that stands at each place of `shape`; None: all of them
        as they stand. See `layout`.
    rows : int
        How many times as many images as the network the ONNX tensor has: a reshape has made them
        of another dimension, the first one of `order`.
    moved : list of str
        The nodes that made the order.
    """
    source: str
    shape: tuple
    map: tuple
    gain: np.ndarray
    offset: np.ndarray
    linear: "Kind | None" = None
    low: Fraction | None = None
    high: Fraction | None = None
    pool: Pool | None = None
    window: tuple = (1, 1)
    nodes: list = field(default_factory=list)
    channels: np.ndarray | None = None
    pads: tuple = (0, 0, 0, 0)
    pad_image: int | None = 0
    parts: list | None = None
    slope: np.ndarray | None = None
    order: np.ndarray | None = None
    rows: int = 1
    moved: list = field(default_factory=list)


@dataclass
class Origin:
    """The tensor of the model that a tensor holds: its numbers are gain * image + offset, with the
    images of the format, reshaped; `order` as of `Value`."""
    name: str
    gain: float
    offset: float
    order: np.ndarray | None = None


@dataclass
class Place:
    """Where the channels and pixels of a tensor go in another one: see `Part`."""
    first_channel: int = 0
    step: tuple = (1, 1)
    origin: tuple = (0, 0)


@dataclass
class Part:
    """One part of a value in parts: the channels of `value` become those from `first_channel` on,
    its pixel (y, x) the pixel (y, x) * step + origin."""
    value: Value
    first_channel: int = 0
    step: tuple = (1, 1)
    origin: tuple = (0, 0)


def codes_of(format, images, node):
    """Codes of `format` whose images are `images`; an error at `node` when there is none."""
    images = np.asarray(images)
    codes = format.encode(np.ldexp(images.astype(np.float64), format.exponent))
    wrong = format.image(codes) != images
    if not format.has_zero and not images.all():
        node.fail("needs a weight of 0, and binary weights are +1 or -1; quantize the weights to "
                  "more bits, or put the quantizer right after a convolution")
    if wrong.any():
        node.fail(f"a weight of {images[wrong][0]} steps has no code in {format}: a negative scale "
                  "or batch norm changes the sign of weights; quantize weights to a symmetric "
                  "range")
    return codes


def activation(inputs, node):
    """The first input, which must not be a constant."""
    if isinstance(inputs[0], (HostInput, Value)):
        return inputs[0]
    return node.fail("its first input must be an activation, not a constant")


def constant(value, node, what):
    if isinstance(value, (Constant, QuantizedConstant)):
        return value
    return node.fail(f"{what} must be a constant, not computed by the network")


def shape_text(shape):
    return f"[N, {', '.join(map(str, shape))}]" if len(shape) else "[N]"


def like(value, result):
    """The value `result`, which has the shape of `value`, or of a `HostInput`, with its order."""
    if isinstance(value, HostInput):
        return replace(result, rows=value.rows)
    return replace(result, order=value.order, rows=value.rows, moved=value.moved)


def layout_of(value):
    """For each place of a value's shape, [rows, *shape], the index of its element in the map."""
    order = np.arange(value.rows * prod(value.shape)) if value.order is None else value.order
    return order.reshape(value.rows, *value.shape)


def with_layout(value, index, node=None):
    """The value whose places hold the elements `index` [rows, *shape] of its map; `node` is the one
    that moves them."""
    order = index.reshape(-1)
    plain = order.size == prod(value.map) and (order == np.arange(order.size)).all()
    names = [] if node is None else [node.name]
    return replace(value, shape=index.shape[1:], rows=len(index), order=None if plain else order,
                   nodes=[*value.nodes, *names],
                   moved=[] if plain else list(dict.fromkeys([*value.moved, *names])))


def per_channel(numbers, value, node, what):
    """`numbers`, which broadcast against the ONNX shape of `value` with its batch dimension first,
    as one number for each of its channels."""
    numbers = np.asarray(numbers, dtype=object)
    full = (value.rows, *value.shape)
    natural = value.order is None and value.rows == 1
    if natural and value.shape[:1] == value.map[:1] and numbers.ndim <= len(full):
        # The usual form, without numbers for every position.
        sides = [1] * (len(full) - numbers.ndim) + list(numbers.shape)
        if sides[1] in (1, full[1]) and numbers.size == sides[1]:
            return np.broadcast_to(numbers.reshape(-1), full[1:2]).copy()
    different = list(dict.fromkeys(numbers.reshape(-1).tolist()))
    number_of = {item: n for n, item in enumerate(different)}
    kinds = np.reshape([number_of[item] for item in numbers.reshape(-1).tolist()], numbers.shape)
    try:
        kinds = np.broadcast_to(kinds, full).reshape(-1)
    except ValueError:
        node.fail(f"{what} of shape {list(numbers.shape)} does not fit {shape_text(value.shape)}")
    channel = layout_of(value).reshape(-1) // prod(value.map[1:])
    found = np.zeros(value.map[0], np.int64)
    found[channel] = kinds
    if (found[channel] != kinds).any():
        node.fail(f"{what} must be one number, or one for each channel, and the same at every "
                  "position")
    result = np.empty(len(found), dtype=object)
    result[:] = [different[n] for n in found]
    return result

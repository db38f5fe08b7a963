"""Symbolic values of ONNX tensors while a network is read: constants, inputs, or values on the
chip.

Scales and offsets are exact rational numbers (arrays of `Fraction`, one for each channel).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from systolith.hw.formats import Format
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool
from systolith.sim.model.weights import Weights

from .file import check_finite
from .nodes import Node
from .rationals import exact

__all__ = ["AnyConstant", "Constant", "HostInput", "Inputs", "Kind", "Linear", "Origin", "Pair",
           "Part", "QuantizedConstant", "Symbol", "Value", "activation", "constant", "layout_of",
           "like", "on_chip", "per_channel", "shape_text", "with_layout"]


@dataclass
class Constant:
    """A constant of the network; numbers of dtype object are Fractions."""
    name: str
    array: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """The array as Fractions. Raises UserError where a number is not finite."""
        check_finite(self.name, self.array)
        return exact(self.array)

    @property
    def floats(self) -> np.ndarray:
        """The array in float32."""
        return self.array.astype(np.float64).astype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape


@dataclass
class QuantizedConstant:
    """A constant that has passed a quantizer: real = images * 2**format.exponent * scale.

    `images` (int64) and `scale` (float64) have the constant's shape. `codes` is the format of the
    model's codes where subtracting the zero point gives images that need another, wider `format`;
    None where both are the same.
    """
    name: str
    images: np.ndarray
    scale: np.ndarray
    format: Format
    codes: Format | None = None

    @property
    def floats(self) -> np.ndarray:
        """The real numbers in float32."""
        return (self.format.values(self.images) * self.scale).astype(np.float32)

    array = floats

    @property
    def numbers(self) -> np.ndarray:
        """The real numbers as Fractions."""
        # numpy makes one number of arrays without dimensions
        if self.format.product_shift:
            values = exact(self.format.values(self.images))
        else:
            values = exact(self.images) * Fraction(2) ** self.format.exponent
        return np.asarray(values * exact(self.scale), dtype=object)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the images."""
        return self.images.shape


@dataclass
class HostInput:
    """Numbers that the host has and no quantizer has read yet: an ONNX input, or what operators
    made of it.

    Attributes
    ----------
    name : str
        Of the network's input.
    input_shape, shape : tuple
        Of the input, and after `steps`; without the batch dimension.
    bits : int
        Of integer inputs, whose numbers are codes; 0: real numbers.
    signed : bool
        Whether these codes are signed.
    steps : list of (operation, operand)
        What the host does to the numbers before it encodes them, as of `sim.model.edges.Encoder`.
    rounding : str
        The short float that quantizers round the numbers to when they read them; "": float32.
        Between the steps nothing is rounded, as in ONNX Runtime on a processor.
    rows : int
        As of `Value`; the steps see rows as the first dimension of an image.
    """
    name: str
    input_shape: tuple
    shape: tuple
    bits: int = 0
    signed: bool = True
    steps: list = field(default_factory=list)
    rounding: str = ""
    rows: int = 1

    @property
    def whole(self) -> tuple[int, ...]:
        """Shape of one image as the next step sees it: `shape`, with `rows` as its first dimension
        where it is not 1."""
        return self.shape if self.rows == 1 else (self.rows, *self.shape)

    def then(self, operation: str, operand: Any, shape: tuple | None = None) -> "HostInput":
        """This input after one more step of the host, which gives the `shape` (None: the same)."""
        return replace(self, shape=self.shape if shape is None else shape,
                       steps=[*self.steps, (operation, operand)])


class Kind:
    """What a value can be computed from, other than the codes of a tensor; see `kinds`. A base
    class."""


@dataclass
class Linear(Kind):
    """A convolution of the source's images with weights.

    Attributes
    ----------
    name : str
        Of the ONNX node.
    weights : Weights
    stride, dilation : (y, x)
    pads : (top, left, bottom, right)
        Pixels of `pad_image` around the map; None: of the nearest pixel.
    ties : int array [O] or None
        As of the requantization of a layer, where they are known already.
    """
    name: str
    weights: Weights
    stride: tuple
    dilation: tuple
    pads: tuple
    pad_image: int | None
    ties: np.ndarray | None = None


@dataclass
class Pair(Kind):
    """The sum (`sign` 1), difference (-1) or product of two values; `name` is the node's."""
    name: str
    first: "Value"
    second: "Value"
    product: bool = False
    sign: int = 1


@dataclass
class Value:
    """Real numbers that the chip can compute: real = gain * S + offset, then clipped and pooled.

    `linear` says what S is: None: the images of the tensor `source`; a `Linear`: the exact sum that
    a convolution computes from these images; either of them summed over windows (`window`); another
    `Kind`: what that describes. With `parts`, each part has its own value.

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
    after : array of Fraction [channels] or None
        Added after the slope, on chips with offsets alone: only values have it that one layer is
        about to quantize (`operators.kinks`). None: nothing is.
    low, high : Fraction or None
        Limits, applied after the slope; None: no limit.
    pool : Pool or None
        Max pooling, applied last.
    nodes : list of str
        Names of the ONNX nodes between the source and this value.
    channels : array of int or None
        Channels of the source that are read; None: all.
    pads : (top, left, bottom, right)
        Where `linear` is None: pixels of `pad_image` around the images (`pad_image` None: copies of
        the nearest pixel); negative: pixels that are cropped.
    parts : list of Part or None
    order : int64 array [rows * elements of shape] or None
        For each place of `shape`, the index of its element in `map`; None: the elements are in the
        map's order. See `layout`.
    rows : int
        Images of the ONNX tensor for each image of the network: more than 1 where a reshape has
        made the batch dimension of another one. The first dimension of `order`.
    moved : list of str
        Names of the nodes that made `order`.
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
    after: np.ndarray | None = None
    order: np.ndarray | None = None
    rows: int = 1
    moved: list = field(default_factory=list)


#: A constant of the network, quantized or not.
AnyConstant = Constant | QuantizedConstant
#: What stands for an ONNX tensor while a network is read.
Symbol = Constant | QuantizedConstant | HostInput | Value
#: What the inputs of a node are; None: an input that is left out.
Inputs = Sequence[Symbol | None]


@dataclass
class Origin:
    """Which tensor of the model a tensor of the chip holds: the model's numbers are gain * image +
    offset, in the `order` (as of `Value`; None: the map's own)."""
    name: str
    gain: float
    offset: float
    order: np.ndarray | None = None


@dataclass
class Part:
    """One part of a value in parts; `placement`: where its map lies in the whole."""
    value: Value
    placement: Placement = field(default_factory=Placement)


def activation(inputs: Inputs, node: Node) -> HostInput | Value:
    """The first input. Raises UserError at `node` where it is a constant."""
    if isinstance(inputs[0], (HostInput, Value)):
        return inputs[0]
    node.fail("its first input must be an activation, not a constant")


def on_chip(value: Symbol | None, node: Node) -> Value:
    """`value`, which a layer reads. Raises UserError at `node` for an input that is not quantized
    and for a constant."""
    if isinstance(value, HostInput):
        node.fail(f"reads the input {value.name!r} as it is; put a quantizer before it")
    if not isinstance(value, Value):
        node.fail("its first input must be an activation, not a constant")
    return value


def constant(value: Symbol | None, node: Node, what: str) -> AnyConstant:
    """`value`, which is an input of `node`. Raises UserError where it is no constant; the message
    calls it `what`."""
    if isinstance(value, (Constant, QuantizedConstant)):
        return value
    node.fail(f"{what} must be a constant, not computed by the network")


def shape_text(shape: Sequence[int]) -> str:
    """A shape without batch dimension as messages show it: [N, 3, 8, 8]."""
    return f"[N, {', '.join(map(str, shape))}]" if len(shape) else "[N]"


def like(value: HostInput | Value, result: Value) -> Value:
    """`result`, which has the shape of `value`, with its order of elements and its rows."""
    if isinstance(value, HostInput):
        return replace(result, rows=value.rows)
    return replace(result, order=value.order, rows=value.rows, moved=value.moved)


def layout_of(value: Value) -> np.ndarray:
    """The index in the map of the element at each place of a value: int array [rows, *shape]."""
    order = np.arange(value.rows * prod(value.shape)) if value.order is None else value.order
    return order.reshape(value.rows, *value.shape)


def with_layout(value: Value, index: np.ndarray, node: Node | None = None) -> Value:
    """The value whose places hold the elements `index` (int array [rows, *shape]) of its map.
    `node`: the node that moves them, if one does."""
    order = index.reshape(-1)
    plain = order.size == prod(value.map) and (order == np.arange(order.size)).all()
    names = [] if node is None else [node.name]
    return replace(value, shape=index.shape[1:], rows=len(index), order=None if plain else order,
                   nodes=[*value.nodes, *names],
                   moved=[] if plain else list(dict.fromkeys([*value.moved, *names])))


def per_channel(numbers: npt.ArrayLike, value: Value, node: Node, what: str) -> np.ndarray:
    """`numbers`, which broadcast against the ONNX shape of `value` with its batch dimension first,
    as one number for each channel of its map (array of dtype object).

    Raises UserError at `node` where their shape does not fit, or where numbers of one channel
    differ; the message calls them `what`.
    """
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
    kinds = np.array([number_of[item] for item in numbers.reshape(-1).tolist()], np.int64)
    try:
        kinds = np.broadcast_to(kinds.reshape(numbers.shape), full).reshape(-1)
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

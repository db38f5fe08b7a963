"""One layer of a network as plain data, and what it computes."""

from dataclasses import dataclass, field, replace

import numpy as np
from systolith.hw.formats import Format
from systolith.hw.spec.arch import Arch

from . import numerics

__all__ = ["Conv", "Operand"]

#: Elements of a layer's result that are computed at a time.
_CACHED = 1 << 17


@dataclass
class Operand:
    """The operand of a layer: a map with which its results are combined element by element.

    With c the layer's result, its zero point left out, and r the operand's, both as images
    (floats) or integers, t = c * gain + r * operand_gain, or c * r * gain for a product; the
    output is t / 2**shift, rounded to the format, plus the zero point, clipped.

    Attributes
    ----------
    tensor : str
        As large as the output, or one pixel that goes with all of them.
    product : bool
    gain, operand_gain : int
        Signed, magnitudes of 26 bits.
    operand_zero : int
        What stands for 0 in the operand.
    shift : int
    zero_point, low, high, ties : int
        Of the output, as of `Conv`.
    """
    tensor: str
    product: bool = False
    gain: int = 1
    operand_gain: int = 1
    operand_zero: int = 0
    shift: int = 0
    zero_point: int = 0
    low: int = 0
    high: int = 0
    ties: int = 1


@dataclass
class Conv:
    """One layer: convolution, bias, requantization, max pooling, and perhaps an operand. A dense
    layer is a convolution whose kernel is the whole map. Several layers may write parts of one
    tensor, and a layer may read some channels of one.

    Attributes
    ----------
    name : str
    input, output : str
        Names of tensors.
    channels : int64 array [I] or None
        The channels of the input that are read, in this order; None: all. Others than all only
        with weights that have a zero, which the chip gives to the rest.
    first_channel : int
        Where this layer's channels begin in the output.
    step, origin : (y, x)
        The result (y, x) is the output's pixel (y, x) * step + origin.
    weight : int64 array [O, I / groups, kh, kw]
        Codes of `weight_format`.
    stride, dilation : (y, x)
    pads : (top, left, bottom, right)
        Negative ones cut off so many pixels.
    pad_code : int or None
        The code of padding pixels; None: padding contributes exactly nothing.
    replicate : bool
        Padding is the nearest pixel instead; pad_code is None then.
    groups : int
        Output channels fall into so many equal runs, each of which sees its own run of input
        channels.
    pool : (py, px)
        Pooling over windows; pixels that fill none are dropped.
    pool_stride : (y, x) or None
        None: `pool`.
    pool_pads : (top, left, bottom, right)
        How far windows reach over the convolution's result, where nothing is.
    pool_sum : bool
        Sum pooling: the sums of the convolution are added up over each window, before bias and
        requantization; otherwise max pooling, after them.
    least : bool array [O] or None
        The channels of which the smallest result of each window is taken instead; bipolar results
        only. None: none.
    bias, multiplier, shift, addend : int64 arrays [O]
        Requantization, see `numerics.first_results`. The addend stands for a fraction of the bias,
        addend / multiplier; from 0 to the multiplier. Raw layers use the bias only.
    zero_point, low, high : int
        Added after rounding; limits of the result as an ordered integer.
    ties : int64 array [O]
        What results half-way between two integers go to, before the zero point is added: 1 the even
        one, 2 the odd one, and what is next to them, too, see `numerics.first_results`; 0 the
        nearest, for channels without such results.
    below : three int64 arrays [O], or None
        Multipliers, which may be negative, shifts, and addends with the multipliers' sign for sums
        below zero, bias included; addends may be left out. None: the same as for others.
    raw : bool
        The output is accumulator plus bias; pool is (1, 1).
    table : int64 array or None
        A function as a lookup table: the ordered integers that replace results (with an operand:
        the combined results) from `low` to `high`, before max pooling. The limits of integers may
        then be beyond the format.
    operand : Operand or None
        What results are combined with after all that; zero_point is 0 then, and low and high are
        those of signed numbers of `FIRST_BITS` bits where the format is one of integers.
    nodes : list of str
        Names of the ONNX nodes that it came from.
    input_shape : (channels, height, width)
        Filled in by `Graph` from the input tensor.
    """
    name: str
    input: str
    output: str
    weight: np.ndarray
    weight_format: Format
    stride: tuple = (1, 1)
    dilation: tuple = (1, 1)
    pads: tuple = (0, 0, 0, 0)
    pad_code: int | None = None
    replicate: bool = False
    groups: int = 1
    pool: tuple = (1, 1)
    pool_stride: tuple | None = None
    pool_pads: tuple = (0, 0, 0, 0)
    pool_sum: bool = False
    least: np.ndarray | None = None
    bias: np.ndarray = None  # type: ignore[assignment]
    multiplier: np.ndarray = None  # type: ignore[assignment]
    shift: np.ndarray = None  # type: ignore[assignment]
    addend: np.ndarray = None  # type: ignore[assignment]
    zero_point: int = 0
    low: int = 0
    high: int = 0
    ties: np.ndarray = None  # type: ignore[assignment]
    below: tuple | None = None
    raw: bool = False
    table: np.ndarray | None = None
    operand: Operand | None = None
    channels: np.ndarray | None = None
    first_channel: int = 0
    step: tuple = (1, 1)
    origin: tuple = (0, 0)
    nodes: list = field(default_factory=list)
    input_shape: tuple = None  # type: ignore[assignment]

    def __post_init__(self):
        self.weight = np.asarray(self.weight, dtype=np.int64)
        if self.channels is not None:
            self.channels = np.asarray(self.channels, dtype=np.int64)
        for key, default in (("bias", 0), ("multiplier", 1), ("shift", 0), ("addend", 0),
                             ("ties", 1)):
            value = getattr(self, key)
            value = np.full(len(self.weight), default) if value is None else value
            setattr(self, key, np.asarray(value, dtype=np.int64))
        if self.below is not None:
            self.below = tuple(np.asarray(item, dtype=np.int64) for item in
                               (*self.below, np.zeros(len(self.weight)))[:3])
        if self.table is not None:
            self.table = np.asarray(self.table, dtype=np.int64)
            limits = self.operand or self
            if self.raw or len(self.table) != limits.high - limits.low + 1:
                raise ValueError(f"the table of layer {self.name!r} must have a result for each "
                                 f"number from {limits.low} to {limits.high}, and there must be no "
                                 "raw sums")

    @property
    def inputs(self) -> int:
        """Channels that are read."""
        return self.weight.shape[1] * self.groups

    def on_chip(self, arch: Arch) -> "Conv":
        """This layer with biases as the chip holds them."""
        if not self.addend.any():
            return self
        bias, addend, below = numerics.held_bias(self.bias, self.multiplier, self.addend,
                                                 self.below, arch.addend_bits)
        return replace(self, bias=bias, addend=addend, below=below)

    def reading_all(self) -> "Conv":
        """This layer with weights for all channels of the input: 0 for those not read, code 0
        where the format has no 0 (no chip computes such a layer)."""
        if self.channels is None:
            return self
        weight = self.dense_weight(self.weight_format.zero_code or 0)
        wide = np.full((len(weight), self.input_shape[0], *weight.shape[2:]),
                       self.weight_format.zero_code or 0, weight.dtype)
        wide[:, self.channels] = weight
        return replace(self, weight=wide, groups=1, channels=None)

    def target(self, array: np.ndarray) -> np.ndarray:
        """The view of `array` [..., C, H, W], laid out as the output, that this layer writes."""
        channels, height, width = self.output_shape
        (y, x), (sy, sx) = self.origin, self.step
        return array[..., self.first_channel:self.first_channel + channels,
                     y:y + (height - 1) * sy + 1:sy, x:x + (width - 1) * sx + 1:sx]

    def dense_weight(self, fill: int | None = None) -> np.ndarray:
        """Weight codes [O, I, kh, kw] of one group, with zeros, or `fill`, where input and output
        channel are of different groups."""
        if self.groups == 1:
            return self.weight
        outputs, channels = len(self.weight) // self.groups, self.weight.shape[1]
        dense = np.full((len(self.weight), self.inputs, *self.weight.shape[2:]),
                        self.weight_format.zero_code if fill is None else fill, self.weight.dtype)
        for n in range(self.groups):
            rows = slice(n * outputs, (n + 1) * outputs)
            dense[rows, n * channels:(n + 1) * channels] = self.weight[rows]
        return dense

    @property
    def conv_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the convolution's result, before pooling."""
        _, height, width = self.input_shape
        sizes = [numerics.output_size(size, self.weight.shape[2 + n], self.stride[n],
                                      self.dilation[n], self.pads[n::2])
                 for n, size in enumerate((height, width))]
        return (len(self.weight), *sizes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the results."""
        channels, *sizes = self.conv_shape
        return (channels, *numerics.window_counts(sizes, *self.windows))

    @property
    def windows(self) -> tuple[tuple, tuple, tuple]:
        """(size, stride, pads) of pooling."""
        return self.pool, self.pool_stride or self.pool, self.pool_pads

    @property
    def macs(self) -> int:
        """Products per image, those with padding included."""
        _, height, width = self.conv_shape
        return self.weight.size * height * width

    def sum_range(self, input_format: Format) -> tuple[int, int]:
        """(smallest, largest) accumulator value that any input can lead to, at any time: the
        bounds hold for the sum of every subset of the products, of a whole window where sums are
        pooled."""
        low, high = numerics.sum_ranges(
            numerics.images_of(self.weight_format, self.weight), input_format)
        times = self.pool[0] * self.pool[1] if self.pool_sum else 1
        return times * min(low), times * max(high)

    def accumulator_bits(self, input_format: Format) -> int:
        """Bits of a signed accumulator that holds every sum of this layer, and its bias.

        Proven from the weights and the range of `input_format`.
        """
        low, high = self.sum_range(input_format)
        low, high = min(low, int(self.bias.min())), max(high, int(self.bias.max()))
        return max((-1 - low).bit_length(), high.bit_length()) + 1

    def accumulate(self, codes: np.ndarray, input_format: Format,
                   arch: Arch | None = None) -> np.ndarray:
        """Accumulators [N, O, H, W] from input codes.

        With `arch`, saturating pass by pass if that chip's accumulators are narrowed.
        """
        pad_image = 0 if self.pad_code is None else int(input_format.image(self.pad_code))
        # Groups of binary layers run on chips only where nothing saturates.
        narrowed = arch is not None and arch.accumulator is not None and (
            (self.groups == 1 and self.channels is None)
            or self.weight_format.zero_code is not None)
        if self.channels is not None and not narrowed:
            codes = codes[:, self.channels]
        images, pads = numerics.images_of(input_format, codes), self.pads
        if self.replicate:
            top, left, bottom, right = (max(pad, 0) for pad in pads)
            images = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="edge")
            pads = tuple(min(pad, 0) for pad in pads)
        geometry = dict(stride=self.stride, dilation=self.dilation, pads=pads,
                        pad_image=pad_image)
        if arch is None or not narrowed:
            weight = numerics.images_of(self.weight_format, self.weight)
            return numerics.convolve(images, weight, groups=self.groups, **geometry)
        weight = numerics.images_of(self.weight_format, self.reading_all().dense_weight())
        return numerics.saturating_convolve(images, weight, bits=arch.accumulator,
                                            vector=arch.vector, **geometry)

    def run(self, codes, input_format, output_format, arch=None, operand=None,
            operand_format=None):
        """Codes [N, C, H, W] of the output from the codes of the input and of the operand."""
        # A few images at a time, so that intermediate arrays stay in the caches. Where every step
        # of requantization is monotone, pooling sums instead of results is the same and less work.
        monotone = self.table is None and (self.below is None or self.below[0].min() >= 0)
        step = max(1, _CACHED // int(np.prod(self.conv_shape)))
        parts = []
        for start in range(0, len(codes), step):
            sums = self.accumulate(codes[start:start + step], input_format, arch)
            if self.raw:
                parts.append(numerics.add_bias(sums, self.bias))
            else:
                if self.pool_sum:
                    sums = numerics.window_sums(sums, *self.windows)
                elif monotone:
                    sums = self._pooled(sums)
                first = numerics.first_results(sums, self, output_format)
                if self.table is not None and self.operand is None:
                    first = self.table[first - self.low]
                if not self.pool_sum and not monotone:
                    first = self._pooled(first)
                if self.operand is not None:
                    first = numerics.combine(first, operand[start:start + step], self.operand,
                                             output_format, operand_format)
                    if self.table is not None:
                        first = self.table[first - self.operand.low]
                parts.append(output_format.from_ordered(first))
        return np.concatenate(parts) if parts else np.zeros((0, *self.output_shape), np.int64)

    def _pooled(self, values):
        if self.least is None:
            return numerics.window_maxima(values, *self.windows)
        turn = np.where(self.least, -1, 1)[:, None, None]
        return turn * numerics.window_maxima(turn * values, *self.windows)

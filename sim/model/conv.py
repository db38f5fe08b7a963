"""One layer of a network as plain data, and what it computes."""

from dataclasses import dataclass, field, replace
from functools import reduce
from math import prod
from typing import Literal

import numpy as np
from systolith.hw.formats import Format, Int
from systolith.hw.spec.arch import Arch

from . import numerics
from .geometry import Geometry
from .placement import Placement
from .pool import Pool
from .requantization import Limits, Operand, Requantization
from .weights import Weights

__all__ = ["Conv"]

#: Elements of a layer's result that are computed at a time.
_CACHED = 1 << 17
#: What results that are combined with an operand are where their sign alone is kept.
_INTEGERS = Int(16)


@dataclass(frozen=True, eq=False)
class Conv:
    """One layer: convolution, bias, requantization, pooling, and perhaps an operand. A dense
    layer is a convolution whose kernel is the whole map. Several layers may write parts of one
    tensor, and a layer may read some channels of one. Layers are equal only where they are the
    same.

    Attributes
    ----------
    name : str
    input, output : str
        Names of tensors.
    weights : Weights
    geometry : Geometry
    bias : int64 array [O]
        Added to each channel's sums, in their unit: that of the input's images times that of the
        weights'. None: 0.
    requantization : Requantization or None
        None: the layer is raw, its output is accumulator plus bias, without pooling.
    pool : Pool
        Of sums before bias and requantization, or of results after them.
    table : int64 array or None
        A function as a lookup table: the ordered integers that replace results (with an operand:
        the combined results) from `limits.low` to `limits.high`, before max pooling. The limits of
        integers may then be beyond the format.
    operand : Operand or None
        What results are combined with after all that; the zero point of the requantization is 0
        then, and its limits are those of signed numbers of `FIRST_BITS` bits where the format is
        one of integers.
    channels : int64 array [I] or None
        The channels of the input that are read, in this order; None: all. Others than all only
        with weights that have a zero, which the chip gives to the rest.
    placement : Placement
        Where the results go in the output.
    nodes : tuple of str
        Names of the ONNX nodes that it came from.
    input_shape : (channels, height, width)
        Filled in by `Graph` from the input tensor.
    """
    name: str
    input: str
    output: str
    weights: Weights
    geometry: Geometry = field(default_factory=Geometry)
    bias: np.ndarray = None  # type: ignore[assignment]
    requantization: Requantization | None = None
    pool: Pool = field(default_factory=Pool)
    table: np.ndarray | None = None
    operand: Operand | None = None
    channels: np.ndarray | None = None
    placement: Placement = field(default_factory=Placement)
    nodes: tuple = ()
    input_shape: tuple = None  # type: ignore[assignment]

    def __post_init__(self):
        bias = np.zeros(len(self.weights)) if self.bias is None else self.bias
        arrays = dict(bias=bias, channels=self.channels, table=self.table)
        for name, array in arrays.items():
            if array is not None:
                object.__setattr__(self, name, numerics.constant(array))
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if self.table is not None:
            limits = self.limits
            if limits is None or len(self.table) != limits.high - limits.low + 1:
                raise ValueError(
                    f"the table of layer {self.name!r} must have a result for each number from its "
                    "lowest to its highest result, and there must be no raw sums")

    @property
    def raw(self) -> bool:
        """Whether the output is accumulator plus bias."""
        return self.requantization is None

    @property
    def leaky(self) -> bool:
        """Whether sums below zero are requantized by numbers of their own."""
        return self.requantization is not None and self.requantization.below is not None

    @property
    def function(self) -> Literal["table", "leaky"] | None:
        """The nonlinear function of its results: "table", or "leaky" (factors of their own below
        zero)."""
        return "table" if self.table is not None else "leaky" if self.leaky else None

    @property
    def limits(self) -> Limits | None:
        """Limits of the last rounding: the operand's where there is one, else those of
        requantization; None for raw sums."""
        return self.operand or self.requantization

    @property
    def inputs(self) -> int:
        """Channels that are read."""
        return self.weights.shape[1] * self.geometry.groups

    @property
    def dense(self) -> bool:
        """Whether the kernel is the whole map, so that there is one result a channel."""
        return tuple(self.weights.shape[2:]) == tuple(self.input_shape[1:]) and not any(
            self.geometry.pads)

    @property
    def depthwise(self) -> bool:
        """Whether each channel, be it the only one, has a kernel of its own."""
        return self.geometry.groups == self.inputs == len(self.weights)

    def on_chip(self, arch: Arch) -> "Conv":
        """This layer with biases as the chip holds them."""
        if self.requantization is None:
            return self
        units = arch.addend_unit, arch.offset_unit(
            self.operand is not None and not self.requantization.late)
        known, there = self.__dict__.get("_there", (None, self))
        if known != units:                      # asked for several times with the same
            bias, held = self.requantization.held(self.bias, *units)
            there = self if held is self.requantization else replace(self, bias=bias,
                                                                     requantization=held)
            if there is not self:
                self.__dict__["_there"] = units, there
        return there

    def reading_all(self) -> "Conv":
        """This layer with weights for all channels of the input: `Weights.absent` for those that
        are not read."""
        if self.channels is None:
            return self
        fill = self.weights.absent
        return replace(
            self, weights=self.weights.dense(self.geometry.groups, fill).reading(
                self.channels, self.input_shape[0], fill),
            geometry=replace(self.geometry, groups=1), channels=None)

    def target(self, array: np.ndarray) -> np.ndarray:
        """The view of `array` [..., C, H, W], laid out as the output, that this layer writes."""
        return self.placement.target(array, self.output_shape)

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the convolution's result, before pooling."""
        return (len(self.weights),
                *self.geometry.sizes(self.input_shape[1:], self.weights.shape[2:]))

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the results."""
        channels, *sizes = self.conv_shape
        return (channels, *self.pool.out(sizes))

    @property
    def macs(self) -> int:
        """Products per image, those with padding included."""
        _, height, width = self.conv_shape
        return prod(self.weights.shape) * height * width

    def sum_range(self, input_format: Format) -> tuple[int, int]:
        """(smallest, largest) accumulator value that any input can lead to, at any time: the
        bounds hold for the sum of every subset of the products, of a whole window where sums are
        pooled."""
        low, high = self.weights.sum_ranges(input_format)
        return self.pool.summed * min(low), self.pool.summed * max(high)

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

        With `arch`, saturating or rounded pass by pass if that chip's accumulators are narrowed or
        floats.
        """
        geometry, weights = self.geometry, self.weights
        pad_image = 0 if geometry.pad_code is None else int(input_format.image(geometry.pad_code))
        # Groups of binary layers run on chips only where nothing saturates.
        narrowed = arch is not None and not arch.exact_sums and (
            (geometry.groups == 1 and self.channels is None) or weights.format.has_zero)
        if self.channels is not None and not narrowed:
            codes = codes[:, self.channels]
        images = numerics.images_of(input_format, codes)
        if arch is None or not narrowed:
            return reduce(np.add, (geometry.convolve(part, factors, pad) for part, factors, pad in
                                   weights.product_parts(input_format, images, pad_image)))
        whole = self.reading_all()
        weights = whole.weights.dense(whole.geometry.groups)
        return geometry.saturating_convolve(images, weights.images, arch.accumulator, arch.vector,
                                            pad_image)

    def run(self, codes: np.ndarray, input_format: Format, output_format: Format | None,
            arch: Arch | None = None, operand: np.ndarray | None = None,
            operand_format: Format | None = None) -> np.ndarray:
        """Codes [N, O, H, W] (int64) of the output from codes of the input and of the operand.

        Parameters
        ----------
        codes : int64 array [N, C, H, W]
        input_format, output_format : Format
            None for the output of a raw layer, which is sums: int64, or Python integers where those
            do not fit.
        arch : Arch or None
            As of `accumulate`.
        operand : int64 array [N, O, H, W] or [N, O, 1, 1], or None
            Codes of `operand_format`, needed where the layer has an operand.
        """
        # A few images at a time, so that intermediate arrays stay in the caches.
        step = max(1, _CACHED // int(np.prod(self.conv_shape)))
        parts = []
        for start in range(0, len(codes), step):
            some = slice(start, start + step)
            sums = self.accumulate(codes[some], input_format, arch)
            if self.requantization is None:
                parts.append(numerics.add_bias(sums, self.bias))
                continue
            assert output_format is not None, "only raw layers write tensors without a format"
            if self.operand is None:
                results = self._results(sums, self.requantization, output_format)
            else:
                assert operand is not None, "a layer with an operand needs its codes"
                signs = output_format.binary            # of what would be integers
                form = _INTEGERS if signs else output_format
                results = self._looked_up(self.operand.results(
                    self._results(sums, self.requantization, form), operand[some], form,
                    operand_format, self.requantization))
                results = (results >= 0).astype(np.int64) if signs else results
            parts.append(output_format.from_ordered(results))
        return np.concatenate(parts) if parts else np.zeros((0, *self.output_shape), np.int64)

    def _results(self, sums, requantization, format):
        """Ordered integers after pooling, before the operand; requantization is the layer's."""
        # Where every step of requantization is monotone, pooling sums instead of results is the
        # same and less work.
        early = self.pool.sum or (self.table is None and requantization.monotone)
        if self.pool.sum:
            sums = self.pool.sums(sums)
        elif early:
            sums = self.pool.extremes(sums)
        results = requantization.results(numerics.add_bias(sums, self.bias), format)
        if self.operand is None:
            results = self._looked_up(results)
        return results if early else self.pool.extremes(results)

    def _looked_up(self, results):
        """What the table has for ordered integers; without a table these."""
        if self.table is None or self.limits is None:
            return results
        return self.table[results - self.limits.low]

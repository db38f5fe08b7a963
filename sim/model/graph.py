"""The quantized network as plain data; running it is the golden model.

A `Graph` is a list of `Conv` layers (dense layers among them) that read and write named `Tensor`s
of codes. `Graph.run` computes every tensor bit for bit as the chip does.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from systolith.hw.formats import Format
from systolith.hw.spec.arch import Arch

from . import numerics
from .edges import Decoder, Encoder

if TYPE_CHECKING:                                # onnx, which it imports, takes long to load
    from .tail import HostPart

__all__ = ["Conv", "Decoder", "Encoder", "Graph", "Operand", "Tensor"]


#: Elements of a layer's result that are computed at a time.
_CACHED = 1 << 17


@dataclass
class Tensor:
    """A feature map of one image.

    Attributes
    ----------
    name : str
    shape : (channels, height, width)
    format : Format or None
        Number format of the codes; None: raw integers (accumulator plus bias).
    scale : float or array [channels]
        real = scale * (decode(code) - zero_point) + offset; an array for raw tensors only.
    zero_point : int
        What stands for 0, in units of the decoded code; integer formats only.
    offset : float or array [channels]
        Added on the host, raw tensors only.
    """
    name: str
    shape: tuple
    format: Format | None
    scale: float | np.ndarray = 1.0
    zero_point: int = 0
    offset: float | np.ndarray = 0.0

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Exact values (float64) of codes [N, C, H, W], scale and zero point left out."""
        if self.format is None:
            return np.asarray(codes).astype(np.float64)
        images = numerics.images_of(self.format, codes).astype(np.float64)
        return np.ldexp(images, self.format.exponent)

    def real(self, codes: np.ndarray) -> np.ndarray:
        """The numbers (float64) that codes [N, C, H, W] stand for."""
        scale, offset = (np.reshape(item, (-1, 1, 1)) for item in (self.scale, self.offset))
        return (self.decode(codes) - self.zero_point) * scale + offset


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


@dataclass
class Graph:
    """A quantized network.

    Attributes
    ----------
    name : str
    inputs : list of Tensor
        What the host fills.
    tensors : dict of str to Tensor
        All tensors, the inputs among them.
    layers : list of Conv
        In topological order.
    outputs : list of str
        Names of the tensors that the host reads.
    encoders : list of Encoder
        One for each of `inputs`. None: the input takes real numbers [N, C, H, W].
    decoders : list of Decoder
        One for each ONNX output. None: every output gives real numbers [N, C, H, W].
    head : HostPart or None
        What the host computes before the chip: encoders then take tensors that it gives, too.
    tail : HostPart or None
        What the host computes from outputs; decoders then give tensors that it reads, too.
    origins : dict
        {tensor: what of the model it holds}, filled in by the importer.
    notes : list
        How results may differ from the model's by more than at ties, filled in by the importer (as
        of `gen/importer/notes.py`).
    digits : dict
        {tensor that is a digit of a sum: which (`gen/importer/notes.py`)}, filled in by the
        importer.
    """
    name: str
    inputs: list
    tensors: dict
    layers: list
    outputs: list
    encoders: list[Encoder] = None  # type: ignore[assignment]
    decoders: list[Decoder] = None  # type: ignore[assignment]
    tail: "HostPart | None" = None
    head: "HostPart | None" = None
    origins: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    digits: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.encoders is None:
            self.encoders = [Encoder(item.name, item.shape, item.name) for item in self.inputs]
        if self.decoders is None:
            self.decoders = [Decoder(name, self.tensors[name].shape, name)
                             for name in self.outputs]
        written = {item.name: None for item in self.inputs}
        for layer in self.layers:
            if layer.input not in written:
                raise ValueError(f"layer {layer.name!r} reads {layer.input!r} before anything "
                                 "writes it")
            layer.input_shape = tuple(self.tensors[layer.input].shape)
            self._check_input(layer, written[layer.input])
            if min(layer.output_shape) < 1:
                raise ValueError(f"layer {layer.name!r} leaves no output pixel: its result would "
                                 f"be {layer.output_shape}")
            if layer.operand is not None:
                self._check_operand(layer, written)
            written[layer.output] = self._write(layer, written)
        for name, done in written.items():
            if done is not None and not done.all():
                raise ValueError(f"nothing writes channel, row and column "
                                 f"{np.argwhere(~done)[0].tolist()} of {name!r}")

    def _check_input(self, layer, written):
        """Check that a layer's input is written; `written` says which of its elements are, None:
        all."""
        count = layer.input_shape[0]
        channels = np.arange(count) if layer.channels is None else layer.channels
        if layer.inputs != len(channels):
            raise ValueError(f"layer {layer.name!r} has weights for {layer.inputs} channels, and "
                             f"its input has {len(channels)}")
        if len(set(channels.tolist())) < len(channels) or not 0 <= channels.min() <= (
                channels.max()) < count:
            raise ValueError(f"layer {layer.name!r} must read different ones of the {count} "
                             f"channels of {layer.input!r}, not {channels.tolist()}")
        if written is not None and not written[channels].all():
            raise ValueError(f"layer {layer.name!r} reads {layer.input!r} before anything "
                             "writes it")

    def _write(self, layer, written):
        """Which elements of the layer's output are written once it is done; None: all. `written`
        says so for all tensors that there are."""
        shape = tuple(self.tensors[layer.output].shape)
        if sum(other.output == layer.output for other in self.layers) == 1:
            whole = layer.first_channel == 0 and layer.step == (1, 1) and layer.origin == (0, 0)
            if not whole or shape != layer.output_shape:
                raise ValueError(f"tensor {layer.output!r} must have the shape "
                                 f"{layer.output_shape}, not {shape}")
            return None
        written = written[layer.output] if layer.output in written else np.zeros(shape, bool)
        if written is not None and layer.target(written).shape != layer.output_shape:
            raise ValueError(f"the results of layer {layer.name!r}, {layer.output_shape} with "
                             f"step {layer.step} from channel {layer.first_channel} and pixel "
                             f"{layer.origin}, do not fit {layer.output!r} of shape {shape}")
        if written is None or layer.target(written).any():
            raise ValueError(f"layer {layer.name!r} writes what another layer has written to "
                             f"{layer.output!r}")
        layer.target(written)[...] = True
        return written

    def _check_operand(self, layer, written):
        name = layer.operand.tensor
        if name not in written or (written[name] is not None and not written[name].all()):
            raise ValueError(f"layer {layer.name!r} has the operand {name!r} before anything "
                             "writes it")
        shape, allowed = tuple(self.tensors[name].shape), layer.output_shape
        if shape not in (allowed, (allowed[0], 1, 1)):
            raise ValueError(f"the operand {name!r} of layer {layer.name!r} must have the shape "
                             f"{allowed} or {(allowed[0], 1, 1)}, not {shape}")
        form, own = self.tensors[layer.output].format, self.tensors[name].format
        if layer.raw or form.binary or own is None or (
                own != form and not (own.binary or own.uniform)):
            raise ValueError(f"layer {layer.name!r} and its operand {name!r} must be of one format "
                             "or the operand of integers or signs, the result no sign, and neither "
                             "raw")

    @property
    def macs(self) -> int:
        """Products per image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def input_shapes(self) -> dict[str, tuple]:
        """{ONNX input: its shape without the batch dimension}, of those that are needed."""
        made = self.head.outputs if self.head else ()
        shapes = {item.name: tuple(item.shape) for item in self.encoders if item.name not in made}
        for part in (self.head, self.tail):
            shapes = {**(part.shapes if part else {}), **shapes}
        return shapes

    def host_work(self) -> dict[str, dict]:
        """{"before" or "after": what the host computes there, as of `HostPart.work`}"""
        parts = {"before": self.head, "after": self.tail}
        return {where: part.work for where, part in parts.items() if part is not None}

    def _named(self, values):
        """{ONNX input: array} from the array or dict that the user gives."""
        names = list(self.input_shapes)
        if not isinstance(values, dict):
            if len(names) != 1:
                raise ValueError(f"the network has {len(names)} inputs, {', '.join(names)}: give "
                                 "a dict of arrays")
            values = {names[0]: values}
        if set(values) != set(names):
            raise ValueError(f"inputs must be {', '.join(names)}, not {', '.join(values)}")
        return values

    def encode_inputs(self, values):
        """Codes [N, C, H, W] (int64) for the network's input from numbers in the ONNX layout.

        `values` is a float32 array (N, ...) as the ONNX input takes it, or, for several inputs, a
        dict of ONNX name to array. Returns an array, or for several inputs a dict of tensor name
        to codes. ValueError for a wrong shape, a missing input, NaN and infinities.
        """
        values = self._named(values)
        given = values | self.head.apply(values) if self.head else values
        codes = {item.tensor: item.encode(given[item.name], self.tensors[item.tensor])
                 for item in self.encoders}
        if len({len(item) for item in codes.values()}) != 1:
            raise ValueError("all inputs must have the same number of images, not "
                             + ", ".join(str(len(item)) for item in values.values()))
        return codes if len(self.inputs) > 1 else codes[self.inputs[0].name]

    def decode_outputs(self, codes, inputs=None):
        """Arrays in the ONNX outputs' layout and units, float32 but for what the host counts.

        `codes` is what `run` returns, or the codes of the only output tensor. `inputs`, as of
        `encode_inputs`, is needed where the host's end of the network reads some of them. Returns
        an array, or for several outputs a dict of ONNX name to array; a list of arrays, one for
        each image, where sizes differ.
        """
        if not isinstance(codes, dict):
            if len(set(self.outputs)) != 1:
                raise ValueError(f"the network has the outputs {', '.join(self.outputs)}: give a "
                                 "dict of codes")
            codes = {self.outputs[0]: codes}
        values = {item.name: item.decode(codes[item.tensor], self.tensors[item.tensor])
                  for item in self.decoders}
        if self.tail is not None:
            if self.tail.given:
                if inputs is None:
                    raise ValueError(f"the outputs depend on {', '.join(self.tail.given)}: give "
                                     "the inputs, too")
                values |= self._named(inputs)
            values = self.tail.apply(values)
        return values if len(values) > 1 else next(iter(values.values()))

    def run(self, codes, arch=None):
        """Codes of every tensor, {name: [N, C, H, W]}, from the codes of the input.

        `codes` is what `encode_inputs` returns. With `arch`, accumulators saturate pass by pass
        and biases are rounded as that chip's; without, biases have MULTIPLIER_BITS fraction bits,
        and sums are exact, as they are on a chip whose accumulators are.
        Raw tensors hold int64, or Python integers where those do not fit.
        """
        if not isinstance(codes, dict):
            codes = {self.inputs[0].name: codes}
        result = {}
        for item in self.inputs:
            array = np.asarray(codes[item.name])
            if array.ndim != 4 or array.shape[1:] != tuple(item.shape):
                raise ValueError(f"codes of {item.name!r} must have the shape (N, "
                                 f"{', '.join(map(str, item.shape))}), not {array.shape}")
            result[item.name] = array.astype(np.int64)
        for layer in self.layers:
            layer = layer if arch is None else layer.on_chip(arch)
            part = layer.run(result[layer.input], self.tensors[layer.input].format,
                             self.tensors[layer.output].format, arch,
                             *(() if layer.operand is None else (
                                 result[layer.operand.tensor],
                                 self.tensors[layer.operand.tensor].format)))
            shape = (len(part), *self.tensors[layer.output].shape)
            if part.shape == shape:
                result[layer.output] = part
                continue
            if layer.output not in result:
                result[layer.output] = np.zeros(shape, part.dtype)
            layer.target(result[layer.output])[...] = part
        return result

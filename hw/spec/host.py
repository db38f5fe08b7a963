"""What a program says to the host, and to whoever checks or reports it: inputs and outputs, where
feature maps lie, and each layer as the network and as the array have it.

`Program.host` is a `Host`; `to_json` and `from_json` of `records.Record` are its schema. Shapes
are (channels, height, width) where nothing else is said, pairs are (y, x), offsets are bytes from
the start of the program's window.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .records import OPTIONAL, Record

__all__ = ["Above", "ArrayView", "Axis", "Box", "Host", "Input", "Layer", "Operand", "Output",
           "Section", "Taps", "TensorPlace", "Windows"]

Pair = tuple[int, int]
Shape = tuple[int, int, int]
#: (top, left, bottom, right)
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class Windows(Record):
    """Rows of bytes of which LOAD makes the words of a map, of a byte a code: word n of a row
    begins n // 2 * (steps[0] + steps[1]) + n % 2 * steps[0] bytes after the row.

    Attributes
    ----------
    steps : (after even words, after odd words)
    row_bytes : int
        Whole beats.
    """
    steps: Pair
    row_bytes: int


@dataclass(frozen=True)
class Taps(Record):
    """How kernel taps become channels of an image's map, which the host writes.

    Channel (ky * nx + kx) * C + c at (y, x), with (ny, nx) = `taps`, is channel c of the C of the
    image at (y * step - pad + k * dilation) along each axis.

    With `windows` the host writes rows of bytes instead: byte (n * ny + ky) * C + c of row y is
    channel c at (y * step_y - pad_y + ky * dilation_y, n - pad_x).

    Attributes
    ----------
    taps, dilation, step, pads : (y, x)
        `pads` at the top and on the left alone.
    fill : int
        The code outside of the image.
    replicate : bool
        There the nearest pixel instead.
    planes : int or None
        So many bits of each code become maps of their own, one after the other.
    shape : (channels, height, width)
        Of the map, planes included.
    windows : Windows or None
    plane_lanes : int or None
        The planes lie beside each other, each in so many lanes; None: in blocks of channels of
        their own.
    """
    taps: Pair
    dilation: Pair
    step: Pair
    pads: Pair
    fill: int
    replicate: bool
    planes: int | None
    shape: Shape
    windows: Windows | None = field(default=None, metadata=OPTIONAL)
    plane_lanes: int | None = field(default=None, metadata=OPTIONAL)

    def channels(self, image: int) -> int:
        """Lanes of the map, or of each of its planes, that hold something where the image has so
        many channels; of all planes where these lie beside each other."""
        if self.windows is not None:
            return self.shape[0]
        lanes = self.taps[0] * self.taps[1] * image
        if self.planes and self.plane_lanes:
            return (self.planes - 1) * self.plane_lanes + lanes
        return lanes


@dataclass(frozen=True)
class Input(Record):
    """An input of the network, in the order [block][y][x] of activation words.

    Attributes
    ----------
    offset, bytes : int
        Of the map of the first round's images.
    word_bytes : int
        Of an activation word there: what its lanes without channel would take is not stored.
    stride : int
        Bytes from there to the map of the next round; 0 where there is one round.
    words : int
    shape : (channels, height, width)
        Of an image's codes as the host has them.
    map : (channels, height, width)
        Of a round's map as it lies in memory.
    taps : Taps or None
        How the map is made of the codes.
    note : str or None
        The same in a sentence.
    """
    name: str
    offset: int
    bytes: int
    stride: int
    words: int
    word_bytes: int
    shape: Shape
    map: Shape
    layout: Literal["activation"]
    taps: Taps | None
    note: str | None


@dataclass(frozen=True)
class Output(Record):
    """An output of the network; all as of `Input`, but for:

    Attributes
    ----------
    channels : tuple of int or None
        Which channels of the map those of `shape` are; None: the first ones.
    layout : str
        "activation": [block][y][x] of activation words; "raw": [column block][group][pixel][chunk]
        [lane] of sums.
    """
    name: str
    offset: int
    bytes: int
    stride: int
    map: Shape
    shape: Shape
    channels: tuple[int, ...] | None
    layout: Literal["activation", "raw"]


@dataclass(frozen=True)
class TensorPlace(Record):
    """Where a feature map lies.

    Attributes
    ----------
    shape : (channels, height, width)
        Of a round's map there.
    raw : bool
        It holds sums.
    signs : bool
        It holds signs, many in a code.
    channels : tuple of int or None
        As of `Output`.
    chip, operand : int or None
        First word in the activation memory, and in the operand memory.
    lives, operand_lives : (first, last) or ()
        Layers while which it is there.
    external : int or None
        Offset in external memory, in a `section`, with `bytes`, `word_bytes` and `stride` as of
        `Input`; where it holds sums, a word is a group's.
    windows : Windows or None
        Of an input of which LOAD makes windows.
    """
    shape: Shape
    raw: bool
    signs: bool
    channels: tuple[int, ...] | None
    chip: int | None
    lives: tuple[int, ...]
    operand: int | None
    operand_lives: tuple[int, ...]
    external: int | None
    stride: int
    section: str | None
    bytes: int
    word_bytes: int
    windows: Windows | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Operand(Record):
    """The tensor that a layer's results are combined with."""
    tensor: str
    operation: Literal["sum", "product"]


@dataclass(frozen=True)
class Axis(Record):
    """One axis of a layer's image: `size` input positions, `pixels` results before pooling, `out`
    after it. Windows of `pool` pixels stand `step` apart, the first at -`margin`."""
    size: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    pool: int
    out: int
    step: int
    margin: int
    pixels: int


@dataclass(frozen=True)
class Above(Record):
    """How taps lie where activations come from the top: `taps` (y, x) of a pass, rows of `results`
    that a run of words begins, and rows of the map in each column of pixels (`step`)."""
    taps: Pair
    results: int
    step: int


class Box(NamedTuple):
    """Passes of a layer, in the order kernel row, kernel column, block: the first of each and how
    many."""
    y: int
    rows: int
    x: int
    columns: int
    block: int
    blocks: int

    @property
    def passes(self) -> int:
        return self.rows * self.columns * self.blocks


@dataclass(frozen=True)
class ArrayView(Record):
    """A layer as the array sees it, and where its constants lie.

    Attributes
    ----------
    images : int
        That it takes one after the other; `y` and `x` are those of one.
    in_order : bool
        Pixels come window by window.
    origin, step : (y, x)
        Of its output: the first pixel that it writes, and from one to the next.
    first_group, groups : int
        Groups of the output's channels that it writes.
    above : Above or None
    passes : tuple of tuples of Box
        For each column block, in their order.
    stored : tuple of tuples of int, or None
        Where the weights of each of these boxes begin, in passes, counted from the first of the
        column block; several may have the same. None: one after the other.
    stored_passes : tuple of int, or None
        Passes for which each column block has weights there; None: all.
    weights, parameters, table : int
        Offsets of the first word.
    height : int
        Rows of the array that each pass fills.
    side : int
        1 or 2: a pass has up to 2**N taps of a row of the kernel. 3: each tap has rows of its own.
    weight_bytes : tuple of int
        Of a weight word of each column block there: the columns that it has channels for.
    narrow : int or None
        As of ARRAY's field, where its weights have fewer bits than the chip's.
    weight_pool : int or None
        Offset of the first word of its pool, where its weights are in one.
    last_parameters : int or None
        Bytes of its last parameter word there, where lanes without channel are left out.
    """
    images: int
    y: Axis
    x: Axis
    in_order: bool
    origin: Pair
    step: Pair
    first_group: int
    groups: int
    above: Above | None
    passes: tuple[tuple[Box, ...], ...]
    weights: int
    parameters: int
    table: int
    weight_bytes: tuple[int, ...]
    height: int
    side: int
    stored: tuple[tuple[int, ...], ...] | None = field(default=None, metadata=OPTIONAL)
    stored_passes: tuple[int, ...] | None = field(default=None, metadata=OPTIONAL)
    narrow: int | None = field(default=None, metadata=OPTIONAL)
    weight_pool: int | None = field(default=None, metadata=OPTIONAL)
    last_parameters: int | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Layer(Record):
    """One layer; its counts are those of the whole program, its shapes those of an image.

    Attributes
    ----------
    nodes : tuple of str
        Names of the ONNX nodes that it came from.
    kind : str
        "dense" where the kernel covers the map.
    macs : int
        Multiply-accumulates.
    pool, pool_stride, pool_pads, pool_sum
        Pooling windows of its results; sums instead of maxima.
    raw : bool
        Its results are sums.
    passes : int
        Fillings of the array with weights, and `array_cycles` of all; `ideal_cycles` are `macs`
        divided by the array's size.
    accumulator_bits : int
        That hold every sum which the layer's weights can make.
    tiles, parts, input_buffers, loop_order, column_group
        How it is cut, see `gen/compile/plan.py`.
    channels : tuple of int or None
        Of its input, that it reads; None: all.
    function : str or None
        Of its results: "table", or "leaky" (another factor below zero).
    array : ArrayView
    """
    name: str
    nodes: tuple[str, ...]
    kind: Literal["conv", "dense"]
    macs: int
    input: str
    output: str
    input_shape: Shape
    output_shape: Shape
    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: Sides
    pool: Pair
    pool_stride: Pair
    pool_pads: Sides
    pool_sum: bool
    raw: bool
    weight_bits: int
    passes: int
    array_cycles: int
    ideal_cycles: int
    accumulator_bits: int
    tiles: int
    parts: int
    input_buffers: int
    loop_order: Literal["columns", "tiles"]
    column_group: int
    channels: tuple[int, ...] | None
    operand: Operand | None
    function: Literal["table", "leaky"] | None
    array: ArrayView


@dataclass(frozen=True)
class Section(Record):
    """A section of the window."""
    section: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class Host(Record):
    """All of it. A program that is no network's has the default one.

    Attributes
    ----------
    batch : int
        Images that a run computes, in `rounds` of so many that are `together`: their maps lie one
        under the other, as one map of so many times the rows.
    inputs, outputs : tuple of Input, of Output
    tensors : dict of str to TensorPlace
    input_offset, input_bytes, output_offset, output_bytes : int
        The sections of all inputs and of all outputs.
    layers : tuple of Layer
        By the number that instructions call them.
    macs : int
        Of an image.
    memory : tuple of Section
        In ascending order.
    peak, depth : dict of str to int
        Words used of each memory on the chip, and there, by names such as "weight_words".
    """
    network: str = ""
    batch: int = 1
    together: int = 1
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    tensors: dict[str, TensorPlace] = field(default_factory=dict)
    input_offset: int = 0
    input_bytes: int = 0
    output_offset: int = 0
    output_bytes: int = 0
    layers: tuple[Layer, ...] = ()
    macs: int = 0
    memory: tuple[Section, ...] = ()
    peak: dict[str, int] = field(default_factory=dict)
    depth: dict[str, int] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """Rounds of a run, each of `together` images."""
        return self.batch // self.together

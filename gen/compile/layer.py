"""One layer as the array sees it: its axes, its passes and what they cost."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Box
from systolith.hw.spec.narrow import pool_of, width_of, words_of_rows
from systolith.hw.spec.near import near_rows
from systolith.hw.spec.timing import pass_cycles
from systolith.sim.model.conv import Conv
from systolith.sim.model.weights import Weights

from .axis import Axis
from .boxes import Rectangle, boxes, runs_of
from .few_weights import fewest_words, pool_codes
from .from_above import FromAbove, plan_from_above
from .limits import LIMITS, POST
from .stored_weights import StoredWeights

__all__ = ["MOST_ADDENDS", "Layer", "made_twice"]

#: Weights of the chip of which one weight of a layer may be the sum.
MOST_ADDENDS = 3
#: The most rows and columns of a kernel whose taps have rows of their own in one pass.
_TAPS = 4, 4
#: Cycles of an instruction whose weights are all -1: as many passes have words of their own.
_CONSTANT_CYCLES = 64
#: Rows of the array that hold a bit plane each where a layer is `weighed`.
_ROWS = 8


def made_twice(conv: Conv, idle: int) -> bool:
    """Whether each pass of a layer is made twice (`Layer.pairs`) where no channel fills `idle`
    lanes of its input's words."""
    geometry = conv.geometry
    odd = idle % 2 and any(geometry.pads) and not (geometry.replicate or geometry.pad_code == 0)
    return not conv.weights.format.has_zero and bool(geometry.groups > 1 or odd)


@dataclass
class Layer:
    """A convolution as the array sees it.

    Attributes
    ----------
    index : int
        Of the layer in the network.
    conv : Conv
        With the input shape that lies in memory: taps that the host writes as channels are
        channels here.
    arch : Arch
    images : int
        Images that the layer computes one after the other, each with padding of its own; their maps
        lie one below the other. All properties are those of one image.
    planes : int
        The blocks of the input are so many bit planes of as many blocks each, most significant
        first: sums are doubled from one plane to the next. `conv.geometry.pad_code` then has one
        bit for each plane. 1: the input is no bit planes.
    idle : int
        Lanes of each plane that no channel fills.
    weighed : bool
        The array's first eight rows hold a bit plane of its input each.
    input_bytes : int or None
        Of a word of the input where it lies in external memory; None: of a whole word.
    whole_rows : bool
        Rows of its input are loaded as a whole.
    to_signs : bool
        Its results are signs, many in a code, or halves of codes.
    side : int
        N > 0: the words of its input hold all channels 2**N times, and as many parts of the array's
        rows each compute another tap of a row of the kernel (`gen/compile/side_by_side.py`).
    spread : int
        N > 0: the words of its output hold all channels 2**N times, as far as columns go.
    part : int
        N > 0: each tap of the kernel has N times `arch.height_unit` rows of the array, which see
        its pixel; as many taps as have room are one pass (`gen/compile/own_rows.py`). N is a power
        of two.
    copies : int
        N > 0: its channels are written in every N times `arch.height_unit` rows' part of the words
        of its output.
    halves : bool
        It reads halves of codes. Its weights are those of the network times 2**half.
    """
    index: int
    conv: Conv
    arch: Arch
    images: int = 1
    planes: int = 1
    idle: int = 0
    input_bytes: int | None = None
    whole_rows: bool = False
    to_signs: bool = False
    side: int = 0
    spread: int = 0
    part: int = 0
    copies: int = 0
    halves: bool = False
    weighed: bool = False

    @property
    def beside(self) -> int:
        """Taps of a kernel's row in a pass, one in each of the first parts of the array's rows."""
        return min(1 << self.side, self.x.kernel)

    @property
    def places(self) -> list[int]:
        """The first column of each copy of its channels."""
        return [part * (self.arch.vector >> self.spread) for part in range(1 << self.spread)]

    @property
    def signs(self) -> bool:
        """Whether it reads signs, many in a code, or halves of codes, and its weights are such,
        too."""
        return self.halves or (self.arch.packed_signs and self.conv.weights.format.binary)

    @property
    def plain_signs(self) -> bool:
        """Whether its results are signs of its sums, for which nothing is rounded."""
        return self.to_signs and self.arch.packed_signs and self.conv.operand is None

    @property
    def vector(self) -> int:
        """Channels in a word of its input."""
        return self.arch.vector * (self.arch.code_signs if self.signs else 1)

    @property
    def slots(self) -> int:
        """Groups of channels in a word of its output."""
        return self.arch.slots if self.to_signs else self.arch.groups_per_word

    @property
    def pairs(self) -> bool:
        """Whether each pass is made twice, with weights that differ where a weight should be 0 and
        agree elsewhere: binary weights of grouped convolutions, which have no 0 for the channels of
        other groups, and of an odd number of idle lanes, where padding adds other sums than they
        do. All sums are then twice those of the layer, and idle lanes cancel."""
        idle = 0 if self.planes > 1 or self.conv.raw else (
            self.blocks * self.vector - self.conv.inputs)
        return made_twice(self.conv, idle)

    @property
    def doubled(self) -> bool:
        """Whether the sums that its results are made of are twice those of the layer; signs are the
        same of both."""
        return self.pairs and not (self.arch.activation.binary or self.plain_signs)

    @cached_property
    def addends(self) -> list[Weights]:
        """Weights of the chip's range whose sum is the layer's weights (see also `wide`): these
        alone, but where they are integers of more bits. More than MOST_ADDENDS: `check_layer`
        refuses the layer."""
        if self.signs or self.arch.weight.block_scale or self.in_planes:
            return [self.conv.weights]
        form = self.arch.weight
        assert not isinstance(form, str)
        found = self.conv.weights.addends(form, MOST_ADDENDS)
        if len(found) > 1 and self.arch.wide_weights:
            return self.conv.weights.halves(form) or found
        return found

    @cached_property
    def wide(self) -> bool:
        """Whether its weights are two of the chip's, of which the second, as passes of turn 1,
        counts 2**bits times."""
        return len(self.addends) == 2 and self.arch.wide_weights and bool(
            self.conv.weights.halves(self.arch.weight))

    @property
    def bands(self) -> int:
        """Bit planes of its input among the channels that it reads; 1: these are none."""
        return _ROWS if self.weighed else self.planes

    @property
    def in_planes(self) -> bool:
        """Whether its weights have several bits and the chip's one: each of their planes of bits is
        a turn of passes, see `Weights.planes`."""
        own = self.conv.weights.format
        return self.arch.weight.binary and (own.uniform or (own.binary and own.width > 1))

    @cached_property
    def weight_shifts(self) -> tuple[int, ...]:
        """The n of `Weights.planes` where its weights are in planes; else (0,)."""
        return tuple(n for n, _ in self.conv.weights.planes) if self.in_planes else (0,)

    @property
    def plane_sum(self) -> int:
        """What a product is with signs of +1 alone in all planes of weights; 1 without planes."""
        return sum(1 << n for n in self.weight_shifts)

    @cached_property
    def addend_passes(self) -> list[np.ndarray]:
        """For each addend but the first, a bool array [column block, kernel row, kernel column,
        block]: whether it needs that pass."""
        arch, found = self.arch, []
        for weights in self.addends[1:]:
            made = weights.dense(self.conv.geometry.groups).passes(arch.columns, arch.vector)
            for block, (first, end) in enumerate(self.spans):
                mine = made[block, :, :, first:end]
                # Where most passes are needed, or activations come from the top, all are made.
                if mine.any() and (self.from_above or mine.mean() > 0.5):
                    mine[...] = True
            found.append(made)
        return found

    @property
    def title(self) -> str:
        """The layer in messages: its name and its ONNX nodes."""
        nodes = ", ".join(map(str, self.conv.nodes))
        return f"layer {self.conv.name!r}" + (f" (ONNX nodes {nodes})" if nodes else "")

    def _axis(self, n):
        conv, geometry, pool = self.conv, self.conv.geometry, self.conv.pool
        assert conv.input_shape is not None, "a Graph says it"
        return Axis(conv.input_shape[1 + n], conv.weights.shape[2 + n], geometry.stride[n],
                    geometry.dilation[n], geometry.pads[n], pool.size[n], conv.output_shape[1 + n],
                    pool.stride[n], pool.pads[n], conv.conv_shape[1 + n])

    @cached_property
    def y(self) -> Axis:
        return self._axis(0)

    @cached_property
    def x(self) -> Axis:
        return self._axis(1)

    @property
    def blocks(self) -> int:
        """Blocks of input channels: activation words of one input pixel."""
        return -(-self.conv.inputs // self.vector)

    @cached_property
    def height(self) -> int:
        """Weight words of each pass: rows of the array that it fills, those of the channels, where
        the lanes of others cancel or have the weight 0; all of them and the word of scales where
        weights are in blocks."""
        arch = self.arch
        if self.part:
            return self.part * arch.height_unit
        if self.side:
            before = (self.beside - 1) * (arch.vector >> self.side)
            return arch.height_of(before + self.conv.inputs)
        if self.from_above:
            return arch.height_of(self.from_above.last_row(self) + 1)
        if self.blocks > self.planes or self.signs or (arch.depthwise and self.conv.depthwise):
            return arch.fill
        return arch.height_of(arch.vector - self.idle if self.planes > 1 else self.conv.inputs)

    @cached_property
    def first_fill(self) -> int:
        """Rows of the array that the first pass of an instruction fills, with idle weights beyond
        `height`."""
        arch = self.arch
        if self.side or self.from_above or self.height == arch.fill:
            return arch.fill
        return next((near for near in near_rows(arch) if self.height <= near), arch.fill)

    @cached_property
    def same_taps(self) -> bool:
        """Whether the weights of a block of input channels are stored once for all taps of the
        kernel, which have the same ones, as those of a mean: where a tap's words take much longer
        on the bus than in the array, as each tap then needs an instruction."""
        arch, conv = self.arch, self.conv
        if (conv.weights.shape[2:] == (1, 1) or self.side or self.part or self.from_above
                or self.in_planes or self.planes > 1 or self.pairs or len(self.addends) > 1
                or arch.weight.block_scale or self.narrow):
            return False
        beats = self.pass_words * self.stored.word_bytes(self.column_blocks - 1) // arch.beat_bytes
        cycles = max(self.pass_cycles(self.pixels(self.y.out, self.x.out)),
                     arch.instruction_bytes // arch.beat_bytes)
        return beats > 2 * cycles and conv.weights.same_taps

    @cached_property
    def narrow(self) -> int:
        """Which of the chip's narrower widths, or pools, the weights have in memory, as of ARRAY's
        field `narrow`: the one with the fewest words that holds them all; 0: the chip's own."""
        arch = self.arch
        if self.signs or len(self.addends) > 1 or not arch.code_widths or self.part:
            return 0
        return fewest_words(self.conv.weights, arch, self.height, self.index)

    @property
    def weight_pool(self) -> np.ndarray | None:
        """The chip's codes of the pool that its weights are numbers in, as many as the pool has;
        None: they are in none."""
        if pool_of(self.narrow, self.arch) is None:
            return None
        codes = pool_codes(self.conv.weights, self.arch)
        return np.pad(codes, (0, (1 << width_of(self.narrow, self.arch)) - len(codes)))

    @cached_property
    def pass_words(self) -> int:
        """Weight words of each pass."""
        return words_of_rows(self.height, self.narrow, self.arch)

    @property
    def channels(self) -> int:
        """Output channels."""
        return len(self.conv.weights)

    @property
    def column_blocks(self) -> int:
        """Blocks of output channels that the array computes together."""
        return -(-self.channels // self.arch.columns)

    @property
    def kernel(self) -> Box:
        """The box of all passes."""
        return Box(0, self.y.kernel, 0, self.x.kernel, 0, self.blocks)

    @cached_property
    def from_above(self) -> FromAbove | None:
        """How activations come from the top of the array; None: they come from the left."""
        return plan_from_above(self)

    @property
    def taps(self) -> int:
        """Passes for one block of input channels."""
        if self.from_above:
            return self.from_above.passes[0] * self.from_above.passes[1]
        return self.y.kernel * -(-self.x.kernel // self.beside)

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """[(first, end)] for each column block: the blocks of input channels for which it has
        weights other than 0, at least one. Passes for other blocks would add nothing and are not
        made: those of other groups, and those at which a network's own weights are 0.
        """
        conv, arch = self.conv, self.arch
        groups = conv.geometry.groups
        if groups > 1:
            outputs, inputs = len(conv.weights) // groups, conv.weights.shape[1]
            first = [n * arch.columns for n in range(self.column_blocks)]
            last = [min(n + arch.columns, self.channels) - 1 for n in first]
            return [(a // outputs * inputs // self.vector,
                     -(-(b // outputs + 1) * inputs // self.vector))
                    for a, b in zip(first, last, strict=True)]
        if not conv.weights.format.has_zero or self.blocks == 1 or self.planes > 1:
            return [(0, self.blocks)] * self.column_blocks
        used = np.asarray(conv.weights.passes(arch.columns, self.vector).any(axis=(1, 2)))
        last = self.blocks - used[:, ::-1].argmax(axis=1)
        return [(int(a), int(b)) if mine.any() else (0, 1) for mine, a, b in
                zip(used, used.argmax(axis=1), last, strict=True)]

    def turns(self, box: Box, column_block: int) -> list[tuple[int, Box]]:
        """[(turn, box)]: the passes of a box that a column block needs; fewer where weights are 0.

        Each turn has weights of its own: the first (0) and the second (1) of `pairs`, the number of
        the plane of `weight_shifts`, or else of the addend. Bit planes of the input have a box
        each. With activations from the top, or taps
        side by side, rows and columns of a box are passes instead of taps, and the box is that of
        all passes."""
        first, end = self.spans[column_block]
        if self.from_above:
            down, across = self.from_above.passes
            whole = Box(0, down, 0, across, first, end - first)
            return [(0, whole), *((n, whole) for n, made in enumerate(self.addend_passes, 1)
                                  if made[column_block].any())]
        if self.side:
            return [(0, Box(0, self.y.kernel, 0, -(-self.x.kernel // self.beside), first,
                            end - first))]
        first, end = max(first, box.block), min(end, box.block + box.blocks)
        each = self.blocks // self.planes
        cut = [(max(first, n * each), min(end, (n + 1) * each)) for n in range(self.planes)]
        found = [box._replace(block=a, blocks=b - a) for a, b in cut if a < b]
        if self.pairs:
            return [(turn, item) for turn in (0, 1) for item in found]
        if self.in_planes:
            return [(turn, item) for turn in range(len(self.weight_shifts)) for item in found]
        return [*((0, item) for item in found),
                *((n, item) for n, made in enumerate(self.addend_passes, 1)
                  for item in runs_of(
                      made[column_block], box._replace(block=first, blocks=end - first)))]

    @cached_property
    def constant(self) -> int:
        """The number of the turn whose weights are all -1; 0: there is none."""
        if not self.in_planes or self.conv.weights.planes[-1][1] is not None:
            return 0
        return len(self.weight_shifts) - 1

    @property
    def constant_passes(self) -> int:
        """Passes for which a column block has words of -1, each the same; 0: for none."""
        if not self.constant:
            return 0
        if self.part:
            return self.arch.banks // self.part
        pixels = min(self.pixels(self.y.out, self.x.out), self.arch.accumulator_depth)
        return min(-(-_CONSTANT_CYCLES // self.pass_cycles(pixels)),
                   self.taps * self.blocks // self.planes)

    def weight(self, turn: int, box: Box) -> int:
        """n: sums of a box of `turns` count 2**n times; 0 without planes of bits."""
        plane = box.block * self.planes // self.blocks
        return self.planes - 1 - plane + (self.weight_shifts[turn] if self.in_planes else 0)

    def pad_code(self, box: Box) -> int | None:
        """The code of padding in a box of `turns`; None: padding adds nothing."""
        code, form = self.conv.geometry.pad_code, self.arch.part
        if self.signs and form is not None and code is not None:    # each part of a code has it
            return sum(code << n * form.width for n in range(self.arch.code_signs))
        if code is None or self.planes == 1:
            return code
        return code >> (self.planes - 1 - box.block * self.planes // self.blocks) & 1

    @cached_property
    def stored(self) -> StoredWeights:
        """Where its weights lie."""
        return StoredWeights(self)

    def lanes_from(self, first: int) -> int:
        """Lanes of the output from one on, up to the last that holds a channel."""
        return self.places[-1] + self.channels - first

    @cached_property
    def _passes(self):
        """Passes for one sub-tile of each column block."""
        if self.in_planes or self.planes > 1:
            turns = (1 + self.pairs) * len(self.weight_shifts)
            return [self.taps * (b - a) * turns for a, b in self.spans]
        if self.same_taps:
            return [self.taps * (b - a) for a, b in self.spans]
        return [(b - a) // self.pass_words for a, b in pairwise(self.stored.offsets)]

    @property
    def passes(self) -> int:
        """Passes for one sub-tile, all column blocks together."""
        return sum(self._passes)

    def together(self, box: Box) -> list[Box]:
        """The boxes that a box of passes is cut into where taps have rows of their own: each is one
        pass."""
        return boxes(box, self.arch.banks // self.part, _TAPS)

    @property
    def fillings(self) -> int:
        """Times that the pixels of a sub-tile are streamed, all column blocks together: a pass each
        time, or several where taps have rows of their own."""
        if self.part:
            return self.column_blocks * len(self.together(self.kernel)) * len(self.weight_shifts)
        return self.passes

    @property
    def most_passes(self) -> int:
        """Passes for one sub-tile of the column block with the most."""
        return max(self._passes)

    @property
    def pool(self) -> int:
        """Pixels of a pooling window."""
        return self.y.pool * self.x.pool

    @cached_property
    def in_order(self) -> bool:
        """Whether the array computes the pixels of each pooling window one after the other.
        Otherwise it computes a rectangle of pixels row by row, each pixel once, in which windows
        overlap."""
        fits = self.y.pool <= LIMITS["pool_y"] and self.x.pool <= LIMITS["pool_x"]
        return (self.y.apart and self.x.apart and fits and self.pool <= POST["pool_x"]
                and not self.side)

    def pixels(self, height: int, width: int) -> int:
        """The most pixels that a rectangle of height x width results can need."""
        if self.in_order:
            return height * width * self.pool
        return self.y.most_under(height) * self.across(width)

    def across(self, width: int) -> int:
        """The most accumulator words of a row of `width` results that are not in order: with taps
        side by side, the first sums of each row lack products."""
        return self.x.most_under(width) + self.beside - 1

    def words(self, sub: Rectangle) -> int:
        """Accumulator words of a sub-tile."""
        (y0, y1), (x0, x1) = sub
        if not self.in_order:
            (y0, y1), (x0, x1) = self.y.under(sub[0]), self.x.under(sub[1])
            return (y1 - y0) * (x1 - x0 + self.beside - 1)
        rows = y1 - y0
        if self.from_above:
            rows = -(-rows // self.from_above.results) * self.from_above.results
        return rows * (x1 - x0) * self.pool

    @property
    def widest(self) -> int:
        """The most results across a sub-tile for which the fields of POST hold the pixels of a
        row."""
        if self.in_order or (self.y.out == 1 and self.y.most_under(1) == 1):
            return LIMITS["out_x"]
        row = min(POST["row"], (POST["turn"] + 1) // self.y.step) - self.beside + 1
        if self.x.pixels <= row:
            return self.x.out
        return max(1, (row - self.x.pool) // self.x.step + 1)

    @property
    def results(self) -> int:
        """Results of a channel."""
        return self.y.out * self.x.out

    @property
    def input_words(self) -> int:
        """Activation words of the whole input."""
        return self.blocks * self.y.size * self.x.size

    @property
    def groups(self) -> int:
        """Groups (`arch.group` channels) of the output that hold at least one of its channels."""
        return -(-self.channels // self.arch.group)

    def column_groups(self, column_block: int) -> int:
        """Groups of a column block that hold at least one channel of the output."""
        first = column_block * self.arch.groups_per_columns
        return min(self.arch.groups_per_columns, self.groups - first)

    def used_chunks(self, number: int) -> int:
        """Chunks of post lanes, the first ones of a group of output channels, that hold all its
        channels; all where others must be written, too: those of raw results and of signs."""
        arch, used = self.arch, self.lanes_from(number * self.arch.group)
        if self.conv.raw or self.to_signs or not 0 < used < arch.group:
            return arch.chunks
        return -(-used // arch.post_lanes)

    def used_beats(self, number: int) -> int:
        """Beats of a group of output channels that hold its channels; 0: all that it has."""
        arch, used = self.arch, self.lanes_from(number * self.arch.group)
        beats = -(-used * arch.activation.width // arch.bus_bits)
        return beats if 0 < beats < arch.group_beats and not self.conv.raw else 0

    @property
    def window(self) -> int:
        """Activation words of the smallest input that an ARRAY instruction can read: what one
        result's pooling window reads by one tap and in one block; with activations from the top, by
        all taps and in all blocks."""
        if self.from_above:
            return self.blocks * self.y.extent(1) * self.x.extent(1)
        return self.y.extent(1, 1) * self.x.extent(1, 1)

    def pass_cycles(self, pixels: int) -> int:
        """Cycles of a pass over so many pixels."""
        return pass_cycles(self.arch, pixels, self.arch.fill if self.part else self.height)

    def cycles(self, height: int, width: int) -> int:
        """Cycles of all passes over height x width results."""
        if self.from_above:
            blocks = self.passes // self.taps
            return blocks * self.from_above.cycles(self, height, width)
        return self.fillings * self.pass_cycles(self.pixels(height, width))

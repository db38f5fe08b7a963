"""How one layer is cut: into column blocks, tiles, parts of its kernel, array instructions.

The words of the compiler, from outside to inside:

- column block: the output channels that the array computes together, `arch.columns` of them;
- tile: a rectangle of results whose input lies in activation memory at one time;
- sub-tile: a rectangle of results whose sums lie in the accumulators at one time;
- part: a box of taps and channel blocks whose input lies in activation memory at one time, the
  whole kernel but on very small memories;
- piece: a box of taps and channel blocks whose weights are loaded together.

A box is (first kernel row, rows, first kernel column, columns, first block, blocks).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from math import ceil

import numpy as np
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import shortest_pass
from systolith.sim.model.conv import Conv

from .axis import Axis
from .depthwise import plan_from_above

__all__ = ["LIMITS", "MOST_ADDENDS", "POST_LIMITS", "STEP_CYCLES", "Layer", "Plan", "boxes", "even",
           "overlapping", "pieces"]

#: The most that the fields of an ARRAY instruction hold.
LIMITS = {item.name: item.high for item in isa.OPCODES[isa.Opcode.ARRAY]}
#: Of POST, whose results are those of one ARRAY.
POST_LIMITS = {item.name: item.high for item in isa.OPCODES[isa.Opcode.POST]}
LIMITS |= {name: min(LIMITS[name], POST_LIMITS[name]) for name in ("out_y", "out_x")}
#: Cycles that an array instruction should last, so that the time for fetching and tokens does not
#: show.
STEP_CYCLES = 128
#: Weights of the chip that one of a layer's may be the sum of.
MOST_ADDENDS = 3
#: Sub-tiles of a map that is one tile and would fit the accumulators at once: the next layer's
#: first one then waits for the first of this one's, not for the last. Each of them needs all
#: weights, which must stay while the next ones come: where they cannot, there is only one.
_SUB_TILES = 4


def even(total, parts):
    """[start, stop) ranges that cut `total` into `parts` whose sizes differ by one at most."""
    return [(total * n // parts, total * (n + 1) // parts) for n in range(parts)]


def pieces(total, most):
    """Ranges of at most `most` that cut `total` evenly."""
    return even(total, -(-total // most))


@dataclass
class Layer:
    """A convolution as the array sees it.

    Attributes
    ----------
    index : int
    conv : Conv
        Its input shape is what lies in memory: taps that the host lays out are channels here.
    arch : Arch
    images : int
        That the layer takes one after the other, each with padding of its own; their maps lie
        one under the other. All properties are those of one of them.
    planes : int
        So many equal runs of the input's blocks are planes of bits, most significant first: sums
        double from one to the next. `conv.geometry.pad_code` then has one bit for each.
    idle : int
        Lanes of each plane that no channel fills.
    """
    index: int
    conv: Conv
    arch: Arch
    images: int = 1
    planes: int = 1
    idle: int = 0

    @property
    def pairs(self):
        """Whether binary weights of 0, for channels of other groups, are made of two passes with
        weights +1 and -1: all sums are twice what they stand for, and lanes without channel cancel,
        too."""
        return self.conv.geometry.groups > 1 and self.conv.weight_format.zero_code is None

    @cached_property
    def addends(self):
        """Images [O, I / groups, kh, kw] of weights that the chip has, whose sum is the layer's:
        the first one takes as much as it can. Asymmetric weights of as many bits as the chip's,
        less their zero point, are two, with few passes for the second where few of them exceed
        the range. Empty where the chip has the weights' format."""
        conv, form = self.conv, self.arch.weight
        assert not isinstance(form, str)
        if not (form.complete and conv.weight_format.complete) or (
                conv.weight_format.width <= form.width):
            return []
        rest, (low, high) = conv.weight_format.image(conv.weight), form.image_range
        found: list[np.ndarray] = []
        while rest.any() or not found:
            if len(found) == MOST_ADDENDS:
                return [*found, rest]           # too many: `check_layer` refuses it
            found.append(np.clip(rest, low, high))
            rest = rest - found[-1]
        return found

    @cached_property
    def _more(self):
        """[column block, kernel row, kernel column, block] for each addend but the first: whether
        that pass is made for it, too."""
        conv, arch, found = self.conv, self.arch, []
        for images in self.addends[1:]:
            dense = replace(conv, weight=images).dense_weight(0) != 0
            padded = np.zeros((self.column_blocks * arch.columns, self.blocks * arch.vector,
                               *dense.shape[2:]), bool)
            padded[:dense.shape[0], :dense.shape[1]] = dense
            made = np.asarray(padded.reshape(
                self.column_blocks, arch.columns, self.blocks, arch.vector,
                *dense.shape[2:]).any(axis=(1, 3))).transpose(0, 2, 3, 1)
            for block, (first, end) in enumerate(self.spans):
                mine = made[block, :, :, first:end]
                # Passes in many runs, or all of those that come from the top, are made as one.
                if mine.any() and (self.from_above or mine.mean() > 0.5):
                    mine[...] = True
            found.append(made)
        return found

    @property
    def title(self):
        nodes = ", ".join(map(str, self.conv.nodes))
        return f"layer {self.conv.name!r}" + (f" (ONNX nodes {nodes})" if nodes else "")

    def _axis(self, n):
        conv, geometry, pool = self.conv, self.conv.geometry, self.conv.pool
        assert conv.input_shape is not None, "a Graph says it"
        return Axis(conv.input_shape[1 + n], conv.weight.shape[2 + n], geometry.stride[n],
                    geometry.dilation[n], geometry.pads[n], pool.size[n], conv.output_shape[1 + n],
                    pool.stride[n], pool.pads[n], conv.conv_shape[1 + n])

    @cached_property
    def y(self):
        return self._axis(0)

    @cached_property
    def x(self):
        return self._axis(1)

    @property
    def blocks(self):
        """Activation words of one input pixel."""
        return -(-self.conv.inputs // self.arch.vector)

    @property
    def channels(self):
        return self.conv.weight.shape[0]

    @property
    def column_blocks(self):
        return -(-self.channels // self.arch.columns)

    @property
    def kernel(self):
        """The box of all passes."""
        return (0, self.y.kernel, 0, self.x.kernel, 0, self.blocks)

    @cached_property
    def from_above(self):
        """The FromAbove by which activations come from the top, or None."""
        return plan_from_above(self)

    @property
    def taps(self):
        """Passes for one block of input channels."""
        if self.from_above:
            return self.from_above.passes[0] * self.from_above.passes[1]
        return self.y.kernel * self.x.kernel

    @cached_property
    def spans(self):
        """[(first, end)]: the blocks of input channels that each column block has weights for.

        Weights are 0 for all channels that do not belong together, and where a network has them:
        passes outside of the span would add nothing. At least one block each.
        """
        conv, arch = self.conv, self.arch
        groups = conv.geometry.groups
        if groups > 1:
            outputs, inputs = len(conv.weight) // groups, conv.weight.shape[1]
            first = [n * arch.columns for n in range(self.column_blocks)]
            last = [min(n + arch.columns, self.channels) - 1 for n in first]
            return [(a // outputs * inputs // arch.vector,
                     -(-(b // outputs + 1) * inputs // arch.vector))
                    for a, b in zip(first, last, strict=True)]
        zero = conv.weight_format.zero_code
        if zero is None or self.blocks == 1:
            return [(0, self.blocks)] * self.column_blocks
        any_tap = (conv.weight != zero).any(axis=(2, 3))
        out, vector = self.column_blocks * arch.columns, self.blocks * arch.vector
        padded = np.zeros((out, vector), bool)
        padded[:any_tap.shape[0], :any_tap.shape[1]] = any_tap
        used = np.asarray(padded.reshape(
            self.column_blocks, arch.columns, self.blocks, -1).any((1, 3)))
        last = self.blocks - used[:, ::-1].argmax(axis=1)
        return [(int(a), int(b)) if mine.any() else (0, 1) for mine, a, b in
                zip(used, used.argmax(axis=1), last, strict=True)]

    def turns(self, box, column_block):
        """The passes that a column block needs of a box: [(turn, box)], smaller boxes where weights
        are 0, or []; of several planes, a box each. Turns have weights of their own: of pairs of
        passes the first and the second, else the addend's number. With activations from the top
        passes are counted instead of taps."""
        first, end = self.spans[column_block]
        if self.from_above:
            down, across = self.from_above.passes
            whole = (0, down, 0, across, first, end - first)
            return [(0, whole), *((n, whole) for n, made in enumerate(self._more, 1)
                                  if made[column_block].any())]
        first, end = max(first, box[4]), min(end, box[4] + box[5])
        each = self.blocks // self.planes
        cut = [(max(first, n * each), min(end, (n + 1) * each)) for n in range(self.planes)]
        found = [(*box[:4], a, b - a) for a, b in cut if a < b]
        if self.pairs:
            return [(turn, item) for turn in (0, 1) for item in found]
        return [*((0, item) for item in found),
                *((n, item) for n, made in enumerate(self._more, 1)
                  for item in _runs_of(made[column_block], (*box[:4], first, end - first)))]

    def used(self, box, column_block):
        """The boxes that `turns` goes through."""
        return [item for _, item in self.turns(box, column_block)]

    def plane(self, box):
        """The plane of a box that `used` gives."""
        return box[4] * self.planes // self.blocks

    def pad_code(self, box):
        """The code of padding in a box that `used` gives, or None."""
        code = self.conv.geometry.pad_code
        if code is None or self.planes == 1:
            return code
        return code >> (self.planes - 1 - self.plane(box)) & 1

    @cached_property
    def weight_offsets(self):
        """Offset of each column block's weight words, and of the end of the last one's."""
        passes = [self.taps * (b - a) * (1 + self.pairs) for a, b in self.spans]
        for made in self._more:
            passes = [n + (self.taps * (b - a) * bool(mine.any()) if self.from_above
                           else int(mine[:, :, a:b].sum()))
                      for n, (a, b), mine in zip(passes, self.spans, made, strict=True)]
        return [0, *(self.arch.rows * n for n in accumulate(passes))]

    @property
    def weight_words(self):
        """Weight words of all column blocks."""
        return self.weight_offsets[-1]

    @cached_property
    def most_weight_words(self):
        """Weight words of the column block that has the most."""
        return max(b - a for a, b in pairwise(self.weight_offsets))

    @property
    def passes(self):
        """Passes for one sub-tile, all column blocks together."""
        return self.weight_words // self.arch.rows

    @property
    def most_passes(self):
        """Passes for one sub-tile of the column block with the most."""
        return self.most_weight_words // self.arch.rows

    @property
    def pool(self):
        """Pixels of a pooling window."""
        return self.y.pool * self.x.pool

    @cached_property
    def in_order(self):
        """Whether the array computes pixels window by window: those of each follow each other.
        Otherwise it computes a rectangle of pixels row by row, each of them once, and windows
        overlap there."""
        fits = self.y.pool <= LIMITS["pool_y"] and self.x.pool <= LIMITS["pool_x"]
        return self.y.apart and self.x.apart and fits and self.pool <= POST_LIMITS["pool_x"]

    def pixels(self, height, width):
        """The most pixels of a rectangle of results."""
        if self.in_order:
            return height * width * self.pool
        return self.y.most_under(height) * self.x.most_under(width)

    def words(self, sub):
        """Accumulator words of a sub-tile."""
        (y0, y1), (x0, x1) = sub
        if not self.in_order:
            (y0, y1), (x0, x1) = self.y.under(sub[0]), self.x.under(sub[1])
            return (y1 - y0) * (x1 - x0)
        rows = y1 - y0
        if self.from_above:
            rows = -(-rows // self.from_above.results) * self.from_above.results
        return rows * (x1 - x0) * self.pool

    @property
    def widest(self):
        """Results across at most, so that POST's fields hold the pixels of a row."""
        if self.in_order or (self.y.out == 1 and self.y.most_under(1) == 1):
            return LIMITS["out_x"]
        row = min(POST_LIMITS["row"], (POST_LIMITS["turn"] + 1) // self.y.step)
        if self.x.pixels <= row:
            return self.x.out
        return max(1, (row - self.x.pool) // self.x.step + 1)

    @property
    def results(self):
        """Results of a channel."""
        return self.y.out * self.x.out

    @property
    def input_words(self):
        return self.blocks * self.y.size * self.x.size

    @property
    def groups(self):
        """Groups of result channels that hold at least one real channel."""
        return -(-self.channels // self.arch.group)

    def column_groups(self, column_block):
        """How many of the column block's groups hold a real channel."""
        first = column_block * self.arch.groups_per_columns
        return min(self.arch.groups_per_columns, self.groups - first)

    @property
    def window(self):
        """Words of the smallest input that an ARRAY instruction can work on: one result's pooling
        window under one tap, in one block; with activations from the top, all taps and blocks."""
        if self.from_above:
            return self.blocks * self.y.extent(1) * self.x.extent(1)
        return self.y.extent(1, 1) * self.x.extent(1, 1)

    def pass_cycles(self, pixels):
        """Cycles of a pass over so many pixels."""
        return max(pixels, shortest_pass(self.arch))

    def cycles(self, height, width):
        """Cycles of all passes over a rectangle of results."""
        if self.from_above:
            blocks = self.passes // self.taps
            return blocks * self.from_above.cycles(self, height, width)
        return self.passes * self.pass_cycles(self.pixels(height, width))


def _runs_of(made, box):
    """Boxes that together are the passes of a box for which `made` [kernel row, kernel column,
    block] is set, neighbours as one where they are alike."""
    y, rows, x, columns, first, blocks = box
    edges = np.diff(made[y:y + rows, x:x + columns, first:first + blocks].astype(np.int8), axis=2,
                    prepend=0, append=0)
    found: list[tuple] = []
    for row in range(rows):
        mine: list[tuple] = []
        for column in range(columns):
            starts, ends = (np.flatnonzero(edges[row, column] == sign) for sign in (1, -1))
            for a, b in zip((first + starts).tolist(), (first + ends).tolist(), strict=True):
                last = mine[-1] if mine else None
                if len(starts) == 1 and last and last[1] == x + column and last[2:] == (a, b):
                    mine[-1] = (last[0], x + column + 1, a, b)
                else:
                    mine.append((x + column, x + column + 1, a, b))
        last = found[-1] if found else None
        if last and len(mine) == 1 and last[2] == mine:
            found[-1] = (last[0], y + row + 1, mine)
        else:
            found.append((y + row, y + row + 1, mine))
    return [(a, b - a, c, d - c, e, f - e) for a, b, mine in found for c, d, e, f in mine]


def boxes(box, most):
    """Cut a box into boxes of at most `most` passes, in pass order: one after the other they are
    the same passes in the same order (kernel row, kernel column, block)."""
    y, rows, x, columns, b, blocks = box
    fits_x, fits_b = columns <= LIMITS["kernel_x"], blocks <= LIMITS["blocks"]
    if fits_x and fits_b and columns * blocks <= most:
        limit = min(most // (columns * blocks), LIMITS["kernel_y"])
        return [(y + low, high - low, x, columns, b, blocks) for low, high in pieces(rows, limit)]
    if fits_b and blocks <= most:
        limit = min(most // blocks, LIMITS["kernel_x"])
        cut = [(x + low, high - low, b, blocks) for low, high in pieces(columns, limit)]
    else:
        limit = min(most, LIMITS["blocks"])
        cut = [(x + n, 1, b + low, high - low) for n in range(columns)
               for low, high in pieces(blocks, limit)]
    return [(y + n, 1, *rest) for n in range(rows) for rest in cut]


@dataclass
class Plan:
    """How a layer runs.

    Attributes
    ----------
    tiles : list of ((y0, y1), (x0, x1))
        Rectangles of results.
    parts : list of boxes
    sub_pixels : int
        The most pixels of a sub-tile.
    buffers : int
        Input buffers in activation memory that tiles (or parts) use in turn; 0: the whole input
        lies there.
    buffer_words : int
    column_group : int
        Column blocks that are computed on one tile before the next tile comes.
    most_results : int or None
        Of a sub-tile.
    """
    layer: Layer
    tiles: list
    parts: list
    sub_pixels: int
    buffers: int = 0
    buffer_words: int = 0
    column_group: int = 1
    most_results: int | None = None

    @property
    def order(self):
        """The outer loop: "columns" (column blocks) or "tiles"."""
        return "tiles" if self.column_group >= self.layer.column_blocks > 1 else "columns"

    def sub_tiles(self, tile):
        """Rectangles of results that the accumulators hold at one time, rows first."""
        (y0, y1), (x0, x1) = tile
        layer = self.layer
        if len(self.parts) > 1:
            return [tile]
        rows, columns = y1 - y0, x1 - x0
        if not layer.in_order:
            height, width = overlapping(layer, rows, columns, self.sub_pixels, self.most_results)
            return [((y0 + a, y0 + b), (x0 + c, x0 + d)) for a, b in pieces(rows, height)
                    for c, d in pieces(columns, width)]
        limit = self.sub_pixels // layer.pool
        longest = LIMITS["out_x"]
        if layer.from_above:
            longest = min(longest // layer.x.stride, max(1, limit // layer.from_above.results))
        across = pieces(columns, min(limit, longest))
        width = -(-columns // len(across))
        most = min(max(1, limit // width), LIMITS["out_y"])
        if layer.from_above:
            return self._runs(rows, most, y0, [(x0 + c, x0 + d) for c, d in across])
        least = max(layer.arch.rows, ceil(STEP_CYCLES / layer.most_passes))
        wanted = 1
        if len(self.tiles) == 1 and 2 * layer.most_weight_words <= layer.arch.weight_depth:
            wanted = rows // max(1, ceil(least / (width * layer.pool)))
        down = even(rows, max(-(-rows // most), min(_SUB_TILES, wanted)))
        return [((y0 + a, y0 + b), (x0 + c, x0 + d)) for a, b in down for c, d in across]

    def _runs(self, rows, most, y0, across):
        """Sub-tiles of whole runs of words, but the last."""
        size = self.layer.from_above.results
        runs = -(-rows // size)
        cut = pieces(runs, max(1, min(most // size, -(-runs // _SUB_TILES))))
        return [((y0 + a * size, y0 + min(rows, b * size)), columns)
                for a, b in cut for columns in across]

    def input_rectangle(self, tile, part):
        """((row, row end), (column, column end)) of the input that a tile reads in a part."""
        ky, rows, kx, columns, _, _ = part
        return (self.layer.y.span(tile[0], (ky, ky + rows))[:2],
                self.layer.x.span(tile[1], (kx, kx + columns))[:2])

    @property
    def loaded_words(self):
        """Input words that are loaded when every tile and part is loaded once."""
        total = 0
        for tile in self.tiles:
            for part in self.parts:
                (a, b), (c, d) = self.input_rectangle(tile, part)
                total += (b - a) * (d - c) * part[5]
        return total

    @property
    def cycles(self):
        """Array cycles of the whole layer, for all its images."""
        return self.layer.images * sum(self.layer.cycles(b - a, d - c) for tile in self.tiles
                   for (a, b), (c, d) in self.sub_tiles(tile))


def overlapping(layer, rows, columns, pixels, results=None):
    """(height, width) of the sub-tiles that cut rows x columns results, whose windows overlap,
    into the fewest array cycles: what two sub-tiles share is computed twice. They have at most so
    many pixels and results."""
    best = None
    for across in range(1, columns + 1):
        width = -(-columns // across)
        if width > layer.widest:
            continue
        most = pixels // layer.x.most_under(width)
        height = rows if layer.y.most_under(rows) <= most else min(
            rows, (most - layer.y.pool) // layer.y.step + 1)
        height = min(height, LIMITS["out_y"], rows if results is None else results // width)
        if height < 1:
            continue
        height = -(-rows // -(-rows // height))
        down, across = -(-rows // height), -(-columns // width)
        # Post-processing of the last sub-tile overlaps with no array cycles.
        post = layer.pool * layer.arch.chunks * layer.arch.groups_per_columns
        cost = down * across * layer.cycles(height, width) + height * width * post
        if best is None or cost < best[0]:
            best = cost, height, width
        if height == rows:
            break
    assert best is not None, "a map has at least one row"
    return best[1:]

"""How one layer is cut: into column blocks, tiles, parts of its kernel, array instructions.

The words of the compiler, from outside to inside:

- column block: the output channels that the array computes together, `arch.columns` of them;
- tile: a rectangle of results whose input lies in activation memory at one time;
- sub-tile: a rectangle of results whose sums lie in the accumulators at one time;
- part: a box of taps and channel blocks whose input lies in activation memory at one time, the
  whole kernel but on very small memories;
- piece: a box of taps and channel blocks whose weights are loaded together.

`boxes.py` says what a box is; `tiling.py` chooses among plans.
"""

from dataclasses import dataclass
from math import ceil

from .boxes import Box, Rectangle, even, pieces
from .layer import Layer
from .limits import LIMITS

__all__ = ["STEP_CYCLES", "Plan", "overlapping"]

#: Cycles that an array instruction should take at least, so that fetching it and waiting for tokens
#: costs no time.
STEP_CYCLES = 128
#: Sub-tiles of a map that is one tile and would fit the accumulators as a whole: the next layer can
#: begin after the first of them instead of the last. Each of them uses all weights of the layer;
#: where these would not fit the memory besides the next layer's, there is one sub-tile.
_SUB_TILES = 4
#: Cycles that the instructions of a sub-tile cost, about.
_SUB_TILE = 16
#: Those of a first layer whose words LOAD makes on the chip, which can begin when the rows of its
#: input for one of them are there.
_FIRST_SUB_TILES = 16


@dataclass
class Plan:
    """How a layer runs.

    Attributes
    ----------
    tiles : list of Rectangle
        Of results.
    parts : list of Box
    sub_pixels : int
        The most pixels of a sub-tile.
    buffers : int
        Input buffers in activation memory that tiles (or parts) use in turn; 0: the whole input
        lies there.
    buffer_words : int
        Activation words of each.
    column_group : int
        Column blocks that are computed on one tile before the next tile is loaded.
    most_results : int or None
        The most results of a sub-tile; None: any number.
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
    def order(self) -> str:
        """What the outer loop counts: "columns" (column blocks) or "tiles"."""
        return "tiles" if self.column_group >= self.layer.column_blocks > 1 else "columns"

    def sub_tiles(self, tile: Rectangle) -> list[Rectangle]:
        """The rectangles of results into which a tile is cut so that the accumulators hold each, in
        the order of rows, then columns."""
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
        first = layer.index == 0 and layer.arch.load_windows
        wanted = 1 if self._in_blocks else _FIRST_SUB_TILES if first else _SUB_TILES
        if layer.from_above:
            return _runs(layer.from_above.results, rows, most, y0,
                         [(x0 + c, x0 + d) for c, d in across], wanted)
        least = layer.arch.fill if first else max(
            layer.first_fill, ceil(STEP_CYCLES / layer.most_passes))
        if len(self.tiles) > 1 or 2 * layer.stored.most_words > layer.arch.weight_depth:
            wanted = 1
        wanted = min(wanted, rows // max(1, ceil(least / (width * layer.pool))))
        down = even(rows, max(-(-rows // most), wanted))
        return [((y0 + a, y0 + b), (x0 + c, x0 + d)) for a, b in down for c, d in across]

    @property
    def _in_blocks(self) -> bool:
        """Whether neighbouring layers can begin with some of its blocks of channels as well as with
        some of its rows: it has several of both kinds and takes one block of its input after the
        other. Then each filling of weights serves all rows."""
        layer = self.layer
        tap = layer.y.kernel == layer.x.kernel == 1
        return bool(layer.from_above or (tap and layer.blocks > 1)) and layer.column_blocks > 1

    def input_rectangle(self, tile: Rectangle, part: Box) -> Rectangle:
        """The rectangle of the input that a tile reads by the taps of a part."""
        ky, rows, kx, columns, _, _ = part
        return (self.layer.y.span(tile[0], (ky, ky + rows))[:2],
                self.layer.x.span(tile[1], (kx, kx + columns))[:2])

    @property
    def loaded_words(self) -> int:
        """Activation words that are loaded when every part of every tile is loaded once."""
        total = 0
        for tile in self.tiles:
            for part in self.parts:
                (a, b), (c, d) = self.input_rectangle(tile, part)
                total += (b - a) * (d - c) * part.blocks
        return total

    @property
    def cycles(self) -> int:
        """Array cycles of the whole layer, for all its images."""
        return self.layer.images * sum(self.layer.cycles(b - a, d - c) for tile in self.tiles
                   for (a, b), (c, d) in self.sub_tiles(tile))


def _runs(size, rows, most, y0, across, wanted):
    """Sub-tiles of at most `most` rows, `wanted` down where they fit, where a run of words begins
    `size` rows of results: all but the last have whole runs."""
    runs = -(-rows // size)
    cut = pieces(runs, max(1, min(most // size, -(-runs // wanted))))
    return [((y0 + a * size, y0 + min(rows, b * size)), columns)
            for a, b in cut for columns in across]


def overlapping(layer: Layer, rows: int, columns: int, pixels: int,
                results: int | None = None) -> tuple[int, int]:
    """(height, width) of the sub-tiles, in results, that cut rows x columns results whose pooling
    windows overlap, or whose taps lie side by side, with at most `pixels` pixels and `results`
    results each (None: any number). Pixels that two sub-tiles share are computed twice; chosen are
    those of the fewest cycles."""
    best = None
    for across in range(1, columns + 1):
        width = -(-columns // across)
        if width > layer.widest:
            continue
        most = pixels // layer.across(width)
        height = rows if layer.y.most_under(rows) <= most else min(
            rows, (most - layer.y.pool) // layer.y.step + 1)
        height = min(height, LIMITS["out_y"], rows if results is None else results // width)
        if height < 1:
            continue
        height = -(-rows // -(-rows // height))
        # Post-processing of the last sub-tile overlaps with no array cycles.
        post = layer.pool * layer.arch.chunks * layer.arch.groups_per_columns
        for some in {height, -(-height // 2)} if layer.side and layer.y.apart else {height}:
            cost = -(-columns // width) * sum(
                layer.cycles(b - a, width) + _SUB_TILE for a, b in pieces(rows, some)
            ) + some * width * post
            if best is None or cost < best[0]:
                best = cost, some, width
        if height == rows:
            break
    assert best is not None, "a map has at least one row"
    return best[1:]

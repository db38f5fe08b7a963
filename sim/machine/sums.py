"""What the array's sums are: which pixel of which layer, from the tags of what it has read.

The part of `memory_plan.py` that executes ARRAY instructions on tags.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Above, ArrayView, Axis
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import OPCODES, Opcode
from systolith.hw.spec.loops import filled
from systolith.hw.spec.memories import Space

from .contents import Contents

__all__ = ["ANY", "NONE", "Sums", "find_passes", "find_pixels", "geometries_of", "lines_of",
           "may_see_nothing", "sees_nothing"]

#: Instead of a pixel's row or column, or of a round. ANY: unknown, because the array has read
#: nothing but padding for the sum. NONE: the sum is of no pixel, because it lacks some products;
#: the array computed it along with others.
ANY, NONE = -1, -2
#: Fields of ARRAY on which its loops do not depend.
_PLACES = {"weight_base", "base", "accumulator", "accumulate", "early", "double", "pad_code"}
#: The others, of an instruction.
_LOOPS = attrgetter(*(item.name for item in OPCODES[Opcode.ARRAY] if item.name not in _PLACES))
#: Geometries that are kept for the next program, which in a sweep is much like the last one.
_MOST_GEOMETRIES = 1 << 11
_geometries: dict[tuple, dict] = {}


class Sums:
    """What each accumulator word holds.

    Attributes
    ----------
    layer, block, passes, round, row, column : int64 arrays [accumulator_depth]
        Of each word's sum: the layer (-1: the word holds nothing), the block of columns, the number
        of passes so far, the round of the batch, and the pixel; rows are counted over all images of
        the round.
    blind : int64 array [accumulator_depth]
        An index into `passes_blind`.
    all : int64 array [7, accumulator_depth]
        All of these, `blind` last.
    passes_blind : list of tuples
        Sets of passes, as (((first kernel row, count), (first kernel column, count)), ...), in
        which the array has read nothing but padding for a sum.
    """
    FIELDS = ("layer", "block", "passes", "round", "row", "column")

    def __init__(self, depth: int):
        self.all = np.full((len(self.FIELDS) + 1, depth), -1)
        (self.layer, self.block, self.passes, self.round, self.row, self.column,
         self.blind) = self.all
        self.passes_blind: list[tuple] = [()]

    def begin(self, mine: slice, values: dict[str, Any]) -> None:
        """Put new sums into words. `values`: by the names in FIELDS integers or arrays [sums], and
        "blind", the passes that have read nothing for them, or None."""
        for row, name in zip(self.all, self.FIELDS, strict=False):
            row[mine] = values[name]
        self.blind[mine] = 0
        self._note(mine, values["blind"])

    def _note(self, mine, passes):
        if passes is None:
            return
        for before in np.unique(self.blind[mine]):
            self.passes_blind.append((*self.passes_blind[before], passes))
            where = np.arange(len(self.blind))[mine]
            self.blind[where[self.blind[mine] == before]] = len(self.passes_blind) - 1

    def add(self, mine: slice, first: int, values: dict[str, Any]) -> bool:
        """Add passes, the first of which has the number `first`, to the sums in words; `values` as
        of `begin`. Returns whether these are sums of the same pixels with all passes before."""
        good = self.passes[mine] == first
        for name in ("layer", "block"):
            good &= getattr(self, name)[mine] == values[name]
        for name in ("round", "row", "column"):
            there, new = getattr(self, name)[mine], values[name]
            same = there == new
            if not same.all():
                good &= same | (there < 0) | (np.asarray(new) < 0)
                getattr(self, name)[mine] = np.where(
                    there == NONE, NONE, np.where(np.asarray(new) == ANY, there, new))
        self.passes[mine] = values["passes"]
        self._note(mine, values["blind"])
        return bool(good.all())


@dataclass(frozen=True)
class Line(Axis):
    """An axis of a layer, with the input positions from one run of pixels to the next (`run`), from
    one pixel of a run to the next (`pixel`), and from one pass to the next (`tap`); `taps` of a
    pass, and how they lie where activations come from the top (`above`, None: they do not)."""
    run: int
    pixel: int
    tap: int
    taps: int
    above: Above | None


def lines_of(layer: ArrayView) -> tuple[Line, Line]:
    """The lines y and x of a layer."""
    above = layer.above
    if above is None:
        y, x = (Line(**vars(axis), run=axis.stride * (axis.step if layer.in_order else 1),
                     pixel=axis.stride, tap=taps * axis.dilation, taps=taps, above=None)
                for axis, taps in (
                    (layer.y, 1), (layer.x, min(layer.x.kernel, 1 << layer.side % 3))))
        return y, x
    # Along a column of pixels, runs of words begin so many results each.
    y, x = (Line(**vars(axis), run=run, pixel=1, tap=taps * axis.dilation, taps=taps, above=above)
            for axis, run, taps in ((layer.y, above.results * layer.y.stride, above.taps[0]),
                                    (layer.x, 1, above.taps[1])))
    return y, x


def find_passes(tags: np.ndarray, i: Instruction, layer: Any, arch: Arch, done: int
                ) -> tuple[int, int, tuple[int, int, int]] | str:
    """(column block, number of the first pass, its (kernel row, kernel column, block)) of the ARRAY
    instruction `i` of a layer whose weight words have these tags, int64 array [words], and which
    follows `done` passes; or, as a text, what the instruction does wrong."""
    if filled(i, arch) != layer.height:
        return "fills other rows of the array than its layer does"
    if i.side != layer.side:
        return "computes other taps side by side than its layer does"
    if i.narrow != (layer.narrow or 0):
        return "takes its weights for others of more or fewer bits"
    block = int(np.searchsorted(layer.weight_places, tags[0], side="right")) - 1
    if not 0 <= block < len(layer.weight_bytes):
        return "does not find its weights one after the other"
    size = layer.weight_bytes[block]
    first, rest = divmod(int(tags[0]) - layer.weight_places[block], size * layer.words)
    if (tags[0] < 0 or (tags[1:] - tags[:-1] != size).any() or rest
            or tags[-1] >= layer.weight_places[block + 1]):
        return "does not find its weights one after the other"
    runs = layer.runs[block]
    # Of boxes that have the same weights, the one that is next; if none is, any.
    mine = [run for run in runs if run[2] <= first < run[2] + run[1].passes]
    start, (y, rows, x, columns, b, blocks), there = next(
        (run for run in mine if run[0] + first - run[2] == done), mine[-1] if mine else runs[-1])
    first += start - there
    ky, rest = divmod(first - start, columns * blocks)
    kx, kb = divmod(rest, blocks)
    whole = (i.kernel_y == 1 or i.kernel_x == columns) and (
        i.kernel_y * i.kernel_x == 1 or i.blocks == blocks)
    if not whole or ky + i.kernel_y > rows or kx + i.kernel_x > columns or kb + i.blocks > blocks:
        return "takes its weights for other passes than they are"
    return block, first, (y + ky, x + kx, b + kb)


def _visited(i, name, axis, first_tap):
    """Along one axis [passes, runs, pixels]: positions in words as the instruction has them, and
    input positions, counted from where an unknown first pixel would be."""
    taps, runs, pixels = (np.arange(getattr(i, f"{what}_{name}"))
                          for what in ("kernel", "out", "pool"))
    def positions(start, k, o, p):
        return start + (taps * k)[:, None, None] + (runs * o)[:, None] + pixels * p
    words = positions(getattr(i, f"{name}_start"), *(
        getattr(i, f"stride_{part}{name}") for part in "kop"))
    return words, positions(first_tap * axis.tap - axis.pad, axis.tap, axis.run, axis.pixel)


def _lines(words, there, inside, first, axis, i, last):
    """(words, input positions) of what is read along one axis, each once, and which of the visited
    pixels [passes, runs, pixels] the instruction takes for what they are. `there`: input
    positions. A string says what is wrong."""
    within = (there >= 0) & (there < axis.size)
    right = inside == within
    if i.replicate:
        words, there = np.clip(words, 0, last), np.clip(there, 0, axis.size - 1)
        inside = right = within = np.ones_like(inside)
    # From the top, more words may come than the map has rows for; of taps side by side, the last
    # pass may have fewer.
    if (inside & ~within).any() if axis.taps > 1 or axis.above else not right.all():
        return f"takes pixels for padding, or padding for pixels, along {first}"
    found, index, again = np.unique(words[inside], return_index=True, return_inverse=True)
    places = there[inside][index]
    if (places[again] != there[inside]).any():
        return f"reads one word for two pixels along {first}"
    return found, places, right


def _of_results(origin, name, i, axis, right, first_tap):
    """Rows (or columns) of the pixels whose sums the instruction computes [runs, pixels], NONE
    where one lacks products; a string says what is wrong."""
    if origin % axis.stride:
        return f"reads pixels that no result is made of, along {name}"
    if not axis.above and axis.taps > 1:
        return _of_side_taps(origin, name, i, axis, right[:, :, 0], first_tap)
    if not axis.above:
        shape = np.arange(getattr(i, f"out_{name}")) * (axis.run // axis.stride)
        found = origin // axis.stride + shape[:, None] + np.arange(getattr(i, f"pool_{name}"))
        return (found if 0 <= found.min() and found.max() < axis.pixels else
                f"computes pixels that the map does not have, along {name}")
    taps, dilation, stride = axis.taps, axis.dilation, axis.stride
    # Each run of words begins results `stride` words apart; the taps of a pass lie `dilation`
    # words apart, and the last pass may have fewer.
    if name == "y":
        count, runs = i.starts, i.out_y
        begin, known = i.start_y, count == axis.above.results and i.pool_y == axis.above.step
    else:
        count, runs, right = i.results_x, 1, right.swapaxes(1, 2)
        begin, known = i.start_x, True
    if not known or (count > 1 and begin != stride):
        return f"begins results at other pixels than the weights are for, along {name}"
    found = (origin + np.arange(runs)[:, None] * axis.run) // stride + np.arange(count)
    good = (0 <= found) & (found < axis.pixels)
    for tap in range(taps):
        words = np.arange(count) * stride + tap * dilation
        reach = words < right.shape[2]
        # Passes whose weights for this tap are 0 may read what they like.
        matter = (first_tap + np.arange(len(right))) * taps + tap < axis.kernel
        seen = right[matter][:, :, np.minimum(words, right.shape[2] - 1)] & reach
        good &= seen.all(axis=0)
    return np.where(good, found, NONE)


def _of_side_taps(origin, name, i, axis, right, first_tap):
    """`_of_results` where part n of the rows sees the pixel n steps before: the first sums of a row
    lack products. `right` [passes, pixels]."""
    spare = axis.taps - 1
    found = origin + np.arange(right.shape[1]) - spare
    good = found >= origin
    for number, seen in enumerate(right):
        for part in range(axis.taps):
            if (first_tap + number) * axis.taps + spare - part < axis.kernel:
                good[spare:] &= seen[spare - part:len(seen) - part]
    if not 0 <= origin <= found.max() < axis.pixels:
        return f"computes pixels that the map does not have, along {name}"
    return np.where(good, found, NONE)[:, None]


class _Geometry:
    """What ARRAY instructions of a layer visit whose loops are the same."""

    def __init__(self, i, layer, taps):
        self.i, self.axes, self.taps = i, (layer.y, layer.x), taps
        self.visited = [_visited(i, name, axis, tap)
                        for name, axis, tap in zip("yx", self.axes, taps[:2], strict=True)]
        self.inside = [(words >= 0) & (words <= last) for (words, _), last in zip(
            self.visited, (i.y_last, i.x_last), strict=True)]
        self.blocks = taps[2] + np.arange(i.blocks)
        self.needed = layer.wanted[self.blocks]             # [blocks, groups]
        if i.side == 3:                                     # a copy for each step of the kernel
            self.needed = np.logical_or.reduce([
                np.roll(self.needed, tap * layer.part, axis=1)
                for tap in range(i.kernel_y * i.kernel_x)])
        self.block, self.group = (int(n) for n in np.unravel_index(
            np.argmax(self.needed), self.needed.shape))
        self.empty = not (self.needed.any() and all(part.any() for part in self.inside))
        # The first pixel that is read says which ones all others must be.
        first = [int(np.argmax(part)) for part in self.inside]
        self.first_word, self.first_place = (
            [int(pair[n].flat[index]) for pair, index in zip(self.visited, first, strict=True)]
            for n in (0, 1))
        self.found = {}

    def at(self, origins):
        """(words, rows, columns, row of each sum, column of each sum) where the first pixel is at
        these input positions: words [blocks, rows, columns] from the instruction's base on, sums
        in their order. A string says what is wrong."""
        if origins not in self.found:
            self.found[origins] = self._at(origins)
        return self.found[origins]

    def _at(self, origins):
        i, lines, places = self.i, [], []
        for n, (name, axis, last) in enumerate(zip("yx", self.axes, (i.y_last, i.x_last),
                                                   strict=True)):
            words, there = self.visited[n]
            line = _lines(words, origins[n] + there, self.inside[n], name, axis, i, last)
            if isinstance(line, str):
                return line
            lines.append(line[:2])
            places.append(_of_results(origins[n], name, i, axis, line[2], self.taps[n]))
            if isinstance(places[-1], str):
                return places[-1]
        (y, rows), (x, columns) = lines
        words = np.add.outer(np.arange(i.blocks) * i.stride_block, np.add.outer(y, x))
        down, across = places
        if i.starts:
            down, across = down[:, :, None], across
        else:
            down, across = down[:, None, :, None], across[:, None, :]
        shape = np.broadcast_shapes(down.shape, across.shape)
        down, across = (np.broadcast_to(part, shape).ravel() for part in (down, across))
        if i.starts and (across == NONE).any():
            return "begins results that lack columns"
        return words, rows[:, None], columns, down, across


def geometries_of(layer: Any) -> dict:
    """{what an ARRAY visits: its `_Geometry`} of a layer, the same for all layers that are alike in
    what these depend on: its axes `y` and `x`, `wanted` and `part`."""
    if sum(map(len, _geometries.values())) > _MOST_GEOMETRIES:
        _geometries.clear()
    facts = layer.y, layer.x, layer.part, layer.wanted.shape, layer.wanted.tobytes()
    return _geometries.setdefault(facts, {})


def find_pixels(contents: Contents, number: int, i: Instruction, layer: Any,
                taps: tuple[int, int, int]) -> dict[str, Any]:
    """The pixels of the sums that an ARRAY instruction computes, by what it reads: "round", "row"
    and "column", integers or int64 arrays in the order of the sums, ANY where it reads nothing but
    padding; and "blind", the passes that read nothing but padding, or None.

    `number` is the index of the instruction `i`, `taps` the (kernel row, kernel column, block) of
    its first pass. Raises MemoryPlanError where what it reads is not the pixels of its passes."""
    if taps[2] + i.blocks > len(layer.wanted):
        contents.fail(number, f"reads blocks that {layer.input!r} does not have")
    key = taps, _LOOPS(i)
    geometry = layer.geometries.get(key)
    if geometry is None:
        geometry = layer.geometries[key] = _Geometry(i, layer, taps)
    if geometry.empty:
        if geometry.needed.any() and i.replicate:
            _check_edge(contents, number, i, layer, geometry)
        return {**dict.fromkeys(("round", "row", "column"), ANY),
                "blind": ((taps[0], i.kernel_y), (taps[1], i.kernel_x))}
    tensor, round, (_, row, column) = contents.look_up(
        number, Space.ACTIVATION, i.base + geometry.block * i.stride_block
        + sum(geometry.first_word), geometry.group, layer.input)
    image, row = divmod(row, layer.y.size)
    found = geometry.at((row - geometry.first_place[0], column - geometry.first_place[1]))
    if isinstance(found, str):
        contents.fail(number, f"{found} of {layer.input!r}")
    words, rows, columns, down, across = found
    contents.check_map(
        number, Space.ACTIVATION, i.base + words, tensor, round,
        geometry.blocks[:, None, None], image * layer.y.size + rows, columns,
        geometry.needed[:, None, None])
    if image:
        down = np.where(down < 0, down, down + image * layer.y.pixels)
    return {"round": round, "row": down, "column": across, "blind": None}


def _check_edge(contents, number, i, layer, geometry):
    """Where padding is replicated and all is padding: the map's edge is what is read."""
    lasts = i.y_last, i.x_last
    words = [int(part.flat[0]) for part, _ in geometry.visited]
    address = i.base + geometry.block * i.stride_block + sum(
        min(max(word, 0), last) for word, last in zip(words, lasts, strict=True))
    _, _, (_, row, column) = contents.look_up(number, Space.ACTIVATION, address, geometry.group,
                                             layer.input)
    for word, last, place, axis in zip(words, lasts, (row % layer.y.size, column),
                                       (layer.y, layer.x), strict=True):
        if (word < 0 and place != 0) or (word > last and place != axis.size - 1):
            contents.fail(number, f"replicates what is not the edge of {layer.input!r}")


def _reads(axis, pixels, first, count):
    """bool [pixels]: whether rows (or columns) of pixels see any of the map in `count` passes from
    `first` on."""
    taps = axis.taps
    tap = np.arange(first * taps, min(axis.kernel, (first + count) * taps))
    places = np.add.outer(np.asarray(pixels) * axis.stride - axis.pad, tap * axis.dilation)
    return ((places >= 0) & (places < axis.size)).any(axis=-1)


def sees_nothing(layer: Any, blind: tuple[tuple[int, int], tuple[int, int]], row: np.ndarray,
                 column: np.ndarray) -> np.ndarray:
    """bool [sums]: whether the pixels at `row` and `column` (int64 arrays [sums]) read nothing but
    padding in the passes `blind` ((first kernel row, count), (first kernel column, count)). Rows
    are counted over all images of a round."""
    (y, rows), (x, columns) = blind
    return ~(_reads(layer.y, row % layer.y.pixels, y, rows) & _reads(layer.x, column, x, columns))


def may_see_nothing(layer: Any) -> bool:
    """Whether a layer has pixels that read nothing but padding in some pass."""
    return not all(_reads(axis, np.arange(axis.pixels), 0, axis.kernel).all()
                   for axis in (layer.y, layer.x))

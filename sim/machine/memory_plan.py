"""The memory plan of a program, proven from its instructions: every read finds the data that it is
meant to read.

Every word on the chip, and every group of a map in external memory, carries a tag: which tensor, or
which byte of the memory image, it holds (see `contents.py`). The instructions are executed on tags
instead of numbers, in program order, which is the order of all accesses that conflict (`races`
proves that). For each accumulator word it is known which pixel of which layer the sum belongs to,
from the tags of what the array has read, and how many passes it has had (see `sums.py`). A result
must be made of the whole sums of its window, with the parameters of its channels and the operand of
its pixel, and be written where it belongs.

So maps that overlap while both are needed, loads that are missing or come too late, words that are
overwritten too early, and wrong addresses all leave a wrong tag where something is read. Nothing is
taken from the compiler but what the program states: the geometry of the layers, the places of maps,
weights and parameters, and the peaks, which must cover those found here. Arithmetic (padding codes,
limits, zero points, factors) is not checked.
"""

from collections import Counter, deque
from itertools import accumulate
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
from systolith.hw.spec import loops
from systolith.hw.spec.isa import Destination, Memory, Opcode, Pooling
from systolith.hw.spec.loops import chunk_count, column_group, results, windows, word_starts
from systolith.hw.spec.memories import MEMORIES, Space, item_bytes, loaded_bytes, word_bytes
from systolith.hw.spec.narrow import pool_of, width_of, words_of_rows
from systolith.hw.spec.program import Program

from .contents import Contents, MemoryPlanError
from .sums import (
    ANY,
    NONE,
    Sums,
    find_passes,
    find_pixels,
    geometries_of,
    lines_of,
    may_see_nothing,
    sees_nothing,
)

__all__ = ["MemoryPlanError", "check_memory_plan"]

def check_memory_plan(program: Program) -> dict[str, int]:
    """{memory: words that hold something at some time, up to the last one} of a program.

    Raises MemoryPlanError naming the instruction, the word, and what lies there instead.
    """
    return _Checker(program).run()


class _Checker:
    """The instructions of a program in their order, each held against what memories contain."""

    def __init__(self, program):
        self.program, self.arch, self.host = program, program.arch, program.host
        self.contents = Contents(program)
        self.image = np.frombuffer(program.image, np.uint8)
        self.sums = Sums(self.arch.accumulator_depth)
        self.items: deque = deque()
        self.cut: set[int] = set()              # tensors of whose groups parts were stored
        self.layers = [self._layer(entry) for entry in self.host.layers]
        self.seen: Counter = Counter()
        self.count = Counter(
            (i.layer, i.opcode) for i in program.instructions if i.unit is not None)

    def _layer(self, entry):
        """A layer as the program states it (`ArrayView` of `Program.host`), and

        - y, x: its axes, a `Line` each;
        - block_passes: the number of the first pass of each column block, and of all passes;
        - weight_places: the first byte of each column block's weights, and the one after the last;
        - runs: for each column block [(number of the first pass, box, number of the first stored
          pass)] of boxes whose weights are stored one after the other;
        - wanted: bool [blocks, slots], which slots of its input's words hold a channel that it
          reads. Others, of a tensor that several layers write, may not be written yet;
        - part: the slots in the rows that its weights fill.
        """
        stated, number = entry.array, self.contents.number[entry.input]
        layer = SimpleNamespace(**vars(stated), name=entry.name, input=entry.input,
                                output=self.contents.number[entry.output], operand=entry.operand)
        layer.y, layer.x = lines_of(stated)
        layer.words = words_of_rows(stated.height, stated.narrow or 0, self.arch)
        firsts = [list(accumulate((box.passes for box in boxes), initial=0))
                  for boxes in stated.passes]
        layer.runs = [list(zip(first, boxes, stored, strict=False)) for first, boxes, stored in zip(
            firsts, stated.passes, stated.stored or firsts, strict=True)]
        layer.block_passes = list(accumulate((first[-1] for first in firsts), initial=0))
        kept = stated.stored_passes or np.diff(layer.block_passes)
        layer.weight_places = list(accumulate(
            (passes * layer.words * size for passes, size in zip(
                kept, layer.weight_bytes, strict=True)),
            initial=layer.weights))
        layer.wanted = self.contents.real[number]
        if self.arch.activation.binary or self.contents.tensors[number].signs:
            # Lanes without channel must hold -1, so that they cancel.
            layer.wanted = np.ones_like(layer.wanted)
            if len(layer.wanted) == 1 and self.arch.activation.binary:
                layer.wanted[:, -(-layer.height * self.arch.lanes // self.arch.group):] = False
        elif entry.channels is not None:
            wanted = np.zeros(layer.wanted.size, bool)
            wanted[np.asarray(entry.channels) // self.arch.group] = True
            layer.wanted = wanted.reshape(layer.wanted.shape)
        layer.wanted = self.contents.in_slots(layer.wanted)
        layer.part = layer.height * layer.wanted.shape[1] // self.arch.rows
        layer.geometries = geometries_of(layer)
        layer.sees = may_see_nothing(layer)
        return layer

    def fail(self, number: int, text: str) -> NoReturn:
        self.contents.fail(number, text)

    def run(self):
        self.contents.check_ranges()
        steps = {Opcode.LOAD: self._load, Opcode.ARRAY: self._array, Opcode.POST: self._post,
                 Opcode.STORE: self._store}
        for number, i in enumerate(self.program.instructions):
            if i.opcode in steps:
                # Every round has the same instructions of a layer, but for loads.
                self.round = self.seen[i.layer, i.opcode] * self.host.rounds // self.count[
                    i.layer, i.opcode]
                self.seen[i.layer, i.opcode] += 1
                steps[i.opcode](number, i)
        if self.items:
            raise MemoryPlanError(f"nobody stores results of layer {self.items[0].layer.name!r}")
        self.contents.check_outputs()
        return self.contents.check_peaks(self.sums.layer)

    def _load(self, number, i):
        base = (i.base + np.arange(i.rows)[:, None] * i.base_stride + np.arange(i.words)).ravel()
        start = (i.address + np.arange(i.rows)[:, None] * i.row_stride
                 + word_starts(i, self.arch)).ravel()
        space = Space(i.memory)
        if base.max() >= space.depth(self.arch):
            self.fail(number, f"writes {space.name.lower()} words that are not there")
        layer = self.layers[i.layer]
        if i.memory not in (Memory.ACTIVATION, Memory.OPERAND):
            sizes = (layer.weight_bytes if i.memory == Memory.WEIGHT else
                     self._parameter_sizes(layer, start) if i.memory == Memory.PARAMETER else
                     (word_bytes(i.memory, self.arch),))
            if loaded_bytes(i, self.arch) not in sizes:
                self.fail(number, f"loads other parts of {space.name.lower()} words than there are")
            self.contents.bytes[space][base] = start
            return
        name = layer.input if i.memory == Memory.ACTIVATION else layer.operand.tensor
        tensor = self.contents.number[name]
        if tensor in self.cut:
            self.fail(number, f"loads words of {name!r}, of which parts are not stored")
        place, word, _ = self.contents.where(number, i, tensor, start)
        # [words, slots]
        round = self.contents.in_slots(self.contents.outside[tensor][place, word])
        # Which operands are needed shows when they are read.
        if i.memory == Memory.ACTIVATION and (
                (round < 0) & layer.wanted[self.contents.place(tensor, word)[0]]).any():
            self.fail(number, f"loads what nothing has written of {name!r}")
        self.contents.maps[space][base] = np.where(
            round < 0, -1, self.contents.tag(tensor, round, word[:, None]))

    def _parameter_sizes(self, layer, starts):
        """The bytes that parameter words which begin there may have: the layer's last one may be
        without the lanes after its last channel."""
        whole, chunks = self.arch.parameter_bytes, self.arch.chunks
        if layer.last_parameters is None:
            return (whole,)
        tensor = self.contents.tensors[layer.output]
        lanes = np.arange(tensor.shape[0]) if tensor.channels is None else np.array(tensor.channels)
        lanes = lanes - (layer.first_group + layer.groups - 1) * self.arch.group
        # lanes of the last group; words of its chunks after them may not be there at all
        used = int(lanes[lanes < self.arch.group].max(initial=0)) + 1
        for words in (chunks, -(-used // self.arch.post_lanes)):
            if layer.parameters + ((layer.groups - 1) * chunks + words - 1) * whole in starts:
                lanes = used - (words - 1) * self.arch.post_lanes
                enough = lanes * self.arch.parameter_bits <= 8 * layer.last_parameters
                sizes = (layer.last_parameters,) if len(starts) == 1 and enough else ()
                return sizes if words == chunks else (*sizes, whole)
        return (whole,)

    def _array(self, number, i):
        layer, depth = self.layers[i.layer], len(self.sums.layer)
        passes = loops.passes(i)
        count = passes * loops.pass_words(i, self.arch)
        weights = self.contents.bytes[Space.WEIGHT][i.weight_base:i.weight_base + count]
        if weights.size < count or i.accumulator + results(i) > depth:
            self.fail(number, "reads or writes words that are not there")
        if bool(i.signs) != self.contents.tensors[self.contents.number[layer.input]].signs:
            self.fail(number, "takes signs for numbers, or numbers for signs")
        found = find_passes(weights, i, layer, self.arch,
                            int(self.sums.passes[i.accumulator]) if i.accumulate else 0)
        if isinstance(found, str):
            self.fail(number, found)
        block, first, taps = found
        pool = pool_of(i.narrow, self.arch)
        if pool is not None:
            self._check_shared(number, Space.POOL, np.arange(pool, pool + (
                1 << width_of(i.narrow, self.arch))), layer.weight_pool, "pool")
        values = find_pixels(self.contents, number, i, layer, taps) | {
            "layer": i.layer, "block": block, "passes": first + passes}
        mine = slice(i.accumulator, i.accumulator + results(i))
        if not i.accumulate:
            self.sums.begin(mine, values)
            if first:
                self.fail(number, "begins sums with another pass than their first")
        elif not self.sums.add(mine, first, values):
            self.fail(number, "adds to sums that are not its own")

    def _post(self, number, i):
        layer, sums = self.layers[i.layer], self.sums
        offsets = (np.arange(i.out_y)[:, None] * i.stride_y
                   + np.arange(i.out_x) * i.stride_x).ravel()
        made = SimpleNamespace(layer=layer, raw=i.raw, operands=None, count=len(offsets),
                               **self._windows(number, i, layer))
        block = sums.block[i.accumulator]
        made.group = self._parameters(number, i, layer, block * self.arch.groups_per_columns)
        if i.table:
            self._check_table(number, i, layer)
        slot = loops.slot_of(i, self.arch)
        if i.operand:
            where = i.operand_base + offsets * (not i.broadcast)
            if not 0 <= where.min() <= where.max() < MEMORIES[Space.OPERAND].depth(self.arch):
                self.fail(number, "reads operand words that are not there")
            made.operands = where, self.contents.maps[Space.OPERAND][
                where, slot % self.arch.groups_per_word * self.arch.code_signs]
        if i.destination == Destination.STORE:
            self.items.append(made)
            return
        tensor, both = self.contents.tensors[layer.output], (Destination.BOTH,)
        for space, base, start, chosen in (
                (Space.ACTIVATION, i.base, tensor.chip, (Destination.ACTIVATION, *both)),
                (Space.OPERAND, i.copy_base, tensor.operand, (Destination.OPERAND, *both))):
            if i.destination in chosen:
                word = base + offsets - (start or 0)
                if start is None or word.min() < 0 or word.max() >= self.contents.real[
                        layer.output].shape[0] * np.prod(tensor.shape[1:]):
                    self.fail(number, f"writes outside of {self.contents.names[layer.output]!r}")
                block, row, column = self.contents.place(layer.output, word)
                groups = self.contents.groups_per_word(tensor)
                if bool(i.signs) != tensor.signs or slot >= groups:
                    self.fail(number, "writes signs where there are none, or none where they are")
                self._check_results(number, made, block * groups + slot - layer.first_group, row,
                                    column)
                tags = self.contents.tag(layer.output, self.round, word)[:, None]
                held, mine = self.contents.maps[space], self.contents.slots(layer.output, slot)
                held[base + offsets, mine] = tags
                if space == Space.ACTIVATION:
                    for copy in list(loops.slots_of(i, self.arch))[1:]:
                        held[base + offsets, self.contents.slots(layer.output, copy)] = tags
                if i.signs:
                    # Above them come zeros: where channels belong nothing, else what is wanted.
                    real = self.contents.real[layer.output][block, slot + 1:]
                    held[base + offsets, mine.stop:] = np.where(real, -1, tags)

    def _windows(self, number, i, layer):
        """{name: array [results]}: first and end of the rows and columns of pixels that each result
        pools; whether they are known."""
        sums, index = self.sums, windows(i)                     # [results, words]
        if not 0 <= index.min() <= index.max() < len(sums.layer):
            self.fail(number, "reads sums that are not there")
        there, block, passes, round, row, column, blind = sums.all[:, index]
        least = int(row.min())
        if (there != i.layer).any() or (block != block[0, 0]).any() or not (
                (round == self.round) | (round == ANY)).all() or (
                least <= NONE and (row == NONE).any()):
            self.fail(number, "reads sums that are not its own")
        runs = layer.block_passes
        if (passes != runs[block[0, 0] + 1] - runs[block[0, 0]]).any():
            self.fail(number, "reads sums that have not had all their passes")
        known = (row >= 0).all(axis=1)
        right = least >= 0 or layer.sees
        for which in np.unique(blind[blind > 0]) if blind.any() else ():
            mine = (blind == which) & (row >= 0)
            for passes in sums.passes_blind[which]:
                right &= sees_nothing(layer, passes, row[mine], column[mine]).all()
        if not right:
            self.fail(number, "reads sums for which the array took pixels for padding")
        if index.shape[1] == 1:
            row, column = row[:, 0], column[:, 0]
            return {"known": known, "top": row, "bottom": row + 1, "left": column,
                    "right": column + 1}
        found = {"known": known, "top": row.min(axis=1), "bottom": row.max(axis=1) + 1,
                 "left": column.min(axis=1), "right": column.max(axis=1) + 1}
        pixels = (found["bottom"] - found["top"]) * (found["right"] - found["left"])
        place = np.sort((row << 32) + column, axis=1)
        # A column that is carried from one result to the next may stand there twice.
        there = (np.diff(place, axis=1) != 0).sum(axis=1) + 1
        whole = (there == pixels) & ((i.pooling != Pooling.SUM) | (index.shape[1] == pixels))
        if not (whole | ~known).all():
            self.fail(number, "reads windows that are not whole")
        return found

    def _parameters(self, number, i, layer, first):
        """The group of the layer's channels that parameters are for; None: lanes without any."""
        chunks, size = self.arch.chunks, self.arch.parameter_bytes
        count = chunk_count(i, self.arch)
        tags = self.contents.bytes[Space.PARAMETER][i.parameters:i.parameters + count]
        group, rest = divmod(int(tags[0]) - layer.parameters, chunks * size)
        if len(tags) < count or tags.min() < 0 or rest or (np.diff(tags) != size).any():
            self.fail(number, "does not find its parameters one after the other")
        if self.arch.activation.binary and group == layer.groups:
            return None
        if group != first + column_group(i, self.arch):
            self.fail(number, "reads parameter words that are not its own")
        return group

    def _check_table(self, number, i, layer):
        depth = MEMORIES[Space.TABLE].depth(self.arch)
        self._check_shared(number, Space.TABLE, np.arange(i.low, i.high + 1) % depth, layer.table,
                           "table")

    def _check_shared(self, number, space, index, first, what):
        """The words of a memory are those of the image from `first` on, or the same as they: layers
        share what one of them has loaded."""
        size, tags = word_bytes(space, self.arch), self.contents.bytes[space][index]
        wanted = first + np.arange(len(index)) * size
        if (tags != wanted).any() and (tags.min() < 0 or (
                self._content(tags, size) != self._content(wanted, size)).any()):
            self.fail(number, f"reads {what} words that are not its own")

    def _content(self, starts, size):
        return self.image[np.add.outer(starts, np.arange(size)) % self.image.size]

    def _check_results(self, number, made, group, row, column):
        """Results go to rows and columns of their group's channels where they belong."""
        layer = made.layer
        images, (height, _) = layer.images, self.contents.tensors[layer.output].shape[1:]
        image, row = np.divmod(row, height // images)
        good, own = np.ones(made.count, bool), []
        for name, place, first, last in (("y", row, made.top, made.bottom),
                                         ("x", column, made.left, made.right)):
            n, axis = "yx".index(name), getattr(layer, name)
            index, rest = np.divmod(place - layer.origin[n], layer.step[n])
            low = index * axis.step - axis.margin
            low, high = np.maximum(low, 0), np.minimum(low + axis.pool, axis.pixels)
            more = image * axis.pixels if name == "y" else 0
            good &= (rest == 0) & (0 <= index) & (index < axis.out)
            good &= ((first == low + more) & (last == high + more)) | ~made.known
            own.append(index)
        group = np.broadcast_to(group, good.shape)
        good &= group >= layer.groups if made.group is None else group == made.group
        if not good.all():
            n = int(np.argmin(good))
            self.fail(number, f"writes a result of row {made.top[n]} and column {made.left[n]} "
                              f"to group {group[n]}, row {row[n]}, column {column[n]} of "
                              f"{self.contents.names[layer.output]!r}")
        if made.operands is not None:
            self._check_operands(number, made, image, *own)

    def _check_operands(self, number, made, image, row, column):
        where, tags = made.operands
        layer, groups = made.layer, self.arch.groups_per_word
        tensor = self.contents.number[layer.operand.tensor]
        _, height, width = self.contents.tensors[tensor].shape
        broadcast = (height, width) == (layer.images, 1)
        row = image if broadcast else image * layer.y.out + row
        word = (made.group // groups * height + row) * width + column * (not broadcast)
        wanted = self.contents.tag(tensor, self.round, word)
        if (tags != wanted).any():
            n = int(np.argmax(tags != wanted))
            self.fail(number, f"combines with operand word {where[n]}, where lies "
                              f"{self.contents.describe(tags[n])} instead of "
                              f"{self.contents.describe(wanted[n])}")

    def _store(self, number, i):
        size = item_bytes(i.raw, self.arch)
        stride = size if i.burst else i.item_stride
        address = (i.address + np.arange(i.rows)[:, None] * i.row_stride
                   + np.arange(i.items) * stride).ravel()
        if not self.items:
            self.fail(number, "stores results that nobody has made")
        made = self.items.popleft()
        layer, parts = made.layer, self.arch.chunks if made.raw else 1
        if made.raw != i.raw or layer is not self.layers[i.layer] or (
                len(address) != made.count * parts):
            self.fail(number, "stores other results than post makes")
        place, word, part = self.contents.where(number, i, layer.output, address)
        block, row, column = self.contents.place(layer.output, word)
        if i.item_beats:
            self._check_part(number, i, layer, block * self.arch.groups_per_word + part)
        if made.raw:
            if (part != np.tile(np.arange(parts), made.count)).any():
                self.fail(number, "stores the chunks of a sum in another order")
            group = block
        else:
            group = block * self.arch.groups_per_word + part - layer.first_group
        self._check_results(number, made, group[::parts], row[::parts], column[::parts])
        self.contents.outside[layer.output][place, word, part] = self.round

    def _check_part(self, number, i, layer, groups):
        """The first beats of groups, which are all that a STORE writes, must hold their
        channels."""
        real, arch = self.contents.tensors[layer.output], self.arch
        lanes = np.arange(real.shape[0]) if real.channels is None else np.array(real.channels)
        for group in set(groups.tolist()):
            used = max((int(lane) % arch.group + 1 for lane in lanes
                        if lane // arch.group == group), default=0)
            if used * arch.activation.width > i.item_beats * arch.bus_bits:
                self.fail(number, f"stores {i.item_beats} beats of a group of {used} channels")
        self.cut.add(layer.output)

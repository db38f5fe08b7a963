"""The memory plan of a program, proven from its instructions: every read finds the data that it is
meant to read.

Every word on the chip, and every group of a map outside, carries a tag: which tensor (or byte of
the memory image) it holds, in which round of a batch, and where it stands there. Instructions hand
tags on in program order, which is the order of all that conflicts (`races` proves that). A sum
knows which pixel of which layer it is, from the tags of what the array read for it, and how many of
its passes it has had; a result must be made of the whole sums of its window, with the parameters of
its channels and the operand of its pixel, and be written where it belongs. So maps that overlap
while both are needed, loads that are missing or come too late, words that are overwritten too
early, and wrong addresses all leave a wrong tag where something is read. Nothing is taken from the
compiler but what the program states: the layers' geometry, the places of maps, weights and
parameters, and the peaks, which must be those found here. Arithmetic (padding codes, limits, zero
points, factors) is not looked at.
"""

from collections import Counter, deque
from itertools import accumulate, pairwise
from types import SimpleNamespace

import numpy as np
from systolith.hw.spec import loops
from systolith.hw.spec.isa import Destination, Memory, Opcode, Pooling
from systolith.hw.spec.loops import results, windows
from systolith.hw.spec.memories import MEMORIES, Space, item_bytes, word_bytes
from systolith.hw.spec.program import Program

from .sums import ANY, NONE, Sums, find_passes, find_pixels, lines_of, may_see_nothing, sees_nothing

__all__ = ["MemoryPlanError", "check_memory_plan"]

#: Bits of a tag for the place in a tensor.
_PLACE = 32


class MemoryPlanError(RuntimeError):
    """A program that reads a word that was overwritten too early or never written."""


def check_memory_plan(program: Program) -> dict[str, int]:
    """{memory: words that hold something at some time, up to the last one} of a program.

    Raises MemoryPlanError naming the instruction, the word, and what lies there instead.
    """
    return _Checker(program).run()


class _Checker:
    def __init__(self, program):
        self.program, self.arch, self.host = program, program.arch, program.host
        self.image = np.frombuffer(program.image, np.uint8)
        self.rounds = self.host.rounds
        self.names = list(self.host.tensors)
        self.tensors = [self.host.tensors[name] for name in self.names]
        self.number = {name: n for n, name in enumerate(self.names)}
        slots = self.arch.groups_per_word
        self.maps = {space: np.full((MEMORIES[space].depth(self.arch), slots), -1)
                     for space in (Space.ACTIVATION, Space.OPERAND)}
        # Byte addresses in the image of what lies there.
        self.bytes = {space: np.full(MEMORIES[space].depth(self.arch), -1)
                      for space in (Space.WEIGHT, Space.PARAMETER, Space.TABLE)}
        self.sums = Sums(self.arch.accumulator_depth)
        self.items: deque = deque()
        self.outside = {}                       # tensor -> rounds stored [place, word, part]
        self.real = [self._real(tensor) for tensor in self.tensors]
        for number, tensor in enumerate(self.tensors):
            if tensor.external is not None:
                places = self.rounds if tensor.stride else 1
                words, parts = self._real_parts(number).shape
                self.outside[number] = np.full((places, words, parts), -1)
        for item in self.host.inputs:
            stored = self.outside[self.number[item.name]]
            stored[:] = np.arange(len(stored))[:, None, None]
        self.layers = [self._layer(entry) for entry in self.host.layers]
        self.seen: Counter = Counter()
        self.count = Counter(
            (i.layer, i.opcode) for i in program.instructions if i.unit is not None)

    def _real(self, tensor):
        """bool [blocks, groups]: which groups of a map's words hold a channel."""
        groups = self.arch.groups_per_word
        real = np.zeros(-(-tensor.shape[0] // self.arch.vector) * groups, bool)
        channels = range(tensor.shape[0]) if tensor.channels is None else tensor.channels
        real[np.asarray(channels) // self.arch.group] = True
        return real.reshape(-1, groups)

    def _real_parts(self, number):
        """bool [words, parts] of a map outside: its words' groups, or the chunks of raw sums."""
        channels, height, width = self.tensors[number].shape
        if self.tensors[number].raw:
            return np.ones((-(-channels // self.arch.group) * height * width, self.arch.chunks),
                           bool)
        return np.repeat(self.real[number], height * width, axis=0)

    def _layer(self, entry):
        """A layer as the program states it: its `array` of `Program.host`, and

        - block_passes: the first pass of each column block, counted from the layer's first weight
          word, and the number of all;
        - runs: of each column block (first pass, box) of boxes whose weights follow each other;
        - wanted: bool [blocks, groups], which groups of its input's words hold a channel that it
          reads. The others of a joined map may not be there yet.
        """
        stated, number = entry.array, self.number[entry.input]
        layer = SimpleNamespace(**vars(stated), name=entry.name, input=entry.input,
                                output=self.number[entry.output], operand=entry.operand,
                                geometries={})
        layer.y, layer.x = lines_of(stated)
        layer.runs = [list(zip(accumulate((box.passes for box in boxes), initial=0), boxes,
                               strict=False)) for boxes in stated.passes]
        layer.block_passes = list(accumulate(
            (sum(box.passes for box in boxes) for boxes in stated.passes), initial=0))
        layer.wanted = self.real[number]
        if self.arch.activation.binary:
            # Lanes without channel must hold -1, so that they cancel.
            layer.wanted = np.ones_like(layer.wanted)
        elif entry.channels is not None:
            wanted = np.zeros(layer.wanted.size, bool)
            wanted[np.asarray(entry.channels) // self.arch.group] = True
            layer.wanted = wanted.reshape(layer.wanted.shape)
        return layer

    def fail(self, number, text):
        code = self.program.instructions[number]
        layer = self.host.layers[code.layer].name
        raise MemoryPlanError(f"instruction {number} of layer {layer!r} {text}: {code}")

    def run(self):
        self._check_ranges()
        steps = {Opcode.LOAD: self._load, Opcode.ARRAY: self._array, Opcode.POST: self._post,
                 Opcode.STORE: self._store}
        for number, i in enumerate(self.program.instructions):
            if i.opcode in steps:
                # Every round has the same instructions of a layer, but for loads.
                self.round = self.seen[i.layer, i.opcode] * self.rounds // self.count[
                    i.layer, i.opcode]
                self.seen[i.layer, i.opcode] += 1
                steps[i.opcode](number, i)
        if self.items:
            raise MemoryPlanError(f"nobody stores results of layer {self.items[0].layer.name!r}")
        self._check_outputs()
        return self._check_peaks()

    # Outside.

    def _check_ranges(self):
        """Sections, and the tensors in them, do not overlap."""
        sections = [(item.offset, item.offset + item.bytes, item.section)
                    for item in self.host.memory]
        maps = [(place, place + tensor.bytes, name)
                for name, tensor in self.host.tensors.items() if tensor.external is not None
                for place in tensor.external + tensor.stride * np.arange(
                    self.rounds if tensor.stride else 1)]
        for what, ranges in (("sections", sections), ("tensors", maps)):
            ranges.sort()
            for one, two in pairwise(ranges):
                if one[1] > two[0]:
                    raise MemoryPlanError(f"the {what} {one[2]!r} and {two[2]!r} overlap in "
                                          f"external memory, bytes {two[0]} to {one[1] - 1}")
            if ranges and ranges[-1][1] > self.program.window_bytes:
                raise MemoryPlanError(f"{ranges[-1][2]!r} ends after the window of "
                                      f"{self.program.window_bytes} bytes")

    def _check_outputs(self):
        for item in self.host.outputs:
            number = self.number[item.name]
            stored = self.outside[number]
            good = stored == np.arange(len(stored))[:, None, None]
            if not (good | ~self._real_parts(number)).all():
                raise MemoryPlanError(f"nothing writes all of the output {item.name!r}")

    def _check_peaks(self):
        used = {space.name.lower(): tags for space, tags in self.bytes.items()} | {
            space.name.lower(): tags.max(axis=1, initial=-1) for space, tags in self.maps.items()}
        used["accumulator"] = self.sums.layer
        peaks = {name: int(np.flatnonzero(tags >= 0).max(initial=-1)) + 1
                 for name, tags in used.items()}
        for name, peak in peaks.items():
            stated = self.host.peak.get(f"{name}_words", 0)
            if peak > stated:
                raise MemoryPlanError(f"the program uses {peak} words of the {name} memory and "
                                      f"states a peak of {stated}")
        return peaks

    def _where(self, number, i, tensor, addresses):
        """(place, word, part) outside of the bytes at these addresses of a tensor."""
        item = self.tensors[tensor]
        if tensor not in self.outside:
            self.fail(number, f"moves {self.names[tensor]!r}, which does not lie outside")
        place, rest = np.divmod(addresses - item.external, item.stride or 1 << 62)
        places = len(self.outside[tensor])
        if (place < 0).any() or (place >= places).any() or (rest >= item.bytes).any():
            self.fail(number, f"leaves the bytes of {self.names[tensor]!r}")
        part = self.arch.raw_bytes if item.raw else self.arch.group_bytes
        whole = part * self.arch.chunks if item.raw else self.arch.activation_bytes
        word, rest = np.divmod(rest, whole)
        if (rest % part).any() or (i.opcode == Opcode.LOAD and rest.any()):
            self.fail(number, f"moves {self.names[tensor]!r} in other pieces than it has")
        return place, word, rest // part

    # Tags.

    def _tag(self, tensor, round, word):
        return ((tensor * self.rounds + round) << _PLACE) + word

    def _place(self, tensor, word):
        """(block, row, column) of a word of a map."""
        _, height, width = self.tensors[tensor].shape
        block, rest = np.divmod(word, height * width)
        return (block, *np.divmod(rest, width))

    def _describe(self, tag):
        if tag < 0:
            return "nothing"
        tensor, round = divmod(int(tag) >> _PLACE, self.rounds)
        block, row, column = self._place(tensor, int(tag) & (1 << _PLACE) - 1)
        return (f"a part of {self.names[tensor]!r}, round {round}, "
                f"block {block}, row {row}, column {column}")

    def look_up(self, number, space, address, group, name):
        """(tensor, round, (block, row, column)) of one group, which must be a part of a tensor."""
        if not 0 <= address < len(self.maps[space]):
            self.fail(number, f"reads {space.name.lower()} word {address}, which is not there")
        tag = int(self.maps[space][address, group])
        tensor, round = divmod(tag >> _PLACE, self.rounds)
        if tag < 0 or tensor != self.number[name]:
            self.fail(number, f"reads {space.name.lower()} word {address} for {name!r}, where lies "
                              f"{self._describe(tag)}")
        return tensor, round, self._place(tensor, tag & (1 << _PLACE) - 1)

    def check_map(self, number, space, addresses, tensor, round, block, row, column, needed):
        """Hold the `needed` groups [..., groups] of words against what they must be: arrays that
        broadcast to the shape of `addresses`."""
        if addresses.size and not 0 <= addresses.min() <= addresses.max() < len(self.maps[space]):
            self.fail(number, f"reads {space.name.lower()} words that are not there")
        _, height, width = self.tensors[tensor].shape
        wanted = self._tag(tensor, round, (block * height + row) * width + column)
        tags = self.maps[space][addresses]
        wrong = (tags != wanted[..., None]) & needed
        if wrong.any():
            n = np.unravel_index(np.argmax(wrong), wrong.shape)
            self.fail(number, f"reads {space.name.lower()} word {addresses[n[:-1]]} for "
                              f"{self._describe(wanted[n[:-1]])[len('a part of '):]}, where lies "
                              f"{self._describe(tags[n])}")

    # Instructions.

    def _load(self, number, i):
        base = (i.base + np.arange(i.rows)[:, None] * i.base_stride + np.arange(i.words)).ravel()
        size = word_bytes(i.memory, self.arch)
        start = (i.address + np.arange(i.rows)[:, None] * i.row_stride
                 + np.arange(i.words) * size).ravel()
        space = Space(i.memory)
        if base.max() >= space.depth(self.arch):
            self.fail(number, f"writes {space.name.lower()} words that are not there")
        if i.memory not in (Memory.ACTIVATION, Memory.OPERAND):
            self.bytes[space][base] = start
            return
        layer = self.layers[i.layer]
        name = layer.input if i.memory == Memory.ACTIVATION else layer.operand.tensor
        tensor = self.number[name]
        place, word, _ = self._where(number, i, tensor, start)
        round = self.outside[tensor][place, word]               # [words, groups]
        # Which operands are needed shows when they are read.
        if i.memory == Memory.ACTIVATION and (
                (round < 0) & layer.wanted[self._place(tensor, word)[0]]).any():
            self.fail(number, f"loads what nothing has written of {name!r}")
        self.maps[space][base] = np.where(round < 0, -1, self._tag(tensor, round, word[:, None]))

    def _array(self, number, i):
        layer, depth = self.layers[i.layer], len(self.sums.layer)
        passes = loops.passes(i)
        weights = self.bytes[Space.WEIGHT][i.weight_base:i.weight_base + passes * self.arch.rows]
        if weights.size < passes * self.arch.rows or i.accumulator + results(i) > depth:
            self.fail(number, "reads or writes words that are not there")
        found = find_passes(weights, i, layer, self.arch)
        if isinstance(found, str):
            self.fail(number, found)
        block, first, taps = found
        values = find_pixels(self, number, i, layer, taps) | {
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
        if i.operand:
            where = i.operand_base + offsets * (not i.broadcast)
            if not 0 <= where.min() <= where.max() < self.arch.operand_depth:
                self.fail(number, "reads operand words that are not there")
            made.operands = where, self.maps[Space.OPERAND][where, i.slot]
        if i.destination == Destination.STORE:
            self.items.append(made)
            return
        tensor, both = self.tensors[layer.output], (Destination.BOTH,)
        for space, base, start, chosen in (
                (Space.ACTIVATION, i.base, tensor.chip, (Destination.ACTIVATION, *both)),
                (Space.OPERAND, i.copy_base, tensor.operand, (Destination.OPERAND, *both))):
            if i.destination in chosen:
                word = base + offsets - (start or 0)
                if start is None or word.min() < 0 or word.max() >= self.real[
                        layer.output].shape[0] * np.prod(tensor.shape[1:]):
                    self.fail(number, f"writes outside of {self.names[layer.output]!r}")
                block, row, column = self._place(layer.output, word)
                self._check_results(number, made, block * self.arch.groups_per_word + i.slot
                                    - layer.first_group, row, column)
                self.maps[space][base + offsets, i.slot] = self._tag(
                    layer.output, self.round, word)

    def _windows(self, number, i, layer):
        """{name: array [results]}: first and end of the rows and columns of pixels that each result
        pools; whether they are known."""
        sums, index = self.sums, windows(i)                     # [results, words]
        if not 0 <= index.min() <= index.max() < len(sums.layer):
            self.fail(number, "reads sums that are not there")
        block, round, row, column = (getattr(sums, name)[index]
                                     for name in ("block", "round", "row", "column"))
        if (sums.layer[index] != i.layer).any() or (block != block[0, 0]).any() or not (
                (round == self.round) | (round == ANY)).all() or (row == NONE).any():
            self.fail(number, "reads sums that are not its own")
        runs = layer.block_passes
        if (sums.passes[index] != runs[block[0, 0] + 1] - runs[block[0, 0]]).any():
            self.fail(number, "reads sums that have not had all their passes")
        known = (row >= 0).all(axis=1)
        blind, right = sums.blind[index], known.all() or may_see_nothing(layer)
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
        place = np.sort((row << _PLACE) + column, axis=1)
        # A column that is carried from one result to the next may stand there twice.
        there = (np.diff(place, axis=1) != 0).sum(axis=1) + 1
        whole = (there == pixels) & ((i.pooling != Pooling.SUM) | (index.shape[1] == pixels))
        if not (whole | ~known).all():
            self.fail(number, "reads windows that are not whole")
        return found

    def _parameters(self, number, i, layer, first):
        """The group of the layer's channels that parameters are for; None: lanes without any."""
        chunks, size = self.arch.chunks, self.arch.parameter_bytes
        tags = self.bytes[Space.PARAMETER][i.parameters:i.parameters + chunks]
        group, rest = divmod(int(tags[0]) - layer.parameters, chunks * size)
        if len(tags) < chunks or tags.min() < 0 or rest or (np.diff(tags) != size).any():
            self.fail(number, "does not find its parameters one after the other")
        if self.arch.activation.binary and group == layer.groups:
            return None
        if group != first + i.group:
            self.fail(number, "reads parameter words that are not its own")
        return group

    def _check_table(self, number, i, layer):
        size, depth = self.arch.table_bytes, self.arch.table_depth
        count = i.high - i.low + 1
        tags = self.bytes[Space.TABLE][np.arange(i.low, i.high + 1) % depth]
        wanted = layer.table + np.arange(count) * size
        # Layers of the same table share what one of them has loaded.
        if (tags != wanted).any() and (tags.min() < 0 or (
                self._content(tags, size) != self._content(wanted, size)).any()):
            self.fail(number, "reads table words that are not its own")

    def _content(self, starts, size):
        return self.image[np.add.outer(starts, np.arange(size)) % self.image.size]

    def _check_results(self, number, made, group, row, column):
        """Results go to rows and columns of their group's channels where they belong."""
        layer = made.layer
        images, (height, _) = layer.images, self.tensors[layer.output].shape[1:]
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
                              f"{self.names[layer.output]!r}")
        if made.operands is not None:
            self._check_operands(number, made, image, *own)

    def _check_operands(self, number, made, image, row, column):
        where, tags = made.operands
        layer, groups = made.layer, self.arch.groups_per_word
        tensor = self.number[layer.operand.tensor]
        _, height, width = self.tensors[tensor].shape
        broadcast = (height, width) == (layer.images, 1)
        row = image if broadcast else image * layer.y.out + row
        word = (made.group // groups * height + row) * width + column * (not broadcast)
        wanted = self._tag(tensor, self.round, word)
        if (tags != wanted).any():
            n = int(np.argmax(tags != wanted))
            self.fail(number, f"combines with operand word {where[n]}, where lies "
                              f"{self._describe(tags[n])} instead of {self._describe(wanted[n])}")

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
        place, word, part = self._where(number, i, layer.output, address)
        block, row, column = self._place(layer.output, word)
        if made.raw:
            if (part != np.tile(np.arange(parts), made.count)).any():
                self.fail(number, "stores the chunks of a sum in another order")
            group = block
        else:
            group = block * self.arch.groups_per_word + part - layer.first_group
        self._check_results(number, made, group[::parts], row[::parts], column[::parts])
        self.outside[layer.output][place, word, part] = self.round

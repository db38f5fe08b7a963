"""The memory plan of a program, proven from its instructions: whoever reads finds what was meant.

Every word on the chip, and every group of a map outside, carries a tag: which tensor (or layer) it
belongs to, in which round of a batch, and where it stands there. Instructions hand tags on in
program order, which is the order of all that conflicts (`sim.races` proves that). Two maps that
overlap while both are needed, or weights that are overwritten too early, leave a wrong tag where
something is read. Nothing is taken from the allocator but the places of maps as the program
states them, and its peaks, which must be those found here.
"""

from collections import Counter
from itertools import pairwise

import numpy as np

from ..hw.formats import Bipolar
from ..hw.isa import Destination, Memory, Opcode
from .access import Space, accesses, item_bytes, results, word_bytes, words

__all__ = ["MemoryPlanError", "check_memory_plan"]

#: Bits of a tag for the place in a tensor, or in the weights.
_PLACE = 32


class MemoryPlanError(RuntimeError):
    """A program that reads what has been overwritten, or has never been there."""


def check_memory_plan(program):
    """{memory: words that hold something at some time, up to the last one} of a program.

    Raises MemoryPlanError naming the instruction, the word, and what lies there instead.
    """
    return _Checker(program).run()


class _Checker:
    def __init__(self, program):
        self.program, self.arch, self.host = program, program.arch, program.host
        self.rounds = self.host["batch"] // self.host["together"]
        self.names = list(self.host["tensors"])
        self.tensors = [self.host["tensors"][name] for name in self.names]
        self.number = {name: n for n, name in enumerate(self.names)}
        groups = self.arch.groups_per_word
        self.maps = {space: np.full((space.depth(self.arch), groups), -1)
                     for space in (Space.ACTIVATION, Space.OPERAND)}
        self.tags = {space: np.full(space.depth(self.arch), -1) for space in Space
                     if space not in (Space.ACTIVATION, Space.OPERAND, Space.EXTERNAL)}
        # Of each sum, the groups of columns that were read; one of these columns for STORE.
        self.read = np.ones((self.arch.accumulator_depth, self.arch.groups_per_columns, 2), bool)
        # Sums that come along with others, and that nobody may want.
        self.spare = np.zeros(self.arch.accumulator_depth, bool)
        # Of each layer: whether pooling windows share pixels, and whether they leave some out.
        pooled = [(np.array(layer["pool"]), np.array(layer["pool_stride"]),
                   any(layer["pool_pads"])) for layer in self.host["layers"]]
        self.shared = [padded or (size > stride).any() for size, stride, padded in pooled]
        self.gaps = np.array([(size < stride).any() for size, stride, _ in pooled])
        self.outside = {}                       # tensor -> rounds stored [place, word, group]
        self.real = []                          # of each tensor: groups that hold a channel
        for number, tensor in enumerate(self.tensors):
            channels = tensor["channels"] or range(tensor["shape"][0])
            real = np.zeros(-(-tensor["shape"][0] // self.arch.vector) * groups, bool)
            real[np.asarray(channels) // self.arch.group] = True
            self.real.append(real.reshape(-1, groups))
            if tensor["external"] is not None and not tensor["raw"]:
                places = self.rounds if tensor["stride"] else 1
                self.outside[number] = np.full((places, self._words(number), groups), -1)
        for item in self.host["inputs"]:
            stored = self.outside[self.number[item["name"]]]
            stored[:] = np.arange(len(stored))[:, None, None]
        self.wanted = [self._wanted(layer) for layer in self.host["layers"]]
        self.seen, self.count = Counter(), Counter(
            (i.layer, i.opcode) for i in program.instructions if i.unit is not None)

    def _wanted(self, layer):
        """bool [blocks, groups]: which of its input's groups hold a channel that a layer reads. The
        others of a joined map may not be there yet."""
        number, channels = self.number[layer["input"]], layer["channels"]
        if channels is None:
            return self.real[number]
        wanted = np.zeros(self.real[number].size, bool)
        wanted[np.asarray(channels) // self.arch.group] = True
        return wanted.reshape(self.real[number].shape)

    def _words(self, number):
        shape = self.tensors[number]["shape"]
        return -(-shape[0] // self.arch.vector) * shape[1] * shape[2]

    def _fail(self, number, text):
        code = self.program.instructions[number]
        layer = self.host["layers"][code.layer]["name"]
        raise MemoryPlanError(f"instruction {number} of layer {layer!r} {text}: {code}")

    def run(self):
        self._check_ranges()
        steps = {Opcode.LOAD: self._load, Opcode.ARRAY: self._array, Opcode.POST: self._post,
                 Opcode.STORE: self._store}
        for number, i in enumerate(self.program.instructions):
            if i.opcode in steps:
                self.round = self.seen[i.layer, i.opcode] * self.rounds // self.count[
                    i.layer, i.opcode]
                self.seen[i.layer, i.opcode] += 1
                steps[i.opcode](number, i)
        self._check_outputs()
        if self._unread(slice(None)):
            raise MemoryPlanError("there are sums that nobody has read")
        used = {space.name.lower(): tags for space, tags in self.tags.items()} | {
            space.name.lower(): tags.max(axis=1, initial=-1) for space, tags in self.maps.items()}
        peaks = {name: int(np.flatnonzero(tags >= 0).max(initial=-1)) + 1
                 for name, tags in used.items()}
        for name, peak in peaks.items():
            stated = self.host["peak"].get(f"{name}_words", 0)
            if peak > stated:
                raise MemoryPlanError(f"the program uses {peak} words of the {name} memory and "
                                      f"states a peak of {stated}")
        return peaks

    # Outside.

    def _check_ranges(self):
        """Sections, and the tensors in them, do not overlap."""
        sections = [(item["offset"], item["offset"] + item["bytes"], item["section"])
                    for item in self.host["memory"]]
        maps = [(place, place + tensor["bytes"], name)
                for name, tensor in self.host["tensors"].items() if tensor["external"] is not None
                for place in tensor["external"] + tensor["stride"] * np.arange(
                    self.rounds if tensor["stride"] else 1)]
        for what, ranges in (("sections", sections), ("tensors", maps)):
            ranges.sort()
            for one, two in pairwise(ranges):
                if one[1] > two[0]:
                    raise MemoryPlanError(f"the {what} {one[2]!r} and {two[2]!r} overlap in "
                                          f"external memory, bytes {two[0]} to {one[1] - 1}")
            if ranges and ranges[-1][1] > self.program.window_bytes:
                raise MemoryPlanError(f"{ranges[-1][2]!r} ends behind the window of "
                                      f"{self.program.window_bytes} bytes")

    def _check_outputs(self):
        for item in self.host["outputs"]:
            number = self.number[item["name"]]
            if number not in self.outside:
                continue
            stored = self.outside[number]
            good = stored == np.arange(len(stored))[:, None, None]
            if not (good | ~self._real_groups(number)).all():
                raise MemoryPlanError(f"nothing writes all of the output {item['name']!r}")

    def _real_groups(self, number):
        """bool [words, groups]: which hold a channel."""
        _, height, width = self.tensors[number]["shape"]
        return np.repeat(self.real[number], height * width, axis=0)

    def _where(self, number, i, tensor, addresses):
        """(place, word, group) outside of the bytes at these addresses of a tensor."""
        item = self.tensors[tensor]
        place, rest = np.divmod(addresses - item["external"], item["stride"] or 1 << 62)
        places = len(self.outside[tensor])
        if (place < 0).any() or (place >= places).any() or (rest >= item["bytes"]).any():
            self._fail(number, f"leaves the bytes of {self.names[tensor]!r}")
        word, rest = np.divmod(rest, self.arch.activation_bytes)
        return place, word, rest // self.arch.group_bytes

    # Tags.

    def _tag(self, tensor, round, word):
        return ((tensor * self.rounds + round) << _PLACE) + word

    def _tensor_round(self, tags):
        return np.divmod(tags >> _PLACE, self.rounds)

    def _check_map(self, number, space, index, name, wanted):
        """What is read of a map; the round it belongs to, or None where nothing is read.

        `wanted` [blocks, groups] says which groups of a word are needed.
        """
        if not len(index):
            return None
        tags, tensor = self.maps[space][index], self.number[name]
        mine = np.where(self._tensor_round(tags)[0] == tensor, tags, -1).max(axis=1)
        _, height, width = self.tensors[tensor]["shape"]
        needed = wanted[(mine & (1 << _PLACE) - 1) // (height * width) % len(wanted)]
        there, round = self._tensor_round(tags.max(axis=1))
        wrong = mine < 0
        if not wrong.any():
            round = self._tensor_round(mine)[1]
            first = round[np.argmax(needed.any(axis=1))]
            wrong = (((tags != mine[:, None]) | (round != first)[:, None]) & needed).any(axis=1)
        if wrong.any():
            n = int(np.argmax(wrong))
            found = ("nothing" if tags[n].max() < 0 else
                     f"a part of {self.names[there[n]]!r}, round {round[n]}")
            self._fail(number, f"reads {space.name.lower()} word {index[n]} for {name!r}, where "
                               f"lies {found}")
        return int(first)

    def _unread(self, mine):
        """Whether there are sums that nobody has read, and that somebody should want."""
        layer = self.tags[Space.ACCUMULATOR][mine] // (self.rounds + 1)
        return not (self.read[mine].any(axis=(1, 2)) | self.gaps[layer] | self.spare[mine]).all()

    # Instructions.

    def _load(self, number, i):
        base = (i.base + np.arange(i.rows)[:, None] * i.base_stride + np.arange(i.words)).ravel()
        size = word_bytes(i.memory, self.arch)
        start = (i.address + np.arange(i.rows)[:, None] * i.row_stride
                 + np.arange(i.words) * size).ravel()
        if i.memory not in (Memory.ACTIVATION, Memory.OPERAND):
            self.tags[Space(i.memory)][base] = (i.layer << _PLACE) + start // size
            return
        layer = self.host["layers"][i.layer]
        name = layer["input"] if i.memory == Memory.ACTIVATION else layer["operand"]["tensor"]
        tensor = self.number[name]
        place, word, _ = self._where(number, i, tensor, start)
        round = self.outside[tensor][place, word]               # [words, groups]
        _, height, width = self.tensors[tensor]["shape"]
        if i.memory == Memory.ACTIVATION and (
                (round < 0) & self.wanted[i.layer][word // (height * width)]).any():
            self._fail(number, f"loads what nothing has written of {name!r}")
        self.maps[Space(i.memory)][base] = np.where(
            round < 0, -1, self._tag(tensor, round, word[:, None]))

    def _array(self, number, i):
        layer, sums = self.host["layers"][i.layer], self.tags[Space.ACCUMULATOR]
        used = {access.space: words(access.intervals) for access in accesses(i, self.arch)
                if not access.is_write}
        round = self._check_map(number, Space.ACTIVATION, used[Space.ACTIVATION], layer["input"],
                                self.wanted[i.layer])
        tags = self.tags[Space.WEIGHT][used[Space.WEIGHT]]
        if (tags >> _PLACE != i.layer).any() or (np.diff(tags) != 1).any():
            self._fail(number, "does not find its weights one after the other")
        mine = slice(i.accumulator, i.accumulator + results(i))
        # A layer may read nothing but padding: then any round is right.
        tag = i.layer * (self.rounds + 1) + (self.rounds if round is None else round)
        if i.accumulate:
            first = i.layer * (self.rounds + 1)
            good = (sums[mine] == tag) | (sums[mine] == first + self.rounds)
            if round is None:
                good = sums[mine] // (self.rounds + 1) == i.layer
            if not good.all() or self.read[mine].any():
                self._fail(number, "adds to sums that are not its own")
        elif self._unread(mine):
            self._fail(number, "overwrites sums that nobody has read")
        else:
            # The last run of words from the top begins rows of results that the map may not have.
            self.spare[mine] = i.starts > 1 and np.arange(results(i)) >= (
                ((i.out_y - 1) * i.starts + 1) * i.results_x)
        self.read[mine] = False
        if not i.accumulate or round is not None:
            sums[mine] = tag

    def _post(self, number, i):
        layer = self.host["layers"][i.layer]
        mine = words(accesses(i, self.arch)[0].intervals)
        sums, first = self.tags[Space.ACCUMULATOR][mine], i.layer * (self.rounds + 1)
        ours = mine, i.group, int(i.destination == Destination.STORE)
        # On binary chips, lanes without a channel are filled from sums that others read, too.
        again = self.read[ours].any() and not (
            isinstance(self.arch.activation, Bipolar) or self.shared[i.layer])
        if again or not ((sums == first + self.round) | (sums == first + self.rounds)).all():
            self._fail(number, "reads sums that are not its own")
        self.read[ours] = True
        used = {access.space: words(access.intervals) for access in accesses(i, self.arch)
                if not access.is_write}
        for space, index in used.items():
            if space in (Space.ACCUMULATOR, Space.OPERAND):
                continue
            if (self.tags[space][index] < 0).any() or (
                    space == Space.PARAMETER
                    and (self.tags[space][index] >> _PLACE != i.layer).any()):
                self._fail(number, f"reads {space.name.lower()} words that are not its own")
        if i.operand:
            round = self._check_map(number, Space.OPERAND, used[Space.OPERAND],
                                    layer["operand"]["tensor"], self._slot(i, layer))
            if round != self.round:
                self._fail(number, f"combines round {self.round} with round {round}")
        tensor = self.number[layer["output"]]
        offsets = (np.arange(i.out_y)[:, None] * i.stride_y
                   + np.arange(i.out_x) * i.stride_x).ravel()
        both = (Destination.BOTH,)
        for space, base, where, chosen in (
                (Space.ACTIVATION, i.base, "chip", (Destination.ACTIVATION, *both)),
                (Space.OPERAND, i.copy_base, "operand", (Destination.OPERAND, *both))):
            if i.destination in chosen:
                word = base + offsets - self.tensors[tensor][where]
                if word.min() < 0 or word.max() >= self._words(tensor):
                    self._fail(number, f"writes outside of {layer['output']!r}")
                self.maps[space][base + offsets, i.slot] = self._tag(tensor, self.round, word)

    def _slot(self, i, layer):
        """bool [blocks, groups]: POST reads one group of its operands' words."""
        real = self.real[self.number[layer["operand"]["tensor"]]]
        return real & (np.arange(real.shape[1]) == i.slot)

    def _store(self, number, i):
        tensor = self.number[self.host["layers"][i.layer]["output"]]
        if tensor not in self.outside:          # sums as they are: nobody reads them here
            return
        size = item_bytes(i.raw, self.arch)
        stride = size if i.burst else i.item_stride
        address = (i.address + np.arange(i.rows)[:, None] * i.row_stride
                   + np.arange(i.items) * stride).ravel()
        place, word, group = self._where(number, i, tensor, address)
        self.outside[tensor][place, word, group] = self.round

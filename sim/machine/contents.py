"""What every word of a chip's memories and of external memory holds while a program runs, as tags.

A tag of an activation or operand word says for each group of channels which tensor it is a part of,
in which round of a batch, and where it stands there: block of channels, row, column. The words of
weights, parameters and tables are tagged with the byte address of the image from which they were
loaded; the tensors in external memory, group by group, with the round in which they were stored.
-1 stands for nothing.
"""

from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
from systolith.hw.spec.host import TensorPlace
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.memories import MEMORIES, Space, loaded_bytes
from systolith.hw.spec.program import Program

__all__ = ["Contents", "MemoryPlanError"]

#: Bits of a tag for the place in a tensor.
_PLACE = 32



class MemoryPlanError(RuntimeError):
    """A program that reads a word that was overwritten too early or never written."""


class Contents:
    """Contents of all memories of a chip but the accumulators (see `Sums`), at first the inputs.

    Parameters
    ----------
    program : Program

    Attributes
    ----------
    names : list of str
        The tensors; in all else they are indices into this list, `number` is the reverse.
    tensors : list of TensorView
        What the program states about each.
    maps : dict of Space to int64 array [words, slots]
        Tags of the activation and operand memories, for each group of signs where the chip has
        them (`Arch.slots`).
    bytes : dict of Space to int64 array [words]
        Byte addresses in the image of what the weight, parameter, table and pool memories hold.
    outside : dict of int to int64 array [places, words, parts]
        For each tensor in external memory the round that was stored last; places are those of the
        rounds of a batch, parts the groups of a word, or the chunks of raw sums.
    real : list of bool array [blocks, groups]
        For each tensor, which groups of its words hold a channel; of signs [blocks, slots].
    """

    def __init__(self, program: Program):
        self.program, self.arch, self.host = program, program.arch, program.host
        self.rounds = self.host.rounds
        self.names = list(self.host.tensors)
        self.tensors = [self.host.tensors[name] for name in self.names]
        self.number = {name: n for n, name in enumerate(self.names)}
        slots = self.arch.slots
        self.maps = {space: np.full((MEMORIES[space].depth(self.arch), slots), -1)
                     for space in (Space.ACTIVATION, Space.OPERAND)}
        self.bytes = {space: np.full(MEMORIES[space].depth(self.arch), -1)
                      for space in (Space.WEIGHT, Space.PARAMETER, Space.TABLE, Space.POOL)}
        self.outside: dict[int, np.ndarray] = {}
        self.real = [self._real(tensor) for tensor in self.tensors]
        for number, tensor in enumerate(self.tensors):
            if tensor.external is not None:
                places = self.rounds if tensor.stride else 1
                words, parts = self._real_parts(number).shape
                self.outside[number] = np.full((places, words, parts), -1)
        for item in self.host.inputs:
            stored = self.outside[self.number[item.name]]
            stored[:] = np.arange(len(stored))[:, None, None]

    def _real(self, tensor):
        """bool [blocks, groups]: which groups of a map's words hold a channel."""
        groups = self.groups_per_word(tensor)
        real = np.zeros(-(-tensor.shape[0] // (self.arch.group * groups)) * groups, bool)
        channels = range(tensor.shape[0]) if tensor.channels is None else tensor.channels
        real[np.asarray(channels) // self.arch.group] = True
        return real.reshape(-1, groups)

    def groups_per_word(self, tensor: TensorPlace) -> int:
        """Groups of channels in a word of a tensor."""
        return self.arch.slots if tensor.signs else self.arch.groups_per_word

    def in_slots(self, groups: np.ndarray) -> np.ndarray:
        """What is said of each group of a word (array [..., groups]), for each of its slots; of
        signs it is said already."""
        times = self.arch.slots // groups.shape[-1]
        return np.repeat(groups, times, axis=-1) if times > 1 else groups

    def slots(self, tensor: int, group: Any) -> Any:
        """The slots of a word in which a group of a tensor lies, as an index of `maps`."""
        times = self.arch.slots // self.groups_per_word(self.tensors[tensor])
        return slice(group * times, (group + 1) * times)

    def _real_parts(self, number):
        """bool [words, parts] of a map outside: its words' groups, or the chunks of raw sums."""
        channels, height, width = self.tensors[number].shape
        if self.tensors[number].raw:
            return np.ones((-(-channels // self.arch.group) * height * width, self.arch.chunks),
                           bool)
        return np.repeat(self.real[number], height * width, axis=0)

    def fail(self, number: int, text: str) -> NoReturn:
        """Raise MemoryPlanError about an instruction, by its index; `text` is what it does
        wrong."""
        code = self.program.instructions[number]
        layer = self.host.layers[code.layer].name
        raise MemoryPlanError(f"instruction {number} of layer {layer!r} {text}: {code}")

    # Words on the chip.

    def tag(self, tensor: int, round: Any, word: Any) -> Any:
        """The tags of words of a tensor, integers or arrays that broadcast."""
        return ((tensor * self.rounds + round) << _PLACE) + word

    def place(self, tensor: int, word: Any) -> tuple[Any, Any, Any]:
        """(block, row, column) of words of a tensor, an integer or an array."""
        _, height, width = self.tensors[tensor].shape
        block, rest = np.divmod(word, height * width)
        return (block, *np.divmod(rest, width))

    def describe(self, tag: int) -> str:
        """A tag in words, for messages."""
        if tag < 0:
            return "nothing"
        tensor, round = divmod(int(tag) >> _PLACE, self.rounds)
        block, row, column = self.place(tensor, int(tag) & (1 << _PLACE) - 1)
        return (f"a part of {self.names[tensor]!r}, round {round}, "
                f"block {block}, row {row}, column {column}")

    def look_up(self, number: int, space: Space, address: int, group: int, name: str
                ) -> tuple[int, int, tuple[int, int, int]]:
        """(tensor, round, (block, row, column)) of one group of a word that an instruction reads.
        Raises MemoryPlanError where it is no part of the tensor `name`."""
        if not 0 <= address < len(self.maps[space]):
            self.fail(number, f"reads {space.name.lower()} word {address}, which is not there")
        tag = int(self.maps[space][address, group])
        tensor, round = divmod(tag >> _PLACE, self.rounds)
        if tag < 0 or tensor != self.number[name]:
            self.fail(number, f"reads {space.name.lower()} word {address} for {name!r}, where lies "
                              f"{self.describe(tag)}")
        return tensor, round, self.place(tensor, tag & (1 << _PLACE) - 1)

    def check_map(self, number: int, space: Space, addresses: np.ndarray, tensor: int, round: int,
                  block: np.ndarray, row: np.ndarray, column: np.ndarray,
                  needed: np.ndarray) -> None:
        """Raise MemoryPlanError unless the words at `addresses` are the given places of a tensor,
        in the groups that are needed.

        Parameters
        ----------
        number : int
            Of the instruction that reads them.
        addresses : int64 array
            Words of `space`, which is ACTIVATION or OPERAND.
        block, row, column : int64 arrays
            Broadcast to the shape of `addresses`.
        needed : bool array [..., groups]
            Broadcasts to the shape of `addresses` with the groups of a word as last axis.
        """
        if addresses.size and not 0 <= addresses.min() <= addresses.max() < len(self.maps[space]):
            self.fail(number, f"reads {space.name.lower()} words that are not there")
        _, height, width = self.tensors[tensor].shape
        wanted = self.tag(tensor, round, (block * height + row) * width + column)
        tags = self.maps[space][addresses]
        wrong = (tags != wanted[..., None]) & needed
        if wrong.any():
            n = np.unravel_index(np.argmax(wrong), wrong.shape)
            self.fail(number, f"reads {space.name.lower()} word {addresses[n[:-1]]} for "
                              f"{self.describe(wanted[n[:-1]])[len('a part of '):]}, where lies "
                              f"{self.describe(tags[n])}")

    # External memory.

    def check_ranges(self) -> None:
        """Raise MemoryPlanError where two sections of external memory, or two tensors in them,
        overlap, or end after the window."""
        sections = [(item.offset, item.offset + item.bytes, item.section)
                    for item in self.host.memory]
        maps = [(place, place + tensor.bytes, name)
                for name, tensor in self.host.tensors.items() if tensor.external is not None
                for place in (tensor.external + tensor.stride * n
                              for n in range(self.rounds if tensor.stride else 1))]
        for what, ranges in (("sections", sections), ("tensors", maps)):
            ranges.sort()
            for one, two in pairwise(ranges):
                if one[1] > two[0]:
                    raise MemoryPlanError(f"the {what} {one[2]!r} and {two[2]!r} overlap in "
                                          f"external memory, bytes {two[0]} to {one[1] - 1}")
            if ranges and ranges[-1][1] > self.program.window_bytes:
                raise MemoryPlanError(f"{ranges[-1][2]!r} ends after the window of "
                                      f"{self.program.window_bytes} bytes")

    def check_outputs(self) -> None:
        """Raise MemoryPlanError unless all parts of all outputs are stored, in every round."""
        for item in self.host.outputs:
            number = self.number[item.name]
            stored = self.outside[number]
            good = stored == np.arange(len(stored))[:, None, None]
            if not (good | ~self._real_parts(number)).all():
                raise MemoryPlanError(f"nothing writes all of the output {item.name!r}")

    def where(self, number: int, i: Instruction, tensor: int, addresses: np.ndarray
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices (place, word, part) in `outside` of the items of a tensor at byte addresses of
        external memory. Raises MemoryPlanError where there are none."""
        item = self.tensors[tensor]
        if tensor not in self.outside:
            self.fail(number, f"moves {self.names[tensor]!r}, which does not lie outside")
        place, rest = np.divmod(addresses - item.external, item.stride or 1 << 62)
        places = len(self.outside[tensor])
        if (place < 0).any() or (place >= places).any() or (rest >= item.bytes).any():
            self.fail(number, f"leaves the bytes of {self.names[tensor]!r}")
        part = self.arch.raw_bytes if item.raw else self.arch.group_bytes
        if item.windows is not None:
            return place, self._window(number, i, item, rest), np.zeros_like(rest)
        word, rest = np.divmod(rest, item.word_bytes)
        if (rest % part).any() or (i.opcode == Opcode.LOAD and (
                rest.any() or i.step_even or loaded_bytes(i, self.arch) != item.word_bytes)):
            self.fail(number, f"moves {self.names[tensor]!r} in other pieces than it has")
        return place, word, rest // part

    def _window(self, number, i, item, places):
        """The words of a map that windows of rows of bytes make, which begin at these places."""
        made = item.windows
        row, rest = np.divmod(places, made.row_bytes)
        pair, rest = np.divmod(rest, made.steps[0] + made.steps[1])
        width = item.shape[2]
        word = 2 * pair + (rest > 0)
        if (i.opcode != Opcode.LOAD or (i.step_even, i.step_odd) != made.steps
                or ((rest != 0) & (rest != made.steps[0])).any() or (word >= width).any()):
            self.fail(number, "loads an input in other windows than it has")
        return row * width + word

    def check_peaks(self, accumulators: np.ndarray) -> dict[str, int]:
        """{memory: words up to the last one that holds something}. `accumulators` (int64 array
        [accumulator_depth]) is negative for words that hold nothing. Raises MemoryPlanError where
        the program states fewer."""
        used = {space.name.lower(): tags for space, tags in self.bytes.items()} | {
            space.name.lower(): tags.max(axis=1, initial=-1) for space, tags in self.maps.items()}
        used["accumulator"] = accumulators
        peaks = {name: int(np.flatnonzero(tags >= 0).max(initial=-1)) + 1
                 for name, tags in used.items()}
        for name, peak in peaks.items():
            stated = self.host.peak.get(f"{name}_words", 0)
            if peak > stated:
                raise MemoryPlanError(f"the program uses {peak} words of the {name} memory and "
                                      f"states a peak of {stated}")
        return peaks

"""The stream of instructions while it is emitted, and the parts of feature maps that it moves."""

from dataclasses import dataclass
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Windows
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.memories import MEMORIES, Space, word_bytes

from .alloc import Ring
from .limits import LOAD

__all__ = ["Region", "Sink", "Stream"]

#: Far more than any network needs; they take half a gigabyte of memory while they are compiled.
_MOST_INSTRUCTIONS = 1 << 19


@dataclass
class Region:
    """A rectangle of a feature map in activation or operand memory: for each block of channels a
    plane of rows * columns words, plane after plane.

    Attributes
    ----------
    base : int
        Word of its first row and column in its first block.
    rows, columns : (first, end)
        Which of the map's rows and columns.
    first_block, blocks : int
        Which of the map's blocks of channels, a word of `rows * lanes` of the array each.
    outside : (section, offset, height, width, word_bytes or Windows) or None
        Where the map lies in external memory (offset in bytes); None: the chip computes it.
    loaded : int
        The first row of the map for which no LOAD has been emitted.
    memory : Memory
        The activation memory, or the operand memory.
    """
    base: int
    rows: tuple
    columns: tuple
    first_block: int
    blocks: int
    outside: tuple | None = None
    loaded: int = 0
    memory: Memory = Memory.ACTIVATION

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]

    @property
    def plane(self) -> int:
        return (self.rows[1] - self.rows[0]) * self.width


class Stream:
    """The instructions of a program, in an order in which they can be executed one by one, and the
    state that passes from layer to layer.

    Attributes
    ----------
    code : list of (Instruction, section or None)
        The address of an instruction with a section is an offset in it.
    weights, parameters, accumulators, tables : Ring
        Allocation of the four memories.
    loaded : dict
        What is in weight memory of the weights that stay there for several images.
    pools : dict of int to tuple of int
        The pool, codes of weights, that was loaded from a word of the pool memory on.
    last_input : (first, end)
        Activation words of the input that was loaded last.
    layer : int
        Index of the layer that is emitted.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        self.code: list[tuple[Instruction, str | None]] = []
        self.weights, self.parameters = Ring(arch.weight_depth), Ring(arch.parameter_depth)
        self.accumulators = Ring(arch.accumulator_depth)
        self.tables = Ring(MEMORIES[Space.TABLE].depth(arch))
        self.loaded: dict = {}
        self.pools: dict[int, tuple[int, ...]] = {}
        self.last_input = (0, 0)
        self.layer = 0

    @property
    def pool_peak(self) -> int:
        """Words of the pool memory that are used."""
        return max((first + len(pool) for first, pool in self.pools.items()), default=0)

    def add(self, opcode: Opcode, section: str | None = None, **fields: Any) -> None:
        """Append an instruction. Raises UserError where the program becomes too long."""
        if len(self.code) == _MOST_INSTRUCTIONS:
            raise UserError(
                f"layer {self.layer} of the network takes the program beyond {len(self.code):,} "
                "instructions: its maps are too large for these buffers; enlarge "
                "buffers.activations and buffers.accumulators, or cut the network's input")
        self.code.append((Instruction(opcode, fields, layer=self.layer), section))

    def load(self, memory: Memory, section: str | None, address: int, base: int,
             words: int, size: int | None = None) -> None:
        """Append LOADs of `words` consecutive words to word `base` of a memory on the chip, from
        the byte `address`, where each has `size` bytes (None: those of a whole word)."""
        most, each = LOAD["words"], self._word_beats(memory, size)
        for start in range(0, words, most):
            self.add(Opcode.LOAD, section, memory=memory, base=base + start,
                     address=address + start * (size or word_bytes(memory, self.arch)),
                     words=min(most, words - start), word_beats=each)

    def _word_beats(self, memory, size):
        """The field of a LOAD of words of `size` bytes (None: whole ones)."""
        return 0 if size in (None, word_bytes(memory, self.arch)) else size // self.arch.beat_bytes

    def _load_runs(self, memory, section, address, base, runs, words, row_stride, base_stride,
                   size):
        """Append LOADs of `runs` runs of `words` consecutive words of `size` bytes each;
        `row_stride` is the distance of two runs in bytes of external memory, `base_stride` in words
        of the memory."""
        if words > LOAD["words"]:
            for run in range(runs):
                self.load(memory, section, address + run * row_stride,
                          base + run * base_stride, words, size)
            return
        for start in range(0, runs, LOAD["rows"]):
            count = min(LOAD["rows"], runs - start)
            self.add(Opcode.LOAD, section, memory=memory, rows=count, words=words,
                     word_beats=self._word_beats(memory, size),
                     address=address + start * row_stride, base=base + start * base_stride,
                     row_stride=row_stride * (count > 1), base_stride=base_stride * (count > 1))

    def load_rows(self, region: Region, end: int) -> None:
        """Append LOADs of the rows of a region before row `end` of the map that have none yet."""
        first = max(region.loaded, region.rows[0])
        if region.outside is None or end <= first or not region.width:
            return
        region.loaded = end
        section, offset, height, width, size = region.outside
        rows = end - first
        if isinstance(size, Windows):
            self._load_windows(region, first, rows)
            return
        plane = height * width * size
        address = offset + region.first_block * plane + (
            first * width + region.columns[0]) * size
        base = region.base + (first - region.rows[0]) * region.width
        if region.width == width:
            self._load_runs(region.memory, section, address, base, region.blocks, rows * width,
                            plane, region.plane, size)
        elif rows < region.blocks:
            for row in range(rows):
                self._load_runs(region.memory, section, address + row * width * size,
                                base + row * region.width, region.blocks, region.width, plane,
                                region.plane, size)
        else:
            for block in range(region.blocks):
                self._load_runs(region.memory, section, address + block * plane,
                                base + block * region.plane, rows, region.width, width * size,
                                region.width, size)


    def _load_windows(self, region, first, rows):
        """Append LOADs of rows of a region of which windows are made; they are whole."""
        assert region.outside is not None and region.columns == (0, region.outside[3])
        section, offset, _, width, made = region.outside
        even, odd = made.steps
        beats = made.row_bytes // self.arch.beat_bytes
        used = width // 2 * even + (width - 1) // 2 * odd + self.arch.window_bytes
        for start in range(first, first + rows, LOAD["rows"]):
            count = min(LOAD["rows"], first + rows - start)
            self.add(Opcode.LOAD, section, memory=region.memory, rows=count, words=width,
                     word_beats=beats, step_even=even, step_odd=odd, spare=made.row_bytes - used,
                     address=offset + start * made.row_bytes,
                     base=region.base + (start - region.rows[0]) * width,
                     row_stride=made.row_bytes * (count > 1), base_stride=width * (count > 1))


@dataclass
class Sink:
    """Where the results of a layer go: activation memory, operand memory, external memory, or
    several of them.

    Attributes
    ----------
    shape : (channels, height, width)
        Of the tensor; the layer may write a part of it.
    chip, copy : int or None
        First word of the tensor in activation and in operand memory; None: it is not there.
    outside : (section, offset) or None
        Where it lies in external memory (offset in bytes); None: it is not there.
    pad_lanes : bool
        The lanes after the last channel must hold -1: a bipolar map that is read again.
    loaded : bool
        Layers read it, or combine their results with it: it may be loaded from external memory.
    """
    shape: tuple
    chip: int | None = None
    copy: int | None = None
    outside: tuple | None = None
    pad_lanes: bool = False
    loaded: bool = True

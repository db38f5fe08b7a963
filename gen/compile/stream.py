"""The stream of instructions as it is written, and the rectangles of maps that it moves."""

from dataclasses import dataclass

from systolith.gen.kit.errors import UserError
from systolith.hw.spec import isa
from systolith.hw.spec.isa import Instruction, Memory, Opcode
from systolith.hw.spec.memories import word_bytes

from .alloc import Ring

__all__ = ["Region", "Sink", "Stream"]

_LOAD = {item.name: item.high for item in isa.OPCODES[Opcode.LOAD]}
#: Far beyond what any network needs; half a gigabyte while it is compiled.
_MOST_INSTRUCTIONS = 1 << 19


@dataclass
class Region:
    """A rectangle of a feature map in activation memory, planes of blocks one after the other.

    Attributes
    ----------
    base : int
        Word of its first row and column in its first block.
    rows, columns : (first, end)
        In the map.
    first_block, blocks : int
    outside : (section, offset, height, width) or None
        Where the map lies in external memory; None: it is made on the chip.
    loaded : int
        Rows before this one are on their way or there.
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
    def width(self):
        return self.columns[1] - self.columns[0]

    @property
    def plane(self):
        return (self.rows[1] - self.rows[0]) * self.width


class Stream:
    """Instructions in an order in which executing them one by one is right, and the state that
    goes from layer to layer: what lies in the rings, which accumulators come next.

    Attributes
    ----------
    code : list of (Instruction, section or None)
        Addresses are offsets in the section until it has one.
    """

    def __init__(self, arch):
        self.arch = arch
        self.code = []
        self.weights, self.parameters = Ring(arch.weight_depth), Ring(arch.parameter_depth)
        self.accumulators, self.tables = Ring(arch.accumulator_depth), Ring(arch.table_depth)
        self.loaded = {}                        # resident set of weights: pieces that are there
        self.last_input = (0, 0)                # activation words of the input loaded last
        self.layer = 0

    def add(self, opcode, section=None, **fields):
        if len(self.code) == _MOST_INSTRUCTIONS:
            raise UserError(
                f"layer {self.layer} of the network takes the program beyond {len(self.code):,} "
                "instructions: its maps are too large for these buffers; enlarge "
                "buffers.activations and buffers.accumulators, or cut the network's input")
        self.code.append((Instruction(opcode, fields, layer=self.layer), section))

    def load(self, memory, section, address, base, words):
        """LOAD neighbouring words."""
        most = _LOAD["words"]
        for start in range(0, words, most):
            self.add(Opcode.LOAD, section, memory=memory, base=base + start,
                     address=address + start * word_bytes(memory, self.arch),
                     words=min(most, words - start))

    def _load_runs(self, memory, section, address, base, runs, words, row_stride, base_stride):
        """LOAD `runs` runs of activation words; the strides are bytes and words."""
        if words > _LOAD["words"]:
            for run in range(runs):
                self.load(memory, section, address + run * row_stride,
                          base + run * base_stride, words)
            return
        for start in range(0, runs, _LOAD["rows"]):
            count = min(_LOAD["rows"], runs - start)
            self.add(Opcode.LOAD, section, memory=memory, rows=count, words=words,
                     address=address + start * row_stride, base=base + start * base_stride,
                     row_stride=row_stride * (count > 1), base_stride=base_stride * (count > 1))

    def load_rows(self, region, end):
        """LOAD the rows of a region up to `end` that are not there yet."""
        first = max(region.loaded, region.rows[0])
        if region.outside is None or end <= first or not region.width:
            return
        region.loaded = end
        section, offset, height, width = region.outside
        size, rows = self.arch.activation_bytes, end - first
        plane = height * width * size
        address = offset + region.first_block * plane + (
            first * width + region.columns[0]) * size
        base = region.base + (first - region.rows[0]) * region.width
        if region.width == width:
            self._load_runs(region.memory, section, address, base, region.blocks, rows * width,
                            plane, region.plane)
        elif rows < region.blocks:
            for row in range(rows):
                self._load_runs(region.memory, section, address + row * width * size,
                                base + row * region.width, region.blocks, region.width, plane,
                                region.plane)
        else:
            for block in range(region.blocks):
                self._load_runs(region.memory, section, address + block * plane,
                                base + block * region.plane, rows, region.width, width * size,
                                region.width)


@dataclass
class Sink:
    """Where the results of a layer go: places in activation memory, in external memory, or both.

    Attributes
    ----------
    shape : (channels, height, width)
        Of the tensor, of which the layer may write a part.
    chip, copy : int or None
        First word of the map, in activation and operand memory.
    outside : (section, offset) or None
    pad_lanes : bool
        Lanes after the last channel must hold -1: bipolar maps that are read again.
    """
    shape: tuple
    chip: int | None = None
    copy: int | None = None
    outside: tuple | None = None
    pad_lanes: bool = False

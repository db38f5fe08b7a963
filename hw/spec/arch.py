"""Arch: the description of one chip, and every width that follows from it.

Everything that hardware, simulators, compiler and driver must agree on is a field or a property
here, computed once.
"""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import gcd
from typing import Any

from systolith.hw.formats import Bipolar, Format, Int, parse, sum_bits, term_bound

from .isa import INSTRUCTION_BYTES
from .keys import Choice, Megahertz, Name, Number, Several, Switch, Whole, key, keys_of
from .numbers import FIRST_BELOW, FIRST_BITS, MULTIPLIER_BITS, OFFSET_FRACTION, SHIFT_BITS
from .numbers import item_bytes as _item_bytes
from .numbers import round_up as _up
from .rules import check_arch
from .structures import SMALL_PRODUCT, Structure

__all__ = ["ASSUMED_MHZ", "KEYS", "Arch"]

#: The clock where nothing says which.
ASSUMED_MHZ = 50.0
_INT8 = Int(8)


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One chip. Its fields are the keys of a chip file, one row each: the key, its values, what it
    means and, with `programs=False`, that programs do not depend on it.

    In a field None stands for the "auto" or "exact" of the file, and number formats may be given by
    their names. Raises ArchError for a value that a key does not take, and for a contradiction
    between keys (`systolith.hw.spec.rules`).
    """

    name: str = field(default="chip", metadata=key("name", Name(),
        "Names the chip in reports and in the Verilog.", programs=False))
    board: str = field(default="none", metadata=key("board", Name(),
        "The board whose top level and constraints are made.", programs=False))
    cores: int = field(default=1, metadata=key("cores", Whole(1, 16),
        "Cores side by side, which share the AXI4 port and compute an image each: one more has all "
        "of a core, registers of its own and its own window of external memory, with a copy of the "
        "program.", programs=False))
    rows: int = field(metadata=key("array.rows", Whole(1, 256),
        "Processing elements down: input channels."))
    columns: int = field(metadata=key("array.columns", Whole(1, 256),
        "Processing elements across: output channels."))
    lanes: int = field(default=1, metadata=key("array.lanes", Whole(1, 1024),
        "Multipliers in each processing element: further input channels."))
    activation: Format = field(default=_INT8, metadata=key("array.activation", Number(shifted=True),
        "Number format of activations: int2...int16, e4m3, e5m2, e3m2, e2m1, bipolar1, ... "
        "uint8 is the same array as int8: unsigned codes run on it, shifted by half their range."))
    weight: Format = field(default=_INT8, metadata=key("array.weight", Number(),
        "Number format of weights: integers, floats (e3m0 and the like are powers of two), blocks "
        "with scales (mxfp4, mxfp6, mxfp8, mxint8, nvfp4, mls) and sums "
        "of powers of two (e3m0x2) go with each other, bipolar1 with bipolar1."))
    accumulator: int | None = field(default=None, metadata=key(
        "array.accumulator", Whole(1, 64, none="exact"),
        "Bits of an accumulator, saturating; \"exact\": as many as largest_k needs."))
    sums: str = field(default="integers", metadata=key("array.sums", Choice(("integers", "1-6-9")),
        "\"1-6-9\": accumulators are floats of 16 bits, and each pass's exact sum (rows * lanes "
        "products) is rounded to ten bits and added, with rounding. Not for binary chips."))
    largest_k: int = field(default=4608, metadata=key("array.largest_k", Whole(1, 1 << 20),
        "Longest dot product (kernel height x width x channels) that exact accumulators hold."))
    structure: str = field(default="auto", metadata=key(
        "array.structure", Choice(("auto", *Structure)),
        "What processing elements are built for: \"lut6\", \"lut4\", \"gates\", \"dsp\" (18 x 18 "
        "bits) or \"dsp48\" (25 x 18 bits). "
        "\"auto\": DSP blocks where products are worth one, else what the target has.",
        programs=False))
    stages: int | None = field(default=None, metadata=key(
        "array.stages", Whole(1, 64, none="auto"),
        "Pipeline stages of a processing element; 1 is the smallest. \"auto\": as many as a fast "
        "clock needs.", programs=False))
    shared_columns: int = field(default=1, metadata=key("array.shared_columns", Whole(1, 256),
        "Columns side by side that share their activation registers, and multiplications where "
        "two fit a DSP block; divides columns.", programs=False))
    scale_multiplier: str = field(default="auto", metadata=key(
        "array.scales", Choice(("auto", "dsp", "luts")),
        "What multiplies the sums of columns by the scales of blocks that have a mantissa (nvfp4, "
        "mls): \"dsp\": a DSP block for each column; \"luts\": adders. \"auto\": DSP blocks, and "
        "LUTs where a measurement is told to use no blocks.", programs=False))
    depthwise: bool = field(default=False, metadata=key("array.depthwise", Switch(),
        "Whether columns can take activations from the top, which makes depthwise layers several "
        "times as fast; for one lane and as many rows as columns."))
    bit_planes: bool = field(default=False, metadata=key("array.bit_planes", Switch(),
        "Whether accumulators can double, so that a binary chip (bipolar1) reads a first layer of "
        "integers, and computes weights of 2 to 8 bits, bit plane by bit plane."))
    plane_rows: bool = field(default=False, metadata=key("array.plane_rows", Switch(),
        "Whether partial sums can double on their way down the first eight rows, so that each of "
        "these holds a bit plane of an 8-bit input, and a first layer of up to array.lanes taps "
        "and channels takes one pass instead of eight. For chips with bit_planes, 8 or more rows "
        "and an even number of lanes."))
    packed_signs: bool = field(default=False, metadata=key("array.packed_signs", Switch(),
        "Whether processing elements also multiply signs (+1 and -1), as many as a code has bits: "
        "binary layers between layers of integers take an eighth of the passes on int8. For "
        "activations and weights of the same 3 or more bits; rows * lanes and columns must be "
        "multiples of that many."))
    side_taps: bool = field(default=False, metadata=key("array.side_taps", Switch(),
        "Whether parts of the rows can see pixels to the left of those of others, so that layers "
        "whose channels fill half or a quarter of the rows compute two or four taps of a kernel's "
        "row in a pass. For formats with a 0, and a multiple of 4 rows."))
    tap_rows: bool = field(default=False, metadata=key("array.tap_rows", Switch(),
        "Whether rows of the array can see other pixels than those above them, by a bank of the "
        "activation memory for each 16th of them, so that layers of few channels compute up to "
        "4 x 4 taps of a kernel in a pass. For arrays in which such a part of the rows has whole "
        "groups of channels (rows / 16, rounded up, * lanes a multiple of the common divisor of "
        "rows * lanes and columns) and idle weights cancel; not with side_taps, packed_signs, "
        "packed_halves or depthwise."))
    two_fillings: bool = field(default=False, metadata=key("array.two_fillings", Switch(),
        "Whether the upper half of the rows can take the weights of the next pass while the lower "
        "half still takes those of this one, from two memories of half the words each: passes of "
        "few pixels, as in dense layers and small maps, take half the rows' cycles instead of "
        "all. Not with buffers.weight_widths or weight_pools, nor where weights are in blocks."))
    packed_halves: bool = field(default=False, metadata=key("array.packed_halves", Switch(),
        "Whether processing elements also multiply numbers of half the bits, two in a code: layers "
        "that read int4 between layers of int8, with weights of int4, take half the passes. For "
        "activations and weights of the same 4, 8, 12 or 16 bits, one lane, shared_columns = 1, "
        "and rows and columns with an even common divisor; not with packed_signs."))
    wide_weights: bool = field(default=False, metadata=key("array.wide_weights", Switch(),
        "Whether sums can count 2**bits times, bits being array.weight's, so that weights of "
        "twice the bits (dual4 on int4) take two passes. For integers."))
    post_lanes: int = field(default=None, metadata=key(  # type: ignore[assignment]  # a number in
        "post.lanes", Whole(1, 256, none="auto"),        # every chip that is made
        "Channels that post-processing finishes per cycle; divides columns and rows * lanes. "
        "\"auto\": up to 4, or one for 64 elements."))
    leaky: bool = field(default=False, metadata=key("post.leaky", Switch(),
        "Whether each channel has a second multiplier for sums below zero: PRelu, and LeakyRelu "
        "where no quantizer stands before it."))
    slope_offsets: bool = field(default=False, metadata=key("post.offsets", Switch(),
        "Whether each channel also has an offset, which is added after its slopes, and slopes and "
        "offset can come after the sum with an operand: RPReLU and DPReLU in one layer, also after "
        "a shortcut. For chips with post.leaky and activations of integers."))
    bias_fraction: int = field(default=16, metadata=key(
        "post.bias_fraction", Whole(0, MULTIPLIER_BITS),
        "Fraction bits of a bias, in units of the sums, from 0 to 26: what layers need whose sums "
        "have coarser steps than their output, such as those of few weight bits. Binary chips have "
        "none."))
    multiplier_bits: int = field(default=MULTIPLIER_BITS, metadata=key(
        "post.multiplier_bits", Whole(15, MULTIPLIER_BITS),
        "Bits of the multipliers that scale sums and results. With 26, results differ from exact "
        "ones at ties only. 17 and a sign are one factor of a DSP block (15 of an iCE40's): half "
        "the blocks and a third of a post lane's LUTs are saved, up to one code of a thousand is a "
        "step off, and sums of what no quantizer rounds may be refused."))
    post_multiplier: str = field(default="auto", metadata=key(
        "post.multiplier", Choice(("auto", "dsp", "luts")),
        "What the multipliers of post-processing are built of: \"dsp\": DSP blocks; \"luts\": "
        "rows of adders, far smaller than what synthesis makes of a product without DSP blocks. "
        "\"auto\": DSP blocks, and LUTs where a measurement is told to use no blocks.",
        programs=False))
    post_stages: str = field(default="auto", metadata=key(
        "post.stages", Choice(("auto", "few")),
        "Registers in post-processing: \"auto\", as a fast clock needs, or \"few\": fewer cells of "
        "an iCE40 and fewer cycles, for clocks of some 25 MHz; for integers and signs.",
        programs=False))
    activation_depth: int = field(default=4096, metadata=key(
        "buffers.activations", Whole(2, 1 << 20),
        "Activation words; a word is one pixel's rows * lanes channels."))
    two_writes: bool = field(default=False, metadata=key("buffers.two_writes", Switch(),
        "Whether activation words of even and of odd addresses lie in two memories, so that LOAD "
        "and POST write in the same cycle where one address is even and the other one odd. First "
        "layers whose words LOAD brings in nearly every cycle wait less."))
    weight_depth: int = field(default=1024, metadata=key("buffers.weights", Whole(1, 1 << 18),
        "Weight words; a word is one array row's columns * lanes weights, rows words fill the "
        "array once."))
    weight_widths: tuple[int, ...] = field(default=(), metadata=key(
        "buffers.weight_widths", Several(2, 15, 3),
        "Bits, fewer than array.weight's, that a layer's weights can have in memory, on the chip "
        "and outside, where all of them fit: with int8, [4, 2] lets a word hold the weights of two "
        "or four array rows, so that they take half or a quarter of the memory and of the bus. For "
        "integers."))
    weight_pools: tuple[int, ...] = field(default=(), metadata=key(
        "buffers.weight_pools", Several(2, 4, 3, repeats=True),
        "Bits of the codes of each weight pool: a layer with at most 2**bits different weights "
        "keeps codes of so many bits in memory, on the chip and outside, which name weights of the "
        "pool. [4, 4]: two pools of 16 weights, so that the next layer's is loaded in time. For "
        "integers of more bits; up to three together with buffers.weight_widths."))
    accumulator_depth: int = field(default=512, metadata=key(
        "buffers.accumulators", Whole(2, 1 << 16),
        "Accumulator words; a word is one pixel's sums of all columns."))
    parameter_depth: int = field(default=256, metadata=key(
        "buffers.parameters", Whole(1, 1 << 12),
        "Parameter words; a word is what post.lanes channels need: bias, multiplier, shift, addend "
        "and ties."))
    operand_depth: int = field(default=0, metadata=key("buffers.operands", Whole(0, 1 << 19),
        "Words of the operand memory, like activation words: what sums and products of two maps "
        "need. 0: the chip does not have that unit."))
    table_depth: int = field(default=0, metadata=key("buffers.tables", Whole(0, 1 << 16),
        "Words of the table memory, one result each, a power of two: what functions such as SiLU "
        "need. As many as there are codes hold one function, twice as many two, so that the next "
        "layer's is loaded in time. 0: the chip does not have that unit."))
    bus_bits: int = field(default=64, metadata=key(
        "bus.data_bits", Choice((32, 64, 128, 256, 512)),
        "Data width of the AXI4 port: 32, 64, 128, 256 or 512; above 128 for chips without a "
        "board."))
    burst_beats: int = field(default=64, metadata=key("bus.burst_beats", Whole(1, 256),
        "Longest AXI burst in beats, a power of two up to 256."))
    load_windows: bool = field(default=False, metadata=key("bus.windows", Switch(),
        "Whether LOAD can make activation words that share bytes with their neighbours: windows "
        "of a row of the image, which the host then writes once, and not word by word. First "
        "layers of few channels load a fraction of the bytes. For activations of 8 bits."))
    address_bits: int = field(default=32, metadata=key("bus.address_bits", Whole(13, 32),
        "Bits of an address on the AXI4 port that are not 0. With fewer than 32, which make the "
        "circuit smaller, the window begins at address 0 and has 2**address_bits bytes at most."))
    queue_depth: int = field(default=4, metadata=key("control.queue_depth", Whole(1, 64),
        "Instructions that wait before each unit."))
    token_bits: int = field(default=10, metadata=key("control.token_bits", Whole(3, 10),
        "Bits of each of the twelve counters of tokens: a unit may be 2**token_bits tokens "
        "ahead of another one. Fewer make the circuit smaller."))
    prefetch: bool = field(default=True, metadata=key("control.prefetch", Switch(),
        "Whether ARRAY and POST copy the instruction that they work on, so that their next one is "
        "read from its queue meanwhile. Without, the circuit is smaller, and the next one begins "
        "some ten to twenty cycles later."))
    diagnosis: bool = field(default=True, metadata=key("control.diagnosis", Switch(),
        "Whether the report of an error says in which layer and at which address it was found. "
        "Without, the circuit is smaller.", programs=False))
    checksum: bool = field(default=True, metadata=key("control.checksum", Switch(),
        "Whether a run whose program was not fetched as it was compiled ends with an error. "
        "Without, the circuit is smaller, and a bit that changes in memory or on the bus may give "
        "wrong results without a word.", programs=False))
    watchdog_bits: int = field(default=32, metadata=key("control.watchdog_bits", Whole(17, 32),
        "Bits of the register that says after how many cycles without progress a run ends with "
        "an error.", programs=False))
    counters: bool = field(default=True, metadata=key("control.counters", Switch(),
        "Whether registers count the cycles in which each unit works or waits, and what it waits "
        "for, and say when the first pass began and the last result was written.",
        programs=False))
    clock_mhz: float | None = field(default=None, metadata=key("clock.mhz", Megahertz(),
        "The clock. On a board its PLL makes the fastest one that is not above it, and \"auto\" is "
        "the board's oscillator; elsewhere it is what reports assume, and \"auto\" is 50.",
        programs=False))

    def __post_init__(self) -> None:
        for name in ("activation", "weight"):
            object.__setattr__(self, name, parse(getattr(self, name)))
        for name in ("weight_widths", "weight_pools"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for item in KEYS.values():
            item.check(self)
        if self.post_lanes is None:
            most = max(4, self.rows * self.columns // 64)
            lanes = max(n for n in range(1, most + 1) if self.group % n == 0)
            object.__setattr__(self, "post_lanes", lanes)
        check_arch(self)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self):
        return hash(tuple(getattr(self, name) for name in KEYS))

    @cached_property
    def pe_structure(self) -> Structure:
        """`structure`, with "auto" resolved."""
        if self.structure != "auto":
            return Structure(self.structure)
        bits = self.activation.significand_bits + self.weight.significand_bits
        small = bits <= SMALL_PRODUCT
        return Structure.LUT4 if small else Structure.DSP

    @cached_property
    def pe_dsp(self) -> bool:
        """Whether processing elements are built for DSP blocks."""
        return self.pe_structure.is_dsp

    @cached_property
    def scale_structure(self) -> Structure:
        """What multiplies by the scales of blocks is built of."""
        if self.scale_multiplier != "luts":
            return Structure.DSP
        return Structure.LUT4 if self.pe_dsp else self.pe_structure

    @cached_property
    def post_luts(self) -> bool:
        """Whether the multipliers of post-processing are built without DSP blocks."""
        return self.post_multiplier == "luts"

    # Shape of the words.

    @cached_property
    def vector(self) -> int:
        """Channels in an activation word: rows * lanes."""
        return self.rows * self.lanes

    @cached_property
    def group(self) -> int:
        """Channels that are written together: the most that fit activation words and columns."""
        return gcd(self.vector, self.columns)

    @cached_property
    def chunks(self) -> int:
        """Cycles that post-processing takes for one group: group / post_lanes."""
        return self.group // self.post_lanes

    @cached_property
    def group_bits_of_post(self) -> tuple[int, int]:
        """Bits of POST's field `group` that say which group of columns, the lowest ones, and how
        many of its chunks: 8 at most in all."""
        which = (self.groups_per_columns - 1).bit_length()
        return which, min((self.chunks - 1).bit_length(), 8 - which)

    @cached_property
    def groups_per_word(self) -> int:
        return self.vector // self.group

    @cached_property
    def groups_per_columns(self) -> int:
        return self.columns // self.group

    @cached_property
    def part(self) -> Format | None:
        """What a code can also hold several of: signs, or numbers of half the bits; None: nothing.
        """
        if self.packed_signs:
            return Bipolar(1)
        return Int(self.activation.width // 2) if self.packed_halves else None

    @property
    def parts(self) -> bool:
        """Whether codes can hold parts."""
        return self.part is not None

    @cached_property
    def code_signs(self) -> int:
        """Parts that a code can hold; 1 on chips on which it holds none."""
        return 1 if self.part is None else self.activation.width // self.part.width

    @cached_property
    def slots(self) -> int:
        """Places for groups in an activation word: for those of signs, where the chip has them."""
        return self.groups_per_word * self.code_signs

    @cached_property
    def combined_signs(self) -> bool:
        """Whether POST writes signs of results that are combined with operands: the lowest bits of
        its slot are then the operand's slot."""
        groups = self.groups_per_word
        return self.packed_signs and self.operand_depth > 0 and not groups & (groups - 1)

    @cached_property
    def fill(self) -> int:
        """Weight words of one filling of the array: one for each row and, where weights are in
        blocks, one with each column's scale."""
        return self.rows + (self.weight.block_scale is not None)

    @cached_property
    def upper_rows(self) -> int:
        """Rows whose weights are on the first bus: all, or the upper half of them."""
        return -(-self.rows // 2) if self.two_fillings else self.rows

    @cached_property
    def largest_factor(self) -> int:
        """The largest scale of a block of weights, by which a column's sum is multiplied; 1 without
        blocks."""
        return self.weight.block_scale.largest if self.weight.block_scale else 1

    @cached_property
    def height_unit(self) -> int:
        """Rows of the array by which passes of part of them are counted (ARRAY's `height`)."""
        return -(-self.rows // 16)

    @cached_property
    def banks(self) -> int:
        """Banks of the activation memory that are read at addresses of their own, one for every
        `height_unit` rows of the array; 1: all rows see the same pixel."""
        return self.rows // self.height_unit if self.tap_rows else 1

    @cached_property
    def copy_bits(self) -> int:
        """Bits of POST's field `slot` that say which group of a word is written; others say how far
        apart copies of it are, on chips with banks."""
        return (self.slots - 1).bit_length()

    def height_of(self, channels: int) -> int:
        """Rows of the array that passes over words with so many channels have to fill: all where
        idle weights do not cancel those that are left out."""
        idle = self.lanes % 2 == 0 if self.weight.binary else self.weight.zero_code == 0
        if self.weight.block_scale:             # the word of scales follows those of all rows
            return self.fill
        unit = self.height_unit
        return min(self.rows, -(-channels // (unit * self.lanes)) * unit) if idle else self.rows

    @cached_property
    def macs_per_cycle(self) -> int:
        return self.rows * self.columns * self.lanes

    def utilization(self, macs: int, cycles: int) -> float:
        """The share of what the array can do in so many cycles; 0 in none."""
        return macs / (cycles * self.macs_per_cycle) if cycles else 0.0

    # Exact sums.

    @cached_property
    def term_bound(self) -> int:
        """Largest magnitude of one product's image."""
        return term_bound(self.activation, self.weight)

    def sum_bits(self, terms: int) -> int:
        """Bits of a signed number that holds every sum of `terms` products."""
        return sum_bits(self.activation, self.weight, terms)

    @cached_property
    def sum_exponent(self) -> int:
        """The weight of a sum's lowest bit: value = sum * 2**sum_exponent."""
        scale = self.weight.block_scale
        return self.activation.exponent + self.weight.exponent - (scale.man if scale else 0)

    @cached_property
    def weighed_terms(self) -> int:
        """Products of a pass whose first eight rows weigh 128 to 1, each counted as often as it
        weighs; 0 where they cannot."""
        return self.lanes * (255 + self.rows - 8) if self.plane_rows else 0

    @cached_property
    def plane_excess(self) -> int:
        """What such a pass adds too much to a sum: what enters the first row is an integer, whose
        128-fold is what elements count too much, but for this."""
        return self.weighed_terms % 256

    @cached_property
    def pass_terms(self) -> int:
        """Products that the sum of a pass must hold, or more."""
        weighed = self.weighed_terms
        return max(self.vector, weighed + 256 if weighed else 0)

    @cached_property
    def psum_bits(self) -> int:
        """Bits of a partial sum inside the array: rows * lanes products, or weighed ones."""
        return self.sum_bits(self.pass_terms)

    @cached_property
    def scaled_bits(self) -> int:
        """Bits of a pass's sum that comes out of the array, multiplied by its block's scale."""
        return self.sum_bits(self.pass_terms * self.largest_factor)

    @cached_property
    def accumulator_bits(self) -> int:
        if self.accumulator is not None:
            return self.accumulator
        most = max(self.largest_k, self.pass_terms) * self.largest_factor
        return self.sum_bits(most) + self.float_sums        # floats may round up

    counts_more = property(lambda self: self.bit_planes or self.wide_weights)
    float_sums = property(lambda self: self.sums != "integers")
    exact_sums = property(lambda self: self.accumulator is None and not self.float_sums)
    kept_bits = property(lambda self: 16 if self.float_sums else self.accumulator_bits)

    @cached_property
    def first_bits(self) -> int:
        """Bits of a signed number that holds every result before it meets its operand; integers may
        be finer ones."""
        if self.operand_depth and self.activation.uniform:
            return max(min(FIRST_BITS, self.multiplier_bits - FIRST_BELOW), self.last_bits)
        return self.last_bits

    @cached_property
    def last_bits(self) -> int:
        """Bits of a signed number that holds every result, also those looked up in tables."""
        width = self.activation.width
        if self.table_depth and self.activation.uniform:
            width = max(width, self.table_address_bits)
        return width + 1

    @cached_property
    def rounded_bits(self) -> int:
        """Integers are rounded to -2**rounded_bits to 2**rounded_bits - 1, or are beyond limits."""
        return max(self.last_bits, self.first_bits - 1)

    @cached_property
    def table_address_bits(self) -> int:
        return (self.table_depth - 1).bit_length()

    @cached_property
    def raw_bits(self) -> int:
        """Bits of a result that is stored as it is, accumulator plus bias: 16, 32 or 128."""
        return next(bits for bits in (16, 32, 64, 128) if bits > self.accumulator_bits)

    # Memories: bits on the chip, bytes outside.

    @cached_property
    def beat_bytes(self) -> int:
        return self.bus_bits // 8

    @cached_property
    def instruction_bytes(self) -> int:
        """Bytes of an instruction in external memory: on buses of more than 128 bits 64, of which
        programs begin at a multiple, so that it is whole beats and crosses no page."""
        return INSTRUCTION_BYTES if self.bus_bits <= 128 else 64

    @cached_property
    def activation_bits(self) -> int:
        """Bits of an activation word."""
        return self.vector * self.activation.width

    @cached_property
    def group_bits(self) -> int:
        return self.group * self.activation.width

    @cached_property
    def weight_bits(self) -> int:
        """Bits of a weight word: the weights of one array row."""
        return self.columns * self.lanes * self.weight.width

    @cached_property
    def parameters(self) -> dict[str, tuple[int, bool]]:
        """{name: (bits, whether it has a sign)} of one channel's parameters, from bit 0 up; addends
        are the highest bits of multiplier_bits, "below" are those for sums below zero."""
        below = self.addend_bits and self.addend_bits + 1
        fields = {
            "bias": (self.accumulator_bits, True), "multiplier": (self.multiplier_bits, False),
            "shift": (SHIFT_BITS, False), "addend": (self.addend_bits, False),
            "ties": (self.tie_bits, False)}
        if self.leaky:
            fields |= {"below_multiplier": (self.multiplier_bits + 1, True),
                       "below_shift": (SHIFT_BITS, False), "below_addend": (below, True)}
        if self.slope_offsets:
            fields["offset"] = self.last_bits + 1 + OFFSET_FRACTION, True
        return fields

    def offset_unit(self, first: bool) -> int:
        """What the lowest bit of an offset weighs, in 2**-OFFSET_FRACTION of a step of a result, or
        of a `first` one, which will be combined with an operand and whose steps are finer."""
        return 1 << first * (self.rounded_bits - self.last_bits)

    @cached_property
    def parameter_bits(self) -> int:
        """Bits of one channel's parameters."""
        return sum(bits for bits, _ in self.parameters.values())

    @cached_property
    def addend_bits(self) -> int:
        """Bits of what is added to a product for the fraction of the bias: the highest ones of
        multiplier_bits."""
        return 0 if self.activation.binary else min(self.bias_fraction, self.multiplier_bits)

    @cached_property
    def addend_unit(self) -> int:
        """What their lowest bit weighs."""
        return 1 << self.multiplier_bits - self.addend_bits

    @cached_property
    def gain_bits(self) -> int:
        """Bits of the signed factors with which a result and an operand are combined."""
        return self.multiplier_bits + 1

    @cached_property
    def tie_bits(self) -> int:
        """Bits of a channel's rule for ties, which integers need."""
        return 2 if self.activation.uniform else 0

    @cached_property
    def group_bytes(self) -> int:
        """Bytes of a group outside; a group never shares a byte with another."""
        return _item_bytes(self.group_bits, self.beat_bytes)

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of an activation word outside: its groups in order, then up to whole beats."""
        return _up(self.groups_per_word * self.group_bytes, self.beat_bytes)

    @cached_property
    def weight_bytes(self) -> int:
        return _up(_up(self.weight_bits, 8) // 8, self.beat_bytes)

    @cached_property
    def code_widths(self) -> tuple[int, ...]:
        """Bits that weights can have instead of the format's, and their codes in pools."""
        return (*self.weight_widths, *self.weight_pools)

    # words, a weight each, for each pool as many as for the largest
    pool_depth = property(lambda self: len(self.weight_pools) << max(self.weight_pools, default=0))
    pool_bits = property(lambda self: self.weight.width)
    @cached_property
    def pool_bytes(self) -> int:
        """Bytes of a pool word outside: one beat."""
        return _up(_up(self.weight.width, 8) // 8, self.beat_bytes)

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of a parameter word (post_lanes channels) outside."""
        return _up(_up(self.post_lanes * self.parameter_bits, 8) // 8, self.beat_bytes)

    @cached_property
    def table_bits(self) -> int:
        """Bits of a table word: one result."""
        return self.activation.width

    @cached_property
    def table_bytes(self) -> int:
        """Bytes of a table word outside: one beat."""
        return _up(_up(self.activation.width, 8) // 8, self.beat_bytes)

    @cached_property
    def raw_bytes(self) -> int:
        """Bytes of one chunk of raw results (post_lanes of them) outside."""
        return _item_bytes(self.post_lanes * self.raw_bits, self.beat_bytes)

    @cached_property
    def item_bits(self) -> int:
        """Bits of what post-processing hands to the store unit: a group, or a raw chunk."""
        return max(8 * self.group_bytes, 8 * self.raw_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the reverse of `Arch(**data)`."""
        return asdict(self) | {"activation": str(self.activation), "weight": str(self.weight)} | {
            name: list(getattr(self, name)) for name in ("weight_widths", "weight_pools")}


#: {field: its key}, in the order of a chip file.
KEYS = keys_of(Arch)

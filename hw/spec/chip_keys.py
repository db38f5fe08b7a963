"""ChipKeys: the keys of a chip file, one row each.

What follows from them, widths and structures, is `systolith.hw.spec.arch`.
"""

from dataclasses import dataclass, field

from systolith.hw.formats import Format, Int

from .keys import Choice, Megahertz, Name, Number, Several, Switch, Whole, key
from .numbers import MULTIPLIER_BITS
from .structures import Structure

__all__ = ["ChipKeys"]

_INT8 = Int(8)


@dataclass(frozen=True, kw_only=True)
class ChipKeys:
    """One chip, unchecked. Its fields are the keys of a chip file, one row each: the key, its
    values, what it means and, with `programs=False`, that programs do not depend on it.

    In a field None stands for the "auto" or "exact" of the file.
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
        "Number format of activations: int2...int16, e4m3, e5m2, e3m2, e2m1, lns8, bipolar1, ... "
        "uint8 is the same array as int8: unsigned codes run on it, shifted by half their range."))
    weight: Format = field(default=_INT8, metadata=key("array.weight", Number(),
        "Number format of weights: integers, floats (e3m0 and the like are powers of two), blocks "
        "with scales (mxfp4, mxfp6, mxfp8, mxint8, nvfp4, mls) and sums "
        "of powers of two (e3m0x2) go with each other, logarithms (lns8) with logarithms, bipolar1 "
        "with bipolar1."))
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

"""Latencies of the units and depths of their queues, in cycles and entries.

Components read the constants and functions here, so that compiler and simulators know them
without the components. When things happen is said in the docstring of each component.
"""

from systolith.hw.formats import BlockScale, Format

from . import isa
from .arch import Arch
from .memories import MEMORIES, Space
from .numbers import PAGE_BYTES, SHIFT_BITS
from .structures import Structure

__all__ = ["ARRAY_EDGE", "CUT_BEATS", "CUT_LATENCY", "FETCHES", "ITEMS", "LOAD_BURSTS", "PART_BITS",
           "POOLING", "POST_START", "REVISIT", "ROWS_A_CYCLE", "SHARED_READS", "SHARED_WRITES",
           "SHORT_RUN", "STORE_BURSTS", "TABLE_LOOKUP", "apart", "array_latency", "booth_digits",
           "burst_limit", "code_unit", "column_delay", "delivery_beats", "delivery_cycles",
           "few_stages", "float_stages", "folded_operands", "folded_rows", "gain_by_pooling",
           "item_latency", "lane_choice", "lane_entry", "lane_factor_bits", "lane_limit_bits",
           "lane_number_bits", "load_share", "operand_image_bits", "operand_lane_latency",
           "pass_cycles", "pool_stages", "post_lane_latency", "product_latency", "product_parts",
           "product_rows", "read_period", "rounding_latency", "rounding_levels", "scale_cycles",
           "scale_stages", "second_turn", "shared_latency", "shortest_pass", "sum_latency",
           "word_latency"]

#: Instructions that the sequencer has requested and that have not come.
FETCHES = 4
#: Read bursts of LOAD that may be outstanding where runs are short, of so many beats or fewer, on
#: chips that make windows of an image's rows; any other burst counts as two.
LOAD_BURSTS, SHORT_RUN = 8, 8
#: Beats that wait until windows are made of them, and cycles from the bus to their register.
CUT_BEATS, CUT_LATENCY = 32, 2
#: Write bursts of STORE that may be outstanding.
STORE_BURSTS = 16
#: Bursts that are read, and that are written, under way on a bus that cores share, of all of them.
SHARED_READS, SHARED_WRITES = 12, 16
#: Items between POST and STORE; enough to hide the pipeline at full rate.
ITEMS = 16
#: Cycles from a sum's control, two cycles before the sum, to the first read of the accumulators
#: that sees it. Within them nothing may be added to the same word.
REVISIT = 4
#: Cycles from the array's ports to the first processing element.
ARRAY_EDGE = 1
#: Cycles from the acceptance of a POST instruction to its first read.
POST_START = 2
#: Cycles of pooling: the column, the comparison with the window's others, the choice.
POOLING = 3
#: Cycles from a number to the table word at its address: the memory's own register and one more.
#: Even, so that looked up and other results of an instruction do not meet (see `Post`).
TABLE_LOOKUP = 2
#: Bits of a signed factor of a DSP block.
_DSP_BITS = 18
#: Bits of each unsigned part of a longer factor. A block takes 17, but where another product stands
#: above a product's upper bits from the 17th on, Yosys' `xilinx_dsp_cascade` (0.70) takes the two
#: for that product alone, shifted by the block's own 17 places, and the upper one is lost.
PART_BITS = 16
#: Adders that follow each other in a cycle of a product of LUTs.
ROWS_A_CYCLE = 2


def load_share(arch: Arch, beats: int) -> int:
    """What a burst of a run of so many beats counts in `LOAD_BURSTS`."""
    return 1 if arch.load_windows and beats <= SHORT_RUN else 2


def burst_limit(arch: Arch) -> int:
    """Beats of the longest burst: a power of two that divides a 4 KiB page.

    Bursts end at the multiples of this length in the address space, so none crosses a page.
    """
    return min(arch.burst_beats, PAGE_BYTES // arch.beat_bytes)


def shared_latency(arch: Arch) -> int:
    """Cycles by which memory answers later where cores share its bus: a register each way."""
    return 0 if arch.cores == 1 else 2


def code_unit(arch: Arch) -> int:
    """Bytes that instructions are made of, of which an instruction is one or three: a program
    begins at a multiple of them, and none of them crosses a page."""
    return 16 if arch.bus_bits <= 128 else arch.instruction_bytes


def last_beats(arch: Arch) -> int:
    """Beats of the burst that ends a program, BEGIN once more: at least two, with what is beside it
    where it is one."""
    return max(2, arch.instruction_bytes // arch.beat_bytes)


def delivery_beats(arch: Arch, opcode: isa.Opcode) -> int:
    """Beats of an instruction that its unit needs, up to its last field."""
    bits = sum(item.width for item in isa.HEAD + isa.OPCODES[opcode])
    return -(-bits // arch.bus_bits)


def delivery_cycles(arch: Arch, opcode: isa.Opcode) -> int:
    """Cycles from the choice of an instruction in the queues to when it is before its unit."""
    # the place, the memory and, on chips with prefetch, a register since its output is late
    return 2 + arch.prefetch + delivery_beats(arch, opcode)


def shortest_pass(arch: Arch, filled: int = 0) -> int:
    """Cycles of the shortest pass of ARRAY that takes so many weight words (0: those of all rows):
    that takes a cycle each, and a pass's first sum must be in the accumulators before the next pass
    adds to it. An instruction's first pass fills all rows, those beyond its height with idle
    weights, which its other passes leave there. Where fillings overlap, only the words of the upper
    rows count."""
    words = filled or arch.fill
    return max(min(words, arch.upper_rows) if arch.two_fillings else words, REVISIT)


def pass_cycles(arch: Arch, length: int, filled: int, fill: int | None = None) -> int:
    """Cycles from one pass of an ARRAY to its next one, whose weights follow: of `length` cycles
    without them, of `filled` weight words; `fill`: rows that an instruction's first pass fills,
    those beyond its height with idle weights (0: all)."""
    shortest = shortest_pass(arch, filled if fill is None else fill)
    return apart(arch, max(length, shortest), filled, filled)


def apart(arch: Arch, cycles: int, filled: int, words: int) -> int:
    """Cycles from one pass of `filled` weight words to the next, whose first word lies `words`
    after its own, where it could be so many cycles: one more where both fillings would read the
    same memory, that of even or of odd words, in the same cycle."""
    meet = arch.two_fillings and cycles < filled and (words - cycles) % 2 == 0
    return cycles + meet


def scale_stages(arch: Arch) -> int:
    """Cycles in which a column's sum is multiplied by its block's scale, before the accumulator;
    0 where weights have no blocks."""
    scale = arch.weight.block_scale
    return 0 if scale is None else scale_cycles(scale, arch.scale_structure)


def scale_cycles(scale: BlockScale, structure: Structure) -> int:
    """The same for a kind of scales: a cycle multiplies by the mantissa, if there is one, and one
    by the power of two, unless the accumulator's adder shifts; for three bits of mantissa, LUTs of
    six inputs take two for the product."""
    late = (structure, scale.man) in ((Structure.LUT6, 1), (Structure.GATES, 3))
    return 1 + (scale.man > 0 and not late)


def float_stages(arch: Arch) -> int:
    """Cycles in which a column's sum is rounded to a float; 0 where accumulators are integers."""
    return int(arch.float_sums)


def column_delay(arch: Arch, column: int) -> int:
    """Cycles by which a column of the array lags column 0. Columns that share a register do not lag
    each other."""
    return column // arch.shared_columns


def pool_stages(arch: Arch) -> int:
    """Cycles in which codes of weights become weights of a pool on their way to the array."""
    return int(bool(arch.weight_pools))


def word_latency(arch: Arch) -> int:
    """Cycles from the decision on a pixel to its activation word at the array: coordinates,
    address, the memory and one more, since the output of a block RAM is late; one for the wires
    from the address to a large memory, one where banks have addresses of their own, and one that
    lets weights of a pool come later."""
    return 4 + MEMORIES[Space.ACTIVATION].large(arch) + (arch.banks > 1) + pool_stages(arch)


def array_latency(arch: Arch, stages: int) -> int:
    """Cycles from the decision on a pixel to the one before its last column's sum is written.

    `stages` are the pipeline stages of a processing element, `arithmetic_of(arch).stages`.
    """
    # the word; the array; the accumulators of the last column, whose control comes two cycles
    # before the sum
    edge = ARRAY_EDGE + arch.rows + stages + scale_stages(arch) + float_stages(arch)
    return (word_latency(arch) + edge
            + column_delay(arch, arch.columns - 1) - 2 + REVISIT - 2)


def product_parts(width: int) -> list[int]:
    """Widths of the parts into which a signed factor is cut for DSP blocks, the lowest first: all
    but the last are unsigned."""
    parts = []
    while width > _DSP_BITS:
        parts.append(PART_BITS)
        width -= PART_BITS
    return [*parts, width]


def product_rows(one: int, other: int) -> list[list[tuple[int, int]]]:
    """The products of the parts of two signed factors of so many bits, (part of one, part of the
    other), in rows of which each is one number: in a row they do not overlap, and only the last
    has a sign."""
    ends = len(product_parts(one)) - 1, len(product_parts(other)) - 1
    rows: list[list[tuple[int, int]]] = []
    for pair in sorted(((i, j) for i in range(ends[0] + 1) for j in range(ends[1] + 1)), key=sum):
        row = next((row for row in rows if row[-1][0] < ends[0] and row[-1][1] < ends[1]
                    and sum(pair) >= sum(row[-1]) + 2), None)
        if row is None:
            rows.append([pair])
        else:
            row.append(pair)
    return rows


def booth_digits(width: int) -> int:
    """Radix-4 digits of a signed factor, each of which is a row of a product of LUTs."""
    return -(-width // 2)


def folded_rows(width: int) -> int:
    """Rows of a product of LUTs that has two cycles for the digits of a signed factor."""
    return -(-booth_digits(width) // 2)


def folded_operands(arch: Arch) -> bool:
    """Whether operand lanes multiply in two cycles, since no more than one operand comes in two and
    the rows of a cycle are few enough to be added in one."""
    return arch.post_luts and folded_rows(operand_image_bits(arch)[1]) <= ROWS_A_CYCLE + 1


def gain_by_pooling(arch: Arch) -> bool:
    """Whether the factor of operands comes to operand lanes as a pooled result does, before the
    first one of an instruction: the choice of what is multiplied then shares LUTs with pooling."""
    return arch.operand_depth > 0 and folded_operands(arch) and arch.activation.uniform


def pooled_bits(arch: Arch) -> int:
    """Bits of a pooled result, and of a factor in its place."""
    return max(arch.first_bits, arch.gain_bits) if gain_by_pooling(arch) else arch.first_bits


def product_latency(arch: Arch, one: int, other: int, addend: bool) -> int:
    """Cycles of a product of two signed factors of so many bits, and of its sum with an addend."""
    if arch.post_luts:
        return -(-booth_digits(min(one, other)) // ROWS_A_CYCLE)
    return 1 + sum_latency(len(product_rows(one, other)) + addend)


def sum_latency(terms: int) -> int:
    """Cycles of a sum of so many numbers, in pairs."""
    return (terms - 1).bit_length()


def rounding_levels(form: Format, width: int) -> int:
    """Steps in which a signed number of `width` bits is shifted before it is rounded to a float,
    the first by 2**(levels - 1): so many that every shift of SHIFT_BITS bits can be done."""
    return max(SHIFT_BITS, (width - 1 - form.significand_bits).bit_length())


def few_stages(arch: Arch) -> bool:
    """Whether a post lane of integers has few registers."""
    return arch.post_stages == "few" and arch.activation.uniform


def rounding_latency(arch: Arch, width: int) -> int:
    """Cycles of a rounding of a signed number of `width` bits to the activation format."""
    if arch.activation.floating:
        # what the first shift is; the shifts, the last two in one; rounding, largest, sign;
        # two of the limits
        return rounding_levels(arch.activation, width) + 5
    # three of the shift, one for what is cut off, two of the limits and the zero point; of few,
    # the shift, and all that follows
    return 2 if few_stages(arch) else 6


def lane_choice(arch: Arch) -> int:
    """Cycles from the sum with the bias, or a second turn's number, to the product: the choice of
    the slope or, where there is none, the way to DSP blocks, which stand far apart."""
    return int(arch.leaky or not (arch.post_luts or few_stages(arch)))


def lane_entry(arch: Arch) -> int:
    """Cycles from POST's decision to read an accumulator word to its arrival at the lanes: the
    address, the memory and, on most chips, a register since the output of a block RAM is late and
    the choice of columns."""
    return 2 if arch.post_stages == "few" and not arch.operand_depth else 4


def lane_number_bits(arch: Arch) -> int:
    """Bits of what a post lane multiplies: a sum, or what an operand makes of a first result."""
    if not arch.operand_depth:
        return arch.accumulator_bits + 1
    return max(arch.accumulator_bits + 1, sum(operand_image_bits(arch)))


def lane_factor_bits(arch: Arch) -> int:
    """Bits of what it multiplies that by, with a sign."""
    return max(arch.multiplier_bits + 1, arch.gain_bits if arch.operand_depth else 0)


def lane_limit_bits(arch: Arch) -> int:
    """Bits of a signed number that holds every limit of a result less its zero point."""
    return max(arch.first_bits, arch.rounded_bits + 1)


def operand_image_bits(arch: Arch) -> tuple[int, int]:
    """Bits of a first result and of an operand less its zero point, as signed integers."""
    form = arch.activation
    if form.floating:
        bits = form.image_range[1].bit_length() + 1
        return bits, bits
    return arch.first_bits, form.width + 1


def post_lane_latency(arch: Arch) -> int:
    """Cycles from an accumulator and its channel's parameters to the result."""
    if arch.activation.binary:
        return 2
    number, factor = lane_number_bits(arch), lane_factor_bits(arch)
    addend = arch.addend_bits > 0 or arch.operand_depth > 0
    # the sum with the bias, the choice of the slope, the product, the offset, the rounding
    return (1 + lane_choice(arch) + product_latency(arch, number, factor, addend)
            + arch.slope_offsets + rounding_latency(arch, number + factor))


def operand_lane_latency(arch: Arch) -> int:
    """Cycles from a first result and its operand to what the post lane makes a result of."""
    factor = max(arch.gain_bits, operand_image_bits(arch)[0])
    product = 2 if folded_operands(arch) else product_latency(
        arch, operand_image_bits(arch)[1], factor, False)
    # images and the choice of factors; the product; the choice of sum or product
    least = 1 + 2 * arch.activation.floating + product + 1
    # A result's second turn comes an odd number of cycles after its first, see `Post`.
    return least + (_read_to_first(arch) + least - lane_entry(arch) + 1) % 2


def second_turn(arch: Arch) -> int:
    """Cycles by which a result's second turn through a post lane follows the first: odd."""
    return _read_to_first(arch) + operand_lane_latency(arch) - lane_entry(arch)


def _read_to_result(arch):
    """Cycles from a read to the result where it can be looked up."""
    return lane_entry(arch) + post_lane_latency(arch) + (arch.table_depth > 0)


def _read_to_first(arch):
    """Cycles from a read to the pooled result."""
    return _read_to_result(arch) + POOLING


def item_latency(arch: Arch, *, raw: int = 0, operand: int = 0, table: int = 0) -> int:
    """Cycles from POST's read of an item's last accumulator word to the item's write; the arguments
    are fields of the instruction."""
    if raw:
        return lane_entry(arch) + 2
    # results that are not combined are pooled
    second = second_turn(arch) if operand else POOLING
    return _read_to_result(arch) + second + 1 + TABLE_LOOKUP * table


def read_period(operand: int) -> int:
    """Cycles from one read of POST to the next: results that are combined with operands take their
    second turn through the lanes in the cycles between."""
    return 2 if operand else 1

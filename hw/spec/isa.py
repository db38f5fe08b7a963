"""The instruction set, described once.

Encoder, decoder and assembler text (`instruction.py`), the documentation's table and the
hardware all read `OPCODES`. Every instruction has `INSTRUCTION_BITS` bits; fields are packed from
bit 0 up, first the ones of `HEAD`, then its own; unused bits are 0.

Units run concurrently, each in its own order. An instruction waits for one token of every unit
named in `wait` before it starts, and gives one token to every unit named in `signal` when it is
done. Token counters start at 0; there is one for every ordered pair of units.

The last instruction, END, has a checksum of the whole program; with another one the core stops
on an error instead of being done.

Addresses: memories on the chip are addressed in words, external memory in bytes from the start
of the window that the host has opened.
"""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.lib import data

from .numbers import FIRST_BITS, GAIN_BITS, SLOT_BITS

__all__ = ["HEAD", "INSTRUCTION_BITS", "INSTRUCTION_BYTES", "OPCODES", "Destination", "Field",
           "Memory", "Opcode", "Pooling", "Unit", "description", "layout", "markdown_table"]

#: A whole number of beats of up to 128 bits; in memory `Arch.instruction_bytes` for each.
INSTRUCTION_BITS = 384
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8


class Unit(IntEnum):
    """The units that run concurrently; the numbers are bit positions in `wait` and `signal`."""
    LOAD = 0
    ARRAY = 1
    POST = 2
    STORE = 3


class Opcode(IntEnum):
    """0 is no instruction, so that cleared memory is not a program."""
    BEGIN = 1
    LOAD = 2
    ARRAY = 3
    POST = 4
    STORE = 5
    END = 6

    #: The unit that executes it; None: the sequencer.
    unit: Unit | None

    def __init__(self, _: int):
        # a plain attribute: it is read for every instruction of a program, many times
        name = self.name
        self.unit = Unit[name] if name in Unit.__members__ else None


class Memory(IntEnum):
    """Memories that a LOAD can fill."""
    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    OPERAND = 3
    TABLE = 4
    POOL = 5


class Destination(IntEnum):
    """Where a POST sends its results; bit 1: to the operand memory."""
    ACTIVATION = 0
    STORE = 1
    OPERAND = 2
    BOTH = 3


class Pooling(IntEnum):
    """How POST pools a window of accumulator words.

    With CARRIED and LEAD the column that was read last for a result belongs to the next one in
    its row, too, without being read again; with LEAD the first result of each row, which has no
    other before it, reads a column more.
    """
    LARGEST = 0
    CARRIED = 1
    LEAD = 2
    SUM = 3


class Combination(IntEnum):
    """What POST makes of a first result c and an operand r, its distance from the zero point.

    With LATE slopes below zero and offsets are those of the sum; else those of c.
    """
    NONE = 0
    SUM = 1         # c * gain + r * operand_gain
    PRODUCT = 2     # c * r * gain
    LATE = 3        # (c + r * operand_gain) * gain, or below zero times the channel's factor


@dataclass(frozen=True)
class Field:
    """One field: its width in bits, what it means, whether it is two's complement, and the smallest
    and largest legal value where those are not the width's."""
    name: str
    width: int
    doc: str
    signed: bool = False
    least: int | None = None
    most: int | None = None

    @property
    def low(self) -> int:
        if self.least is not None:
            return self.least
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        if self.most is not None:
            return self.most
        return (1 << (self.width - self.signed)) - 1


def _count(name, width, doc):
    return Field(name, width, doc, least=1)


def _signed(name, width, doc):
    return Field(name, width, doc, signed=True)


HEAD = (
    Field("opcode", 3, "which instruction"),
    Field("wait", 4, "units to take a token from before starting: bit 0 load, 1 array, 2 post, "
                     "3 store"),
    Field("signal", 4, "units to give a token to when done"),
    Field("layer", 12, "the layer it belongs to, for traces and the status register"),
)

OPCODES = {
    Opcode.BEGIN: (
        Field("identity", 64, "must equal the chip's identity register"),
    ),
    Opcode.LOAD: (
        Field("memory", 3, "0 activation, 1 weight, 2 parameter, 3 operand, 4 table, 5 pool",
              most=Memory.POOL),
        Field("address", 32, "first byte in external memory; a multiple of the bus width"),
        _count("rows", 12, "runs of contiguous words"),
        _count("words", 16, "words in each run"),
        Field("row_stride", 32, "bytes from one run to the next; a multiple of the bus width"),
        Field("base", 20, "first word in the memory"),
        Field("base_stride", 20, "words from one run to the next in the memory"),
        Field("word_beats", 12, "N > 0: external memory holds the first N beats of each word, and "
                                "what the word has beyond them becomes 0; where N is a "
                                "power of two, weight and parameter words of chips with "
                                "`array.side_taps` repeat them instead. 0: whole words"),
        Field("step_even", 7, "N > 0: words are windows of a run's bytes, each of as many bytes as "
                              "it has codes, 32 at most, after which codes are 0: the run's first "
                              "word begins with its first byte, the "
                              "word after one of an even number N bytes after it. A run has "
                              "`word_beats` beats. 0: words follow each other; chips with windows "
                              "only"),
        Field("step_odd", 7, "the same after words of an odd number"),
        Field("spare", 6, "windows: bytes of a run after its last word's, fewer than a beat"),
    ),
    Opcode.ARRAY: (
        Field("weight_base", 18, "first weight word; each pass takes `height` words, the first "
                                 "array row's first, or fewer where weights are narrow"),
        Field("narrow", 2, "N > 0: weights have as many bits as the N-th of the chip's widths, and "
                           "each code of a pass's words has bits of several rows, the first row's "
                           "lowest. Above its widths, N counts its pools, and such bits are the "
                           "number of a weight in the pool. 0: a word for each row; chips with "
                           "narrow weights or pools only"),
        Field("base", 20, "activation word of the pixel y = x = 0 in the first block"),
        Field("accumulator", 16, "accumulator word of the first pixel; pixels follow one by one"),
        _count("kernel_y", 7, "passes: outermost loop"),
        _count("kernel_x", 7, "passes: middle loop"),
        _count("blocks", 12, "passes: innermost loop, over blocks of input channels"),
        _count("out_y", 12, "pixels: outermost loop"),
        _count("out_x", 12, "pixels: second loop"),
        _count("pool_y", 4, "pixels: third loop, rows of a pooling window"),
        _count("pool_x", 4, "pixels: innermost loop, columns of a pooling window"),
        _signed("y_start", 20, "y of the first pixel in the first pass, in words"),
        _signed("x_start", 16, "x of the first pixel in the first pass, in words"),
        Field("y_last", 19, "a pixel with y < 0 or y > y_last is padding"),
        Field("x_last", 15, "a pixel with x < 0 or x > x_last is padding"),
        _signed("stride_ky", 20, "added to y per step of kernel_y"),
        _signed("stride_kx", 16, "added to x per step of kernel_x"),
        _signed("stride_block", 20, "added to the base per step of blocks"),
        _signed("stride_oy", 20, "added to y per step of out_y"),
        _signed("stride_ox", 16, "added to x per step of out_x"),
        _signed("stride_py", 20, "added to y per step of pool_y"),
        _signed("stride_px", 16, "added to x per step of pool_x"),
        Field("accumulate", 1, "1: the first pass adds to the accumulators; 0: it overwrites them"),
        Field("early", 1, "1: the token for post is given when the first pixel's last sum is "
                          "written, not the last pixel's"),
        Field("pad_valid", 1, "1: padding has the code pad_code in every lane; 0: padding adds "
                              "exactly nothing"),
        Field("pad_code", 16, "the code of padding, where pad_valid is 1"),
        Field("starts", 4, "0: activations are fed from the left and every pixel is a result. "
                           "N > 0: activations are fed from the top; N pixels of each pool_y loop "
                           "start a result; array row r multiplies the pixel r steps after that "
                           "start"),
        _count("start_y", 2, "fed from the top: steps of pool_y from one start of a result to the "
                             "next"),
        _count("start_x", 2, "fed from the top: steps of out_x from one start of a result to the "
                             "next"),
        _count("results_x", 11, "fed from the top: results in a row"),
        Field("replicate", 1, "1: padding repeats the nearest pixel of the map: y is clipped to "
                              "0...y_last and x to 0...x_last; 0: padding as pad_valid says"),
        Field("double", 1, "1: on chips with bit planes, the first pass doubles the accumulators "
                           "before it adds; on chips with wide weights, sums count 2**bits times, "
                           "bits being a weight's; on no others"),
        Field("planes", 1, "1: partial sums double before each of the rows 1 to 7 of the array, so "
                           "that the first eight rows weigh 128, 64, ... 1, and the others 1; the "
                           "sums of pixels that are not left out are more by what 256 leaves of "
                           "lanes * (247 + rows); chips with plane rows only"),
        Field("signs", 1, "1: each bit of an activation or weight code is a factor of its own, +1 "
                          "where it is 1, else -1; on chips with halves, each half of a code is, "
                          "the lower one of an activation goes with the upper one of a weight, and "
                          "sums count `2**half`; chips with signs or halves only"),
        Field("side", 2, "N > 0: the rows of the array are `2**N` equal parts; part n sees the "
                         "pixel n steps before that of the first part. The first `2**N - 1` sums "
                         "of each pass mean nothing; chips with side taps only. 3: all steps of "
                         "kernel_y and kernel_x, four each at most, are one pass, which takes "
                         "`height` weight words for each; step n of them takes n * `height` rows "
                         "of the array, which see their channels of the pixel of that step; "
                         "`height` is a power of two; chips with tap rows only", most=3),
        Field("height", 5, "N > 0: passes take weight words for the first N times ceil(rows / 32) "
                           "rows of the array alone, on chips with tap rows ceil(rows / 16); the "
                           "others have idle weights (0; of bipolar1 "
                           "-1 in even and +1 in odd lanes) and bipolar activations of -1. 0: for "
                           "all rows"),
    ),
    Opcode.POST: (
        Field("accumulator", 16, "accumulator word of the first pixel"),
        _count("out_y", 10, "results: outermost loop"),
        _count("out_x", 11, "results: second loop"),
        _count("pool_x", 8, "accumulator words of one result: third loop, columns of its window"),
        _count("pool_y", 4, "accumulator words: innermost loop, rows of the window"),
        Field("row", 8, "accumulator words from one row of a window to the next"),
        _signed("jump", 6, "distance in accumulator words from the last column of one window to "
                           "the first column of the next, minus 1"),
        Field("turn", 10, "distance in accumulator words from the last column of a row's last "
                          "window to the first column of the next row's first window, minus 1"),
        Field("pooling", 2, "0: maximum over the window; 1: maximum over the window and the "
                            "column before it, which is kept from the result before, but for the "
                            "first result of a row; 2: as 1, and the first result of a row reads "
                            "that column, too; 3: sum over the window"),
        Field("group", 8, "which group of columns to read, in as many of the lowest bits as the "
                          "chip's groups need. The number above them is N > 0: the group's first N "
                          "chunks of post lanes alone are read, and the codes of others are 0; 0: "
                          "all, as raw results, signs and columns that are kept need them"),
        Field("parameters", 12, "first parameter word; one a chunk of post lanes"),
        Field("destination", 2, "0 activation memory, 1 store unit, 2 operand memory, 3 activation "
                                "and operand memory"),
        Field("raw", 1, "1: accumulator + bias as it is, to the store unit only; 0: requantize"),
        Field("base", 20, "activation word of the first result"),
        _signed("stride_y", 16, "words per step of out_y, in every memory"),
        _signed("stride_x", 8, "words per step of out_x, in every memory"),
        Field("slot", SLOT_BITS, "which group of each word is written, and of the operand words "
                                 "read, in as many of the lowest bits as the chip's groups need. "
                                 "The number above them is N > 0: the group is also written in "
                                 "every further 2**(N - 1) times ceil(rows / 16) rows' part of the "
                                 "word; chips with tap rows only"),
        Field("signs", 1, "1: of each result its sign is written, a bit that is 1 where the result "
                          "is not negative, or its lower half; slot is which group of bits, and "
                          "those above it in the word become 0; chips with signs or halves only. "
                          "Operands are then read at slot modulo the groups of a word"),
        _signed("zero_point", 16, "added after rounding (integers)"),
        _signed("low", 16, "smallest result, as an ordered integer (see the numerics page)"),
        _signed("high", 16, "largest result, as an ordered integer"),
        Field("copy_base", 19, "operand word of the first result, where one is written"),
        Field("operand", 2, "0: results are final; else each is combined with an operand, which is "
                            "1: added to it; 2: multiplied with it; 3: added before slopes below "
                            "zero and offsets, which else are those of the first result (chips "
                            "with offsets only); the fields below"),
        Field("broadcast", 1, "1: one operand word for all results; 0: one for each"),
        Field("operand_ties", 2, "rounding of a combined result half-way between integers: 0 "
                                 "as computed, 1 to even, 2 to odd (see the numerics page)"),
        Field("operand_base", 19, "operand word of the first result"),
        _signed("operand_zero", 16, "zero point of the operand (integers)"),
        _signed("first_low", FIRST_BITS, "smallest first result, from the sums alone"),
        _signed("first_high", FIRST_BITS, "largest first result"),
        _signed("gain", GAIN_BITS, "factor of the first result, or of the product; with operand 3 "
                                   "of sums of 0 and above"),
        _signed("operand_gain", GAIN_BITS, "factor of the operand, where it is added"),
        Field("operand_shift", 6, "right shift of their sum, or of the product; with operand 3 of "
                                  "sums of 0 and above"),
        Field("table", 1, "1: each result is replaced by the table word at its address, before max "
                          "pooling and after an operand is combined"),
    ),
    Opcode.STORE: (
        Field("address", 32, "first byte in external memory; a multiple of the item's size"),
        _count("rows", 12, "runs"),
        _count("items", 16, "items in each run: groups of results, or raw chunks"),
        Field("row_stride", 32, "bytes from one run to the next"),
        Field("item_stride", 32, "bytes from one item to the next"),
        Field("raw", 1, "1: an item is a raw chunk; 0: a group"),
        Field("burst", 1, "1: items are contiguous and a whole number of beats, bursts may span "
                          "them (item_stride is then ignored); 0: each item is a burst"),
        Field("item_beats", 11, "N > 0: of each item, a group, the first N beats alone are "
                                "written; burst is 0. 0: whole items"),
    ),
    Opcode.END: (
        Field("checksum", 32, "makes the sum of the program 0: over its instructions, rotate the "
                              "sum left by one bit, and combine it with each of the instruction's "
                              "32-bit words by exclusive or"),
    ),
}


def layout(opcode: Opcode) -> data.StructLayout:
    """The instruction as an Amaranth layout, `INSTRUCTION_BITS` wide or less."""
    from amaranth import signed, unsigned
    return data.StructLayout({
        item.name: signed(item.width) if item.signed else unsigned(item.width)
        for item in HEAD + OPCODES[opcode]})


def description() -> dict[str, list[tuple[str, int, bool]]]:
    """Everything that an identity must depend on, as plain data."""
    return {op.name: [(f.name, f.width, f.signed) for f in HEAD + fields]
            for op, fields in OPCODES.items()}


def markdown_table() -> str:
    """The reference page's tables, one for the head and one for each instruction."""
    def table(title, fields, position):
        lines = [f"### {title}", "", "| bits | field | range | meaning |", "|---|---|---|---|"]
        for item in fields:
            lines.append(f"| {position + item.width - 1}:{position} | `{item.name}` | "
                         f"{item.low}...{item.high} | {item.doc} |")
            position += item.width
        return [*lines, ""]
    start = sum(item.width for item in HEAD)
    lines = table("Head of every instruction", HEAD, 0)
    for opcode, fields in OPCODES.items():
        lines += table(f"{opcode.name} (opcode {int(opcode)})", fields, start)
    return "\n".join(lines)

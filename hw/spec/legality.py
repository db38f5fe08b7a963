"""Which instructions a chip can execute: the one table that hardware and simulators check.

The sequencer of every chip refuses values out of a field's range (`isa.Field`) and everything in
`OPTIONS`. What needs arithmetic, `BOUNDS` and `RULES`, is checked when a program is built and
before it is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from .arch import Arch
from .instruction import Instruction
from .isa import OPCODES, Combination, Destination, Memory, Opcode, Pooling
from .loops import (
    Nest,
    axes,
    chunk_count,
    column_group,
    copies_apart,
    extent,
    group_field,
    run_bytes,
    slot_of,
    stored_bytes,
    word_starts,
)
from .memories import item_bytes, word_bytes
from .widths import kept_bits

__all__ = ["BOUNDS", "OPTIONS", "RULES", "Bound", "Option", "executes", "fault", "transfers"]


@dataclass(frozen=True)
class Option:
    """Values of a field, from `low` to `high`, that only chips with an optional part execute.

    `part` is the field or property of `Arch` that says whether the chip has it, `lack` what is
    said of a chip that has not.
    """
    opcode: Opcode
    field: str
    low: int
    high: int
    part: str
    lack: str

    def missing(self, arch: Arch) -> bool:
        """Whether the chip lacks the part."""
        return not getattr(arch, self.part)


_OPERANDS = ("operand_depth", "the chip has no operand memory")
_TABLES = ("table_depth", "the chip has no table memory")
_SIGNS = ("parts", "the chip's elements do not multiply signs, or halves of codes")
_SIDE = ("side_taps", "the array's rows do not see pixels side by side")
_WINDOWS = ("load_windows", "the chip has no windows")
OPTIONS = (
    Option(Opcode.LOAD, "memory", Memory.OPERAND, Memory.OPERAND, *_OPERANDS),
    Option(Opcode.LOAD, "memory", Memory.TABLE, Memory.TABLE, *_TABLES),
    Option(Opcode.LOAD, "memory", Memory.POOL, Memory.POOL, "weight_pools",
           "the chip has no weight pools"),
    Option(Opcode.LOAD, "step_even", 1, 127, *_WINDOWS),
    Option(Opcode.LOAD, "step_odd", 1, 127, *_WINDOWS),
    Option(Opcode.ARRAY, "starts", 1, 15, "depthwise",
           "activations come from the top only on chips with depthwise"),
    Option(Opcode.ARRAY, "double", 1, 1, "counts_more",
           "sums count more only on chips with bit planes or wide weights"),
    Option(Opcode.ARRAY, "planes", 1, 1, "plane_rows", "no rows of the chip hold bit planes"),
    Option(Opcode.ARRAY, "signs", 1, 1, *_SIGNS),
    Option(Opcode.ARRAY, "narrow", 1, 3, "code_widths", "the chip has no narrow weights"),
    Option(Opcode.ARRAY, "side", 1, 2, *_SIDE),
    Option(Opcode.ARRAY, "side", 3, 3, "tap_rows", "the array's rows see the same pixel"),
    Option(Opcode.POST, "signs", 1, 1, *_SIGNS),
    Option(Opcode.POST, "destination", Destination.OPERAND, Destination.BOTH, *_OPERANDS),
    Option(Opcode.POST, "operand", Combination.SUM, Combination.LATE, *_OPERANDS),
    Option(Opcode.POST, "operand", Combination.LATE, Combination.LATE, "slope_offsets",
           "slopes come after sums only on chips with offsets"),
    Option(Opcode.POST, "table", 1, 1, *_TABLES),
)


def executes(arch: Arch, opcode: Opcode, field: str, value: int = 1) -> bool:
    """Whether a chip has the part that a value of a field of an instruction needs."""
    return not any(option.missing(arch) for option in OPTIONS if (option.opcode, option.field) == (
        opcode, field) and option.low <= value <= option.high)


@dataclass(frozen=True)
class Bound:
    """A field whose range depends on the chip: `limits` gives the smallest and largest value for
    an instruction, or None where the field does not matter; `what` says what they are."""
    opcode: Opcode
    field: str
    what: str
    limits: Callable[[Instruction, Arch], tuple[int, int] | None]


def _final(i: Instruction, arch: Arch) -> tuple[int, int] | None:
    """Limits of what POST writes, or looks up."""
    if i.raw or arch.activation.binary:
        return None
    if i.table and arch.activation.uniform:
        return -arch.table_depth, arch.table_depth - 1
    return arch.activation.ordered_range


def _first(i: Instruction, arch: Arch) -> tuple[int, int] | None:
    """Limits of results before they meet an operand."""
    if i.raw or not i.operand:
        return None
    if arch.activation.floating:
        return arch.activation.ordered_range
    top = 1 << arch.first_bits - 1
    return -top, top - 1


def _operand_zero(i: Instruction, arch: Arch) -> tuple[int, int] | None:
    if i.raw or not i.operand or arch.activation.binary:
        return None
    return arch.activation.ordered_range if arch.activation.uniform else (0, 0)


def _slot(i: Instruction, arch: Arch) -> tuple[int, int] | None:
    if i.destination == Destination.STORE and not i.operand:
        return None
    if i.slot >> arch.copy_bits and arch.banks > 1:
        apart = copies_apart(i, arch)           # of the copies, the first one is named
        return i.slot - slot_of(i, arch), i.slot - slot_of(i, arch) + apart - 1
    return 0, (arch.slots if i.signs else arch.groups_per_word) - 1


def _takes_all_chunks(i: Instruction) -> bool:
    """Whether a POST must read all chunks of its group: pooling keeps a column of each chunk, and
    raw sums are an item each."""
    return bool(i.raw or i.signs or i.pooling in (Pooling.CARRIED, Pooling.LEAD))


def _gain(i: Instruction, arch: Arch) -> tuple[int, int] | None:
    top = 1 << arch.gain_bits - 1
    return (-top, top - 1) if not i.raw and i.operand else None


def _operand_gain(i: Instruction, arch: Arch) -> tuple[int, int] | None:
    if i.operand != Combination.LATE:
        return _gain(i, arch)
    top = 1 << arch.first_bits - 1              # the sum is one factor of a product
    return -top, top - 1


BOUNDS = (
    Bound(Opcode.LOAD, "word_beats", "the beats of a word",
          lambda i, arch: None if i.step_even else (
              0, word_bytes(i.memory, arch) // arch.beat_bytes)),
    Bound(Opcode.ARRAY, "pad_code", "the codes of the activation format",
          lambda i, arch: (0, (1 << arch.activation.width) - 1)),
    Bound(Opcode.ARRAY, "height", "the rows of the array",
          lambda i, arch: (0, 0 if i.signs or arch.weight.block_scale
                           else arch.rows // arch.height_unit)),
    Bound(Opcode.ARRAY, "narrow", "the chip's widths",
          lambda i, arch: (0, 0 if i.signs else len(arch.code_widths))),
    Bound(Opcode.STORE, "item_beats", "the beats of a group but one",
          lambda i, arch: (0, 0 if i.raw or i.burst else arch.group_beats - 1)),
    Bound(Opcode.POST, "group", "the groups of the columns and their chunks",
          lambda i, arch: (0, group_field(
              arch.groups_per_columns - 1, 0 if _takes_all_chunks(i) else arch.chunks - 1, arch))),
    Bound(Opcode.POST, "slot", "the groups of a word", _slot),
    Bound(Opcode.POST, "low", "the results of the chip", _final),
    Bound(Opcode.POST, "high", "the results of the chip", _final),
    Bound(Opcode.POST, "first_low", "the chip's first results", _first),
    Bound(Opcode.POST, "first_high", "the chip's first results", _first),
    Bound(Opcode.POST, "gain", "the chip's factors", _gain),
    Bound(Opcode.POST, "operand_gain", "the chip's factors", _operand_gain),
    Bound(Opcode.POST, "operand_zero", "the zero points of the activation format", _operand_zero),
)


def transfers(i: Instruction, arch: Arch) -> tuple[Nest, int]:
    """The contiguous transfers of a LOAD or STORE: the loops, in bytes from `address` on, over
    their first bytes, and the bytes of each."""
    rows = (i.rows, i.row_stride)
    if i.opcode == Opcode.LOAD:
        return (rows,), run_bytes(i, arch)
    size = stored_bytes(i, arch)
    return ((rows,), i.items * size) if i.burst else ((rows, (i.items, i.item_stride)), size)


def _unit(i: Instruction, arch: Arch) -> int:
    """Bytes to which addresses and strides are aligned: a beat, or an item that is shorter."""
    if i.opcode == Opcode.LOAD:
        return arch.beat_bytes
    return min(item_bytes(i.raw, arch), arch.beat_bytes)


# Rules return None, or what is wrong.

def _address_is_aligned(i: Instruction, arch: Arch) -> str | None:
    unit = _unit(i, arch)
    return f"address must be a multiple of {unit} bytes" if i.address % unit else None


def _rows_are_aligned(i: Instruction, arch: Arch) -> str | None:
    unit = _unit(i, arch)
    if i.rows > 1 and i.row_stride % unit:
        return f"row_stride must be a multiple of {unit} bytes"
    return None


def _windows_fill_their_run(i: Instruction, arch: Arch) -> str | None:
    if not (i.step_even or i.step_odd or i.spare):
        return None
    end = int(word_starts(i, arch)[-1]) + arch.window_bytes + i.spare
    if not (i.step_even and i.step_odd and i.memory == Memory.ACTIVATION):
        return "windows are activations, and have two steps"
    if i.spare >= arch.beat_bytes or end != i.word_beats * arch.beat_bytes:
        return (f"the run's {i.words} windows and its spare bytes end with byte {end}, and it has "
                f"{i.word_beats} beats of {arch.beat_bytes} bytes")
    return None


def _items_are_aligned(i: Instruction, arch: Arch) -> str | None:
    unit = _unit(i, arch)
    if not i.burst and i.items > 1 and i.item_stride % unit:
        return f"item_stride must be a multiple of {unit} bytes"
    return None


def _bursts_join_whole_beats(i: Instruction, arch: Arch) -> str | None:
    size = item_bytes(i.raw, arch)
    if i.burst and size % arch.beat_bytes:
        return (f"items of {size} bytes are no whole beats of {arch.beat_bytes} bytes and cannot "
                "be joined in bursts")
    return None


def _positions_fit_counters(i: Instruction, arch: Arch) -> str | None:
    widths = kept_bits(arch, Opcode.ARRAY)
    for name, start, nest in zip("yx", (i.y_start, i.x_start), axes(i), strict=True):
        bits = widths[f"{name}_start"]
        low, high = extent(start, *nest)
        if low < -(1 << bits - 1) or high >= 1 << bits - 1:
            return f"{name} runs from {low} to {high}, which does not fit {bits} bits"
    return None


def _doubled_sums_are_kept(i: Instruction, arch: Arch) -> str | None:
    if i.double and not i.accumulate and arch.bit_planes:
        return "double needs accumulate: only sums that are there can be doubled"
    return None


def _results_start_at_pixels(i: Instruction, arch: Arch) -> str | None:
    if i.starts and not ((i.results_x - 1) * i.start_x < i.out_x
                         and (i.starts - 1) * i.start_y < i.pool_y and i.pool_x == 1):
        return "results must begin at pixels that there are, and pool_x be 1"
    return None


def _no_early_token_from_above(i: Instruction, arch: Arch) -> str | None:
    if i.starts and i.early:
        return "from the top, sums come in another order than post reads them: no early token"
    return None


def _signs_come_from_the_left(i: Instruction, arch: Arch) -> str | None:
    if i.signs and i.starts:
        return "signs are fed from the left: no starts"
    return None


def _pixels_side_by_side_are_numbers(i: Instruction, arch: Arch) -> str | None:
    if i.side in (1, 2) and (i.starts or i.signs or not (i.pad_valid or i.replicate)):
        return "side is for numbers from the left, and padding that has a code"
    return None


def _planes_are_of_one_pixel(i: Instruction, arch: Arch) -> str | None:
    if i.planes and i.side:
        return "rows of bit planes see the same pixel: no side"
    return None


def _taps_have_rows(i: Instruction, arch: Arch) -> str | None:
    if i.side != 3:
        return None
    if not i.pad_valid or i.replicate or i.narrow or i.blocks > 1:
        return "taps with rows of their own are of one block, and padding has a code"
    if i.kernel_y > 4 or i.kernel_x > 4 or i.height.bit_count() != 1 or (
            i.height * i.kernel_y * i.kernel_x > arch.banks):
        return (f"taps with rows of their own are 4 x 4 at most, in 1, 2, 4 or 8 of "
                f"{arch.banks} parts of the rows each")
    return None


def _copies_are_there(i: Instruction, arch: Arch) -> str | None:
    if i.slot >> arch.copy_bits and i.destination != Destination.STORE and (
            arch.banks == 1 or copies_apart(i, arch) >= arch.slots):
        return "slot means copies in parts that a word does not have"
    return None


def _signs_go_to_activations(i: Instruction, arch: Arch) -> str | None:
    if i.signs and (i.destination != Destination.ACTIVATION or i.raw or i.table):
        return "signs go to activations, and are not of raw or looked up results"
    return None


def _signs_and_operands_share_a_slot(i: Instruction, arch: Arch) -> str | None:
    if i.signs and i.operand and not arch.combined_signs:
        return "signs are of combined results only where a word has a power of two of groups"
    return None


def _raw_results_are_plain(i: Instruction, arch: Arch) -> str | None:
    if i.raw and not (i.pool_x == i.pool_y == 1 and i.pooling == Pooling.LARGEST
                      and i.destination == Destination.STORE and not i.operand and not i.table):
        return "raw results go to the store unit and are not pooled, combined or looked up"
    return None


def _groups_are_there(i: Instruction, arch: Arch) -> str | None:
    if column_group(i, arch) >= arch.groups_per_columns or chunk_count(i, arch) > arch.chunks:
        return (f"group means group {column_group(i, arch)} of {arch.groups_per_columns}, and "
                f"{chunk_count(i, arch)} of its {arch.chunks} chunks")
    return None


def _limits_are_in_order(i: Instruction, arch: Arch) -> str | None:
    if _final(i, arch) and i.low > i.high:
        return f"low must not be above high, and {i.low} is above {i.high}"
    return None


def _zero_point_is_near_the_limits(i: Instruction, arch: Arch) -> str | None:
    if _final(i, arch) and arch.activation.uniform:
        # What is beyond the integers that are rounded must be beyond the limits, too.
        reach = 1 << arch.rounded_bits
        least, most = max(-reach, i.high - reach + 1), min(reach - 1, i.low + reach)
        if not least <= i.zero_point <= most:
            return f"zero_point must be from {least} to {most}, and is {i.zero_point}"
    return None


def _first_limits_are_in_order(i: Instruction, arch: Arch) -> str | None:
    if _final(i, arch) and i.operand and i.first_low > i.first_high:
        return f"first_low must not be above first_high, and {i.first_low} is above {i.first_high}"
    return None


def _looked_up_results_fit_the_table(i: Instruction, arch: Arch) -> str | None:
    if _final(i, arch) and i.table and i.high - i.low >= arch.table_depth:
        return f"it would look up more than {arch.table_depth} results in the table"
    return None


RULES: dict[Opcode, tuple[Callable[[Instruction, Arch], str | None], ...]] = {
    Opcode.BEGIN: (),
    Opcode.LOAD: (_address_is_aligned, _rows_are_aligned, _windows_fill_their_run),
    Opcode.ARRAY: (_positions_fit_counters, _doubled_sums_are_kept, _results_start_at_pixels,
                   _no_early_token_from_above, _signs_come_from_the_left,
                   _pixels_side_by_side_are_numbers, _taps_have_rows, _planes_are_of_one_pixel),
    Opcode.POST: (_groups_are_there, _raw_results_are_plain, _signs_go_to_activations,
                  _signs_and_operands_share_a_slot, _copies_are_there, _limits_are_in_order,
                  _zero_point_is_near_the_limits, _first_limits_are_in_order,
                  _looked_up_results_fit_the_table),
    Opcode.STORE: (_bursts_join_whole_beats, _items_are_aligned, _address_is_aligned,
                   _rows_are_aligned),
    Opcode.END: (),
}


_OPTIONS = {opcode: [row for row in OPTIONS if row.opcode == opcode] for opcode in Opcode}
_BOUNDS = {opcode: [row for row in BOUNDS if row.opcode == opcode] for opcode in Opcode}


@lru_cache(64)
def _of_chip(arch, opcode):
    """(options that the chip lacks, [(field, lowest value, highest value, bits)] of fields that it
    has fewer bits for)."""
    kept = kept_bits(arch, opcode)
    return ([option for option in _OPTIONS[opcode] if option.missing(arch)],
            [(item.name, -(1 << bits - 1) if item.signed else 0, (1 << bits - item.signed) - 1,
              bits)
             for item in OPCODES[opcode] if (bits := kept[item.name]) < item.width])


def fault(i: Instruction, arch: Arch) -> str | None:
    """What keeps a chip from executing an instruction as its fields say, its fields being within
    their widths; None: nothing. Words that it reaches are not looked at."""
    options, kept = _of_chip(arch, i.opcode)
    for option in options:
        if option.low <= i.fields[option.field] <= option.high:
            return option.lack
    for bound in _BOUNDS[i.opcode]:
        if (limits := bound.limits(i, arch)) is not None:
            low, high = limits
            if not low <= i.fields[bound.field] <= high:
                return f"{bound.field} must be from {low} to {high}, {bound.what}"
    for name, low, high, bits in kept:
        if not low <= i.fields[name] <= high:
            return (f"{name} is {i.fields[name]}, which does not fit the {bits} bits "
                    "that the chip has for it")
    for rule in RULES[i.opcode]:
        if found := rule(i, arch):
            return found
    return None

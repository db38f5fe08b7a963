"""Latencies of the units and depths of their queues, in cycles and entries.

Components read the constants and functions here, so that compiler and simulators know them
without the components. When things happen is said in the docstring of each component.
"""

from systolith.hw.formats import Format

from . import isa
from .arch import Arch
from .numbers import PAGE_BYTES

__all__ = ["ARRAY_EDGE", "FETCHES", "ITEMS", "LOAD_BURSTS", "REVISIT", "STORE_BURSTS",
           "TABLE_LOOKUP", "WORD", "array_latency", "burst_limit", "column_delay", "delivery_beats",
           "operand_lane_latency", "operand_latency", "post_lane_latency", "post_latency",
           "rounding_latency", "shortest_pass"]

#: Instructions that the sequencer has requested and that have not come.
FETCHES = 4
#: Read bursts of LOAD that may be outstanding.
LOAD_BURSTS = 4
#: Write bursts of STORE that may be outstanding.
STORE_BURSTS = 16
#: Items between POST and STORE; enough to hide the pipeline at full rate.
ITEMS = 16
#: Cycles from a sum's control, two cycles before the sum, to the first read of the accumulators
#: that sees it. Within them nothing may be added to the same word.
REVISIT = 4
#: Cycles from the decision on a pixel to its activation word at the array: coordinates, address,
#: the memory and one more, since the output of a block RAM is late.
WORD = 4
#: Cycles from the array's ports to the first processing element.
ARRAY_EDGE = 1
#: Cycles from a number to the table word at its address: the memory's own register and one more,
#: since the output of a block RAM is late.
TABLE_LOOKUP = 2


def burst_limit(arch: Arch) -> int:
    """Beats of the longest burst: a power of two that divides a 4 KiB page.

    Bursts end at the multiples of this length in the address space, so none crosses a page.
    """
    return min(arch.burst_beats, PAGE_BYTES // arch.beat_bytes)


def delivery_beats(arch: Arch, opcode: isa.Opcode) -> int:
    """Beats of an instruction that its unit needs, up to its last field."""
    bits = sum(item.width for item in isa.HEAD + isa.OPCODES[opcode])
    return -(-bits // arch.bus_bits)


def shortest_pass(arch: Arch) -> int:
    """Cycles of the shortest pass of ARRAY: a filling of the array with weights takes `rows`, and a
    pass's first sum must be in the accumulators before the next pass adds to it."""
    return max(arch.rows, REVISIT)


def column_delay(arch: Arch, column: int) -> int:
    """Cycles by which a column of the array lags column 0. Columns that share a register do not lag
    each other."""
    return column // arch.shared_columns


def array_latency(arch: Arch, stages: int) -> int:
    """Cycles from the decision on a pixel to the one before its last column's sum is written.

    `stages` are the pipeline stages of a processing element, `arithmetic_of(arch).stages`.
    """
    # the word; the array; the accumulators of the last column, whose control comes two cycles
    # before the sum
    return (WORD + (ARRAY_EDGE + arch.rows + stages) + column_delay(arch, arch.columns - 1)
            - 2 + REVISIT - 2)


def rounding_latency(form: Format) -> int:
    """Cycles of a rounding to the activation format."""
    return 3 if form.floating else 1


def post_lane_latency(arch: Arch) -> int:
    """Cycles from an accumulator and its channel's parameters to the result."""
    if arch.activation.binary:
        return 2
    return 4 + arch.leaky + rounding_latency(arch.activation) + 1


def operand_lane_latency(arch: Arch) -> int:
    """Cycles from a first result and its operand to the combined result."""
    return 6 + rounding_latency(arch.activation) + 1


def post_latency(arch: Arch) -> int:
    """Cycles from POST's read of an item's last accumulator word to the item's write, where it is
    neither combined with an operand nor looked up in a table."""
    # read, selection, lanes, maximum
    return 1 + 1 + post_lane_latency(arch) + 1


def operand_latency(arch: Arch) -> int:
    """`post_latency` of an item that is combined with an operand."""
    # the operand is read while the maximum is registered; lanes, the item
    return post_latency(arch) + operand_lane_latency(arch) + 1

"""Arch: the description of one chip, and every width that follows from it.

Everything that hardware, simulators, compiler and driver must agree on is a field or a property
here, computed once.
"""

from dataclasses import asdict, dataclass
from math import gcd
from typing import Any

from systolith.hw.formats import Format, Int, parse, sum_bits, term_bound

from .numbers import FIRST_BITS, MULTIPLIER_BITS, SHIFT_BITS
from .rules import check_arch, check_fields
from .structures import SMALL_PRODUCT, Structure

__all__ = ["ASSUMED_MHZ", "Arch"]

#: The clock where nothing says which.
ASSUMED_MHZ = 50.0
_INT8 = Int(8)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _item_bytes(bits: int, beat_bytes: int) -> int:
    """Bytes that `bits` take in external memory: a power of two within a beat, or whole beats."""
    size = _up(bits, 8) // 8
    return _up(size, beat_bytes) if size > beat_bytes else 1 << (size - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One chip.

    Parameters
    ----------
    name : str
        Names the chip in reports and in the generated Verilog.
    board : str
        A board of `systolith.hw.board.boards`, or "none".
    rows, columns, lanes : int
        Processing elements down, across, and multipliers in each; from 1 up.
    activation, weight : Format, or its name
        Number formats of the operands. Results are rounded to the activation format.
    accumulator : int or None
        Bits of the accumulators, saturating; None: exact for `largest_k` products.
    largest_k : int
        The longest dot product that exact accumulators must hold.
    post_lanes : int or None
        Channels that post-processing finishes per cycle; divides columns and rows * lanes.
        None: the largest such divisor up to 4.
    activation_depth, weight_depth, accumulator_depth, parameter_depth : int
        Words in each memory: activation words of rows * lanes codes, weight words of one array
        row (columns * lanes codes), accumulator words of one pixel (columns sums), parameter
        words of post_lanes channels.
    operand_depth : int
        Words of the operand memory, each like an activation word; 0: results cannot be combined
        with operands (sums and products of two feature maps).
    bus_bits : int
        Data width of the AXI4 port: 32, 64 or 128.
    burst_beats : int
        Longest AXI burst, a power of two from 1 to 256.
    queue_depth : int
        Instructions that wait before each unit.
    clock_mhz : float or None
        The clock: on a board, of its phase-locked loop, where None is the board's oscillator's;
        elsewhere what reports assume, where None is `ASSUMED_MHZ`.
    structure : str
        What the processing elements are built for: "lut6", "lut4", "gates", "dsp", "dsp48" (see
        `Structure`). "auto": "dsp" for products of more than SMALL_PRODUCT
        bits, else "lut4". Programs do not depend on it.
    stages : int or None
        Pipeline stages of a processing element; None: as many as a fast clock needs. Programs
        do not depend on them.
    shared_columns : int
        Columns side by side that share their activation registers; divides `columns`. Programs do
        not depend on it.
    table_depth : int
        Words of the table memory, a power of two that numbers of all the activation format's codes
        fit into; each holds one result. 0: results cannot be looked up in tables.
    leaky : bool
        Sums below zero have a multiplier and a shift of their own in every channel.
    bias_fraction : int
        Fraction bits of a bias, in units of the sums, from 0 to MULTIPLIER_BITS. Binary
        chips have none, whatever this says: their biases are thresholds between whole sums.
    depthwise : bool
        Columns can also take activations from the top, each its own channel, so that depthwise
        convolutions keep up to `rows` multipliers of each column busy instead of one. For one
        lane and as many rows as columns, formats with a zero.
    counters : bool
        Registers count the cycles that each unit works, and waits for what. Programs do not depend
        on them.
    bit_planes : bool
        Accumulators can double what they hold, so that a binary chip computes a first layer of
        integer inputs, one plane of their bits after the other.
    """

    name: str = "chip"
    board: str = "none"
    rows: int
    columns: int
    lanes: int = 1
    activation: Format = _INT8
    weight: Format = _INT8
    accumulator: int | None = None
    largest_k: int = 4608
    post_lanes: int = None  # type: ignore[assignment]      # a number once it is made
    activation_depth: int = 4096
    weight_depth: int = 1024
    accumulator_depth: int = 512
    parameter_depth: int = 256
    operand_depth: int = 0
    table_depth: int = 0
    leaky: bool = False
    bias_fraction: int = 16
    bus_bits: int = 64
    burst_beats: int = 64
    queue_depth: int = 4
    clock_mhz: float | None = None
    structure: str = "auto"
    stages: int | None = None
    shared_columns: int = 1
    depthwise: bool = False
    counters: bool = True
    bit_planes: bool = False

    def __post_init__(self) -> None:
        for field in ("activation", "weight"):
            object.__setattr__(self, field, parse(getattr(self, field)))
        check_fields(self)
        if self.post_lanes is None:
            lanes = max(n for n in range(1, 5) if self.group % n == 0)
            object.__setattr__(self, "post_lanes", lanes)
        check_arch(self)

    @property
    def pe_structure(self) -> Structure:
        """`structure`, with "auto" resolved."""
        if self.structure != "auto":
            return Structure(self.structure)
        bits = self.activation.significand_bits + self.weight.significand_bits
        small = bits <= SMALL_PRODUCT
        return Structure.LUT4 if small else Structure.DSP

    @property
    def pe_dsp(self) -> bool:
        """Whether processing elements are built for DSP blocks."""
        return self.pe_structure.is_dsp

    # Shape of the words.

    @property
    def vector(self) -> int:
        """Channels in an activation word: rows * lanes."""
        return self.rows * self.lanes

    @property
    def group(self) -> int:
        """Channels that are written together: the most that fit activation words and columns."""
        return gcd(self.vector, self.columns)

    @property
    def chunks(self) -> int:
        """Cycles that post-processing takes for one group: group / post_lanes."""
        return self.group // self.post_lanes

    @property
    def groups_per_word(self) -> int:
        return self.vector // self.group

    @property
    def groups_per_columns(self) -> int:
        return self.columns // self.group

    @property
    def macs_per_cycle(self) -> int:
        return self.rows * self.columns * self.lanes

    def utilization(self, macs: int, cycles: int) -> float:
        """The share that so many multiply-accumulates are of what the array can do in so many
        cycles; 0 in none."""
        return macs / (cycles * self.macs_per_cycle) if cycles else 0.0

    # Exact sums.

    @property
    def term_bound(self) -> int:
        """Largest magnitude of one product's image."""
        return term_bound(self.activation, self.weight)

    def sum_bits(self, terms: int) -> int:
        """Bits of a signed number that holds every sum of `terms` products."""
        return sum_bits(self.activation, self.weight, terms)

    @property
    def sum_exponent(self) -> int:
        """The weight of a sum's lowest bit: value = sum * 2**sum_exponent."""
        return self.activation.exponent + self.weight.exponent

    @property
    def psum_bits(self) -> int:
        """Bits of a partial sum inside the array: rows * lanes products."""
        return self.sum_bits(self.vector)

    @property
    def accumulator_bits(self) -> int:
        if self.accumulator is not None:
            return self.accumulator
        return self.sum_bits(max(self.largest_k, self.vector))

    @property
    def first_bits(self) -> int:
        """Bits of a signed number that holds every result before it meets its operand. Integers
        may be rounded more finely than the activation format does."""
        if self.operand_depth and self.activation.uniform:
            return max(FIRST_BITS, self.last_bits)
        return self.last_bits

    @property
    def last_bits(self) -> int:
        """Bits of a signed number that holds every result, those that are looked up in tables
        among them."""
        width = self.activation.width
        if self.table_depth and self.activation.uniform:
            width = max(width, self.table_address_bits)
        return width + 1

    @property
    def rounded_bits(self) -> int:
        """An integer result is rounded to -2**rounded_bits to 2**rounded_bits - 1, before the zero
        point is added; what is beyond is below or above all limits."""
        return max(self.last_bits, self.first_bits - 1)

    @property
    def table_address_bits(self) -> int:
        return (self.table_depth - 1).bit_length()

    @property
    def raw_bits(self) -> int:
        """Bits of a result that is stored as it is, accumulator plus bias: 16, 32 or 128."""
        return next(bits for bits in (16, 32, 64, 128) if bits > self.accumulator_bits)

    # Memories: bits on the chip, bytes outside.

    @property
    def beat_bytes(self) -> int:
        return self.bus_bits // 8

    @property
    def activation_bits(self) -> int:
        """Bits of an activation word."""
        return self.vector * self.activation.width

    @property
    def group_bits(self) -> int:
        return self.group * self.activation.width

    @property
    def weight_bits(self) -> int:
        """Bits of a weight word: the weights of one array row."""
        return self.columns * self.lanes * self.weight.width

    @property
    def parameter_bits(self) -> int:
        """Bits of one channel's parameters: bias, multiplier, shift, addend, ties; on leaky chips
        multiplier, shift and addend for sums below zero, the first and last with a sign."""
        below = (MULTIPLIER_BITS + 1 + SHIFT_BITS + self.below_addend_bits) * self.leaky
        return (self.accumulator_bits + MULTIPLIER_BITS + SHIFT_BITS + self.addend_bits
                + self.tie_bits + below)

    @property
    def addend_bits(self) -> int:
        """Bits of what is added to a product for the fraction of the bias: the highest ones of
        MULTIPLIER_BITS."""
        return 0 if self.activation.binary else self.bias_fraction

    @property
    def tie_bits(self) -> int:
        """Bits of a channel's rule for ties, which integers need."""
        return 2 if self.activation.uniform else 0

    @property
    def below_addend_bits(self) -> int:
        """Bits of the addend for sums below zero, with its sign."""
        return self.addend_bits and self.addend_bits + 1

    @property
    def group_bytes(self) -> int:
        """Bytes of a group outside; a group never shares a byte with another."""
        return _item_bytes(self.group_bits, self.beat_bytes)

    @property
    def activation_bytes(self) -> int:
        """Bytes of an activation word outside: its groups in order, then up to whole beats."""
        return _up(self.groups_per_word * self.group_bytes, self.beat_bytes)

    @property
    def weight_bytes(self) -> int:
        return _up(_up(self.weight_bits, 8) // 8, self.beat_bytes)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of a parameter word (post_lanes channels) outside."""
        return _up(_up(self.post_lanes * self.parameter_bits, 8) // 8, self.beat_bytes)

    @property
    def table_bits(self) -> int:
        """Bits of a table word: one result."""
        return self.activation.width

    @property
    def table_bytes(self) -> int:
        """Bytes of a table word outside: one beat."""
        return _up(_up(self.activation.width, 8) // 8, self.beat_bytes)

    @property
    def raw_bytes(self) -> int:
        """Bytes of one chunk of raw results (post_lanes of them) outside."""
        return _item_bytes(self.post_lanes * self.raw_bits, self.beat_bytes)

    @property
    def item_bits(self) -> int:
        """Bits of what post-processing hands to the store unit: a group, or a raw chunk."""
        return max(8 * self.group_bytes, 8 * self.raw_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the reverse of `Arch(**data)`."""
        return asdict(self) | {"activation": str(self.activation), "weight": str(self.weight)}

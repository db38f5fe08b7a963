"""Arch: the description of one chip, and every width that follows from it.

Everything that hardware, simulators, compiler and driver must agree on is a key
(`systolith.hw.spec.chip_keys`) or a property here, computed once.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from math import gcd
from typing import Any

from systolith.hw.formats import (
    Bipolar,
    Format,
    Int,
    parse,
    product_exponent,
    sum_bits,
    term_bound,
)

from .chip_keys import ChipKeys
from .isa import INSTRUCTION_BYTES
from .keys import keys_of
from .numbers import FIRST_BELOW, FIRST_BITS, OFFSET_FRACTION, SHIFT_BITS, WINDOW_BYTES
from .numbers import item_bytes as _item_bytes
from .numbers import round_up as _up
from .rules import check_arch
from .scale_words import ScaleWord
from .structures import SMALL_PRODUCT, Structure

__all__ = ["ASSUMED_MHZ", "KEYS", "Arch"]

#: The clock where nothing says which.
ASSUMED_MHZ = 50.0


@dataclass(frozen=True, kw_only=True)
class Arch(ChipKeys):
    """One chip: its keys, checked, and what follows from them.

    Number formats may be given by their names. Raises ArchError for a value that a key does not
    take, and for a contradiction between keys (`systolith.hw.spec.rules`).
    """

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
    def scale_word(self) -> ScaleWord | None:
        """What says a column's scale in the weight memory; None where weights have no blocks."""
        scale = self.weight.block_scale
        return None if scale is None else ScaleWord(scale, self.scale_structure)

    @cached_property
    def prepared_scales(self) -> bool:
        """Whether words of scales are prepared for the circuit, so that programs depend on it."""
        return self.scale_word is not None and self.scale_word.prepared

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
    def window_bytes(self) -> int:
        """Bytes of a word that a LOAD of windows fills, the first ones; the others become 0."""
        return min(self.vector, WINDOW_BYTES)

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
        return -(-self.rows // (16 if self.tap_rows else 32))

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
        return product_exponent(self.activation, self.weight) - (scale.man if scale else 0)

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
    def group_beats(self) -> int:
        """Beats of a group outside; 1 where it is smaller than one."""
        return max(1, self.group_bytes // self.beat_bytes)

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

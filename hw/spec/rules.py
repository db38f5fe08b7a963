"""Contradictions between the keys of a chip, one rule each.

A rule returns None, or the field at fault and what is wrong with it, worded as the end of a
sentence that starts with the field's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .numbers import SLOT_BITS
from .scale_words import ScaleWord

if TYPE_CHECKING:
    from .arch import Arch

__all__ = ["RULES", "ArchError", "check_arch"]

Fault = tuple[str, str] | None


class ArchError(ValueError):
    """A field with a wrong value. Its text is the field's name and what is wrong with it.

    Attributes
    ----------
    field : str
        A field of `Arch`.
    text : str
        The rest of the sentence, such as "must be from 1 to 256, not 0".
    """

    def __init__(self, field: str, text: str):
        super().__init__(f"{field} {text}")
        self.field, self.text = field, text


def check_arch(arch: Arch) -> None:
    """Raise ArchError for the first of RULES that `arch` breaks; its fields are in range."""
    for rule in RULES:
        if fault := rule(arch):
            raise ArchError(*fault)


def _bursts_are_powers_of_two(arch: Arch) -> Fault:
    if arch.burst_beats & (arch.burst_beats - 1):
        return "burst_beats", f"must be a power of two, not {arch.burst_beats!r}"
    return None


def _cores_have_windows(arch: Arch) -> Fault:
    if arch.cores > 1 and arch.address_bits < 32:
        return "cores", (f"must be 1 where addresses have fewer than 32 bits "
                         f"({arch.address_bits}), since each core has a window of its own; "
                         "bus.address_bits = 32 lets the host say where it is")
    return None


def _boards_have_narrow_buses(arch: Arch) -> Fault:
    if arch.bus_bits > 128 and arch.board != "none":
        return "bus_bits", (f"must be at most 128 on a board ({arch.board}), not "
                            f"{arch.bus_bits!r}; wider buses are for chips whose board is \"none\"")
    return None


def _both_formats_are_binary_or_none(arch: Arch) -> Fault:
    if arch.activation.binary != arch.weight.binary:
        return "activation", ("and weight must both be bipolar1, or neither: activation is "
                              f"{arch.activation}, weight is {arch.weight}")
    return None


def _weights_can_be_multiplied(arch: Arch) -> Fault:
    fault = arch.weight.weight_fault()
    return ("weight", fault) if fault else None


def _results_can_be_rounded(arch: Arch) -> Fault:
    fault = arch.activation.activation_fault()
    return ("activation", fault) if fault else None


def _logarithms_meet_logarithms(arch: Arch) -> Fault:
    one, other = arch.activation, arch.weight
    if "logarithm" not in (one.family, other.family):
        return None
    if one.family != other.family or (one.root, one.table_bits) != (  # type: ignore[attr-defined]
            other.root, other.table_bits):      # type: ignore[attr-defined]
        return "activation", ("and weight must be logarithms of the same root and table, or "
                              f"neither: activation is {one}, weight is {other}")
    if arch.accumulator is not None or arch.float_sums:
        field = "sums" if arch.float_sums else "accumulator"
        value = "integers" if arch.float_sums else "exact"
        return field, f'must be "{value}" with logarithms ({one})'
    return None


def _operands_need_numbers(arch: Arch) -> Fault:
    if arch.operand_depth and arch.activation.binary:
        return "operand_depth", ("must be 0 on binary chips: their results are signs, not sums "
                                 "that could be combined")
    return None


def _leaky_channels_need_numbers(arch: Arch) -> Fault:
    if arch.leaky and arch.activation.binary:
        return "leaky", ("must be false on binary chips: their results are signs, and any function "
                         "of a sign is a sign")
    return None


def _offsets_follow_slopes(arch: Arch) -> Fault:
    if arch.slope_offsets and not (arch.leaky and arch.activation.uniform):
        return "slope_offsets", ("must be false on chips without leaky, where the bias is the only "
                                 "offset, and with activations of floats")
    return None


def _tables_need_numbers(arch: Arch) -> Fault:
    if arch.table_depth and arch.activation.binary:
        return "table_depth", ("must be 0 on binary chips: their results are signs, and any "
                               "function of a sign is a sign")
    return None


def _tables_hold_all_codes(arch: Arch) -> Fault:
    codes = 1 << arch.activation.width
    depth = arch.table_depth
    if depth and (depth & (depth - 1) or depth < codes):
        return "table_depth", (f"must be 0 or a power of two from {codes} up (the codes of "
                               f"{arch.activation}), not {depth!r}")
    return None


def _columns_are_shared_evenly(arch: Arch) -> Fault:
    if arch.columns % arch.shared_columns:
        return "shared_columns", (f"must divide columns ({arch.columns}), not "
                                  f"{arch.shared_columns!r}")
    return None


def _blocks_are_whole_passes(arch: Arch) -> Fault:
    scale = arch.weight.block_scale
    if scale is None:
        return None
    if scale.size % arch.vector:
        return "rows", (f"times lanes must divide the {scale.size} weights of a block of "
                        f"{arch.weight}, not {arch.rows} * {arch.lanes}")
    bits = ScaleWord(scale, arch.scale_structure).width
    if bits > arch.lanes * arch.weight.width:
        return "lanes", (f"must be at least {-(-bits // arch.weight.width)}, so that the "
                         f"{bits} bits of a scale of {arch.weight} are no more than a "
                         "column's weights")
    for field in ("depthwise", "side_taps"):
        if getattr(arch, field):
            return field, (f"must be false where weights are in blocks ({arch.weight}), whose rows "
                           "have one scale")
    return None


def _bit_planes_are_binary(arch: Arch) -> Fault:
    if arch.bit_planes and not arch.activation.binary:
        return "bit_planes", ("must be false unless activation is bipolar1, not "
                              f"{arch.activation}")
    return None


def _planes_have_rows(arch: Arch) -> Fault:
    if arch.plane_rows and (not arch.bit_planes or arch.rows < 8 or arch.lanes % 2):
        return "plane_rows", ("needs bit_planes, 8 or more rows and an even number of lanes, not "
                              f"{arch.rows} rows and {arch.lanes} lanes; set it to false")
    return None


def _signs_fill_codes(arch: Arch) -> Fault:
    if not arch.packed_signs:
        return None
    form, other = arch.activation, arch.weight
    if form != other or form.family != "integer" or not form.complete or form.width < 3:
        return "packed_signs", ("needs activations and weights that are integers of the same 3 or "
                                f"more bits, not {form} and {other}; set it to false")
    if arch.group % form.width:
        return "packed_signs", (f"needs rows * lanes ({arch.vector}) and columns ({arch.columns}) "
                                f"to be multiples of {form.width}, the signs that a code of {form} "
                                "holds; set it to false")
    return None


def _halves_fill_codes(arch: Arch) -> Fault:
    if not arch.packed_halves:
        return None
    form, other = arch.activation, arch.weight
    if form != other or form.family != "integer" or not form.complete or form.width % 4:
        return "packed_halves", ("needs activations and weights that are integers of the same 4, "
                                 f"8, 12 or 16 bits, not {form} and {other}; set it to false")
    if arch.group % 2 or arch.lanes > 1 or arch.shared_columns > 1 or arch.packed_signs:
        return "packed_halves", ("needs rows and columns with an even common divisor, one lane, "
                                 "shared_columns = 1 and packed_signs = false, not "
                                 f"{arch.rows} rows, {arch.columns} columns, {arch.lanes} lanes "
                                 f"and shared_columns = {arch.shared_columns}; set it to false")
    return None


def _narrow_weights_are_integers(arch: Arch) -> Fault:
    widths, form = arch.weight_widths, arch.weight
    if widths and (form.family != "integer" or form.block_scale or not (
            form.complete and form.signed)):
        return "weight_widths", f"must be [] unless weights are integers, not {form}"
    if widths and max(widths) >= form.width:
        return "weight_widths", (f"must have fewer bits than {form}, not {max(widths)}; leave "
                                 f"{max(widths)} out")
    return None


def _wide_weights_are_integers(arch: Arch) -> Fault:
    form = arch.weight
    if arch.wide_weights and (form.family != "integer" or form.block_scale or not (
            form.complete and form.signed) or form.width > 8 or not arch.exact_sums):
        return "wide_weights", ("needs weights that are integers of 8 bits or fewer and exact "
                                f"sums, not {form}; set it to false")
    return None


def _pools_hold_integers(arch: Arch) -> Fault:
    pools, form = arch.weight_pools, arch.weight
    if pools and (form.family != "integer" or form.block_scale or not (
            form.complete and form.signed) or max(pools) >= form.width):
        return "weight_pools", (f"must be [] unless weights are integers of more than "
                                f"{max(pools)} bits, not {form}")
    if pools and len(arch.code_widths) > 3:
        return "weight_pools", (f"has {len(pools)} pools, and weight_widths has "
                                f"{len(arch.weight_widths)} widths; leave out all but three of "
                                "both together")
    return None


def _depthwise_arrays_are_square(arch: Arch) -> Fault:
    if arch.depthwise and (arch.lanes, arch.rows, arch.shared_columns) != (1, arch.columns, 1):
        return "depthwise", (f"needs one lane, as many rows as columns and shared_columns = 1, not "
                             f"{arch.lanes} lanes, {arch.rows} rows, {arch.columns} columns and "
                             f"shared_columns = {arch.shared_columns}")
    return None


def _depthwise_needs_a_zero(arch: Arch) -> Fault:
    if arch.depthwise and arch.activation.zero_code is None:
        return "depthwise", ("needs an activation format that has a code for 0, and "
                             f"{arch.activation} has none; set it to false")
    return None


def _side_taps_need_even_parts(arch: Arch) -> Fault:
    if arch.side_taps and (arch.rows % 4 or arch.activation.binary):
        return "side_taps", (f"needs numbers with a 0 and a multiple of 4 rows, not "
                             f"{arch.activation} and {arch.rows} rows; set it to false")
    return None


def _tap_rows_have_whole_groups(arch: Arch) -> Fault:
    if not arch.tap_rows:
        return None
    if arch.side_taps or arch.parts or arch.depthwise or arch.weight.block_scale:
        return "tap_rows", ("must be false on chips with side_taps, packed_signs, packed_halves or "
                            "depthwise, and where weights are in blocks")
    part = arch.height_unit * arch.lanes
    if arch.rows % arch.height_unit or arch.rows < 2 or part % arch.group:
        return "tap_rows", (f"needs parts of {part} channels, a 16th of the rows or one row, that "
                            f"divide the rows and hold whole groups of {arch.group}; set it to "
                            "false")
    if (arch.weight.binary and arch.lanes % 2) or not (
            arch.weight.binary or arch.weight.zero_code == 0):
        return "tap_rows", ("needs idle weights that cancel: an even number of lanes where weights "
                            "are bipolar1, else a weight 0 of code 0; set it to false")
    if arch.copy_bits > SLOT_BITS - 3:
        return "tap_rows", (f"is for words of up to {1 << SLOT_BITS - 3} groups, not {arch.slots}; "
                            "set it to false")
    return None


def _fillings_overlap_in_halves(arch: Arch) -> Fault:
    if arch.two_fillings and (arch.rows < 3 or arch.code_widths or arch.weight.block_scale):
        return "two_fillings", ("needs three rows or more, and no weights in blocks, "
                                "weight_widths or weight_pools; set it to false")
    return None


def _windows_are_of_bytes(arch: Arch) -> Fault:
    if arch.load_windows and arch.activation.width != 8:
        return "load_windows", f"is for activations of 8 bits, not {arch.activation}"
    return None


def _slots_fit_their_field(arch: Arch) -> Fault:
    most = 1 << SLOT_BITS
    if arch.slots > most:
        divisor = -(-arch.vector * arch.code_signs // most)
        return "rows", (f"* lanes ({arch.vector}) and columns ({arch.columns}) must have a common "
                        f"divisor of {divisor} or more")
    return None


def _weights_fill_the_array(arch: Arch) -> Fault:
    if arch.weight_depth < arch.fill:
        scales = " and the scales" if arch.fill > arch.rows else ""
        return "weight_depth", (f"must hold the {arch.rows} rows{scales} of one array filling, not "
                                f"{arch.weight_depth!r}")
    return None


def _post_lanes_divide_a_group(arch: Arch) -> Fault:
    if arch.post_lanes is None or arch.group % arch.post_lanes:
        return "post_lanes", (f"must divide columns ({arch.columns}) and rows * lanes "
                              f"({arch.vector}), not {arch.post_lanes!r}")
    return None


def _parameters_hold_a_group(arch: Arch) -> Fault:
    if arch.parameter_depth < arch.chunks:
        return "parameter_depth", (f"must hold the {arch.chunks} words of one group of columns, "
                                   f"not {arch.parameter_depth!r}")
    return None


def _accumulators_hold_a_pass(arch: Arch) -> Fault:
    bits = arch.accumulator
    if bits is not None and arch.scaled_bits > 64:
        return "accumulator", (
            f"has 64 bits at most, and one pass's sum of products of {arch.activation} and "
            f"{arch.weight} has {arch.scaled_bits}; choose an activation or weight with shorter "
            "exponents")
    if bits is not None and bits < arch.scaled_bits:
        return "accumulator", (f"must be \"exact\" or from {arch.scaled_bits} (one pass's sum) to "
                               f"64 bits, not {bits!r}")
    return None


def _float_sums_are_of_numbers(arch: Arch) -> Fault:
    if arch.float_sums and (arch.accumulator is not None or arch.activation.binary):
        return "sums", ("must be \"integers\" on binary chips and where accumulator is a number of "
                        "bits")
    if arch.float_sums and (arch.packed_signs or arch.packed_halves):
        return "sums", "must be \"integers\" with packed_signs or packed_halves"
    return None


def _exact_sums_fit_accumulators(arch: Arch) -> Fault:
    if arch.accumulator_bits > 64:
        most = ((1 << 63 - arch.float_sums) - 1) // (arch.term_bound * arch.largest_factor)
        smaller = f"a largest_k of at most {most}, " if most >= arch.pass_terms else ""
        saturating = (", or accumulator = 64, which saturates"
                      if arch.exact_sums and arch.scaled_bits <= 64 else "")
        return "largest_k", (
            f"of {arch.largest_k} needs exact sums of {arch.accumulator_bits} bits, more than 64, "
            f"for products of {arch.activation} and {arch.weight}; choose {smaller}an activation "
            f"or weight with shorter exponents{saturating}")
    return None


#: In the order in which they are checked.
RULES: tuple[Callable[[Arch], Fault], ...] = (
    _bursts_are_powers_of_two, _cores_have_windows, _boards_have_narrow_buses,
    _both_formats_are_binary_or_none,
    _weights_can_be_multiplied, _results_can_be_rounded, _logarithms_meet_logarithms,
    _operands_need_numbers,
    _leaky_channels_need_numbers, _offsets_follow_slopes, _tables_need_numbers,
    _tables_hold_all_codes,
    _columns_are_shared_evenly, _blocks_are_whole_passes, _bit_planes_are_binary,
    _planes_have_rows,
    _signs_fill_codes, _halves_fill_codes, _narrow_weights_are_integers,
    _pools_hold_integers, _wide_weights_are_integers,
    _depthwise_arrays_are_square, _depthwise_needs_a_zero, _side_taps_need_even_parts,
    _tap_rows_have_whole_groups,
    _fillings_overlap_in_halves, _windows_are_of_bytes, _slots_fit_their_field,
    _weights_fill_the_array, _post_lanes_divide_a_group, _parameters_hold_a_group,
    _accumulators_hold_a_pass, _float_sums_are_of_numbers,
    _exact_sums_fit_accumulators,
)

from dataclasses import fields, replace

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import WITHOUT_EFFECT, identity

ARCH = Arch(rows=4, columns=4)
#: For each field another value that the chip may have.
OTHER = dict(
    name="other", board="ulx3s-85f", cores=3, rows=8, columns=8, lanes=2,
    activation="int7", weight="int7",
    accumulator=40, sums="1-6-9", largest_k=100, activation_depth=128, weight_depth=64,
    accumulator_depth=64,
    parameter_depth=16, operand_depth=8, table_depth=256, leaky=True, bias_fraction=3,
    multiplier_bits=17,
    post_multiplier="luts", post_stages="few", scale_multiplier="luts", bus_bits=32,
    burst_beats=8, queue_depth=3, clock_mhz=7.0, structure="lut6", stages=1, shared_columns=2,
    depthwise=True, weight_widths=(4,), weight_pools=(4,), side_taps=True, load_windows=True,
    two_writes=True, counters=False, post_lanes=2, address_bits=20,
    prefetch=False, token_bits=4, diagnosis=False, watchdog_bits=20,
    checksum=False)


def test_a_change_of_a_field_changes_the_identity_where_programs_depend_on_it():
    assert identity(ARCH) == identity(Arch(rows=4, columns=4)) < 1 << 64
    for field in fields(Arch):
        if field.name not in ("bit_planes", "packed_signs", "packed_halves", "slope_offsets",
                              "tap_rows", "plane_rows", "wide_weights", "two_fillings"):
            other = replace(ARCH, **{field.name: OTHER[field.name]})
            assert (identity(other) == identity(ARCH)) == (field.name in WITHOUT_EFFECT), field.name
    binary = replace(ARCH, activation="bipolar1", weight="bipolar1")
    assert identity(binary) != identity(replace(binary, bit_planes=True))
    planes = replace(binary, bit_planes=True, rows=8, lanes=2)
    assert identity(planes) != identity(replace(planes, plane_rows=True))
    lanes = replace(ARCH, lanes=4)
    assert identity(lanes) != identity(replace(lanes, tap_rows=True))
    assert identity(ARCH) != identity(replace(ARCH, two_fillings=True))
    leaky = replace(ARCH, leaky=True)
    assert identity(leaky) != identity(replace(leaky, slope_offsets=True))
    larger = replace(ARCH, rows=8, columns=8)
    assert identity(larger) != identity(replace(larger, packed_signs=True))
    assert identity(larger) != identity(replace(larger, packed_halves=True))
    assert identity(larger) != identity(replace(larger, wide_weights=True))


def test_identities_are_those_of_stored_programs():
    assert f"{identity(ARCH):016x}" == "29f33b2f189acd11"

"""Random chips: legal, varied, and the same for the same seed."""

from systolith.hw.formats import Bipolar, Float, Int, Lns
from systolith.hw.spec.arch import KEYS
from systolith.hw.spec.near import near_columns, near_rows
from systolith.hw.spec.structures import Structure
from systolith.sim.random.arch import random_arch


def test_chips_differ_in_every_way():
    chips = [random_arch(seed) for seed in range(150)]
    assert {type(arch.activation) for arch in chips} == {Int, Float, Lns, Bipolar}
    for sizes in ({arch.rows for arch in chips}, {arch.columns for arch in chips}):
        assert {size for size in sizes if size < 32} == set(range(1, 10)) and max(sizes) > 32
    assert {len(near_rows(arch)) for arch in chips} >= {0, 1}
    assert {len(near_columns(arch)) for arch in chips} >= {0, 1}
    assert {arch.bus_bits for arch in chips} == {32, 64, 128, 256, 512}
    assert min(arch.accumulator_depth for arch in chips) == 4
    assert max(arch.accumulator_depth for arch in chips) == 70
    assert {arch.queue_depth for arch in chips} == set(range(1, 6))
    assert {arch.address_bits for arch in chips} == {18, 32}
    assert {arch.prefetch for arch in chips} == {arch.diagnosis for arch in chips} == {False, True}
    assert {arch.checksum for arch in chips} == {False, True}
    assert {arch.token_bits for arch in chips} == {6, 10}
    assert {arch.watchdog_bits for arch in chips} == {17, 32}
    for fact in (lambda a: a.accumulator is None, lambda a: a.lanes > 1, lambda a: a.chunks > 1,
                 lambda a: a.groups_per_word > 1, lambda a: a.groups_per_columns > 1,
                 lambda a: a.activation != a.weight, lambda a: a.shared_columns > 1,
                 lambda a: a.stages == 1, lambda a: a.stages is None,
                 lambda a: a.raw_bits == 128,
                 lambda a: a.group_bytes >= a.beat_bytes, lambda a: a.burst_beats == 1):
        assert {bool(fact(arch)) for arch in chips} == {False, True}
    assert {16, 17, 26} <= {arch.multiplier_bits for arch in chips}
    for field in [key.field for key in KEYS.values() if key.optional]:
        assert {bool(getattr(arch, field)) for arch in chips} == {False, True}, field
    assert {arch.structure for arch in chips} == {"auto", *Structure}
    assert {arch.post_multiplier for arch in chips} == {"auto", "dsp", "luts"}
    assert random_arch(7) == random_arch(7)
    assert isinstance(random_arch(7, "float").activation, Float)

"""What layers need of a chip: each row refuses what the chip lacks, and the value that it names is
the least that is enough."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.chip.toml import KEYS
from systolith.gen.compile.chip_formats import formats_needed
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.needs import (
    NEEDS,
    SAVINGS,
    WITHOUT,
    check_needs,
    needed,
    wide_enough,
)
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Int, parse
from systolith.hw.spec.arch import Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Below, Operand, Requantization
from systolith.sim.model.weights import Weights

ONES = np.ones(2, int)
PLAIN = Requantization.plain(2, -128, 127)
SIGNS = Weights(np.ones((2, 2, 1, 1)), Bipolar(1))
BASE = {"weights": Weights(np.ones((2, 2, 1, 1)), Int(8)), "input_shape": (2, 3, 3),
        "requantization": PLAIN}
#: {field: (what a layer that needs it is like, its input's format, the chip, the least value)}
NEEDY = {
    "operand_depth": ({"operand": Operand(tensor="side")}, Int(8), Arch(rows=2, columns=2), 1),
    "leaky": ({"requantization": replace(PLAIN, below=Below(ONES, ONES, 0 * ONES))}, Int(8),
              Arch(rows=2, columns=2), True),
    "slope_offsets": ({"requantization": replace(PLAIN, below=Below(ONES, ONES, 0 * ONES),
                                           offset=ONES)}, Int(8),
                Arch(rows=2, columns=2, leaky=True), True),
    "table_depth": ({"table": np.zeros(300, int), "requantization": replace(PLAIN, high=171)},
                    Int(8), Arch(rows=2, columns=2), 512),
    "bias_fraction": ({"requantization": replace(PLAIN, multiplier=ONES << 25, shift=ONES * 20,
                                                 addend=ONES * 0x1555555)},
                      Int(8), Arch(rows=2, columns=2, bias_fraction=2), 6),
    "multiplier_bits": ({"requantization": replace(PLAIN, multiplier=ONES * ((1 << 20) - 3))},
                        Int(8), Arch(rows=2, columns=2, multiplier_bits=17), 20),
    "bit_planes": ({"weights": SIGNS}, Int(4),
                   Arch(rows=2, columns=2, activation="bipolar1", weight="bipolar1"), True),
}


def graph_of(field):
    """A network of one layer that needs a field, and the chip, which lacks it."""
    facts, form, arch, _ = NEEDY[field]
    tensors = {name: Tensor(name, (2, 3, 3), form) for name in ("in", "side")}
    tensors["out"] = Tensor("out", (2, 3, 3), arch.activation)
    conv = Conv("conv", "in", "out", **BASE | facts)
    return Graph("net", [tensors["in"], tensors["side"]], tensors, [conv], ["out"]), arch


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.field)
def test_the_least_value_is_enough_and_one_less_is_refused(need):
    graph, arch = graph_of(need.field)
    least = NEEDY[need.field][-1]
    conv = graph.layers[0]
    assert need.value(conv, graph.tensors, arch) == least
    with pytest.raises(UserError, match=rf"^layer 'conv' .*{need.key}") as caught:
        check_needs(Layer(0, conv, arch), graph.tensors)
    less = least // 2 if need.field == "table_depth" else type(least)(least - 1)
    with pytest.raises(UserError, match=need.key):
        check_needs(Layer(0, conv, replace(arch, **{need.field: less})), graph.tensors)
    if need.enough is None:
        assert str(least).lower() in str(caught.value).rpartition(need.key)[2]
    chip = replace(arch, **{need.field: least})
    check_needs(Layer(0, conv, chip), graph.tensors)
    assert not list(needed(graph, chip))
    [(found, value, layers)] = needed(graph, arch)
    assert found is need and layers == [conv]
    chip = replace(arch, **{need.field: value})
    check_needs(Layer(0, conv, chip), graph.tensors)


def test_a_table_of_a_clipped_function_takes_a_word_for_every_code():
    """The chip's rules allow no shorter one."""
    graph, arch = graph_of("table_depth")
    graph.layers[0] = replace(graph.layers[0], table=np.zeros(16, int),
                              requantization=replace(PLAIN, low=-8, high=7))
    [(need, value, _)] = needed(graph, arch)
    assert value == 256
    replace(arch, **{need.field: value})


def test_every_part_that_a_chip_may_lack_has_a_row():
    rows = {need.field for need in (*NEEDS, *SAVINGS)}
    assert rows == {key.field for key in KEYS.values() if key.optional} | {
        "bias_fraction", "multiplier_bits"}
    for arch in (Arch(rows=2, columns=2), Arch(rows=2, columns=2, accumulator=20)):
        key, field, _ = wide_enough(arch, 30)
        assert KEYS[field].path == key


@pytest.mark.parametrize("form, reads, low, high, bits, halves", [
    ("int8", "int8", -9, 7, 0, False), ("int8", "int8", -8, 7, 4, False),
    ("int8", "int4", -8, 7, 4, True), ("int8", "int4", -8, 8, 0, False),
    ("int8", "int4", -2, 1, 2, True), ("int8", "uint4", 0, 1, 2, False),
    ("int4", "int4", -2, 1, 2, False), ("int4", "int2", -2, 1, 2, True),
    ("int6", "int3", -4, 3, 3, False), ("e3m2", "e3m2", 0, 0, 0, False)])
def test_what_few_bits_would_save(form, reads, low, high, bits, halves):
    """Widths that hold all weights, and halves where activations fit them, too."""
    arch = Arch(rows=2, columns=2, activation=parse(form), weight=parse(form))
    images = np.full((2, 2, 1, 1), low)
    images[0, 0] = high
    conv = Conv("conv", "in", "out", Weights(images, arch.weight), input_shape=(2, 3, 3),
                requantization=PLAIN)
    tensors = {"in": Tensor("in", (2, 3, 3), parse(reads)),
               "out": Tensor("out", (2, 3, 3), arch.activation)}
    graph = Graph("net", [tensors["in"]], tensors, [conv], ["out"])
    rows = {need.field: need for need in SAVINGS}
    assert rows["weight_widths"].wanted(graph, arch) == ((bits,) if bits else ())
    assert rows["packed_halves"].wanted(graph, arch) is halves


def test_wide_enough_accumulators_hold_the_bits_and_smaller_ones_do_not():
    arch = Arch(rows=2, columns=2)
    _, field, value = wide_enough(arch, 30)
    assert replace(arch, **{field: value}).accumulator_bits == 30
    assert replace(arch, **{field: value - 1}).accumulator_bits < 30
    assert wide_enough(replace(arch, accumulator=20), 30)[1:] == ("accumulator", 30)
    # More than the largest largest_k gives.
    assert wide_enough(arch, 60)[1:] == ("accumulator", 60)


def test_units_that_new_formats_rule_out_are_left_out():
    binary = Tensor("in", (2, 3, 3), Bipolar(1))
    conv = Conv("conv", "in", "out", **BASE | {"weights": SIGNS})
    graph = Graph("net", [binary], {"in": binary, "out": replace(binary, name="out")}, [conv],
                  ["out"])
    arch = Arch(rows=2, columns=2, activation="e3m2", weight="e3m2", operand_depth=64,
                table_depth=64, leaky=True, depthwise=True)
    found = formats_needed(graph, arch)
    assert found.changes == {
        "array.activation": "bipolar1", "array.weight": "bipolar1", "buffers.operands": 0,
        "buffers.tables": 0, "post.leaky": False, "array.depthwise": False}
    assert all(getattr(found.chip, field) == value for field, value in WITHOUT.items())

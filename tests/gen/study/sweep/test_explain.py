"""What an explanation says of each layer, and of one more unit of each resource."""

from dataclasses import replace

import numpy as np
from systolith.gen.compile.compile import compile_graph
from systolith.gen.measure.estimate import estimate
from systolith.gen.report.profile import profile
from systolith.gen.study.sweep.explain import (
    Change,
    Explanation,
    Resource,
    explain,
    resources_of,
)
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.graph import Graph, Tensor

from ....layers import convolution

ARCH = Arch(rows=4, columns=4, post_lanes=2)


def graph():
    """3 channels of 5 x 6 pixels, from which 5 are made."""
    conv = convolution("conv", "in", "out", np.ones((5, 3, 1, 1), int), Int(8),
                       input_shape=(3, 5, 6))
    tensors = {name: Tensor(name, shape, Int(8)) for name, shape in (
        ("in", (3, 5, 6)), ("out", (5, 5, 6)))}
    return Graph("small", [tensors["in"]], tensors, [conv], ["out"])


def test_how_well_a_layer_fills_the_array():
    program = compile_graph(graph(), ARCH)
    timing = cycles(program)
    none = Change({"rows": 8}, None, "a reason")
    text = Explanation(program, timing, profile(program, timing), [
        Resource(none, none)], interval=timing.cycles).text()
    line = next(line for line in text.splitlines() if line.startswith("| conv"))
    # 3 of 4 rows, 5 of 8 columns
    assert line.replace("|", " ").split()[-4:] == ["75", "%", "62", "%"]
    assert text.count("array.rows = 8: a reason") == 1


def named(arch):
    """{fields: (one more, twice)}"""
    return {tuple(one): (tuple(one.values()), tuple(twice.values()))
            for one, twice in resources_of(arch)}


def test_one_more_is_the_next_number_that_the_chip_can_have():
    assert named(ARCH) == {
        ("rows",): ((6,), (8,)),                    # two post lanes divide rows and columns
        ("columns",): ((6,), (8,)), ("rows", "columns"): ((6, 6), (8, 8)),
        ("lanes",): ((2,), (2,)), ("post_lanes",): ((4,), (4,)), ("cores",): ((2,), (2,)),
        ("queue_depth",): ((5,), (8,)), ("bus_bits",): ((128,), (128,)),
        ("burst_beats",): ((128,), (128,)), ("activation_depth",): ((4608,), (8192,)),
        ("weight_depth",): ((1536,), (2048,)), ("parameter_depth",): ((512,), (512,)),
        ("accumulator_depth",): ((1024,), (1024,))}


def test_rows_of_one_post_lane_come_one_by_one():
    arch = replace(ARCH, post_lanes=1, operand_depth=700, table_depth=256)
    found = named(arch)
    assert found["rows",][0] == found["columns",][0] == (5,)
    assert found["operand_depth",] == ((1024,), (1400,))
    assert found["table_depth",] == ((512,), (512,))


def test_what_is_at_its_end_has_no_more():
    found = named(replace(ARCH, bus_bits=512, burst_beats=256))
    assert ("bus_bits",) not in found and ("burst_beats",) not in found
    assert ("bus_bits",) not in named(replace(ARCH, bus_bits=128, board="ulx3s-85f"))


def test_cycles_are_those_of_the_chip_that_has_one_more():
    found = explain(graph(), ARCH, "ecp5")
    by = {tuple(item.one.keys): item for item in found.resources}
    more = replace(ARCH, columns=6)
    assert by["columns",].one.cycles == cycles(compile_graph(graph(), more)).cycles
    assert by["columns",].one.lut == (estimate(more).total.lut - estimate(ARCH).total.lut) > 0
    assert by["cores",].one.cycles < found.interval == found.timing.cycles
    assert [item.best for item in found.resources] == sorted(
        item.best for item in found.resources)
    line = next(line for line in found.text().splitlines() if line.startswith("| array.columns "))
    assert line.replace("|", " ").split()[1:3] == ["4", "6"]


def test_without_a_target_nothing_is_said_of_luts():
    found = explain(graph(), ARCH)
    assert "LUT:" not in found.text() and all(item.one.lut is None for item in found.resources)


def test_a_chip_that_there_is_not_says_why():
    """Arrays that feed depthwise layers are square."""
    found = explain(graph(), replace(ARCH, depthwise=True))
    rows = next(item for item in found.resources if tuple(item.one.keys) == ("rows",))
    assert rows.one.cycles is None and "array.rows = 5: " in found.text()
    both = next(item for item in found.resources if len(item.one.keys) == 2)
    assert both.one.keys == {"rows": 6, "columns": 6} and both.one.cycles


def test_options_are_those_of_which_some_layer_has_use():
    """A kernel of one pixel has no taps that could lie side by side."""
    names = [name for item in explain(graph(), ARCH).options for name in item.keys]
    assert "side_taps" not in names and "packed_signs" not in names

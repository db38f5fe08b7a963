"""The studies of docs/explanation/studies.md in a shorter form: a few points of each space, by the
models. SqueezeNet's is in `tests/test_bench.py`."""

from dataclasses import replace
from pathlib import Path

import pytest
from systolith.gen.study.sweep.space_file import read_space

SWEEPS = Path(__file__).parents[2] / "examples" / "sweep"


def points(name):
    """{(activation, weight, rows, columns, lanes): the first such point} of a space."""
    found = {}
    for point in read_space(SWEEPS / name):
        arch = point.arch
        assert arch is not None, point.problem
        key = str(arch.activation), str(arch.weight), arch.rows, arch.columns, arch.lanes
        found.setdefault(key, point)
    return found


def cycles(point, network):
    return point.cycles[network].measure()["cycles"]


def test_formats_take_the_same_cycles_and_short_ones_are_less_accurate():
    space = points("format-study.toml")
    assert {key[:2] for key in space} >= {
        ("int16", "int16"), ("int8", "int8"), ("int8", "int4"), ("int6", "int6"), ("int4", "int4"),
        ("e4m3", "e4m3"), ("e3m2", "e3m2"), ("e2m1", "e2m1"), ("int8", "e3m0"), ("int8", "e3m0x2")}
    counted, right = {}, {}
    for form in ("int8", "e2m1"):
        point = space[form, form, 8, 8, 1]
        assert {net.data.name for net in point.networks} == {"digits-test.npz"}
        task = point.accuracy["digits-cnn-float"]
        counted[form] = cycles(point, "digits-cnn-float")
        right[form] = replace(task, net=replace(task.net, images=100)).measure()["accuracy"]
    assert counted["e2m1"] == pytest.approx(counted["int8"], rel=0.02)
    assert 0.96 < right["e2m1"] <= right["int8"]
    # the residual network needs the memory of operands, which these chips have
    assert cycles(space["int8", "int8", 8, 8, 1], "digits-resnet-float") > 4 * counted["int8"]


def test_binary_elements_take_fewer_cycles_than_int8_of_as_many_luts():
    space = points("binary-study.toml")
    binary = cycles(space["bipolar1", "bipolar1", 4, 16, 16], "digits-mlp-bnn")
    integers = cycles(space["int8", "int8", 4, 4, 1], "digits-mlp-bnn")
    assert integers > 7 * binary


def test_larger_arrays_are_faster_up_to_the_channels_of_the_layers():
    space = points("array-shapes.toml")
    found = {shape: cycles(space["int8", "int8", *shape], "digits-cnn-int8")
             for shape in ((4, 4, 1), (8, 8, 1), (16, 32, 1), (64, 64, 1), (4, 16, 2))}
    assert found[4, 4, 1] > 2.5 * found[8, 8, 1] > 3 * found[16, 32, 1] / 2
    assert found[64, 64, 1] > found[16, 32, 1]
    assert found[4, 16, 2] < found[8, 8, 1]

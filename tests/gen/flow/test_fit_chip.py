"""Chips that are chosen for a network: it maps on them, and they have no more than it needs."""

import re
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli.command import OK, WRONG
from systolith.gen.cli.main import main
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.needs import WITHOUT, needed
from systolith.gen.flow.build import build
from systolith.gen.flow.fit_chip import fit, graph_of
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.sim.machine.cycles import cycles

from ...float_networks import mobile, residual, squeeze_excite
from ...onnx_networks import Network
from ..compile.test_halves import model as halves


def dense(inputs, outputs, bits=8):
    """A quantized dense layer."""
    rng = np.random.default_rng(0)
    net = Network(rng, [inputs])
    x = net.quant("x", 0.05, bits=bits)
    weight = net.quant(rng.normal(size=(inputs, outputs)).astype(np.float32), 0.1, bits=bits)
    return net.model(net.quant(net.node("MatMul", x, weight), 0.3, bits=bits))


@pytest.mark.parametrize("make", [residual, mobile, squeeze_excite])
def test_network_maps_on_its_chip(make):
    graph = graph_of(make(np.random.default_rng(0))[1])
    found = fit(graph, area=False)
    arch = found.arch
    assert cycles(found.program).cycles == found.cycles
    assert (arch.operand_depth > 0) == any(layer.operand for layer in graph.layers)
    assert (arch.table_depth > 0) == any(layer.table is not None for layer in graph.layers)
    assert arch.leaky == any(layer.leaky for layer in graph.layers)
    # Half of any buffer costs cycles, or the network does not map.
    for key in ("weight_depth", "activation_depth", "accumulator_depth"):
        smaller = replace(arch, **{key: getattr(arch, key) // 2})
        try:
            program = compile_graph(graph, smaller)
        except UserError:
            continue
        assert cycles(program).cycles > found.cycles or getattr(arch, key) < 128
    reasons = {item.key: item.reason for item in found.choices}
    for need, _, layers in needed(graph, replace(arch, **WITHOUT)):
        plural = "s" * (len(layers) > 1)
        assert reasons[need.key].startswith(f"{need.what} ({len(layers)} layer{plural})")
    keys = set(reasons)
    assert {"array.activation", "array.weight", "buffers.weights", "array.largest_k"} <= keys


def test_few_bits_are_made_use_of_where_they_pay():
    """Of activations and weights; of weights alone; of neither."""
    fixed = {"rows": 8, "columns": 8, "bus_bits": 32, "activation_depth": 1024,
             "accumulator_depth": 64, "parameter_depth": 64}
    both, narrow, none = (
        fit(load(halves(16, most, form, size=size)[0]), fixed=fixed, area=False)
        for most, form, size in ((8, ml_dtypes.int4, (6, 5)), (8, np.int8, (2, 2)),
                                 (100, np.int8, (2, 2))))
    assert [item.arch.packed_halves for item in (both, narrow, none)] == [True, False, False]
    assert [item.arch.weight_widths for item in (both, narrow, none)] == [(), (4,), ()]
    assert narrow.cycles < 0.8 * none.cycles
    reasons = {item.key: item.reason for item in (*both.choices, *narrow.choices)}
    assert reasons["array.packed_halves"].startswith(
        "layers of activations and weights of half the bits (2 layers); without it ")
    assert reasons["buffers.weight_widths"].startswith("weights of few bits (2 layers); ")


def test_asymmetric_weights_of_eight_bits_do_not_widen_the_array():
    rng = np.random.default_rng(1)
    net = Network(rng, [16])
    x = net.quant("x", 0.05)
    weight = net.quant(np.float32(rng.uniform(-1, 0, (16, 8))), 0.004, zero=255, signed=0)
    found = fit(graph_of(net.model(net.quant(net.node("MatMul", x, weight), 0.3))), area=False)
    assert (str(found.arch.activation), str(found.arch.weight)) == ("int8", "int8")
    assert "int9" in next(item.reason for item in found.choices if item.key == "array.weight")


def test_fixed_fields_stay():
    forms = {"activation": "int6", "weight": "int5"}
    graph = graph_of(residual(np.random.default_rng(0))[1], forms)
    found = fit(graph, fixed={"rows": 5, "columns": 7, "weight_depth": 4096, "activation": "int6"},
                area=False)
    assert (found.arch.rows, found.arch.columns, found.arch.weight_depth) == (5, 7, 4096)
    assert (str(found.arch.activation), str(found.arch.weight)) == ("int6", "int5")
    assert not {"array.rows", "buffers.weights", "array.activation"} & {
        item.key for item in found.choices}


def test_board_too_small_for_the_program():
    with pytest.raises(UserError, match=r"the ulx3s-85f has 131,072; choose a smaller network"):
        fit(graph_of(dense(1200, 200)), board="ulx3s-85f", area=False)


@pytest.mark.slow
def test_units_are_measured():
    graph = graph_of(residual(np.random.default_rng(0))[1])
    found = fit(graph, fixed={"rows": 2, "columns": 2, "post_lanes": 1})
    cost = {item.key: item.cost for item in found.choices}
    lut, *_ = re.match(r"([\d,]+) LUT, ([\d,]+) FF", cost["buffers.operands"]).groups()
    assert 100 < int(lut.replace(",", "")) < 5000
    assert any(note.startswith("whole core on ecp5: ") for note in found.notes)


def test_command_writes_a_chip_that_builds(tmp_path, capsys):
    model, chip = tmp_path / "net.onnx", tmp_path / "chip.toml"
    onnx.save(dense(12, 5), model)
    arguments = ["init", "--for", str(model), "--set", "array.rows=2", "array.columns=4",
                 "--no-area", "-o", str(chip)]
    assert main(arguments) == OK
    shown = capsys.readouterr().out
    assert re.search(r"array.weight +\| \"int8\"", shown) and "kbit of memory" in shown
    assert f"wrote {chip}" in shown
    assert "# buffers.weights = " in chip.read_text()
    made = build(model, load_chip(chip), tmp_path / "build", area=False)
    assert (made.arch.rows, made.arch.columns) == (2, 4)
    assert main(arguments) == WRONG                 # the file exists
    assert main(["init", "--board", "ulx3s-85f"]) == WRONG
    assert main(["init", "--for", str(model), "--preset", "ulx3s-8x8"]) == WRONG


def test_refusals_name_the_command(tmp_path, capsys):
    model = tmp_path / "net.onnx"
    onnx.save(dense(12, 5), model)
    arguments = [str(model), "--chip", "ulx3s-8x8-e3m2"]
    assert main(["build", *arguments, "-o", str(tmp_path / "build")]) == WRONG
    assert f"systolith init --for {model} -o chip.toml" in capsys.readouterr().err
    assert main(["check", *arguments]) == WRONG
    assert f"systolith init --for {model} -o chip.toml" in capsys.readouterr().out

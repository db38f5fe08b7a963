"""`check` says that a network maps exactly where `build` goes through."""

from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip, preset_names
from systolith.gen.flow import build as build_module
from systolith.gen.flow.build import build
from systolith.gen.flow.check import check
from systolith.gen.flow.compile import compile_network
from systolith.gen.flow.simulate import simulate
from systolith.gen.kit.errors import UserError
from systolith.hw.board.boards import BOARDS
from systolith.hw.formats import Bipolar, Float
from systolith.sim.machine.access import check_program

from ...onnx_networks import Network, evaluate, quantized, random_cnn

FOLDER = Path(__file__).parents[2] / "cases"
CHIPS = [("sim-16x16-int8", []), ("ulx3s-8x8", ["buffers.activations=64"]),
         ("tiny-2x4-int4", ["array.largest_k=4", "array.activation=int8"])]


@pytest.fixture
def agrees(monkeypatch, tmp_path):
    """A function of model, chip and batch that asserts it; whether the network maps."""
    monkeypatch.setattr(build_module, "core_verilog", lambda arch: "")
    monkeypatch.setattr(build_module, "board_verilog", lambda arch, core: "")

    def agrees(model, chip, batch=1):
        try:
            found = check(model, chip, batch=batch)
        except UserError:
            with pytest.raises(UserError):
                build(model, chip, tmp_path / "out", batch=batch, area=False)
            return False
        if found.maps:
            build(model, chip, tmp_path / "out", batch=batch, area=False)
            assert found.memories and not found.problems
        else:
            with pytest.raises(UserError):
                build(model, chip, tmp_path / "out", batch=batch, area=False)
            assert found.problems and len(set(found.problems)) == len(found.problems)
        return found.maps
    return agrees


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.onnx")))
def test_cases(name, agrees):
    chip = "ulx3s-bnn" if "binary" in name else "sim-16x16-int8"
    agrees(FOLDER / f"{name}.onnx", load_chip(chip))


@pytest.mark.parametrize("seed", range(6))
def test_random_networks(seed, agrees, tmp_path):
    model, data = random_cnn(np.random.default_rng(seed))
    path = quantized(model, data, tmp_path / "net.onnx")
    for chip, changes in CHIPS:
        agrees(path, load_chip(chip, changes), batch=1 + seed % 3)


def test_what_only_a_build_would_find_is_found(agrees, monkeypatch, tmp_path):
    """A planted fault of the plan is an error of its own in both, not a verdict."""
    def broken(program):
        raise RuntimeError("planted")
    model, data = random_cnn(np.random.default_rng(0))
    path = quantized(model, data, tmp_path / "net.onnx")
    monkeypatch.setattr("systolith.gen.flow.compile.check_memory_plan", broken)
    for command in (lambda: check(path, load_chip("sim-16x16-int8")),
                    lambda: build(path, load_chip("sim-16x16-int8"), tmp_path / "out")):
        with pytest.raises(RuntimeError, match="planted"):
            command()


def _residual(form):
    """A small quantized ResNet: a block with a plain shortcut, one with a convolution; `form` of
    activations and weights: 4-bit integers, or e3m2, or signs."""
    net = Network(np.random.default_rng(0), (3, 8, 8))

    def rounded(x, scale=1 / 4):
        if isinstance(form, Bipolar):
            return net.bipolar_quant(x)
        if isinstance(form, Float):
            return net.float_quant(x, scale)
        return net.quant(x, scale, bits=4)

    def conv(x, inputs, outputs, kernel=3, **attributes):
        weight = net.rng.standard_normal((outputs, inputs, kernel, kernel)) / np.sqrt(9 * inputs)
        return net.node("Conv", x, rounded(np.float32(weight), 1 / 16), pads=[kernel // 2] * 4,
                        **attributes)

    def relu(x):
        return rounded(x if isinstance(form, Bipolar) else net.node("Relu", x))
    x = relu(conv(rounded("x"), 3, 8))
    x = relu(net.node("Add", rounded(conv(relu(conv(x, 8, 8)), 8, 8)), x))
    y = rounded(conv(relu(conv(x, 8, 12, strides=[2, 2])), 12, 12))
    x = relu(net.node("Add", y, rounded(conv(x, 8, 12, 1, strides=[2, 2]))))
    return net, rounded(net.node("Flatten", net.node("GlobalAveragePool", x)), 1 / 16)


@pytest.mark.parametrize("name", preset_names())
def test_residual_networks_run_on_presets(name, monkeypatch, tmp_path):
    """Out of the box, those of 4-bit integers on chips of int8, too; binary chips have no sums, and
    the smallest of integers no memory for operands."""
    monkeypatch.setattr(build_module, "core_verilog", lambda arch: "")
    monkeypatch.setattr(build_module, "board_verilog", lambda arch, core: "")
    chip = load_chip(name)
    net, result = _residual(chip.activation)
    path, model = tmp_path / "net.onnx", net.model(result)
    path.write_bytes(model.SerializeToString())
    if binary := isinstance(chip.activation, Bipolar):
        with pytest.raises(UserError, match="a binary chip's results are signs; choose a chip w"):
            build(path, chip, tmp_path / "out", area=False)
        chip = load_chip("sim-16x16-int8")              # as the message advises
    elif not chip.operand_depth:
        with pytest.raises(UserError, match="no operand memory; set buffers"):
            build(path, chip, tmp_path / "out", area=False)
        assert name == "icebreaker-int4"                # what has no room for it
        return
    made = build(path, chip, tmp_path / "out", area=False)
    assert sum(layer.operand is not None for layer in made.graph.layers) == 2
    x = np.float32(net.rng.standard_normal((2, 3, 8, 8)))
    run = simulate(made, x, "isa", limit=1)
    assert run.comparison.bits == 0 and run.comparison.elements > 1000
    found = simulate(made, x).outputs
    assert len(np.unique(found)) > 4 or binary
    assert (found == evaluate(model, x)[result]).mean() > 0.9


@pytest.mark.parametrize("chip, network", [
    ("icebreaker-bnn", "digits-mlp-bnn"), ("icebreaker-int4", "digits-small-int4")])
def test_digits_run_in_the_memory_of_an_icebreaker(chip, network):
    arch = load_chip(chip)
    model = Path(__file__).parents[3] / "examples" / "digits" / f"{network}.onnx"
    _, program = compile_network(model, arch)
    check_program(program)
    assert program.window_bytes <= BOARDS[arch.board].memory_bytes == 1 << arch.address_bits


def test_a_program_computes_one_image_unless_told_otherwise():
    chip, net = load_chip("sim-16x16-int8"), Network(np.random.default_rng(0), (2, 5, 5))
    weight = net.quant(np.float32(net.rng.integers(-3, 4, (3, 2, 3, 3)) * 0.1), 0.1)
    model = net.model(net.quant(net.node("Conv", net.quant("x", 0.1), weight), 0.1))
    graph, program = compile_network(model, chip)
    assert program.host.batch == 1
    assert compile_network(graph, chip, 2)[1].host.batch == 2

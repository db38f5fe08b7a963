"""Binary networks of published shapes, small, and trained networks on real digits: golden
model, simulator and core agree, and the reference."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate
from systolith.hw.spec.arch import Arch

from ...onnx_networks import evaluate

sys.path.append(str(Path(__file__).parents[3] / "bench"))
sys.path.append(str(Path(__file__).parents[3] / "examples" / "digits"))
import binary_networks
import evaluate as digits

ROOT = Path(__file__).parents[3]
CHIP = Arch(rows=8, columns=8, packed_signs=True, activation_depth=2048, weight_depth=1024,
            accumulator_depth=256, operand_depth=512, largest_k=4608, structure="lut6")
SMALL = {
    "CNV, W1A1": lambda: binary_networks.cnv(1, 4),
    "CNV, W1A2": lambda: binary_networks.cnv(2, 4),
    "residual": lambda: binary_networks.residual(8, 8, 1),
    "BoolNet, k = 1": lambda: binary_networks.boolnet(1, 16, 6, 1),
    "BoolNet, k = 4": lambda: binary_networks.boolnet(4, 16, 6, 1),
    "LAB": lambda: binary_networks.lab(16, 6, 1),
    "MoBiNet": lambda: binary_networks.mobinet(32, 6, 2, 1),
    "HAR, 9-17-33": lambda: binary_networks.har(32)}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name == "CNV, W1A1" else name for name in SMALL])
def test_published_shapes(name, tmp_path):
    model = SMALL[name]()
    onnx.save(model, tmp_path / "model.onnx")
    shape = [item.dim_value for item in model.graph.input[0].type.tensor_type.shape.dim][1:]
    images = np.float32(np.random.default_rng(1).standard_normal((4, *shape)))
    wanted = evaluate(model, images)[model.graph.output[0].name]
    made = build(tmp_path / "model.onnx", CHIP, tmp_path / "build", area=False)
    for engine, limit in (("isa", 1), ("rtl", 1)):
        assert simulate(made, images, engine, limit=limit).comparison.bits == 0
    found = simulate(made, images).outputs
    # Sums of 8-bit weights, and codes before them of which a tie may go the other way in float64.
    assert (np.abs(found - wanted) < 0.02 * np.abs(wanted).max()).all()


@pytest.mark.parametrize("name", ["residual-bnn", "pokebnn"])
def test_trained_networks_on_real_digits(name, tmp_path):
    path = ROOT / "examples" / "digits" / f"digits-{name}.onnx"
    images, labels = digits.load_test()
    made = build(path, CHIP, tmp_path / "build", area=False)
    assert {item.format.name for item in made.graph.tensors.values() if item.format} == {
        "int8", "bipolar1"}
    found = simulate(made, np.float32(images[:300])).outputs
    wanted = digits.evaluate(onnx.load(path), images[:30])
    np.testing.assert_allclose(found[:30], wanted, atol=1e-4)
    assert (found.argmax(1) == labels[:300]).mean() >= 0.97
    for engine in ("isa", "rtl"):
        run = simulate(made, np.float32(images[:1]), engine)
        assert run.comparison.bits == 0 and (run.outputs == found[:1]).all()

"""The shipped networks on the core: every bit of every layer, and every cycle."""

from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate
from systolith.gen.study.demo import read_digits

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"
IMAGES = 16


@pytest.mark.parametrize("network, chip", [
    ("digits-cnn", "ulx3s-8x8-e3m2"), ("digits-cnn-int8", "ulx3s-8x8"),
    ("digits-mlp-bnn", "ulx3s-bnn"), ("digits-small-int4", "icebreaker-int4")])
def test_rtl_equals_golden_model_and_cycle_model(network, chip, tmp_path):
    made = build(DIGITS / f"{network}.onnx", load_chip(chip), tmp_path / "out", area=False)
    images, _ = read_digits(DIGITS / "digits-test.npz", made.graph.encoders[0].shape)
    golden = simulate(made, images, "golden", limit=IMAGES)
    isa = simulate(made, images, "isa", limit=2)
    rtl = simulate(made, images, "rtl", limit=IMAGES)
    assert rtl.images == IMAGES and rtl.comparison.bits == isa.comparison.bits == 0
    per_image = sum(np.prod(made.graph.tensors[layer.output].shape)
                    for layer in made.graph.layers)
    assert rtl.comparison.elements >= IMAGES * per_image
    assert (rtl.outputs == golden.outputs).all() and (isa.outputs == golden.outputs[:2]).all()
    assert rtl.cycles == rtl.cycles_model

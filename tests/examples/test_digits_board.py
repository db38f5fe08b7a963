"""The shipped networks of digits on the iCEBreaker, simulated from its serial line's pins on."""

from pathlib import Path

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.build import build
from systolith.gen.flow.run import run
from systolith.gen.study.demo import read_digits

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"


@pytest.mark.parametrize("network, chip", [
    ("digits-mlp-bnn", "icebreaker-bnn"), ("digits-small-int4", "icebreaker-int4")])
def test_digits_are_recognized_at_the_pins_of_an_icebreaker(network, chip, tmp_path):
    made = build(DIGITS / f"{network}.onnx", load_chip(chip), tmp_path / "build", area=False)
    images, labels = read_digits(DIGITS / "digits-test.npz", made.graph.encoders[0].shape)
    found = run(made, images[:1], "sim:board", check=True)
    assert found.comparison.bits == 0 and found.comparison.elements == 10
    assert found.outputs.argmax() == labels[0]

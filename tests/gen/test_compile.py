"""`check` says that a network maps exactly where `build` goes through."""

from pathlib import Path

import numpy as np
import pytest
from systolith.gen import build as build_module
from systolith.gen.build import build
from systolith.gen.check import check
from systolith.gen.config import load_chip
from systolith.gen.errors import UserError

from ..onnx_networks import quantized, random_cnn

FOLDER = Path(__file__).parents[1] / "cases"
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
    monkeypatch.setattr("systolith.gen.compile.check_memory_plan", broken)
    for command in (lambda: check(path, load_chip("sim-16x16-int8")),
                    lambda: build(path, load_chip("sim-16x16-int8"), tmp_path / "out")):
        with pytest.raises(RuntimeError, match="planted"):
            command()

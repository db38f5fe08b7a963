"""The demo: its table says what was found, and a difference is not hidden."""

from collections import Counter

import numpy as np
import pytest
from systolith.gen.flow import build as build_module
from systolith.gen.measure.area import Area
from systolith.gen.study import demo as module
from systolith.hw.spec.counts import Counts
from systolith.sim.machine.compare import Comparison, Difference


@pytest.fixture(autouse=True)
def no_yosys(monkeypatch):
    monkeypatch.setattr(build_module, "measure", lambda *a, **b: Area(
        "ecp5", {"board": Counter(LUT4=8364, TRELLIS_FF=20)}))


def test_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                         # network and digits come with the package
    found = module.demo(folder="out", images=2)
    assert found.mismatches == 0
    rows = [line.split("|")[1:3] for line in found.table.splitlines()[2:]]
    rows = {name.strip(): text.strip() for name, text in rows}
    accuracy = float(rows["accuracy on held-out digits"].split()[0])
    assert accuracy >= 97 and "of 1,000" in rows["accuracy on held-out digits"]
    assert rows["RTL against golden model"].endswith("mismatching bits: 0")
    assert "8,364 LUT (10 %)" in rows["area on the LFE5U-85F"]
    assert "at 120 MHz (PLL of the ulx3s-85f)" in rows["throughput"]
    assert all(path.is_file() for path in found.files)
    inputs = np.load(tmp_path / "out" / "digits-inputs.npy")
    outputs = np.load(tmp_path / "out" / "digits-outputs.npy")
    assert inputs.shape == (1000, 1, 28, 28) and outputs.shape == (1000, 10)


def test_a_difference_is_shown(tmp_path, monkeypatch):
    real = module.simulate

    def wrong(build, inputs, engine, **options):
        found = real(build, inputs, "golden" if engine == "rtl" else engine, **options)
        if engine == "rtl":
            found.comparison = Comparison(10, 3, Difference(1, "conv2", "t", (4, 5, 6), 7, 8))
            found.run = Counts(cycles=9, compute_first=1, compute_last=9, activity=None)
            found.clocks_per_second = 1.0
        return found
    monkeypatch.setattr(module, "simulate", wrong)
    found = module.demo(folder=tmp_path / "out", images=1)
    assert found.mismatches == 3
    assert "mismatching bits: 3" in found.table
    assert "layer 1 (conv2), tensor 't', channel 4, row 5, column 6: must be 7, is 8" in found.table


def test_files_are_what_the_commands_take(tmp_path):
    files = module.write_example(tmp_path / "digits")
    assert [path.name for path in files] == [
        "calibration.npy", "digits-cnn-float.onnx", "digits-cnn-int8.onnx", "digits-cnn.onnx",
        "digits-mlp-bnn.onnx", "digits-pokebnn.onnx", "digits-residual-bnn.onnx",
        "digits-resnet-float.onnx", "digits-small-float.onnx", "digits-small-int4.onnx",
        "digits.npz", "labels.npy",
        "manifest.json", "x.npy"]
    images = np.load(tmp_path / "digits" / "x.npy")
    assert images.shape == (1000, 1, 28, 28) and images.dtype == np.float32
    assert 0 == images.min() < images.max() == 1
    assert np.load(tmp_path / "digits" / "calibration.npy").shape == (100, 1, 28, 28)
    assert Counter(np.load(tmp_path / "digits" / "labels.npy").tolist()) == {n: 100 for n in
                                                                            range(10)}
    again = module.write_example(tmp_path / "digits")
    assert again == files

"""The host in C: compiled, it gives what the golden model gives, bit for bit, on a core in memory
(`test_run.py` has it on a board)."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow import build as build_module
from systolith.gen.flow.build import PROGRAM, build
from systolith.gen.flow.host_c import host_c
from systolith.gen.kit.errors import UserError

from ...onnx_networks import Network
from ...sim.core_in_memory import CoreInMemory

ROOT = Path(__file__).parents[3]
DIGITS, CASES = ROOT / "examples" / "digits", ROOT / "tests" / "cases"


def classifier(rng):
    """Channels with means and deviations of their own, pixels with channels last."""
    net = Network(rng, (6, 7, 3))
    x = net.node("Transpose", "x", perm=[0, 3, 1, 2])
    mean, deviation = (np.float32(item).reshape(1, 3, 1, 1) for item in (
        [0.4, 0.5, 0.6], [0.25, -0.5, 0.125]))
    x = net.node("Div", net.node("Sub", x, mean), deviation)
    x = net.quant(x, 1 / 32, 3)
    weight = net.quant(net.constant(np.float32(rng.normal(0, 0.3, (5, 3, 3, 3)))), 1 / 64)
    return net.model(net.quant(net.node("Conv", x, weight), 0.25))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Builds a network without Verilog; gives the build."""
    def make(model, chip="sim-16x16-int8", keys=(), batch=1):
        if not isinstance(model, (str, Path)):
            onnx.save(model, tmp_path / "model.onnx")
            model = tmp_path / "model.onnx"
        with monkeypatch.context() as patch:
            patch.setattr(build_module, "core_verilog", lambda arch: "")
            return build(model, load_chip(chip, list(keys)), tmp_path / "out", area=False,
                         batch=batch)
    return make


def compiled(made, folder):
    source, host = folder / "host.c", folder / "host"
    source.write_text(host_c(made))
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-o", host,
                    source, "-lm"], check=True)
    return host


def expected(made, images):
    codes = made.graph.run(made.graph.encode_inputs(images), made.arch)
    return np.asarray(made.graph.decode_outputs(
        {name: codes[name] for name in made.graph.outputs}, images))


def ran(host, device, program, images, folder):
    np.float32(images).tofile(folder / "x.f32")
    done = subprocess.run([host, device, program, folder / "x.f32", folder / "y.f32"],
                          capture_output=True, text=True, timeout=60)
    return done, np.fromfile(folder / "y.f32", np.float32) if done.returncode == 0 else None


NETWORKS = {
    "floats": (DIGITS / "digits-cnn.onnx", "ulx3s-8x8-e3m2", (), 1),
    "signs, raw sums, a batch": (DIGITS / "digits-mlp-bnn.onnx", "tiny-2x4-bnn", (), 2),
    "taps of a first layer": (DIGITS / "digits-cnn-int8.onnx", "ulx3s-8x8", (), 2),
    "windows of a first layer": (DIGITS / "digits-cnn-int8.onnx", "sim-16x16-int8",
                                 ("bus.windows=true",), 2),
    "a constant": (CASES / "add_broadcast_spatial.onnx", "sim-16x16-int8", (), 1),
    "pixels moved": (CASES / "focus_slices.onnx", "sim-16x16-int8", (), 1),
    "two cores": (CASES / "focus_slices.onnx", "sim-16x16-int8", ("cores=2",), 2),
    "bit planes": (CASES / "w1a2_two_layers.onnx", "tiny-2x4-bnn", ("array.bit_planes=true",), 1),
    "planes in rows": (CASES / "w1a2_two_layers.onnx", "tiny-2x4-bnn", (
        "array.bit_planes=true", "array.plane_rows=true", "array.rows=8"), 1),
    "channels of their own": (classifier, "sim-16x16-int8", (), 1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_the_golden_model_s(name, made, tmp_path):
    model, *chip = NETWORKS[name]
    rng = np.random.default_rng(3)
    found = made(model(rng) if callable(model) else model, *chip)
    images = np.float32(rng.normal(0, 1, (chip[-1], *found.graph.encoders[0].shape)))
    with CoreInMemory(tmp_path / "memory", found.program) as core:
        done, results = ran(compiled(found, tmp_path), core.device, found.folder / PROGRAM, images,
                            tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(results, expected(found, images).ravel())
    assert len(np.unique(results)) > 1


def test_what_does_not_belong_together_is_refused(made, tmp_path):
    found = made(DIGITS / "digits-cnn-int8.onnx", "ulx3s-8x8")
    host = compiled(found, tmp_path)
    images = np.zeros((1, *found.graph.encoders[0].shape), np.float32)
    program = tmp_path / PROGRAM
    program.write_bytes((found.folder / PROGRAM).read_bytes())
    with CoreInMemory(tmp_path / "memory", found.program) as core:
        def message(device=core.device, program=program, images=images):
            done, _ = ran(host, device, program, images, tmp_path)
            assert done.returncode == 1
            return done.stderr
        damaged = tmp_path / "damaged.bin"
        damaged.write_bytes(program.read_bytes()[:-1] + b"\0")
        assert "not the program that this file was written for" in message(program=damaged)
        assert "No such file" in message(program=tmp_path / "none.bin")
        assert "must hold whole images of 784 float32" in message(images=np.zeros(100))
        assert "must be finite (element 5" in message(
            images=np.where(np.arange(784) == 5, np.nan, 0))
        assert "mem:FILE@REGISTERS,WINDOW,BYTES" in message(device="mem:/dev/mem")
    with CoreInMemory(tmp_path / "memory", made(
            DIGITS / "digits-mlp-bnn.onnx", "tiny-2x4-bnn").program) as core:
        assert "another chip than the program" in message(device=core.device)


def test_what_the_host_computes_is_refused(made):
    found = made(CASES / "yolo_dfl.onnx")
    with pytest.raises(UserError, match=r"computes operators after the chip.*systolith run"):
        host_c(found)

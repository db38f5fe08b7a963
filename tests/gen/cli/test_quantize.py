"""`systolith quantize`, `build --calibration` and `simulate --compare` from the command line."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from systolith.gen.flow.build import open_build
from systolith.gen.importer.reader import load
from systolith.gen.report.pages import content
from systolith.gen.study.demo import read_digits

from .test_main import refused, run

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"
FLOAT = DIGITS / "digits-cnn-float.onnx"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Calibration digits, the first held-out ones, and their labels."""
    folder = tmp_path_factory.mktemp("data")
    with np.load(DIGITS / "digits-test.npz") as file:
        np.save(folder / "cal.npy", file["calibration"][:, None] / np.float32(255))
    images, labels = read_digits(DIGITS / "digits-test.npz", (1, 28, 28))
    np.save(folder / "x.npy", images[:200])
    return folder / "cal.npy", folder / "x.npy", labels[:200]


def test_quantize_then_build_then_compare(capsys, tmp_path, data):
    calibration, x, labels = data
    model = tmp_path / "net.onnx"
    code, out, _ = run(capsys, "quantize", FLOAT, "--calibration", calibration, "--chip",
                       "ulx3s-8x8", "--weight", "int6", "--correct-bias", "-o", model)
    assert code == 0 and "Conv+Relu" in out and "relative error" in out
    beside = [tmp_path / f"net.{end}" for end in ("float.onnx", "csv", "json")]
    assert [f"wrote {path}" in out for path in (model, *beside)] == [True] * 4
    report = json.loads(beside[2].read_text())
    assert report["recipe"] == {"activation": "int8", "weight": "int6", "range": "mse",
                                "weight_range": None, "percentile": 99.99, "equalize": False,
                                "renormalize": False, "correct_bias": True,
                                "rounding": "nearest", "layers": {}}
    assert [row["layer"] for row in report["layers"]] == ["input", "conv1", "conv2", "conv3",
                                                          "dense"]
    assert len(beside[1].read_text().splitlines()) == 6
    folder = tmp_path / "out"
    assert run(capsys, "build", model, "--chip", "ulx3s-8x8", "-o", folder, "--no-area")[0] == 0
    outputs = tmp_path / "y.npy"
    code, out, _ = run(capsys, "simulate", folder, "--inputs", x, "--outputs", outputs,
                       "--compare")
    assert code == 0 and f"float: {folder / 'float.onnx'} by ONNX Runtime" in out
    assert (np.load(outputs).argmax(1) == labels).mean() > 0.97
    rows = (folder / "compare.csv").read_text().splitlines()
    assert len(rows) == 6 and rows[0].startswith("layer,nodes,tensor,format,")
    assert (folder / "compare.png").stat().st_size > 10000
    _, page = content((folder / "report.html").read_text())
    assert len(page["comparison"]["rows"]) == len(rows) - 1
    code, out, _ = run(capsys, "simulate", folder, "--inputs", x, "--limit", 5, "--compare",
                       "--float", FLOAT)
    assert code == 0 and "for 5 of 5 images (100.0 %)" in out and str(FLOAT) in out


def test_build_quantizes_for_its_chip(capsys, tmp_path, data):
    folder = tmp_path / "out"
    code, out, _ = run(capsys, "build", FLOAT, "--calibration", data[0], "--range", "percentile",
                       "--percentile", 99.9, "--equalize", "--chip", "ulx3s-8x8-e3m2", "-o", folder,
                       "--no-area")
    assert code == 0 and "with all before dB" in out
    build = open_build(folder)
    assert {str(layer.weights.format) for layer in build.graph.layers} == {"e3m2"}
    recipe = json.loads((folder / "quantization.json").read_text())["recipe"]
    assert (recipe["range"], recipe["percentile"], recipe["equalize"]) == ("percentile", 99.9, True)
    assert onnx.load(folder / "float.onnx").graph.output[0].name == "logits"


def test_layers_of_their_own(capsys, tmp_path, data):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('weight = "int6"\nrange = "min-max"\n[layers."conv*"]\nweight = "int4"\n')
    code, _, _ = run(capsys, "quantize", FLOAT, "--calibration", data[0], "--recipe", recipe,
                     "--range", "mse", "--layer", "conv2", "weight=int3", "rounding=feedback",
                     "--layer", "conv3", "weight=e2m1", "correct-bias=false",
                     "-o", tmp_path / "net.onnx")
    report = json.loads((tmp_path / "net.json").read_text())
    assert code == 0 and report["recipe"]["range"] == "mse"
    assert report["recipe"]["layers"] == {
        "conv*": {"weight": "int4"}, "conv2": {"weight": "int3", "rounding": "feedback"},
        "conv3": {"weight": "e2m1", "correct_bias": False}}
    assert [row["weight"] for row in report["layers"]] == [None, "int4", "int3", "e2m1", "int6"]


def test_what_is_refused(capsys, tmp_path, data):
    calibration = data[0]
    out = ["-o", tmp_path / "out.onnx"]
    assert "--set goes with --chip only" in refused(
        capsys, "quantize", FLOAT, "--calibration", calibration, "--set", "array.rows=3", *out)
    assert "--percentile goes with --range percentile only" in refused(
        capsys, "quantize", FLOAT, "--calibration", calibration, "--percentile", 99, *out)
    assert "'int99x' is no number format" in refused(
        capsys, "quantize", FLOAT, "--calibration", calibration, "--weight", "int99x", *out)
    assert "nowhere.npy" in refused(
        capsys, "quantize", FLOAT, "--calibration", tmp_path / "nowhere.npy", *out)
    (tmp_path / "empty.npy").write_bytes(b"")
    assert "is no numpy file" in refused(
        capsys, "quantize", FLOAT, "--calibration", tmp_path / "empty.npy", *out)
    assert "is quantized already" in refused(
        capsys, "quantize", DIGITS / "digits-cnn.onnx", "--calibration", calibration, *out)
    assert "give it calibration data (--calibration x.npy)" in refused(
        capsys, "build", FLOAT, "--chip", "ulx3s-8x8", "-o", tmp_path / "b")
    assert "--equalize goes with --calibration only" in refused(
        capsys, "build", FLOAT, "--chip", "ulx3s-8x8", "--equalize", "-o", tmp_path / "b")
    assert "--layer goes with --calibration only" in refused(
        capsys, "build", FLOAT, "--chip", "ulx3s-8x8", "--layer", "conv1", "weight=int4", "-o",
        tmp_path / "b")
    assert "'weight:int4' has no =" in refused(
        capsys, "quantize", FLOAT, "--calibration", calibration, "--layer", "conv1",
        "weight:int4", *out)
    assert "layer 'conv9': the network has no such layer to quantize; the nearest name is" in (
        refused(capsys, "quantize", FLOAT, "--calibration", calibration, "--layer", "conv9",
                "weight=int4", *out))
    assert "cannot be quantized to bipolar1" in refused(
        capsys, "build", FLOAT, "--calibration", calibration, "--chip", "ulx3s-bnn", "-o",
        tmp_path / "b")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty.npy"]


def test_a_written_model_reads_back(tmp_path, capsys, data):
    path = tmp_path / "e4m3.onnx"
    assert run(capsys, "quantize", FLOAT, "--calibration", data[0], "--activation", "e4m3fn",
               "--weight", "e4m3fn", "--range", "min-max", "-o", path)[0] == 0
    assert {str(layer.weights.format) for layer in load(path).layers} == {"e4m3fn"}


def test_a_part_of_a_network(capsys, tmp_path, data):
    calibration, x, _ = data
    middle = [node.output[0] for node in onnx.load(FLOAT).graph.node if node.op_type == "Relu"][1]
    model, folder = tmp_path / "net.onnx", tmp_path / "out"
    sizes = "--shape", "N,1,28,28"
    assert run(capsys, "quantize", FLOAT, "--calibration", calibration, *sizes, "--outputs",
               middle, "-o", model)[0] == 0
    code, out, _ = run(capsys, "check", model, *sizes, "--chip", "ulx3s-8x8")
    assert code == 0 and ": 2 layers" in out
    code, out, _ = run(capsys, "build", FLOAT, "--calibration", calibration, *sizes, "--outputs",
                       middle, "--chip", "ulx3s-8x8", "-o", folder, "--no-area")
    assert code == 0 and len(open_build(folder).graph.layers) == 2
    code, out, _ = run(capsys, "simulate", folder, "--inputs", x, "--limit", 3, "--compare",
                       "--engine", "isa")
    assert code == 0 and "0 bits differ" in out
    for words, arguments in ((["'nix'", "tensor"], ["--outputs", "nix"]),
                             (["no input 'nix'"], ["--shape", "nix=1,1,28,28"]),
                             (["twice"], [*sizes, *sizes])):
        message = refused(capsys, "build", model, *arguments, "--chip", "ulx3s-8x8", "-o",
                          tmp_path / "none")
        assert all(word in message for word in words) and not (tmp_path / "none").exists()

"""What `systolith check` says about every node, every layer and the chip."""

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli.main import main
from systolith.gen.flow.build import build
from systolith.gen.flow.check import check
from systolith.gen.flow.check_text import text_of
from systolith.gen.importer.sizes import Part
from systolith.gen.kit.errors import UserError

from ...onnx_exact import bias, qdq, weights
from ...onnx_networks import Network
from ..compile.test_halves import model as halves

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"


def test_every_node_has_a_fate():
    net = Network(np.random.default_rng(1), (4, 6, 6), opset=21)
    x = qdq(net, net.node("Mul", "x", np.float32(2), name="scale"), 1 / 16, 5)
    a = net.node("Conv", x, weights(net, 3, 4, 3, 3), bias(net, 3), pads=[1] * 4, name="a")
    a = qdq(net, net.node("Relu", a, name="relu"), 8, 3)
    b = net.node("Slice", x, np.array([1]), np.array([3]), np.array([1]), name="slice")
    b = qdq(net, net.node("Conv", b, weights(net, 5, 2, 1, 1), name="b"), 8, 3)
    y = qdq(net, net.node("Concat", a, b, axis=1, name="concat"), 8, 3)
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    y = net.node("GlobalAveragePool", y, name="mean")
    y = qdq(net, net.node("Flatten", y, name="flat"), 4, 3)
    model = net.model(net.node("Mul", y, np.float32(3), name="rescale"))
    rows = check(model).nodes
    assert [row[0] for row in rows] == [node.name for node in model.graph.node]
    became = {name: text for name, _, text in rows}
    assert became["scale"] == "host, before the input"
    assert became["a"] == became["relu"]
    assert became["a"].startswith("layer a") and "convolution 3 x 3, 4 -> 3, max pooling 2 x 2" in (
        became["a"])
    assert "convolution 1 x 1, 2 -> 5" in became["slice"] and "some channels" in became["slice"]
    assert became["concat"].count("; ") == 1 and "channels 3 on of" in became["concat"]
    assert "depthwise 1 x 1, 8 -> 8, sums of 3 x 3" in became["mean"]
    assert became["flat"] == became["mean"]
    assert became["rescale"] == "host, after the output"
    assert became["quantizelinear1"] == "tensor quantizelinear1_out: int8, 4 x 6 x 6"
    assert all(text != "nothing to compute" for text in became.values())


def test_the_command(capsys):
    assert main(["check", str(DIGITS / "digits-cnn-int8.onnx")]) == 0
    out = capsys.readouterr().out
    assert all(node.name in out for node in onnx.load(DIGITS / "digits-cnn-int8.onnx").graph.node)
    assert "digits-cnn-int8: 4 layers, 402,976 multiply-accumulates" in out
    assert "| conv2 |               20 |" in out
    assert out.rstrip().endswith("It maps on a chip of these formats.")


@pytest.mark.parametrize("form, key, value, shown, what", [
    (ml_dtypes.int4, "array.packed_halves", True, "true", "cycles"),
    (np.int8, "buffers.weight_widths", [4], "[4]", "bytes")])
def test_options_that_would_pay(form, key, value, shown, what):
    given = ["bus.data_bits=32", "buffers.weights=1024"]
    chip = load_chip("ulx3s-8x8", given)
    found = check(halves(16, 8, form)[0], chip)
    [row] = (row for row in found.savings if row["key"] == key)
    assert row["value"] == value and row[f"{what}_with"] < 0.9 * row[what]
    assert f"It would pay: --set {key}={shown} (" in text_of(found, chip)
    better = check(halves(16, 8, form)[0], load_chip("ulx3s-8x8", [*given, f"{key}={shown}"]))
    assert key not in {item["key"] for item in better.savings}
    for item in better.savings:
        assert (item["cycles"], item["bytes"]) == (row["cycles_with"], row["bytes_with"])
    # Nothing pays where all weights and activations need their bits.
    assert check(halves(16, 100, np.int8)[0], chip).savings == []


def test_the_command_on_a_chip(capsys, tmp_path):
    model, figures = str(DIGITS / "digits-cnn-int8.onnx"), tmp_path / "check.json"
    assert main(["check", model, "--chip", "ulx3s-8x8", "--json", str(figures)]) == 0
    out = capsys.readouterr().out
    assert "| conv2 |               20 |   28 |     8 |" in out
    assert "weight memory: 2,012 of 2,048 words" in out and "It maps on ulx3s-8x8." in out
    found = json.loads(figures.read_text())
    assert found["maps"] and found["layers"][1] == {"name": "conv2", "bits_needed": 20,
                                                    "bits": 28}
    assert main(["check", model, "--chip", "ulx3s-8x8-e3m2"]) == 1
    assert "With --set array.activation=int8 array.weight=int8 it maps." in capsys.readouterr().out


def test_a_float_network(capsys, tmp_path):
    model, data = str(DIGITS / "digits-cnn-float.onnx"), tmp_path / "x.npy"
    assert main(["check", model, "--chip", "ulx3s-8x8-e3m2"]) == 0
    out = capsys.readouterr().out
    assert "e3m2 activations and e3m2 weights, ranges from random numbers" in out
    assert "| conv1_pool | MaxPool  | layer conv1: convolution 3 x 3, 1 -> 8, max pooling" in out
    assert "It maps on ulx3s-8x8-e3m2." in out
    np.save(data, np.random.default_rng(5).random((4, 1, 28, 28), np.float32))
    assert main(["check", model, "--calibration", str(data), "--range", "min-max"]) == 0
    assert f"int8 weights, ranges from {data}." in capsys.readouterr().out
    assert main(["check", model, "--range", "min-max"]) == 1
    assert "--range goes with --calibration only" in capsys.readouterr().err
    model = str(DIGITS / "digits-cnn-int8.onnx")
    assert main(["check", model, "--calibration", str(data)]) == 1
    assert "quantized already" in capsys.readouterr().err


def test_every_problem_of_a_float_network_is_named_at_once(capsys, tmp_path):
    net = Network(np.random.default_rng(6), (4, 6, 6), opset=21)
    weight = np.float32(net.rng.standard_normal((4, 4, 3, 3)))
    x = net.node("Conv", "x", weight, pads=[1] * 4, name="first")
    x = net.node("LpPool", x, kernel_shape=[2, 2], name="odd")
    x = net.node("BatchNormalization", net.node("Conv", x, weight, pads=[1] * 4, name="good"),
                 *np.ones((4, 4), np.float32), name="norm")
    x = net.node("Conv", x, weight, pads=[1] * 4, name="good2")
    x = net.node("InstanceNormalization", x, *np.ones((2, 4), np.float32), name="strange")
    x = net.node("Conv", x, weight, pads=[1] * 4, name="good3")
    x = net.node("InstanceNormalization", x, *np.ones((2, 4), np.float32), name="the host's")
    found = check(net.model(x, shapes=[(4, 5, 5)]))
    became = {name: text for name, _, text in found.nodes}
    assert not found.maps and len(found.problems) == 2
    assert all(became[name].startswith("refused: ") for name in ("odd", "strange"))
    assert became["good"] == became["good2"] == "understood"


def network(middle):
    net = Network(np.random.default_rng(2), (3, 6, 6), opset=21)
    x = qdq(net, "x", 1 / 16, 5)
    return net, middle(net, x)


def test_every_problem_of_a_model_is_named_at_once():
    def middle(net, x):
        x = net.node("Conv", x, weights(net, 3, 3, 3, 3), pads=[1] * 4, name="good")
        x = qdq(net, net.node("LpPool", qdq(net, x, 1, 0), kernel_shape=[2, 2], name="odd"), 1, 0)
        x = net.node("Clip", x, np.float32(0.3))
        x = net.node("Conv", x, weights(net, 4, 3, 3, 3), name="strange")
        x = net.node("Relu", x, name="behind")
        x = net.node("Conv", qdq(net, x, 1, 0), net.rng.random((2, 4, 1, 1), np.float32),
                     name="float")
        return net.node("Conv", qdq(net, x, 1, 0), weights(net, 90, 2, 3, 3), pads=[1] * 4)
    net, x = network(middle)
    found = check(net.model(x, shapes=[(90, 3, 3)]))
    became = {name: text for name, _, text in found.nodes}
    assert not found.maps and len(found.problems) == 3
    assert became["odd"].startswith("refused: the operator is not supported on the chip, only on")
    assert became["strange"].startswith("refused: reads the result of 'clip9', which is clipped")
    assert "are plain numbers" in became["float"]
    assert became["good"] == became["behind"] == "understood"
    assert all(any(f"node '{name}'" in item for item in found.problems)
               for name in ("odd", "strange", "float"))


def attention(net, x, tokens=6, channels=16, heads=2):
    """A transformer block, quantized everywhere."""
    def q(x):
        return qdq(net, x, 1 / 16, 0)

    def norm(x):
        return q(net.node("LayerNormalization", x, *np.ones((2, channels), np.float32), axis=-1))

    def dense(x, inputs, outputs):
        return q(net.node("Add", net.node("MatMul", x, weights(net, inputs, outputs)),
                          np.float32(net.rng.standard_normal(outputs))))

    def head():
        y = net.node("Reshape", dense(normed, channels, channels),
                     np.array([-1, tokens, heads, channels // heads]))
        return net.node("Transpose", y, perm=[0, 2, 1, 3])
    normed = norm(x)
    key = net.node("Transpose", head(), perm=[0, 1, 3, 2])
    y = net.node("Mul", q(net.node("MatMul", head(), key)), np.float32(0.35))
    y = q(net.node("MatMul", q(net.node("Softmax", y, axis=-1)), head()))
    y = net.node("Reshape", net.node("Transpose", y, perm=[0, 2, 1, 3]),
                 np.array([-1, tokens, channels]))
    x = q(net.node("Add", x, dense(y, channels, channels)))
    y = dense(norm(x), channels, 4 * channels)
    gelu = net.node("Add", net.node("Erf", net.node("Div", y, np.float32(2 ** 0.5))), np.float32(1))
    y = q(net.node("Mul", net.node("Mul", y, gelu), np.float32(0.5)))
    return q(net.node("Add", x, dense(y, 4 * channels, channels)))


def test_every_problem_of_a_transformer_is_named_at_once():
    net = Network(np.random.default_rng(9), (6, 16), opset=17)
    x = qdq(net, "x", 1 / 16, 0)
    for _ in range(3):
        x = attention(net, x)
    x = qdq(net, net.node("MatMul", x, weights(net, 16, 300)), 1 / 16, 0)
    model = net.model(x, shapes=[(6, 300)])
    found = check(model)
    assert not any(text.startswith("not looked at") for *_, text in found.nodes)
    refused = [operator for _, operator, text in found.nodes if text.startswith("refused")]
    assert refused == 3 * ["LayerNormalization", "MatMul", "Softmax", "MatMul",
                           "LayerNormalization"] and len(found.problems) == 15
    # What begins after the last of them maps.
    rest = re.search(r"; --inputs (\S+) keeps the part after it", found.problems[0])[1].split(",")
    assert check(Part(inputs=tuple(rest)).of(model)).maps
    text = text_of(found)
    # One cause, one line; the first one says how to go on.
    assert "and 2 more (MatMul): its weights must be constant" in text
    assert text.count("\n4. node") == 1 and "\n5. " not in text
    assert text.endswith("It does not map: 15 problems.")


def test_every_problem_of_parallel_branches_is_named_at_once():
    def middle(net, x):
        x = qdq(net, net.node("Conv", x, weights(net, 4, 3, 3, 3), pads=[1] * 4), 1, 0)
        odd = [net.node("InstanceNormalization", x, *np.ones((2, 4), np.float32)),
               net.node("LpNormalization", x, axis=1), net.node("Softmax", x, axis=1),
               net.node("LRN", x, size=3), net.node("CumSum", x, np.array(1))]
        branches = [qdq(net, net.node("Conv", qdq(net, item, 1 / 16, 0), weights(net, 4, 4, 3, 3),
                                      pads=[1] * 4), 1, 0) for item in odd]
        x = net.node("Relu", net.node("Concat", *branches, axis=1), name="after all")
        return qdq(net, net.node("Conv", x, weights(net, 4, 20, 3, 3), pads=[1] * 4), 1, 0)
    net, x = network(middle)
    found = check(net.model(x, shapes=[(4, 6, 6)]))
    assert [operator for _, operator, text in found.nodes if text.startswith("refused")] == [
        "InstanceNormalization", "LpNormalization", "Softmax", "LRN", "CumSum"]
    assert len(found.problems) == 5 and "which can be cut there: --outputs" in found.problems[0]
    assert all("at a network's ends" in item for item in found.problems[1:])
    lines = [line for line in text_of(found).splitlines() if "refused" in line]
    assert all(f"| refused: problem {n} |" in line for n, line in enumerate(lines, 1))


def qonnx(bits):
    net = Network(np.random.default_rng(3), (3, 6, 6))
    x = net.quant("x", 1 / 16, bits=8)
    for n in bits:
        weight = net.quant(np.float32(net.rng.standard_normal((3, 3, 3, 3))), 1 / 4, bits=4)
        x = net.node("Relu", net.node("Conv", x, weight, pads=[1] * 4))
        x = net.quant(x, 1.0, bits=n, signed=n % 2)
    return net.model(x)


def test_what_a_chip_lacks_and_what_would_make_it():
    def middle(net, x):
        y = qdq(net, net.node("Conv", x, weights(net, 3, 3, 3, 3), pads=[1] * 4), 8, 3)
        return qdq(net, net.node("Add", x, y), 8, 3)
    net, x = network(middle)
    model = net.model(x)
    keys = ["array.largest_k=2", "buffers.operands=0"]
    found = check(model, load_chip("tiny-2x4-int4", keys))
    assert not found.maps and not found.open
    assert found.changes == {"array.activation": "int8", "array.weight": "int8",
                             "buffers.operands": found.changes["buffers.operands"],
                             "array.largest_k": found.changes["array.largest_k"]}
    assert all(need > bits for _, need, bits in found.layers[-1:])
    changes = [f"{key}={value}" for key, value in found.changes.items()]
    assert check(model, load_chip("tiny-2x4-int4", keys + changes)).maps


def test_formats_that_no_chip_has_together():
    net = Network(np.random.default_rng(4), (3, 4, 4))
    x = net.float_quant("x", 0.5)
    x = net.node("Conv", x, net.float_quant(np.ones((3, 3, 1, 1), np.float32), 0.5))
    found = check(net.model(net.quant(x, 0.5)), load_chip("ulx3s-8x8"))
    assert not found.maps and "activations are in e3m2 and int8" in found.problems[0]


def _signs_and_integers(net):
    """A binary convolution between two of integers."""
    x = net.quant("x", 1 / 16)
    x = net.node("Conv", x, net.quant(np.float32(net.rng.standard_normal((4, 3, 1, 1))), 1 / 64))
    x = net.bipolar_quant(x)
    x = net.node("Conv", x, net.bipolar_quant(np.float32(net.rng.standard_normal((4, 4, 3, 3)))))
    return net.quant(x, 1.0, bits=6)


def _signs_and_floats(net):
    x = net.bipolar_quant("x")
    x = net.node("Conv", x, net.float_quant(np.float32(net.rng.standard_normal((4, 3, 1, 1))), 1))
    return net.float_quant(net.node("Relu", x), 1)


@pytest.mark.parametrize(("preset", "make", "advice"), [
    ("ulx3s-8x8-e3m2", _signs_and_integers, {"array.activation": "int8", "array.weight": "int8"}),
    ("ulx3s-bnn", _signs_and_integers, {"array.activation": "int8", "array.weight": "int8",
                                        "array.bit_planes": False}),
    ("tiny-2x4-int4", _signs_and_integers, {"array.activation": "int8", "array.weight": "int8"}),
    ("ulx3s-8x8", _signs_and_floats, {"array.activation": "e3m2", "array.weight": "e3m2"}),
    ("tiny-2x4-bnn", _signs_and_floats, {"array.activation": "e3m2", "array.weight": "e3m2"})])
def test_other_formats_are_advised_by_build_and_check_alike(preset, make, advice, tmp_path):
    net, path = Network(np.random.default_rng(3), (3, 6, 6)), tmp_path / "net.onnx"
    path.write_bytes(net.model(make(net)).SerializeToString())
    found = check(path, load_chip(preset))
    assert found.changes == advice and not found.open
    with pytest.raises(UserError) as refused:
        build(path, load_chip(preset), tmp_path / "out", area=False)
    keys = " and ".join(f"{key} to {json.dumps(value)}" for key, value in advice.items())
    assert f"; set {keys}, or quantize the network to " in str(refused.value)
    changes = [f"{key}={value}".lower() for key, value in advice.items()]
    assert f"With --set {' '.join(changes)} it maps." in text_of(found, load_chip(preset))
    assert check(path, load_chip(preset, changes)).maps


def test_narrower_integers_run_in_the_chips_own():
    found = check(qonnx([4, 6, 5]), load_chip("sim-16x16-int8"))
    assert found.maps
    found = check(qonnx([4, 6, 5]), load_chip("tiny-2x4-int4"))
    assert found.changes["array.activation"] == "int8"


def test_files_that_are_no_network(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x1c\0\0\0TFL3 and so on")
    with pytest.raises(UserError, match="is a TensorFlow Lite file: convert it to ONNX"):
        check(path)
    assert main(["check", str(tmp_path)]) == 1


@pytest.mark.parametrize("preset", ["ulx3s-8x8-e3m2", "ulx3s-bnn"])
def test_groups_of_some_channels_with_weights_that_are_signs(preset):
    """They have no 0 for the channels that are not read, and no chip computes them; the check says
    what is wrong all the same."""
    net = Network(np.random.default_rng(1), (6, 5, 5))
    x = net.quant("x", 1 / 16)
    x = net.node("Gather", x, np.array([4, 0, 1, 3]), axis=1)
    x = net.node("Conv", x, net.bipolar_quant(np.float32(net.rng.standard_normal((4, 2, 1, 1)))),
                 group=2)
    model = net.model(net.quant(x, 1 / 4))
    assert not check(model, load_chip(preset)).maps

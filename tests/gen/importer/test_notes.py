"""Notes of what a network rounds in the middle: where there is one, results stay within what it
says; where there is none, they are exact but at ties."""

import json

import numpy as np
import onnx
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli.main import main
from systolith.gen.compile.bias import bias_error
from systolith.gen.compile.notes import bias_notes
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.reader import load
from systolith.gen.kit.notes import LEAST, Note, lines
from systolith.hw.spec.records import from_json

from ...onnx_exact import qdq
from ...onnx_networks import QONNX, Network, evaluate, run_onnx

SHAPE = (4, 6, 7)


def weights(net, *shape):
    return net.quant(np.float32(net.rng.integers(-127, 128, shape)) / np.float32(128), 1 / 128)


def conv(net, x, outputs=4, kernel=3, **attributes):
    attributes.setdefault("pads", [kernel // 2] * 4)
    return net.node("Conv", x, weights(net, outputs, 4, kernel, kernel),
                    np.float32(net.rng.standard_normal(outputs)), **attributes)


def two(net, x):
    """Neither branch is quantized."""
    y = qdq(net, conv(net, x), 1 / 4, 3)
    return net.node("Add", conv(net, x), conv(net, y))


def product(net, x):
    """A gate times what nothing quantizes."""
    y = net.node("Mul", conv(net, x), np.float32(300))
    return net.node("Mul", y, qdq(net, conv(net, x), 1 / 16, -5))


def function(net, x):
    y = conv(net, x)
    return net.node("Mul", y, net.node("Sigmoid", y))


def rows(net, x):
    return net.node("Resize", x, "", np.float32([1, 1, 3.75, 3.875]),
                    mode="linear", coordinate_transformation_mode="align_corners")


def constant(net, x):
    return net.node("Add", conv(net, x), np.float32(net.rng.standard_normal(SHAPE) * 900))


def one(net, x):
    """One branch that nothing quantizes."""
    return net.node("Add", conv(net, x), x)


def small_constant(net, x):
    return net.node("Add", x, np.float32(net.rng.standard_normal(SHAPE)))


def codes_of_a_constant(net, x):
    return net.node("Add", x, np.float32(net.rng.integers(-50, 50, SHAPE)) / np.float32(16))


def slopes(net, x):
    y = conv(net, x)
    return net.node("Add", net.node("PRelu", y, np.float32(
        [[[0.3]], [[-0.2]], [[1.7]], [[0]]])), np.float32([[[0.3]], [[-1]], [[2]], [[0.7]]]))


def double(net, x):
    return net.node("Resize", x, "", np.float32([1, 1, 2, 2]), mode="linear",
                    coordinate_transformation_mode="half_pixel")


def network(middle, scale=None, seed=0):
    """(model, images, codes' places in exact steps, name of the last quantizer)."""
    net = Network(np.random.default_rng(seed), SHAPE, opset=17)
    result = middle(net, qdq(net, "x", 1 / 16, 3))
    images = np.float32(net.rng.standard_normal((6, *SHAPE)) * 4)
    # The evaluator knows Resize by float32's numbers only.
    exact = (run_onnx(net.model(result), images, optimized=False) if middle is rows else
             evaluate(net.model(result), images))[result]
    scale = np.float32(np.abs(exact).max() / 110 if scale is None else scale)
    return net.model(qdq(net, result, scale, -5)), images, exact / np.float64(scale), scale


def measured(model, images, places, scale):
    """(graph, largest distance to a tie of a code that is another, largest difference)."""
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images))) / np.float64(scale)
    expected = np.clip(np.rint(places), -123, 132)
    wrong = np.rint(found) != expected
    moved = np.maximum(abs(places - found) - 0.5, 0)[wrong]
    return graph, moved.max(initial=0), abs(np.rint(found) - expected).max(), wrong.mean()


#: Places, and the scale of the quantizer after them.
NOTED = {"digits": (two, 0.05), "combined": (product, 1.0), "function": (function, None),
         "rows": (rows, None)}


@pytest.mark.parametrize("name", NOTED)
def test_results_are_as_near_as_a_note_says(name):
    case = network(*NOTED[name])
    graph, moved, steps, wrong = measured(*case)
    note, = graph.notes
    assert note.kind == name and note.node in {item.name for item in case[0].graph.node}
    assert note.unit == "step" and LEAST <= note.off < 1
    assert wrong > 0 and LEAST < moved <= note.off * 1.01 and steps == 1


def test_a_constant_far_larger_than_the_steps_of_a_sum():
    model, *rest = network(constant, 0.5)
    graph, moved, steps, _ = measured(model, *rest)
    assert {note.kind for note in graph.notes} == {"constant", "digits"}
    # Codes are as near as the largest number is fine.
    assert moved <= sum(note.off for note in graph.notes) and steps <= 1
    off, = (note.off for note in graph.notes if note.kind == "constant")
    assert off == pytest.approx(3e3 / 0.5 / 2 / 127 / 127 / 3, rel=0.3)


def test_thresholds_at_unequal_distances():
    net = Network(np.random.default_rng(0), SHAPE, opset=17)
    x = net.quant("x", 1 / 16)
    x = net.node("Conv", x, weights(net, 4, 4, 1, 1))
    rows = np.sort(np.float32(np.arange(15) * 0.05 + net.rng.uniform(0, 0.01, (4, 15))))
    model = net.model(net.node("MultiThreshold", x, rows, domain=QONNX, name="count"))
    images = np.float32(net.rng.standard_normal((6, *SHAPE)))
    note, = (graph := load(model)).notes
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected = evaluate(model, images)["count_out"]
    inside = (expected > 0) & (expected < 15)
    assert (note.kind, note.node, note.unit) == ("thresholds", "count", "share")
    assert abs(found - expected).max() <= 1
    assert 0 < (found != expected)[inside].mean() <= 2 * note.off < 0.2


def test_an_output_that_nothing_quantizes():
    net = Network(np.random.default_rng(1), SHAPE, opset=17)
    model = net.model(two(net, qdq(net, "x", 1 / 16, 3)))
    images = np.float32(net.rng.standard_normal((6, *SHAPE)) * 4)
    note, = (graph := load(model)).notes
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    exact = evaluate(model, images)[model.graph.output[0].name]
    assert note.unit == "real" and abs(found - exact).max() <= note.off < 0.01


@pytest.mark.parametrize("middle", [one, small_constant, codes_of_a_constant, slopes, double])
def test_nothing_is_said_of_what_is_exact_but_at_ties(middle):
    case = network(middle)
    graph, moved, steps, wrong = measured(*case)
    assert graph.notes == []
    assert moved < LEAST and steps <= 1 and wrong < 0.004
    compiled, _ = compile_network(graph, load_chip("sim-16x16-int8"))
    assert compiled.notes == []


def test_biases_with_too_few_fraction_bits():
    net = Network(np.random.default_rng(2), SHAPE, opset=17)
    x = net.quant("x", 1.0, bits=4)
    weight = net.quant(np.float32(net.rng.integers(-1, 2, (4, 4, 1, 1))), 1.0, bits=2)
    x = net.node("Conv", x, weight, np.float32(net.rng.standard_normal(4)), name="conv")
    graph = load(net.model(net.quant(x, 1 / 4)))
    chips = [load_chip("sim-16x16-int8", [f"post.bias_fraction={bits}"]) for bits in (5, 16)]
    (note,), none = (compile_network(graph, chip)[0].notes for chip in chips)
    assert (note.kind, note.node) == ("bias", "conv") and 1 / 40 < note.off < 1 / 8 and not none


def test_biases_of_digits_are_in_steps_of_their_sum():
    """A digit's step is a small part of the sum's."""
    net = Network(np.random.default_rng(4), SHAPE, opset=17)
    x = net.quant("x", 1.0, bits=4)
    y, z = (net.quant(conv(net, x), 16.0, bits=4) for _ in range(2))

    def branch(x, kernel):
        codes = np.float32(net.rng.integers(-1, 2, (4, 4, kernel, kernel)))
        return net.node("Conv", x, net.quant(codes * 0.3, 0.3, bits=2),
                        np.float32(net.rng.standard_normal(4)), pads=[kernel // 2] * 4)
    total = net.node("Add", net.node("Add", branch(x, 3), branch(y, 1)), branch(z, 1), name="sum")
    model = net.model(total, net.quant(total, step := np.float32(0.2567)))
    graph = load(onnx.utils.Extractor(model).extract_model(["x"], [model.graph.output[1].name]))
    chips = [load_chip("sim-16x16-int8", [f"post.bias_fraction={bits}"]) for bits in range(19)]
    chip = next(item for item in chips if all(bias_error(layer, item) <= 0.5
                                              for layer in graph.layers))
    digits, note = compile_network(graph, chip)[0].notes
    assert (digits.kind, note.kind, note.node, note.unit) == ("digits", "bias", "sum", "step")
    # Of layers that write digits, it is as many steps of these.
    assert 0.1 < max(bias_error(layer, chip) for layer in graph.layers)
    assert LEAST <= note.off < 1 / 200
    assert not any(item.kind == "bias" for item in compile_network(graph, chips[-1])[0].notes)
    # With biases that `build` refuses, too, codes are as near as is said.
    images = np.float32(net.rng.standard_normal((40, *SHAPE)) * 4)
    places = evaluate(model, images)[total] / np.float64(step)
    for bits in (8, 9, 10):
        note, = bias_notes(graph, chips[bits])
        found = graph.decode_outputs(graph.run(graph.encode_inputs(images), chips[bits]))
        found = np.rint(found / np.float64(step))
        wrong = (found != np.rint(places)) & (np.abs(found) < 120)
        moved = np.max(abs(places - found)[wrong]) - 0.5
        assert note.off / 10 < moved <= note.off + digits.off < 0.3


def test_every_command_says_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("systolith.gen.flow.build.core_verilog", lambda arch: "")
    model, *_ = network(two, 0.05)
    path, figures = tmp_path / "net.onnx", tmp_path / "check.json"
    onnx.save(model, path)
    assert main(["check", str(path), "--chip", "sim-16x16-int8", "--json", str(figures)]) == 0
    said = "sums of what no quantizer rounds are put together of digits"
    line, = (line for line in capsys.readouterr().out.splitlines() if said in line)
    note, = json.loads(figures.read_text())["notes"]
    assert line.startswith("Note: ") and repr(note["node"]) in line
    assert lines([from_json(Note, note, "note")]) == [line.removeprefix("Note: ").removesuffix(".")]
    assert main(["build", str(path), "--chip", "sim-16x16-int8", "--no-area",
                 "-o", str(tmp_path / "b")]) == 0
    assert line.removeprefix("Note: ") in capsys.readouterr().out
    assert json.loads((tmp_path / "b" / "report.json").read_text())["notes"] == [note]


def test_a_line_for_each_kind():
    many = [Note("function", f"act{n}", 0.01 * n) for n in range(1, 6)]
    function, far, short = lines([*many, Note("rows", "up", 1.3), Note("short", "", detail="bf")])
    assert "within 0.05 of a step of a tie" in function
    assert "'act1', 'act2', 'act3' and 2 more;" in function
    assert "up to 2 steps off" in far and "to bf, and the chip" in short


@pytest.mark.parametrize("size, kinds", [(10, set()), (66, set()), (140, {"weights"})])
def test_weights_of_a_linear_resize(size, kinds):
    """Of n / 19 eight bits hold all, though the network's weights have four, and of n / 131 two
    weights a pixel; of n / 279 not, in as few layers."""
    net = Network(np.random.default_rng(3), (3, size), opset=17)
    x = net.quant("x", 1 / 16)
    x = net.quant(net.node("Conv", x, net.quant(np.float32(net.rng.integers(-7, 8, (3, 3, 1))), 1.0,
                                                bits=4)), 1.0)
    x = net.node("Resize", x, "", np.float32([1, 1, 2]), mode="linear", name="up",
                 coordinate_transformation_mode="align_corners")
    model = net.model(net.quant(x, 1 / 64, bits=14))
    images = np.float32(net.rng.standard_normal((6, 3, size)) * 3)
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    far = abs(found - evaluate(model, images)[model.graph.output[0].name]).max()
    assert {note.kind for note in graph.notes} == kinds
    if kinds:
        note, = graph.notes
        assert (note.node, note.unit, note.detail) == ("up", "range", "int8")
        assert 1 / 64 < far <= note.off * 255 + 1 / 64 and note.off < 0.004
        assert "by up to" in lines(graph.notes)[0]
    else:
        assert far <= 1 / 64        # ties of float32's weights


@pytest.mark.parametrize("scale", [2.0, 1.75])
def test_rows_of_few_codes_are_rounded_to_finer_ones(scale):
    """Two bits are rounded to 1 / 64 of their steps, which is most that a result can be off."""
    net = Network(np.random.default_rng(4), (2, 12, 12), opset=17)
    x = net.quant(net.node("Conv", net.quant("x", 1 / 16), net.quant(np.float32(
        net.rng.integers(-7, 8, (3, 2, 1, 1))), 1.0)), 8.0, bits=2)
    x = net.node("Resize", x, "", np.float32([1, 1, scale, scale]), mode="linear", name="up",
                 coordinate_transformation_mode="align_corners")
    model = net.model(net.quant(x, 1 / 8))
    images = np.float32(net.rng.standard_normal((6, 2, 12, 12)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    far = abs(found - evaluate(model, images)[model.graph.output[0].name]).max() / (1 / 8)
    assert all(note.off * 1 / 8 <= 8 / 64 for note in graph.notes if note.kind == "rows")
    assert 0 < far <= 1 and any(note.kind == "rows" for note in graph.notes)


def test_rows_of_floats():
    """Their largest steps count: half of one is the most that a number can be moved."""
    net = Network(np.random.default_rng(5), (2, 6, 5), opset=17)
    x = net.float_quant(net.node("Conv", net.float_quant("x", 0.25), net.float_quant(np.float32(
        net.rng.standard_normal((3, 2, 1, 1))), 0.25)), 0.25)
    x = net.node("Resize", x, "", np.float32([1, 1, 2, 2]), mode="linear", name="up")
    note, = load(net.model(net.float_quant(x, 0.25))).notes
    # e3m2 has steps of 1 / 16 to 4: a half of the largest is 32 of the smallest.
    assert (note.kind, note.node, note.off) == ("rows", "up", 32)

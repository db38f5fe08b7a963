"""Post-training quantization: what comes out is what the importer, ONNX Runtime and the formats'
own numbers say, on networks of every kind of layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.importer import reader, run
from systolith.gen.importer.run import run_model
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.calibrate import RANGES
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.quantize.rounding import ROUNDINGS
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch

from ...float_networks import NETWORKS, numbers, weights
from ...onnx_exact import on_chip
from ...onnx_networks import Network, random_cnn, run_onnx

#: (activation, weight)
FORMATS = (("int8", "int8"), ("uint8", "int8"), ("int6", "int6"), ("e4m3", "e4m3"),
           ("int8", "e3m0x2"), ("int16", "int16"), ("e4m3fn", "e5m2ieee"), ("int4", "int4"),
           ("hfp8", "e4m3fn"),
           ("e3m2", "ternary"))


def decibels(exact, found):
    return 10 * np.log10(np.square(exact).sum() / max(np.square(exact - found).sum(), 1e-30))


def data_for(net, count=24):
    return np.float32(net.rng.standard_normal((count, *net.shape)))


def golden(model, images):
    """(graph, results) of the golden model."""
    graph = reader.load(model)
    codes = graph.encode_inputs(images)
    return graph, codes, graph.decode_outputs(graph.run(codes))


def check(net, model, recipe, chip=True):
    """The golden model is what the quantized file says, but for ties, and near to the float network
    by as much as the report says; the simulator's bits are the golden model's. Returns the
    `Quantized`."""
    data = data_for(net)
    made = quantize(model, data, recipe)
    graph, codes, _ = golden(made.model, data)
    rows = compare_with_onnx(graph, None, made.model, data, made.float_model).rows
    assert all(row["quantized_tensor"] and row["float_tensor"] for row in rows)
    assert sum(row["codes_differing"] for row in rows) < 3 + 0.002 * sum(
        row["elements"] for row in rows)
    name = model.graph.output[0].name
    said = run_model(made.model, {"x": data}, [name])[name]
    exact = run_onnx(model, data)[name]
    # ONNX Runtime's fused operators round ties otherwise.
    assert abs(decibels(exact, said) - (made.rows[-1]["sqnr"] or 300)) < 0.25
    assert run_onnx(made.float_model, data)[name] == pytest.approx(exact, abs=1e-4)
    formats = {str(parse(item)) for item in (recipe.activation, recipe.weight)}
    used = {item for kind in reader.required_formats(graph) for item in kind}
    stored = {"ternary": "int2", "bipolar2": "int3"}
    assert used <= {stored.get(item, item.replace("uint", "int")) for item in formats}
    if chip:
        on_chip(graph, codes, Arch(
            rows=8, columns=4, activation=parse(recipe.activation.replace("uint", "int")),
            weight=parse(recipe.weight.replace("uint", "int")), largest_k=4096,
            activation_depth=1024, weight_depth=256, accumulator_depth=256, parameter_depth=64,
            post_lanes=2, operand_depth=512, table_depth=256,
            leaky="int" in recipe.activation))
    return made


@pytest.mark.parametrize("make, least, activation, weight", [
    *((make, 30, "int8", "int8") for make in NETWORKS),
    (NETWORKS[1], 18, "int6", "int6"), (NETWORKS[2], 20, "e4m3", "e4m3")])
def test_networks(make, least, activation, weight):
    net, model = make(np.random.default_rng(5))
    made = check(net, model, Recipe(activation, weight), chip=make not in NETWORKS[:1])
    assert made.rows[-1]["sqnr"] > least
    # Every tensor that is quantized and every result has its row; errors only grow on the whole.
    assert made.rows[-1]["tensor"] == model.graph.output[0].name
    assert all(row["alone_sqnr"] is None or row["alone_sqnr"] > row["sqnr"] - 3
               for row in made.rows)


@pytest.mark.parametrize("make", NETWORKS)
def test_logarithms(make):
    """The file multiplies numbers, the chip those of the table: the more bits it has, the nearer
    they are; every kind of layer is the simulator's to the bit."""
    net, model = make(np.random.default_rng(5))
    data, near = data_for(net), []
    for name in ("lns8", "lns8t10"):
        made = quantize(model, data, Recipe(name, name))
        graph, codes, _ = golden(made.model, data)
        rows = compare_with_onnx(graph, None, made.model, data, made.float_model).rows
        near.append(min(300 if row["golden_to_quantized_db"] is None
                        else row["golden_to_quantized_db"] for row in rows))
        on_chip(graph, codes, Arch(
            rows=8, columns=4, activation=name, weight=name, largest_k=4096,
            activation_depth=1024, weight_depth=256, accumulator_depth=256, parameter_depth=64,
            post_lanes=2, operand_depth=512, table_depth=256, leaky=True))
    assert near[0] > 24 and near[1] > 29 and near[1] > near[0]


def test_logarithms_go_with_logarithms():
    net, model = NETWORKS[0](np.random.default_rng(3))
    for formats in (("int8", "lns8"), ("lns8", "e4m3"), ("lns8", "lns8t8")):
        with pytest.raises(UserError, match="logarithms are multiplied with those of the same"):
            quantize(model, data_for(net), Recipe(*formats))
    with pytest.raises(UserError, match="activations cannot be quantized to lns9"):
        quantize(model, data_for(net), Recipe("lns9", "lns9"))


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1 << 32), formats=st.sampled_from(FORMATS),
       range=st.sampled_from(RANGES), equalize=st.booleans(),
       correct=st.booleans(), rounding=st.sampled_from(ROUNDINGS))
def test_random_networks(seed, formats, range, equalize, correct, rounding):
    rng = np.random.default_rng(seed)
    model, data = random_cnn(rng)
    net = Network(rng, data.shape[2:])
    check(net, model, Recipe(*formats, range, equalize=equalize, correct_bias=correct,
                             rounding=rounding), chip=False)


def test_onnx_runtime_gives_the_same_codes():
    net, model = NETWORKS[0](np.random.default_rng(3))
    data = data_for(net)
    made = quantize(model, data, Recipe(range="min-max"))
    graph = reader.load(made.model)
    tensors = graph.run(graph.encode_inputs(data))
    names = [name for name in tensors if name.endswith("_quantized")]
    theirs = run_onnx(made.model, data, extra=names)
    assert len(names) > 6
    for name in names:
        ours = graph.tensors[name].decode(tensors[name]).reshape(theirs[name].shape)
        assert np.abs(ours - theirs[name]).max() <= 1
        assert (ours != theirs[name]).mean() < 0.002


def imbalanced(rng):
    """Two convolutions between which channels differ a thousandfold."""
    net = Network(rng, (4, 6, 6))
    factors = np.float32(10.0 ** rng.uniform(-1.5, 1.5, 8))
    x = net.node("Conv", "x", weights(net, 8, 4, 3, 3) * factors.reshape(-1, 1, 1, 1),
                 numbers(net, 8) * factors)
    x = net.node("MaxPool", net.node("Relu", x), kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Conv", x, weights(net, 8, 8, 1, 1) / factors.reshape(1, -1, 1, 1))
    x = net.node("Relu", x)
    return net, net.model(net.node("Gemm", net.node("Flatten", x), weights(net, 32, 3)))


def test_equalization_helps_where_channels_differ():
    net, model = imbalanced(np.random.default_rng(2))
    plain = check(net, model, Recipe())
    equal = check(net, model, Recipe(equalize=True))
    assert equal.rows[-1]["sqnr"] > plain.rows[-1]["sqnr"] + 8
    assert set(equal.equalized) == {"conv0", "conv3", "gemm6"} and plain.equalized == []
    # What has other numbers has another name.
    assert [row["tensor"] for row in equal.rows][1:3] == ["relu1_out_equalized",
                                                          "relu4_out_equalized"]


def test_layers_are_equalized_with_those_after_them():
    net, model = imbalanced(np.random.default_rng(2))
    first = check(net, model, Recipe(layers={"conv0": {"equalize": True}}))
    assert set(first.equalized) == {"conv0", "conv3"}
    assert [row["tensor"] for row in first.rows][1:3] == ["relu1_out_equalized", "relu4_out"]
    second = check(net, model, Recipe(equalize=True, layers={"conv0": {"equalize": False}}))
    assert set(second.equalized) == {"conv3", "gemm6"}
    assert first.rows[-1]["sqnr"] > second.rows[-1]["sqnr"] + 3


def test_bias_correction_moves_means_back():
    net, model = NETWORKS[5](np.random.default_rng(8))
    data, name = data_for(net, 64), model.graph.output[0].name
    exact = run_onnx(model, data)[name].mean(axis=0)
    off = []
    for correct in (False, True):
        made = quantize(model, data, Recipe("int4", "int4", correct_bias=correct))
        off.append(np.abs(golden(made.model, data)[2].mean(axis=0) - exact).max())
    assert off[1] < 0.25 * off[0]


def relu6(rng, mean=True):
    """Convolutions, one of them depthwise, whose results end at 6, and their mean."""
    net = Network(rng, (3, 12, 12))
    x = "x"
    for outputs, inputs, groups in ((12, 3, 1), (12, 1, 12), (16, 12, 1)):
        x = net.node("Conv", x, weights(net, outputs, inputs, 3, 3), numbers(net, outputs),
                     group=groups, pads=[1] * 4)
        x = net.node("Clip", x, np.float32(0), np.float32(6))
    if not mean:
        return net, net.model(net.node("Conv", x, weights(net, 5, 16, 3, 3)))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net, net.model(net.node("Gemm", x, weights(net, 16, 5)))


def held_out(net, model, recipe, exact, data):
    made = quantize(model, data[:96], recipe)
    return decibels(exact, golden(made.model, data[96:])[2])


@pytest.mark.parametrize("clip", [0.7, 1.25])
def test_a_learned_clip_is_the_range(clip):
    """As a network that was trained by PACT has it, one for each layer."""
    net = Network(np.random.default_rng(4), (3, 6, 6))
    x = net.node("Conv", "x", weights(net, 8, 3, 3, 3), name="conv")
    x = net.node("Clip", x, np.float32(0), np.float32(clip))
    model = net.model(net.node("Conv", x, weights(net, 4, 8, 1, 1)))
    row, = (row for row in quantize(model, data_for(net), Recipe("int4", "int4", range="min-max")
                                    ).rows if row["layer"] == "conv")
    assert (row["low"], row["high"]) == (0, pytest.approx(clip))


@pytest.mark.parametrize("formats", [("int6", "int6"), ("int8", "int4"), ("e2m1", "e2m1")])
def test_the_least_error_of_tensors_is_no_loss_for_the_network(formats):
    """Clipping moves means, and corrected biases move them back."""
    net, model = relu6(np.random.default_rng(4))
    data = data_for(net, 128)
    exact = run_onnx(model, data[96:])[model.graph.output[0].name]
    whole, least, uncorrected = (held_out(net, model, Recipe(*formats, **given), exact, data)
                                 for given in ({"range": "min-max"}, {"range": "mse"},
                                               {"range": "mse", "correct_bias": False}))
    assert least > whole - 0.5 and least > uncorrected


@pytest.mark.parametrize("weight", ["int4", "e2m1"])
def test_rounding_by_the_results_of_layers(weight):
    net, model = relu6(np.random.default_rng(7), mean=False)
    # Neighbouring pixels are alike, as those of images are.
    data = data_for(net, 128) / 4 + np.float32(net.rng.normal(0, 1, (128, 3, 1, 1)))
    exact = run_onnx(model, data[96:])[model.graph.output[0].name]
    plain, feedback, learned = (
        held_out(net, model, Recipe("int8", weight, rounding=rounding), exact, data)
        for rounding in ROUNDINGS)
    assert feedback > plain + 1.5 and learned > plain + 1.5


def unequal_relu6(rng):
    """Two layers with ReLU6 between them; channels differ, and only the first reaches 6."""
    net = Network(rng, (4, 6, 6))
    factors = np.float32(10.0 ** np.linspace(0.5, -1.5, 8))
    x = net.node("Conv", "x", weights(net, 8, 4, 3, 3) * factors.reshape(-1, 1, 1, 1),
                 np.abs(numbers(net, 8)) * factors)
    x = net.node("Clip", x, np.float32(0), np.float32(6))
    x = net.node("Conv", x, weights(net, 5, 8, 1, 1) / factors.reshape(1, -1, 1, 1))
    return net, net.model(x)


def test_equalization_through_relu6():
    net, model = unequal_relu6(np.random.default_rng(4))
    data = data_for(net)
    before = run_onnx(model, data, extra=["clip1_out"])["clip1_out"].max(axis=(0, 2, 3))
    assert before[0] == 6 and (before[1:] < 6).all()
    plain = check(net, model, Recipe("int6", "int6"))
    # `check` holds the equalized float network against the model on these data.
    equal = check(net, model, Recipe("int6", "int6", equalize=True))
    assert equal.rows[-1]["sqnr"] > plain.rows[-1]["sqnr"] + 8
    assert equal.equalized == ["conv0", "conv2"]
    tensor = equal.rows[1]["tensor"]
    assert tensor == "clip1_out_equalized"
    after = run_onnx(equal.float_model, data, extra=[tensor])[tensor].max(axis=(0, 2, 3))
    assert after[0] == 6 and (after <= 6).all() and after[1:].min() > 10 * before[1:].min()


def test_batch_normalization_estimated_anew():
    """Each channel varies as in the float network, which few bits would otherwise change."""
    net, model = relu6(np.random.default_rng(5), mean=False)
    data, name = data_for(net, 64), model.graph.output[0].name
    exact = run_onnx(model, data)[name].std(axis=(0, 2, 3))
    off = []
    for anew in (False, True):
        recipe = Recipe("int4", "int2", "min-max", renormalize=anew)
        made = quantize(model, data, recipe)
        found = golden(made.model, data)[2]
        off.append(np.abs(found.std(axis=(0, 2, 3)) / exact - 1).max())
        # What the report measured is what the golden model computes.
        assert decibels(run_onnx(model, data)[name], found) == pytest.approx(
            made.rows[-1]["sqnr"], abs=0.3)
    assert off[0] > 0.1 and off[1] < 0.02
    one = quantize(model, data, Recipe("int4", "int2", "min-max", layers={
        "conv6": {"renormalize": True}}))
    assert golden(one.model, data)[2].std(axis=(0, 2, 3)) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("renormalize", [False, True])
def test_half_steps_are_nearer_than_three_levels(renormalize):
    """Four codes without 0 lose less than -1, 0 and 1 of int2; a chip computes them as int3."""
    net, model = relu6(np.random.default_rng(6), mean=False)
    made = {weight: check(net, model, Recipe("int8", weight, renormalize=renormalize),
                          chip=False) for weight in ("int2", "bipolar2")}
    lost = {name: [row["weight_sqnr"] for row in item.rows[1:]] for name, item in made.items()}
    assert (np.array(lost["bipolar2"]) > np.array(lost["int2"]) + 1).all()
    assert made["bipolar2"].rows[-1]["weight"] == "bipolar2"
    graph, codes, _ = golden(made["bipolar2"].model, data_for(net))
    assert {int(value) for layer in graph.layers for value in np.unique(
        layer.weights.images)} == {-3, -1, 1, 3}
    on_chip(graph, codes, Arch(rows=4, columns=4, activation=parse("int8"), weight=parse("int3"),
                               largest_k=4096, depthwise=True, activation_depth=2048,
                               weight_depth=256, accumulator_depth=256, parameter_depth=64,
                               post_lanes=2, operand_depth=512))


def test_ranges_by_cross_entropy():
    """The results' classes are nearer to the float network's, if not the results."""
    net, model = relu6(np.random.default_rng(4))
    data, name = data_for(net, 64), model.graph.output[0].name

    def shares(array):
        array = np.exp(array - array.max(axis=1, keepdims=True))
        return array / array.sum(axis=1, keepdims=True)
    exact, found = shares(run_onnx(model, data)[name]), {}
    for method in ("min-max", "cross-entropy"):
        made = check(net, model, Recipe("int4", "int8", method), chip=False)
        results = shares(golden(made.model, data)[2])
        found[method] = float(-(exact * np.log(results)).sum(axis=1).mean())
    entropy = float(-(exact * np.log(exact)).sum(axis=1).mean())
    assert found["cross-entropy"] - entropy < 0.8 * (found["min-max"] - entropy)


def test_without_onnx_runtime(monkeypatch):
    net, model = NETWORKS[4](np.random.default_rng(6))
    data = data_for(net, 6)
    there = quantize(model, data)
    monkeypatch.setattr(run, "have_runtime", lambda: False)
    made = quantize(model, data)
    assert [row["sqnr"] for row in made.rows] == pytest.approx(
        [row["sqnr"] for row in there.rows], abs=0.1)
    found = compare_with_onnx(reader.load(made.model), None, made.model, data)
    assert found.quantized_by == "ONNX's reference evaluator"
    assert sum(row["codes_differing"] for row in found.rows) <= 1


def test_results_between_layers_and_several_outputs_have_rows():
    rng = np.random.default_rng(4)
    net = Network(rng, (3, 6, 6))
    x = net.node("Relu", net.node("Conv", "x", weights(net, 4, 3, 3, 3)))
    y = net.node("Conv", x, weights(net, 4, 4, 1, 1))
    model = net.model(x, y)
    made = quantize(model, data_for(net))
    assert [row["tensor"] for row in made.rows] == ["x", x, y]
    assert [row["format"] for row in made.rows] == ["int8", "int8", "sums"]
    _, _, found = golden(made.model, data_for(net))
    assert set(found) == {x, y}


def two_inputs(rng):
    net = Network(rng, (2, 5, 5), name="left")
    x = net.node("Conv", "left", weights(net, 4, 2, 3, 3))
    y = net.node("Conv", "right", weights(net, 4, 3, 3, 3))
    net.node("Relu", net.node("Add", x, y), output="sum")
    graph = helper.make_graph(net.nodes, "two", [
        net.input, helper.make_tensor_value_info("right", TensorProto.FLOAT, ["N", 3, 5, 5])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 4, 3, 3])], net.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_several_inputs():
    rng = np.random.default_rng(0)
    data = {name: np.float32(rng.standard_normal((6, channels, 5, 5)))
            for name, channels in (("left", 2), ("right", 3))}
    made = quantize(two_inputs(rng), data)
    graph = reader.load(made.model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(data)))
    assert decibels(run_model(made.float_model, data, ["sum"])["sum"], found) > 30
    with pytest.raises(UserError, match=r"inputs, left, right: give a \.npz file"):
        quantize(two_inputs(rng), data["left"])
    with pytest.raises(UserError, match=r"arrays for the inputs left, right, not left$"):
        quantize(two_inputs(rng), {"left": data["left"]})
    data["right"] = data["right"][:4]
    with pytest.raises(UserError, match="the same number of images, not 6, 4"):
        quantize(two_inputs(rng), data)


def test_fixed_batch_old_opset_and_constants_as_nodes():
    rng = np.random.default_rng(1)
    net = Network(rng, (3, 6, 6), opset=11)
    bound = net.node("Constant", value=numpy_helper.from_array(np.float32(0)))
    x = net.node("Clip", net.node("Conv", "x", weights(net, 4, 3, 3, 3)), bound)
    x = net.node("Reshape", x, np.array([1, 64]))
    x = net.node("Identity", net.node("Gemm", x, weights(net, 64, 5)))
    net.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])
    graph = helper.make_graph(net.nodes, "old", [net.input], [
        helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 5])], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    made = quantize(model, data_for(net, 9), Recipe("int16", "int4"))
    assert {item.version for item in made.model.opset_import} == {21}
    assert made.rows[-1]["tensor"] == x and made.rows[-1]["sqnr"] > 10


def test_fixed_batch_in_a_reshape_that_takes_zeros_for_sizes():
    """As PyTorch's exporter writes it: a batch of 1, and allowzero where no size is 0."""
    net = Network(np.random.default_rng(3), (3, 6, 6), opset=20)
    x = net.node("Reshape", net.node("Conv", "x", weights(net, 4, 3, 3, 3)), np.int64([1, 64]),
                 allowzero=1)
    x = net.node("Gemm", x, weights(net, 5, 64), transB=1)
    net.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])
    graph = helper.make_graph(net.nodes, "fixed", [net.input], [
        helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 5])], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    images = data_for(net, 9)
    made = quantize(model, images, Recipe("int8", "int8"))
    exact = np.concatenate([run_onnx(model, image[None])[x] for image in images])
    assert decibels(exact, golden(made.model, images)[2]) > 25


def test_sizes_of_a_resize_are_those_of_one_image():
    net = Network(np.random.default_rng(2), (3, 6, 6), opset=18)
    x = net.node("Resize", net.node("Conv", "x", weights(net, 4, 3, 3, 3)), "", "",
                 np.int64([1, 4, 8, 8]), mode="linear")
    x = net.node("Conv", x, weights(net, 5, 4, 3, 3))
    net.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])
    graph = helper.make_graph(net.nodes, "sizes", [net.input], [
        helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 5, 6, 6])], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    images = data_for(net, 9)
    made = quantize(model, images, Recipe("int8", "int8"))
    exact = np.concatenate([run_onnx(model, image[None])[x] for image in images])
    assert decibels(exact, golden(made.model, images)[2]) > 25


@pytest.mark.parametrize("spoil, message", [
    (lambda data: data[:, :2], r"must have the shape \(N, 3, 6, 6\), N images, not \(24, 2, 6, 6"),
    (lambda data: data[0], r"must have the shape \(N, 3, 6, 6\), N images, not \(3, 6, 6\)"),
    (lambda data: data[:0], "holds no image for input 'x'"),
    (lambda data: np.where(data == data[3, 1, 2, 4], np.nan, data),
     r"must be finite, and 'x' is nan at \[3, 1, 2, 4\]"),
    (lambda data: data.astype(str), "must be numbers, 'x' is of type <U"),
    (lambda data: {"y": data}, "must have arrays for the inputs x, not y"),
])
def test_bad_calibration_data(spoil, message):
    net = Network(np.random.default_rng(0), (3, 6, 6))
    model = net.model(net.node("Conv", "x", weights(net, 4, 3, 3, 3)))
    with pytest.raises(UserError, match=f"^cal.npy: .*{message}"):
        quantize(model, spoil(data_for(net)), source="cal.npy")


@pytest.mark.parametrize("change, message", [
    ({"activation": "bipolar1"}, "cannot be quantized to bipolar1: .*trained as such"),
    ({"activation": "e3m0x2"}, "activations cannot be quantized to e3m0x2"),
    ({"weight": "uint8"}, "weights cannot be quantized to uint8"),
    ({"weight": "int1"}, "weights cannot be quantized to int1: integers with sign of 2 bits"),
    ({"weight": "foo"}, "'foo' is no number format"),
    ({"range": "best"}, "range must be one of min-max, .*, kl, cross-entropy, not 'best'"),
    ({"rounding": "up"}, "rounding must be one of nearest, feedback, learned, not 'up'"),
    ({"weight_range": "best"}, "weight_range must be one of min-max, mse, sawb, not 'best'"),
    ({"weight": "int6", "weight_range": "sawb"}, "int8 and bipolar2 to bipolar4, not for int6"),
    ({"weight": "e2m1", "weight_range": "sawb"}, "coefficients for .*, not for e2m1"),
    ({"percentile": 0.1}, "percentile must be above 50 and at most 100, not 0.1"),
])
def test_bad_recipes(change, message):
    with pytest.raises(UserError, match=message):
        Recipe(**change).formats()


def test_refused_networks():
    net = Network(np.random.default_rng(0), (3, 6, 6))
    x = net.node("Conv", "x", weights(net, 4, 3, 3, 3), name="first")
    model = net.model(x)
    done = quantize(model, data_for(net)).model
    with pytest.raises(UserError, match=r"\(QuantizeLinear\): the network is quantized already"):
        quantize(done, data_for(net))
    odd = net.node("LpNormalization", x, name="odd")
    net.node("Conv", odd, np.ones((9, 4, 3, 3), np.float32), output="odd")
    with pytest.raises(UserError, match=r"node 'odd' \(LpNormalization\): the operator is not"):
        quantize(net.model("odd"), data_for(net))


@pytest.mark.parametrize("weight", ["mxint8", "nvfp4"])
def test_weights_in_blocks(weight):
    """A layer with a bias and one without, near to the float network."""
    net = Network(np.random.default_rng(2), (4, 5, 6))
    x = net.node("Conv", "x", weights(net, 6, 4, 3, 3), numbers(net, 6), pads=[1] * 4)
    model = net.model(net.node("Conv", net.node("Relu", x), weights(net, 3, 6, 1, 1)))
    data = data_for(net, 8)
    made = quantize(model, data, Recipe("int8", weight))
    assert made.rows[-1]["sqnr"] > (30 if weight == "mxint8" else 12)


def test_a_block_with_the_lowest_code_is_one_in_the_file():
    """-128 in a block with the largest scale: the file's format has one more code below zero."""
    net = Network(np.random.default_rng(4), (32, 2, 2))
    weight = weights(net, 3, 32, 1, 1)
    weight[:, 0] = -1.999
    data = data_for(net, 8)
    model = net.model(net.node("Conv", "x", weight))
    made = quantize(model, data, Recipe("int8", "mxint8", range="min-max"))
    graph, codes, _ = golden(made.model, data)
    conv, = graph.layers
    assert (conv.weights.images[:, 0] == -128 << 7).all()
    on_chip(graph, codes, Arch(rows=8, columns=4, weight=parse("mxint8"), largest_k=64))

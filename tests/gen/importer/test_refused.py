"""What the importer refuses, each with one message that names the place and what would do."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from systolith.gen.importer.checks import supported_operators
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ...onnx_networks import QONNX, Network


def qdq(net, x, scale=0.5, zero=0, kind=np.int8, name=None):
    scale, zero = net.constant(np.float32(scale)), net.constant(kind(zero))
    x = net.node("QuantizeLinear", x, scale, zero, name=name)
    return net.node("DequantizeLinear", x, scale, zero)


def weights(net, *shape, scale=0.25):
    codes = net.rng.integers(-127, 128, shape).astype(np.int8)
    return net.node("DequantizeLinear", codes, np.float32(scale), np.int8(0))


def network(middle=None, shape=(3, 6, 6), result=(2, 4, 4), **conv):
    """x -> quantizer -> `middle` -> convolution 'conv' -> quantizer; `middle(net, x)` may add
    nodes, and `conv` are attributes."""
    net = Network(np.random.default_rng(60), shape, opset=21)
    x = qdq(net, "x")
    x = x if middle is None else middle(net, x)
    x = net.node("Conv", x, weights(net, 2, 3, 3, 3), name="conv", **conv)
    return net, qdq(net, x), result


def model_of(net, x, shape):
    return net.model(x, shapes=[shape])


def refused(model, message):
    with pytest.raises(UserError, match=message) as error:
        load(model)
    assert "\n" not in str(error.value).strip() or "valid ONNX" in str(error.value)


# Files.

def test_files_that_are_no_onnx(tmp_path):
    path = tmp_path / "net.onnx"
    refused(path, f"cannot read {path}: No such file")
    refused(tmp_path, "cannot read .*: Is a directory")
    path.write_bytes(b"")
    refused(path, "net.onnx is no ONNX file, or it is truncated")
    path.write_text("[array]\nrows = 8\n")
    refused(path, "net.onnx is no ONNX file, or it is truncated")


def test_every_truncation_of_a_file_is_refused(tmp_path):
    content = model_of(*network()).SerializeToString()
    path = tmp_path / "net.onnx"
    for size in np.linspace(1, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:size])
        with pytest.raises(UserError):
            load(path)
    path.write_bytes(content)
    load(str(path))


def test_missing_external_data(tmp_path):
    model, path = model_of(*network()), tmp_path / "net.onnx"
    for tensor in model.graph.initializer:
        tensor.raw_data = numpy_helper.to_array(tensor).tobytes()
    external_data_helper.convert_model_to_external_data(model, location="weights.bin",
                                                        size_threshold=0)
    onnx.save(model, path)
    load(path)
    (tmp_path / "weights.bin").unlink()
    refused(path, "lies in the file 'weights.bin' beside the model, which cannot be read")


def test_old_opsets():
    net, x, shape = network()
    net.opset = 6
    refused(model_of(net, x, shape), "uses opset 6, and must use 7 or later")


def test_damaged_tensors():
    model = model_of(*network())
    tensor = next(item for item in model.graph.initializer if len(item.dims) == 4)
    tensor.dims[0] = 5
    refused(model, f"'{tensor.name}' is damaged")


# Graphs.

def test_cycles():
    model = model_of(*network())
    model.graph.node[0].input[0] = model.graph.output[0].name
    refused(model, "the network has a cycle, through the nodes 'quantizelinear0'")


def test_tensors_that_nothing_makes():
    model = model_of(*network())
    next(node for node in model.graph.node if node.name == "conv").input[0] = "nowhere"
    refused(model, "node 'conv' .Conv.: reads 'nowhere', which is no input")
    model = model_of(*network())
    model.graph.output[0].name = "nowhere"
    refused(model, "output 'nowhere' is not computed by any node")


def test_tensors_that_two_nodes_make():
    model = model_of(*network())
    model.graph.node[-1].output[0] = "x"
    refused(model, "writes 'x', which an input gives already")


def test_float_networks():
    net = Network(np.random.default_rng(61), (3, 6, 6))
    x = net.node("Conv", "x", np.ones((2, 3, 1, 1), np.float32))
    refused(net.model(x), "this is a float network: give it calibration data")


@pytest.mark.usefixtures("chip_alone")
def test_layers_that_were_left_in_float():
    net, x, _ = network()
    x = net.node("Conv", x, np.float32([[0.1, 2], [3, 500]]).reshape(2, 2, 1, 1), name="float")
    refused(model_of(net, x, (2, 4, 4)), "node 'float' .Conv.: its weights .* are plain numbers")
    net = Network(np.random.default_rng(61), (3, 6, 6), opset=21)
    x = net.node("Conv", "x", weights(net, 2, 3, 1, 1), name="first")
    refused(model_of(net, x, (2, 6, 6)), "node 'first' .*reads the input 'x' as it is; put a quant")
    net, x, _ = network()
    net.nodes = net.nodes[:-2]
    x = net.node("Conv", "conv_out", weights(net, 2, 2, 1, 1), name="second")
    refused(model_of(net, x, (2, 4, 4)),
            "node 'second' .*reads the result of 'conv' before it is quantized")


@pytest.mark.parametrize("operator, attributes, domain", [
    ("LRN", dict(size=3), ""), ("Softmax", {}, ""), ("LpNormalization", {}, ""),
    ("Bits", {}, QONNX), ("Relu", {}, "com.example")])
def test_operators_that_nobody_knows(operator, attributes, domain):
    net, x, shape = network(lambda net, x: net.node(operator, x, name="odd", domain=domain,
                                                    **attributes))
    place = f" of domain '{domain}'" if domain else ""
    refused(model_of(net, x, shape), f"node 'odd' .{operator}.: the operator{place} is not "
                                     "supported on the chip.*docs/reference/onnx.md")


def test_the_list_of_operators_is_complete():
    assert {"Conv", "Gemm", "MatMul", "Relu", "MaxPool", "Flatten", "QuantizeLinear", "FloatQuant",
            "BipolarQuant", "QLinearConv"} <= set(supported_operators())
    page = Path(__file__).parents[3] / "docs" / "reference" / "onnx.md"
    text = page.read_text().split("## Operators")[1]
    listed = set(text.split("\n\n")[2].replace("\n", " ").rstrip(". ").split(", "))
    assert listed == set(supported_operators())


@pytest.mark.parametrize("operator, domain, message", [
    ("Quant", QONNX, r"node 'made' \(Quant\): has no input"),
    ("RandomNormal", "", r"node 'made' \(RandomNormal\): the operator is not supported")])
def test_nodes_without_inputs(operator, domain, message):
    def middle(net, x):
        attributes = {} if domain else {"shape": [1, 3, 6, 6]}
        return net.node("Add", x, net.node(operator, domain=domain, name="made", **attributes))
    refused(model_of(*network(middle)), message)


def test_unknown_attributes():
    net, x, shape = network(color=3)
    refused(model_of(net, x, shape), "valid ONNX|attribute color is not supported; "
                                     "supported are auto_pad, dilations, group, kernel_shape")


@pytest.mark.parametrize("conv, message", [
    (dict(auto_pad="SAME"), "attribute auto_pad must be 'NOTSET' or 'VALID' or"),
    (dict(pads=(-1, 0, 0, 0)), "attribute pads must not be negative"),
    (dict(group=3), "attribute group must divide the 2 output channels, not 3"),
    (dict(auto_pad="SAME_UPPER", pads=(1, 1, 1, 1)), "pads must be left out where auto_pad is"),
    (dict(kernel_shape=(2, 2)), r"kernel_shape must be that of its weights, \[3, 3\]"),
    (dict(strides=(0, 1)), r"strides must be at least 1, not \[0, 1\]"),
    (dict(dilations=(3, 3)), "kernel does not fit the input of 6 x 6")])
def test_convolutions(conv, message):
    net, x, shape = network(**conv)
    # What ONNX's own checker refuses need not be found again.
    refused(model_of(net, x, shape), f"valid ONNX|node 'conv' .Conv.*{message}")


def pooled(**attributes):
    return lambda net, x: net.node("MaxPool", x, name="pool", **attributes)


@pytest.mark.parametrize("attributes, message", [
    (dict(kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 2, 1)),
     r"attribute pads must be less than kernel_shape, \[2, 2\], not 0 before and 2 after"),
    (dict(kernel_shape=(16, 2), pads=(2, 0, 1, 0)),
     "pads must be 0 where windows are larger than")])
def test_pooling(attributes, message):
    net, x, _ = network(pooled(**attributes), shape=(3, 14, 14))
    refused(net.model(x, shapes=[(2, "h", "w")]), f"node 'pool' .MaxPool.*{message}")


@pytest.mark.parametrize("middle, message", [
    (lambda net, x: net.node("Div", x, x, name="odd"), "two activations are not supported"),
    (lambda net, x: net.node("Add", np.float32(np.ones((2, 3, 6, 6))), x, name="odd"),
     "its constant of shape .* does not fit"),
    (lambda net, x: net.node("Div", np.float32(1), x, name="odd"), "must divide an activation"),
    (lambda net, x: net.node("Div", x, np.float32(0), name="odd"), "by a constant that is not 0"),
    (lambda net, x: net.node("Clip", x, np.float32(2), np.float32(1), name="odd"), "empty range"),
    (lambda net, x: net.node("Reshape", x, np.array([-1, 3, 5, 3]), name="odd"),
     "the batch dimension must stay"),
    (lambda net, x: net.node("Reshape", x, np.array([-1, 3, 6, 3]), name="r"),
     r"'conv' .*reads \[N, 3, 6, 3\] with 2 times as many images as the network has"),
    (lambda net, x: net.node("Flatten", x, axis=2, name="r"),
     r"'conv' .*reads \[N, 36\] with 3 times as many images as the network has"),
    (lambda net, x: net.node("Flatten", x, axis=0, name="odd"),
     "attribute axis must be from 1 to 3, not 0"),
    (lambda net, x: net.node("Cast", x, to=TensorProto.INT32, name="odd"), "only casts to float"),
    (lambda net, x: net.node("Clip", x, np.float32(0.3), name="odd"),
     "'conv' .*clipped to a number without a code")])
def test_what_stands_between_layers(middle, message):
    net = Network(np.random.default_rng(60), (3, 6, 6), opset=21)
    x = middle(net, net.float_quant("x", 0.5))
    if "'conv'" not in message:
        # ONNX infers nothing after QONNX's operators, so that it does not object first.
        x = net.float_quant(x, 0.5)
    weight = net.float_quant(net.constant(np.ones((2, 3, 3, 3), np.float32)), 0.5)
    x = net.node("Conv", x, weight, name="conv")
    place = "" if "conv" in message else "node 'odd' .*"
    refused(net.model(x, shapes=[(2, 4, 4)]), place + message)


def test_padding_without_a_code_for_zero():
    net, x, _ = network(lambda net, x: net.node("Add", x, np.float32(0.2)), pads=(1, 1, 1, 1))
    refused(model_of(net, x, (2, 6, 6)), "node 'conv' .*pads with zeros, and 0 has no code")


def test_shapes_that_do_not_match():
    net, x, shape = network(shape=(4, 6, 6))
    with pytest.raises(UserError, match=r"valid ONNX|its weights are for 3 channels"):
        load(model_of(net, x, shape))
    net, x, _ = network()
    refused(model_of(net, x, (2, 5, 4)), "shape")
    net = Network(np.random.default_rng(62), (3, 2, 2), opset=21)
    x = net.node("Gemm", net.node("Flatten", qdq(net, "x")), weights(net, 11, 5), name="dense")
    with pytest.raises(UserError, match=r"valid ONNX|weights are for 11 inputs, and its input has"):
        load(model_of(net, x, (5,)))


def test_the_models_own_shapes_are_held_against_ours():
    net = Network(np.random.default_rng(63), (3, 2, 2), opset=21)
    weight = net.float_quant(net.constant(np.ones((2, 3, 1, 1), np.float32)), 0.5)
    model = net.model(net.node("Conv", net.float_quant("x", 0.5), weight, name="conv"),
                      shapes=[(2, 2, 3)])
    # ONNX infers nothing after QONNX's operators.
    refused(model, r"node 'conv' .*has the shape \['N', 2, 2, 2\], and the model says \['N', 2, 2")


@pytest.mark.parametrize("shape, message", [
    ([], "must have a shape with a batch dimension first"), (["N"], "batch dimension first"),
    (["N", 3, "H", 6], r"must have fixed sizes but for the batch, not \['N', 3, 'H', 6\]")])
def test_inputs_of_unknown_size(shape, message):
    net, x, result = network()
    model = model_of(net, x, result)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    with pytest.raises(UserError, match=f"input 'x' {message}|valid ONNX"):
        load(model)


def test_inputs_of_other_types():
    net = Network(np.random.default_rng(64), (3, 6, 6), element=TensorProto.COMPLEX64)
    x = qdq(net, net.node("Cast", "x", to=TensorProto.FLOAT))
    x = net.node("Conv", x, weights(net, 2, 3, 3, 3))
    refused(model_of(net, x, (2, 4, 4)), "input 'x' must be numbers, not COMPLEX64|valid ONNX")


# Numbers.

@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_and_biases_that_are_not_finite(number):
    net = Network(np.random.default_rng(65), (3, 2, 2), opset=21)
    values = np.ones((2, 3, 1, 1), np.float32)
    values[1, 2, 0, 0] = number
    weight = net.float_quant(net.constant(values, "my_weights"), 0.5)
    model = net.model(net.node("Conv", net.float_quant("x", 0.5), weight), shapes=[(2, 2, 2)])
    refused(model, r"'my_weights' must be finite, and is -?(nan|inf) at index \[1, 2, 0, 0\]")


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT8E4M3FNUZ", "BFLOAT16"])
def test_codes_of_nan_in_short_floats(kind):
    """The tensor and the index are named before anything is said about its type."""
    net, x, shape = network()
    width = 16 if kind == "BFLOAT16" else 8
    codes = np.zeros((2, 3), f"uint{width}")
    codes[1, 2] = {"FLOAT8E4M3FNUZ": 0x80, "BFLOAT16": 0x7fc0}.get(kind, 0x7f)
    model = model_of(net, x, shape)
    model.graph.initializer.append(helper.make_tensor(
        "my_weights", getattr(TensorProto, kind), codes.shape, codes.tobytes(), raw=True))
    refused(model, r"'my_weights' must be finite, and is nan at index \[1, 2\]")


def test_constants_that_become_infinite():
    net, x, shape = network()
    x = net.node("Mul", x, net.node("Div", np.float32(1), np.float32(0), name="odd"))
    with np.errstate(divide="ignore"):
        refused(model_of(net, x, shape), "'odd_out' must be finite, and is inf")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_scales_that_are_no_scales(scale):
    net = Network(np.random.default_rng(66), (3, 6, 6), opset=21)
    x = net.node("Conv", qdq(net, "x", name="q", scale=scale), weights(net, 2, 3, 3, 3))
    refused(model_of(net, x, (2, 4, 4)), "must be finite and positive, not|must be finite, and is")


def test_weights_that_are_scaled_along_their_inputs():
    net = Network(np.random.default_rng(66), (3, 6, 6), opset=21)
    codes = net.rng.integers(-127, 128, (2, 3, 3, 3)).astype(np.int8)
    weight = net.node("DequantizeLinear", codes, np.float32([1, 2, 3]), np.int8([0, 0, 0]), axis=1)
    x = net.node("Conv", qdq(net, "x"), weight, name="conv")
    refused(model_of(net, x, (2, 4, 4)), "node 'conv' .*one for each output channel")


def test_weights_whose_zero_point_takes_them_out_of_range():
    net = Network(np.random.default_rng(66), (3, 6, 6), opset=21)
    codes = net.rng.integers(0, 1 << 16, (2, 3, 3, 3)).astype(np.uint16)
    codes.flat[:2] = 0, 65535
    weight = net.node("DequantizeLinear", codes, np.float32(1), np.uint16(100))
    x = net.node("Conv", qdq(net, "x"), weight, name="conv")
    refused(model_of(net, x, (2, 4, 4)), "node 'conv' .*are from -100 to 65435, and must be from "
                                         "-32768 to 32767: quantize weights symmetrically")


@pytest.mark.usefixtures("chip_alone")
def test_output_scales_that_are_too_small():
    net = Network(np.random.default_rng(66), (3, 6, 6), opset=21)
    x = net.node("Conv", qdq(net, "x"), weights(net, 2, 3, 3, 3), name="conv")
    x = qdq(net, x, scale=1e-12, name="q")
    refused(model_of(net, x, (2, 4, 4)), "node 'q' .*the output scale is too small")


def test_networks_that_compute_nothing():
    net = Network(np.random.default_rng(67), (3, 6, 6), opset=21)
    qdq(net, "x")
    x = net.node("Relu", "x")
    refused(net.model(x, shapes=[(3, 6, 6)]), "nothing is left for the chip: no output .* depends")


@pytest.mark.usefixtures("chip_alone")
def test_raw_results_are_not_pooled():
    net, _, _ = network()
    net.nodes = net.nodes[:-2]
    x = net.node("MaxPool", "conv_out", kernel_shape=(2, 2), strides=(2, 2), name="pool")
    refused(model_of(net, x, (2, 2, 2)),
            "node 'pool' .*whose result is an output of the network needs a quantizer")

"""Other spellings of operators: what they mean is what ONNX Runtime computes."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize

from ...float_networks import batch_norm, conv, weights
from ...onnx_networks import Network, run_onnx


def near_float(net, model):
    """The kinds of nodes that are read of the quantized model; its results are near the float
    network's."""
    images = np.float32(net.rng.standard_normal((4, *net.shape)))
    made = quantize(model, images)
    graph = load(made.model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)), images)
    exact, = run_onnx(model, images).values()
    assert 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum()) > 28
    return {node.op_type for node in made.model.graph.node}


def test_resize_of_opset_11_with_sizes_has_empty_scales():
    net = Network(np.random.default_rng(0), (3, 6, 6), opset=11)
    x = net.node("Resize", net.node("Conv", "x", weights(net, 4, 3, 3, 3)), np.float32([]),
                 np.float32([]), np.int64([1, 4, 8, 8]), mode="nearest",
                 coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = net.node("Conv", x, weights(net, 5, 4, 3, 3))
    net.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])
    graph = helper.make_graph(net.nodes, "sizes", [net.input], [
        helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 5, 6, 6])], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    images = np.float32(net.rng.standard_normal((1, 3, 6, 6)))
    made = quantize(model, images).model
    assert next(node for node in made.graph.node
                if node.op_type == "Resize").input[1:3] == ["", ""]
    graph = load(made)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)), images)
    exact = run_onnx(model, images)[x]
    assert 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum()) > 28


def test_limits_that_are_cast_like_what_they_limit():
    """As bodies of functions, and exporters without their optimizer, write Clip."""
    net = Network(np.random.default_rng(1), (3, 6, 6), opset=17)
    x = net.node("Conv", "x", weights(net, 4, 3, 3, 3))
    low, high = (net.node("CastLike", np.int64(limit), x) for limit in (0, 6))
    x = net.node("Conv", net.node("Clip", x, low, high), weights(net, 5, 4, 1, 1))
    assert "CastLike" not in near_float(net, net.model(x))


def test_gelu_of_several_operators_is_one_function():
    """Of some channels, too: nothing inside is quantized."""
    net = Network(np.random.default_rng(2), (3, 6, 6), opset=17)
    first = net.node("Split", net.node("Conv", "x", weights(net, 8, 3, 3, 3)), np.int64([4, 4]),
                     outputs=2, axis=1)
    second = net.nodes[-1].output[1]
    gate = net.node("Erf", net.node("Div", second, np.float32(np.sqrt(2))))
    x = net.node("Mul", net.node("Mul", second, np.float32(0.5)),
                 net.node("Add", gate, np.float32(1)))
    x = net.node("Concat", first, x, axis=1)
    model = net.model(net.node("Conv", x, weights(net, 3, 8, 1, 1)))
    near_float(net, model)
    made = quantize(model, np.float32(net.rng.standard_normal((4, 3, 6, 6))))
    kinds = {name: node.op_type for node in made.model.graph.node for name in node.output}
    assert all(kinds.get(node.input[0]) in (None, "Conv", "Mul", "Split")
               for node in made.model.graph.node if node.op_type == "QuantizeLinear")


def test_networks_in_training_mode_are_refused():
    net = Network(np.random.default_rng(3), (3, 6, 6), opset=17)
    x = batch_norm(net, net.node("Conv", "x", weights(net, 4, 3, 3, 3)), 4)
    x = conv(net, conv(net, net.node("Relu", x), 4, 32, norm=False), 32, 32, norm=False)
    model = net.model(x)
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    norm.attribute.append(helper.make_attribute("training_mode", 1))
    norm.output.extend(["mean", "variance"])
    with pytest.raises(UserError, match=r"evaluation mode \(PyTorch: model.eval\(\)\)"):
        quantize(model, np.float32(net.rng.standard_normal((4, 3, 6, 6))))

"""Networks whose sizes are open or computed, and parts of networks."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load
from systolith.gen.importer.sizes import Part, parse_sizes, with_known_sizes
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize

from ...onnx_exact import integer_network, qdq, weights
from ...onnx_networks import Network, run_onnx


def open_network(rng, batch="N", flatten="slice"):
    """A float network for maps of any size, flattened as exporters do, softmax after."""
    net = Network(rng, (3, 8, 8), opset=12)
    x = net.node("Relu", net.node("Conv", "x", np.float32(rng.normal(0, 0.2, (4, 3, 3, 3)))),
                 output="features")
    x = net.node("GlobalAveragePool", x)
    if flatten == "slice":
        count = net.node("Slice", net.node("Shape", x), np.array([0]), np.array([1]), np.array([0]))
        count = net.node("Cast", count, to=TensorProto.INT32)
        count = net.node("Cast", count, to=TensorProto.INT64)
        rest = net.node("Constant", value=onnx.numpy_helper.from_array(np.array([4])))
        wanted = net.node("Concat", count, rest, axis=0)
    else:
        count = net.node("Gather", net.node("Shape", x), np.array(0), axis=0)
        count = net.node("Unsqueeze", count, axes=[0])
        wanted = net.node("Concat", count, np.array([-1]), axis=0)
    x = net.node("Reshape", x, wanted)
    x = net.node("MatMul", x, np.float32(rng.normal(0, 0.5, (4, 2))), output="logits")
    model = net.model(net.node("Softmax", x, axis=1, output="y"), shapes=[(2,)])
    for n, size in enumerate((batch, 3, "height", "?")):
        dim = model.graph.input[0].type.tensor_type.shape.dim[n]
        dim.Clear()
        setattr(dim, "dim_value" if isinstance(size, int) else "dim_param", size)
    return model


@given(st.integers(0, 99), st.sampled_from(["N", -1, 1]), st.sampled_from(["slice", "gather"]),
       st.tuples(st.integers(3, 9), st.integers(3, 9)))
@settings(max_examples=10, deadline=None)
def test_calibration_data_say_what_is_open(seed, batch, flatten, sizes):
    rng = np.random.default_rng(seed)
    model, data = open_network(rng, batch, flatten), np.float32(rng.normal(0, 1, (6, 3, *sizes)))
    made = quantize(model, data)
    graph = load(made.model)
    assert graph.encoders[0].shape == (3, *sizes) and len(graph.outputs) == 1
    found = graph.decode_outputs(graph.run(graph.encode_inputs(data)))
    if batch != 1:
        # Nothing holds on to the batch of 1 with which sizes were computed.
        assert found == pytest.approx(run_onnx(made.model, data)["y"], abs=1e-5)
    for image, result in zip(data, found, strict=True):
        assert result == pytest.approx(run_onnx(model, image[None])["y"][0], abs=0.05)


def test_sizes_that_are_known_are_constants():
    model = Part({"x": (1, 3, 5, 6)}).of(open_network(np.random.default_rng(1)))
    assert "Shape" not in {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model, full_check=True)
    sizes = [size.dim_value or size.dim_param
             for size in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["N", 3, 5, 6]
    plain = with_known_sizes(model)
    assert plain is model


def test_shapes_of_quantized_networks():
    """Of opset 21 with Shape's own ends, a Size, and a resize to what was measured."""
    net, x = integer_network(np.random.default_rng(4), (2, 4, 6))
    small = qdq(net, net.node("Conv", x, weights(net, 4, 2, 2, 2), strides=[2, 2]), 4, 0)
    sizes = net.node("Concat", net.node("Shape", small, start=0, end=2),
                     net.node("Shape", x, start=2), axis=0)
    large = net.node("Resize", small, "", "", sizes, mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")
    large = qdq(net, large, 4, 0)
    count = net.node("Reshape", net.node("Div", net.node("Size", large), net.node(
        "Gather", net.node("Shape", large), np.array(0))), np.array([1]))
    flat = net.node("Reshape", large, net.node("Concat", np.array([-1]), count, axis=0))
    model = net.model(qdq(net, net.node("Gemm", flat, weights(net, 96, 3)), 64, 0), shapes=[(3,)])
    graph = load(model)
    images = np.float32(np.random.default_rng(5).normal(0, 3, (4, 2, 4, 6)))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    theirs = np.concatenate([next(iter(run_onnx(model, image[None], optimized=False).values()))
                             for image in images])
    assert np.abs(found - theirs).max() <= 64
    assert check(model).maps


def two_ends(rng):
    net, x = integer_network(rng, (3, 6, 6))
    low = qdq(net, net.node("Conv", x, weights(net, 4, 3, 3, 3), name="low"), 2, 0)
    high = qdq(net, net.node("Conv", low, weights(net, 5, 4, 3, 3), name="high"), 8, 0)
    odd = net.node("LpNormalization", high)
    last = qdq(net, net.node("Conv", qdq(net, odd, 1 / 64, 0), weights(net, 99, 5, 2, 2)), 1, 0)
    model = net.model(high, shapes=[(5, 2, 2)])
    model.graph.output.append(helper.make_tensor_value_info(last, 1, ["N", 99, 1, 1]))
    return model, low, high


def test_a_part_of_a_network():
    model, low, high = two_ends(np.random.default_rng(2))
    found = check(model)
    assert not found.maps and "LpNormalization" in found.problems[0]
    part = Part(outputs=(low, high)).of(model)
    assert check(part).maps
    assert [item.name for item in part.graph.output] == [low, high]
    first = Part(outputs=(low,)).of(model)
    onnx.checker.check_model(first, full_check=True)
    graph = load(first)
    assert [layer.name for layer in graph.layers] == ["low"]
    assert len(model.graph.output) == 2             # the model itself stays
    images = np.float32(np.random.default_rng(3).normal(0, 3, (3, 3, 6, 6)))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert np.abs(found - run_onnx(first, images)[low]).max() <= 2


def test_all_of_a_model_is_the_model_itself():
    assert Part().of("net.onnx") == "net.onnx"


@pytest.mark.parametrize("part, message", [
    (Part({"z": (1, 3, 6, 6)}), "has no input 'z'; it has x"),
    (Part({"x": (1, 3, 6)}), "has the shape (N, 3, height, ?), which cannot be 1, 3, 6"),
    (Part({"x": (1, 4, 6, 6)}), "which cannot be 1, 4, 6, 6"),
    (Part({None: (2, 3, 6, 6)}), "is the batch and must be 1 here, not 2"),
    (Part(outputs=("feature",)), "no node of the network gives a tensor 'feature'"),
    (Part(outputs=("feature",)), "like it are features"),
    (Part(outputs=("y", "y")), "named twice")])
def test_parts_that_are_not_there(part, message):
    with pytest.raises(UserError) as error:
        part.of(open_network(np.random.default_rng(0)))
    assert message in str(error.value)


def test_open_sizes_are_asked_for():
    net, x = integer_network(np.random.default_rng(0), (3, 6, 6))
    model = net.model(qdq(net, net.node("Conv", x, weights(net, 4, 3, 3, 3)), 2, 0))
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "any"
    for dim in model.graph.output[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "any"
    with pytest.raises(UserError, match=r"give them \(--shape x=SIZE"):
        load(model)
    assert load(Part({"x": (1, 3, 7, 5)}).of(model)).encoders[0].shape == (3, 7, 5)


@pytest.mark.parametrize("text, found", [
    ("x=1,3,96,96", ("x", (1, 3, 96, 96))), ("N,3,8,8", (None, (1, 3, 8, 8))),
    ("a=b=1, 2", ("a=b", (1, 2)))])
def test_sizes_on_the_command_line(text, found):
    assert parse_sizes(text) == found


@pytest.mark.parametrize("text", ["x", "x=", "x=1,N", "x=1,0", "x=1,-3", "x=1,2.5", "1,²", "1,,2"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="such as x=1,3,96,96"):
        parse_sizes(text)

"""What the host computes after the chip, against ONNX Runtime on the same real numbers."""

import re

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import QuantType
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load
from systolith.gen.importer.sizes import Part
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch

from ....onnx_exact import integer_network, qdq, weights
from ....onnx_networks import Network, quantized, run_onnx
from ..operators.test_pairs import convolution

#: Neither tables nor slopes.
CHIP = Arch(rows=4, columns=8, activation_depth=1024, weight_depth=1024, largest_k=1 << 12)


def classifier(end, final=True, outputs=("y",)):
    """An integer network whose dense layer's result, quantized where `final`, goes into `end`."""
    net, x = integer_network(np.random.default_rng(2), (3, 5, 5))
    x = qdq(net, net.node("Relu", net.node("Conv", x, weights(net, 4, 3, 3, 3))), 0.5, -128)
    x = net.node("Gemm", net.node("Flatten", x), weights(net, 10, 36), transB=1, name="gemm")
    end(net, qdq(net, x, 1.0, 4) if final else x)
    model = net.model(*outputs, shapes=[()] * len(outputs))
    for item in model.graph.output:
        item.CopyFrom(helper.make_empty_tensor_value_info(item.name))
    return onnx.shape_inference.infer_shapes(model)


def both(model, count=7):
    """(what Systolith gives, what ONNX Runtime gives), lists of arrays."""
    graph = load(model)
    images = np.float32(np.random.default_rng(3).standard_normal((count, 3, 5, 5)) * 4)
    codes = graph.run(graph.encode_inputs(images))
    found = graph.decode_outputs({name: codes[name] for name in graph.outputs})
    theirs = run_onnx(model, images, optimized=False)
    found = found if isinstance(found, dict) else {model.graph.output[0].name: found}
    assert list(found) == [item.name for item in model.graph.output]
    compile_graph(graph, CHIP)
    return list(found.values()), [theirs[name] for name in found]


ENDS = {
    "softmax": lambda net, x: net.node("Softmax", x, axis=1, output="y"),
    "logsoftmax": lambda net, x: net.node("LogSoftmax", x, axis=-1, output="y"),
    "argmax": lambda net, x: net.node("ArgMax", x, axis=1, keepdims=0, output="y"),
    "argmax kept": lambda net, x: net.node("ArgMax", x, axis=1, output="y"),
    "sigmoid": lambda net, x: net.node("Sigmoid", x, output="y"),
    "scaled": lambda net, x: net.node("Softmax", net.node("Mul", x, np.float32(0.1)), output="y"),
    "after": lambda net, x: net.node("ReduceMax", net.node("Softmax", x), np.array([1]),
                                      output="y"),
    "quantized": lambda net, x: net.node("Identity", qdq(net, net.node("Softmax", x), 1 / 256,
                                                         -128), output="y"),
    "leaky": lambda net, x: net.node("LeakyRelu", x, output="y"),
    "slopes": lambda net, x: net.node("PRelu", x, np.float32(np.arange(10) - 4) / 8, output="y"),
    "unquantized function": lambda net, x: net.node("Add", net.node("Tanh", x), np.float32(1),
                                                    output="y"),
}


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("name", ENDS)
def test_the_end_is_onnx_runtimes(name, final):
    for found, theirs in zip(*both(classifier(ENDS[name], final)), strict=True):
        assert found.shape == theirs.shape and found.dtype == theirs.dtype
        np.testing.assert_allclose(found, theirs, rtol=2e-5, atol=1e-7)


def test_several_outputs_and_the_raw_numbers_too():
    def end(net, x):
        net.node("Identity", x, output="logits")
        net.node("TopK", x, np.array([3]), axis=1, output="best", outputs=2, name="top")
        net.node("ArgMax", x, axis=1, output="class")
    model = classifier(end, outputs=("logits", "best", "top_out1", "class"))
    found, theirs = both(model)
    for one, other in zip(found, theirs, strict=True):
        assert one.dtype == other.dtype
    np.testing.assert_array_equal(found[0], theirs[0])
    np.testing.assert_array_equal(found[1], theirs[1])
    np.testing.assert_array_equal(found[3], theirs[3])
    # which of equal numbers comes first is not defined
    np.testing.assert_array_equal(np.take_along_axis(found[0], found[2], 1), found[1])


def test_a_function_that_only_the_host_reads_needs_no_table(tmp_path):
    net = Network(np.random.default_rng(0), (3, 6, 6), opset=17)
    model = net.model(net.node("Sigmoid", convolution(net, "x", 3, 4, 3)))
    data = np.float32(net.rng.standard_normal((4, 1, 3, 6, 6)))
    path = quantized(model, data, tmp_path / "m.onnx", weight_type=QuantType.QInt8)
    graph = load(path)
    assert graph.layers[0].table is None and len(graph.layers) == 1
    compile_graph(graph, CHIP)
    images = np.float32(net.rng.standard_normal((6, 3, 6, 6)))
    codes = graph.run(graph.encode_inputs(images))
    found = graph.decode_outputs({name: codes[name] for name in graph.outputs})
    theirs, = run_onnx(path, images, optimized=False).values()
    steps = np.abs(found - theirs) / np.diff(np.unique(theirs)).min()
    assert steps.max() < 1.01 and (steps > 0.01).mean() < 0.002


def test_check_says_what_the_host_does():
    model = classifier(ENDS["scaled"])
    rows = {node: became for node, _, became in check(model).nodes}
    name = next(node.name for node in model.graph.node if node.op_type == "Softmax")
    assert rows[name] == "host, after the output"


def softmax_and(outputs, quantized_weights=True):
    """A classifier, a Softmax of its results, and a dense layer of so many outputs."""
    def end(net, x):
        weight = weights(net, outputs, 10)
        if not quantized_weights:
            weight = np.float32(net.rng.standard_normal((outputs, 10)))
        soft = qdq(net, net.node("Softmax", x, name="soft"), 1 / 256, -128)
        net.node("Gemm", soft, weight, transB=1, output="y", name="last")
    return classifier(end)


@pytest.mark.parametrize("outputs, quantized_weights", [(3, True), (100, False)])
def test_little_work_that_follows_is_the_hosts_too(outputs, quantized_weights):
    model = softmax_and(outputs, quantized_weights)
    for found, theirs in zip(*both(model), strict=True):
        np.testing.assert_allclose(found, theirs, rtol=2e-5, atol=1e-6)
    work = load(model).host_work()["after"]
    assert work.macs == 10 * outputs and work.operators["Gemm"] == 1
    assert work.gives == ("y",) and "Softmax" in work.why


def test_a_middle_that_the_chip_cannot_compute_is_refused_with_the_cuts():
    model = softmax_and(100)
    with pytest.raises(UserError, match=r"'soft' \(Softmax\): the operator is not supported"
                       ) as error:
        load(model)
    first, second = re.search(r"--outputs (\S+) keeps .* --inputs (\S+) keeps",
                              str(error.value)).groups()
    for part in Part(outputs=(first,)).of(model), Part(inputs=(second,)).of(model):
        assert load(part).layers and load(part).tail is None

    net = Network(np.random.default_rng(0), (4,), opset=17)
    model = net.model(net.node("Softmax", "x", name="soft"))
    with pytest.raises(UserError, match="this is a float network"):
        load(model)


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_a_softmax_that_is_quantized_itself(opset, kind, tmp_path):
    """As quantize_static leaves a classifier."""
    net = Network(np.random.default_rng(7), (5,), opset=opset)
    x = net.node("MatMul", "x", np.float32(net.rng.standard_normal((5, 6))))
    model = net.model(net.node("Softmax", x, axis=-1))
    images = np.float32(net.rng.standard_normal((20, 5)))
    path = quantized(model, images[:, None], tmp_path / "net.onnx", activation_type=kind)
    graph = load(path)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected = next(iter(run_onnx(path, images, optimized=False).values()))
    assert (np.abs(found - expected) > 1e-6).mean() < 0.02 and found.std() > 0.1


@pytest.mark.parametrize("join", [False, True])
def test_boxes_that_are_put_in_order_after_quantizers(join):
    """As a detector's head leaves its quantizer: the host moves pixels, joins maps, and so on."""
    net = Network(np.random.default_rng(8), (3, 5, 5))
    x = qdq(net, "x", 1 / 16, 5)
    maps = [qdq(net, net.node("Conv", x, weights(net, 6, 3, 1, 1)), 1 / 4, 3) for _ in range(2)]
    if join:
        flat = [net.node("Reshape", item, np.array([0, 6, -1])) for item in maps]
        y = qdq(net, net.node("Concat", *flat, axis=2), 1 / 4, 3)
        y = net.node("Transpose", y, perm=[0, 2, 1])
    else:
        y = net.node("Reshape", maps[0], np.array([0, 2, 3, 5, 5]))
        y = net.node("Transpose", y, perm=[0, 1, 3, 4, 2])
    model = net.model(net.node("Sigmoid", qdq(net, y, 1 / 4, 3), output="y"))
    for found, theirs in zip(*both(model), strict=True):
        np.testing.assert_allclose(found, theirs, atol=1e-6)

"""What a file says of types and shapes, as exporters of all ages write it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from systolith.gen.importer.reader import load
from systolith.gen.quantize.quantize import quantize

from ...onnx_networks import Network

SHAPE = (4, 6, 6)


def network(quantized=True):
    rng = np.random.default_rng(0)
    net = Network(rng, (3, 8, 8))
    x, w = "x", np.float32(rng.standard_normal((4, 3, 3, 3)))
    if quantized:
        x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, np.float32(0.02),
                                                  np.int8(0)), np.float32(0.02), np.int8(0))
        w = net.node("DequantizeLinear", rng.integers(-9, 9, w.shape).astype(np.int8),
                     np.float32(0.1), np.int8(0))
    x = net.node("Relu", net.node("Conv", x, w, name="conv"))
    if quantized:
        x = net.node("QuantizeLinear", x, np.float32(0.1), np.int8(-128))
        x = net.node("DequantizeLinear", x, np.float32(0.1), np.int8(-128))
    return net.model(x, shapes=[SHAPE])


def no_shape(item):
    item.type.tensor_type.ClearField("shape")


def no_type(item):
    item.ClearField("type")


def no_element(item):
    item.type.tensor_type.elem_type = 0


def sizes(*numbers):
    def change(item):
        item.CopyFrom(helper.make_tensor_value_info(item.name, TensorProto.FLOAT, numbers))
    return change


CHANGES = [no_shape, no_type, no_element, sizes(0, 4, 0, 0), sizes(-1, 4, -1, -1),
           sizes("N", "C", "H", "W")]


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_outputs_and_notes_that_say_little(change, quantized):
    model = network(quantized)
    change(model.graph.output[0])
    model.graph.value_info.append(helper.make_tensor_value_info("conv_out", 1, [1, *SHAPE]))
    change(model.graph.value_info[0])
    before = model.SerializeToString()
    if not quantized:
        data = np.float32(np.random.default_rng(1).standard_normal((4, 3, 8, 8)))
        model = quantize(model, data).model
    graph = load(model)
    assert graph.decoders[0].shape == SHAPE
    assert not quantized or model.SerializeToString() == before


@pytest.mark.parametrize("batch", [0, -1, 1, "N"])
def test_a_batch_of_any_size_and_initializers_among_the_inputs(batch):
    model = network()
    sizes(batch, 3, 8, 8)(model.graph.input[0])
    model.ir_version = 3
    for item in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(item.name, item.data_type,
                                                               item.dims))
    graph = load(onnx.ModelProto.FromString(model.SerializeToString()))
    assert graph.inputs[0].shape == (3, 8, 8) and len(graph.inputs) == 1

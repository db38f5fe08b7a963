"""ResNets for 32 x 32 images with random weights, quantized to int8 by ONNX Runtime."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

__all__ = ["NETWORKS", "quantized_resnet", "resnet"]

#: name: (channels of each stage, blocks in each stage)
NETWORKS = {"ResNet-8": ((16, 32, 64), 1), "ResNet-20": ((16, 32, 64), 3)}


class _Images(CalibrationDataReader):
    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": image[None]}


def resnet(name, seed=0, size=32, classes=10):
    """The float network `name` as an `onnx.ModelProto`, batch norms folded into convolutions.

    A 3x3 convolution, stages of blocks of two (stages but the first halve the map, with a strided
    1x1 convolution beside the first block), global average pooling, a dense layer: 12,501,632
    (ResNet-8) and 40,813,184 (ResNet-20) multiply-accumulates, pooling left out.
    """
    stages, blocks = NETWORKS[name]
    rng, nodes, constants = np.random.default_rng(seed), [], []

    def node(operator, *inputs, **attributes):
        names = []
        for item in inputs:
            if isinstance(item, np.ndarray):
                constants.append(numpy_helper.from_array(item, f"c{len(constants)}"))
                item = constants[-1].name
            names.append(item)
        output = f"{operator.lower()}{len(nodes)}"
        nodes.append(helper.make_node(operator, names, [output], output, **attributes))
        return output

    def conv(x, inputs, outputs, kernel, stride):
        weight = rng.standard_normal((outputs, inputs, kernel, kernel))
        weight *= np.sqrt(2 / weight[0].size)
        return node("Conv", x, np.float32(weight), np.float32(rng.standard_normal(outputs) / 4),
                    strides=[stride] * 2, pads=[kernel // 2] * 4)

    channels = stages[0]
    x = node("Relu", conv("image", 3, channels, 3, 1))
    for stage, outputs in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = conv(node("Relu", conv(x, channels, outputs, 3, stride)), outputs, outputs, 3, 1)
            if stride != 1:
                x = conv(x, channels, outputs, 1, stride)
            x = node("Relu", node("Add", y, x))
            channels = outputs
    x = node("Flatten", node("GlobalAveragePool", x))
    weight = np.float32(rng.standard_normal((classes, channels)) / np.sqrt(channels))
    x = node("Gemm", x, weight, np.float32(rng.standard_normal(classes) / 4), transB=1)
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info("image", TensorProto.FLOAT,
                                                    ["N", 3, size, size])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", classes])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized_resnet(name, seed=0, size=32, images=4, **settings):
    """The same network as ONNX Runtime's static quantization writes it; `settings` go there."""
    rng = np.random.default_rng([seed, 1])
    data = np.float32(rng.standard_normal((images, 3, size, size)))
    settings = dict(quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8, per_channel=True) | settings
    with TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_static(resnet(name, seed, size), str(path), _Images(data), **settings)
        return onnx.load(path)

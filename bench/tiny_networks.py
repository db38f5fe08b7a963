"""Well-known networks as quantized ONNX files with random weights: their shapes, not their use.

`python bench/tiny_networks.py FOLDER` writes one file for each. Activations are int8 behind ReLU,
each with a scale and zero point of its own; weights are int8 with a scale for each output channel.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MACS", "NETWORKS", "Writer", "ds_cnn", "mobilenet", "squeezenet"]

#: Products of convolutions and dense layers; those of means not included.
MACS = {"mobilenet-v1-0.25": 7_489_664, "ds-cnn": 2_656_768, "squeezenet-1.1": 349_151_936}


class Writer:
    """Collects the nodes of a network in QDQ form. Values are names with a shape [C, H, W]."""

    def __init__(self, name, shape, seed=0):
        self.rng, self.name = np.random.default_rng(seed), name
        self.nodes, self.constants, self.shapes = [], [], {"image": tuple(shape)}
        self.macs = 0
        self.input = self.quantize("image", 1 / 32, 0)

    def _constant(self, array):
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator, inputs, shape, **attributes):
        inputs = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.shapes[name] = tuple(shape)
        return name

    def quantize(self, x, scale, zero):
        """`x` as a quantizer and its reverse leave it."""
        numbers = [self._constant(np.float32(scale)), self._constant(np.int8(zero))]
        codes = self.node("QuantizeLinear", [x, *numbers], self.shapes[x])
        return self.node("DequantizeLinear", [codes, *numbers], self.shapes[x])

    def _weights(self, shape):
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        scale = self.rng.uniform(0.8, 1.25, shape[0]) * 1.4 / (74 * np.sqrt(codes[0].size))
        zeros = np.zeros(shape[0], np.int8)
        return self.node("DequantizeLinear", [codes, np.float32(scale), zeros], shape, axis=0)

    def conv(self, x, outputs, kernel, stride=1, pads="same", depthwise=False, relu=True):
        """Convolution, bias, ReLU, quantizer. `pads` is "same" or a number."""
        channels, *size = self.shapes[x]
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = []
        for extent, k in zip(size, kernel, strict=True):
            total = max(0, (-(-extent // stride) - 1) * stride + k - extent)
            around.append((total // 2, total - total // 2) if pads == "same" else (pads, pads))
        shape = (outputs, *((extent + sum(pair) - k) // stride + 1
                            for extent, pair, k in zip(size, around, kernel, strict=True)))
        weights = self._weights((outputs, 1 if depthwise else channels, *kernel))
        bias = np.float32(self.rng.normal(0, 0.5, outputs))
        self.macs += int(np.prod(self.shapes[weights])) * shape[1] * shape[2]
        x = self.node("Conv", [x, weights, bias], shape, kernel_shape=kernel,
                      strides=(stride, stride), group=channels if depthwise else 1,
                      pads=[pair[n] for n in (0, 1) for pair in around])
        if not relu:
            return self.quantize(x, 1 / 16, 3)
        return self.quantize(self.node("Relu", [x], shape), 6 / 255, -128)

    def max_pool(self, x, kernel, stride):
        channels, *size = self.shapes[x]
        shape = (channels, *(-(-(extent - kernel) // stride) + 1 for extent in size))
        return self.node("MaxPool", [x], shape, kernel_shape=(kernel, kernel),
                         strides=(stride, stride), ceil_mode=1)

    def concat(self, *inputs):
        channels = sum(self.shapes[x][0] for x in inputs)
        shape = (channels, *self.shapes[inputs[0]][1:])
        return self.quantize(self.node("Concat", inputs, shape, axis=1), 6 / 255, -128)

    def average(self, x):
        """The mean of the whole map, [C]."""
        channels = self.shapes[x][0]
        x = self.quantize(self.node("GlobalAveragePool", [x], (channels, 1, 1)), 3 / 255, -128)
        return self.node("Flatten", [x], (channels,))

    def dense(self, x, outputs):
        weights = self._weights((outputs, *self.shapes[x]))
        self.macs += outputs * self.shapes[x][0]
        bias = np.float32(self.rng.normal(0, 0.5, outputs))
        return self.quantize(self.node("Gemm", [x, weights, bias], (outputs,), transB=1), 1 / 16, 3)

    def model(self, output):
        sizes = {name: ["N", *self.shapes[name]] for name in ("image", output)}
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes[name])
                for name in ("image", output)]
        graph = helper.make_graph(self.nodes, self.name, ends[:1], ends[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _separable(net, x, outputs, stride):
    x = net.conv(x, net.shapes[x][0], 3, stride, depthwise=True)
    return net.conv(x, outputs, 1)


#: (channels, stride) of the 13 separable convolutions of MobileNetV1 at a width of 1/4.
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2),
           (256, 1))


def mobilenet(size=96, blocks=_BLOCKS):
    """MobileNetV1 of a quarter width for two classes: MLPerf Tiny's person detection."""
    net = Writer("mobilenet-v1-0.25", (3, size, size))
    x = net.conv(net.input, 8, 3, 2)
    for outputs, stride in blocks:
        x = _separable(net, x, outputs, stride)
    return net, net.dense(net.average(x), 2)


def ds_cnn():
    """The depthwise separable network of MLPerf Tiny's keyword spotting."""
    net = Writer("ds-cnn", (1, 49, 10))
    x = net.conv(net.input, 64, (10, 4), 2)
    for _ in range(4):
        x = _separable(net, x, 64, 1)
    return net, net.dense(net.average(x), 12)


def squeezenet(size=224, classes=1000):
    """SqueezeNet 1.1: its maximum pooling has overlapping windows, its modules end in Concat."""
    net = Writer("squeezenet-1.1", (3, size, size))
    x = net.conv(net.input, 64, 3, 2, pads=0)
    for squeeze, expand, pooled in ((16, 64, True), (16, 64, False), (32, 128, True),
                                    (32, 128, False), (48, 192, True), (48, 192, False),
                                    (64, 256, False), (64, 256, False)):
        x = net.max_pool(x, 3, 2) if pooled else x
        x = net.conv(x, squeeze, 1)
        x = net.concat(net.conv(x, expand, 1), net.conv(x, expand, 3))
    return net, net.average(net.conv(x, classes, 1))


NETWORKS = {"mobilenet-v1-0.25": mobilenet, "ds-cnn": ds_cnn, "squeezenet-1.1": squeezenet}


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, make in NETWORKS.items():
        net, output = make()
        onnx.save(net.model(output), folder / f"{name}.onnx")
        print(f"{folder / name}.onnx: {net.macs:,} products")


if __name__ == "__main__":
    main()

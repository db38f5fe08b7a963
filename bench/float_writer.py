"""Float networks as ONNX files with random weights, node by node, as exporters write them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FloatWriter"]

#: Gain of weights before a function, so that what passes through keeps its size.
_GAINS = {None: 1.0, "relu": 1.41, "relu6": 1.41, "silu": 1.5, "hardswish": 1.6}


class FloatWriter:
    """Collects the nodes of a network. Values are names with a shape [C, H, W]; the input is
    "image"."""

    def __init__(self, name, shape, seed=0):
        self.rng, self.name = np.random.default_rng(seed), name
        self.nodes, self.constants, self.shapes = [], [], {"image": tuple(shape)}
        self.input, self.macs = "image", 0

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator, inputs, *shapes, **attributes):
        """The node's output, of this shape; a list where there are several."""
        inputs = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        name = f"{operator.lower()}{len(self.nodes)}"
        names = [name] if len(shapes) == 1 else [f"{name}_{n}" for n in range(len(shapes))]
        self.nodes.append(helper.make_node(operator, inputs, names, name, **attributes))
        self.shapes |= dict(zip(names, map(tuple, shapes), strict=True))
        return names[0] if len(names) == 1 else names

    def function(self, x, kind):
        """An activation function by its name; None: none."""
        shape = self.shapes[x]
        if kind is None:
            return x
        if kind == "silu":
            return self.node("Mul", [x, self.node("Sigmoid", [x], shape)], shape)
        if kind == "relu6":
            return self.node("Clip", [x, np.float32(0), np.float32(6)], shape)
        return self.node({"relu": "Relu", "hardswish": "HardSwish"}[kind], [x], shape)

    def conv(self, x, outputs, kernel, stride=1, function="relu", depthwise=False, gain=1.0,
             bias=0.1):
        """Convolution with "same" padding, and its function."""
        channels, *size = self.shapes[x]
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = []
        for extent, k in zip(size, kernel, strict=True):
            total = max(0, (-(-extent // stride) - 1) * stride + k - extent)
            around.append((total // 2, total - total // 2) if k > 1 else (0, 0))
        shape = (outputs, *(-(-extent // stride) for extent in size))
        weight = (outputs, 1 if depthwise else channels, *kernel)
        scale = gain * _GAINS[function] / np.sqrt(np.prod(weight[1:]))
        self.macs += int(np.prod(weight)) * shape[1] * shape[2]
        y = self.node("Conv", [x, np.float32(self.rng.normal(0, scale, weight)),
                               np.float32(self.rng.normal(0, bias, outputs))], shape,
                      kernel_shape=kernel, strides=(stride, stride),
                      group=channels if depthwise else 1,
                      pads=[pair[n] for n in (0, 1) for pair in around])
        return self.function(y, function)

    def up(self, x, outputs):
        """Transposed convolution that doubles rows and columns, 2 x 2 taps, and a ReLU."""
        channels, height, width = self.shapes[x]
        weight = self.rng.normal(0, 1.41 / np.sqrt(channels), (channels, outputs, 2, 2))
        self.macs += weight.size * height * width
        y = self.node("ConvTranspose", [x, np.float32(weight)], (outputs, 2 * height, 2 * width),
                      kernel_shape=(2, 2), strides=(2, 2))
        return self.function(y, "relu")

    def enlarge(self, x):
        """Twice the rows and columns, by the nearest pixel."""
        channels, height, width = self.shapes[x]
        return self.node("Resize", [x, "", np.float32([1, 1, 2, 2])],
                         (channels, 2 * height, 2 * width), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def add(self, x, y):
        return self.node("Add", [x, y], self.shapes[x])

    def concat(self, *inputs):
        channels = sum(self.shapes[x][0] for x in inputs)
        return self.node("Concat", inputs, (channels, *self.shapes[inputs[0]][1:]), axis=1)

    def halves(self, x):
        """The channels of a value in two halves."""
        channels, *size = self.shapes[x]
        half = channels // 2
        return self.node("Split", [x, np.int64([half, half])], (half, *size), (half, *size), axis=1)

    def max_pool(self, x, window, stride=1):
        channels, *size = self.shapes[x]
        pad = (window - 1) // 2 if stride == 1 or window > stride else 0
        shape = (channels, *((extent + 2 * pad - window) // stride + 1 for extent in size))
        return self.node("MaxPool", [x], shape, kernel_shape=(window, window),
                         strides=(stride, stride), pads=[pad] * 4)

    def focus(self, x):
        """Every second row and column as channels, by strided slices."""
        channels, height, width = self.shapes[x]
        parts = []
        for column, row in ((0, 0), (0, 1), (1, 0), (1, 1)):
            part = self.node("Slice", [x, np.int64([row]), np.int64([height]), np.int64([2]),
                                       np.int64([2])], (channels, height // 2, width))
            parts.append(self.node(
                "Slice", [part, np.int64([column]), np.int64([width]), np.int64([3]),
                          np.int64([2])], (channels, height // 2, width // 2)))
        return self.concat(*parts)

    def average(self, x):
        """The mean of the whole map, [C]."""
        channels = self.shapes[x][0]
        x = self.node("GlobalAveragePool", [x], (channels, 1, 1))
        return self.node("Flatten", [x], (channels,))

    def dense(self, x, outputs, function=None):
        inputs = self.shapes[x][0]
        self.macs += outputs * inputs
        weight = self.rng.normal(0, _GAINS[function] / np.sqrt(inputs), (outputs, inputs))
        return self.function(self.node(
            "Gemm", [x, np.float32(weight), np.float32(self.rng.normal(0, 0.1, outputs))],
            (outputs,), transB=1), function)

    def model(self, *outputs):
        """The network as an `onnx.ModelProto`."""
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *self.shapes[name]])
                for name in ("image", *outputs)]
        graph = helper.make_graph(self.nodes, self.name, ends[:1], ends[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

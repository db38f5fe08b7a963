"""Quantized networks as ONNX files with random weights, node by node.

Integers of 8 bits come as QuantizeLinear and DequantizeLinear, all other formats as QONNX writes
them. Weights have a scale for each output channel and keep the size of what passes through, so
that numbers neither saturate nor vanish however deep the network is.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from systolith.hw.formats import Int, parse

__all__ = ["Writer"]

#: Where QONNX's quantizers live.
_QONNX = "qonnx.custom_op.general"
#: The largest number after a ReLU, elsewhere, and of a mean.
_POSITIVE, _SIGNED, _MEAN = 6, 8, 3


class Writer:
    """Collects the nodes of a network. Values are names with a shape [C, H, W].

    Parameters
    ----------
    name : str
    shape : (channels, height, width)
        Of the input, "image".
    form : str
        The format of activations and weights.
    image : str or None
        That of the input; None: the same.
    """

    def __init__(self, name, shape, form="int8", seed=0, image=None):
        self.rng, self.name, self.form = np.random.default_rng(seed), name, parse(image or form)
        self.nodes, self.constants, self.shapes = [], [], {"image": tuple(shape)}
        self.macs = 0
        self.input = self._quantize("image", 4, True)
        self.form = parse(form)

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

    # Quantizers.

    def _quantize(self, x, largest, signed):
        """`x` as a quantizer for -largest (or 0) to `largest` leaves it."""
        form, shape = self.form, self.shapes[x]
        if form.binary:
            return self._signs(x)
        if not isinstance(form, Int):
            return self._floats(x, np.float32(largest / form.decode(form.max_code)))
        steps = (1 << form.bits) - 1
        scale = np.float32((2 if signed else 1) * largest / steps)
        zero = 0 if signed else -(1 << form.bits - 1)
        if form.bits == 8:
            numbers = [self._constant(scale), self._constant(np.int8(zero))]
            codes = self.node("QuantizeLinear", [x, *numbers], shape)
            return self.node("DequantizeLinear", [codes, *numbers], shape)
        return self._integers(x, scale, zero)

    def _integers(self, x, scale, zero):
        return self.node("Quant", [x, scale, np.float32(zero), np.float32(self.form.bits)],
                         self.shapes[x], domain=_QONNX, signed=1, narrow=0, rounding_mode="ROUND")

    def _signs(self, x):
        return self.node("BipolarQuant", [x, np.float32(1)], self.shapes[x], domain=_QONNX)

    def _floats(self, x, scale):
        form = self.form
        numbers = [np.float32(item) for item in (form.exp, form.man, form.bias,
                                                 form.decode(form.max_code))]
        return self.node("FloatQuant", [x, scale, *numbers], self.shapes[x], domain=_QONNX,
                         has_inf=0, has_nan=0, has_subnormal=1, saturation=1,
                         rounding_mode="ROUND")

    def _weights(self, shape, gain, inputs, axis=0):
        """Random weights for sums of `inputs` products, results `gain` times the inputs' size;
        `axis` counts output channels."""
        scale = np.float32(self.rng.uniform(0.8, 1.25, shape[axis]) * gain / np.sqrt(inputs))
        form = self.form
        if form == Int(8):
            codes = self.rng.integers(-127, 128, shape).astype(np.int8)
            zeros = np.zeros(shape[axis], np.int8)
            return self.node("DequantizeLinear", [codes, scale / np.float32(74), zeros], shape,
                             axis=axis)
        column = np.expand_dims(scale, [n for n in range(len(shape)) if n != axis])
        name = self._constant(np.float32(self.rng.normal(0, 1, shape)) * column)
        self.shapes[name] = tuple(shape)
        if form.binary:
            return self._signs(name)
        if isinstance(form, Int):
            return self._integers(name, column * np.float32(3 / (1 << form.bits - 1)), 0)
        return self._floats(name, column * np.float32(4 / form.decode(form.max_code)))

    # Layers.

    def conv(self, x, outputs, kernel, stride=1, pads="same", depthwise=False, relu=True,
             gain=1.4):
        """Convolution, bias, ReLU, quantizer. `pads` is "same" or a number."""
        channels, *size = self.shapes[x]
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = []
        for extent, k in zip(size, kernel, strict=True):
            total = max(0, (-(-extent // stride) - 1) * stride + k - extent)
            around.append((total // 2, total - total // 2) if pads == "same" else (pads, pads))
        shape = (outputs, *((extent + sum(pair) - k) // stride + 1
                            for extent, pair, k in zip(size, around, kernel, strict=True)))
        weight = (outputs, 1 if depthwise else channels, *kernel)
        weights = self._weights(weight, gain, np.prod(weight[1:]))
        self.macs += int(np.prod(weight)) * shape[1] * shape[2]
        return self._finish(self.node(
            "Conv", [x, weights, self._bias(outputs)], shape, kernel_shape=kernel,
            strides=(stride, stride), group=channels if depthwise else 1,
            pads=[pair[n] for n in (0, 1) for pair in around]), relu)

    def _bias(self, outputs):
        return np.float32(self.rng.normal(0, 0.25, outputs))

    def _finish(self, x, relu):
        if not relu or self.form.binary:
            return self._quantize(x, _SIGNED, True)
        return self._quantize(self.node("Relu", [x], self.shapes[x]), _POSITIVE, False)

    def up(self, x, outputs):
        """Transposed convolution that doubles rows and columns, 2 x 2 taps, and its quantizer."""
        channels, height, width = self.shapes[x]
        weights = self._weights((channels, outputs, 2, 2), 1.4, channels, axis=1)
        self.macs += channels * outputs * 4 * height * width
        return self._finish(self.node(
            "ConvTranspose", [x, weights, self._bias(outputs)], (outputs, 2 * height, 2 * width),
            kernel_shape=(2, 2), strides=(2, 2)), True)

    def add(self, x, y, relu=True):
        """The sum of two values, ReLU, quantizer."""
        return self._finish(self.node("Add", [x, y], self.shapes[x]), relu)

    def max_pool(self, x, window, stride, pad=0, ceil=False):
        """The largest of each window; `ceil`: also of windows that reach beyond the end."""
        channels, *size = self.shapes[x]
        more = stride - 1 if ceil else 0
        shape = (channels, *((extent + 2 * pad - window + more) // stride + 1 for extent in size))
        return self.node("MaxPool", [x], shape, kernel_shape=(window, window),
                         strides=(stride, stride), pads=[pad] * 4, ceil_mode=int(ceil))

    def concat(self, *inputs):
        channels = sum(self.shapes[x][0] for x in inputs)
        shape = (channels, *self.shapes[inputs[0]][1:])
        return self._quantize(self.node("Concat", inputs, shape, axis=1), _POSITIVE, False)

    def average(self, x):
        """The mean of the whole map, [C]."""
        channels = self.shapes[x][0]
        x = self._quantize(self.node("GlobalAveragePool", [x], (channels, 1, 1)), _MEAN, False)
        return self.node("Flatten", [x], (channels,))

    def average_pool(self, x, window):
        """The means over windows (rows, columns) side by side."""
        channels, *size = self.shapes[x]
        shape = (channels, *(pixels // count for pixels, count in zip(size, window, strict=True)))
        return self._quantize(self.node("AveragePool", [x], shape, kernel_shape=list(window),
                                        strides=list(window)), _MEAN, False)

    def flatten(self, x):
        """A map as a vector."""
        return self.node("Flatten", [x], (int(np.prod(self.shapes[x])),))

    def dense(self, x, outputs, relu=False):
        inputs = self.shapes[x][0]
        weights = self._weights((outputs, inputs), 1.4, inputs)
        self.macs += outputs * inputs
        return self._finish(self.node("Gemm", [x, weights, self._bias(outputs)], (outputs,),
                                      transB=1), relu)

    def model(self, output):
        """The network as an `onnx.ModelProto`."""
        sizes = {name: ["N", *self.shapes[name]] for name in ("image", output)}
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes[name])
                for name in ("image", output)]
        graph = helper.make_graph(self.nodes, self.name, ends[:1], ends[1:], self.constants)
        return helper.make_model(graph, opset_imports=[
            helper.make_opsetid("", 13), helper.make_opsetid(_QONNX, 1)], ir_version=8)


def write_all(networks):
    """Write the networks {name: function that gives (Writer, output)} into the folder that the
    command line names, or here."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, make in networks.items():
        net, output = make()
        onnx.save(net.model(output), folder / f"{name}.onnx")
        print(f"{folder / name}.onnx: {net.macs:,} products")

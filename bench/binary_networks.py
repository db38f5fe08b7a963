"""Binary networks whose first and last layers are not: cycles with signs as numbers and packed.

QONNX files with random weights: FINN's CNV with 1-bit weights and activations of 1 or 2 bits; a
residual network of ResNet-20's shapes with ReActNet's blocks (sign with an offset per channel,
binary convolution, shortcut of 8 bits); BoolNet's blocks, whose maps are k slices of one bit and
whose shortcuts are XNOR; LAB's comparisons of two maps; MoBiNet's groups; a 1-D network of 9, 17
and 33 channels for activity recognition. All on 16 x 16 int8 elements with a 64-bit bus.
With `--planes 1` networks whose first and last layers have weights of 8 bits and all others 1, on
these and on binary arrays, which compute integer layers bit plane by bit plane.
"""

import numpy as np
import onnx
from common import arguments, built, report, reported
from onnx import TensorProto, helper, numpy_helper
from systolith.hw.spec.arch import Arch

__all__ = ["NETWORKS", "Net", "binary_chip", "boolnet", "chip", "cnv", "ends_of_8_bits", "har",
           "lab", "mobinet", "residual", "with_planes"]


class Net:
    """Collects the nodes of a QONNX network; values are names."""

    def __init__(self, shape, seed=0):
        self.rng, self.shape = np.random.default_rng(seed), shape
        self.nodes, self.constants = [], []

    def node(self, operator, *inputs, **attributes):
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        output = f"{operator.lower()}{len(self.nodes)}"
        domain = "qonnx.custom_op.general" if operator in ("Quant", "BipolarQuant") else ""
        self.nodes.append(helper.make_node(operator, names, [output], name=output, domain=domain,
                                           **attributes))
        return output

    def _constant(self, array):
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.float32(array), name))
        return name

    def quant(self, x, scale, bits=8, signed=1):
        return self.node("Quant", x, scale, 0, bits, signed=signed, narrow=0,
                         rounding_mode="ROUND")

    def signs(self, x):
        return self.node("BipolarQuant", x, 1)

    def weights(self, *shape, binary=True):
        values = self.rng.standard_normal(shape)
        if not binary:
            return self.quant(values, 1 / 32)
        return self.signs(values)

    def normalized(self, x, count, size):
        """A batch normalization that brings sums of about `size` to about 1."""
        gamma = self.rng.uniform(0.5, 1.5, count)
        return self.node("BatchNormalization", x, gamma, self.rng.standard_normal(count) / 4,
                         self.rng.standard_normal(count), np.full(count, size ** 2))

    def conv(self, x, outputs, inputs, kernel=3, binary=True, group=1, **attributes):
        """`inputs` are those of each group; `kernel` is a number, or a shape."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        x = self.node("Conv", x, self.weights(outputs, inputs, *kernel, binary=binary),
                      group=group, **attributes)
        return self.normalized(x, outputs, np.sqrt(inputs * np.prod(kernel)))

    def end(self, x, inputs):
        """The mean of each channel, and ten sums of 8-bit weights."""
        x = self.quant(self.node("GlobalAveragePool", x), 1 / 64)
        x = self.node("MatMul", self.node("Flatten", x), self.weights(inputs, 10, binary=False))
        return self.model(x)

    def model(self, output):
        graph = helper.make_graph(
            self.nodes, "binary",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants)
        model = helper.make_model(graph, opset_imports=[
            helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


def cnv(bits=1, width=64, size=32, ends=False):
    """FINN's CNV: activations of `bits` bits between layers with weights of +1 and -1; of 8 bits in
    the first and the last layer where `ends` is set."""
    net = Net((3, size, size))
    x, inputs = net.quant("x", 1 / 128), 3

    def activation(x):
        return net.signs(x) if bits == 1 else net.quant(x, 0.5, bits)
    for number, outputs in enumerate((width, width, 2 * width, 2 * width, 4 * width, 4 * width)):
        x, inputs = net.conv(x, outputs, inputs, binary=number > 0 or not ends), outputs
        x = activation(x)
        if number in (1, 3):
            x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    for _ in range(6):
        size -= 2
        size //= 2 if _ in (1, 3) else 1
    x = net.node("Flatten", x)
    inputs *= size * size
    for outputs in (8 * width, 8 * width, 10):
        x = net.node("MatMul", x, net.weights(inputs, outputs, binary=outputs > 10 or not ends))
        if outputs > 10:
            x = activation(net.normalized(x, outputs, np.sqrt(inputs)))
        inputs = outputs
    return net.model(x)


def ends_of_8_bits(width=16, size=8):
    """A convolution of 8-bit weights, a binary one and a dense layer of 8-bit weights, of the
    shapes of `first8_binary_last8`."""
    net = Net((3, size, size))
    x = net.quant("x", 1 / 32)
    for inputs in (3, width):
        x = net.signs(net.conv(x, width, inputs, binary=inputs > 3, pads=[1] * 4))
    x = net.node("MatMul", net.node("Flatten", x), net.weights(width * size * size, 10,
                                                               binary=False))
    return net.model(x)


def residual(width=16, size=32, blocks=3):
    """ReActNet's blocks in the shapes of ResNet-20."""
    net = Net((3, size, size))
    x = net.quant(net.conv(net.quant("x", 1 / 32), width, 3, binary=False, pads=[1] * 4), 1 / 32)
    inputs = width
    for stage in range(3):
        outputs = width << stage
        for block in range(2 * blocks):
            s = net.signs(net.node("Add", x, net.rng.standard_normal((1, inputs, 1, 1)) / 4))
            stride = 1 + (stage > 0 and block == 0)
            y = net.quant(net.conv(s, outputs, inputs, pads=[1] * 4, strides=[stride] * 2), 1 / 32)
            if stride > 1:
                x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
                x = net.quant(net.conv(net.quant(x, 1 / 32), outputs, inputs, 1, False), 1 / 32)
            x, inputs = net.quant(net.node("Add", y, x), 1 / 32), outputs
    return net.end(x, inputs)


def boolnet(slices=4, width=32, size=16, blocks=3):
    """BoolNet's blocks: `slices` thresholds make as many signs of each channel, which a binary
    convolution in as many groups reads; the shortcut is the XNOR of two maps of signs."""
    net = Net((3, size, size))
    x = net.conv(net.quant("x", 1 / 32), width, 3, binary=False, pads=[1] * 4)
    shape, count = (1, width, 1, 1), slices * width

    def sliced(x):
        return net.node("Concat", *(net.signs(net.node(
            "Add", x, net.rng.standard_normal(shape) / 2)) for _ in range(slices)), axis=1)
    signs = sliced(net.quant(x, 1 / 32))
    for _ in range(blocks):
        y = net.signs(net.conv(signs, count, width, group=slices, pads=[1] * 4))
        y = net.signs(net.node("Mul", y, signs))
        signs = sliced(net.quant(net.conv(y, width, count, 1), 1 / 32))
    return net.end(signs, count)


def lab(width=32, size=16, blocks=3):
    """LAB's binarizer between binary layers: where the second of two depthwise convolutions of a
    channel is the larger, +1."""
    net = Net((3, size, size))
    x = net.quant(net.conv(net.quant("x", 1 / 32), width, 3, binary=False, pads=[1] * 4), 1 / 32)
    for _ in range(blocks):
        first, second = (net.quant(net.node(
            "Conv", x, net.weights(width, 1, 3, 3, binary=False), group=width, pads=[1] * 4),
            1 / 8) for _ in range(2))
        signs = net.node("Where", net.node("Greater", second, first), np.float32(1),
                         np.float32(-1))
        y = net.quant(net.conv(signs, width, width, pads=[1] * 4), 1 / 32)
        x = net.quant(net.node("Add", y, x), 1 / 32)
    return net.end(x, width)


def mobinet(width=64, size=16, group=4, blocks=3):
    """MoBiNet's middle layers: binary convolutions in groups, then of one pixel each."""
    net = Net((3, size, size))
    x = net.quant(net.conv(net.quant("x", 1 / 32), width, 3, binary=False, pads=[1] * 4), 1 / 32)
    for _ in range(blocks):
        y = net.signs(net.conv(net.signs(x), width, width // group, group=group, pads=[1] * 4))
        x = net.quant(net.node("Add", net.quant(net.conv(y, width, width, 1), 1 / 32), x), 1 / 32)
    return net.end(x, width)


def har(length=128, widths=(9, 17, 33)):
    """A 1-D network of odd numbers of channels, padded with zeros, for signals of 9 channels."""
    net = Net((widths[0], 1, length))
    x = net.signs(net.conv(net.quant("x", 1 / 32), widths[0], widths[0], (1, 3), binary=False,
                           pads=[0, 1, 0, 1]))
    for inputs, outputs in zip(widths, (*widths[1:], widths[-1]), strict=True):
        x = net.conv(x, outputs, inputs, (1, 3), pads=[0, 1, 0, 1])
        x = net.signs(net.node("MaxPool", x, kernel_shape=[1, 2], strides=[1, 2]))
    return net.end(x, widths[-1])


NETWORKS = {"CNV, W1A1": cnv, "CNV, W1A2": lambda: cnv(2), "ResNet-20 shapes, binary": residual,
            "BoolNet's blocks, k = 1": lambda: boolnet(1),
            "BoolNet's blocks, k = 4": boolnet, "LAB's comparisons": lab,
            "MoBiNet's groups": mobinet, "activity recognition, 9-17-33": har}


def chip(packed):
    """16 x 16 int8 elements with 442,368 bytes of weights and maps, with or without signs."""
    return Arch(rows=16, columns=16, depthwise=True, packed_signs=packed, activation_depth=16384,
                weight_depth=8192, accumulator_depth=2048, operand_depth=2048, post_lanes=16,
                largest_k=4608)


def binary_chip(lanes):
    """16 x 16 binary elements of so many lanes, with as many words as the int8 chip."""
    return Arch(rows=16, columns=16, lanes=lanes, activation="bipolar1", weight="bipolar1",
                bit_planes=True, plane_rows=True, tap_rows=lanes % 16 == 0, activation_depth=16384,
                weight_depth=8192, accumulator_depth=2048, post_lanes=16, largest_k=1 << 20)


def with_planes(json):
    """Print cycles of networks with 8-bit ends."""
    rows = []
    for name, model in (("8 bits, 1 bit, 8 bits", ends_of_8_bits()),
                        ("CNV, W1A1, ends of 8 bits", cnv(ends=True))):
        row = {"network": name}
        for what, arch in (("int8, numbers", chip(False)), ("int8, packed", chip(True)),
                           ("XNOR, 8 lanes", binary_chip(8)),
                           ("XNOR, 32 lanes", binary_chip(32)),
                           ("XNOR, 64 lanes", binary_chip(64))):
            row[what] = reported(built(model, arch)).cycles.total
        rows.append(row)
    report("Cycles of binary networks with first and last layers of 8 bits, 16 x 16 elements", rows,
           json)


def main():
    options = arguments(__doc__, planes=(0, "1: networks with first and last layers of 8 bits"))
    if options.planes:
        with_planes(options.json)
        return
    rows = []
    for name, network in NETWORKS.items():
        model = network()
        found = [reported(built(model, chip(packed))) for packed in (False, True)]
        macs = found[0].network.macs
        rows.append({"network": name, "MACs": macs, "cycles, numbers": found[0].cycles.total,
                     "cycles, packed": found[1].cycles.total,
                     "times": found[0].cycles.total / found[1].cycles.total})
    report("Binary networks on 16 x 16 int8", rows, options.json)


if __name__ == "__main__":
    main()

"""The trained networks as ONNX files, with QONNX quantizers."""

import numpy as np
import onnx
from networks import EXPONENT_BIAS, EXPONENT_BITS, LARGEST, MANTISSA_BITS
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Builder", "export_binary_mlp", "export_cnn"]

_QONNX = "qonnx.custom_op.general"


class Builder:
    """Collects nodes; each method appends one to `tensor` and makes its output the new one."""

    QONNX = _QONNX

    def __init__(self, input_shape):
        self.input_shape, self.tensor = input_shape, "input"
        self.nodes, self.initializers = [], {}

    def constant(self, name, value):
        self.initializers.setdefault(name, np.asarray(value, dtype=np.float32))
        return name

    def node(self, kind, name, *others, domain="", first=None, **attributes):
        inputs = [self.tensor if first is None else first, *others]
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name,
                                           domain=domain, **attributes))
        if first is None:
            self.tensor = f"{name}_out"
        return f"{name}_out"

    def float_quant(self, name, scale, first=None):
        others = [self.constant(f"{name}_scale", scale),
                  self.constant("exponent_bits", EXPONENT_BITS),
                  self.constant("mantissa_bits", MANTISSA_BITS),
                  self.constant("exponent_bias", EXPONENT_BIAS),
                  self.constant("largest", LARGEST)]
        return self.node("FloatQuant", name, *others, domain=self.QONNX, first=first, has_inf=0,
                         has_nan=0, has_subnormal=1, rounding_mode="ROUND", saturation=1)

    def bipolar_quant(self, name, first=None):
        return self.node("BipolarQuant", name, self.constant("one", 1.0), domain=self.QONNX,
                         first=first)

    def save(self, path):
        self.nodes[-1].output[0] = "logits"
        opsets = [helper.make_opsetid("", 17)]
        if any(node.domain == self.QONNX for node in self.nodes):
            opsets.append(helper.make_opsetid(_QONNX, 1))
        graph = helper.make_graph(
            self.nodes, path.stem,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
            [numpy_helper.from_array(value, name) for name, value in self.initializers.items()])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8,
                                  producer_name="systolith examples/digits/train.py")
        onnx.checker.check_model(model)
        onnx.save(model, path)


def _numpy(tensor):
    return tensor.detach().numpy()


def export_cnn(network, path):
    """Write a `Cnn`; with FloatQuant nodes if it computes quantized, else as plain float."""
    builder = Builder(["N", 1, 28, 28])

    def parameters(name, layer):
        # The weights are written as they are after rounding: whoever reads the file finds
        # exactly these numbers, in whatever precision it divides by the scale.
        weight = builder.constant(f"{name}_weight", _numpy(network.quantized_weight(layer)))
        if network.scales:
            scale = _numpy(network.weight_scale(layer.weight))
            scale = scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
            weight = builder.float_quant(f"{name}_weight_quant", scale, first=weight)
        return weight, builder.constant(f"{name}_bias", _numpy(layer.bias))

    if network.scales:
        builder.float_quant("input_quant", network.scales[0])
    for index, (conv, pooled) in enumerate(zip(network.convs, network.pooled, strict=True)):
        name = f"conv{index + 1}"
        builder.node("Conv", name, *parameters(name, conv), kernel_shape=[3, 3],
                     pads=[1, 1, 1, 1], strides=[1, 1])
        builder.node("Relu", f"{name}_relu")
        if pooled:
            builder.node("MaxPool", f"{name}_pool", kernel_shape=[2, 2], strides=[2, 2])
        if network.scales:
            builder.float_quant(f"{name}_quant", network.scales[index + 1])
    builder.node("Flatten", "flatten", axis=1)
    builder.node("Gemm", "dense", *parameters("dense", network.dense), transB=1)
    builder.save(path)


def export_binary_mlp(network, path):
    """Write a `BinaryMlp`, which must be in evaluation mode (its batch norms are constants)."""
    builder = Builder(["N", 784])
    builder.node("Sub", "input_center", builder.constant("half", 0.5))
    builder.bipolar_quant("input_quant")
    count = len(network.linears)
    for index, (linear, norm) in enumerate(zip(network.linears, network.norms, strict=True)):
        name = f"dense{index + 1}"
        # What matters of a weight is its sign: 0 and -0 count as +1, as in training.
        signs = np.where(_numpy(linear.weight).T >= 0, 1, -1)
        weight = builder.bipolar_quant(f"{name}_weight_quant",
                                       first=builder.constant(f"{name}_weight", signs))
        builder.node("MatMul", name, weight)
        builder.node("BatchNormalization", f"{name}_norm", *(
            builder.constant(f"{name}_norm_{key}", _numpy(value)) for key, value in (
                ("scale", norm.weight), ("bias", norm.bias), ("mean", norm.running_mean),
                ("variance", norm.running_var))), epsilon=norm.eps)
        if index + 1 < count:
            builder.bipolar_quant(f"{name}_quant")
    builder.save(path)

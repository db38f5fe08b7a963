"""A rounded network as an ONNX file that the importer reads, and ONNX Runtime where it can.

Integers of 8 and 16 bits, and weights of 4 bits together with them, are written as ONNX Runtime's
quantizer writes them, with QuantizeLinear and DequantizeLinear; other integers and floats with
QONNX's Quant and FloatQuant; floats that these cannot express with FormatQuant of the domain
`systolith`.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper
from systolith.gen.importer.file import OWN_DOMAIN
from systolith.gen.importer.types import ELEMENT_TYPES
from systolith.hw.formats import Format

from .rounded import RoundedNetwork

__all__ = ["even_zeros", "needed_opset", "write_model"]

_QONNX = "qonnx.custom_op.general"


def _standard(form: Format) -> int | None:
    """The ONNX type of an integer format that QuantizeLinear of opset 21 knows, else None."""
    return ELEMENT_TYPES.get(form) if form.uniform and form.width >= 4 else None


def _plain(activation: Format) -> bool:
    """Whether activations of a format are written with QuantizeLinear. Those of 4 bits are not:
    ONNX Runtime's optimizer turns them into models that it then refuses (MaxPool of int4)."""
    return _standard(activation) is not None and activation.width > 4


def needed_opset(activation: Format, weight: Format) -> int:
    """The lowest opset of a model with these formats."""
    new = _plain(activation) and (activation.width != 8 or (
        _standard(weight) is not None and weight.width != 8))
    return 21 if new else 13


def even_zeros(activation: Format) -> bool:
    """Whether zero points must be even, since Quant adds them before it rounds and the chip
    after."""
    return activation.uniform and not _plain(activation)


class _Writer:
    def __init__(self, rounded):
        self.rounded, self.network = rounded, rounded.network
        self.nodes, self.constants, self.names = [], {}, {}
        self.outputs = {item.name for item in self.network.outputs}

    def constant(self, name, array, kind=None):
        """Add a constant, once for each name; returns the name. `kind`: its ONNX type (None: the
        array's own)."""
        if name not in self.constants:
            array = np.asarray(array)
            if kind is not None:
                array = array.astype(helper.tensor_dtype_to_np_dtype(kind))
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, operator, inputs, output, domain="", **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], f"{output}_{operator}",
                                           domain=domain, **attributes))
        return output

    def quantize(self, tensor, quantizer, source, result):
        """Add nodes that quantize `source` into `result`; names of constants begin with `tensor`.
        Returns `result`."""
        form = quantizer.format
        if not _plain(form):
            return self.foreign(form, source, result, tensor, quantizer.scale, quantizer.zero)
        numbers = [self.constant(f"{tensor}_scale", np.float32(quantizer.scale)),
                   self.constant(f"{tensor}_zero_point", quantizer.zero, _standard(form))]
        codes = self.node("QuantizeLinear", [source, *numbers], f"{tensor}_quantized")
        return self.node("DequantizeLinear", [codes, *numbers], result)

    def foreign(self, form, source, result, name, scale, zero=0, narrow=0):
        """Add a quantizer to a format that ONNX's own operators do not have; returns `result`."""
        scale = self.constant(f"{name}_scale", np.float32(scale))

        def number(value):
            return self.constant(f"number_{value:g}", np.float32(value))
        if form.uniform:
            return self.node("Quant", [source, scale, number(zero), number(form.width)], result,
                             _QONNX, signed=int(form.signed), narrow=narrow, rounding_mode="ROUND")
        if form.floating and (form.special, form.lowest, form.radix) == (
                "none", "subnormal", 2):
            numbers = [form.exp, form.man, form.bias, float(form.decode(form.max_code))]
            return self.node("FloatQuant", [source, scale, *map(number, numbers)], result, _QONNX,
                             has_inf=0, has_nan=0, has_subnormal=1, saturation=1,
                             rounding_mode="ROUND")
        return self.node("FormatQuant", [source, scale], result, OWN_DOMAIN, format=form.name)

    def weights(self, node, layer):
        """Names of a layer's weights and bias, after their quantizers."""
        form, name = layer.form.wide, f"{node.name}_weight"
        plain = _plain(self.rounded.quantizer_of(node.input[0]).format)
        kind, per_slice = _standard(form) if plain else None, [1] * layer.weight.ndim
        per_slice[layer.axis] = -1
        scales = layer.scales.reshape(per_slice)
        if kind is None:
            source = self.constant(name, layer.weight)
            # Integers of blocks have one more code below zero, which a wider format must keep.
            names = [self.foreign(form, source, f"{name}_quantized", name, scales,
                                  narrow=int(layer.form.block_scale is None))]
        else:
            codes = np.rint(layer.weight / scales).astype(np.int64)
            names = [self.node("DequantizeLinear", [
                self.constant(f"{name}_quantized", codes, kind),
                self.constant(f"{name}_scale", layer.scales),
                self.constant(f"{name}_zero_point", np.zeros(len(layer.scales), int), kind)],
                f"{name}_dequantized", axis=layer.axis)]
        if layer.bias is not None:
            names.append(self.bias(node, layer, kind))
        return names

    def bias(self, node, layer, kind):
        """The name of the bias: int32 in steps of the sums where ONNX Runtime adds up integers;
        else real numbers, rounded."""
        name, steps = f"{node.name}_bias", layer.bias_steps
        if kind is None or (np.abs(steps) >= 2.0 ** 31).any():
            return self.constant(name, layer.rounded_bias)
        return self.node("DequantizeLinear", [
            self.constant(f"{name}_quantized", steps.astype(np.int32)),
            self.constant(f"{name}_scale", layer.unit.astype(np.float32)),
            self.constant(f"{name}_zero_point", np.zeros(len(steps), np.int32))],
            f"{name}_dequantized", axis=0)

    def place(self, tensor):
        """Add the quantizer of a tensor that has been written, if it has one."""
        quantizer = self.rounded.quantizers.get(tensor)
        if quantizer is None:
            return
        source, result = tensor, f"{tensor}_dequantized"
        if tensor in self.outputs:
            source, result = f"{tensor}_real", tensor
        self.names[tensor] = self.quantize(tensor, quantizer, source, result)

    def write(self):
        network = self.network
        for item in network.inputs:
            self.place(item.name)
        for node in network.nodes:
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.input[:] = [self.names.get(name, name) for name in node.input]
            layer = self.rounded.layers.get(node.name)
            if layer is not None:
                copy.input[1:] = self.weights(node, layer)
            for name in node.input:
                if name in network.constants and name in copy.input:
                    self.constant(name, network.constants[name])
            copy.output[:] = [f"{name}_real" if name in self.outputs and
                              name in self.rounded.quantizers else name for name in node.output]
            self.nodes.append(copy)
            for name in node.output:
                self.place(name)
        graph = helper.make_graph(self.nodes, network.name, network.inputs, network.outputs,
                                  list(self.constants.values()))
        opsets = [item for item in network.opsets if item.domain in ("", "ai.onnx")]
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(
            {node.domain for node in self.nodes} - {"", "ai.onnx"})]
        version = max(item.version for item in network.opsets)
        return helper.make_model(graph, opset_imports=opsets, producer_name="systolith",
                                 ir_version=10 if version > 20 else 8)


def write_model(rounded: RoundedNetwork) -> onnx.ModelProto:
    """The ONNX model of a `RoundedNetwork`."""
    return _Writer(rounded).write()

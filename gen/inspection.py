"""What every node of an ONNX model becomes: a layer or a part of one, a number format, or host
work."""

from pathlib import Path

import onnx

from . import onnx_in

__all__ = ["inspect"]

_FORMATS = {"QuantizeLinear", "DequantizeLinear", "Quant", "FloatQuant", "BipolarQuant"}


def _shape(shape):
    return " x ".join(map(str, shape))


def _described(layer, graph):
    """A layer in a few words."""
    kernel = layer.weight.shape[2:]
    height, width = layer.input_shape[1:]
    if layer.groups > 1:
        kind = "depthwise" if layer.groups == layer.inputs == len(layer.weight) else "grouped"
    else:
        kind = "dense" if kernel == (height, width) and not any(layer.pads) else "convolution"
    text = f"layer {layer.name}: {kind} {_shape(kernel)}, {layer.inputs} -> {len(layer.weight)}"
    if tuple(layer.pool) != (1, 1):
        text += f", {'sums of' if layer.pool_sum else 'max pooling'} {_shape(layer.pool)}"
    if layer.operand is not None:
        text += f", {'times' if layer.operand.product else 'plus'} {layer.operand.tensor}"
    if layer.below is not None:
        text += ", other factors below zero"
    if layer.table is not None:
        text += ", a function by table"
    if layer.channels is not None:
        text += f", some channels of {layer.input}"
    if len(layer.weight) != graph.tensors[layer.output].shape[0]:
        text += f", channels {layer.first_channel} on of {layer.output}"
    if tuple(layer.step) != (1, 1):
        text += f", every {_shape(layer.step)}th pixel from {_shape(layer.origin)}"
    return text


def inspect(path):
    """([(node, operator, what it became)] in the model's order, the `Graph`).

    Raises UserError as `onnx_in.load` does.
    """
    graph = onnx_in.load(path)
    model = path if isinstance(path, onnx.ModelProto) else onnx.load(
        Path(path), load_external_data=False)
    nodes = onnx_in.nodes_of(model.graph)
    layers = {}
    for layer in graph.layers:
        for name in layer.nodes:
            layers.setdefault(name, []).append(_described(layer, graph))
    constant = onnx_in.computed_from_constants(model.graph, nodes)
    # What no quantizer has seen yet is the host's.
    raw = {item.name for item in graph.encoders}
    rows = []
    for node in nodes:
        if node.outputs and node.outputs[0] in constant:
            became = "constant"
        elif node.name in layers:
            became = "; ".join(layers[node.name])
        elif graph.tail is not None and node.name in graph.tail.nodes:
            became = "host, behind the output"
        elif node.operator in _FORMATS:
            tensor = next((graph.tensors[item] for item in node.outputs if item in graph.tensors),
                          None)
            became = ("number format" if tensor is None else
                      f"tensor {tensor.name}: {tensor.format}, {_shape(tensor.shape)}")
        elif set(node.inputs) & raw:
            raw.update(node.outputs)
            became = "host, in front of the input"
        elif set(node.outputs) & {item.name for item in graph.decoders}:
            became = "host, behind the output"
        else:
            became = "nothing to compute"
        rows.append((node.name, node.operator, became))
    return rows, graph

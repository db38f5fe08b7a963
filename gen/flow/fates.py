"""What becomes of each node of a model: which layer it is part of, or what else."""

import onnx
from systolith.gen.importer.folding import computed_from_constants
from systolith.gen.importer.nodes import nodes_of
from systolith.sim.model.graph import Graph

__all__ = ["fates"]

_FORMATS = {"QuantizeLinear", "DequantizeLinear", "Quant", "FloatQuant", "BipolarQuant"}


def _shape(shape):
    return " x ".join(map(str, shape))


def _described(layer, graph):
    """A layer in a few words."""
    kernel, pool, place = layer.weights.shape[2:], layer.pool, layer.placement
    if layer.geometry.groups > 1:
        kind = "depthwise" if layer.depthwise else "grouped"
    else:
        kind = "dense" if layer.dense else "convolution"
    text = f"layer {layer.name}: {kind} {_shape(kernel)}, {layer.inputs} -> {len(layer.weights)}"
    if pool.size != (1, 1):
        text += f", {'sums of' if pool.sum else 'max pooling'} {_shape(pool.size)}"
        if pool.stride != pool.size:
            text += f" every {_shape(pool.stride)}"
    if layer.operand is not None:
        text += f", {'times' if layer.operand.product else 'plus'} {layer.operand.tensor}"
    if layer.leaky:
        text += ", other factors below zero"
    if layer.table is not None:
        text += ", a function by table"
    if layer.channels is not None:
        text += f", some channels of {layer.input}"
    if len(layer.weights) != graph.tensors[layer.output].shape[0]:
        text += f", channels {place.first_channel} on of {layer.output}"
    if place.step != (1, 1):
        text += f", every {_shape(place.step)}th pixel from {_shape(place.origin)}"
    return text


def fates(model: onnx.ModelProto, graph: Graph) -> list[tuple[str, str, str]]:
    """[(node, operator, what it became)] in the order of the `onnx.ModelProto` that `graph` is."""
    nodes = nodes_of(model.graph)
    layers: dict[str, list[str]] = {}
    for layer in graph.layers:
        for name in layer.nodes:
            layers.setdefault(name, []).append(_described(layer, graph))
    constant = computed_from_constants(model.graph, nodes)
    # What no quantizer has seen yet is the host's.
    raw = set(graph.input_shapes)
    before, after = (set(part.nodes) if part else set() for part in (graph.head, graph.tail))
    rows = []
    for node in nodes:
        if node.outputs and node.outputs[0] in constant:
            became = "constant"
        elif node.name in layers:
            became = "; ".join([*layers[node.name],
                                *["host, after the output"] * (node.name in after)])
        elif node.name in before:
            raw.update(node.outputs)
            became = "host, before the input"
        elif node.name in after:
            became = "host, after the output"
        elif node.operator in _FORMATS:
            tensor = next((graph.tensors[item] for item in node.outputs if item in graph.tensors),
                          None)
            became = ("number format" if tensor is None else
                      f"tensor {tensor.name}: {tensor.format}, {_shape(tensor.shape)}")
        elif set(node.inputs) & raw:
            raw.update(node.outputs)
            became = "host, before the input"
        elif set(node.outputs) & {item.name for item in graph.decoders}:
            became = "host, after the output"
        else:
            became = "nothing to compute"
        rows.append((node.name, node.operator, became))
    return rows

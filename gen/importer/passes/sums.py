"""Sums and products of two tensors, merged into the convolution that makes one of the two."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph

__all__ = ["fuse_sums"]


def fuse_sums(graph: Graph, zeros: Mapping[str, int]) -> Graph:
    """The Graph with each layer that has an operand merged into the convolution that makes one of
    the two tensors, where nothing else reads that tensor.

    `zeros`: {tensor of a sum: zero point of the tensor that its layer reads}.
    """
    layers = list(graph.layers)
    for output, zero in zeros.items():
        place = next((n for n, layer in enumerate(layers) if layer.output == output), None)
        merged = None if place is None else _merged(graph, layers, layers[place], zero)
        if place is not None and merged is not None:
            maker, layers[place] = merged
            layers = [layer for layer in layers if layer is not maker]
    return replace(graph, layers=layers)


def _merged(graph: Graph, layers: list[Conv], layer: Conv, zero: int) -> tuple[Conv, Conv] | None:
    """(the layer that makes one of the two tensors that `layer` combines, both as one layer), the
    later one where both tensors have such a layer; None where none has. `zero`: the zero point of
    the tensor that `layer` reads."""
    operand = layer.operand
    if operand is None:
        return None
    uses = Counter([*graph.outputs, *(item.input for item in layers),
                    *(item.operand.tensor for item in layers if item.operand)])
    turned = replace(operand, tensor=layer.input, operand_zero=zero)
    if not operand.product:
        turned = replace(turned, gain=operand.operand_gain, operand_gain=operand.gain)
    found = None
    for maker in layers:
        own, sides = maker.requantization, ((layer.input, zero, operand),
                                            (operand.tensor, operand.operand_zero, turned))
        for source, point, other in sides:
            if (maker.output == source and uses[source] == 1 and maker.operand is None
                    and maker.table is None and own is not None and own.zero_point == point
                    and own.offset is None
                    and maker.output_shape == layer.output_shape and not _is_binary(graph, source)):
                first = replace(own, zero_point=0, low=own.low - point, high=own.high - point)
                nodes = tuple(dict.fromkeys([*maker.nodes, *layer.nodes]))
                found = maker, replace(maker, output=layer.output, requantization=first,
                                       operand=other, nodes=nodes)
    return found


def _is_binary(graph: Graph, tensor: str) -> bool:
    """Whether the codes of a tensor are signs."""
    form = graph.tensors[tensor].format
    return form is not None and form.binary

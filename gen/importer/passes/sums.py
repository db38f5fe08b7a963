"""Sums and products of two tensors, merged into the convolution that makes one of the two."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

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
        if place is None or layers[place].operand is None:
            continue
        layer = layers[place]
        uses = Counter([*graph.outputs, *(item.input for item in layers),
                        *(item.operand.tensor for item in layers if item.operand)])
        best = None
        for swapped, source, own in ((False, layer.input, zero),
                                     (True, layer.operand.tensor, layer.operand.operand_zero)):
            number = next((n for n, item in enumerate(layers) if item.output == source), -1)
            made = layers[number] if number >= 0 else None
            if (made is not None and not graph.tensors[source].format.binary
                    and uses[source] == 1 and made.operand is None and made.table is None
                    and made.requantization.zero_point == own
                    and made.output_shape == layer.output_shape
                    and (best is None or number > best[0])):
                best = number, swapped, own
        if best is None:
            continue
        number, swapped, own = best
        made, operand = layers[number], layer.operand
        if swapped:
            operand = replace(operand, tensor=layer.input, operand_zero=zero)
            if not operand.product:
                operand = replace(operand, gain=operand.operand_gain, operand_gain=operand.gain)
        first = made.requantization
        first = replace(first, zero_point=0, low=first.low - own, high=first.high - own)
        layers[place] = replace(made, output=output, requantization=first, operand=operand,
                                nodes=dict.fromkeys([*made.nodes, *layer.nodes]))
        del layers[number]
    return replace(graph, layers=layers)

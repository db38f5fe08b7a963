"""Names and shapes of a finished network."""

from dataclasses import replace
from itertools import count

from systolith.sim.model.graph import Graph

__all__ = ["flatten_inputs", "name_layers", "trimmed"]


def trimmed(graph: Graph) -> Graph:
    """The Graph without tensors that no layer writes any more."""
    kept = [item.name for item in graph.inputs] + [layer.output for layer in graph.layers]
    return replace(graph, tensors={name: graph.tensors[name] for name in kept})


def name_layers(graph: Graph) -> Graph:
    """The Graph with a name of its own for each layer."""
    given = {layer.name for layer in graph.layers}
    taken: set[str] = set()
    layers = []
    for layer in graph.layers:
        if layer.name in taken:
            layer = replace(layer, name=next(
                name for n in count(2) if (name := f"{layer.name}_{n}") not in given | taken))
        taken.add(layer.name)
        layers.append(layer)
    return replace(graph, layers=layers)


def flatten_inputs(graph: Graph) -> Graph:
    """The Graph with each input that only dense layers read as one pixel with many channels."""
    combined = {layer.operand.tensor for layer in graph.layers if layer.operand is not None}
    tensors, dense = dict(graph.tensors), set()
    for item in graph.inputs:
        channels, height, width = item.shape
        readers = [layer for layer in graph.layers if layer.input == item.name]
        if item.name not in combined and readers and all(
                layer.dense and layer.channels is None for layer in readers):
            dense.add(item.name)
            tensors[item.name] = replace(item, shape=(channels * height * width, 1, 1))
    layers = [replace(layer, weights=layer.weights.as_pixel())
              if layer.input in dense else layer for layer in graph.layers]
    return replace(graph, inputs=[tensors[item.name] for item in graph.inputs], tensors=tensors,
                   layers=layers)

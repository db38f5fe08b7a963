"""Tensors as they lie in a chip's memories: what several layers write, each from a group on.

The post-processing writes whole groups of channels. Where the channels of a layer that writes a
part of a tensor do not fill its last group, holes follow, which no layer reads: weights for them
are 0.
"""

from dataclasses import replace

import numpy as np

from ..hw.formats import Bipolar
from ..sim.graph import Graph
from .errors import UserError

__all__ = ["arrange"]


def _places(graph, name, group):
    """Where every channel of a tensor lies, when each part begins with a group; None: as they
    are."""
    starts = sorted({conv.first_channel for conv in graph.layers if conv.output == name})
    total = graph.tensors[name].shape[0]
    places, where = np.arange(total), 0
    for start, end in zip(starts, [*starts[1:], total], strict=True):
        places[start:end] = where + np.arange(end - start)
        where = -(-(where + end - start) // group) * group
    return None if (places == np.arange(total)).all() else places


def arrange(graph, arch):
    """(the same network with tensors as the chip needs them, {tensor: places of its channels} for
    those that have holes)."""
    places = {name: where for name in dict.fromkeys(conv.output for conv in graph.layers)
              if (where := _places(graph, name, arch.group)) is not None}
    if not places:
        return graph, {}
    if isinstance(arch.activation, Bipolar):
        name = next(iter(places))
        raise UserError(f"tensor {name!r} is a Concat of parts whose channels are no multiples of "
                        f"{arch.group}, and bipolar1 has no 0 for the lanes in between; make the "
                        f"channels multiples of {arch.group}, or choose array.rows, array.lanes "
                        "and array.columns with a smaller greatest common divisor")
    combined = {conv.operand.tensor: conv for conv in graph.layers if conv.operand is not None}
    for name in combined.keys() & places.keys():
        raise UserError(f"layer {combined[name].name!r} combines its results with {name!r}, a "
                        f"Concat of parts whose channels are no multiples of {arch.group}; make "
                        "them multiples, or choose array.rows, array.lanes and array.columns with "
                        "a smaller greatest common divisor")
    tensors = {name: replace(item, shape=(int(places[name][-1]) + 1, *item.shape[1:]))
               if name in places else item for name, item in graph.tensors.items()}
    layers = []
    for conv in graph.layers:
        if conv.input in places:
            where = places[conv.input]
            conv = replace(conv, channels=where if conv.channels is None else where[conv.channels])
        if conv.output in places:
            conv = replace(conv, first_channel=int(places[conv.output][conv.first_channel]))
        layers.append(conv)
    layers = [replace(conv, input_shape=tuple(tensors[conv.input].shape)) for conv in layers]
    return Arranged(graph, tensors, layers), places


class Arranged(Graph):
    """A network whose tensors have holes: nothing writes them, and nothing needs to."""

    def __init__(self, graph, tensors, layers):
        self.name, self.inputs, self.outputs = graph.name, graph.inputs, graph.outputs
        self.encoders, self.decoders = graph.encoders, graph.decoders
        self.head, self.tail = graph.head, graph.tail
        self.tensors, self.layers = tensors, layers

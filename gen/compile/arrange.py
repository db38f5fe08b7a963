"""Tensors as they lie in a chip's memories: where several layers write one tensor, the channels of
each begin with a new group.

Post-processing writes whole groups of channels. Where a layer that writes a part of a tensor does
not fill its last group, the rest of the group is a hole, for which the layers that read the tensor
have weights of 0. An operand must have no holes: it is copied where it has some.
"""

from dataclasses import replace

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Requantization
from systolith.sim.model.weights import Weights

__all__ = ["arrange", "with_whole_operands"]


def _places(graph, name, group):
    """int64 array [channels]: the place of each channel of a tensor where every part of it begins
    with a group; None: channels stay where they are."""
    starts = sorted({conv.placement.first_channel for conv in graph.layers if conv.output == name})
    total = graph.tensors[name].shape[0]
    places, where = np.arange(total), 0
    for start, end in zip(starts, [*starts[1:], total], strict=True):
        places[start:end] = where + np.arange(end - start)
        where = -(-(where + end - start) // group) * group
    return None if (places == np.arange(total)).all() else places


def with_whole_operands(graph: Graph, arch: Arch) -> Graph:
    """The network with a layer that copies each operand that would have holes on this chip into a
    tensor of its own, without holes."""
    written = {conv.output for conv in graph.layers}
    holed = {conv.operand.tensor for conv in graph.layers if conv.operand is not None
             and conv.operand.tensor in written
             and _places(graph, conv.operand.tensor, arch.group) is not None}
    if not holed or not arch.activation.has_zero:
        return graph
    last = {conv.output: number for number, conv in enumerate(graph.layers)}
    tensors, layers = dict(graph.tensors), []
    for number, conv in enumerate(graph.layers):
        if conv.operand is not None and conv.operand.tensor in holed:
            conv = replace(conv, operand=replace(conv.operand, tensor=_whole(conv.operand.tensor)))
        layers.append(conv)
        if conv.output in holed and last[conv.output] == number:
            copy = _copy(conv, tensors[conv.output])
            tensors[copy.output] = replace(tensors[conv.output], name=copy.output)
            layers.append(copy)
    return replace(graph, tensors=tensors, layers=layers)


def _whole(name):
    return f"{name}_whole"


def _copy(writer, tensor):
    """The layer that copies a tensor; `writer` is a layer that writes it."""
    form, weights = tensor.format, writer.weights.format
    channels = tensor.shape[0]
    one, factor = weights.copying
    orders = form.ordered(form.finite_codes())
    requantization = Requantization(
        np.ones(channels, np.int64), np.full(channels, factor.bit_length() - 1),
        low=int(orders.min()), high=int(orders.max()))
    return Conv(f"{_whole(tensor.name)}_copy", tensor.name, _whole(tensor.name),
                Weights(one * np.eye(channels, dtype=np.int64)[..., None, None], weights),
                requantization=requantization, nodes=writer.nodes)


def arrange(graph: Graph, arch: Arch) -> tuple[Graph, dict[str, np.ndarray]]:
    """(the network with tensors as they lie on the chip, {tensor: int64 array [channels] of the
    places of its channels} for tensors with holes).

    Raises UserError where a tensor would have holes on a chip whose activation format has no 0."""
    places = {name: where for name in dict.fromkeys(conv.output for conv in graph.layers)
              if (where := _places(graph, name, arch.group)) is not None}
    if not places:
        return graph, {}
    if not arch.activation.has_zero:
        name = next(iter(places))
        raise UserError(f"tensor {name!r} is a Concat of parts whose channels are no multiples of "
                        f"{arch.group}, and bipolar1 has no 0 for the lanes in between; make the "
                        f"channels multiples of {arch.group}, or choose array.rows, array.lanes "
                        "and array.columns with a smaller greatest common divisor")
    combined = {conv.operand.tensor: conv for conv in graph.layers if conv.operand is not None}
    for name in combined.keys() & places.keys():
        raise ValueError(f"layer {combined[name].name!r} combines its results with {name!r}, which "
                         "has holes: with_whole_operands first")
    tensors = {name: replace(item, shape=(int(places[name][-1]) + 1, *item.shape[1:]))
               if name in places else item for name, item in graph.tensors.items()}
    layers = []
    for conv in graph.layers:
        if conv.input in places:
            where = places[conv.input]
            conv = replace(conv, channels=where if conv.channels is None else where[conv.channels])
        if conv.output in places:
            first = int(places[conv.output][conv.placement.first_channel])
            conv = replace(conv, placement=replace(conv.placement, first_channel=first))
        layers.append(conv)
    layers = [replace(conv, input_shape=tuple(tensors[conv.input].shape)) for conv in layers]
    return Arranged(graph, tensors, layers), places


class Arranged(Graph):
    """A network whose tensors have holes, which no layer writes. Made from a `Graph` without
    checking that each tensor is written as a whole."""

    def __init__(self, graph: Graph, tensors: dict[str, Tensor], layers: list[Conv]):
        self.name, self.inputs, self.outputs = graph.name, graph.inputs, graph.outputs
        self.encoders, self.decoders = graph.encoders, graph.decoders
        self.head, self.tail = graph.head, graph.tail
        self.tensors, self.layers = tensors, layers

"""Removing copies: layers write directly where a copy would write, or read directly what it would
read.

While a network is read, Concat, Pad, Split and the like become layers that copy codes, which is
always right, but takes time on the chip.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count as count_from
from math import prod

import numpy as np
from systolith.gen.importer.copies import join_pads
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph
from systolith.sim.model.placement import Placement

__all__ = ["remove_copies"]


def _place(layer):
    """What a layer writes, and no other layer does."""
    return layer.output, layer.placement


def remove_copies(graph: Graph, copies: Sequence[Conv]) -> Graph:
    """The Graph without the copies that are not needed.

    `copies` are layers that only copy codes; some are the graph's, or write what a layer of the
    graph writes. They are removed in this order.
    """
    layers = dict(enumerate(graph.layers))      # numbers tell which is which as layers change
    places = {_place(layer): n for n, layer in layers.items()}
    numbers = [places[_place(copy)] for copy in copies if _place(copy) in places]
    for copy in numbers:
        layers = (_read_from_source(graph, layers, copy) or _written_to_target(graph, layers, copy)
                  or layers)
    left: dict[str, list[int]] = {}
    for copy in numbers:
        if copy in layers:
            left.setdefault(layers[copy].input, []).append(copy)
    for source, some in left.items():
        layers = _split(graph, layers, source, some) or layers
    return replace(graph, layers=list(layers.values()))


# Each of these takes {number: layer} in the network's order and returns another one; None where it
# can do nothing.

def _split(graph, layers, source, copies):
    """The layers with one that only copies of some of its channels read split into one layer for
    each copy, which writes what the copy would write; None where that would take more passes."""
    makers = [n for n, layer in layers.items() if layer.output == source]
    count = graph.tensors[source].shape[0]
    if len(makers) != 1 or source in graph.outputs or _is_input(graph, source) or not all(
            copy in layers for copy in copies):
        return None
    maker, moves = layers[makers[0]], [layers[copy] for copy in copies]
    parts = [_channels(copy, count) for copy in moves]
    readers = [n for n, layer in layers.items()
               if layer.input == source or _combines(layer, source)]
    together, groups = np.concatenate(parts), maker.geometry.groups
    if (len(readers) != len(copies) or len(np.unique(together)) < len(together)
            or maker.operand is not None or maker.placement != Placement()
            or (groups > 1 and not maker.depthwise)
            or (groups > 1 and not maker.weights.format.has_zero)
            or any(any(copy.geometry.pads) or copy.geometry.stride != (1, 1) for copy in moves)
            or not _worth_splitting(maker, parts)):
        return None
    width = graph.tensors[maker.input].shape[0]
    inputs = _channels(maker, width)
    names = {layer.name for layer in layers.values()}
    made = []
    for n, (copy, own) in enumerate(zip(moves, parts, strict=True)):
        whole = _whole(inputs[own] if maker.depthwise else inputs, width)
        name = maker.name if n == 0 else next(
            text for m in count_from(n + 1) if (text := f"{maker.name}_{m}") not in names)
        names.add(name)
        made.append(replace(
            maker, name=name, output=copy.output, weights=maker.weights.of_outputs(own),
            channels=whole,
            geometry=replace(maker.geometry, groups=len(own) if maker.depthwise else 1),
            bias=maker.bias[own], pool=maker.pool.of_channels(own),
            requantization=maker.requantization and maker.requantization.of_channels(own),
            placement=copy.placement, nodes=dict.fromkeys([*maker.nodes, *copy.nodes])))
    split = list(zip(count_from(max(layers) + 1), made))
    return {key: layer for n, old in layers.items() if n not in copies
            for key, layer in (split if n == makers[0] else [(n, old)])}


#: Rows and columns of a typical array; whether splitting is worth it hardly depends on them.
_SIDE = 16


def _worth_splitting(maker, parts):
    """Whether several layers of some channels each take no more passes than one layer of all
    channels and its copies."""
    columns = sum(-(-len(own) // _SIDE) for own in parts)
    more = columns - -(-len(maker.weights) // _SIDE)
    deep = 1 if maker.geometry.groups > 1 else -(-prod(maker.weights.shape[1:]) // _SIDE)
    copied = sum(len(np.unique(own // _SIDE)) * -(-len(own) // _SIDE) for own in parts)
    return more * deep <= copied + len(parts)


def _is_input(graph, name):
    return any(item.name == name for item in graph.inputs)


def _combines(layer, name):
    """Whether a layer combines its results with a tensor."""
    return layer.operand is not None and layer.operand.tensor == name


def _channels(layer, count):
    return np.arange(count) if layer.channels is None else layer.channels


def _whole(channels, count):
    return None if len(channels) == count and (channels == np.arange(count)).all() else channels


def _may_pick(layer):
    """Whether a layer can read some of a tensor's channels: it needs weights with a zero, and a
    depthwise layer with a kernel larger than 1 x 1, which the chip computes in its own way, would
    take longer."""
    return layer.weights.format.has_zero and (
        layer.geometry.groups == 1 or layer.weights.shape[2:] == (1, 1))


def _pad_code(graph, reader, name):
    """The code in another tensor's format of what a layer pads with; None: there is none, or
    padding contributes nothing."""
    old, new = (graph.tensors[item].format for item in (reader.input, name))
    pad_code = reader.geometry.pad_code
    if pad_code is None or old == new:
        return pad_code
    number = old.decode(pad_code)
    code = int(new.encode(number))
    return code if new.decode(code) == number else None


def _joined_edges(graph, copy, reader):
    """The geometry of a reader of a copy when it reads the copy's source instead; None where no
    geometry does."""
    outer, own = copy.geometry, reader.geometry
    if outer.padded and own.padded and (
            (outer.pad_code, outer.replicate) != (own.pad_code, own.replicate)):
        return None
    pads, code = join_pads(outer.pads, own.pads), _pad_code(graph, reader, copy.input)
    if pads is None or (code is None and own.pad_code is not None):
        return None
    if outer.padded:
        return replace(own, pads=pads, pad_code=outer.pad_code, replicate=outer.replicate)
    return replace(own, pads=pads, pad_code=code)


def _read_from_source(graph, layers, number):
    """The layers without a copy, whose readers all read its source instead; None where one of them
    cannot."""
    copy = layers[number]
    count = graph.tensors[copy.input].shape[0]
    picked = _whole(_channels(copy, count), count)
    if copy.output in graph.outputs or copy.placement.step != (1, 1) or (
            copy.geometry.stride != (1, 1)) or sum(
            layer.output == copy.output for layer in layers.values()) > 1:
        return None
    changed = {}
    for n, layer in layers.items():
        if _combines(layer, copy.output):
            return None
        if layer.input != copy.output:
            continue
        geometry = _joined_edges(graph, copy, layer)
        if geometry is None or (picked is not None and not _may_pick(layer)):
            return None
        channels = _channels(copy, count)[_channels(layer, len(copy.weights))]
        changed[n] = replace(layer, input=copy.input, geometry=geometry,
                             channels=_whole(channels, count),
                             nodes=_after(copy.nodes, layer.nodes))
    return _without(layers | changed, number)


def _after(names, others):
    """Names of nodes, and those of others that are not among them."""
    return *names, *(name for name in others if name not in names)


def _without(layers, number):
    return {n: layer for n, layer in layers.items() if n != number}


def _written_to_target(graph, layers, number):
    """The layers without a copy, where the layers that write its source write its target instead;
    None where they cannot."""
    copy = layers[number]
    source, target = copy.input, copy.output
    count = graph.tensors[source].shape[0]
    if (_is_input(graph, source) or source in graph.outputs or any(copy.geometry.pads)
            or copy.geometry.stride != (1, 1)
            or _whole(_channels(copy, count), count) is not None):
        return None
    readers = [layer for n, layer in layers.items() if layer.input == source and n != number]
    if any(_combines(layer, source) or (_combines(layer, target) and layer.output == source)
           for layer in layers.values()):
        return None
    # An operand has the placement of its layer's results: at the start of a tensor.
    if copy.placement != Placement() and any(
            layer.output == source and layer.operand is not None for layer in layers.values()):
        return None
    sizes = [graph.tensors[name].shape[1:] for name in (source, target)]
    if readers and (sizes[0] != sizes[1] or not all(map(_may_pick, readers))
                    or any(reader.output == target for reader in readers)):
        return None
    changed = {}
    for n, layer in _without(layers, number).items():
        if layer.output == source:
            layer = replace(layer, output=target, placement=layer.placement.inside(copy.placement),
                            nodes=_after(layer.nodes, copy.nodes))
        if layer.input == source:
            geometry = replace(layer.geometry, pad_code=_pad_code(graph, layer, target))
            layer = replace(layer, input=target, geometry=geometry,
                            channels=copy.placement.first_channel + _channels(layer, count))
        changed[n] = layer
    return changed

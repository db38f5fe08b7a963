"""Doing without copies: layers write straight into what a copy would make, or read straight from
what it would take.

While a network is read, Concat, Pad, Split and their like are layers that copy codes, which is
always right, and costs time on the chip.
"""

from dataclasses import replace
from itertools import count as count_from

import numpy as np
from systolith.gen.importer.copies import join_pads

__all__ = ["remove_copies"]


def _place(layer):
    """What a layer writes, and so what no other layer writes."""
    return layer.output, layer.first_channel, tuple(layer.step), tuple(layer.origin)


def remove_copies(graph, copies):
    """The Graph without the copies that are not needed.

    `copies`: layers of which some are the graph's, or write what a layer of the graph writes, and
    which do nothing but copy codes. The order in which they are removed is theirs.
    """
    # Copies of the layers, which the functions below change.
    layers = [replace(layer, nodes=list(layer.nodes)) for layer in graph.layers]
    places = {_place(layer): layer for layer in layers}
    copies = [places[_place(copy)] for copy in copies if _place(copy) in places]
    for copy in copies:
        if not _read_from_source(graph, layers, copy):
            _write_to_target(graph, layers, copy)
    copies = [copy for copy in copies if any(copy is layer for layer in layers)]
    for source in dict.fromkeys(copy.input for copy in copies):
        _split(graph, layers, source, [copy for copy in copies if copy.input == source])
    return replace(graph, layers=layers)


def _split(graph, layers, source, copies):
    """Split a layer whose output is read only by copies of some channels: one layer for each copy,
    which writes to the copy's place, where that takes no more passes.
    """
    makers = [n for n, layer in enumerate(layers) if layer.output == source]
    count = graph.tensors[source].shape[0]
    if len(makers) != 1 or source in graph.outputs or _is_input(graph, source):
        return
    maker, parts = layers[makers[0]], [_channels(copy, count) for copy in copies]
    readers = [layer for layer in layers if layer.input == source or _combines(layer, source)]
    together = np.concatenate(parts)
    depthwise = maker.groups > 1 and maker.groups == len(maker.weight) and (
        maker.weight.shape[1] == 1)
    if (len(readers) != len(copies) or len(np.unique(together)) < len(together)
            or maker.operand is not None or maker.step != (1, 1) or any(maker.origin)
            or maker.first_channel or (maker.groups > 1 and not depthwise)
            or (maker.groups > 1 and maker.weight_format.zero_code is None)
            or any(any(copy.pads) or copy.stride != (1, 1) for copy in copies)
            or not _worth_splitting(maker, parts)):
        return
    inputs = _channels(maker, graph.tensors[maker.input].shape[0])
    names = {layer.name for layer in layers}
    made = []
    for n, (copy, own) in enumerate(zip(copies, parts, strict=True)):
        own_inputs = inputs[own] if depthwise else inputs
        whole = _whole(own_inputs, graph.tensors[maker.input].shape[0])
        name = maker.name if n == 0 else next(
            text for m in count_from(n + 1) if (text := f"{maker.name}_{m}") not in names)
        names.add(name)
        made.append(replace(
            maker, name=name, output=copy.output, weight=maker.weight[own], channels=whole,
            groups=len(own) if depthwise else 1, bias=maker.bias[own],
            multiplier=maker.multiplier[own], shift=maker.shift[own],
            addend=maker.addend[own], ties=maker.ties[own],
            below=None if maker.below is None else tuple(item[own] for item in maker.below),
            least=None if maker.least is None else maker.least[own],
            first_channel=copy.first_channel, step=copy.step, origin=copy.origin,
            nodes=list(dict.fromkeys([*maker.nodes, *copy.nodes]))))
    layers[makers[0]:makers[0] + 1] = made
    for copy in copies:
        _drop(layers, copy)


#: Rows and columns of an array, about: what makes more layers worth it does not depend much on it.
_SIDE = 16


def _worth_splitting(maker, parts):
    """Whether several layers of some channels each take no more passes than one layer of all
    channels and its copies."""
    columns = sum(-(-len(own) // _SIDE) for own in parts)
    more = columns - -(-len(maker.weight) // _SIDE)
    deep = 1 if maker.groups > 1 else -(-int(np.prod(maker.weight.shape[1:])) // _SIDE)
    copied = sum(len(np.unique(own // _SIDE)) * -(-len(own) // _SIDE) for own in parts)
    return more * deep <= copied + len(parts)


def _is_input(graph, name):
    return any(item.name == name for item in graph.inputs)


def _drop(layers, copy):
    layers[:] = [layer for layer in layers if layer is not copy]


def _combines(layer, name):
    """Whether a layer combines its results with a tensor."""
    return layer.operand is not None and layer.operand.tensor == name


def _channels(layer, count):
    return np.arange(count) if layer.channels is None else layer.channels


def _whole(channels, count):
    return None if len(channels) == count and (channels == np.arange(count)).all() else channels


def _may_pick(layer):
    """Whether a layer can read some channels of many: with weights that have a zero, and at no
    cost unless it is depthwise with a kernel, which the chip computes in a way of its own."""
    return layer.weight_format.zero_code is not None and (
        layer.groups == 1 or layer.weight.shape[2:] == (1, 1))


def _pad_code(graph, reader, name):
    """The code in another tensor's format of what a layer pads with; None: it has none, or pads
    with nothing."""
    old, new = (graph.tensors[item].format for item in (reader.input, name))
    if reader.pad_code is None or old == new:
        return reader.pad_code
    number = old.decode(reader.pad_code)
    code = int(new.encode(number))
    return code if new.decode(code) == number else None


def _read_from_source(graph, layers, copy):
    """Make all readers of a copy read from its source instead; False if one of them cannot."""
    count = graph.tensors[copy.input].shape[0]
    picked = _whole(_channels(copy, count), count)
    if copy.output in graph.outputs or copy.step != (1, 1) or copy.stride != (1, 1) or sum(
            layer.output == copy.output for layer in layers) > 1:
        return False
    if any(_combines(layer, copy.output) for layer in layers):
        return False
    readers = [layer for layer in layers if layer.input == copy.output]
    for reader in readers:
        if picked is not None and not _may_pick(reader):
            return False
        if any(p > 0 for p in copy.pads) and any(p > 0 for p in reader.pads) and (
                (copy.pad_code, copy.replicate) != (reader.pad_code, reader.replicate)):
            return False
        if join_pads(copy.pads, reader.pads) is None:
            return False
    codes = [_pad_code(graph, reader, copy.input) for reader in readers]
    if any(code is None and reader.pad_code is not None
           for code, reader in zip(codes, readers, strict=True)):
        return False
    for reader, code in zip(readers, codes, strict=True):
        channels = _channels(copy, count)[_channels(reader, len(copy.weight))]
        if any(p > 0 for p in copy.pads):
            code, reader.replicate = copy.pad_code, copy.replicate
        reader.input, reader.pad_code = copy.input, code
        reader.channels = _whole(channels, count)
        reader.pads = join_pads(copy.pads, reader.pads)
        reader.nodes = [*copy.nodes, *(node for node in reader.nodes if node not in copy.nodes)]
    _drop(layers, copy)
    return True


def _write_to_target(graph, layers, copy):
    """Make the layers that write the source of a copy write to its target instead."""
    source, target = copy.input, copy.output
    count = graph.tensors[source].shape[0]
    if (_is_input(graph, source) or source in graph.outputs or any(copy.pads)
            or copy.stride != (1, 1)
            or _whole(_channels(copy, count), count) is not None):
        return
    readers = [layer for layer in layers if layer.input == source and layer is not copy]
    if any(_combines(layer, source) or (_combines(layer, target) and layer.output == source)
           for layer in layers):
        return
    # Operands lie like the results of their layer: at the beginning of a tensor.
    if any(layer.output == source and layer.operand is not None for layer in layers) and (
            copy.first_channel or copy.step != (1, 1) or any(copy.origin)):
        return
    sizes = [graph.tensors[name].shape[1:] for name in (source, target)]
    if readers and (sizes[0] != sizes[1] or not all(map(_may_pick, readers))
                    or any(reader.output == target for reader in readers)):
        return
    for layer in layers:
        if layer.output == source:
            layer.output = target
            layer.first_channel += copy.first_channel
            layer.origin = tuple(copy.origin[n] + layer.origin[n] * copy.step[n] for n in (0, 1))
            layer.step = tuple(copy.step[n] * layer.step[n] for n in (0, 1))
            layer.nodes += [node for node in copy.nodes if node not in layer.nodes]
    for reader in readers:
        reader.input, reader.pad_code = target, _pad_code(graph, reader, target)
        reader.channels = copy.first_channel + _channels(reader, count)
    _drop(layers, copy)

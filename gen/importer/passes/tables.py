"""Removing layers that only look up codes: the layer that makes the codes looks them up, or the
host does."""

from dataclasses import replace

import numpy as np
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.graph import Graph
from systolith.sim.model.placement import Placement

__all__ = ["fuse_tables", "to_host"]


def _monotone(table):
    return bool((np.diff(table) >= 0).all())


def fuse_tables(graph: Graph) -> Graph:
    """The Graph with each layer that only looks up codes merged into the layers that make the
    codes, where nothing else reads these."""
    layers = list(graph.layers)
    for lookup in [layer for layer in layers if layer.table is not None]:
        if not _is_lookup(lookup):
            continue
        source = lookup.input
        makers = [layer for layer in layers if layer.output == source]
        readers = [layer for layer in layers if layer.input == source
                   or (layer.operand is not None and layer.operand.tensor == source)]
        if source in graph.outputs or not makers or len(readers) > 1 or any(
                not _takes(layer, lookup, len(makers)) for layer in makers):
            continue
        place = next(n for n, layer in enumerate(layers) if layer is lookup)
        del layers[place]
        for n, layer in enumerate(layers):
            if any(layer is maker for maker in makers):
                layers[n] = _looking_up(layer, lookup)
    return replace(graph, layers=layers)


def _is_lookup(layer):
    """Whether a layer only looks up codes in a table, and perhaps pools them."""
    own = layer.requantization
    return (layer.operand is None and layer.channels is None
            and layer.weights.shape[1:] == (1, 1, 1)
            and layer.geometry == Geometry(groups=len(layer.weights)) and not layer.pool.sum
            and layer.placement == Placement() and own.zero_point == 0
            and not layer.bias.any() and not own.addend.any()
            and len(set(layer.weights.images.flat)) == 1 and (own.multiplier == 1 << 25).all())


def _takes(maker, lookup, makers):
    """Whether a layer, one of `makers` that write what `lookup` reads, can do the lookup."""
    limits, read = maker.limits, lookup.requantization
    if limits is None or maker.table is not None or limits.low < read.low or (
            limits.high > read.high):
        return False
    own, after = maker.pool, lookup.pool
    if maker.operand is not None or own.sum:
        return after.nothing
    if own.nothing:
        return makers == 1 or after.nothing
    # Max pooling runs after the table lookup.
    return makers == 1 and _monotone(lookup.table) and (
        after.nothing or own.then(after) is not None)


def _looking_up(maker, lookup):
    """The layer `maker` with the lookup merged into it."""
    limits, least = maker.limits, lookup.requantization.low
    table = lookup.table[limits.low - least:limits.high - least + 1]
    own, after = maker.pool, lookup.pool
    pool = own if after.nothing else after if own.nothing else own.then(after)
    return replace(maker, output=lookup.output, table=table, pool=pool,
                   nodes=dict.fromkeys([*maker.nodes, *lookup.nodes]))


def to_host(graph: Graph) -> Graph:
    """The Graph without the table lookups whose results only the host reads: decoders look these
    numbers up."""
    read = {name for layer in graph.layers for name in (
        layer.input, *([layer.operand.tensor] if layer.operand else []))}
    inputs = {item.name for item in graph.inputs}
    layers, outputs, decoders = list(graph.layers), list(graph.outputs), list(graph.decoders)
    for layer in [item for item in layers if item.table is not None and _is_lookup(item)]:
        name, source = layer.output, layer.input
        mine = [item for item in decoders if item.tensor == name]
        if name in read or source in inputs or not layer.pool.nothing or sum(
                item.output == name for item in layers) > 1 or any(
                item.scale is not None and item.offset is not None
                and len(set(item.scale)) + len(set(item.offset)) > 2 for item in mine):
            continue
        tensor, own = graph.tensors[name], layer.requantization
        assert tensor.format is not None and layer.table is not None and own is not None
        codes = tensor.format.from_ordered(layer.table)[None, None, None]
        for n, decoder in enumerate(decoders):
            if decoder.tensor == name:
                scale, offset = (item if item is None else item[:1]
                                 for item in (decoder.scale, decoder.offset))
                one = replace(decoder, scale=scale, offset=offset)
                decoders[n] = replace(
                    decoder, function=(own.low, one.reals(codes, tensor).ravel()),
                    tensor=source, scale=None, offset=None, low=None, high=None)
        layers = [item for item in layers if item is not layer]
        outputs = list(dict.fromkeys(source if item == name else item for item in outputs))
    return replace(graph, layers=layers, outputs=outputs, decoders=decoders)

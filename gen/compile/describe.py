"""The description of a program for the host: `Program.host`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod

import numpy as np
from systolith.hw.spec import host
from systolith.hw.spec.host import Host, Taps
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.narrow import width_of
from systolith.sim.model.graph import Graph

from .alloc import Sections
from .layer import Layer
from .legal import accumulator_need
from .maps import Places, vector_of
from .parameters import parameter_tail
from .pass_order import pass_order, stored_passes
from .plan import Plan
from .stream import Stream

__all__ = ["describe"]


def _input(name, shape, graph, taps, place, starts):
    return host.Input(
        name=name, offset=starts[place.section] + place.offset, bytes=place.size,
        stride=place.stride, words=place.words,
        word_bytes=place.word_bytes,
        shape=tuple(graph.tensors[name].shape), map=tuple(shape), layout="activation", taps=taps,
        note=None if taps is None else "first layer's taps are laid out by the host"
        if taps.windows is None else "the chip makes windows of the first layer's rows")


def _output(name, shape, graph, raw, place, starts, lanes):
    mine, channels = tuple(graph.tensors[name].shape), lanes.get(name)
    return host.Output(
        name=name, offset=starts[place.section] + place.offset, bytes=place.size,
        stride=place.stride, map=tuple(shape),
        shape=mine if channels is None else (len(channels), *mine[1:]),
        channels=_numbers(channels), layout="raw" if raw else "activation")


def _numbers(array):
    """The numbers of an array as a tuple; None for None."""
    return None if array is None else tuple(int(n) for n in array)


def _kind(conv):
    """Kind of a layer for reports: "dense" where the kernel covers the map, else "conv"."""
    return "dense" if conv.dense else "conv"


def _operand(operand):
    """What a layer's results are combined with, or None."""
    return operand and host.Operand(operand.tensor, "product" if operand.product else "sum")


def _array(conv, layer, plan, offsets, starts):
    """The `ArrayView` of a layer; `offsets` are those of its constants in their sections."""
    above, place, tail = layer.from_above, conv.placement, parameter_tail(layer)
    return host.ArrayView(
        images=layer.images, y=host.Axis(**vars(layer.y)), x=host.Axis(**vars(layer.x)),
        in_order=layer.in_order, origin=place.origin, step=place.step,
        first_group=place.first_channel // layer.arch.group, groups=layer.groups,
        above=above and host.Above(tuple(above.taps), above.results, above.step),
        passes=tuple(tuple(box for *_, box in pass_order(layer, plan.parts, block))
                     for block in range(layer.column_blocks)),
        weights=starts["weights"] + offsets["weights"],
        parameters=starts["parameters"] + offsets["parameters"],
        table=starts["tables"] + offsets["tables"],
        weight_bytes=tuple(map(layer.stored.word_bytes, range(layer.column_blocks))),
        **_stored(layer, plan), height=layer.height, side=3 if layer.part else layer.side,
        narrow=layer.narrow or None,
        last_parameters=tail if tail < layer.arch.parameter_bytes else None,
        weight_pool=None if layer.weight_pool is None else starts["pools"] + offsets["pools"])


def _stored(layer, plan):
    """Fields of `ArrayView` that say which boxes have the same weights."""
    if not layer.constant and layer.planes == 1 and not layer.same_taps:
        return {}
    return {"stored": tuple(tuple(stored_passes(layer, plan.parts, block))
                            for block in range(layer.column_blocks)),
            "stored_passes": tuple((b - a) // layer.pass_words
                                   for a, b in pairwise(layer.stored.offsets))}


def _layer(conv, layer, plan, images, rounds, arch, tensors, taps, array):
    """The `Layer` of the description. `conv` is the layer of one image, `layer` that of `images`
    images, of which a program has `rounds`."""
    geometry, pool = conv.geometry, conv.pool
    return host.Layer(
        name=conv.name, nodes=conv.nodes, kind=_kind(conv),
        macs=rounds * images * conv.macs,
        input=conv.input, output=conv.output, input_shape=tuple(conv.input_shape),
        output_shape=tuple(conv.output_shape), kernel=tuple(conv.weights.shape[2:]),
        stride=geometry.stride, dilation=geometry.dilation, pads=geometry.pads, pool=pool.size,
        pool_stride=pool.stride, pool_pads=pool.pads, pool_sum=pool.sum, raw=conv.raw,
        weight_bits=prod(conv.weights.shape) * (
            len(layer.weight_shifts) - (layer.constant > 0) if layer.in_planes else
            arch.part.width if layer.signs and arch.part else width_of(layer.narrow, arch)),
        passes=rounds * layer.images * layer.fillings * sum(
            len(plan.sub_tiles(tile)) for tile in plan.tiles),
        array_cycles=rounds * plan.cycles,
        ideal_cycles=-(-rounds * images * conv.macs // (
            arch.macs_per_cycle * layer.vector // arch.vector)),
        accumulator_bits=accumulator_need(layer, tensors[conv.input].format),
        tiles=len(plan.tiles), parts=len(plan.parts), input_buffers=plan.buffers,
        loop_order=plan.order, column_group=plan.column_group,
        channels=None if conv.input in taps else _numbers(conv.channels),
        operand=_operand(conv.operand), function=conv.function, array=array)


def _peak(layers, plans, placement, shapes, vectors):
    """The highest activation word in use, plus 1. `vectors`: the channels of each map in a word."""
    ends = [base + -(-shapes[name][0] // vectors[name]) * shapes[name][1] * shapes[name][2]
            for name, base in placement.maps.items()]
    ends += [placement.gaps[layer.index][0] + plan.buffers * plan.buffer_words
             for layer, plan in zip(layers, plans, strict=True) if plan.buffers]
    return max(ends, default=0)


def describe(graph: Graph, layers: Sequence[Layer], plans: Sequence[Plan], taps: Mapping[str, Taps],
             images: int, batch: int, places: Places, sections: Sections, stream: Stream,
             lanes: Mapping[str, np.ndarray], offsets: Sequence[Mapping[str, int]]) -> Host:
    """The `Host` of a program.

    `graph` and `taps` ({input tensor: Taps}) are those of one image, `layers` and `plans` those of
    `images` images, of which the program computes `batch` in all. `lanes` has the places of
    channels of tensors with holes, `offsets` for each layer those of its constants in their
    sections.
    """
    arch, starts, where = stream.arch, sections.starts, places.where
    placement, operands = places.placement, places.operands
    raw = {conv.output: conv.raw for conv in graph.layers}
    shapes = {}
    for name, tensor in graph.tensors.items():
        channels, height, width = taps[name].shape if name in taps else tensor.shape
        shapes[name] = channels, images * height, width
    inputs = tuple(_input(item.name, shapes[item.name], graph, taps.get(item.name),
                          where[item.name], starts) for item in graph.inputs)
    outputs = tuple(_output(name, shapes[name], graph, raw[name], where[name], starts, lanes)
                    for name in dict.fromkeys(graph.outputs))
    tensors, vectors = {}, {name: vector_of(item, arch) for name, item in graph.tensors.items()}
    for name in shapes:
        if name in placement.maps or name in operands.maps or name in where:
            place = where.get(name)
            tensors[name] = host.TensorPlace(
                shape=shapes[name], raw=raw.get(name, False), signs=vectors[name] > arch.vector,
                channels=_numbers(lanes.get(name)),
                chip=placement.maps.get(name), lives=tuple(placement.lives.get(name, ())),
                operand=operands.maps.get(name),
                operand_lives=tuple(operands.lives[name]) if name in operands.maps else (),
                external=place and starts[place.section] + place.offset,
                stride=place.stride if place else 0,
                section=place and place.section, bytes=place.size if place else 0,
                word_bytes=place.word_bytes if place else 0,
                windows=place.windows if place else None)
    return Host(
        network=graph.name, batch=batch, together=images, inputs=inputs, outputs=outputs,
        tensors=tensors,
        input_offset=starts["inputs"], input_bytes=sections.sizes["inputs"],
        output_offset=starts["outputs"], output_bytes=sections.sizes["outputs"],
        layers=tuple(_layer(conv, layer, plan, images, batch // images, arch, graph.tensors, taps,
                            _array(conv, layer, plan, mine, starts))
                     for conv, layer, plan, mine in zip(graph.layers, layers, plans, offsets,
                                                        strict=True)),
        macs=graph.macs, memory=sections.table(),
        peak={f"{MEMORIES[space].name}_words": words for space, words in (
            (Space.ACTIVATION, _peak(layers, plans, placement, shapes, vectors)),
            (Space.WEIGHT, stream.weights.peak), (Space.PARAMETER, stream.parameters.peak),
            (Space.ACCUMULATOR, stream.accumulators.peak), (Space.OPERAND, operands.peak),
            (Space.TABLE, stream.tables.peak), (Space.POOL, stream.pool_peak))
            if MEMORIES[space].exists(arch)},
        depth={f"{row.name}_words": row.depth(arch) for row in MEMORIES.values()
               if row.exists(arch)})

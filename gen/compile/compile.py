"""From a quantized network to a program."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from systolith.gen.kit.errors import SignsOutside, UserError, WrongFormat
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory
from systolith.hw.spec.program import Program
from systolith.sim.model.graph import Graph

from .alloc import Sections
from .arrange import arrange
from .batch import MOST_IMAGES, choose, stack, stack_layers
from .chip_formats import format_advice
from .describe import describe
from .emit import assemble_image, finish
from .layer_code import LayerCode
from .layer_data import parameter_bytes, weight_bytes
from .maps import find_places, layers_of, plan_layers, vector_of
from .operands import operand_lives
from .pools import pool_bytes
from .stream import Region, Sink, Stream
from .tables import table_bytes
from .window_taps import with_window_taps

__all__ = ["compile_graph"]


def _emit_round(number, stream, layers, plans, offsets, places):
    """Emit all layers for the images of one round. `offsets` are those of each layer's data in
    their sections."""
    graph, arch = places.graph, stream.arch

    def outside(name):
        _, height, width = graph.tensors[name].shape
        return places.outside(name, number, height, width)

    def region(name, base, memory):
        channels, height, width = graph.tensors[name].shape
        vector = vector_of(graph.tensors[name], arch)
        return Region(base, (0, height), (0, width), 0, -(-channels // vector),
                      outside(name) if name in places.inputs else None, memory=memory)
    maps = {name: region(name, base, Memory.ACTIVATION)
            for name, base in places.placement.maps.items()}
    combined = {name: region(name, base, Memory.OPERAND)
                for name, base in places.operands.maps.items()}
    for layer, plan, mine in zip(layers, plans, offsets, strict=True):
        conv, operand, stream.layer = layer.conv, None, layer.index
        source = maps.get(conv.input)
        if source is None:
            _, height, width = conv.input_shape
            source = (places.placement.gaps[layer.index][0],
                      places.outside(conv.input, number, layer.images * height, width))
        if conv.operand is not None:
            name = conv.operand.tensor
            operand = combined.get(name) or (places.operands, outside(name))
        shape = graph.tensors[conv.output].shape
        last = conv.placement.first_channel + layer.channels == shape[0]
        read = conv.output in places.lives
        sink = Sink(shape, places.placement.maps.get(conv.output),
                    places.operands.maps.get(conv.output),
                    places.address(conv.output, number) if conv.output in places.where else None,
                    arch.activation.binary and last and read,
                    read or conv.output in places.operands.lives)
        LayerCode(stream, layer, plan, source, operand, sink, **mine).emit()


def compile_graph(graph: Graph, arch: Arch, batch: int = 1, *,
                  finish: Callable[..., Any] = finish) -> Program:
    """Map a quantized network to a program for a chip.

    Parameters
    ----------
    graph : systolith.sim.model.graph.Graph
    arch : Arch
    batch : int
        Images that a run of the program computes.
    finish : function
        Does what `emit.finish` does; that of a `kin.Kin` does it once for equal streams.

    Returns a `systolith.hw.spec.program.Program`. Raises UserError for what this chip cannot
    compute: number formats, accumulators that are too short for the weights, fields that an
    instruction does not have room for; SignsOutside where signs, many in a code, would have to lie
    in external memory.
    """
    if len(graph.layers) > 1 << 12:
        raise UserError(f"a network may have {1 << 12} layers, this one has {len(graph.layers)}")
    if not 1 <= batch <= MOST_IMAGES:
        raise UserError(f"a batch must be from 1 to {MOST_IMAGES} images, not {batch}")
    given = graph
    graph, lanes = arrange(graph, arch)
    try:
        layers, recipes = layers_of(graph, arch, operand_lives(graph), lanes)
    except WrongFormat as error:
        raise WrongFormat(f"{error}; {format_advice(given, arch)}") from None
    images = choose(graph, layers, recipes, arch, batch)
    tall, layers = stack(graph, images), stack_layers(layers, graph, images)
    sections = Sections("code", "weights", "parameters", "tables", "pools", "inputs", "outputs",
                        "spill")
    places = find_places(tall, layers, recipes, images, batch // images, sections, arch)
    if outside := [name for name in places.where if vector_of(graph.tensors[name], arch)
                   > arch.vector]:
        raise SignsOutside(outside)
    # Taps have rows of their own only where the layer before has written copies on the chip.
    layers = [replace(layer, part=0) if layer.part and (
        layer.conv.input not in places.placement.maps) else layer for layer in layers]
    layers = with_window_taps(layers, places.placement.maps)
    plans = plan_layers(layers, places)

    stream, offsets = Stream(arch), []
    constants: dict = {}
    for layer, plan in zip(layers, plans, strict=True):
        data = {"weights": weight_bytes(layer, plan.parts), "parameters": parameter_bytes(layer),
                "tables": table_bytes(layer), "pools": pool_bytes(layer)}
        offsets.append({name: sections.add(name, len(data[name])) for name in data})
        for name in data:
            constants.setdefault(name, []).append((offsets[-1][name], data[name]))
    for number in range(batch // images):
        _emit_round(number, stream, layers, plans, offsets, places)

    code, code_offset, window = finish(stream.code, sections, arch, layers)
    image = assemble_image(code, arch, sections, constants)
    host = describe(graph, layers, plans, recipes, images, batch, places, sections, stream, lanes,
                    offsets)
    return Program(arch, code, image, code_offset, window, host)

"""A network in the formats of a chip that has other ones than the network, but holds its
numbers."""

from collections.abc import Collection
from dataclasses import replace

from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Graph

from .arrange import with_whole_operands
from .halves import integers_as_halves, kept_halves
from .narrow import narrowed
from .signs import signs_as_numbers
from .unary import integers_as_signs
from .weight_planes import integers_as_planes

__all__ = ["widened"]


def widened(graph: Graph, arch: Arch, apart: Collection[str] = ()) -> Graph:
    """The network as a chip computes it. `apart`: tensors whose signs are numbers in any case.

    - Tensors of signed integers that are narrower than the chip's activations have the chip's
      format. Limits of results stay, so that all numbers are the same and only codes have more
      bits.
    - Signs are numbers on chips that are not binary (`signs_as_numbers`); integers between layers
      are signs on binary chips (`integers_as_signs`), and integer weights are twice as large where
      they are even (`integers_as_planes`).
    - Integers of half the bits are two in a code where the chip has halves (`integers_as_halves`).
    - Operands that would have holes on this chip are copied (`with_whole_operands`).
    - Multipliers are as narrow as the chip's (`narrowed`); nothing else changes results.

    Other tensors stay as they are. Raises UserError where a binary chip cannot compute integers.
    """
    return narrowed(with_whole_operands(_widened(graph, arch, apart), arch), arch)


def _widened(graph, arch, apart):
    graph = integers_as_signs(signs_as_numbers(graph, arch, apart), arch)
    graph = integers_as_planes(graph, arch)
    kept = kept_halves(graph, arch, apart)
    return integers_as_halves(_in_wider(graph, arch, kept), arch, kept)


def _in_wider(graph, arch, kept):
    """The network with its narrower integers in the chip's format, but for the tensors `kept`."""
    chip = arch.activation
    if not chip.complete or not chip.signed:
        return graph

    def narrow(tensor):
        form = tensor.format
        return (tensor.name not in kept and form is not None and form != chip and form.signed
                and chip.holds(form))
    if not any(map(narrow, graph.tensors.values())):
        return graph
    tensors = {name: replace(item, format=chip) if narrow(item) else item
               for name, item in graph.tensors.items()}
    layers = []
    for conv in graph.layers:
        old = graph.tensors[conv.input]
        if conv.geometry.pad_code is not None and narrow(old):
            image = int(old.format.image(conv.geometry.pad_code))
            conv = replace(conv, geometry=replace(
                conv.geometry, pad_code=image % (1 << chip.width)))
        layers.append(conv)
    return replace(graph, inputs=[tensors[item.name] for item in graph.inputs], tensors=tensors,
                   layers=layers)

"""Networks as a chip computes them: narrower integers run in the chip's own, wider ones, signs as
numbers of a chip that is not binary, what is combined has no holes."""

from dataclasses import replace

from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Graph

from .arrange import with_whole_operands
from .signs import signs_as_numbers
from .unary import integers_as_signs

__all__ = ["widened"]


def widened(graph: Graph, arch: Arch) -> Graph:
    """The network with every tensor of signed integers narrower than the chip's activations in the
    chip's format, and with its signs as numbers (see `signs_as_numbers`), or, on a binary
    chip, its integers as signs (`integers_as_signs`; raises UserError). Limits of results
    stay, so every number is the same; only codes have more bits. Other tensors stay as they
    are. What several layers write and another one combines its results with is copied where it has
    holes on this chip (`with_whole_operands`)."""
    return with_whole_operands(_widened(graph, arch), arch)


def _widened(graph, arch):
    graph = integers_as_signs(signs_as_numbers(graph, arch), arch)
    chip = arch.activation
    if not chip.complete or not chip.signed:
        return graph

    def narrow(tensor):
        form = tensor.format
        return form is not None and form != chip and form.signed and chip.holds(form)
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

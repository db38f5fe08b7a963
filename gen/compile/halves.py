"""Integers of half the bits, two in a code, between the layers of a chip with
`array.packed_halves`: layers that read them take half the passes.

Such a layer's sums are 2**half times as large on the chip, as if its weights were. So they are
here, and the rest of the layer makes the same results of such sums, or the host, where they leave
the chip as they are.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Graph
from systolith.sim.model.weights import Weights

from .signs import in_order, of_larger_sums

__all__ = ["integers_as_halves", "kept_halves"]


def kept_halves(graph: Graph, arch: Arch, apart: Collection[str] = ()) -> set[str]:
    """The names of tensors that a chip keeps as halves of codes: integers of so few bits that only
    layers write and read that can do so, and that fewer words hold. `apart` are not among them.
    """
    if not arch.packed_halves or not arch.exact_sums:
        return set()
    names = {name for name, tensor in graph.tensors.items() if _is_half(tensor.format, arch)
             and tensor.shape[0] > arch.vector}
    names -= {*apart, *graph.outputs, *(item.name for item in graph.inputs)}
    for conv in graph.layers:
        if conv.requantization is None or conv.operand is not None or conv.table is not None:
            names.discard(conv.output)
        if not _reads_halves(graph, conv, arch):
            names.discard(conv.input)
        if conv.operand is not None:
            names.discard(conv.operand.tensor)
    return {name for name in names if in_order(graph, name, arch.group)}


def _is_half(form, arch):
    part = arch.part
    return form is not None and form.signed and not form.binary and part.holds(form)


def _reads_halves(graph, conv, arch):
    weights = conv.weights.in_format(arch.part) if not conv.weights.format.binary else None
    own = conv.requantization
    if weights is None or conv.channels is not None or (
            conv.depthwise and conv.geometry.groups > 1):
        return False
    return not own.late if own is not None else _leaves(graph, conv, arch, weights)


def _leaves(graph, conv, arch, weights):
    """Whether a layer's sums leave the chip as they are, as the host can take sums that are 2**half
    times as large."""
    half = arch.part.width
    sums = (np.abs(weights.images).reshape(len(weights.images), -1).sum(axis=1) << half - 1) + (
        np.abs(conv.bias))
    return (conv.operand is None and conv.table is None
            and all(item.scale is None for item in graph.decoders if item.tensor == conv.output)
            and bool((sums < 1 << arch.accumulator_bits - 1 - half).all()))


def integers_as_halves(graph: Graph, arch: Arch, kept: Collection[str]) -> Graph:
    """The network with the tensors `kept` (of `kept_halves`) in the format of half a code, and the
    layers that read them with weights, and sums, that are 2**half times as large."""
    part = arch.part
    if not kept or part is None:
        return graph
    tensors = {name: replace(item, format=part) if name in kept else item
               for name, item in graph.tensors.items()}
    layers = []
    for conv in graph.layers:
        if conv.input in kept:
            form, code = graph.tensors[conv.input].format, conv.geometry.pad_code
            assert form is not None, "kept tensors are integers"
            if code is not None:
                conv = replace(conv, geometry=replace(
                    conv.geometry, pad_code=int(form.image(code)) % (1 << part.width)))
            weights = conv.weights.in_format(part)
            assert weights is not None, "the layer reads halves"
            conv = replace(conv, weights=Weights(weights.images << part.width, arch.weight))
            if conv.requantization is None:
                sums = tensors[conv.output]
                tensors[conv.output] = replace(sums, scale=np.ldexp(sums.scale, -part.width))
                conv = replace(conv, bias=conv.bias << part.width)
            else:
                conv = of_larger_sums(conv, part.width)
        layers.append(conv)
    return replace(graph, tensors=tensors, layers=layers)

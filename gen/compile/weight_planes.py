"""Weights of several bits on a binary chip: the sum of planes of signs.

The array makes its passes once for each plane of the weights, and where the input is bit planes
once for each pair of planes. Pairs of equal weight follow each other, most significant first, and
the accumulators double between them, as for planes of inputs (`planes.py`). What this module does:
integers w become 2 * w, with twice the bias, which planes of signs make exactly
(`Weights.planes`); signs of sums are the same, and the host divides raw sums by two. Odd integers
(half-step codes such as bipolar2) are planes as they are.
"""

from dataclasses import replace

import numpy as np
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph

from .layer import made_twice

__all__ = ["MOST_BITS", "doubled", "integers_as_planes"]

#: The most bits of a weight that is made of planes.
MOST_BITS = 9


def doubled(conv: Conv) -> Conv:
    """A layer with twice the weights, as integers, and biases: its sums are twice as large, their
    signs the same."""
    form = conv.weights.format
    bits = form.width + 1 + form.binary
    return replace(conv, weights=conv.weights.times(2, Int(bits)), bias=2 * conv.bias)


def integers_as_planes(graph: Graph, arch: Arch) -> Graph:
    """The network with integer weights as a binary chip has them: even ones, or odd ones of a
    bipolar format. Unchanged for other chips, and where all weights are binary."""
    if not arch.activation.binary:
        return graph
    tensors, layers = dict(graph.tensors), []
    for conv in graph.layers:
        if _fits(conv):
            odd = _odd(conv, graph.tensors[conv.input].shape[0], arch)
            if odd is None:
                conv = doubled(conv)
                if conv.raw:
                    old = tensors[conv.output]
                    tensors[conv.output] = replace(old, scale=np.asarray(old.scale) / 2)
            else:
                conv = replace(conv, weights=odd)
        layers.append(conv)
    return replace(graph, tensors=tensors, layers=layers)


def _fits(conv):
    """Whether a layer has integer weights that planes of signs can make."""
    form = conv.weights.format
    return form.uniform and form.width <= MOST_BITS


def _odd(conv, channels, arch):
    """The weights of a layer in a bipolar format of more than one bit; None where some are even, or
    some lanes need a weight of 0."""
    images = conv.weights.images
    if not (images % 2).all() or conv.geometry.groups > 1 or conv.channels is not None:
        return None
    bits = int(abs(images).max(initial=1)).bit_length()
    weights = conv.weights.times(1, Bipolar(bits)) if bits <= 8 else None
    idle = -channels % arch.vector
    return None if weights is None or made_twice(replace(conv, weights=weights), idle) else weights

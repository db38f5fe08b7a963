"""Several images in one program.

A program computes a batch in rounds of a few images (`Host.together`): layer by layer, so that the
weights of a layer are loaded once for all images of the round. Their maps lie one below the other,
as one map with so many times the rows. A layer whose results never depend on two images (no padding
at the top and bottom, windows that end where an image ends) computes them as one map: a dense layer
then has one pixel for each image, and its passes take hardly longer than for one. Any other layer
computes the images one after the other.
"""

from collections.abc import Mapping
from dataclasses import replace

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Taps
from systolith.sim.model.graph import Graph

from .alloc import Sections
from .layer import Layer
from .maps import find_places, plan_layers
from .tiling import traffic

__all__ = ["MOST_IMAGES", "choose", "stack", "stack_layers"]

#: The most images in a program, which has instructions for each round.
MOST_IMAGES = 256


class Stacked(Graph):
    """A network whose tensors are those of several images, one below the other."""

    def __init__(self, graph: Graph, images: int):
        self.name, self.inputs, self.outputs = graph.name, graph.inputs, graph.outputs
        self.encoders, self.decoders = graph.encoders, graph.decoders
        self.layers = graph.layers
        self.tensors = {name: replace(item, shape=(item.shape[0], images * item.shape[1],
                                                   item.shape[2]))
                        for name, item in graph.tensors.items()}


def stack(graph: Graph, images: int) -> Graph:
    """The network with the maps of `images` images in each tensor, and the same layers."""
    return graph if images == 1 else Stacked(graph, images)


def _as_one(layer, graph):
    """The vertical stride with which a layer computes several images as one map; None where it has
    to compute them one after the other. `graph` has the tensors of one image."""
    conv, y = layer.conv, layer.y
    reach, window = (y.kernel - 1) * y.dilation + 1, y.step * y.stride
    _, height, _ = graph.tensors[conv.output].shape
    one = tuple(graph.tensors[conv.operand.tensor].shape[1:]) if conv.operand else None
    if (any(conv.geometry.pads[::2]) or not y.apart or layer.from_above
            or height != y.out * conv.placement.step[0]
            or one not in (None, conv.output_shape[1:])):
        return None
    if y.out == y.pool == y.step == 1:
        return y.size
    return y.stride if y.out * window == y.size and reach <= y.stride else None


def stack_layers(layers: list[Layer], graph: Graph, images: int) -> list[Layer]:
    """The layers for `images` images: each either has the input shape of all images, as one map, or
    its `images` set. `layers` and `graph` are those of one image."""
    if images == 1:
        return layers
    found = []
    for layer in layers:
        conv, stride = layer.conv, _as_one(layer, graph)
        if stride is None:
            found.append(replace(layer, images=images))
            continue
        channels, height, width = conv.input_shape
        geometry = replace(conv.geometry, stride=(stride, conv.geometry.stride[1]))
        found.append(replace(layer, conv=replace(
            conv, geometry=geometry, input_shape=(channels, images * height, width))))
    return found


def _cost(graph, layers, recipes, arch, images, rounds):
    """Estimated cycles of an image: the sum of each layer's, the larger of those of the array and
    those of the bus."""
    layers = stack_layers(layers, graph, images)
    places = find_places(stack(graph, images), layers, recipes, images, rounds,
                         Sections("inputs", "outputs", "spill"), arch)
    kept = sum(layer.stored.words for layer in layers) <= arch.weight_depth
    total = 0
    for layer, plan in zip(layers, plan_layers(layers, places), strict=True):
        conv, (pixels, weights) = layer.conv, traffic(plan)
        moved = weights / (rounds if kept else 1) + pixels * (plan.buffers > 0)
        if conv.output in places.where:
            moved += layer.groups * arch.group_bytes * layer.results * layer.images
        if layer.index in places.operands.gaps:
            moved += places.where[conv.operand.tensor].size
        total += max(plan.cycles, moved / arch.beat_bytes)
    return total / images


def choose(graph: Graph, layers: list[Layer], recipes: Mapping[str, Taps], arch: Arch,
           batch: int) -> int:
    """The number of images that a program for `batch` images should compute together: the divisor
    of `batch` with the fewest estimated cycles, the smallest one of equals. Raises UserError where
    the layers do not fit the chip with one image."""
    if batch == 1:
        return 1
    costs = {}
    for images in range(1, batch + 1):
        if batch % images:
            continue
        try:
            costs[images] = _cost(graph, layers, recipes, arch, images, batch // images)
        except UserError:
            if images == 1:
                raise
    return min(costs, key=costs.__getitem__)

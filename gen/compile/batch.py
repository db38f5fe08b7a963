"""Several images in one program.

A program computes its images in rounds of a few that are `together`: layer by layer, so that the
weights of a layer are loaded once for all of them. Their maps lie one under the other, as one map
of so many times the rows. A layer whose results never see two images at once (no padding above and
below, windows that end where an image ends) takes them as the one map that they are: a dense layer
then has a pixel for every image, and a pass no longer than for one. Any other goes through them one
after the other.
"""

from dataclasses import replace

from systolith.gen.kit.errors import UserError
from systolith.sim.model.graph import Graph

from .alloc import Sections
from .maps import find_places, plan_layers
from .tiling import traffic

__all__ = ["MOST_IMAGES", "choose", "stack", "stack_layers"]

#: Images in a program: its instructions are written out for each round.
MOST_IMAGES = 256


class Stacked(Graph):
    """A network whose tensors are those of several images, one under the other."""

    def __init__(self, graph, images):
        self.name, self.inputs, self.outputs = graph.name, graph.inputs, graph.outputs
        self.encoders, self.decoders = graph.encoders, graph.decoders
        self.layers = graph.layers
        self.tensors = {name: replace(item, shape=(item.shape[0], images * item.shape[1],
                                                   item.shape[2]))
                        for name, item in graph.tensors.items()}


def stack(graph, images):
    """The network with the maps of `images` images in each tensor; layers as they are."""
    return graph if images == 1 else Stacked(graph, images)


def _as_one(layer, graph):
    """The stride by which a layer goes down its input so that several images are one map; None
    where they are not. `graph` has the tensors of one image."""
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


def stack_layers(layers, graph, images):
    """The layers of one image as they are with several: each takes them as one map, or knows how
    many there are."""
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
    """Cycles that an image takes, roughly: of every layer those of the array or of the bus."""
    layers = stack_layers(layers, graph, images)
    places = find_places(stack(graph, images), layers, recipes, images, rounds,
                         Sections("inputs", "outputs", "spill"), arch)
    kept = sum(layer.weight_words for layer in layers) <= arch.weight_depth
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


def choose(graph, layers, recipes, arch, batch):
    """How many images a program for `batch` images computes together: the divisor of the fewest
    cycles, as far as traffic and passes say; the smaller one of equals."""
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

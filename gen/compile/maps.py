"""Layers as the array sees them, and where their feature maps lie: on the chip or in external
memory.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Taps, Windows
from systolith.hw.spec.words import input_word_bytes
from systolith.sim.model.graph import Graph, Tensor

from .alloc import ALIGNMENT, Placement, Sections, place
from .layer import Layer
from .legal import check_channels, check_layer
from .needs import in_planes
from .operands import OperandMemory
from .own_rows import with_own_rows
from .plan import Plan
from .planes import lay_out_planes
from .side_by_side import with_side_taps
from .taps import lay_out_taps
from .tiling import plan_layer

__all__ = ["Outside", "Places", "find_places", "layers_of", "plan_layers", "vector_of"]


def _lives_of(graph):
    """({tensor: (first layer, last layer)}, {tensor: layers that read it}) of the tensors that
    layers read, as indices; lives begin with the layer that writes the tensor first."""
    readers: dict[str, list[int]] = {}
    users: dict[str, list[int]] = {}
    for index, conv in enumerate(graph.layers):
        readers.setdefault(conv.input, []).append(index)
        for name in (conv.input, conv.output):
            users.setdefault(name, []).append(index)
    return {name: (users[name][0], users[name][-1]) for name in readers}, readers


def vector_of(tensor: Tensor, arch: Arch) -> int:
    """Channels of a tensor in an activation word."""
    form = tensor.format
    return arch.vector * (arch.code_signs if form is not None and form == arch.part else 1)


def layers_of(graph: Graph, arch: Arch, combined: Collection[str], lanes: Collection[str],
              refuse: Callable[[UserError], object] | None = None
              ) -> tuple[list[Layer], dict[str, Taps]]:
    """(layers as the array sees them, {input tensor: how the host writes its taps or bit planes}).

    Parameters
    ----------
    graph : Graph
    arch : Arch
    combined : collection of str
        Tensors that are operands of layers.
    lanes : collection of str
        Tensors whose channels have other places than in the network (see `arrange`).
    refuse : function of a UserError, or None
        Is called for each layer that the chip cannot compute, which then stays as it is; None: the
        first error is raised.
    """
    layers, recipes, (_, readers) = [], {}, _lives_of(graph)
    inputs = {item.name for item in graph.inputs}
    for index, conv in enumerate(graph.layers):
        layer = Layer(index, conv.reading_all(), arch,
                      halves=arch.packed_halves and (
                          vector_of(graph.tensors[conv.input], arch) > arch.vector),
                      to_signs=vector_of(graph.tensors[conv.output], arch) > arch.vector)
        alone = (conv.input in inputs and len(readers[conv.input]) == 1
                 and conv.input not in {*graph.outputs, *combined})
        try:
            check_channels(conv)
            layer, recipe = _laid_out(layer, graph, alone, conv.input in lanes)
        except UserError as error:
            if refuse is None:
                raise
            refuse(error)
        else:
            if recipe is not None:
                recipes[conv.input] = recipe
            if recipe is not None and recipe.windows is not None:
                layer.input_bytes = -(-recipe.windows.row_bytes // recipe.shape[2])
                layer.whole_rows = True
            elif conv.input in inputs:
                layer.input_bytes = input_word_bytes(
                    _lanes(conv.input, graph, recipes), arch)
        layers.append(layer)
    fixed = {*inputs, *graph.outputs, *combined, *lanes}
    layers = with_side_taps(layers, graph, fixed)
    return with_own_rows(layers, graph, {*inputs, *lanes}), recipes


def _lanes(name, graph, recipes):
    """Lanes that an input of the network fills, of each of its planes where it has some."""
    channels = graph.tensors[name].shape[0]
    return recipes[name].channels(channels) if name in recipes else channels


def _laid_out(layer, graph, alone, moved):
    """(the layer as the array sees it, `Taps` or None) of a layer that is checked. `alone`: its
    input is one of the network that nothing else reads; `moved`: the channels of its input have
    other places than in the network. Raises UserError."""
    conv, arch, tensors = layer.conv, layer.arch, graph.tensors
    if in_planes(conv, tensors, arch):
        return lay_out_planes(layer, tensors, alone)
    if alone and tensors[conv.input].format == arch.activation:
        changed, recipe = lay_out_taps(layer, tensors[conv.input].format)
        if recipe is not None:
            try:
                check_layer(changed, tensors)
            except UserError:
                pass                            # the layer without taps may be legal
            else:
                return changed, recipe
    check_layer(layer, tensors, moved)
    return layer, None


def _wanted_buffer(layer):
    """Activation words that the input buffers of a layer should have: those of the whole input, or
    of two tiles of a row of results, but no more than half of the memory, and no fewer than
    `Layer.window`."""
    y, x = layer.y, layer.x
    row = y.extent(1) * x.extent(x.out) * layer.blocks
    return max(layer.window, min(layer.input_words, 2 * row, layer.arch.activation_depth // 2))


def _place_maps(graph, layers, lives, readers, arch):
    """The `Placement` of the maps that may stay on the chip: all that one layer writes and another
    one reads, and inputs that several layers read."""
    inputs = {item.name for item in graph.inputs}
    sizes = {}
    for name in lives:
        if name in inputs and len(readers[name]) == 1:
            continue
        channels, height, width = graph.tensors[name].shape
        sizes[name] = -(-channels // vector_of(graph.tensors[name], arch)) * height * width

    def needs(index, maps):
        return 0 if layers[index].conv.input in maps else _wanted_buffer(layers[index])
    return place(sizes, lives, needs, len(layers), arch.activation_depth)


class Outside(NamedTuple):
    """Where a map lies in external memory: its section, byte offset and bytes, the bytes of a word
    (of sums: of a group's), and for inputs and outputs of several rounds the bytes from one round
    to the next (else 0); its words, and its rows of bytes where LOAD makes windows of them."""
    section: str
    offset: int
    size: int
    word_bytes: int
    stride: int
    words: int
    windows: Windows | None


def _outside(graph, recipes, images, rounds, placement, lives, operands, sections, arch):
    """{tensor: Outside} of the maps in external memory: inputs, outputs, and those that do not fit
    the chip. `graph` has maps of `images` images, `recipes` ({input tensor: Taps}) are those of
    one. Raises UserError where an output is an input."""
    where = {}

    def add(section, name, rounds=1):
        words, each = size(name)
        windows = recipes[name].windows if name in recipes else None
        whole = words * each
        if windows is not None:
            whole = recipes[name].shape[1] * images * windows.row_bytes
        stride = -(-whole // ALIGNMENT) * ALIGNMENT
        where[name] = Outside(
            section, sections.add(section, stride * (rounds - 1) + whole), whole, each,
            stride * (rounds > 1), words, windows)

    written = {conv.output: conv for conv in graph.layers}

    def size(name):
        """(words, bytes of each)"""
        channels, height, width = graph.tensors[name].shape
        if name in recipes:
            channels, height, width = recipes[name].shape
            height *= images
        if name in written and written[name].raw:
            return -(-channels // arch.group) * height * width, arch.chunks * arch.raw_bytes
        each = arch.activation_bytes
        if name not in written:
            each = input_word_bytes(_lanes(name, graph, recipes), arch)
        return -(-channels // arch.vector) * height * width, each

    for item in graph.inputs:
        add("inputs", item.name, rounds)
    for name in dict.fromkeys(graph.outputs):
        if name not in written:
            raise UserError(f"output {name!r} is an input of the network as it stands; remove the "
                            "output")
        add("outputs", name, rounds)
    for name in written:
        inside = [name in maps for maps, read in ((placement.maps, lives),
                                                  (operands.maps, operands.lives)) if name in read]
        if name not in where and not (inside and all(inside)):
            add("spill", name)
    return where


@dataclass
class Places:
    """Where every map of a network lies.

    Attributes
    ----------
    graph : Graph
        With the tensors of all images that are computed together.
    inputs : set of str
    lives : dict of str to (first layer, last layer)
    placement : Placement
    operands : OperandMemory
    where : dict of str to Outside
    """
    graph: Graph
    inputs: set
    lives: dict
    placement: Placement
    operands: OperandMemory
    where: dict

    def outside(self, name: str, number: int, height: int, width: int) -> tuple:
        """`Region.outside` of a map of such a size, for the images of round `number`."""
        place = self.where[name]
        return *self.address(name, number), height, width, place.windows or place.word_bytes

    def address(self, name: str, number: int) -> tuple[str, int]:
        """(section, byte offset) of a map in external memory, for the images of round `number`."""
        place = self.where[name]
        return place.section, place.offset + number * place.stride


def find_places(graph: Graph, layers: Sequence[Layer], recipes: Mapping[str, Taps], images: int,
                rounds: int, sections: Sections, arch: Arch) -> Places:
    """The `Places` of a network's maps; those in external memory are added to `sections`. `graph`
    and `layers` are those of `images` images together, of which there are `rounds`; `recipes`
    ({input tensor: Taps}) are those of one image. Raises UserError."""
    lives, readers = _lives_of(graph)
    placement = _place_maps(graph, layers, lives, readers, arch)
    operands = OperandMemory(graph, layers, arch)
    where = _outside(graph, recipes, images, rounds, placement, lives, operands, sections, arch)
    return Places(graph, {item.name for item in graph.inputs}, lives, placement, operands, where)


def plan_layers(layers: Sequence[Layer], places: Places) -> list[Plan]:
    """The `Plan` of each layer. Raises UserError where the memories are too small."""
    placement, operands = places.placement, places.operands
    return [plan_layer(layer, None if layer.conv.input in placement.maps
                       else placement.gaps[layer.index][1], operands.most_results(layer))
            for layer in layers]

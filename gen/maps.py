"""Feature maps: the layers as the array sees them, which maps stay on the chip, where the others
lie in external memory.
"""

from .alloc import place
from .errors import UserError
from .prepare import check_layer, lay_out_taps
from .tile import Layer

__all__ = ["add_tensors", "layers_of", "lives_of", "place_maps"]


def lives_of(graph):
    """{tensor: (first layer, last layer)} for what is read by a layer, and its readers."""
    readers, users = {}, {}
    for index, conv in enumerate(graph.layers):
        readers.setdefault(conv.input, []).append(index)
        for name in (conv.input, conv.output):
            users.setdefault(name, []).append(index)
    return {name: (users[name][0], users[name][-1]) for name in readers}, readers


def layers_of(graph, arch, readers, combined, lanes):
    """[Layer] as the array sees them, and {input tensor: recipe} for taps that the host lays
    out."""
    layers, recipes = [], {}
    inputs = {item.name for item in graph.inputs}
    for index, conv in enumerate(graph.layers):
        layer = Layer(index, conv.reading_all(), arch)
        if (conv.input in inputs and len(readers[conv.input]) == 1
                and conv.input not in {*graph.outputs, *combined}
                and graph.tensors[conv.input].format == arch.activation):
            changed, recipe = lay_out_taps(layer, graph.tensors[conv.input].format)
            if recipe is not None:
                try:
                    check_layer(changed, graph.tensors)
                except UserError:
                    recipe = None               # then as it stands, which may be refused, too
                else:
                    layer, recipes[conv.input] = changed, recipe
        if conv.input not in recipes:
            check_layer(layer, graph.tensors, conv.input in lanes)
        layers.append(layer)
    return layers, recipes


def _wanted_buffer(layer):
    """Activation words that the input buffers of a layer should have: the whole input, or two
    tiles of a row of results, but no more than half of the memory; a row as it comes where that
    is the least."""
    y, x = layer.y, layer.x
    row = y.extent(1) * x.extent(x.out) * layer.blocks
    return max(layer.window, min(layer.input_words, 2 * row, layer.arch.activation_depth // 2))


def place_maps(graph, layers, lives, readers, arch):
    """Placement of the maps that can stay on the chip: all that a layer writes and another one
    reads, and inputs with several readers."""
    inputs = {item.name for item in graph.inputs}
    sizes = {}
    for name in lives:
        if name in inputs and len(readers[name]) == 1:
            continue
        channels, height, width = graph.tensors[name].shape
        sizes[name] = -(-channels // arch.vector) * height * width

    def needs(index, maps):
        return 0 if layers[index].conv.input in maps else _wanted_buffer(layers[index])
    return place(sizes, lives, needs, len(layers), arch.activation_depth)


def add_tensors(graph, recipes, placement, lives, operands, sections, arch):
    """{tensor: (section, offset, bytes)} of all that lies in external memory, in the order inputs,
    outputs, spilled."""
    where = {}

    def add(section, name, size):
        where[name] = (section, sections.add(section, size), size)

    written = {conv.output: conv for conv in graph.layers}

    def size(name):
        channels, height, width = (recipes[name]["shape"] if name in recipes
                                   else graph.tensors[name].shape)
        if name in written and written[name].raw:
            groups = -(-channels // arch.group)
            return groups * height * width * arch.chunks * arch.raw_bytes
        return -(-channels // arch.vector) * height * width * arch.activation_bytes

    for item in graph.inputs:
        add("inputs", item.name, size(item.name))
    for name in dict.fromkeys(graph.outputs):
        if name not in written:
            raise UserError(f"output {name!r} is an input of the network as it stands; remove the "
                            "output")
        add("outputs", name, size(name))
    for name in written:
        inside = [name in maps for maps, read in ((placement.maps, lives),
                                                  (operands.maps, operands.lives)) if name in read]
        if name not in where and not (inside and all(inside)):
            add("spill", name, size(name))
    return where

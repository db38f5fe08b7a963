"""First layers of integer inputs on a binary chip: the bits of the input, plane by plane.

With b the bits of an input's code (the first one inverted) as +1 and -1, an integer x of n bits is
2 * x = -1 + sum of 2**i * b[i] (see `systolith.sim.model.bit_planes`). So the array computes the
sums of one plane after the other, most significant first, and the accumulators double between
them; what remains, constants for each output channel, goes into the bias. The host lays the
planes out as blocks of channels, one after the other. On chips with `array.plane_rows` the planes
of up to `lanes` channels lie in the first eight rows, and partial sums double from row to row.
"""

from collections.abc import Mapping
from dataclasses import replace

from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Format, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Taps
from systolith.sim.model.graph import Graph, Tensor

from .layer import Layer
from .legal import accumulator_need, check_outside
from .needs import check_needs, wide_enough
from .taps import lay_out_taps
from .weight_planes import doubled

__all__ = ["computed_formats", "lay_out_planes"]


def computed_formats(graph: Graph, arch: Arch | None = None) -> list[Format]:
    """The activation formats in which an array would compute a network.

    [Bipolar(1)] where all tensors and weights are binary, except for inputs of integers that layers
    read bit plane by bit plane, and on a binary chip (`arch`) for integer weights. In any other
    network signs are numbers of its other formats, which are returned; [Int(8)] where there are
    none.
    """
    inputs = {item.name for item in graph.inputs}
    on_signs = arch is not None and arch.activation.binary

    def fits(layer):
        form = layer.weights.format
        return form.binary or (on_signs and form.uniform)
    planes = {layer.input for layer in graph.layers if fits(layer)
              and layer.input in inputs and not layer.raw and layer.geometry.groups == 1
              and (form := graph.tensors[layer.input].format) is not None and form.uniform}
    binary = all(tensor.format.binary for tensor in graph.tensors.values()
                 if tensor.format and tensor.name not in planes) and all(map(fits, graph.layers))
    if binary:
        return [Bipolar(1)]
    kept = [tensor.format for tensor in graph.tensors.values()
            if tensor.format and not tensor.format.binary]
    return list(dict.fromkeys(kept)) or [Int(8)]


def _check(layer, tensors, alone):
    conv, form = layer.conv, tensors[layer.conv.input].format
    check_needs(layer, tensors)
    if not alone:
        raise UserError(
            f"{layer.title} reads {conv.input!r} in {form}, and a binary chip reads integers only "
            "where they are an input of the network that one layer reads")
    if conv.geometry.groups > 1:
        raise UserError(f"{layer.title} reads {conv.input!r} in {form} in "
                        f"{conv.geometry.groups} groups; planes of bits are for layers without "
                        "groups")
    if conv.raw:
        raise UserError(f"{layer.title} reads {conv.input!r} in {form} and its sums are not "
                        "quantized; give its output a BipolarQuant")
    check_outside(layer, tensors)


def _weighed(layer, count, channels):
    """Whether the array's first eight rows can hold a plane each of a layer's input."""
    arch, geometry = layer.arch, layer.conv.geometry
    return (arch.plane_rows and count == 8 and channels <= arch.lanes
            and (geometry.replicate or not geometry.padded))


def lay_out_planes(layer: Layer, tensors: Mapping[str, Tensor], alone: bool) -> tuple[Layer, Taps]:
    """(the layer that reads bit planes, how the host writes them) for a layer that reads integers
    on a binary chip.

    `alone`: its input is one of the network, which no other layer or output needs. Raises UserError
    where the chip cannot compute it.
    """
    _check(layer, tensors, alone)
    form, vector = tensors[layer.conv.input].format, layer.arch.vector
    assert form is not None                     # that of an input of the network
    count = form.width
    conv = layer.conv
    if conv.geometry.pad_code is None and not conv.geometry.replicate:
        conv = replace(conv, geometry=replace(conv.geometry, pad_code=form.zero_code))
    layer, recipe = lay_out_taps(Layer(layer.index, conv, layer.arch), form, count,
                                 1 << count - 1)
    conv = layer.conv
    channels, *sizes = conv.input_shape
    if recipe is None:
        recipe = Taps(taps=(1, 1), dilation=(1, 1), step=(1, 1), pads=(0, 0), fill=0,
                      replicate=False, planes=None, shape=tuple(conv.input_shape))
    geometry = conv.geometry
    weighed = _weighed(layer, count, channels)
    lanes = layer.arch.lanes if weighed else layer.blocks * vector
    if (lanes - channels) % 2 and not conv.weights.format.has_zero and geometry.padded and not (
            geometry.replicate or geometry.pad_code == 1 << count - 1):
        conv = doubled(conv)                    # the lane without channel has the weight 0
        layer = replace(layer, conv=conv)
    taps, odd = layer.y.kernel * layer.x.kernel, (lanes - channels) % 2
    # Lanes without channel hold -1, and weights that alternate: pairs of them cancel.
    added = conv.weights.sums
    if not conv.weights.format.has_zero:
        added = added + taps * odd * layer.plane_sum * ((1 << count) - 1)
    if weighed:
        added = added + taps * layer.plane_sum * layer.arch.plane_excess
    bias = 2 * conv.bias - conv.pool.summed * added
    pad_code = None if geometry.pad_code is None else int(geometry.pad_code) ^ 1 << count - 1
    recipe = replace(recipe, planes=count, shape=(count * lanes, *sizes),
                     plane_lanes=lanes if weighed else None)
    conv = replace(conv, weights=conv.weights.in_planes(count, lanes - channels), bias=bias,
                   geometry=replace(geometry, pad_code=pad_code), input_shape=recipe.shape)
    layer = Layer(layer.index, conv, layer.arch, planes=1 if weighed else count,
                  idle=lanes - channels, weighed=weighed)
    need, there = accumulator_need(layer, form), layer.arch.accumulator_bits
    if need > there:
        key, _, value = wide_enough(layer.arch, need)
        raise UserError(
            f"{layer.title}: its sums over {count} planes need accumulators of {need} bits, the "
            f"chip has {there}; set {key} to {value}" + " or more" * (key == "array.largest_k"))
    return layer, recipe

"""Whether a chip can compute a layer: its formats, sums and parameters. What a chip must have for a
layer, such as optional units, is in `needs.py`."""

from collections.abc import Mapping

import numpy as np
from systolith.gen.kit.errors import UserError, WrongFormat
from systolith.hw.formats import Format
from systolith.hw.spec.numbers import SHIFT_BITS
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Tensor

from .bias import chip_bias, odd_tail
from .blocks import scaled_words
from .layer import MOST_ADDENDS, Layer
from .needs import check_needs, wide_enough

__all__ = ["accumulator_need", "check_channels", "check_layer", "check_outside", "has_weights"]


def accumulator_need(layer: Layer, input_format: Format) -> int:
    """Accumulator bits that a layer needs so that no sum overflows, with its own weights and biases
    and any inputs of a format."""
    if layer.arch.weight.binary and (input_format.uniform or layer.in_planes):
        return _need_of_planes(layer, input_format.width if input_format.uniform else 1)
    tail = layer.y.kernel * layer.x.kernel * odd_tail(layer)
    low, high = layer.conv.sum_range(input_format)
    if layer.pairs:                             # as far as sums may go between the two passes
        high = 2 * layer.taps * layer.vector * max(b - a for a, b in layer.spans)
        low = -high
    bias = chip_bias(layer)
    times = layer.conv.pool.summed
    low = min(times * (low - tail), int(bias.min()))
    high = max(times * (high + tail), int(bias.max()))
    return max((-1 - low).bit_length(), high.bit_length()) + 1


def _need_of_planes(layer, bits):
    """`accumulator_need` of a layer that reads `bits` bit planes, or whose weights are in planes.
    Idle lanes cancel in pairs, of which a last one counts, or have weights of 0 in planes."""
    conv, arch = layer.conv, layer.arch
    taps = layer.y.kernel * layer.x.kernel
    filled = layer.height * arch.lanes if layer.blocks == layer.planes else (
        layer.blocks // layer.planes * layer.vector)
    idle = layer.idle if bits > 1 else layer.blocks * layer.vector - conv.inputs
    lanes = conv.inputs // layer.bands - (layer.idle if bits > 1 else 0)
    if layer.in_planes and conv.weights.format.has_zero:
        if bits == 1:
            most = _most_of_planes(conv.weights, taps * filled)
        else:
            # while planes of a weight 0 are added up, they come to 1 for each of the input's
            zeros = (layer.idle if layer.weighed else filled - lanes) << bits + 2
            most = taps * (layer.plane_sum * (
                lanes * ((1 << bits) - 1) + layer.weighed * arch.plane_excess) + zeros)
    else:
        most = layer.plane_sum * taps * (
            (lanes + idle % 2) * ((1 << bits) - 1) + layer.weighed * arch.plane_excess)
    return max(most * conv.pool.summed,
               int(abs(chip_bias(layer)).max(initial=0))).bit_length() + 1


def _most_of_planes(weights, lanes):
    """The largest magnitude that accumulators reach which read signs in `lanes` lanes, while planes
    of weights are added up, the largest first."""
    most, done, before = lanes, np.zeros_like(weights.images), None
    for n, signs in weights.planes:
        if before is not None:
            # what has been added up, which doubles, and any part of what comes now
            done = done << before - n
            others = lanes - done[0].size       # lanes of the weight 0, of which each plane has one
            most = max(most, int(abs(done).sum(axis=(1, 2, 3)).max()) + 2 * others + lanes)
        done, before = done + (-1 if signs is None else signs.images), n
    return most


def _check_formats(layer, tensors, outside=False):
    """Raise WrongFormat for a layer whose formats the chip does not have, UserError where it reads
    sums that are not quantized. `outside`: the host brings the input into the chip's format. The
    caller, which knows the whole network, appends what to change."""
    conv, arch = layer.conv, layer.arch
    for what, name in (("reads", conv.input), ("writes", conv.output))[outside:]:
        tensor = tensors[name].format
        if what == "writes" and conv.raw:
            if tensor is not None:
                raise ValueError(f"{layer.title} is raw, but {name!r} has the format {tensor}")
            continue
        if tensor is None:
            raise UserError(f"{layer.title} reads {name!r}, which holds sums that were not "
                            "quantized; only outputs of the network can be raw")
        signs = layer.signs if what == "reads" else layer.to_signs
        if tensor != arch.activation and not (signs and tensor == arch.part):
            raise WrongFormat(f"{layer.title} {what} {name!r} in {tensor}, the chip computes in "
                              f"{arch.activation}")
    if not layer.signs and not has_weights(layer):
        if arch.weight.block_scale:
            raise WrongFormat(
                f"{layer.title} has {conv.weights.format} weights of which some pass is no "
                f"{arch.weight} block, {arch.vector} elements and a scale")
        raise WrongFormat(f"{layer.title} has {conv.weights.format} weights, the chip's are "
                          f"{arch.weight}")


def has_weights(layer: Layer) -> bool:
    """Whether the chip has the weights of a layer, or each of them is the sum of MOST_ADDENDS
    weights of the chip at most; on a chip with weights in blocks, whether each pass has a scale."""
    own, there = layer.conv.weights.format, layer.arch.weight
    if layer.in_planes:
        return True
    if there.block_scale:
        return scaled_words(layer) is not None
    if there.holds(own) or not (own.uniform and there.uniform):
        return there.holds(own)
    return bool(layer.conv.weights.in_format(there) is not None
                or (own.complete and own.signed and there.complete and there.signed
                    and len(layer.addends) <= MOST_ADDENDS))


def _check_operand(layer, tensors):
    conv, arch = layer.conv, layer.arch
    if conv.operand is None:
        return
    name = conv.operand.tensor
    if tensors[name].format != arch.activation:
        raise UserError(f"{layer.title} combines its results with {name!r} in "
                        f"{tensors[name].format}, the chip computes in {arch.activation}; quantize "
                        f"it to {arch.activation}")
    place = conv.placement
    if place.step != (1, 1) or place.first_channel // arch.group % arch.groups_per_word:
        raise UserError(f"{layer.title} combines its results with {name!r} and writes every "
                        f"{place.step[0]} x {place.step[1]}th pixel of {conv.output!r} from "
                        f"channel {place.first_channel}; with an operand it must write every "
                        f"pixel, from a channel that is a multiple of {arch.vector}")
    if conv.requantization.zero_point:
        raise ValueError(f"{layer.title} has an operand, so its own zero_point must be 0, not "
                         f"{conv.requantization.zero_point}")


def _check_parameters(layer):
    conv, own = layer.conv, layer.conv.requantization
    if own is None:
        step = conv.placement.step
        if step != (1, 1):
            raise UserError(f"{layer.title} writes sums that are not quantized to every "
                            f"{step[0]} x {step[1]}th pixel; give its output a QuantizeLinear")
        if conv.pool.size != (1, 1):
            raise UserError(f"{layer.title} pools sums that are not quantized; give its output a "
                            "QuantizeLinear")
        return
    below = () if own.below is None else (
        ("multiplier below zero", abs(own.below.multiplier), 1 << layer.arch.multiplier_bits),
        ("shift below zero", own.below.shift, 1 << SHIFT_BITS))
    for name, values, top in (("multiplier", own.multiplier, 1 << layer.arch.multiplier_bits),
                              ("shift", own.shift, 1 << SHIFT_BITS), *below):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < top:
            raise UserError(f"{layer.title}: {name} must be from 0 to {top - 1}, not "
                            f"{values.min()} to {values.max()}; the scales of its input, weights "
                            "and output are too far apart")


def _check_pairs(layer):
    conv = layer.conv
    if layer.pairs and conv.raw:
        raise UserError(f"{layer.title} has binary weights in {conv.geometry.groups} groups, and "
                        "its sums are not quantized; give its output a BipolarQuant")


def check_channels(conv: Conv) -> None:
    """Raise UserError for a layer that reads some channels of a tensor with weights that have no 0
    for the others."""
    if conv.channels is not None and not conv.weights.format.has_zero:
        raise UserError(
            f"layer {conv.name!r} reads some channels of {conv.input!r}, and {conv.weights.format} "
            "has no weight of 0 for the rest; read all channels, or choose a chip with integers "
            "(array.activation, array.weight), on which signs are numbers")


def check_outside(layer: Layer, tensors: Mapping[str, Tensor]) -> None:
    """`check_layer` for a layer whose input the host brings into the chip's format: its other
    formats and its parameters. Raises UserError."""
    _check_formats(layer, tensors, outside=True)
    _check_parameters(layer)
    _check_operand(layer, tensors)


def check_layer(layer: Layer, tensors: Mapping[str, Tensor], moved: bool = False) -> None:
    """Raise UserError where the chip cannot compute a layer exactly as the graph says, naming the
    layer, its ONNX nodes, the reason and the edit that mends it. `moved`: the channels of its input
    have other places than in the graph.
    """
    _check_formats(layer, tensors)
    _check_parameters(layer)
    check_needs(layer, tensors)
    _check_operand(layer, tensors)
    _check_pairs(layer)
    form = tensors[layer.conv.input].format
    assert form is not None                     # `_check_formats` refuses raw sums
    _check_tail(layer)
    bits = accumulator_need(layer, form)
    if bits > layer.arch.accumulator_bits:
        _refuse_accumulators(layer, bits, moved)
    if layer.arch.float_sums and (moved or len(layer.addends) > 1):
        what = (f"its input is put together of parts that are no multiples of {layer.arch.group} "
                "channels (a group)" if moved else "its weights are sums of the chip's")
        raise UserError(f"{layer.title}: {what}, so that its sums would be rounded in another "
                        "order; set array.sums to \"integers\"")


def _check_tail(layer):
    """Refuse padding that an odd number of idle lanes of a binary chip cannot cancel."""
    conv, arch, geometry = layer.conv, layer.arch, layer.conv.geometry
    if odd_tail(layer) and any(geometry.pads) and geometry.pad_code != 0 and (
            not geometry.replicate):
        raise UserError(
            f"{layer.title}: {conv.inputs} channels leave an odd number of the "
            f"{arch.vector} lanes (rows * lanes) unused, and a bipolar lane has no zero, so its "
            "padding must be -1 or replicated where sums are not quantized; make the number of "
            "channels even, pad with -1, or give its output a BipolarQuant")


def _refuse_accumulators(layer, bits, moved):
    """Refuse a layer whose sums need `bits` bits and exceed the accumulators, unless they saturate
    at the same point as the layer's. Exact accumulators must hold all sums."""
    conv, arch = layer.conv, layer.arch
    if layer.pairs and not arch.exact_sums:
        raise UserError(
            f"{layer.title}: its pairs of passes could saturate accumulators of "
            f"{arch.accumulator_bits} bits; set array.accumulator to {bits} or to \"exact\"")
    if layer.in_planes and not arch.exact_sums:
        raise UserError(
            f"{layer.title}: the {len(layer.weight_shifts)} planes of its weights could "
            f"saturate accumulators of {arch.accumulator_bits} bits; set array.accumulator to "
            f"{bits} or to \"exact\"")
    if len(layer.addends) > 1 and not arch.exact_sums:
        raise UserError(
            f"{layer.title}: some of its {conv.weights.format} weights are sums of the chip's "
            f"{arch.weight}, whose passes could saturate accumulators of {arch.accumulator_bits} "
            f"bits; set array.accumulator to {bits} or to \"exact\"")
    if arch.accumulator is None:
        key, _, value = wide_enough(arch, bits)
        mend = (f"raise {key} to {value}, or choose saturating ones by array.accumulator"
                if key == "array.largest_k" else f"set {key} to {value}")
        raise UserError(
            f"{layer.title}: its sums need accumulators of {bits} bits, the chip's exact ones have "
            f"{arch.accumulator_bits} (array.largest_k = {arch.largest_k}); {mend}")
    top = 1 << arch.accumulator_bits - 1
    bias = chip_bias(layer)
    if not -top <= int(bias.min()) <= int(bias.max()) < top:
        raise UserError(
            f"{layer.title}: a bias of {max(map(int, bias), key=abs)} does not fit accumulators of "
            f"{arch.accumulator_bits} bits; raise array.accumulator")
    if moved:
        raise UserError(
            f"{layer.title}: its input is put together of parts that are no multiples of "
            f"{arch.group} channels (a group), and accumulators of {arch.accumulator_bits} bits "
            f"could saturate at another point; set array.accumulator to {bits} or to \"exact\"")
    if conv.pool.sum:
        raise UserError(
            f"{layer.title}: it adds up sums that could have saturated in accumulators of "
            f"{arch.accumulator_bits} bits; set array.accumulator to {bits} or to \"exact\"")
    if odd_tail(layer):
        raise UserError(
            f"{layer.title}: {conv.inputs} channels leave an odd number of the "
            f"{arch.vector} lanes (rows * lanes) unused, and what the last one adds could saturate "
            f"accumulators of {arch.accumulator_bits} bits at another point; set array.accumulator "
            f"to {bits} or to \"exact\"")

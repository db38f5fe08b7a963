"""Layers as the array sees them: what the chip can compute, taps that the host lays out, weight
and parameter words.
"""

from dataclasses import replace
from itertools import product

import numpy as np
from systolith.gen.kit.errors import UserError, WrongFormat
from systolith.hw.spec.numbers import MULTIPLIER_BITS, SHIFT_BITS
from systolith.hw.spec.words import pack_parameter_words, pack_weight_words

from .tile import MOST_ADDENDS, Layer

__all__ = ["bias_error", "bias_fraction", "check_channels", "check_layer", "check_outside",
           "has_weights", "largest_k", "lay_out_taps", "parameter_bytes", "weight_bytes"]


def _odd_tail(layer):
    """Whether the idle lanes after the last channel are odd in number, so that one product of
    theirs is not cancelled."""
    return (layer.arch.weight.binary and not layer.pairs
            and (layer.blocks * layer.arch.vector - layer.conv.inputs) % 2 == 1)


def _bias(layer):
    """The bias as the chip holds it, with what an odd tail adds to every sum taken off, one product
    of two -1 a tap; twice the bias of pairs of passes."""
    bias = layer.conv.on_chip(layer.arch).bias
    if layer.pairs:
        return 2 * bias
    return bias - layer.y.kernel * layer.x.kernel * _odd_tail(layer)


def accumulator_need(layer, input_format):
    """Bits that exact sums and the bias need, with the layer's own weights and any activations."""
    if layer.arch.weight.binary and input_format.uniform:
        return _need_of_planes(layer, input_format.width)
    tail = layer.y.kernel * layer.x.kernel * _odd_tail(layer)
    low, high = layer.conv.sum_range(input_format)
    if layer.pairs:                             # as far as sums may go between the two passes
        high = 2 * layer.taps * layer.arch.vector * max(b - a for a, b in layer.spans)
        low = -high
    bias = _bias(layer)
    times = layer.pool if layer.conv.pool_sum else 1
    low = min(times * (low - tail), int(bias.min()))
    high = max(times * (high + tail), int(bias.max()))
    return max((-1 - low).bit_length(), high.bit_length()) + 1


def _need_of_planes(layer, bits):
    """Accumulator bits that a layer needs where its input is read plane by plane; pairs of idle
    lanes cancel."""
    conv = layer.conv
    lanes = conv.inputs // layer.planes - layer.idle + layer.idle % 2
    products = layer.y.kernel * layer.x.kernel * lanes * (layer.pool if conv.pool_sum else 1)
    return max(products * ((1 << bits) - 1), int(abs(conv.bias).max())).bit_length() + 1


def _check_formats(layer, tensors, outside=False):
    """Refuse a layer whose formats the chip does not have; `outside`: the host brings the input
    into the chip's format. Who knows the whole network says what would help."""
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
        if tensor != arch.activation:
            raise WrongFormat(f"{layer.title} {what} {name!r} in {tensor}, the chip computes in "
                              f"{arch.activation}")
    if conv.operand is not None:
        _check_operand(layer, tensors)
    if not has_weights(layer):
        raise WrongFormat(f"{layer.title} has {conv.weight_format} weights, the chip's are "
                          f"{arch.weight}")


def has_weights(layer):
    """Whether the chip's weights, or sums of a few, are the layer's."""
    own, there = layer.conv.weight_format, layer.arch.weight
    if there.holds(own) or not (own.uniform and there.uniform):
        return there.holds(own)
    (low, high), images = there.image_range, own.image(layer.conv.weight)
    return bool((low <= images.min() and images.max() <= high)
                or (own.complete and own.signed and there.complete and there.signed
                    and len(layer.addends) <= MOST_ADDENDS))


def _check_operand(layer, tensors):
    conv, arch = layer.conv, layer.arch
    name = conv.operand.tensor
    if not arch.operand_depth:
        raise UserError(
            f"{layer.title} combines its results with {name!r}, and the chip has no operand "
            "memory; set buffers.operands (words like those of buffers.activations)")
    if tensors[name].format != arch.activation:
        raise UserError(f"{layer.title} combines its results with {name!r} in "
                        f"{tensors[name].format}, the chip computes in {arch.activation}; quantize "
                        f"it to {arch.activation}")
    if conv.step != (1, 1) or conv.first_channel // arch.group % arch.groups_per_word:
        raise UserError(f"{layer.title} combines its results with {name!r} and writes every "
                        f"{conv.step[0]} x {conv.step[1]}th pixel of {conv.output!r} from channel "
                        f"{conv.first_channel}; with an operand it must write every pixel, from a "
                        f"channel that is a multiple of {arch.vector}")
    if conv.zero_point:
        raise ValueError(f"{layer.title} has an operand, so its own zero_point must be 0, not "
                         f"{conv.zero_point}")


def _check_parameters(layer):
    conv = layer.conv
    if conv.raw and tuple(conv.step) != (1, 1):
        raise UserError(f"{layer.title} writes sums that are not quantized to every "
                        f"{conv.step[0]} x {conv.step[1]}th pixel; give its output a "
                        "QuantizeLinear")
    if conv.raw and tuple(conv.pool) != (1, 1):
        raise UserError(f"{layer.title} pools sums that are not quantized; give its output a "
                        "QuantizeLinear")
    below = () if conv.below is None else (
        ("multiplier below zero", abs(conv.below[0]), 1 << MULTIPLIER_BITS),
        ("shift below zero", conv.below[1], 1 << SHIFT_BITS))
    for name, values, top in (("multiplier", conv.multiplier, 1 << MULTIPLIER_BITS),
                              ("shift", conv.shift, 1 << SHIFT_BITS), *below):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < top:
            raise UserError(f"{layer.title}: {name} must be from 0 to {top - 1}, not "
                            f"{values.min()} to {values.max()}; the scales of its input, weights "
                            "and output are too far apart")


def bias_error(conv, arch):
    """The largest error of a bias on this chip, in steps of the output (of its results, where these
    are floats: smallest subnormals)."""
    held = conv.on_chip(arch)
    if held is conv:
        return 0.0
    carry = (held.bias - conv.bias).astype(np.float64)
    sides = [(conv.multiplier, conv.shift, conv.addend, held.addend)]
    if conv.below is not None:
        sides.append((*conv.below, held.below[2]))
    error = max(float(np.abs(np.ldexp(carry * factor + other - addend, -shift)).max())
                for factor, shift, addend, other in sides)
    operand = conv.operand
    if operand is None:
        return error
    reach = max(map(abs, arch.activation.image_range)) * 2 if operand.product else 1
    return error * abs(operand.gain) * reach / 2.0 ** operand.shift


def bias_fraction(conv, arch):
    """The least value of post.bias_fraction with which no bias is off by more than half a step."""
    return next(bits for bits in range(MULTIPLIER_BITS + 1) if bits == MULTIPLIER_BITS
                or bias_error(conv, replace(arch, bias_fraction=bits)) <= 0.5)


def _check_bias(layer):
    conv, arch = layer.conv, layer.arch
    error = bias_error(conv, arch)
    if error > 0.5 and arch.bias_fraction < MULTIPLIER_BITS:
        raise UserError(
            f"{layer.title}: its bias would be off by {error:.3g} steps of its output, since "
            "one step of its sums is so many of these and the chip holds only "
            f"{arch.bias_fraction} fraction bits of a bias; set post.bias_fraction="
            f"{bias_fraction(conv, arch)}")


def _check_functions(layer):
    conv, arch = layer.conv, layer.arch
    if conv.below is not None and not arch.leaky:
        raise UserError(f"{layer.title} multiplies sums below zero by another factor than the rest "
                        "(LeakyRelu, PRelu), and the chip has no second multiplier; set "
                        "post.leaky to true")
    if conv.table is not None and len(conv.table) > arch.table_depth:
        words = 1 << (len(conv.table) - 1).bit_length()
        has = (f"the chip's has {arch.table_depth} words" if arch.table_depth
               else "the chip has no table memory")
        raise UserError(f"{layer.title} looks up its results in a table of {len(conv.table)}, and "
                        f"{has}; set buffers.tables to {words}, or twice that for speed")


def largest_k(arch, bits):
    """The value of array.largest_k that gives exact accumulators so many bits."""
    return -(-(1 << (bits - 2)) // arch.term_bound)


def _check_pairs(layer):
    conv = layer.conv
    if layer.pairs and conv.raw:
        raise UserError(f"{layer.title} has binary weights in {conv.groups} groups, and its sums "
                        "are not quantized; give its output a BipolarQuant")


def check_channels(conv):
    """Refuse a layer that reads some channels of many and has no weight of 0 for the rest."""
    if conv.channels is not None and conv.weight_format.zero_code is None:
        raise UserError(
            f"layer {conv.name!r} reads some channels of {conv.input!r}, and {conv.weight_format} "
            "has no weight of 0 for the rest; read all channels, or choose a chip with integers "
            "(array.activation, array.weight), on which signs are numbers")


def check_outside(layer, tensors):
    """Refuse a layer for its formats and parameters; what it reads, the host brings into the chip's
    format."""
    _check_formats(layer, tensors, outside=True)
    _check_parameters(layer)


def check_layer(layer, tensors, moved=False):
    """Refuse a layer whose numbers this chip cannot compute exactly as the graph says. `moved`:
    its input's channels have other places than in the graph.

    Raises UserError naming layer, ONNX nodes, the reason and what would fix it.
    """
    conv, arch = layer.conv, layer.arch
    _check_formats(layer, tensors)
    _check_parameters(layer)
    _check_functions(layer)
    _check_bias(layer)
    _check_pairs(layer)
    bits = accumulator_need(layer, tensors[conv.input].format)
    padded = any(conv.pads)
    if _odd_tail(layer) and padded and conv.pad_code != 0 and not conv.replicate:
        raise UserError(
            f"{layer.title}: {conv.inputs} channels leave an odd number of the "
            f"{arch.vector} lanes (rows * lanes) unused, and a bipolar lane has no zero, so its "
            "padding must be -1 or replicated; make the number of channels even, or pad with -1")
    if bits <= arch.accumulator_bits:
        return
    if layer.pairs and arch.accumulator is not None:
        raise UserError(
            f"{layer.title}: the pairs of passes of its groups could saturate accumulators of "
            f"{arch.accumulator_bits} bits; set array.accumulator to {bits} or to \"exact\"")
    if len(layer.addends) > 1 and arch.accumulator is not None:
        raise UserError(
            f"{layer.title}: some of its {conv.weight_format} weights are sums of the chip's "
            f"{arch.weight}, whose passes could saturate accumulators of {arch.accumulator_bits} "
            f"bits; set array.accumulator to {bits} or to \"exact\"")
    if arch.accumulator is None:
        raise UserError(
            f"{layer.title}: its sums need accumulators of {bits} bits, the chip's exact ones have "
            f"{arch.accumulator_bits} (array.largest_k = {arch.largest_k}); raise array.largest_k "
            f"to {largest_k(arch, bits)}, or choose saturating ones by array.accumulator")
    top = 1 << arch.accumulator_bits - 1
    bias = _bias(layer)
    if not -top <= int(bias.min()) <= int(bias.max()) < top:
        raise UserError(
            f"{layer.title}: a bias of {max(map(int, bias), key=abs)} does not fit accumulators of "
            f"{arch.accumulator_bits} bits; raise array.accumulator")
    if moved:
        raise UserError(
            f"{layer.title}: its input is put together of parts that are no multiples of "
            f"{arch.group} channels (a group), and accumulators of {arch.accumulator_bits} bits "
            f"could saturate at another point; set array.accumulator to {bits} or to \"exact\"")
    if conv.pool_sum:
        raise UserError(
            f"{layer.title}: it adds up sums that could have saturated in accumulators of "
            f"{arch.accumulator_bits} bits; set array.accumulator to {bits} or to \"exact\"")
    if _odd_tail(layer):
        raise UserError(
            f"{layer.title}: {conv.inputs} channels leave an odd number of the "
            f"{arch.vector} lanes (rows * lanes) unused, and what the last one adds could saturate "
            f"accumulators of {arch.accumulator_bits} bits at another point; set array.accumulator "
            f"to {bits} or to \"exact\"")


# Taps as channels.

def _tap_axis(size, kernel, stride, dilation, pads, out, taps):
    """One axis when `taps` neighbouring taps become channels: (taps, step, pad, size) of the map
    that the host writes and (kernel, stride, dilation, pads) of the layer that reads it."""
    if taps == 1 and kernel > 1:
        return (1, 1, 0, size), (kernel, stride, dilation, pads)
    rest = -(-kernel // taps)
    if rest == 1:
        return (taps, stride, pads[0], out), (1, 1, 1, (0, 0))
    length = (out - 1) * stride + (rest - 1) * taps * dilation + 1
    return (taps, 1, pads[0], length), (rest, stride, taps * dilation, (0, 0))


def _candidates(kernel):
    """Numbers of taps per word that lead to different numbers of passes, the least for each."""
    return sorted({-(-kernel // rest) for rest in range(1, kernel + 1)})


def _tap_weights(conv, taps, fill):
    """The layer's weights [O, ny * nx * I, ky, kx] when taps are channels."""
    channels, inputs, *kernel = conv.weight.shape
    rest = [-(-k // n) for k, n in zip(kernel, taps, strict=True)]
    padding = [(0, r * n - k) for r, n, k in zip(rest, taps, kernel, strict=True)]
    weight = np.pad(conv.weight, ((0, 0), (0, 0), *padding), constant_values=fill)
    weight = weight.reshape(channels, inputs, rest[0], taps[0], rest[1], taps[1])
    weight = weight.transpose(0, 3, 5, 1, 2, 4)
    return weight.reshape(channels, taps[0] * taps[1] * inputs, *rest)


def lay_out_taps(layer, input_format, planes=1, minus=0):
    """Let the host write neighbouring kernel taps of a network input as channels.

    A first layer has few channels and leaves most array rows empty; the map that the host writes
    holds `ny * nx` taps in each word instead, channel (ky * nx + kx) * channels + c. Chosen for
    the fewest cycles of array and bus, as long as the map stays below twice its size or leaves
    half of the activation memory. Returns (Layer, recipe): the layer that reads such a map, and
    how it is made, or the same layer and None where nothing is gained. The sums are the same
    products; where saturating accumulators could tell the difference, nothing is changed.
    `planes`: the input is so many maps of one bit each, one after the other; `minus`: the code of
    padding
    that is -1 in every bipolar lane.
    """
    conv, arch = layer.conv, layer.arch
    channels = conv.input_shape[0]
    zero = conv.weight_format.zero_code
    fill = conv.pad_code if conv.pad_code is not None else input_format.zero_code
    ordered = (arch.accumulator is not None and input_format == arch.activation
               and accumulator_need(layer, input_format) > arch.accumulator_bits)
    if conv.groups > 1 or ordered or min(conv.pads) < 0 or (
            fill is None and any(conv.pads) and not conv.replicate):
        return layer, None
    across = [axis.under((0, axis.out))[1] for axis in (layer.y, layer.x)]
    pixels = layer.pixels(layer.y.out, layer.x.out)
    kernel = conv.weight.shape[2:]
    best = None
    for taps in product(*map(_candidates, kernel)):
        if zero is None and any(k % n for k, n in zip(kernel, taps, strict=True)):
            continue
        axes = [_tap_axis(conv.input_shape[1 + n], kernel[n], conv.stride[n], conv.dilation[n],
                          conv.pads[n::2], across[n], taps[n])
                for n in (0, 1)]
        blocks = -(-taps[0] * taps[1] * channels // arch.vector)
        passes = axes[0][1][0] * axes[1][1][0] * blocks
        odd = zero is None and (blocks * arch.vector - taps[0] * taps[1] * channels) % 2
        padded = any(any(axis[1][3]) for axis in axes)
        if odd and padded and conv.pad_code != minus and not conv.replicate:
            continue                            # see `check_layer`
        words = planes * blocks * axes[0][0][3] * axes[1][0][3]
        again = axes[0][1][0] > 1 or axes[1][1][0] > 1
        if again and words > max(2 * planes * layer.input_words, arch.activation_depth // 2):
            continue                            # reading it again in tiles would cost more
        total = layer.passes if taps == (1, 1) else layer.column_blocks * passes
        array = planes * total * layer.pass_cycles(pixels)
        load = words * arch.activation_bytes // arch.beat_bytes
        cost = (max(array, load) + load // 2, array, taps[0] * taps[1])
        if best is None or cost < best[0]:
            best = (cost, taps, axes)
    if best is None:
        return layer, None
    _, taps, axes = best
    if all(n == 1 for n in taps) and all(
            axis[0] == (1, 1, 0, size)
            for axis, size in zip(axes, conv.input_shape[1:], strict=True)):
        return layer, None
    (host_y, conv_y), (host_x, conv_x) = axes
    recipe = {
        "taps": list(taps), "dilation": list(conv.dilation), "step": [host_y[1], host_x[1]],
        "pads": [host_y[2], host_x[2]], "fill": 0 if fill is None else int(fill),
        "replicate": conv.replicate, "planes": None,
        "shape": [taps[0] * taps[1] * channels, host_y[3], host_x[3]],
    }
    packed = replace(
        conv, weight=_tap_weights(conv, taps, 0 if zero is None else zero),
        stride=(conv_y[1], conv_x[1]), dilation=(conv_y[2], conv_x[2]),
        pads=(conv_y[3][0], conv_x[3][0], conv_y[3][1], conv_x[3][1]),
        input_shape=tuple(recipe["shape"]))
    return Layer(layer.index, packed, arch), recipe


# Words.

def _pass_words(layer, codes, dtype, fill):
    """Codes [O, I, kh, kw] in passes [column block, ky, kx, block, row, column, lane]."""
    arch, (channels, inputs, kernel_y, kernel_x) = layer.arch, codes.shape
    out, vector = layer.column_blocks * arch.columns, layer.blocks * arch.vector
    padded = np.zeros((out, vector, kernel_y, kernel_x), dtype)
    padded[:channels, :inputs] = codes
    if arch.weight.binary:
        # Idle lanes cancel in pairs of lanes or, with pairs of passes, between the two passes.
        idle = np.full(vector - inputs, fill) if layer.pairs else np.arange(vector - inputs) % 2
        padded[:, inputs:] = idle.astype(dtype)[:, None, None]
        # Columns without channel: their sums, too, must stay within the accumulators.
        spare = np.full(vector, fill) if layer.pairs else np.arange(vector) % 2
        padded[channels:] = spare.astype(dtype)[:, None, None]
    words = padded.reshape(layer.column_blocks, arch.columns, layer.blocks, arch.rows, arch.lanes,
                           kernel_y, kernel_x)
    return words.transpose(0, 5, 6, 2, 3, 1, 4)


def weight_bytes(layer, parts):
    """Weights of a layer as the array takes them, column block by column block.

    In each, passes follow part by part, and in a part by kernel row, kernel column and block; a
    pass is one word for every array row.
    """
    conv, arch = layer.conv, layer.arch
    if layer.addends:
        addends = [arch.weight.encode(images) for images in layer.addends]
    elif conv.weight_format != arch.weight:
        addends = [arch.weight.encode(conv.weight_format.decode(conv.weight))]
    else:
        addends = [conv.weight]
    dtype = np.uint8 if arch.weight.width <= 8 else np.uint16
    if layer.from_above:
        words = [layer.from_above.words(codes.astype(dtype), layer) for codes in addends]
        return pack_weight_words(np.concatenate(
            [words[turn][block].reshape(-1, arch.columns) for block in range(layer.column_blocks)
             for turn, _ in layer.turns(layer.kernel, block)]), arch)
    addends = [replace(conv, weight=codes, weight_format=arch.weight) for codes in addends]
    turns = [_pass_words(layer, one.dense_weight(fill), dtype, fill) for one in addends
             for fill in ((0, 1) if layer.pairs else (arch.weight.zero_code,))]
    uniform = len(set(layer.spans)) == 1 and len(addends) == 1
    together = [slice(None)] if uniform else [slice(n, n + 1) for n in range(layer.column_blocks)]
    cut = []
    for mine in together:
        boxes = [item for part in parts for item in layer.turns(part, mine.start or 0)]
        chosen = [turns[turn][mine, y:y + rows, x:x + columns, b:b + blocks]
                  for turn, (y, rows, x, columns, b, blocks) in boxes]
        cut.append(np.concatenate([item.reshape(len(item), -1, arch.columns * arch.lanes)
                                   for item in chosen], axis=1))
    return pack_weight_words(np.concatenate(
        [item.reshape(-1, arch.columns * arch.lanes) for item in cut]), arch)


def parameter_bytes(layer):
    """Parameters of a layer: `chunks` words for every group of result channels, and with bipolar
    formats one more group at the end, whose results are always -1: it fills lanes without
    channel."""
    conv, arch = layer.conv, layer.arch
    bipolar = arch.activation.binary
    total = (layer.groups + bipolar) * arch.group
    lowest = -(1 << arch.accumulator_bits - 1) if bipolar else 0
    # Signs need no shift: its lowest bit selects min pooling instead of max pooling.
    shifts = conv.shift if not bipolar else 0 if conv.least is None else conv.least
    columns, held = [], conv.on_chip(arch)
    for values, absent in ((_bias(layer), lowest), (conv.multiplier, int(bipolar)), (shifts, 0),
                           (held.addend, 0), (conv.ties, 0),
                           *((item, 0) for item in held.below or ())):
        column = np.full(total, absent, np.int64)
        column[:layer.channels] = values
        columns.append(column.reshape(-1, arch.post_lanes))
    bias, multiplier, shift, addend, ties, *below = columns
    return pack_parameter_words(bias, multiplier, shift, arch, below or None, addend, ties)

"""Kernel taps of a network input that the host lays out as channels."""

from dataclasses import replace
from itertools import product

import numpy as np
from systolith.hw.spec.host import Taps

from .layer import Layer
from .legal import accumulator_need

__all__ = ["lay_out_taps"]


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
    half of the activation memory. Returns (Layer, Taps): the layer that reads such a map, and
    how it is made, or the same layer and None where nothing is gained. The sums are the same
    products; where saturating accumulators could tell the difference, nothing is changed.
    `planes`: the input is so many maps of one bit each, one after the other; `minus`: the code of
    padding
    that is -1 in every bipolar lane.
    """
    conv, geometry, arch = layer.conv, layer.conv.geometry, layer.arch
    channels = conv.input_shape[0]
    zero = conv.weight_format.zero_code
    fill = geometry.pad_code if geometry.pad_code is not None else input_format.zero_code
    ordered = (arch.accumulator is not None and input_format == arch.activation
               and accumulator_need(layer, input_format) > arch.accumulator_bits)
    if geometry.groups > 1 or ordered or min(geometry.pads) < 0 or (
            fill is None and any(geometry.pads) and not geometry.replicate):
        return layer, None
    across = [axis.under((0, axis.out))[1] for axis in (layer.y, layer.x)]
    pixels = layer.pixels(layer.y.out, layer.x.out)
    kernel = conv.weight.shape[2:]
    best = None
    for taps in product(*map(_candidates, kernel)):
        if zero is None and any(k % n for k, n in zip(kernel, taps, strict=True)):
            continue
        axes = [_tap_axis(conv.input_shape[1 + n], kernel[n], geometry.stride[n],
                          geometry.dilation[n], geometry.pads[n::2], across[n], taps[n])
                for n in (0, 1)]
        blocks = -(-taps[0] * taps[1] * channels // arch.vector)
        passes = axes[0][1][0] * axes[1][1][0] * blocks
        odd = zero is None and (blocks * arch.vector - taps[0] * taps[1] * channels) % 2
        padded = any(any(axis[1][3]) for axis in axes)
        if odd and padded and geometry.pad_code != minus and not geometry.replicate:
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
    recipe = Taps(
        taps=tuple(taps), dilation=geometry.dilation, step=(host_y[1], host_x[1]),
        pads=(host_y[2], host_x[2]), fill=0 if fill is None else int(fill),
        replicate=geometry.replicate, planes=None,
        shape=(taps[0] * taps[1] * channels, host_y[3], host_x[3]))
    packed = replace(
        conv, weight=_tap_weights(conv, taps, 0 if zero is None else zero),
        geometry=replace(
            geometry, stride=(conv_y[1], conv_x[1]), dilation=(conv_y[2], conv_x[2]),
            pads=(conv_y[3][0], conv_x[3][0], conv_y[3][1], conv_x[3][1])),
        input_shape=recipe.shape)
    return Layer(layer.index, packed, arch), recipe

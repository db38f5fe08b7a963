"""Kernel taps of a network input that the host writes as channels.

A first layer has few channels, which leaves most rows of the array without work. So the host writes
a map whose words hold several neighbouring kernel taps of the image as channels, and the layer that
reads this map has a smaller kernel and more channels. The products of each sum stay the same.
"""

from dataclasses import dataclass, replace
from itertools import product

from systolith.hw.formats import Format
from systolith.hw.spec.host import Taps, Windows
from systolith.hw.spec.words import input_word_bytes
from systolith.sim.model.conv import Conv

from .layer import Layer
from .legal import accumulator_need

__all__ = ["lay_out_taps"]


@dataclass(frozen=True)
class _Axis:
    """One axis of the map that the host writes, and of the layer that reads it.

    Attributes
    ----------
    taps : int
        Neighbouring kernel taps that become channels.
    step, pad, size : int
        Position n of the map (0 to size - 1) holds the image's positions
        n * step - pad + k * dilation for k from 0 to taps - 1.
    kernel, stride, dilation, pads
        Of the layer that reads the map; `pads` before and after.
    """
    taps: int
    step: int
    pad: int
    size: int
    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int]

    @property
    def unchanged(self) -> bool:
        """Whether each position of the map is that position of the image, which may be longer."""
        return (self.taps, self.step, self.pad) == (1, 1, 0)


def _axis(layer, n, taps):
    """The `_Axis` n (0: y, 1: x) where `taps` neighbouring taps become channels."""
    conv, geometry, axis = layer.conv, layer.conv.geometry, (layer.y, layer.x)[n]
    kernel, stride, dilation = axis.kernel, geometry.stride[n], geometry.dilation[n]
    before, after = geometry.pads[n::2]
    if taps == 1 and kernel > 1:
        return _Axis(1, 1, 0, conv.input_shape[1 + n], kernel, stride, dilation, (before, after))
    pixels = axis.under((0, axis.out))[1]
    rest = -(-kernel // taps)
    if rest == 1:
        return _Axis(taps, stride, before, pixels, 1, 1, 1, (0, 0))
    length = (pixels - 1) * stride + (rest - 1) * taps * dilation + 1
    return _Axis(taps, 1, before, length, rest, stride, taps * dilation, (0, 0))


def _candidates(kernel):
    """Numbers of taps in a word that lead to different numbers of passes, the least for each."""
    return sorted({-(-kernel // rest) for rest in range(1, kernel + 1)})


def _fill(layer, input_format):
    """The code of what lies outside of the image; None where no code stands for it."""
    code = layer.conv.geometry.pad_code
    return code if code is not None else input_format.zero_code


def _possible(layer, input_format):
    """Whether taps of a layer's input may become channels: the host must have a code for padding,
    and saturating accumulators must not see that products come in another order."""
    geometry, arch = layer.conv.geometry, layer.arch
    ordered = not arch.exact_sums and input_format == arch.activation and (
        arch.float_sums or accumulator_need(layer, input_format) > arch.accumulator_bits)
    padding = _fill(layer, input_format) is not None or geometry.replicate
    return geometry.groups == 1 and not ordered and min(geometry.pads) >= 0 and (
        padding or not any(geometry.pads))


def _choices(layer, planes, minus):
    """(cost, y, x) of the ways to make taps channels, an `_Axis` for each of both axes; see
    `lay_out_taps`. The smallest cost is the best."""
    conv, geometry, arch = layer.conv, layer.conv.geometry, layer.arch
    zero, channels = conv.weights.format.has_zero, conv.input_shape[0]
    pixels = layer.pixels(layer.y.out, layer.x.out)
    for taps in product(_candidates(layer.y.kernel), _candidates(layer.x.kernel)):
        if not zero and (layer.y.kernel % taps[0] or layer.x.kernel % taps[1]):
            continue                            # no weight for taps beyond the kernel
        y, x = _axis(layer, 0, taps[0]), _axis(layer, 1, taps[1])
        count = y.taps * x.taps * channels
        blocks = -(-count // arch.vector)
        odd = not zero and (blocks * arch.vector - count) % 2
        padded = any(y.pads) or any(x.pads)
        if odd and padded and geometry.pad_code != minus and not geometry.replicate:
            continue                            # see `check_layer`
        words = planes * blocks * y.size * x.size
        again = y.kernel > 1 or x.kernel > 1
        if again and words > max(2 * planes * layer.input_words, arch.activation_depth // 2):
            continue                            # reading it again in tiles would cost more
        passes = len(layer.weight_shifts) * layer.column_blocks * y.kernel * x.kernel * blocks
        array = planes * (layer.passes if taps == (1, 1) else passes) * layer.pass_cycles(pixels)
        load = words * input_word_bytes(count, arch) // arch.beat_bytes
        yield (max(array, load) + load // 2, array, y.taps * x.taps), y, x


def _windows(layer, input_format):
    """(cost, layer, Taps) of the ways to let LOAD make windows of rows of the image: some rows of
    the kernel lie beside each other, and one or two words hold the bytes of a result's taps."""
    conv, geometry, arch = layer.conv, layer.conv.geometry, layer.arch
    channels, kernel, stride = conv.input_shape[0], layer.x.kernel, geometry.stride[1]
    if not arch.load_windows or geometry.dilation[1] > 1 or arch.weight.block_scale or (
            not conv.weights.format.has_zero):
        return
    pixels, positions = layer.pixels(layer.y.out, layer.x.out), layer.x.under((0, layer.x.out))[1]
    fill = _fill(layer, input_format)
    for rows in _candidates(layer.y.kernel):
        y, each = _axis(layer, 0, rows), rows * channels
        total, step = kernel * each, stride * each
        starts = _starts(total, step, arch.window_bytes)
        if starts is None:
            continue
        lanes, words = min(total, arch.window_bytes), len(starts)
        steps = (step, step) if words == 1 else (starts[1] % step, step - starts[1] % step)
        dilation = 1 if words == 1 else 2 * (starts[1] // step) + 1
        width = words * (positions - 1) + dilation * (words - 1) + 1
        used = width // 2 * steps[0] + (width - 1) // 2 * steps[1] + arch.window_bytes
        beats = -(-used // arch.beat_bytes)
        reach = (y.kernel - 1) * y.dilation + 1
        if max(*steps, beats // 32) > 127 or 4 * reach * width > arch.activation_depth:
            continue
        array = layer.column_blocks * y.kernel * words * layer.pass_cycles(pixels)
        # the words share the memory's write port with the layer's results, unless there are two
        load = max(y.size * beats, y.size * width + (not arch.two_writes) * (
            layer.results * layer.groups))
        taps = Taps(
            taps=(rows, kernel), dilation=geometry.dilation, step=(y.step, stride),
            pads=(y.pad, geometry.pads[1]), fill=0 if fill is None else int(fill),
            replicate=geometry.replicate, planes=None, shape=(lanes, y.size, width),
            windows=Windows(steps, beats * arch.beat_bytes))
        changed = replace(
            conv, weights=conv.weights.with_windows(rows, y.kernel, starts, lanes),
            geometry=replace(geometry, stride=(y.stride, words), dilation=(y.dilation, dilation),
                             pads=(y.pads[0], 0, y.pads[1], 0)), input_shape=taps.shape)
        yield (max(array, load) + load // 2, array, rows), replace(layer, conv=changed), taps


def _starts(total, step, size):
    """The first bytes of a result's words, of `size` bytes each, which together have `total`
    bytes; the second one begins between the first ones of two results. None: there are none."""
    if total <= size:
        return (0,)
    return next(((0, start) for start in range(max(1, total - size), size + 1)
                 if start % step), None)


def lay_out_taps(layer: Layer, input_format: Format, planes: int = 1,
                 minus: int = 0) -> tuple[Layer, Taps | None]:
    """Let the host write neighbouring kernel taps of a network input as channels.

    On chips with windows it may write rows of bytes instead, of which LOAD makes the words. The
    taps are chosen for the fewest cycles of array and bus, as long as the map has at most twice
    as many words as the image, or leaves half of the activation memory free.

    Parameters
    ----------
    layer : Layer
        That reads the input.
    input_format : Format
        Of the input.
    planes : int
        Bit planes that the input is written as, one after the other; 1: none.
    minus : int
        The code of padding that is -1 in every bipolar lane.

    Returns (the layer that reads the map, how the map is made), or (`layer`, None) where nothing is
    gained, or where saturating accumulators could give other results.
    """
    if not _possible(layer, input_format):
        return layer, None
    conv, geometry = layer.conv, layer.conv.geometry
    best = min(_choices(layer, planes, minus), key=lambda choice: choice[0], default=None)
    if planes == 1:
        made = min(_windows(layer, input_format), key=lambda choice: choice[0], default=None)
        if made is not None and (best is None or made[0] < best[0]):
            return made[1:]
    if best is None:
        return layer, None
    _, y, x = best
    channels, *sizes = conv.input_shape
    if y.unchanged and x.unchanged and [y.size, x.size] == sizes:
        return layer, None
    fill = _fill(layer, input_format)
    taps = Taps(
        taps=(y.taps, x.taps), dilation=geometry.dilation, step=(y.step, x.step),
        pads=(y.pad, x.pad), fill=0 if fill is None else int(fill), replicate=geometry.replicate,
        planes=None, shape=(y.taps * x.taps * channels, y.size, x.size))
    packed: Conv = replace(
        conv, weights=conv.weights.with_taps((y.taps, x.taps), (y.kernel, x.kernel)),
        geometry=replace(geometry, stride=(y.stride, x.stride), dilation=(y.dilation, x.dilation),
                         pads=(y.pads[0], x.pads[0], y.pads[1], x.pads[1])),
        input_shape=taps.shape)
    return replace(layer, conv=packed), taps

"""Means as kernels: sums over windows of a map that the array makes instead of POST.

A mean is a depthwise layer of one tap whose sums POST adds up over the windows. Its only tap takes
a whole square of weights for each block of channels, a diagonal one. The same sums come from a
kernel of the window's size with the same weight at each tap, and with activations from the top
(`from_above.py`) that takes a word of weights a tap.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from systolith.sim.model.conv import Conv
from systolith.sim.model.pool import Pool

from .layer import Layer
from .tiling import plan_layer

__all__ = ["with_window_taps"]

#: Cycles that the instructions of a sub-tile cost, about.
_SUB_TILE = 16


def with_window_taps(layers: Sequence[Layer], on_chip: Collection[str]) -> list[Layer]:
    """The layers, those that sum over windows with kernels instead where that saves time. Their
    results are the same. `on_chip`: the maps that are in activation memory as a whole; of others,
    a window in all its channels may be too large."""
    return [_with_taps(layer) if layer.conv.input in on_chip else layer for layer in layers]


def _with_taps(layer):
    # Written copies, bit planes and sums of weights have words of their own.
    plain = (not (layer.spread or layer.side or layer.part or layer.copies or layer.halves
                  or layer.to_signs or layer.weighed) and layer.planes == len(layer.addends) == 1)
    if not plain or not _summed(layer.conv):
        return layer
    made = replace(layer, conv=_kernel(layer.conv))
    better = (made.from_above and made.stored.bytes <= layer.stored.bytes
              and _cost(made) < _cost(layer))
    return made if better else layer


def _summed(conv):
    """Whether a layer sums one tap over windows that lie side by side. `plan_from_above` knows
    whether each channel has a tap of its own."""
    geometry, pool = conv.geometry, conv.pool
    return (conv.weights.shape[2:] == (1, 1) and pool.sum and pool.stride == pool.size != (1, 1)
            and not any(pool.pads)
            and geometry.stride == (1, 1) and not any(geometry.pads) and conv.operand is None)


def _kernel(conv: Conv) -> Conv:
    """The layer with a kernel in place of its windows."""
    size = conv.pool.size
    weights = conv.weights
    for axis, count in enumerate(size, 2):
        weights = weights.repeated(count, axis)
    # One window has no next one, and ARRAY has few bits for strides.
    stride = tuple(1 if taps == pixels else taps
                   for taps, pixels in zip(size, conv.input_shape[1:], strict=True))
    return replace(conv, weights=weights, pool=Pool(),
                   geometry=replace(conv.geometry, stride=stride, dilation=(1, 1)))


def _cost(layer):
    """About the cycles of a layer whose input is on the chip: the most of those of the array and of
    POST, those of instructions, and a quarter of those of loading its weights, most of which may be
    hidden by other layers."""
    plan, times = plan_layer(layer, None), layer.images * layer.pool
    subs = plan.sub_tiles(plan.tiles[0])
    array = plan.cycles
    if not layer.from_above:                    # weights come during the passes before
        (y0, y1), (x0, x1) = subs[0]
        pixels = layer.pixels(y1 - y0, x1 - x0)
        array -= max(0, layer.pass_cycles(pixels) - pixels)
    post = times * layer.results * sum(map(layer.used_chunks, range(layer.groups)))
    instructions = _SUB_TILE * layer.images * len(subs) * layer.column_blocks
    return max(array, post) + instructions + layer.stored.bytes / layer.arch.beat_bytes / 4

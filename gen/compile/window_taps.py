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

__all__ = ["with_window_taps"]


def with_window_taps(layers: Sequence[Layer], on_chip: Collection[str]) -> list[Layer]:
    """The layers, those that sum over windows with kernels instead where that saves time. Their
    results are the same. `on_chip`: the maps that are in activation memory as a whole; of others,
    a window in all its channels may be too large."""
    return [_with_taps(layer) if layer.conv.input in on_chip else layer for layer in layers]


def _with_taps(layer):
    arch = layer.arch
    # Written copies, bit planes and sums of weights have words of their own.
    plain = (not (layer.spread or layer.side or layer.part or layer.copies or layer.halves
                  or layer.to_signs or layer.weighed) and layer.planes == len(layer.addends) == 1)
    if not arch.depthwise or not plain or not _summed(layer.conv):
        return layer
    made = replace(layer, conv=_kernel(layer.conv))
    better = (made.from_above and made.stored_weights <= layer.stored_weights
              and _cost(made) < _cost(layer))
    return made if better else layer


def _summed(conv):
    """Whether a layer sums one depthwise tap over windows that lie side by side."""
    geometry, pool = conv.geometry, conv.pool
    return (conv.depthwise and conv.weights.shape[2:] == (1, 1) and pool.sum
            and pool.stride == pool.size != (1, 1) and not any(pool.pads)
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
    """About the cycles of a layer: the most of those of the array, of POST and of loading its
    weights, which are also in the way of what other layers load."""
    chunks = sum(map(layer.used_chunks, range(layer.groups)))
    load = layer.stored_weights / layer.arch.beat_bytes
    return load / 4 + max(load, layer.images * layer.cycles(layer.y.out, layer.x.out),
                          layer.images * layer.results * layer.pool * chunks)

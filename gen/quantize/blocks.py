"""Scales of weights in blocks: one for each output channel, and a factor for each block.

A block is what `BlockScale` says, at one tap of the kernel: `size` weights side by side along the
input channels. A layer of fewer channels than that, or in groups, has one block for each output
channel.
"""

import numpy as np
from systolith.hw.formats import Format

from .calibrate import round_weights

__all__ = ["block_numbers", "fit_blocks", "top"]


def top(form: Format) -> float:
    """The largest number of a format of elements."""
    return float(np.ldexp(form.image_range[1], form.exponent))


def block_numbers(size: int, channels: int, taps: int) -> np.ndarray:
    """The block of each weight of an output channel: int64 array [channels * taps], the taps of a
    channel one after the other."""
    if channels < size:
        return np.zeros(channels * taps, np.int64)
    return np.add.outer(np.arange(channels) // size * taps, np.arange(taps)).ravel()


def fit_blocks(form: Format, weight: np.ndarray, blocks: np.ndarray, method: str,
               least: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(scales float32 [channels], steps float32 [channels, weights]) of weights in blocks: a weight
    is an element times its step, which is the channel's scale times its block's factor / 2**man.

    Scales without mantissa are powers of two, the channels' too, so that a block's is that of OCP
    Microscaling: 2**(floor(log2(largest magnitude)) - that of the largest element). Others are the
    smallest factor with which no element is clipped, below a channel scale with which the largest
    block has the largest factor. A block whose numbers are so small that it would need a smaller
    factor than there is has the smallest.

    Parameters
    ----------
    form : Format
        Of the elements, with a `block_scale`.
    weight : array [channels, weights]
    blocks : int array [weights]
        As of `block_numbers`.
    method : str
        "min-max": by these rules; "mse": of these factors and those next to them, for each block
        the one with the least squared error.
    least : array [channels]
        No channel's scale is smaller.
    """
    scale, largest = form.block_scale, top(form)
    assert scale is not None, "the format has blocks"
    factors = scale.factors / (1 << scale.man)
    order = np.argsort(blocks, kind="stable")
    starts = np.flatnonzero(np.diff(blocks[order], prepend=-1))
    rows = weight[:, order].astype(np.float64)
    place = np.cumsum(np.diff(blocks[order], prepend=-1) != 0) - 1
    peak = np.maximum.reduceat(np.abs(rows), starts, axis=1)
    peak = np.where(peak > 0, peak, 1e-30)
    whole = peak.max(axis=1)
    least = np.maximum(least, 1e-30)
    channel: np.ndarray
    if scale.man == 0:
        power = np.floor(np.log2(whole)) - np.floor(np.log2(largest)) - np.log2(factors[-1])
        channel = np.exp2(np.maximum(power, np.ceil(np.log2(least))))
        wanted = np.exp2(np.floor(np.log2(peak)) - np.floor(np.log2(largest)))
        code = np.rint(np.log2(wanted / channel[:, None])).astype(np.int64)
    else:
        channel = np.maximum(whole / largest / factors[-1], least)
        channel = channel.astype(np.float32).astype(np.float64)
        code = np.searchsorted(factors * (1 + 1e-7), peak / largest / channel[:, None])
    code = np.clip(code, 0, len(factors) - 1)
    if method == "mse":
        best, chosen = np.full(code.shape, np.inf), code
        for moved in (0, 1, -1, -2):
            tried = np.clip(code + moved, 0, len(factors) - 1)
            steps = (channel[:, None] * factors[tried])[:, place]
            error = np.square(rows - round_weights(form, rows, steps))
            error = np.add.reduceat(error, starts, axis=1)
            chosen = np.where(error < best, tried, chosen)
            best = np.minimum(best, error)
        code = chosen
    steps = np.empty(rows.shape, np.float32)
    steps[:, order] = (channel[:, None] * factors[code])[:, place]
    return channel.astype(np.float32), steps

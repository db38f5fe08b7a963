"""Weights that share scales: a layer's numbers as elements and one scale for each pass and column.

A network's file has the numbers alone. What a pass takes of a channel's weights lies within a
block, or is a block: then one scale is found with which all of them are elements.
"""

import numpy as np
from systolith.hw.spec.words import scale_word

from .layer import Layer

__all__ = ["pass_words", "scaled_words"]


def pass_words(layer: Layer, numbers: np.ndarray, dtype: type) -> np.ndarray:
    """Numbers of weights [O, I, kh, kw] as an array [column block, kernel row, kernel column,
    block, array row, array column, lane] of `dtype`, 0 where no weight is."""
    arch, (channels, inputs, *kernel) = layer.arch, numbers.shape
    padded = np.zeros((layer.column_blocks * arch.columns, layer.blocks * arch.vector, *kernel),
                      dtype)
    padded[:channels, :inputs] = numbers
    return padded.reshape(layer.column_blocks, arch.columns, layer.blocks, arch.rows, -1,
                          *kernel).transpose(0, 5, 6, 2, 3, 1, 4)


def scaled_words(layer: Layer) -> np.ndarray | None:
    """The codes of a layer's weights, as `pass_words`, for a chip whose weights are in blocks; the
    word after those of the rows has the scales. None where some pass has no such scale."""
    form = layer.arch.weight
    weights, scale = layer.conv.weights, form.block_scale
    assert scale is not None, "the chip has weights in blocks"
    if weights.format.binary or weights.format.exponent != form.exponent - scale.man:
        return None
    images = pass_words(layer, weights.dense(layer.conv.geometry.groups).images, np.int64)
    # [pass, column, row and lane]
    shape = images.shape
    flat = images.transpose(0, 1, 2, 3, 5, 4, 6).reshape(-1, shape[4] * shape[6])
    peak, largest = np.abs(flat).max(axis=1), max(map(abs, form.image_range))
    found = np.full(len(flat), -1)
    elements = np.zeros_like(flat)
    for code, factor in enumerate(scale.factors.tolist()):
        open_ = np.flatnonzero((found < 0) & (peak <= largest * factor))
        quotients, rest = np.divmod(flat[open_], factor)
        good = ~rest.any(axis=1) & np.asarray(form.has_image(quotients)).all(axis=1)
        found[open_[good]], elements[open_[good]] = code, quotients[good]
    if (found < 0).any():
        return None
    codes = form.from_image(elements).reshape(*shape[:4], shape[5], shape[4], shape[6])
    codes = codes.transpose(0, 1, 2, 3, 5, 4, 6)
    words = scale_word(found.reshape(*shape[:4], shape[5]), layer.arch)
    return np.concatenate([codes, words[:, :, :, :, None]], axis=4)

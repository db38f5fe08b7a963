"""Exact sums of whole arrays: convolutions, biases.

All functions take and return numpy integers. Sums that fit are computed as floating-point matrix
products, whose every intermediate result is proven to be an exact integer; what does not fit is
split, or falls back to Python integers (arrays of dtype object). Nothing is ever rounded except
where the contract rounds.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.formats import Format

from .narrow_sums import float_sums

__all__ = ["add_bias", "codes_of", "constant", "convolve", "images_of", "output_size",
           "parts_of", "round_reals", "saturating_convolve", "values_of"]

#: Input patches that are held at a time, in elements.
_PATCHES = 1 << 23


def constant(numbers: ArrayLike) -> np.ndarray:
    """An int64 array of these numbers that nobody writes to, for records that do not change: a
    copy, unless they are such an array already."""
    array = np.asarray(numbers, dtype=np.int64)
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def output_size(size: int, kernel: int, stride: int, dilation: int, pads: tuple) -> int:
    """Pixels along one axis of a convolution; `pads` is (before, after)."""
    return (size + pads[0] + pads[1] - dilation * (kernel - 1) - 1) // stride + 1


def images_of(format: Format, codes: ArrayLike) -> np.ndarray:
    """`format.image(codes)` by table: fast for large arrays. ValueError for codes that are out of
    range or no numbers."""
    codes = np.asarray(codes)
    if codes.size and (codes.min() < 0 or codes.max() >> format.width):
        raise ValueError(f"codes of {format.name} must be from 0 to {(1 << format.width) - 1}")
    used = np.zeros(1 << format.width, bool)
    used[codes] = True
    images = format.image(np.flatnonzero(used))
    table = np.zeros(used.size, images.dtype)
    table[used] = images
    return table[codes]


def values_of(format: Format, codes: ArrayLike) -> np.ndarray:
    """`format.decode(codes)` by table (float64), 0 for codes of -0. Errors as of `images_of`."""
    images_of(format, np.unique(codes))
    values = format.decode(np.arange(1 << format.width)) + 0.0
    return np.asarray(values[np.asarray(codes)])


def codes_of(parts: ArrayLike, count: int, bits: int = 1, upper_first: bool = False) -> np.ndarray:
    """Codes, int64 [..., n], of `count` parts each of so many bits [..., n * count], the lowest
    bits first, or (`upper_first`) the highest."""
    parts = np.asarray(parts, np.int64)
    order = bits * np.arange(count)[::-1 if upper_first else 1]
    return (parts.reshape(*parts.shape[:-1], -1, count) << order).sum(axis=-1)


def parts_of(part: Format, codes: ArrayLike, width: int, upper_first: bool = False) -> np.ndarray:
    """Images, int64 [..., n * parts], of what codes [..., n] of `width` bits hold of numbers in the
    format `part`, the lowest bits first, or (`upper_first`) the highest."""
    order = np.arange(0, width, part.width)[::-1 if upper_first else 1]
    found = np.asarray(codes, np.int64)[..., None] >> order & (1 << part.width) - 1
    return images_of(part, found.reshape(*found.shape[:-2], -1))


# Exact sums.

def _patches(images, kernel, stride, dilation, pads, pad_image, dtype):
    """Views of the padded `images` under every tap: [N, I, kh, kw, Ho, Wo] of `dtype`."""
    top, left, bottom, right = (max(pad, 0) for pad in pads)
    padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)),
                    constant_values=pad_image).astype(dtype)
    top, left, bottom, right = (max(-pad, 0) for pad in pads)
    padded = padded[:, :, top:padded.shape[2] - bottom, left:padded.shape[3] - right]
    reach = [dilation[n] * (kernel[n] - 1) + 1 for n in (0, 1)]
    if padded.shape[2] < reach[0] or padded.shape[3] < reach[1]:
        raise ValueError(f"the kernel reaches over {reach[0]} x {reach[1]} pixels, and the padded "
                         f"input has {padded.shape[2]} x {padded.shape[3]}")
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
    return windows.transpose(0, 1, 4, 5, 2, 3)


def _limbs(weight, largest):
    """How to multiply weight [O, K] with integers of magnitudes up to `largest` exactly.

    Returns the dtype of the factors, the dtype of the sums, and [(part of the weights, shift)]:
    the product is the sum of the parts' products, each shifted left.
    """
    magnitude = np.abs(weight)
    terms = weight.shape[1]
    if int(magnitude.max(initial=0)) * terms >> 62:
        magnitude = magnitude.astype(object)
    bound = int(magnitude.sum(axis=1).max(initial=0)) * largest
    for dtype, bits in ((np.float32, 24), (np.float64, 53)):
        if bound <= 1 << bits:
            return dtype, np.int64, [(weight.astype(dtype), 0)]
    limb = 53 - (terms * largest).bit_length()
    if limb < 1:
        return object, object, [(weight.astype(object), 0)]
    parts, shift = [], 0
    while weight.any():
        # The lowest `limb` bits; what remains is an exact multiple of 2**limb, also below 0.
        last = weight.min() >= -1 and weight.max() < 1 << limb
        high = weight * 0 if last else weight >> limb
        if (low := weight - (high << limb)).any():
            parts.append((low.astype(np.float64), shift))
        weight, shift = high, shift + limb
    return np.float64, np.int64 if bound < 1 << 63 else object, parts


def _product(limbs, columns):
    """Columns [N, K, P], already of the factors' dtype, into exact sums [N, O, P]."""
    _, sums, parts = limbs
    total = 0
    for weight, shift in parts:
        if columns.shape[2] == 1:
            part = (columns[:, :, 0] @ weight.T)[:, :, None]
        else:
            part = np.matmul(weight, columns)
        part = part if sums is object and part.dtype == object else part.astype(np.int64)
        total = total + (part.astype(sums) << shift)
    return total


def _batches(images, weight, stride, dilation, pads, pad_image, dtype=np.int64):
    """Patches of the images, a bounded amount of memory at a time."""
    kernel = weight.shape[2:]
    height = output_size(images.shape[2], kernel[0], stride[0], dilation[0], pads[::2])
    width = output_size(images.shape[3], kernel[1], stride[1], dilation[1], pads[1::2])
    each = max(1, images.shape[1] * kernel[0] * kernel[1] * max(height, 1) * max(width, 1))
    step = max(1, _PATCHES // each)
    for start in range(0, len(images), step):
        part = images[start:start + step]
        yield _patches(part, kernel, stride, dilation, pads, pad_image, dtype)


def _check_channels(images, weight, groups=1):
    if images.ndim != 4 or weight.ndim != 4 or images.shape[1] != weight.shape[1] * groups:
        raise ValueError(f"weights of shape {weight.shape} do not fit images of shape "
                         f"{images.shape} in {groups} groups; they must be [O, I / groups, kh, kw] "
                         "and [N, I, H, W]")
    if len(weight) % groups:
        raise ValueError(f"{len(weight)} output channels do not fall into {groups} equal groups")


def _largest(images, pad_image):
    return max(int(images.max(initial=0)), -int(images.min(initial=0)), abs(int(pad_image)))


def convolve(images: ArrayLike, weight: ArrayLike, *, stride: tuple = (1, 1),
             dilation: tuple = (1, 1), pads: tuple = (0, 0, 0, 0), pad_image: int = 0,
             groups: int = 1) -> np.ndarray:
    """Exact convolution (correlation, as networks mean it) of integers.

    images [N, I, H, W] and weight [O, I / groups, kh, kw] are integer arrays, `stride` and
    `dilation` are (y, x), `pads` (top, left, bottom, right) pixels of the value `pad_image` (0:
    they contribute nothing); negative ones are cut off. Returns [N, O, Ho, Wo] as int64, or as
    Python integers (dtype object) where 63 bits might not hold a sum. ValueError when the kernel
    does not fit the padded input.
    """
    images, weight = np.asarray(images), np.asarray(weight)
    _check_channels(images, weight, groups)
    flat = weight.reshape(len(weight), -1)
    limbs = _limbs(flat, _largest(images, pad_image))
    parts = []
    for patches in _batches(images, weight, stride, dilation, pads, pad_image, limbs[0]):
        count, _, _, _, height, width = patches.shape
        if groups == 1:
            sums = _product(limbs, patches.reshape(count, flat.shape[1], height * width))
        else:
            sums = _grouped(limbs, patches, groups)
        parts.append(sums.reshape(count, len(weight), height, width))
    return np.concatenate(parts)


def _grouped(limbs, patches, groups):
    """Sums [N, O, Ho, Wo] of patches [N, I, kh, kw, Ho, Wo]; each tap by itself, since the groups'
    products are small."""
    _, wide, parts = limbs
    count, channels, *kernel, height, width = patches.shape
    patches = patches.reshape(count, groups, channels // groups, -1, height, width)
    total = 0
    for weight, shift in parts:
        weight = weight.reshape(groups, len(weight) // groups, channels // groups, -1)
        sums = sum(np.einsum("ngihw,goi->ngohw", patches[:, :, :, tap], weight[..., tap])
                   for tap in range(kernel[0] * kernel[1]))
        sums = sums if sums.dtype == object else sums.astype(np.int64)
        total = total + (sums.astype(wide) << shift)
    return total


def saturating_convolve(images: ArrayLike, weight: ArrayLike, *, bits: int | None, vector: int,
                        stride: tuple = (1, 1), dilation: tuple = (1, 1),
                        pads: tuple = (0, 0, 0, 0), pad_image: int = 0) -> np.ndarray:
    """Convolution as accumulators of `bits` bits compute it, or as floats do (None).

    The sum of each pass, `vector` channels under one tap, is exact; adding it to the accumulator
    saturates, or it is rounded (`narrow_sums.float_sums`), and the sum with the accumulator, too.
    Passes go in the chip's order: kernel row, kernel column, block of channels.
    Arguments and result as of `convolve`.
    """
    images, weight = np.asarray(images), np.asarray(weight)
    _check_channels(images, weight)
    low, high = (0, 0) if bits is None else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    largest = _largest(images, pad_image)
    geometry: dict[str, Any] = dict(stride=stride, dilation=dilation, pads=pads,
                                    pad_image=pad_image)
    bound = np.abs(weight).reshape(len(weight), -1).sum(axis=1, dtype=object).max(initial=0)
    if bits is not None and int(bound) * largest <= high:
        return convolve(images, weight, **geometry)
    _, channels, kernel_y, kernel_x = weight.shape
    passes = [(slice(first, first + vector), ky, kx) for ky in range(kernel_y)
              for kx in range(kernel_x) for first in range(0, channels, vector)]
    limbs = [_limbs(weight[:, block, ky, kx], largest) for block, ky, kx in passes]
    parts = []
    for patches in _batches(images, weight, **geometry):
        count, (height, width) = len(patches), patches.shape[4:]
        total = np.zeros((count, len(weight), height * width),
                         dtype=np.int64 if (bits or 2 + (
                             int(bound) * largest).bit_length()) < 62 else object)
        for (block, ky, kx), slices in zip(passes, limbs, strict=True):
            columns = patches[:, block, ky, kx].reshape(count, -1, height * width)
            mine = _product(slices, columns.astype(slices[0]))
            total = (float_sums(total + float_sums(mine.astype(total.dtype))) if bits is None
                     else np.clip(total + mine, low, high))
        parts.append(total.astype(np.int64).reshape(count, len(weight), height, width))
    return np.concatenate(parts)


def round_reals(values: ArrayLike, odd: bool = False) -> np.ndarray:
    """Floats to the nearest integers (float64), ties to even or, `odd`, to the odd ones."""
    values = np.asarray(values, np.float64)
    return np.rint(values + 1) - 1 if odd else np.rint(values)


def add_bias(sums: np.ndarray, bias: ArrayLike) -> np.ndarray:
    """sums [N, O, ...] plus bias [O], exact: Python integers where int64 might not hold it."""
    shape = (1, -1) + (1,) * (sums.ndim - 2)
    bias = np.asarray(bias).reshape(shape)
    if sums.dtype != object and max(_largest(sums, 0), _largest(bias, 0)) >> 62:
        sums = sums.astype(object)
    return sums + bias

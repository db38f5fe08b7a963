"""The chip's arithmetic on whole arrays, exact: convolution, sums, requantizing, pooling.

All functions take and return numpy integers. Sums that fit are computed as floating-point matrix
products, whose every intermediate result is proven to be an exact integer; what does not fit is
split, or falls back to Python integers (arrays of dtype object). Nothing is ever rounded except
where the contract rounds.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.formats import Format
from systolith.hw.spec.numbers import MULTIPLIER_BITS, TIE_BITS

if TYPE_CHECKING:                                # whose methods these functions are
    from .requantization import Operand, Requantization

__all__ = ["add_bias", "combine", "constant", "convolve", "first_results", "held_bias", "images_of",
           "output_size", "pool", "round_reals", "saturating_convolve", "sum_ranges",
           "window_counts", "window_maxima", "window_sums"]

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


def saturating_convolve(images: ArrayLike, weight: ArrayLike, *, bits: int, vector: int,
                        stride: tuple = (1, 1), dilation: tuple = (1, 1),
                        pads: tuple = (0, 0, 0, 0), pad_image: int = 0) -> np.ndarray:
    """Convolution as accumulators of `bits` bits compute it.

    The sum of each pass, `vector` channels under one tap, is exact; adding it to the accumulator
    saturates. Passes go in the chip's order: kernel row, kernel column, block of channels.
    Arguments and result as of `convolve`.
    """
    images, weight = np.asarray(images), np.asarray(weight)
    _check_channels(images, weight)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    largest = _largest(images, pad_image)
    geometry: dict[str, Any] = dict(stride=stride, dilation=dilation, pads=pads,
                                    pad_image=pad_image)
    bound = np.abs(weight).reshape(len(weight), -1).sum(axis=1, dtype=object).max(initial=0)
    if int(bound) * largest <= high:
        return convolve(images, weight, **geometry)
    _, channels, kernel_y, kernel_x = weight.shape
    passes = [(slice(first, first + vector), ky, kx) for ky in range(kernel_y)
              for kx in range(kernel_x) for first in range(0, channels, vector)]
    limbs = [_limbs(weight[:, block, ky, kx], largest) for block, ky, kx in passes]
    parts = []
    for patches in _batches(images, weight, **geometry):
        count, (height, width) = len(patches), patches.shape[4:]
        total = np.zeros((count, len(weight), height * width),
                         dtype=np.int64 if bits < 62 else object)
        for (block, ky, kx), slices in zip(passes, limbs, strict=True):
            columns = patches[:, block, ky, kx].reshape(count, -1, height * width)
            total = np.clip(total + _product(slices, columns.astype(slices[0])), low, high)
        parts.append(total.astype(np.int64).reshape(count, len(weight), height, width))
    return np.concatenate(parts)


def sum_ranges(weight: np.ndarray, format: Format) -> tuple[list[int], list[int]]:
    """(smallest, largest) sums of each output channel, two lists of Python integers.

    Proven from the images `weight` [O, ...] and the range of the input format; no sum of any
    subset of the products lies outside.
    """
    flat = weight.reshape(len(weight), -1)
    if int(np.abs(flat).max(initial=0)) * flat.shape[1] >> 62:
        flat = flat.astype(object)
    positive = np.where(flat > 0, flat, 0).sum(axis=1).tolist()
    negative = np.where(flat < 0, flat, 0).sum(axis=1).tolist()
    low, high = format.image_range
    low, high = min(low, 0), max(high, 0)
    ends = list(zip(positive, negative, strict=True))
    return [p * low + n * high for p, n in ends], [p * high + n * low for p, n in ends]


# Windows over ordered integers (see `Format.ordered`): what clipping and pooling compare.

def _over_windows(operation, values, window, stride, pads, **padding):
    """`operation` over the rows of windows, then over their columns."""
    if any(pads):
        values = np.pad(values, ((0, 0), (0, 0), pads[::2], pads[1::2]), **padding)
    for axis, size, step in zip((2, 3), window, stride or window, strict=True):
        count = (values.shape[axis] - size) // step + 1
        result = None
        for first in range(size):
            cut = [slice(None)] * 4
            cut[axis] = slice(first, first + (count - 1) * step + 1, step)
            part = values[tuple(cut)]
            result = part if result is None else operation(result, part)
        values = result
    return values


def window_counts(sizes: Iterable[int], window: tuple, stride: tuple, pads: tuple) -> list[int]:
    """[down, across] of windows over a map of `sizes`; arguments as of `window_maxima`. ValueError
    where one of them holds no pixel."""
    counts = []
    for n, size in enumerate(sizes):
        before, after = pads[n::2]
        counts.append(output_size(size, window[n], stride[n], 1, (before, after)))
        if max(before, after) >= window[n] or (counts[-1] - 1) * stride[n] - before >= size:
            raise ValueError(f"windows of {window} with pads of {pads}, {stride} apart, over a map "
                             f"of {sizes}: some hold no pixel")
    return counts


def window_maxima(values: np.ndarray, window: tuple, stride: tuple | None = None,
                  pads: tuple = (0, 0, 0, 0)) -> np.ndarray:
    """Maxima of [N, C, H, W] over windows (py, px), the first at (-top, -left), `stride` (None:
    the window's size) apart; `pads` (top, left, bottom, right) are less than the window and never
    the largest. Rows and columns that fill no window are dropped.
    """
    # The pixels at the edges lie in every window that reaches over them.
    return _over_windows(np.maximum, values, window, stride, pads, mode="edge")


def window_sums(values: np.ndarray, window: tuple, stride: tuple | None = None,
                pads: tuple = (0, 0, 0, 0)) -> np.ndarray:
    """Sums over windows; as `window_maxima` otherwise, with pads of 0."""
    return _over_windows(np.add, values, window, stride, pads)


def pool(codes: np.ndarray, format: Format, window: tuple, stride: tuple | None = None,
         pads: tuple = (0, 0, 0, 0)) -> np.ndarray:
    """Max pooling of codes, in the order of their values; see `window_maxima`."""
    return format.from_ordered(window_maxima(format.ordered(codes), window, stride, pads))


# Requantizing.

_bit_length = np.frompyfunc(lambda value: int(value).bit_length(), 1, 1)


def _leading_one(values):
    """Position of the leading one of non-negative integers; 0 for 0."""
    if values.dtype == object:
        return np.maximum(_bit_length(values).astype(np.int64) - 1, 0)
    lead = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1, 0)
    return lead - ((np.int64(1) << lead) > np.maximum(values, 1))    # float64 had rounded up


def _round_shift(values, shift):
    """values / 2**shift to the nearest integer, exact ties to even."""
    one = 1 if values.dtype == object else np.int64(1)
    floor = values >> shift
    rest = values - (floor << shift)
    half = (one << np.maximum(shift, 1) - 1) * (shift > 0)      # 1 << 63 would be negative
    return floor + ((rest > half) | ((rest == half) & (shift > 0) & ((floor & 1) == 1)))


def _round_half(values, shift, ties):
    """values / 2**shift to the nearest integer, up where it is half-way.

    Where `ties` (as of `Requantization`) is not 0, what is half-way in its first TIE_BITS + 1
    fraction bits, 0.1000... or the number below, is a tie and goes to the even (1) or the odd (2)
    neighbour.
    """
    one = 1 if values.dtype == object else np.int64(1)
    floor = values >> shift
    rest = values - (floor << shift)
    half = (one << np.maximum(shift, 1) - 1) * (shift > 0)      # 1 << 63 would be negative
    lost = np.maximum(shift - (TIE_BITS + 1), 0)
    place = (rest >> lost) - (half >> lost)                      # from the tie, in these bits
    tie = (shift > 0) & (ties > 0) & ((place == 0) | ((place == -1) & (shift > TIE_BITS)))
    up = np.where(tie, (floor & 1) ^ (ties >> 1) == 1, (shift > 0) & (place >= 0))
    return floor + up


def _requantize(sums, multiplier, addend, shift, ties, limits, format):
    """Ordered integers (bipolar: codes) of sums that already hold the bias; one dtype throughout,
    int64 only where |sums * multiplier| < 2**61."""
    product = sums * multiplier
    if format.binary:
        return (product >= 0).astype(np.int64)
    return _nearest(product + addend, shift, ties, limits, format)


def _nearest(product, shift, ties, limits, format):
    """Ordered integers nearest to product / 2**shift, plus the zero point, clipped."""
    if format.floating:
        magnitude = np.abs(product)
        up = np.maximum(_leading_one(magnitude) - shift - format.man, 0)
        total = shift + up
        if magnitude.dtype == object:
            total = total.astype(object)
        magnitude = _round_shift(magnitude, total) + (up << format.man)
        magnitude = np.minimum(magnitude, format.max_code)
        result = np.where(product < 0, -magnitude, magnitude)
    else:
        if product.dtype == object:
            shift = shift.astype(object)
        result = _round_half(product, shift, ties) + limits.zero_point
    return np.clip(result, limits.low, limits.high).astype(np.int64)


def held_bias(bias: np.ndarray, multiplier: np.ndarray, addend: np.ndarray, below: tuple | None,
              bits: int) -> tuple[np.ndarray, np.ndarray, tuple | None]:
    """The biases nearest to these that a chip with `bits` fraction bits can hold.

    A bias is bias + addend / multiplier in units of the sum, all int64 arrays [O] and addends from
    0 to the multiplier; `below` has the multipliers and shifts of sums below zero and their addends
    with the multipliers' sign, or is None. Returns (bias, addend, below): addends are multiples of
    2**(MULTIPLIER_BITS - bits) and no larger than the multipliers.
    """
    unit = np.int64(1) << (MULTIPLIER_BITS - bits)

    def rounded(number, most):
        least = number // unit * unit
        top = np.minimum(least + unit, most)
        return np.where(top - number < number - least, top, least)
    nearest = rounded(addend, multiplier)
    # The next whole bias, where that is nearest.
    carry = (nearest == multiplier) & (multiplier > 0)
    nearest = np.where(carry, 0, nearest // unit * unit)
    if below is not None:
        factor, shift, other = below
        other = rounded(abs(other), abs(factor) // unit * unit) * np.sign(factor)
        below = factor, shift, np.where(carry, 0, other)
    return bias + carry, nearest, below


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


def combine(first: np.ndarray, codes: np.ndarray, operand: "Operand", format: Format,
            own: Format | None = None) -> np.ndarray:
    """Ordered integers of the sums or products of first results and operands.

    first [N, C, H, W] are ordered integers, codes [N, C, H, W] or [N, C, 1, 1] of the format `own`
    (None: of `format`, too). Both count as images, integers less the zero point.
    """
    if format.floating:
        first = images_of(format, format.from_ordered(first))
    other = images_of(own or format, codes) - operand.operand_zero
    low, high = format.image_range
    if max(-low, high) >> 17:
        first, other = first.astype(object), other.astype(object)
    if operand.product:
        total = first * other * operand.gain
    else:
        total = first * operand.gain + other * operand.operand_gain
    return _nearest(total, np.int64(operand.shift), np.int64(operand.ties), operand, format)


def first_results(sums: np.ndarray, requantization: "Requantization",
                  format: Format) -> np.ndarray:
    """Requantization: ordered integers from sums, bias included.

    sums [N, O, ...] are exact integers of any size. Steps: multiply, add the addend, shift right
    and round, to the nearest float of the format or to an integer plus zero point, saturate, clip;
    sums below zero with numbers of their own where `requantization` has such. Bipolar: 1 where the
    product is not negative.
    """
    shape = (1, -1) + (1,) * (sums.ndim - 2)
    multiplier, shift, addend, ties = (
        np.broadcast_to(item.reshape(shape), sums.shape) for item in (
            requantization.multiplier, requantization.shift, requantization.addend,
            requantization.ties))
    if requantization.below is not None:
        multiplier, shift, addend = (
            np.where(sums < 0, item.reshape(shape), other) for item, other in
            zip(requantization.below, (multiplier, shift, addend), strict=True))
    limit = 1 << (61 - MULTIPLIER_BITS)
    wide = (sums >= limit) | (sums <= -limit)
    if not wide.any():
        return _requantize(sums.astype(np.int64), multiplier, addend, shift, ties, requantization,
                           format)
    result = np.empty(sums.shape, dtype=np.int64)
    for part, dtype in ((~wide, np.int64), (wide, object)):
        if part.any():
            result[part] = _requantize(sums[part].astype(dtype), multiplier[part].astype(dtype),
                                       addend[part].astype(dtype), shift[part], ties[part],
                                       requantization, format)
    return result

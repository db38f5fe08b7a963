"""Golden models of inexact accumulation, and of block scales on exact sums.

The order of a summation is part of each definition. Hardware: `hw/element/narrow_sums.py`,
`hw/element/float_add.py`, `hw/element/column_scale.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.formats import Float
from systolith.hw.spec.lfsr import RANDOM_BITS, Lfsr

__all__ = ["bit_planes", "block_sums", "chunked_sum", "chunked_sums", "float_sums", "odd_sum",
           "random_numbers", "rounded", "windowed"]


def windowed(products: ArrayLike, rows: int, lanes: int, cut: int, bits: int) -> np.ndarray:
    """Column sums in a narrowed window.

    The products of an element's lanes are added exactly, the `cut` lowest bits of that are
    dropped (an arithmetic shift to the right: toward minus infinity), and the rows are added
    from the top down, from 0, every sum saturating to `bits` bits.

    Parameters
    ----------
    products : array_like of int
        [..., rows * lanes], row 0's lanes first: exact images of products.
    rows, lanes, cut, bits : int

    Returns
    -------
    int64 array [...], or Python integers (an object array) if the products are: sums in units of
    2**cut.
    """
    products = np.asarray(products)
    elements = products.reshape(*products.shape[:-1], rows, lanes).sum(axis=-1) >> cut
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    total = np.zeros(elements.shape[:-1], elements.dtype)
    for row in range(rows):
        total = np.clip(total + elements[..., row], low, high)
    return total


def float_sums(sums: np.ndarray) -> np.ndarray:
    """Integers, int64 or Python's, rounded to ten significant bits, ties to even: the numbers of a
    float 1-6-9 whose smallest one is 1."""
    magnitude, step = np.abs(sums), np.zeros(np.shape(sums), np.int64)
    for places in (32, 16, 8, 4, 2, 1):
        step = step + places * ((magnitude >> step + (places - 1)) >= 1024).astype(np.int64)
    kept, half = magnitude >> step, (np.ones_like(magnitude) << step) >> 1
    rest = magnitude - (kept << step)
    up = (rest > half) | ((rest == half) & (half > 0) & (kept % 2 == 1))
    return np.sign(sums) * (kept + up << step)


# Sums of short floats. Their numbers are held as float64, of which sums are rounded to odd: a
# rounding to fewer bits after that is the rounding of the exact sum.

def rounded(values: ArrayLike, format: Float, rounding: str = "even",
            random: ArrayLike | None = None) -> np.ndarray:
    """The numbers of a `Float` that float64 numbers are rounded to; saturating, without -0.

    As `Format.encode` rounds, except "stochastic": `random`, an integer of RANDOM_BITS bits, is
    added to the magnitude below its last place, and what is below the last place is cut. If that
    ends in the gap between 0 and the smallest number of a format with lowest = "dlfloat", the
    nearest of the two is the result.
    """
    image = np.ldexp(np.abs(values), -format.exponent)
    step = np.maximum(np.frexp(image)[1] - 1 - format.man, 0)
    places = np.ldexp(image, -step)
    if rounding == "even":
        whole = np.rint(places)
    else:
        whole = np.floor(places)
        if rounding == "stochastic":
            rest = np.floor(np.ldexp(places - whole, RANDOM_BITS))
            whole += rest + random >= 1 << RANDOM_BITS
        elif rounding == "away":
            whole += places - whole >= 0.5
    image = np.ldexp(whole, step)
    if format.lowest == "dlfloat":
        hidden = 1 << format.man
        below = image <= (hidden if rounding == "zero" else hidden / 2)
        image = np.where(below, 0, np.maximum(image, hidden + 1))
    image = np.minimum(image, format.image_range[1])
    return np.copysign(np.ldexp(image, format.exponent), values) + 0.0


def odd_sum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y in float64, rounded to odd: what is not exact is the neighbour with an odd last bit."""
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)           # exact (Knuth)
    away = np.sign(error) * np.sign(total)
    bits = total.view(np.int64)
    return (bits + (away * (bits & 1 == 0)).astype(np.int64)).view(np.float64)


def random_numbers(seed: int | np.ndarray, count: int) -> np.ndarray:
    """The first numbers of RANDOM_BITS bits that an `Lfsr` gives from state `seed` on.

    For an integer [count], for an array of seeds [..., count].
    """
    numbers = np.empty((*np.shape(seed), count), np.int64)
    state: Any = seed
    for n in range(count):
        numbers[..., n] = state & ((1 << RANDOM_BITS) - 1)
        state = Lfsr.after(state)
    return numbers


def chunked_sums(codes: ArrayLike, format: Float, chunk: int | None = None, rounding: str = "even",
                 seed: int | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All sums on the way of a chunked floating-point summation.

    Terms are added in their order to the sum of their chunk, which starts as its first term; each
    complete chunk is added to the sum of the chunks before, which starts as 0. Every addition is
    the exact sum, rounded once to `format`. Stochastic roundings take one random number for every
    addition in the order in which the chunks' last terms allow them: those inside a chunk, then
    the chunk's own.

    Parameters
    ----------
    codes : array_like of int
        Terms [..., K], codes of `format`.
    format : Float
        Radix 2, lowest "subnormal" or "dlfloat".
    chunk : int or None
        Terms in a chunk; the last one may be shorter. None: all.
    rounding : str
        One of `systolith.hw.element.float_add.ROUNDINGS`.
    seed : int or array of int or None
        With stochastic rounding the state of the `Lfsr` at the beginning of the sums, of all or
        of each [...].

    Returns
    -------
    inside : float64 array [..., K]
        The sum of its chunk up to each term.
    totals : float64 array [..., ceil(K / chunk)]
        The sum of the chunks up to each.
    """
    values = np.asarray(format.decode(codes))
    terms = values.shape[-1]
    chunk = terms if chunk is None else min(chunk, terms)
    count = -(-terms // chunk)
    # Adding zeros to a chunk that is too short changes nothing.
    fill = [(0, 0)] * (values.ndim - 1) + [(0, count * chunk - terms)]
    inside = np.pad(values, fill).reshape(*values.shape[:-1], count, chunk)
    numbers = None
    if rounding == "stochastic":
        assert seed is not None, "stochastic rounding needs random numbers"
        numbers = random_numbers(seed, terms)
        numbers = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + fill[-1:])
        numbers = numbers.reshape(*numbers.shape[:-1], count, chunk)
    totals = np.empty(inside.shape[:-1])

    inside[..., 0] += 0.0                               # -0 is 0
    for n in range(1, chunk):
        random = None if numbers is None else numbers[..., n - 1]
        inside[..., n] = rounded(odd_sum(inside[..., n - 1], inside[..., n]), format, rounding,
                                 random)
    total = np.zeros(totals.shape[:-1])
    for n in range(count):
        last = min(chunk, terms - n * chunk) - 1
        random = None if numbers is None else numbers[..., n, last]
        total = rounded(odd_sum(total, inside[..., n, -1]), format, rounding, random)
        totals[..., n] = total
    return inside.reshape(*values.shape[:-1], -1)[..., :terms], totals


def chunked_sum(codes: ArrayLike, format: Float, chunk: int | None = None, rounding: str = "even",
                seed: int | np.ndarray | None = None) -> np.ndarray:
    """The code of the last of the totals of `chunked_sums`; [..., K] -> [...]."""
    return format.encode(chunked_sums(codes, format, chunk, rounding, seed)[1][..., -1])


# Activations bit by bit.

def bit_planes(codes: ArrayLike, bits: int, length: int = 8) -> np.ndarray:
    """Planes of integer codes, highest first.

    codes [..., n * length] -> [bits, ..., n]: in each plane one bit of each of `length` codes, the
    first one lowest. An integer is the sum of its planes, each counted twice as often as the next
    one, the first one negative if codes are signed.
    """
    codes = np.asarray(codes)
    groups = codes.reshape(*codes.shape[:-1], -1, length)
    return np.stack([((groups >> bit & 1) << np.arange(length)).sum(axis=-1)
                     for bit in reversed(range(bits))])


# Scales of blocks.

def block_sums(sums: ArrayLike, activation_codes: ArrayLike, weight_codes: ArrayLike, *,
               activation_scale: Float, weight_scale: Float, sum_exponent: int, exponent: int,
               bits: int) -> np.ndarray:
    """Sums of scaled blocks in a window.

    Each block's sum is multiplied by both scales, exactly, and cut to units of 2**exponent (toward
    minus infinity); the blocks are added in their order, from 0. Both the scaled block and every
    sum saturate to `bits` bits.

    Parameters
    ----------
    sums : array_like of int
        [..., blocks], images with the unit 2**sum_exponent.
    activation_codes, weight_codes : array_like of int
        Codes of the scales, shapes that broadcast with [..., blocks].
    activation_scale, weight_scale : Float
        Without sign. ValueError for codes of NaN.
    sum_exponent, exponent, bits : int

    Returns Python integers (an object array) [..., blocks]: the window after each block.
    """
    exact = (np.asarray(sums).astype(object)
             * activation_scale.image(activation_codes).astype(object)
             * weight_scale.image(weight_codes).astype(object))
    places = sum_exponent + activation_scale.exponent + weight_scale.exponent - exponent
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    scaled = np.clip(exact << places if places >= 0 else exact >> -places, low, high)
    totals = np.empty_like(scaled)
    total = 0
    for block in range(scaled.shape[-1]):
        total = np.clip(total + scaled[..., block], low, high)
        totals[..., block] = total
    return totals

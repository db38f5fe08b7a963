"""Weights of fewer bits than the chip's, in words that hold several rows of the array.

In each code of a pass's words, the rows' weights follow each other bit by bit, the first row's
lowest, from one word to the next. So a weight of a column stays in the column's bits of a word.
Where the chip has pools of weights, such bits can be the number of a weight in a pool.
"""

from dataclasses import dataclass

import numpy as np

from .arch import Arch

__all__ = ["Part", "pack_rows", "parts_of", "pool_of", "unpack_rows", "width_of", "words_of_rows"]


def width_of(narrow: int, arch: Arch) -> int:
    """Bits of a weight for a value of ARRAY's field `narrow`."""
    return arch.code_widths[narrow - 1] if narrow else arch.weight.width


def pool_of(narrow: int, arch: Arch) -> int | None:
    """The first word of the pool memory that a value of ARRAY's field `narrow` names weights of,
    `1 << width_of(narrow, arch)` words; None: it names none."""
    number = narrow - 1 - len(arch.weight_widths)
    return None if number < 0 else number * arch.pool_depth // len(arch.weight_pools)


def words_of_rows(rows: int, narrow: int, arch: Arch) -> int:
    """Weight words that so many rows of a pass take."""
    return -(-rows * width_of(narrow, arch) // arch.weight.width)


def pack_rows(codes: np.ndarray, narrow: int, arch: Arch) -> np.ndarray:
    """Codes [passes, rows, columns * lanes] of weights that fit as the codes [passes, words,
    columns * lanes] of words, of the same dtype, which holds a chip's code."""
    width, own = width_of(narrow, arch), arch.weight.width
    if width == own:
        return codes
    passes, rows, count = codes.shape
    bits = codes.astype(np.uint16)[..., None] >> np.arange(width, dtype=np.uint16) & 1
    bits = bits.swapaxes(2, 3).reshape(passes, rows * width, count)
    words = words_of_rows(rows, narrow, arch)
    bits = np.pad(bits, ((0, 0), (0, words * own - rows * width), (0, 0)))
    bits = bits.reshape(passes, words, own, count) << np.arange(own, dtype=np.uint16)[:, None]
    return bits.sum(axis=2, dtype=np.uint16).astype(codes.dtype)


def unpack_rows(words: np.ndarray, rows: int, narrow: int, arch: Arch) -> np.ndarray:
    """The chip's codes [rows, columns * lanes] of a pass's words, codes [words, columns * lanes]:
    the reverse of `pack_rows`; of weights in a pool their numbers."""
    width, own = width_of(narrow, arch), arch.weight.width
    if width == own:
        return words
    every = words[:, None] >> np.arange(own)[:, None] & 1
    bits = every.reshape(-1, words.shape[1])[:rows * width].reshape(rows, width, -1)
    numbers = (bits << np.arange(width)[:, None]).sum(axis=1)
    if pool_of(narrow, arch) is not None:
        return numbers
    return numbers - (bits[:, -1] << width) & (1 << own) - 1


@dataclass(frozen=True)
class Part:
    """Where a row's weights are in the word that is read for it and the one before.

    Attributes
    ----------
    width : int
        Bits of a weight.
    first : int
        The first of them in a code of the word before, followed by that of the word.
    fresh : bool
        The word is the next one; else it is that of the row before.
    next : int
        The index in `parts_of` of the pass's next row.
    pool : int or None
        As of `pool_of`.
    """
    width: int
    first: int
    fresh: bool
    next: int
    pool: int | None = None


def parts_of(arch: Arch) -> tuple[list[Part], list[int]]:
    """(all parts that there are, those of a pass's first row by ARRAY's field `narrow`)."""
    own, parts, starts = arch.weight.width, list[Part](), []
    for narrow in range(len(arch.code_widths) + 1):
        width, start, row, last = width_of(narrow, arch), len(parts), 0, -1
        starts.append(start)
        while not row or row * width % own:
            word = ((row + 1) * width - 1) // own
            row += 1
            whole = row * width % own == 0
            parts.append(Part(width, (row - 1) * width - (word - 1) * own, word > last,
                              start if whole else len(parts) + 1, pool_of(narrow, arch)))
            last = word
    return parts, starts

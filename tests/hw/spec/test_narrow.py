"""Weights of fewer bits in words that hold several rows of the array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.narrow import pack_rows, parts_of, unpack_rows, width_of, words_of_rows

CASES = st.integers(3, 12).flatmap(lambda own: st.tuples(
    st.just(own), st.lists(st.integers(2, own - 1), min_size=1, max_size=3, unique=True)))


@st.composite
def fillings(draw):
    """(Arch, a value of `narrow`, weights [rows, columns] that fit)."""
    own, widths = draw(CASES)
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    arch = Arch(rows=rows, columns=columns, weight=f"int{own}", weight_widths=widths)
    narrow = draw(st.integers(0, len(widths)))
    width = width_of(narrow, arch)
    numbers = st.integers(-1 << width - 1, (1 << width - 1) - 1)
    flat = draw(st.lists(numbers, min_size=rows * columns, max_size=rows * columns))
    return arch, narrow, np.array(flat).reshape(rows, columns)


@given(fillings())
def test_a_column_of_words_is_the_rows_bits_one_after_the_other(made):
    arch, narrow, images = made
    own, width = arch.weight.width, width_of(narrow, arch)
    codes = (images % (1 << own)).astype(np.uint16)
    words = pack_rows(codes[None], narrow, arch)[0]
    assert len(words) == words_of_rows(arch.rows, narrow, arch) == -(-arch.rows * width // own)
    for column in range(arch.columns):
        stream = sum(int(images[row, column]) % (1 << width) << row * width
                     for row in range(arch.rows))
        assert [int(code) for code in words[:, column]] == [
            stream >> own * n & (1 << own) - 1 for n in range(len(words))]
    assert (unpack_rows(words.astype(np.int64), arch.rows, narrow, arch) == codes).all()


@given(fillings())
def test_parts_are_what_an_array_reads_row_by_row(made):
    """As the array does it: a word and the one before it, of which a row takes some bits."""
    arch, narrow, images = made
    own = arch.weight.width
    words = pack_rows((images % (1 << own)).astype(np.uint16)[None], narrow, arch)[0]
    parts, starts = parts_of(arch)
    at, before, word, taken = starts[narrow], 0, 0, 0
    for row in range(arch.rows):
        part = parts[at]
        if part.fresh:
            before, word, taken = word, int(words[taken, 0]), taken + 1
        bits = (before | word << own) >> part.first & (1 << part.width) - 1
        assert bits - (bits >> part.width - 1 << part.width) == images[row, 0]
        at = part.next
    assert taken == len(words)


@pytest.mark.parametrize("width, words", [(8, 16), (6, 12), (4, 8), (2, 4), (3, 6)])
def test_words_of_sixteen_rows_of_int8(width, words):
    arch = Arch(rows=16, columns=1, weight_widths=[width] if width < 8 else [])
    assert words_of_rows(16, int(width < 8), arch) == words

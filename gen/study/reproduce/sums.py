"""Sums of short floats."""

import numpy as np
from systolith.hw.formats import Float
from systolith.sim.model.narrow_sums import chunked_sum

from .figure import Figure

__all__ = ["chunks"]

_TERMS = 1 << 16


def chunks() -> list[Figure]:
    """Sums of 65,536 numbers with the mean 1 and the standard deviation 1 in 1-6-9: one after the
    other, and in chunks of 64."""
    form = Float(6, 9, special="dlfloat", lowest="dlfloat")       # dlfloat16
    terms = np.random.default_rng(0).uniform(1 - 3 ** 0.5, 1 + 3 ** 0.5, _TERMS)
    codes = form.encode(terms)
    exact = float(form.decode(codes).sum())
    naive, chunked = (float(form.decode(chunked_sum(codes, form, chunk)))
                      for chunk in (None, 64))
    error = abs(chunked / exact - 1)
    return [Figure("one after the other: where the sum stands still", "4096", f"{naive:g}",
                   naive == 4096),
            Figure("in chunks of 64: relative error", "< 1 %", f"{100 * error:.2f} %",
                   error < 0.01)]

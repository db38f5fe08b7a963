"""Weights in blocks that share a scale."""

import numpy as np
from systolith.gen.quantize.blocks import block_numbers, fit_blocks
from systolith.gen.quantize.calibrate import fit_weights, round_weights
from systolith.hw.formats import parse
from systolith.hw.formats.blocks import block_formats

from .figure import Figure

__all__ = ["blocks"]

#: Names of a chip's formats, those of the standard, and the bits of an element with its scale's.
_BITS = (("mxfp8", "mxfp8_e4m3", 8.25), ("mxfp6", "mxfp6_e3m2", 6.25),
         ("mxfp4", "mxfp4_e2m1", 4.25), ("mxint8", "mxint8", 8.25), ("mls", "mls_e2m1", 4.5625))


def blocks() -> list[Figure]:
    """Bits of an element; elements and scales by the standard's rule; the error of 4 bits."""
    formats, figures = block_formats(), []
    rng = np.random.default_rng(1)
    numbers = rng.standard_normal((64, 1152)).astype(np.float32)
    numbers *= np.exp2(rng.uniform(-3, 0, (64, 36, 1))).repeat(32, 2).reshape(64, -1)
    for name, standard, bits in _BITS:
        own = formats[standard].bits_per_element
        figures.append(Figure(f"{standard}: bits of an element", f"{bits:g}", f"{own:g}",
                              own == bits))
        if not name.startswith("mx"):
            continue
        form = parse(name)
        _, steps = fit_blocks(form, numbers, block_numbers(32, 1152, 1), "min-max")
        found = round_weights(form, numbers, steps)
        exact = formats[standard].decode(*formats[standard].encode(numbers))
        same = float((found == exact).mean())
        figures.append(Figure(f"{name} on a chip: weights that are the standard's", "100 %",
                              f"{100 * same:.2f} %", same == 1))
    plain = np.square(numbers - fit_weights(parse("e2m1"), numbers, 0, "mse")[1]).mean()
    _, steps = fit_blocks(parse("mxfp4"), numbers, block_numbers(32, 1152, 1), "mse")
    blocked = np.square(numbers - round_weights(parse("mxfp4"), numbers, steps)).mean()
    figures.append(Figure("mxfp4: error of e2m1 with a scale for each channel / in blocks",
                          "> 1", f"{plain / blocked:.2f}", bool(plain > blocked)))
    return figures

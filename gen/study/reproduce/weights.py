"""Scales of weights of few bits: what they lose on numbers of known distributions."""

import numpy as np
from systolith.gen.quantize.calibrate import SAWB, fit_weights, round_weights
from systolith.hw.formats import Format, Int, parse

from .figure import Figure

__all__ = ["omse", "sawb", "shift"]

#: Numbers of a tensor, which has one scale.
_NUMBERS = 1 << 18
_DRAWS = {"Gauss": "normal", "Laplace": "laplace"}


def _numbers(distribution):
    rng = np.random.default_rng(0)
    return getattr(rng, _DRAWS[distribution])(size=(1, _NUMBERS)).astype(np.float32)


def _error(form: Format, numbers: np.ndarray, method: str) -> float:
    """The mean squared error with scales chosen by a method."""
    return float(np.square(numbers - fit_weights(form, numbers, 0, method)[1]).mean())


def _two(numbers):
    """The mean squared error of the sum of two int4 tensors: the second holds what the first loses,
    whose range is the whole one or a part of it."""
    whole = np.abs(numbers).max()
    return min(_error(Int(4), numbers - round_weights(Int(4), numbers, whole * part / 7), "mse")
               for part in np.linspace(1, 0.6, 9))


def omse() -> list[Figure]:
    """Errors of int4 weights by the least squared error and by the largest magnitude; and of two
    tensors, beside int8, which takes as many bytes."""
    figures = []
    for distribution, single, dual in (("Gauss", 2.6, 86), ("Laplace", 4.3, 49)):
        numbers = _numbers(distribution)
        whole, least = (_error(Int(4), numbers, method) for method in ("min-max", "mse"))
        figures.append(Figure(f"{distribution}: error of min-max / OMSE, 4 bits",
                              f"{single}", f"{whole / least:.2f}", whole / least >= single))
        two = _two(numbers)
        figures.append(Figure(f"{distribution}: error of OMSE / two tensors, 4 bits each",
                              f"{dual}", f"{least / two:.1f}", least / two >= dual))
        int8 = _error(Int(8), numbers, "mse")
        figures.append(Figure(f"{distribution}: error of two tensors of 4 bits / int8",
                              "> 1", f"{two / int8:.2f}", two > int8))
    return figures


def sawb() -> list[Figure]:
    """Errors with scales by the mean magnitude and the mean square, over the least that any scale
    gives."""
    figures = []
    for bits, allowed in zip(SAWB, (2, 2, 4, 2), strict=True):
        worst = 0.0
        for distribution in _DRAWS:
            numbers = _numbers(distribution)
            best = min(_error(Int(bits), numbers, "mse"), _error(Int(bits), numbers, "sawb"))
            worst = max(worst, _error(Int(bits), numbers, "sawb") / best - 1)
        figures.append(Figure(f"{bits} bits: error above the optimum, Gauss and Laplace",
                              f"<= {allowed} %", f"{100 * worst:.1f} %",
                              100 * worst <= allowed))
    return figures


def shift() -> list[Figure]:
    """Every product of an int8 activation and a power of two is a shift; and where the boundary
    between two powers lies, 1.5 * 2**k (linear) or sqrt(2) * 2**k (logarithmic)."""
    form, activation = parse("e3m0"), Int(8)
    codes = form.finite_codes()
    images = form.image(codes)
    powers = np.abs(images[images != 0])
    shifts = (powers & (powers - 1) == 0).all()
    wide = np.multiply.outer(activation.image(activation.finite_codes()), images)
    exact = np.array_equal(wide, activation.product_image(
        form, activation.finite_codes()[:, None], codes[None]))
    share = []
    for rounding in ("even", "log"):
        at = np.linspace(1, 2, 4097) * 2.0
        share.append(float(at[np.argmax(form.decode(form.encode(at, rounding)) > 2.5)] / 2))
    return [Figure("int8 x e3m0: products that are shifts", "all",
                   "all" if shifts and exact else "not all", bool(shifts and exact)),
            Figure("boundary of 2 and 4, linear / logarithmic", "1.5 / 1.414",
                   f"{share[0]:.3f} / {share[1]:.3f}",
                   abs(share[0] - 1.5) < 1e-3 and abs(share[1] - 2 ** 0.5) < 1e-3)]

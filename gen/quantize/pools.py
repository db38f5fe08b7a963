"""Weights of which a layer has some integers alone: pools, and sums of two of a chip's weights.

A layer of `pool4` has int8 weights of which at most 16 are different, one of them 0, for all of its
channels, each of which has a scale of its own; so a chip with `buffers.weight_pools` keeps 4 bits
of each. Clusters in one dimension can be found exactly: the centers are integers, so that dynamic
programming over them, outwards from 0, takes as many steps as there are centers (as Wang and
Song's Ckmeans.1d.dp, 2011, does over data).

A layer of `dual4` has two tensors of int4 whose sum with scales of a ratio of 16 its weights are:
integers from -119 to 119, of which a chip of int4 with `array.wide_weights` makes two passes
(Choukroun et al., Low-bit quantization of neural networks for efficient inference, 1902.06822,
have two tensors with any ratio).
"""

import re

import numpy as np
from systolith.hw.formats import Format, Int, parse

from .calibrate import largest

__all__ = ["best_pool", "dual_numbers", "fit_numbers", "fit_pool", "pool_bytes",
           "round_to_pool", "weight_form"]

_NAME = re.compile(r"(?:(int\d+):)?pool([2-4])")
_DUAL = re.compile(r"dual([2-8])")
#: Rounds in which scales and pool are fitted to each other, and the least that one must save.
_ROUNDS, _GAIN = 20, 1e-4


def weight_form(name: str) -> tuple[Format, int | None]:
    """(format, bits of a pool's codes) of a name of weights: "pool4" is int8 in a pool of 16,
    "int6:pool3" int6 in one of 8; for other formats bits are None. "dual4" is int8. Raises
    ValueError for a name that is none."""
    if (dual := _DUAL.fullmatch(name)) is not None:
        return Int(2 * int(dual[1])), None
    found = _NAME.fullmatch(name)
    if found is None:
        return parse(name), None
    form, bits = parse(found[1] or "int8"), int(found[2])
    if form.width <= bits:
        raise ValueError(f"{name!r}: numbers of weights in a pool must have fewer bits than {form}")
    return form, bits


def pool_bytes(name: str, weights: int) -> int | None:
    """Bytes of so many weights of a layer whose format has this name, as numbers of weights in a
    pool, and of the pool, each rounded up; None where the format is none of a pool."""
    form, bits = weight_form(name)
    if bits is None:
        return None
    return -(-weights * bits // 8) + -(-(form.width << bits) // 8)


def dual_numbers(name: str) -> np.ndarray | None:
    """The integers, ascending, that weights of the format "dualN" are, as many above 0 as below;
    None for other names."""
    dual = _DUAL.fullmatch(name)
    if dual is None:
        return None
    top = ((1 << int(dual[1]) - 1) - 1) * ((1 << int(dual[1])) + 1)
    return np.arange(-top, top + 1)


def fit_numbers(numbers: np.ndarray, weight: np.ndarray, axis: int, method: str = "mse"
                ) -> tuple[np.ndarray, np.ndarray]:
    """(scales [channels], weights rounded to these integers); "mse": of scales that reach from a
    tenth of a channel's largest weight to that, the one with the least squared error."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    peak = np.abs(rows).max(axis=1)
    whole = np.where(peak > 0, peak, 1.0) / numbers[-1]
    best, least = whole, np.full(len(rows), np.inf)
    for part in np.linspace(1, 0.1, 91) if method == "mse" else (1.0,):
        tried = (whole * part).astype(np.float32)
        error = np.square(rows - round_to_pool(numbers, rows, tried[:, None])).sum(axis=1)
        best, least = np.where(error < least, tried, best), np.minimum(error, least)
    scales = best.astype(np.float32)
    shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
    return scales, round_to_pool(numbers, weight, scales.reshape(shape))


def best_pool(numbers: np.ndarray, importance: np.ndarray, count: int, top: int) -> np.ndarray:
    """The integers from -top to top, at most `count` of them and 0 among them, for which the sum of
    `importance` times the squared distance to the nearest one is least.

    Parameters
    ----------
    numbers, importance : float arrays [n]

    Returns an int64 array, ascending.
    """
    sides = []
    for sign in (1, -1):
        mine = sign * numbers > 0
        sides.append(_outwards(sign * numbers[mine], importance[mine], count - 1, top))
    (up, above), (down, below) = sides
    costs = [above[n] + below[count - 1 - n] for n in range(count)]
    n = int(np.argmin(costs))
    return np.unique(np.concatenate([-down[count - 1 - n], [0], up[n]])).astype(np.int64)


def _outwards(numbers, importance, most, top):
    """([the best centers], [their cost]) for positive numbers, with 0 to `most` centers from 1 to
    `top` besides 0."""
    order = np.argsort(numbers, kind="stable")
    x, w = numbers[order], importance[order]
    # sums of w, w x and w x^2 of all numbers up to each half integer, and of all
    at = np.searchsorted(x, np.arange(2 * top + 1) / 2, side="right")
    moments = [np.concatenate([[0.0], np.cumsum(item)]) for item in (w, w * x, w * x * x)]
    whole = [item[-1] for item in moments]
    moments = [item[at] for item in moments]

    def distance(first, end, center):
        """Cost of the numbers between half integers (indices; end None: all) to a center."""
        zero, one, two = ((total if end is None else part[end]) - part[first]
                          for part, total in zip(moments, whole, strict=True))
        return two - 2 * center * one + center * center * zero
    a, b = np.meshgrid(np.arange(top + 1), np.arange(top + 1), indexing="ij")
    between = np.where(a < b, distance(2 * a, a + b, a) + distance(a + b, 2 * b, b), np.inf)
    beyond = distance(2 * np.arange(top + 1), None, np.arange(top + 1))
    reached = np.full(top + 1, np.inf)
    reached[0] = 0
    centers, costs, before = [np.zeros(0, np.int64)], [beyond[0]], []
    for _ in range(most):
        ways = reached[:, None] + between
        before.append(ways.argmin(axis=0))
        reached = ways.min(axis=0)
        last = int(np.argmin(reached + beyond))
        path = [last]
        for step in reversed(before[1:]):
            path.append(int(step[path[-1]]))
        cost = reached[last] + beyond[last]
        # one more center than numbers differ is no use
        better = cost < costs[-1]
        centers.append(np.array(path[::-1], np.int64) if better else centers[-1])
        costs.append(cost if better else costs[-1])
    return centers, costs


def round_to_pool(pool: np.ndarray, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weights (float32) after rounding to the nearest weights of a pool (integers, ascending),
    with a scale that broadcasts."""
    nearest = np.searchsorted((pool[1:] + pool[:-1]) / 2, weight / scale)
    return (pool[nearest] * np.asarray(scale, np.float64)).astype(np.float32)


def fit_pool(form: Format, weight: np.ndarray, axis: int, bits: int, method: str = "mse"
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scales [channels], pool, rounded weights) of a linear node's weights.

    `pool` are integers of `form`, ascending, `2**bits` at most. With the method "min-max" scales
    are those of `form`, and the pool has the least squared error; with "mse" both are fitted to
    each other: a channel's scale is the one with the least error for the weights that its numbers
    have been rounded to, and the pool is found anew.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    top = int(largest(form))
    peak = np.abs(rows).max(axis=1)
    scales = (np.where(peak > 0, peak, 1.0) / top).astype(np.float32)
    best, chosen, error = scales, np.zeros(1, np.int64), np.inf
    for _ in range(_ROUNDS if method == "mse" else 1):
        steps = scales.astype(np.float64)[:, None]
        numbers = rows / steps
        pool = best_pool(numbers.reshape(-1), np.broadcast_to(
            steps * steps, rows.shape).reshape(-1), 1 << bits, top)
        found = round_to_pool(pool, rows, steps).astype(np.float64)
        now = float(np.square(rows - found).sum())
        if now < error:
            best, chosen = scales, pool
        if not now < (1 - _GAIN) * error:
            break
        error = now
        codes = found / steps
        power = np.square(codes).sum(axis=1)
        moved = (rows * codes).sum(axis=1) / np.where(power > 0, power, 1)
        scales = np.where(power > 0, np.maximum(moved, 1e-30), scales).astype(np.float32)
    shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
    return best, chosen, round_to_pool(chosen, weight, best.reshape(shape))

"""Rounding weights so that a layer's results change least, rather than each weight.

With W the float weights, X what a layer reads in the float network and Y what it reads in the
rounded one (each column one position), the codes Q shall minimize |W X - Q Y|^2. All that matters
of the data is H = Y Y^T and C = X Y^T, sums over the calibration images.

"feedback" rounds the weights of a channel one after the other and lets those that follow make up
for each one's error (GPTQ: Frantar et al., 2210.17323). "learned" goes on from there: each weight
in turn takes the code that is best with all others as they are, until nothing changes (coordinate
descent on what AdaRound, 2004.10568, relaxes).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from .network import attribute

__all__ = ["ROUNDINGS", "Correlation", "round_by_results"]

ROUNDINGS = ("nearest", "feedback", "learned")
#: Share of H's mean diagonal that is added to it, so that what the data do not determine stays.
_DAMPING = 0.01
#: Weights of a channel above which the matrices would be too large: those layers are rounded to
#: nearest.
_LARGEST = 4608
#: Columns that are rounded before the others learn of them all at once; rounds of descent.
_BLOCK, _ROUNDS = 64, 10
#: Numbers of unfolded inputs that are held at a time.
_UNFOLDED = 1 << 24


class Correlation:
    """H and C of a layer, for each of its groups: arrays [groups, weights of a channel, the same].
    """

    def __init__(self, node: onnx.NodeProto, weight: np.ndarray):
        self.node, self.groups = node, attribute(node, "group", 1)
        size = weight.shape[0] if node.op_type == "MatMul" else weight[0].size
        self.h = np.zeros((self.groups, size, size))
        self.c = np.zeros((self.groups, size, size))
        self.kernel = weight.shape[2:]

    @staticmethod
    def possible(node: onnx.NodeProto, weight: np.ndarray) -> bool:
        """Whether weights of this layer can be rounded by its results."""
        size = weight.shape[0] if node.op_type == "MatMul" else weight[0].size
        return (node.op_type in ("Conv", "Gemm", "MatMul") and size <= _LARGEST
                and (node.op_type != "Gemm" or attribute(node, "transB", 0) == 1)
                and (node.op_type != "MatMul" or weight.ndim == 2)
                and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET")

    def add(self, real: np.ndarray, found: np.ndarray) -> None:
        """Add images: what the layer reads in the float network, and in the rounded one."""
        step = max(1, _UNFOLDED * len(real) // max(1, self.groups * self.h[0].shape[0] * max(
            1, real[0, 0].size) * len(real)))
        for start in range(0, len(real), step):
            x, y = (self._columns(item[start:start + step]) for item in (real, found))
            self.h += y @ y.transpose(0, 2, 1)
            self.c += x @ y.transpose(0, 2, 1)

    def _columns(self, array):
        """[groups, weights of a channel, positions] of a layer's input."""
        if self.node.op_type != "Conv":
            return array.reshape(-1, array.shape[-1]).T[None].astype(np.float64)
        rank = len(self.kernel)
        pads = attribute(self.node, "pads", [0] * 2 * rank)
        strides = attribute(self.node, "strides", [1] * rank)
        dilations = attribute(self.node, "dilations", [1] * rank)
        array = np.pad(array, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
        extents = [(k - 1) * d + 1 for k, d in zip(self.kernel, dilations, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(
            array, extents, tuple(range(2, 2 + rank)))
        windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides),
                           *(slice(None, None, d) for d in dilations))]
        # [image, channel, position..., tap...] to [channel, tap..., image, position...]
        order = [1, *range(2 + rank, 2 + 2 * rank), 0, *range(2, 2 + rank)]
        windows = windows.transpose(order)
        return windows.reshape(self.groups, self.h.shape[1], -1).astype(np.float64)


def round_by_results(method: str, weight: np.ndarray, correlation: Correlation,
                     rounded: Callable[[np.ndarray, slice, Any], np.ndarray]) -> np.ndarray:
    """Weights rounded by "feedback" or "learned".

    Parameters
    ----------
    method : str
    weight : array [channels, weights of a channel]
        Channels of the groups one after the other.
    correlation : Correlation
    rounded : function of (array [channels of a group, n], channels, weights) -> array
        The nearest numbers that the codes of these weights (a slice or array of n) of these
        channels (a slice) stand for.

    Returns an array like `weight`.
    """
    result, per_group = np.empty_like(weight, np.float64), len(weight) // correlation.groups
    for group, (h, c) in enumerate(zip(correlation.h, correlation.c, strict=True)):
        rows = slice(group * per_group, (group + 1) * per_group)

        def near(values, columns=slice(None), rows=rows):
            return rounded(values, rows, columns)
        result[rows] = _round_group(method, weight[rows].astype(np.float64), h, c, near)
    return result


def _round_group(method, weight, h, c, near):
    damping = _DAMPING * np.mean(np.diag(h))
    if damping == 0:
        return near(weight)
    eye = damping * np.eye(len(h))
    h, aim = h + eye, weight @ (c + eye)
    # What would be best if weights were not rounded.
    best = np.linalg.solve(h, aim.T).T
    found = _feedback(best, h, near)
    if method == "learned":
        found = _descend(found, h, aim, near)
    # The nearest codes of the float weights where they are better, as with few images they may be.
    plain = near(weight)

    def error(codes):
        return np.einsum("ij,ij->i", codes @ h - 2 * aim, codes)
    return np.where((error(found) < error(plain))[:, None], found, plain)


def _feedback(weight, h, near):
    """GPTQ: columns in the order of their importance, the errors of each go to those after it."""
    order = np.argsort(-np.diag(h), kind="stable")
    weight = weight[:, order].copy()
    # The upper Cholesky factor of the inverse: row k says how the columns after k make up for it.
    inverse = np.linalg.inv(h[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
    result = np.empty_like(weight)
    for start in range(0, weight.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[1])
        errors = np.empty((len(weight), stop - start))
        for k in range(start, stop):
            result[:, k:k + 1] = near(weight[:, k:k + 1], order[k:k + 1])
            error = (weight[:, k] - result[:, k]) / factor[k, k]
            weight[:, k + 1:stop] -= np.outer(error, factor[k, k + 1:stop])
            errors[:, k - start] = error
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    back = np.empty_like(result)
    back[:, order] = result
    return back


def _descend(codes, h, aim, near):
    """Each weight in turn takes the nearest code to its best number, the others as they are."""
    codes, diagonal = codes.copy(), np.diag(h)
    gradient = codes @ h - aim
    for _ in range(_ROUNDS):
        before = codes.copy()
        for k in range(codes.shape[1]):
            wanted = codes[:, k] - gradient[:, k] / diagonal[k]
            better = near(wanted[:, None], slice(k, k + 1))[:, 0]
            moved = better - codes[:, k]
            if moved.any():
                gradient += np.outer(moved, h[k])
                codes[:, k] = better
        if np.array_equal(before, codes):
            break
    return codes

"""Depthwise layers whose activations come from the top of the array.

All rows of an array column then see the same activation, one word of the feature map each cycle,
while partial sums move down one row a cycle: a sum that enters row 0 with word t meets word t + r
in row r. The words are sent one column of pixels after the other, `step` rows of the map in each.
Row r = step * dx + dy of the array holds the weight of the tap (dy, dx), so that each column of the
array works on as many taps as it has rows. In each column of pixels, `results` words begin a
result. Kernels with more taps take several passes.
"""

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from systolith.hw.spec.timing import pass_cycles

from .limits import ARRAY

if TYPE_CHECKING:
    from .layer import Layer

__all__ = ["FromAbove", "plan_from_above"]



@dataclass(frozen=True)
class FromAbove:
    """How the taps of a depthwise layer lie in the rows of the array.

    Attributes
    ----------
    taps : (rows, columns)
        Taps of a pass.
    passes : (down, across)
        Passes that cover the kernel.
    results : int
        Rows of results that are computed at a time.
    step : int
        Rows of the map in each column of pixels that is sent; array rows from the tap (dy, dx) to
        (dy, dx + 1).
    """
    taps: tuple
    passes: tuple
    results: int
    step: int

    def columns(self, layer: "Layer", width: int) -> int:
        """Columns of pixels that are sent for rows of `width` results."""
        return (width - 1) * layer.x.stride + (self.taps[1] - 1) * layer.x.dilation + 1

    def cycles(self, layer: "Layer", height: int, width: int) -> int:
        """Cycles of all passes over height x width results of a block of columns."""
        runs = -(-height // self.results)
        return self.passes[0] * self.passes[1] * (
            layer.arch.upper_rows + runs * self.columns(layer, width) * self.step)

    def last_row(self, layer: "Layer") -> int:
        """The last row of the array that holds a tap."""
        return (self.step * (self.taps[1] - 1) * layer.x.dilation
                + (self.taps[0] - 1) * layer.y.dilation)

    def words(self, weight: np.ndarray, layer: "Layer") -> np.ndarray:
        """Weight words, codes [column blocks, passes, array rows that it fills, array columns],
        of a layer's weight codes [C, 1, kh, kw]."""
        arch, (taps_y, taps_x), (down, across) = layer.arch, self.taps, self.passes
        zero = arch.weight.zero_code
        assert zero is not None                 # formats of such chips have one
        weight = np.pad(weight[:, 0], (
            (0, layer.column_blocks * arch.columns - len(weight)),
            (0, down * taps_y - weight.shape[2]), (0, across * taps_x - weight.shape[3])),
            constant_values=zero)
        words = np.full((layer.column_blocks, down, across, arch.rows, arch.columns), zero,
                        weight.dtype)
        weight = weight.reshape(layer.column_blocks, arch.columns, down, taps_y, across, taps_x)
        for dy, dx in product(range(taps_y), range(taps_x)):
            row = self.step * dx * layer.x.dilation + dy * layer.y.dilation
            words[:, :, :, row] = weight[:, :, :, dy, :, dx].transpose(0, 2, 3, 1)
        words = words.reshape(layer.column_blocks, down * across, arch.rows, arch.columns)
        return words[:, :, :layer.height]


def plan_from_above(layer: "Layer") -> FromAbove | None:
    """The `FromAbove` with the fewest cycles for a layer; None where the layer is not depthwise,
    the chip cannot do it, or activations from the left are as fast."""
    conv, arch, y, x = layer.conv, layer.arch, layer.y, layer.x
    if not arch.depthwise or not conv.depthwise:
        return None
    window = layer.blocks * y.extent(1) * x.extent(1)
    if not arch.exact_sums or window > arch.activation_depth // 2:
        return None                     # passes in another order; taps that come part by part
    if max(layer.pool, y.step, x.step) > 1:
        return None                     # pooled, or results that pooling leaves out
    if y.stride > ARRAY["start_y"] or x.stride > ARRAY["start_x"]:
        return None
    width = min(x.out, ARRAY["out_x"] // x.stride, max(1, arch.accumulator_depth // 2))
    sums = max(1, arch.accumulator_depth // 2 // width)         # rows of results at a time
    best = None
    for taps_y, taps_x in product(range(1, y.kernel + 1), range(1, x.kernel + 1)):
        passes = -(-y.kernel // taps_y), -(-x.kernel // taps_x)
        for results in range(1, min(ARRAY["starts"], sums, y.out) + 1):
            step = (results - 1) * y.stride + (taps_y - 1) * y.dilation + 1
            plan = FromAbove((taps_y, taps_x), passes, results, step)
            if step > ARRAY["pool_y"] or plan.last_row(layer) >= arch.rows:
                break
            cycles = plan.cycles(layer, min(y.out, sums // results * results), width)
            cost = cycles / min(y.out, sums // results * results)
            if best is None or cost < best[0]:
                best = cost, plan
    usual = y.kernel * x.kernel * pass_cycles(
        arch, min(y.out, sums) * width, arch.fill) / min(y.out, sums)
    return best[1] if best is not None and best[0] < usual else None

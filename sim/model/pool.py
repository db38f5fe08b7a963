"""Pooling: what becomes of the results under windows of a map."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from . import numerics

__all__ = ["Pool"]


@dataclass(frozen=True)
class Pool:
    """Windows over a convolution's results, and what is taken of each: the largest or the smallest
    result, after requantization, or the sum, before bias and requantization.

    Attributes
    ----------
    size : (py, px)
        Pixels of a window. Rows and columns that fill none are dropped.
    stride : (y, x)
        From a window to the next; (): `size`.
    pads : (top, left, bottom, right)
        How far windows reach over the map, where nothing is; less than `size`.
    least : tuple of bool [O]
        For each channel whether the smallest is taken instead of the largest; (): of none. A layer
        may do so with bipolar results only.
    sum : bool
        Sum pooling.
    """
    size: tuple = (1, 1)
    stride: tuple = ()
    pads: tuple = (0, 0, 0, 0)
    least: tuple = ()
    sum: bool = False

    #: The largest window that an instruction can address, in pixels of a side.
    MOST = 15

    def __post_init__(self):
        for name in ("size", "pads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "stride", tuple(self.stride) or self.size)
        object.__setattr__(self, "least", tuple(map(bool, self.least)))

    @property
    def nothing(self) -> bool:
        """Whether every pixel is a window of its own."""
        return self.size == self.stride == (1, 1)

    @property
    def summed(self) -> int:
        """Sums of the convolution that are added up for a result; 1: no sum pooling."""
        return self.size[0] * self.size[1] if self.sum else 1

    def out(self, sizes: Iterable[int]) -> tuple[int, int]:
        """(height, width) of the pooled map, from those of the map. ValueError where a window
        holds no pixel."""
        sizes, counts = tuple(sizes), []
        for n, pixels in enumerate(sizes):
            before, after = self.pads[n::2]
            counts.append(numerics.output_size(pixels, self.size[n], self.stride[n], 1,
                                               (before, after)))
            if max(before, after) >= self.size[n] or (
                    (counts[-1] - 1) * self.stride[n] - before >= pixels):
                raise ValueError(f"windows of {self.size} with pads of {self.pads}, {self.stride} "
                                 f"apart, over a map of {list(sizes)}: some hold no pixel")
        height, width = counts
        return height, width

    def sums(self, sums: np.ndarray) -> np.ndarray:
        """[N, C, H, W] -> the sums of windows; pads count as 0."""
        return self._over_windows(np.add, sums)

    def extremes(self, values: np.ndarray) -> np.ndarray:
        """[N, C, H, W] -> the largest of each window, or the smallest, as `least` says. Floats as
        ordered integers (see `Format.ordered`): what pooling compares."""
        if any(self.least):
            turn = np.where(self.least, -1, 1)[:, None, None]
            return turn * replace(self, least=()).extremes(turn * values)
        # The pixels at the edges lie in every window that reaches over them.
        return self._over_windows(np.maximum, values, mode="edge")

    def _over_windows(self, operation, values, **padding):
        """`operation` over the rows of windows, then over their columns."""
        if any(self.pads):
            values = np.pad(values, ((0, 0), (0, 0), self.pads[::2], self.pads[1::2]), **padding)
        for axis, size, step in zip((2, 3), self.size, self.stride, strict=True):
            count = (values.shape[axis] - size) // step + 1
            result = None
            for first in range(size):
                cut = [slice(None)] * 4
                cut[axis] = slice(first, first + (count - 1) * step + 1, step)
                part = values[tuple(cut)]
                result = part if result is None else operation(result, part)
            values = result
        return values

    def scaled(self, gain: np.ndarray) -> "Pool":
        """This pool followed by a factor for each channel: where the factor is negative, max
        pooling becomes min pooling."""
        least = np.array(self.least or [False] * len(gain)) ^ (gain < 0).astype(bool)
        return replace(self, least=tuple(least.tolist()) if least.any() else ())

    def of_channels(self, channels: Iterable[int]) -> "Pool":
        """This pool of some of the channels alone."""
        least = tuple(self.least[n] for n in channels) if self.least else ()
        return replace(self, least=least if any(least) else ())

    def then(self, other: "Pool") -> "Pool | None":
        """One max pool that does the same as this one followed by `other`; None where there is
        none."""
        gaps = any(s > k for s, k in zip(self.stride, self.size, strict=True))
        size = tuple(k + (other.size[n] - 1) * self.stride[n] for n, k in enumerate(self.size))
        if gaps or any(other.pads) or max(size) > self.MOST or self.least or other.least or (
                self.sum or other.sum):
            return None
        # The pads at the end reach as far as the last window does, as they did before.
        return Pool(size, tuple(s * t for s, t in zip(self.stride, other.stride, strict=True)),
                    self.pads)

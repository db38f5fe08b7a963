"""One axis of a layer: which pixels each result pools, and which input positions each pixel reads.

Pixels are the results of the convolution before pooling. Ranges are (first, end), the end not
included.
"""

from systolith.hw.spec import host

__all__ = ["Axis"]


class Axis(host.Axis):
    """One axis of a layer, with what its cuts into tiles need to know."""

    @property
    def apart(self) -> bool:
        """Whether windows do not overlap, and all are whole."""
        return (self.step >= self.pool and self.margin == 0
                and (self.out - 1) * self.step + self.pool <= self.pixels)

    def window(self, n: int) -> tuple[int, int]:
        """(first, end) of the pixels that result `n` pools."""
        first = n * self.step - self.margin
        return max(0, first), min(self.pixels, first + self.pool)

    def under(self, out: tuple[int, int]) -> tuple[int, int]:
        """(first, end) of the pixels that a range of results pools."""
        return self.window(out[0])[0], self.window(out[1] - 1)[1]

    def most_under(self, results: int) -> int:
        """The most pixels that `results` neighbouring results pool."""
        return min(self.pixels, (results - 1) * self.step + self.pool)

    def windows(self, out: tuple[int, int]) -> list[list[int]]:
        """A range of results in runs whose windows have the same size and stand `step` pixels
        apart: [[first result, end, first pixel, pixels of a window]]."""
        runs: list[list[int]] = []
        for n in range(*out):
            first, end = self.window(n)
            if runs and runs[-1][3] == end - first and (
                    first - runs[-1][2] == (n - runs[-1][0]) * self.step):
                runs[-1][1] = n + 1
            else:
                runs.append([n, n + 1, first, end - first])
        return runs

    def span(self, out: tuple[int, int], taps: tuple[int, int]) -> tuple[int, int, int]:
        """(first, end, start): the range of input positions that a range of results reads by a
        range of taps, and where the first pixel's first tap reads, counted from `first`. Where they
        read padding alone, the range is the nearest position."""
        pixels = self.under(out)
        start = pixels[0] * self.stride - self.pad + taps[0] * self.dilation
        stop = ((pixels[1] - 1) * self.stride - self.pad
                + (taps[1] - 1) * self.dilation + 1)
        first = min(max(start, 0), self.size - 1)
        return first, max(min(stop, self.size), first + 1), start - first

    def extent(self, results: int, taps: int | None = None) -> int:
        """The most input positions that `results` neighbouring results read by `taps` neighbouring
        taps (None: all)."""
        taps = self.kernel if taps is None else taps
        return min(self.size, (self.most_under(results) - 1) * self.stride
                   + (taps - 1) * self.dilation + 1)

    def most(self, limit: int) -> int:
        """The most neighbouring results that together read at most `limit` input positions; 0 where
        even one reads more."""
        if self.extent(self.out) <= limit:
            return self.out
        pixels = (limit - (self.kernel - 1) * self.dilation - 1) // self.stride + 1
        return max(0, min(self.out, (pixels - self.pool) // self.step + 1))

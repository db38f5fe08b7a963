"""Which input pixels and channels a convolution multiplies for each of its results."""

from dataclasses import dataclass

import numpy as np

from . import numerics

__all__ = ["Geometry"]


@dataclass(frozen=True)
class Geometry:
    """How a kernel goes over a map.

    Attributes
    ----------
    stride, dilation : (y, x)
    pads : (top, left, bottom, right)
        Negative ones cut off so many pixels.
    pad_code : int or None
        The code of padding pixels, in the input's format; None: padding contributes exactly
        nothing.
    replicate : bool
        Padding is the nearest pixel instead; pad_code is None then.
    groups : int
        Output channels fall into so many equal runs, each of which sees its own run of input
        channels.
    """
    stride: tuple = (1, 1)
    dilation: tuple = (1, 1)
    pads: tuple = (0, 0, 0, 0)
    pad_code: int | None = None
    replicate: bool = False
    groups: int = 1

    def __post_init__(self):
        for name in ("stride", "dilation", "pads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def padded(self) -> bool:
        """Whether there are pixels around the map: pads above 0."""
        return any(pad > 0 for pad in self.pads)

    def sizes(self, sizes: tuple, kernel: tuple) -> tuple[int, int]:
        """(height, width) of the results of a kernel (height, width) over a map (height,
        width)."""
        height, width = (
            numerics.output_size(size, kernel[n], self.stride[n], self.dilation[n], self.pads[n::2])
            for n, size in enumerate(sizes))
        return height, width

    def convolve(self, images: np.ndarray, weight: np.ndarray, pad_image: int = 0) -> np.ndarray:
        """Exact sums [N, O, Ho, Wo] of images [N, I, H, W] with weights [O, I / groups, kh, kw];
        `pad_image` is that of `pad_code`. See `numerics.convolve`."""
        images, geometry = self._edges(images)
        return numerics.convolve(images, weight, groups=self.groups, pad_image=pad_image,
                                 **geometry)

    def saturating_convolve(self, images: np.ndarray, weight: np.ndarray, bits: int | None,
                            vector: int, pad_image: int = 0) -> np.ndarray:
        """As `convolve`, weights [O, I, kh, kw] for all channels, in accumulators of `bits` bits
        (None: floats) that take `vector` channels a pass. See `numerics.saturating_convolve`."""
        images, geometry = self._edges(images)
        return numerics.saturating_convolve(images, weight, bits=bits, vector=vector,
                                            pad_image=pad_image, **geometry)

    def _edges(self, images):
        """(images with their edges replicated, what remains to be done as fields of
        `numerics.convolve`)."""
        pads = self.pads
        if self.replicate:
            top, left, bottom, right = (max(pad, 0) for pad in pads)
            images = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="edge")
            pads = tuple(min(pad, 0) for pad in pads)
        return images, dict(stride=self.stride, dilation=self.dilation, pads=pads)

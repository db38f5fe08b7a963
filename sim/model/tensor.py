"""A feature map: its shape and format, and the numbers that its codes stand for."""

from dataclasses import dataclass

import numpy as np
from systolith.hw.formats import Format

from . import numerics

__all__ = ["Tensor"]


@dataclass(frozen=True)
class Tensor:
    """A feature map of one image.

    Attributes
    ----------
    name : str
    shape : (channels, height, width)
    format : Format or None
        Number format of the codes; None: raw integers (accumulator plus bias).
    scale : float or array [channels]
        real = scale * (decode(code) - zero_point) + offset; an array for raw tensors only.
    zero_point : int
        What stands for 0, in units of the decoded code; integer formats only.
    offset : float or array [channels]
        Added on the host, raw tensors only.
    """
    name: str
    shape: tuple
    format: Format | None
    scale: float | np.ndarray = 1.0
    zero_point: int = 0
    offset: float | np.ndarray = 0.0

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Exact values (float64) of codes [N, C, H, W], scale and zero point left out."""
        if self.format is None:
            return np.asarray(codes).astype(np.float64)
        return numerics.values_of(self.format, codes)

    def real(self, codes: np.ndarray) -> np.ndarray:
        """The numbers (float64) that codes [N, C, H, W] stand for."""
        scale, offset = (np.reshape(item, (-1, 1, 1)) for item in (self.scale, self.offset))
        return (self.decode(codes) - self.zero_point) * scale + offset

"""Where a layer's results go in the tensor that it writes, perhaps together with other layers."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Placement"]


@dataclass(frozen=True)
class Placement:
    """Where channels and pixels of one map lie in another.

    Attributes
    ----------
    first_channel : int
        Channel c is the channel first_channel + c.
    step, origin : (y, x)
        The pixel (y, x) is the pixel (y, x) * step + origin.
    """
    first_channel: int = 0
    step: tuple = (1, 1)
    origin: tuple = (0, 0)

    def __post_init__(self):
        for name in ("step", "origin"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def apart(self) -> bool:
        """Whether the pixels are not those of the other map from its first pixel on."""
        return self.step != (1, 1) or any(self.origin)

    def target(self, array: np.ndarray, shape: tuple) -> np.ndarray:
        """The view of `array` [..., C, H, W] in which a map of `shape` (channels, height, width)
        lies; smaller where the array does not hold all of it."""
        channels, height, width = shape
        (y, x), (sy, sx) = self.origin, self.step
        return array[..., self.first_channel:self.first_channel + channels,
                     y:y + (height - 1) * sy + 1:sy, x:x + (width - 1) * sx + 1:sx]

    def inside(self, outer: "Placement") -> "Placement":
        """Where a map lies in the whole, if it lies like this in a map that lies there like
        `outer`."""
        return Placement(
            outer.first_channel + self.first_channel,
            tuple(a * b for a, b in zip(outer.step, self.step, strict=True)),
            tuple(a + b * c for a, b, c in zip(outer.origin, self.origin, outer.step, strict=True)))

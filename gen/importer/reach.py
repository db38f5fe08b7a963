"""How large a value can be: ranges of images, of codes and of a convolution's sums."""

from fractions import Fraction
from math import prod
from types import NoneType
from typing import TYPE_CHECKING

import numpy as np

from .kinds import reach
from .nodes import Node
from .values import Linear, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["image_limits", "reach_of"]


def image_limits(builder: "Builder", source: str) -> list[int]:
    """[smallest, largest] image that a tensor can hold."""
    form = builder.tensors[source].format
    return [int(form.image(form.from_ordered(item))) for item in builder.limits[source]]


def reach_of(builder: "Builder", value: Value, node: Node | None) -> np.ndarray:
    """The largest magnitude of each channel of a value: array of Fraction [channels]. Raises
    UserError at `node` where it is not known."""
    return reach(value.linear, builder, value, node)


@reach.register(Linear)
@reach.register(NoneType)
def _(linear, builder, value, node):
    least, most = image_limits(builder, value.source)
    if linear is None:
        ends = [value.gain * item + value.offset for item in (least, most)]
    else:
        images = linear.weights.images
        if any(pad > 0 for pad in linear.pads) and linear.pad_image is not None:
            least, most = min(least, linear.pad_image), max(most, linear.pad_image)
        flat = images.reshape(len(images), -1).astype(object)
        up, down = np.where(flat > 0, flat, 0).sum(axis=1), np.where(flat < 0, flat, 0).sum(axis=1)
        times = prod(value.window)
        form = builder.tensors[value.source].format
        if form.product_shift:      # not the product of the images, but no more than this
            times = Fraction(33 * times, 32 << form.product_shift)
        ends = [times * (up * a + down * b) * value.gain + value.offset
                for a, b in ((least, most), (most, least))]
    if value.slope is not None:
        ends = [np.where(item < 0, item * value.slope, item) for item in ends]
    both = np.stack(ends)
    both = both if value.low is None else np.maximum(both, value.low)
    both = both if value.high is None else np.minimum(both, value.high)
    return abs(both).max(axis=0)

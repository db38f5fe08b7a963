"""Which tensor of the model each tensor of the chip holds, for comparisons of the two."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from systolith.sim.model.graph import Tensor

from .rationals import uniform
from .values import Origin, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["origins"]


def _whole(value):
    """Whether a value has each element of its map exactly once."""
    return value.order is None or (
        len(value.order) == len(np.unique(value.order)) == prod(value.map))


def origins(builder: "Builder", values: Mapping[str, Value],
            tensors: Mapping[str, Tensor]) -> dict[str, Origin]:
    """{name of one of the chip's `tensors`: its `Origin`}, from the model's `values` by name. Where
    several of the model's tensors hold the same codes, the first that stands for real numbers is
    taken, else the first."""
    variants = {}
    for (source, pool, low, high), (name, *_) in builder.variants.items():
        limits = builder.limits[source]
        variants[source, pool] = None if (source, pool) in variants else (
            name, low > limits[0], high < limits[1])
    found: dict[str, tuple[bool, Origin]] = {}
    for name, value in values.items():
        if value.parts:
            key = (id(value.parts), value.low, value.high, value.pool, *value.gain,
                   *value.offset)
            if key in builder.plains:
                value = replace(builder.plains[key][1], shape=value.shape, order=value.order,
                                rows=value.rows)
        gain, offset = uniform(value.gain), uniform(value.offset)
        if (value.linear is not None or value.parts or value.channels is not None
                or any(value.pads) or gain is None or offset is None or value.rows > 1
                or not _whole(value)):
            continue
        source = value.source
        if value.pool or value.low is not None or value.high is not None:
            source, below, above = variants.get((value.source, value.pool)) or (None, False, False)
            # Before the Relu that clips what the chip holds, the model's tensor is another.
            if (below and value.low is None) or (above and value.high is None):
                continue
        tensor = tensors.get(source)
        if tensor is None or tensor.format is None:
            continue
        real = gain == Fraction(float(tensor.scale)) * Fraction(2) ** tensor.format.exponent
        if source not in found or (real and not found[source][0]):
            found[source] = real, Origin(name, float(gain), float(offset), value.order)
    return {name: origin for name, (_, origin) in found.items()}

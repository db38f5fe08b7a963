"""Layers for tests, from the fields of all of a layer's records by name."""

from dataclasses import fields, replace

import numpy as np
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.placement import Placement
from systolith.sim.model.requantization import Requantization

RECORDS = {"geometry": Geometry, "requantization": Requantization, "placement": Placement}


def convolution(name, source, output, weight, form, raw=False, **given):
    """A Conv. `given`: fields of a Conv, or of its geometry, requantization and placement; of the
    pooling `pool` alone. Without a multiplier results are the sums."""
    conv = Conv(name, source, output, np.asarray(weight), form)
    if not raw:
        conv = replace(conv, requantization=Requantization.plain(len(conv.weight)))
    return changed(conv, **given)


def changed(conv, **given):
    """The layer with other values of some fields, its own or those of its records."""
    for name, record in RECORDS.items():
        names = {item.name for item in fields(record)} & given.keys()
        if names:
            mine = {item: given.pop(item) for item in names}
            given[name] = replace(getattr(conv, name), **mine)
    return replace(conv, **given)

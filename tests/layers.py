"""Layers for tests, from the fields of all of a layer's records by name."""

from dataclasses import fields, replace

from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.placement import Placement
from systolith.sim.model.requantization import Requantization
from systolith.sim.model.weights import Weights

RECORDS = {"geometry": Geometry, "requantization": Requantization, "placement": Placement}


def convolution(name, source, output, weight, form, raw=False, **given):
    """A Conv with the codes `weight` of the format `form`. `given`: as of `changed`. Without a
    multiplier results are the sums."""
    conv = Conv(name, source, output, Weights.of_codes(weight, form))
    if not raw:
        conv = replace(conv, requantization=Requantization.plain(len(conv.weights)))
    return changed(conv, **given)


def changed(conv, **given):
    """The layer with other values of some fields, its own or those of its records: geometry,
    requantization and placement; of the weights, codes `weight` or the `weight_format`."""
    if {"weight", "weight_format"} & given.keys():
        weight = given.pop("weight", conv.weights.codes)
        given["weights"] = Weights.of_codes(
            weight, given.pop("weight_format", conv.weights.format))
    for name, record in RECORDS.items():
        names = {item.name for item in fields(record)} & given.keys()
        if names:
            mine = {item: given.pop(item) for item in names}
            given[name] = replace(getattr(conv, name), **mine)
    return replace(conv, **given)

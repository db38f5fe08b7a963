"""How much arithmetic a network is, whatever chip computes it: multiply-accumulates, bit
operations, arithmetic computation effort and bytes of weights, layer by layer."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from math import prod

from systolith.hw.formats import Format, sum_bits
from systolith.hw.spec.records import FLAT, Record

from .graph import Graph

__all__ = ["Effort", "LayerEffort", "effort", "efforts", "total"]


@dataclass(frozen=True)
class Effort(Record):
    """Counts of one image.

    Attributes
    ----------
    macs : int
        Products that are summed up.
    ace : int
        Arithmetic computation effort (PokeBNN, arXiv 2112.00133): for each product the bits of one
        factor times those of the other.
    bops : int
        Bit operations: for each product as many as in `ace`, and an addition of as many bits as an
        exact sum of the layer's products has.
    weight_bytes : int
        Of the weights in their own formats, each layer's rounded up to whole bytes.
    """
    macs: int
    ace: int
    bops: int
    weight_bytes: int


@dataclass(frozen=True)
class LayerEffort(Record):
    """What a layer of the network is, in its own formats; in JSON one object."""
    name: str
    activation: str
    weight: str
    effort: Effort = field(metadata=FLAT)


def effort(activation: Format, weight: Format, shape: Sequence[int], results: int) -> Effort:
    """Effort of a layer whose weights have the shape [O, I / groups, kh, kw], and which computes
    `results` sums in all."""
    terms = prod(shape[1:])
    ace = activation.width * weight.width
    return Effort(results * terms, results * terms * ace,
                  results * terms * (ace + sum_bits(activation, weight, terms)),
                  -(-prod(shape) * weight.width // 8))


def efforts(graph: Graph) -> tuple[LayerEffort, ...]:
    """Effort of each layer of a network as it was read: formats are its own, not a chip's."""
    found = []
    for layer in graph.layers:
        form, weights = graph.tensors[layer.input].format, layer.weights
        assert form is not None, "no layer reads raw sums"
        found.append(LayerEffort(
            layer.name, str(form), str(weights.format),
            effort(form, weights.format, weights.shape, prod(layer.conv_shape))))
    return tuple(found)


def total(layers: Iterable[LayerEffort]) -> Effort:
    """Sum of the layers' efforts."""
    counts = [astuple(layer.effort) for layer in layers]
    return Effort(*(sum(column) for column in zip(*counts, strict=True))) if counts else (
        Effort(0, 0, 0, 0))

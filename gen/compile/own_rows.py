"""Taps of a kernel in rows of their own: layers whose channels fill a part of the rows.

On chips with `array.tap_rows` the activation memory is read bank by bank, at an address for each
part of the rows. The layer before writes its channels into each part of a word, which takes no
time, and up to 4 x 4 taps of the kernel are one pass. Weights lie in memory as without.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from systolith.sim.model.graph import Graph

from .layer import Layer

__all__ = ["with_own_rows"]


def _part(layer):
    """Parts of the rows, a power of two, that the channels of a layer's input fill."""
    arch = layer.arch
    units = arch.height_of(layer.conv.inputs) // arch.height_unit
    return 1 << (units - 1).bit_length()


def _reads(layer, part):
    """Whether taps of a layer can have so many parts of the rows each."""
    conv, x, y = layer.conv, layer.x, layer.y
    geometry = conv.geometry
    return (2 * part <= layer.arch.banks and x.kernel * y.kernel > 1 and geometry.groups == 1
            and layer.planes == 1 and layer.blocks == 1 and conv.channels is None
            and len(layer.addends) == 1 and not (layer.pairs or layer.signs or layer.from_above)
            and (geometry.pad_code is not None or not geometry.padded)
            and not (geometry.replicate and geometry.padded))


def _cycles(layer):
    return layer.cycles(layer.y.out, layer.x.out)


def with_own_rows(layers: Sequence[Layer], graph: Graph, fixed: Collection[str]) -> list[Layer]:
    """The layers of a network, with taps in rows of their own where that saves cycles. `fixed`:
    tensors that no layer writes, or whose channels have other places than in the network."""
    layers = list(layers)
    arch = layers[0].arch if layers else None
    if arch is None or arch.banks == 1 or not arch.exact_sums:
        return layers
    written = [layer.conv.output for layer in layers]
    for index, layer in enumerate(layers):
        name, conv = layer.conv.output, layer.conv
        if name in fixed or written.count(name) > 1 or conv.raw or conv.placement.first_channel:
            continue
        for n, reader in enumerate(layers):
            if reader.conv.input != name:
                continue
            part = _part(reader)
            if _reads(reader, part):
                made = replace(reader, part=part)
                if _cycles(made) < _cycles(reader):
                    layers[n] = made
                    layers[index] = replace(layers[index], copies=part)
    return layers

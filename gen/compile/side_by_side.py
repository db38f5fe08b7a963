"""Taps of a kernel's row side by side: layers whose channels fill a half or a quarter of the rows.

The layer before writes each channel several times into a word, which costs nothing where it has
columns left. On chips with `array.side_taps`, parts of the array's rows then see neighbouring
pixels, so that a pass computes a tap of the kernel in each of them. At the start of each row of
pixels, sums lack products, since a part sees the end of the row before; POST leaves them out.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from systolith.sim.model.graph import Graph

from .layer import Layer
from .limits import POST

__all__ = ["with_side_taps"]

#: Parts of the array's rows, as powers of two.
_SIDES = (1, 2)


def _writes(layer, side):
    """Whether a layer can write its channels in each of 2**side parts of its words."""
    conv, arch = layer.conv, layer.arch
    each = arch.vector >> side
    room = min(-(-layer.channels // arch.group) * arch.group, arch.columns)
    return (not conv.raw and conv.operand is None and not layer.to_signs and not layer.signs
            and conv.placement.first_channel == 0 and not layer.from_above
            and layer.column_blocks == 1 and layer.channels <= each
            and (each << side) - each + layer.channels <= room)


def _reads(layer):
    """Whether taps of a layer can lie side by side in any number of parts."""
    conv, arch, x = layer.conv, layer.arch, layer.x
    padding = conv.geometry.replicate or conv.geometry.pad_code is not None
    return (x.kernel > 1 and x.stride == x.dilation == 1 and conv.geometry.groups == 1
            and not layer.signs and layer.planes == 1 and conv.channels is None
            and layer.blocks == 1 and len(layer.addends) == 1 and layer.y.pool <= POST["pool_y"]
            and (padding or not conv.geometry.padded)
            and layer.y.extent(1) * layer.x.extent(1) <= arch.activation_depth // 2)


def _cycles(layer, side):
    """Cycles of a layer's passes with its taps in 2**side parts, or of loading its weights."""
    made = replace(layer, side=side)
    return max(made.cycles(made.y.out, made.x.out),
               made.stored.bytes // made.arch.beat_bytes)


def _total(layer, readers, side):
    """Cycles of a layer that writes its channels in each of 2**side parts of its words, those of
    its passes or of its post-processing, which reads the chunks of each part; and of its readers,
    which can hardly begin before it ends."""
    made = replace(layer, spread=side)
    chunks = sum(map(made.used_chunks, range(made.groups)))
    return max(_cycles(made, made.side), made.results * made.pool * chunks) + sum(
        _cycles(reader, side) for reader in readers)


def with_side_taps(layers: Sequence[Layer], graph: Graph,
                   fixed: Collection[str]) -> list[Layer]:
    """The layers of a network, with taps side by side where that saves cycles. `fixed`: tensors
    whose words must hold nothing but their channels."""
    layers = list(layers)
    arch = layers[0].arch if layers else None
    if arch is None or not arch.side_taps or not arch.exact_sums:
        return layers
    written = [layer.conv.output for layer in layers]
    for index, layer in enumerate(layers):
        name = layer.conv.output
        if name in fixed or written.count(name) > 1:
            continue
        readers = [n for n, other in enumerate(layers) if other.conv.input == name]
        best = 0
        for side in _SIDES:
            if _writes(layer, side):
                now, then = (_total(layer, [layers[r] for r in readers if _reads(layers[r])], n)
                             for n in (best, side))
                best = side if then < now else best
        if not best:
            continue
        layers[index] = replace(layers[index], spread=best)
        for n in readers:
            if _reads(layers[n]) and _cycles(layers[n], best) < _cycles(layers[n], 0):
                layers[n] = replace(layers[n], side=best)
    return layers

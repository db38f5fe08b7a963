"""Operand memory: which feature maps it holds, and where a layer reads its operand."""

from collections.abc import Sequence

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Graph

from .alloc import Ring, place
from .layer import Layer

__all__ = ["OperandMemory", "operand_lives"]


def operand_lives(graph: Graph) -> dict[str, tuple[int, int]]:
    """{tensor: (first layer, last layer)} of the tensors that are operands of a layer: indices of
    the layer that writes it first and of the layer that reads it last."""
    lives: dict[str, tuple[int, int]] = {}
    writers: dict[str, int] = {}
    for index, conv in enumerate(graph.layers):
        writers.setdefault(conv.output, index)
    for index, conv in enumerate(graph.layers):
        if conv.operand is not None:
            name = conv.operand.tensor
            first = lives[name][0] if name in lives else writers.get(name, index)
            lives[name] = first, index
    return lives


def _words(shape, arch):
    channels, height, width = shape
    return -(-channels // arch.vector) * height * width


def _least_results(layer):
    """The fewest results that a sub-tile can have."""
    return layer.from_above.results if layer.from_above else 1


def _most_words(layer):
    """Operand words of one pixel for the column block that needs the most."""
    spans = [_word_range(layer, block) for block in range(layer.column_blocks)]
    return max(end - first for first, end in spans)


def _word_range(layer, column_block):
    """(first, end) of the words of a pixel that hold the channels of a column block."""
    arch, first = layer.arch, column_block * layer.arch.columns
    last = min(first + arch.columns, layer.channels) - 1
    return first // arch.vector, last // arch.vector + 1


class OperandMemory:
    """Allocation of the operand memory.

    A map stays there from the layer that writes it to the last one that reads it, if it fits.
    Otherwise, the words that each sub-tile and column block need are loaded from external memory
    into a ring buffer in the largest free range.

    Attributes
    ----------
    lives : dict of str to (first layer, last layer)
    maps : dict of str to int
        First word of every map that lies there as a whole.
    gaps : dict of int to (base, words)
        Ring buffers, by the index of the layer that loads its operands.
    peak : int
        The most words in use, counted from word 0.
    """

    def __init__(self, graph: Graph, layers: Sequence[Layer], arch: Arch):
        self.arch = arch
        self.lives = operand_lives(graph)
        shapes = {name: graph.tensors[name].shape for name in self.lives}
        sizes = {name: _words(shape, arch) for name, shape in shapes.items()}

        def needs(index, maps):
            conv = layers[index].conv
            if conv.operand is None or conv.operand.tensor in maps:
                return 0
            each = _most_words(layers[index])
            least = each * _least_results(layers[index])
            most = 2 * each * min(layers[index].results, arch.accumulator_depth // 2)
            return max(least, min(most, arch.operand_depth // 2))
        placement = place(sizes, self.lives, needs, len(layers), arch.operand_depth)
        self.maps, self.gaps = placement.maps, placement.gaps
        self.rings: dict[int, Ring] = {}
        self.peak = max((base + sizes[name] for name, base in self.maps.items()), default=0)

    def most_results(self, layer: Layer) -> int | None:
        """The most results that a sub-tile of a layer may have so that its operands fit twice; None
        where the layer loads none. Raises UserError where not even the smallest sub-tile's fit.
        """
        if layer.index not in self.gaps:
            return None
        room, each, least = self.gaps[layer.index][1], _most_words(layer), _least_results(layer)
        if room < each * least:
            assert layer.conv.operand is not None       # else it has no gap
            raise UserError(
                f"{layer.title} combines its results with {layer.conv.operand.tensor!r}, of which "
                f"{each * least} words must lie in the operand memory at least, and it has "
                f"{self.arch.operand_depth}; raise buffers.operands")
        return max(least, room // (2 * each))

    def begin(self, layer: Layer) -> None:
        """Start a layer on other images, for which no operand is loaded."""
        self.rings[layer.index] = Ring(self.gaps[layer.index][1])

    def buffer(self, layer: Layer, column_block: int,
               sub: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, bool, int, int]:
        """(first word, whether they are loaded already, first block of channels, blocks) of the
        operands of a sub-tile ((y0, y1), (x0, x1)) and column block."""
        ring, start = self.rings[layer.index], self.gaps[layer.index][0]
        (y0, y1), (x0, x1) = sub
        first, end = _word_range(layer, column_block)
        name = (first, end, sub)
        base = ring.find(name)
        there = base is not None
        if not there:
            base = ring.place(name, (end - first) * (y1 - y0) * (x1 - x0))
        self.peak = max(self.peak, start + ring.peak)
        return start + base, there, first, end - first

"""Where the weights of a layer lie: their words by the column blocks that take them, and these in
external memory."""

from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layer import Layer

__all__ = ["StoredWeights"]


class StoredWeights:
    """The weight words of a layer, column block by column block, counted from its first."""

    def __init__(self, layer: "Layer") -> None:
        self.layer = layer

    @cached_property
    def offsets(self) -> list[int]:
        """The first word of each column block, and the number of all."""
        layer = self.layer
        turns = len(layer.weight_shifts) - (layer.constant > 0)
        taps = 1 if layer.same_taps else layer.taps
        passes = [taps * (b - a) // layer.planes * turns * (1 + layer.pairs)
                  + layer.constant_passes for a, b in layer.spans]
        for made in layer.addend_passes:
            passes = [n + (layer.taps * (b - a) * bool(mine.any()) if layer.from_above
                           else int(mine[:, :, a:b].sum()))
                      for n, (a, b), mine in zip(passes, layer.spans, made, strict=True)]
        return [0, *(layer.pass_words * n for n in accumulate(passes))]

    @property
    def words(self) -> int:
        """Words of all column blocks."""
        return self.offsets[-1]

    @cached_property
    def most_words(self) -> int:
        """Words of the column block with the most."""
        return max(b - a for a, b in pairwise(self.offsets))

    def word_bytes(self, column_block: int) -> int:
        """Bytes of a word of a column block in external memory: those of columns without channel
        are not stored, but among signs, where they must not be -1; of channels that are written
        several times, those of one copy, where LOAD repeats them."""
        layer, arch = self.layer, self.layer.arch
        copy = (arch.vector >> layer.spread) * arch.lanes * arch.weight.width
        beats, rest = divmod(copy, arch.bus_bits)
        if layer.spread and not rest and not beats & (beats - 1):
            return beats * arch.beat_bytes
        if arch.weight.binary or (layer.signs and not layer.halves):
            return arch.weight_bytes
        used = min(arch.columns, layer.lanes_from(column_block * arch.columns))
        whole = -(-used * arch.lanes * arch.weight.width // 8)
        return -(-whole // arch.beat_bytes) * arch.beat_bytes

    def place(self, column_block: int, offset: int) -> int:
        """The byte, counted from the layer's first in external memory, of the word `offset` (as of
        `offsets`) of a column block."""
        first = self.offsets[column_block]
        return self._places[column_block] + (offset - first) * self.word_bytes(column_block)

    @property
    def bytes(self) -> int:
        """Bytes of all column blocks in external memory."""
        return self._places[-1]

    @cached_property
    def _places(self):
        return [0, *accumulate((b - a) * self.word_bytes(block)
                               for block, (a, b) in enumerate(pairwise(self.offsets)))]

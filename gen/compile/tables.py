"""Tables of functions: their words, and their places in the table memory."""

from typing import Any

from systolith.hw.spec.isa import Memory
from systolith.hw.spec.words import pack_table_words

from .layer import Layer
from .stream import Stream

__all__ = ["looked_up", "table_bytes"]


def table_bytes(layer: Layer) -> bytes:
    """The table words of a layer, as they lie in external memory; empty where it has no table."""
    table = layer.conv.table
    return b"" if table is None else pack_table_words(table, layer.arch)


def looked_up(stream: Stream, layer: Layer, offset: int) -> dict[str, Any]:
    """Fields of a POST that looks up its results in the table of a layer, for which LOADs are
    emitted where it is not in memory.

    `offset` is the byte offset of the table in its section. An integer result is shifted so that it
    addresses the place where the table was loaded; a float result addresses the word of its own
    ordered integer, so that tables of floats have a fixed place.
    """
    conv, arch, ring = layer.conv, layer.arch, stream.tables
    limits = conv.limits
    assert conv.table is not None and limits is not None
    words = len(conv.table)
    name, fixed = conv.table.tobytes(), arch.activation.floating
    base = ring.find(name)
    if base is None:
        # Tables of floats overwrite each other, because they have the same place.
        base = ring.place(name, arch.table_depth if fixed else words)
        below = min(words, max(0, -limits.low)) if fixed else 0
        for first, count, where in (
                (0, below, arch.table_depth + limits.low),
                (below, words - below, max(0, limits.low) if fixed else base)):
            stream.load(Memory.TABLE, "tables", offset + first * arch.table_bytes, where, count)
    if fixed:
        return {"table": 1}
    return {"table": 1, "zero_point": limits.zero_point + base - limits.low, "low": base,
            "high": base + words - 1}

"""Pools of weights: their words, and their LOADs."""

from systolith.hw.spec.isa import Memory
from systolith.hw.spec.narrow import pool_of
from systolith.hw.spec.words import pack_pool_words

from .layer import Layer
from .stream import Stream

__all__ = ["load_pool", "pool_bytes"]


def pool_bytes(layer: Layer) -> bytes:
    """The words of a layer's pool, as they lie in external memory; empty where it has none."""
    return b"" if layer.weight_pool is None else pack_pool_words(layer.weight_pool, layer.arch)


def load_pool(stream: Stream, layer: Layer, offset: int) -> None:
    """Append the LOAD of a layer's pool, `offset` bytes from the start of its section, where the
    layer has one that is not where the layer expects it. Layers with the same pool share it."""
    if layer.weight_pool is None:
        return
    base, content = pool_of(layer.narrow, layer.arch), tuple(layer.weight_pool.tolist())
    assert base is not None
    if stream.pools.get(base) != content:
        stream.pools[base] = content
        stream.load(Memory.POOL, "pools", offset, base, len(content))

"""Passes over a network whose nodes have all been read: from a `Graph` to another one; the first
one and its layers stay unchanged."""

from collections.abc import Mapping, Sequence

from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph

from .copies import remove_copies
from .sums import fuse_sums
from .tables import fuse_tables, to_host
from .tidy import flatten_inputs, name_layers, trimmed

__all__ = ["finished"]


def finished(graph: Graph, copies: Sequence[Conv], zeros: Mapping[str, int]) -> Graph:
    """The Graph as it is compiled: with as few layers as the results need. `copies` as of
    `remove_copies`, `zeros` as of `fuse_sums`."""
    graph = remove_copies(fuse_sums(graph, zeros), copies)
    graph = flatten_inputs(fuse_tables(to_host(graph)))
    return trimmed(name_layers(graph))

"""What is done to a network once all of its nodes are read: passes from a `Graph` to another one,
which leave the first one and its layers as they are."""

from .copies import remove_copies
from .sums import fuse_sums
from .tables import fuse_tables, to_host
from .tidy import flatten_inputs, name_layers, trimmed

__all__ = ["finished"]


def finished(graph, copies, zeros):
    """The Graph as it is compiled: with as few layers as its results can be computed with.

    `copies` as of `remove_copies`, `zeros` as of `fuse_sums`.
    """
    graph = remove_copies(fuse_sums(graph, zeros), copies)
    graph = flatten_inputs(fuse_tables(to_host(graph)))
    return trimmed(name_layers(graph))

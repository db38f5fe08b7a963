"""How much of a network the host computes."""

from dataclasses import dataclass

from systolith.hw.spec.records import Record

__all__ = ["HostWork"]


@dataclass(frozen=True)
class HostWork(Record):
    """What the host computes, in figures.

    Attributes
    ----------
    nodes : int
    operators : dict of str to int
        How many of each there are.
    reads, gives : tuple of str
        Tensors.
    macs : int
        Multiply-accumulates per image, a `share` of all the network's.
    why : str
        The first reason why the chip does not, or "".
    """
    nodes: int
    operators: dict[str, int]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    macs: int
    share: float
    why: str

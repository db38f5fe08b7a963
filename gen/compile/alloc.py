"""Memory allocation: feature maps in activation memory, weights and parameters in ring buffers,
sections in external memory.

Feature maps must not be overwritten before their last reader, so that maps that are alive during
the same layer get separate places. All other placement affects speed alone: tokens make each write
wait for the instructions that still read the words it overwrites.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from systolith.hw.spec.host import Section

__all__ = ["ALIGNMENT", "Placement", "Ring", "Sections", "place"]

#: Sections and the tensors in them start at multiples of this many bytes.
ALIGNMENT = 64


class Ring:
    """A memory used as a ring buffer: each new item takes the words after the previous one and
    overwrites what is oldest.

    Parameters
    ----------
    depth : int
        Words of the memory.

    Attributes
    ----------
    peak : int
        The most words that were in use, counted from word 0.
    """

    def __init__(self, depth: int):
        self.depth = depth
        self.peak = 0
        self._next = 0
        self._kept: dict[Hashable, tuple[int, int]] = {}        # name -> (base, words)

    def find(self, name: Hashable) -> int | None:
        """The first word of the item that was placed under this name; None where a part of it has
        been overwritten since."""
        return self._kept[name][0] if name in self._kept else None

    def place(self, name: Hashable, words: int) -> int:
        """Place an item of `words` consecutive words; returns its first word. Items that it
        overwrites are no longer found. Raises ValueError for more words than the memory has."""
        if words > self.depth:
            raise ValueError(f"{words} words do not fit a memory of {self.depth}")
        base = self._next if self._next + words <= self.depth else 0
        self._kept = {key: (start, size) for key, (start, size) in self._kept.items()
                      if start + size <= base or base + words <= start}
        self._kept[name] = (base, words)
        self._next = base + words
        self.peak = max(self.peak, self._next)
        return base


@dataclass
class Placement:
    """Places in a memory for feature maps.

    Attributes
    ----------
    maps : dict of str to int
        First word of every tensor that lies in the memory as a whole.
    lives : dict of str to (first, last)
        The indices of the first and last layer during which each of them must stay.
    gaps : dict of int to (base, words)
        For the index of each layer whose input is in external memory, the largest range that no
        tensor uses during this layer; its input buffers go there.
    """
    maps: dict = field(default_factory=dict)
    lives: dict = field(default_factory=dict)
    gaps: dict = field(default_factory=dict)


def _fit(sizes, lives, depth):
    """{tensor: first word} such that tensors alive during the same layer do not overlap; None where
    none is found. First fit, in the order of sizes, then in the order of first layers: the two
    orders fail on different inputs."""
    orders = (lambda name: (-sizes[name], lives[name], name), lambda name: (lives[name], name))
    for order in orders:
        placed: dict[str, int] = {}
        for name in sorted(sizes, key=order):
            base = 0
            for other in sorted(placed, key=placed.__getitem__):
                apart = lives[other][1] < lives[name][0] or lives[name][1] < lives[other][0]
                if not apart and placed[other] < base + sizes[name]:
                    base = max(base, placed[other] + sizes[other])
            if base + sizes[name] > depth:
                break
            placed[name] = base
        else:
            return placed
    return None


def _largest_gap(layer, maps, sizes, lives, depth):
    """(first word, words) of the longest range that no map alive during `layer` uses."""
    best, start = (0, 0), 0
    taken = sorted((maps[name], maps[name] + sizes[name]) for name in maps
                   if lives[name][0] <= layer <= lives[name][1])
    for low, high in [*taken, (depth, depth)]:
        if low - start > best[1]:
            best = (start, low - start)
        start = max(start, high)
    return best


def place(sizes: Mapping[str, int], lives: Mapping[str, tuple[int, int]],
          needs: Callable[[int, dict[str, int]], int], layers: int, depth: int) -> Placement:
    """Decide which feature maps lie in a memory on the chip, and where.

    As long as maps and input buffers do not fit during some layer, the largest tensor alive during
    this layer is left in external memory.

    Parameters
    ----------
    sizes : dict of str to int
        Words of every tensor that may lie in the memory.
    lives : dict of str to (first, last)
        Indices of the first and last layer during which the tensor would have to stay there.
    needs : function (layer, maps) -> int
        Words of input buffers that a layer needs when the tensors `maps` are in the memory; 0 where
        its input is one of them.
    layers : int
        Number of layers.
    depth : int
        Words of the memory.

    Returns the `Placement`.
    """
    sizes = {name: size for name, size in sizes.items() if size <= depth}
    while True:
        maps = _fit(sizes, lives, depth)
        gaps = {}
        if maps is None:
            crowded = max(range(layers), key=lambda layer: sum(
                size for name, size in sizes.items()
                if lives[name][0] <= layer <= lives[name][1]))
        else:
            crowded = None
            for layer in range(layers):
                need = min(needs(layer, maps), depth)
                gap = _largest_gap(layer, maps, sizes, lives, depth) if need else (0, 0)
                if gap[1] < need:
                    crowded = layer
                    break
                if need:
                    gaps[layer] = gap
        if crowded is None:
            return Placement(maps, {name: lives[name] for name in maps}, gaps)
        alive = [name for name in sizes if lives[name][0] <= crowded <= lives[name][1]]
        leaving = max(alive, key=lambda name: (sizes[name], name))
        sizes = {name: size for name, size in sizes.items() if name != leaving}


class Sections:
    """The layout of external memory: named sections, one after the other, each made of items.

    `add` gives an item its offset in its section; `close` gives the sections their addresses.

    Attributes
    ----------
    sizes : dict of str to int
        Bytes of each section, so far.
    starts : dict of str to int
        Byte address of each section; empty before `close`.
    """

    def __init__(self, *names: str):
        self.sizes = dict.fromkeys(names, 0)
        self.starts: dict[str, int] = {}

    def add(self, section: str, size: int) -> int:
        """Append an item of `size` bytes to a section; returns its byte offset there, a multiple of
        ALIGNMENT."""
        offset = self.sizes[section]
        self.sizes[section] = -(-(offset + size) // ALIGNMENT) * ALIGNMENT
        return offset

    def close(self) -> int:
        """Give every section its address. Returns the bytes of all sections together."""
        address = 0
        for name, size in self.sizes.items():
            self.starts[name] = address
            address += size
        return address

    def table(self) -> tuple[Section, ...]:
        """The `Section`s of the window in ascending order, without empty ones."""
        return tuple(Section(name, self.starts[name], size)
                     for name, size in self.sizes.items() if size)

"""Memory allocation: feature maps in activation memory, weights and parameters in their rings,
sections in external memory.

Nothing here looks at time: a write waits for the readers of the words that it overwrites (tokens),
so placement affects speed only, never correctness - but for feature maps, which must not
be overwritten while they are still to be read.
"""

from dataclasses import dataclass, field

from systolith.hw.spec.host import Section

__all__ = ["ALIGNMENT", "Placement", "Ring", "Sections", "place"]

#: Sections and the tensors in them start at multiples of this many bytes.
ALIGNMENT = 64


class Ring:
    """A memory whose words are given out in turn, the oldest first to be overwritten.

    Parameters
    ----------
    depth : int
        Words.
    """

    def __init__(self, depth):
        self.depth = depth
        self.peak = 0
        self._next = 0
        self._kept = {}                         # name -> (base, words)

    def find(self, name):
        """The base of what was placed under this name, None where that was overwritten."""
        return self._kept[name][0] if name in self._kept else None

    def place(self, name, words):
        """The base of `words` neighbouring words, at most `depth`; what lay there is forgotten."""
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
    """Places in activation memory.

    Attributes
    ----------
    maps : dict of str to int
        First word of every tensor that lies on the chip as a whole.
    lives : dict of str to (first, last)
        The layers during which each of them must stay, both included.
    gaps : dict of int to (base, words)
        The largest free range during each layer whose input is outside: its input buffers.
    """
    maps: dict = field(default_factory=dict)
    lives: dict = field(default_factory=dict)
    gaps: dict = field(default_factory=dict)


def _fit(sizes, lives, depth):
    """First word of every item so that items alive together do not overlap; None where the
    attempt fails. Large ones first, then by start: two orders that fail on different inputs."""
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
    """(base, words) of the longest range that no map alive during `layer` touches."""
    best, start = (0, 0), 0
    taken = sorted((maps[name], maps[name] + sizes[name]) for name in maps
                   if lives[name][0] <= layer <= lives[name][1])
    for low, high in [*taken, (depth, depth)]:
        if low - start > best[1]:
            best = (start, low - start)
        start = max(start, high)
    return best


def place(sizes, lives, needs, layers, depth):
    """Decide which feature maps lie on the chip, and where.

    Parameters
    ----------
    sizes : dict of str to int
        Words of every tensor that could.
    lives : dict of str to (first, last)
        Layers during which it would have to, both included.
    needs : function (layer, maps) -> int
        Words of input buffers that a layer wants when the tensors `maps` are on the chip; 0 where
        its input is one of them.
    layers : int
        How many layers there are.
    depth : int
        Words of the memory.

    Returns a Placement. As long as something does not fit, the largest tensor that is in the way
    is left outside.
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
    """External memory: named sections one after the other, each of named items.

    Items get offsets in their section as they come; sections get addresses in `close`.
    """

    def __init__(self, *names):
        self.sizes = dict.fromkeys(names, 0)
        self.starts = {}

    def add(self, section, size):
        """The offset in `section` of an item of `size` bytes."""
        offset = self.sizes[section]
        self.sizes[section] = -(-(offset + size) // ALIGNMENT) * ALIGNMENT
        return offset

    def close(self):
        """Fix the addresses. Returns the size of the window."""
        address = 0
        for name, size in self.sizes.items():
            self.starts[name] = address
            address += size
        return address

    def table(self) -> tuple[Section, ...]:
        """The `Section`s of the window in ascending order, without empty ones."""
        return tuple(Section(name, self.starts[name], size)
                     for name, size in self.sizes.items() if size)

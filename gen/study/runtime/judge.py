"""Whether the golden model and ONNX Runtime give the same codes, and whether what differs is a tie.

The exact number that the last quantizer reads is known as a fraction (`real.py`), and so is the
code nearest to it, of two that are as near the one that ties go to. Where scales are powers of two,
both must give that code, to the bit. With other scales either may give a neighbour of it in two
cases: ONNX Runtime where the number is half-way between both, exactly; both where it is nearer to
half-way than ONNX Runtime's float32 roundings are exact, by the bound that `real.py` derives from
the operators. The golden model gives exact ties the right side, unless ONNX Runtime gives the same:
a quantizer of codes follows its float32 (docs/reference/numerics.md). Anything else is `wrong`.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.sim.model.graph import Graph

from .cases import drawn
from .network import Judged, Network
from .rationals import Exact, common
from .real import run

__all__ = ["Verdict", "compared", "judge"]

#: Of two maps. Where more pairs of codes come next to half-way than exactly there, the chip rounds
#: up what is exactly half-way.
_SUMS = ("Add", "Sub", "Sum")


@dataclass
class Verdict:
    """Counts of codes.

    Attributes
    ----------
    networks, codes : int
    ties : int
        Codes that differ where the exact number is half-way between two.
    near : int
        Codes that differ where it is nearer to half-way than float32 is exact.
    golden : int
        Codes for which the golden model does not give the nearest, the number being that near.
    refused : int
        Networks that the importer refuses.
    exact_ties : int
        Codes whose exact number is half-way between two, whether they differ or not.
    farthest : float
        The largest share of the bound that a code that is not the nearest has used.
    wrong : list of str
        What else is not the nearest.
    """
    networks: int = 0
    codes: int = 0
    ties: int = 0
    near: int = 0
    golden: int = 0
    refused: int = 0
    exact_ties: int = 0
    farthest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Verdict") -> None:
        """Count what another one has counted."""
        for name in ("networks", "codes", "ties", "near", "golden", "refused", "exact_ties"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.farthest = max(self.farthest, other.farthest)
        self.wrong += other.wrong

    @property
    def differ(self) -> int:
        """Codes that differ, each for one of the two reasons."""
        return self.ties + self.near

    @property
    def plain(self) -> tuple:
        """All of it, for comparisons."""
        return astuple(self)


def compared(operator: str, seed: int, scales: str, kind: Any = np.int8,
             changed: Callable[[Graph], Graph] = lambda graph: graph,
             images: int = 2) -> Verdict:
    """The verdict on the network of an operator that a seed stands for; `changed` plants faults in
    the golden model."""
    net = drawn(operator, seed, scales, kind, images)
    try:
        graph = changed(load(net.model(False)))
    except UserError as error:
        return Verdict(refused=1, wrong=[f"{operator} {seed}: refused: {error}"]
                       if scales == "two" else [])
    feeds = net.feeds
    inputs = graph.encode_inputs(feeds if len(feeds) > 1 else next(iter(feeds.values())))
    golden = np.asarray(graph.decode_outputs(graph.run(inputs)))
    runtime, = run(net.model(True), feeds)
    found = judge(net, golden, runtime, operator.removeprefix("QLinear") in _SUMS)
    found.wrong = [f"{operator} {seed} ({scales}): {text}" for text in found.wrong]
    return found


def judge(net: Network, golden: np.ndarray, runtime: np.ndarray, sums: bool = False) -> Verdict:
    """The verdict on results of a network; `sums`: it adds two maps."""
    judged = net.judged
    assert judged is not None
    found = Verdict(networks=1, codes=golden.size)
    if not golden.shape == runtime.shape == judged.real.error.shape:
        found.wrong.append(f"shapes {golden.shape}, {runtime.shape}, {judged.real.error.shape}")
        return found
    mine, theirs = (_levels(judged, item) for item in (golden, runtime))
    other = mine != theirs
    if net.exact and other.any():
        found.wrong.append(f"{int(other.sum())} codes differ, and float32 is exact")
    numbers, edges, unit = _common(judged)
    below, above = (np.searchsorted(edges, numbers.reshape(-1), side).reshape(numbers.shape)
                    for side in ("left", "right"))
    tie = below < above
    even = np.array(judged.even or [False] * len(judged.levels))
    right = np.where(tie & even[below], below, above)
    ends = [None, *edges, None]
    allowed = np.zeros(tie.shape) if net.exact and not judged.rough else judged.real.error
    for name, got in (("the golden model", mine), ("ONNX Runtime", theirs)):
        off = got != right
        # How far the number is from those that are rounded to the code.
        edge = np.array([_outside(number, ends[level], ends[level + 1], unit)
                         for number, level in zip(numbers[off], got[off], strict=True)])
        bad = edge > allowed[off]
        if got is mine:
            bad |= (tie & other)[off] & (not sums)
            found.golden = int(off.sum())
        if bad.any():
            n = int(np.argmax(bad))
            place = tuple(int(item[n]) for item in np.nonzero(off))
            found.wrong.append(
                f"{name} gives {judged.levels[got[place]]} at {list(place)}, right is "
                f"{judged.levels[right[place]]}, {edge[n]:.3g} from half-way, allowed "
                f"{allowed[place]:.3g}; {int(bad.sum())} such of {off.size} codes")
        elif off.any():
            inside = edge[edge > 0] / allowed[off][edge > 0]
            found.farthest = max(found.farthest, float(inside.max(initial=0)))
    found.exact_ties = int(tie.sum())
    found.ties, found.near = int((other & tie).sum()), int((other & ~tie).sum())
    return found


def _outside(number, low, high, unit):
    """How far a number is from the interval of a level; None: without end."""
    under = 0 if low is None else low - number
    over = 0 if high is None else number - high
    return float(max(under, over, 0) * unit)


def _levels(judged: Judged, numbers: np.ndarray) -> np.ndarray:
    """Which of a quantizer's levels numbers are that it gave."""
    levels = np.array(judged.levels, np.float64)
    found = numbers.astype(np.float64) / float(judged.unit)
    places = np.clip(np.searchsorted(levels, found), 1, len(levels) - 1)
    places = places - (found - levels[places - 1] < levels[places] - found)
    if not np.allclose(levels[places], found, rtol=1e-5, atol=1e-5):
        raise ValueError("a number that the quantizer does not have")
    return places


def _common(judged: Judged) -> tuple[np.ndarray, np.ndarray, Any]:
    """(what is quantized, edges between levels, their unit): integers."""
    levels = np.array(judged.levels, object)
    edges = judged.edges or Exact(levels[:-1] + levels[1:]) * Exact.of(np.float64(judged.unit)) * (
        Exact(1, 1) * Exact.of(np.float64(0.5)))
    unit = common([judged.real.exact, edges])
    return judged.real.exact.in_unit(unit), edges.in_unit(unit), unit

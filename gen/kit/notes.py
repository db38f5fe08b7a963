"""How far results can be from those of the network: what the chip rounds in the middle, besides
ties.

Most layers are exact but at ties. Where one is not, the importer takes a note: the node, of which
kind the rounding is, and how far it moves a number before its last rounding, in steps of the
quantizer after it. A number that is moved by d of a step gets another code only where it lies
within d of a tie, so that about 2 * d of the codes are a step off.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

__all__ = ["LEAST", "Note", "lines"]

#: Numbers that are moved by less than this many steps are not reported: fewer than one code of 500
#: changes, about as many as the ties of some networks.
LEAST = 1 / 1000
#: How many nodes a line names.
_NAMES = 3
#: What is rounded, by the kind of a note; and what makes it exact.
_KINDS = {
    "digits": ("sums of what no quantizer rounds are put together of digits",
               "quantize their addends"),
    "combined": ("of what no quantizer rounds before a sum or product 20 bits are kept",
                 "quantize it"),
    "function": ("functions of what no quantizer rounds are looked up in tables of such steps",
                 "put a quantizer before them"),
    "rows": ("rows of a linear Resize are rounded before its columns", "resize by less at a time"),
    "weights": ("weights of a linear Resize are rounded to codes of {detail}",
                "resize by a factor whose weights are short, such as 2"),
    "constant": ("constants that differ by position are put together of several codes",
                 "quantize them"),
    "thresholds": ("thresholds at unequal distances are rounded to equal ones",
                   "put a quantizer to nearest there"),
    "bias": ("the chip has few fraction bits for biases", "raise post.bias_fraction"),
    "multiplier": ("the chip's multipliers have {detail} bits", "set post.multiplier_bits=26"),
    "short": ("the model rounds numbers between its quantizers to {detail}, and the chip computes "
              "them exactly: a few percent of the codes are one step from those of a program that "
              "rounds (systolith simulate --compare counts them)", ""),
}


@dataclass(frozen=True)
class Note:
    """One note: what makes results of a node differ from the network's own.

    Attributes
    ----------
    kind : str
        One of `_KINDS`.
    node : str
        The ONNX node; of a bias the layer; "": of all the network.
    off : float or None
        How far a number can be moved before it is rounded, in `unit`; None: that is not known.
    unit : str
        "step" of the quantizer that rounds it; "share" of the sums that come out a step off;
        "range": the difference of the largest and the smallest number that is resized;
        "real": the numbers of an output that no quantizer rounds.
    detail : str
    """
    kind: str
    node: str
    off: float | None = None
    unit: str = "step"
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data: the fields, and what is rounded in a sentence."""
        return asdict(self) | {"what": _KINDS[self.kind][0].format(detail=self.detail)}


def _amount(unit, off):
    if off is None:
        return ""
    if unit == "share":
        return f"up to {off:.2g} of the sums come out a step off"
    if unit == "range":
        return f"results move by up to {off:.2g} of the range of what is resized"
    if unit == "real":
        return f"results are off by up to {off:.2g}"
    if off < 0.5:
        return (f"numbers that are within {off:.2g} of a step of a tie may get the neighbouring "
                "code")
    return f"codes are up to {ceil(off)} step{'s' * (ceil(off) > 1)} off"


def lines(notes: Iterable[Note]) -> list[str]:
    """A line for each kind of note, with the largest amount and the first nodes."""
    kinds: dict = {}
    found = []
    for note in notes:
        kinds.setdefault((note.kind, note.unit, note.detail), []).append(note)
    for (kind, unit, detail), same in kinds.items():
        what, instead = _KINDS[kind]
        known = [note.off for note in same if note.off is not None]
        parts = [what.format(detail=detail), _amount(unit, max(known, default=None))]
        parts = [": ".join(part for part in parts if part)]
        names = [repr(note.node) for note in same if note.node]
        if names:
            more = len(names) - _NAMES
            parts.append(", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else ""))
        if instead:
            parts.append(f"{instead} where codes must be exact")
        found.append("; ".join(parts))
    return found

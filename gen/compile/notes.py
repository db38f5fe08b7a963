"""Notes of a compiled network: which biases a chip holds with an error that matters."""

from collections import defaultdict

from systolith.gen.kit.notes import LEAST, Note
from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Graph

from .bias import bias_error

__all__ = ["bias_notes"]


def bias_notes(graph: Graph, arch: Arch) -> list[Note]:
    """The `Note` of each layer whose bias the chip holds with an error of LEAST steps of its output
    or more. The layers of a sum that is computed digit by digit have one note together, in steps of
    the sum."""
    found = []
    sums: dict[str, dict] = defaultdict(dict)
    for conv in graph.layers:
        error, digit = bias_error(conv, arch), graph.digits.get(conv.output)
        if digit is not None:
            # A digit's results are clipped to several ranges; at any sum one of them changes.
            mine = sums[digit.sum]
            mine[digit.addend] = max(error * digit.share, mine.get(digit.addend, 0.0))
        elif error >= LEAST:
            found.append(Note("bias", conv.name, error))
    return found + [Note("bias", name, off) for name, errors in sums.items()
                    if (off := sum(errors.values())) >= LEAST]

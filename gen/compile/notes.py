"""Notes of a compiled network: which biases a chip holds with an error that matters."""

from collections import defaultdict

from systolith.gen.kit.notes import LEAST, Note

from .bias import bias_error

__all__ = ["bias_notes"]


def bias_notes(graph, arch):
    """[Note] of biases that a chip holds with an error; those of the digits of a sum as one, in the
    steps of the sum."""
    found = []
    sums: dict[str, dict] = defaultdict(dict)
    for conv in graph.layers:
        error, digit = bias_error(conv, arch), graph.digits.get(conv.output)
        if digit is not None:
            # Of several ranges of a digit one moves, the others are at their limits.
            mine = sums[digit.sum]
            mine[digit.addend] = max(error * digit.share, mine.get(digit.addend, 0.0))
        elif error >= LEAST:
            found.append(Note("bias", conv.name, error))
    return found + [Note("bias", name, off) for name, errors in sums.items()
                    if (off := sum(errors.values())) >= LEAST]

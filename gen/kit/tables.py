"""Tables as text."""

from collections.abc import Iterable

__all__ = ["text_table"]


def text_table(rows: Iterable[Iterable[object]], align: str = "") -> str:
    """Rows of texts, the first one the heading, as a Markdown table with even columns.

    `align` has a letter for each column, "r" for right; the default is left.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    align = align.ljust(len(texts[0]), "l")
    widths = [max(3, *(len(row[n]) for row in texts)) for n in range(len(texts[0]))]
    lines = ["| " + " | ".join(cell.rjust(width) if side == "r" else cell.ljust(width)
                               for cell, width, side in zip(row, widths, align, strict=True)) + " |"
             for row in texts]
    rule = "|" + "|".join("-" * (width + 1) + (":" if side == "r" else "-")
                          for width, side in zip(widths, align, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])

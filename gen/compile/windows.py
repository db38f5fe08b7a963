"""The loops of POST over the accumulators: which words each result of a sub-tile pools."""

from collections.abc import Mapping
from typing import Any

from systolith.hw.spec.isa import Pooling

from .layer import Layer

__all__ = ["row_words", "window_fields"]


def window_fields(layer: Layer, sub: tuple[tuple[int, int], tuple[int, int]],
                  sums: int) -> list[tuple[tuple, dict[str, Any]]]:
    """[(rectangle of results, fields of the POST that pools their windows)] for a sub-tile
    ((y0, y1), (x0, x1)) of results, whose sums begin at accumulator word `sums`.

    Windows that the edge of the map cuts off have instructions of their own. Where the last column
    of each window is the first one of the next, POST carries it over instead of reading it twice
    (`Pooling.CARRIED`, `Pooling.LEAD`).
    """
    (y0, y1), (x0, x1) = sub
    pooled = Pooling.SUM if layer.conv.pool.sum and layer.pool > 1 else Pooling.LARGEST
    if layer.in_order:
        return [(sub, dict(accumulator=sums, out_y=y1 - y0, out_x=x1 - x0, pool_x=layer.pool,
                           pooling=pooled))]
    top, _ = layer.y.under(sub[0])
    left, right = layer.x.under(sub[1])
    spare = layer.beside - 1                    # sums at the start of each row that are of no use
    width = right - left + spare
    parts = []
    for a, b, first_y, rows in layer.y.windows(sub[0]):
        for c, d, first_x, columns, pooling in _across(layer.x, sub[1], pooled):
            step = layer.x.step
            lead = pooling == Pooling.LEAD
            last = (d - c - 1) * step + columns - 1 + lead
            parts.append((((a, b), (c, d)), dict(
                accumulator=sums + (first_y - top) * width + first_x - left + spare, out_y=b - a,
                out_x=d - c, pool_x=columns, pool_y=rows, row=width * (rows > 1),
                jump=(step - columns) * (d - c > 1),
                turn=(layer.y.step * width - last - 1) * (b - a > 1), pooling=pooling)))
    return parts


def _across(axis, out, pooled):
    """[(first result, end, first pixel, columns that are read for each result, pooling)] of runs
    of results [out) across a sub-tile."""
    runs = axis.windows(out)
    if pooled == Pooling.SUM or axis.pool != axis.step + 1:
        return [(*run, pooled) for run in runs]
    parts = []
    for first, end, pixel, columns in runs:
        if columns < axis.pool or end - first == 1:
            parts.append((first, end, pixel, columns, pooled))
        elif parts and parts[-1][1] - parts[-1][0] == 1 and (
                parts[-1][3:] == (axis.step, Pooling.LARGEST)):
            # The edge cuts off the first column of the window before: it reads as many columns as
            # all others, which carry one over.
            before = parts.pop()
            parts.append((before[0], end, before[2], axis.step, Pooling.CARRIED))
        else:
            parts.append((first, end, pixel, axis.step, Pooling.LEAD))
    return parts


def row_words(fields: Mapping[str, Any]) -> int:
    """Accumulator words from the first word that one row of results reads to that of the next
    row, by the fields of a POST."""
    lead = fields["pooling"] == Pooling.LEAD
    return (fields["out_x"] * (fields["pool_x"] + fields.get("jump", 0)) + lead
            - fields.get("jump", 0) + fields.get("turn", 0))

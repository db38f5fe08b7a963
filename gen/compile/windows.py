"""POST's loops over the accumulators: which words each result of a sub-tile pools."""

from systolith.hw.spec.isa import Pooling

__all__ = ["row_words", "window_fields"]


def window_fields(layer, sub, sums):
    """[(rectangle of results, POST's fields for their windows)] for a sub-tile, whose pixels lie
    from accumulator word `sums` on.

    Windows that the map's edge cuts off are instructions of their own. Where the last column of
    each window is the first of the next one, it is read once.
    """
    (y0, y1), (x0, x1) = sub
    pooled = Pooling.SUM if layer.conv.pool_sum and layer.pool > 1 else Pooling.LARGEST
    if layer.in_order:
        return [(sub, dict(accumulator=sums, out_y=y1 - y0, out_x=x1 - x0, pool_x=layer.pool,
                           pooling=pooled))]
    top, _ = layer.y.under(sub[0])
    left, right = layer.x.under(sub[1])
    width = right - left
    parts = []
    for a, b, first_y, rows in layer.y.windows(sub[0]):
        for c, d, first_x, columns, pooling in _across(layer.x, sub[1], pooled):
            step = layer.x.step
            lead = pooling == Pooling.LEAD
            last = (d - c - 1) * step + columns - 1 + lead
            parts.append((((a, b), (c, d)), dict(
                accumulator=sums + (first_y - top) * width + first_x - left, out_y=b - a,
                out_x=d - c, pool_x=columns, pool_y=rows, row=width * (rows > 1),
                jump=(step - columns) * (d - c > 1),
                turn=(layer.y.step * width - last - 1) * (b - a > 1), pooling=pooling)))
    return parts


def _across(axis, out, pooled):
    """[(first result, end, first pixel, columns to read for each, pooling)]."""
    runs = axis.windows(out)
    if pooled == Pooling.SUM or axis.pool != axis.step + 1:
        return [(*run, pooled) for run in runs]
    parts = []
    for first, end, pixel, columns in runs:
        if columns < axis.pool or end - first == 1:
            parts.append((first, end, pixel, columns, pooled))
        elif parts and parts[-1][1] - parts[-1][0] == 1 and (
                parts[-1][3:] == (axis.step, Pooling.LARGEST)):
            # After a window that lacks its first column, all others read as many columns as it
            # does.
            before = parts.pop()
            parts.append((before[0], end, before[2], axis.step, Pooling.CARRIED))
        else:
            parts.append((first, end, pixel, axis.step, Pooling.LEAD))
    return parts


def row_words(fields):
    """Accumulator words from the first one of a row of results to that of the next."""
    lead = fields["pooling"] == Pooling.LEAD
    return (fields["out_x"] * (fields["pool_x"] + fields.get("jump", 0)) + lead
            - fields.get("jump", 0) + fields.get("turn", 0))

"""In which order the passes of a column block are made, and where the weights of each stand."""

from collections.abc import Sequence

from systolith.hw.spec.host import Box

from .boxes import boxes
from .layer import Layer

__all__ = ["pass_order", "stored_passes"]


def pass_order(layer: Layer, parts: Sequence[Box], column_block: int) -> list[tuple[int, int, Box]]:
    """[(number of the part, turn, box)]: `Layer.turns` of the boxes `parts` in the order in which
    the array makes them, pairs of planes with the largest weight first; where all taps have the
    same weights, a box for each."""
    found = [(part, turn, item) for part, box in enumerate(parts)
             for turn, item in layer.turns(box, column_block)]
    if layer.constant:                          # as many instructions as have their words
        found = [(part, turn, piece) for part, turn, box in found for piece in (
            [box] if turn < layer.constant else layer.together(box) if layer.part
            else boxes(box, layer.constant_passes))]
    if layer.same_taps:
        found = [(part, turn, Box(box.y + y, 1, box.x + x, 1, box.block, box.blocks))
                 for part, turn, box in found for y in range(box.rows) for x in range(box.columns)]
    return sorted(found, key=lambda one: -layer.weight(*one[1:])) if (
        layer.in_planes or layer.planes > 1) else found


def stored_passes(layer: Layer, parts: Sequence[Box], column_block: int) -> list[int]:
    """The first pass of the weights of each box of `pass_order`, counted from the first stored one
    of the column block. Planes of the input share weights, taps with the same weights do, and so
    do all boxes of weights -1, which come last."""
    each, places, end, found = layer.blocks // layer.planes, dict[tuple, int](), 0, []
    last = layer.stored.offsets[column_block + 1] - layer.stored.offsets[column_block]
    for part, turn, box in pass_order(layer, parts, column_block):
        if layer.constant and turn == layer.constant:
            found.append(last // layer.pass_words - layer.constant_passes)
            continue
        key = ((turn, box._replace(block=box.block % each)) if layer.planes > 1
               else (turn, box._replace(y=0, x=0)) if layer.same_taps else (part, turn, box))
        if key not in places:
            places[key], end = end, end + box.passes
        found.append(places[key])
    return found

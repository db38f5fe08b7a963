"""The windows of ONNX operators that read maps: their attributes, and the maps they read."""

from collections.abc import Sequence

from systolith.gen.importer.nodes import Node
from systolith.gen.importer.values import Value, shape_text

__all__ = ["as_map", "spatial", "window"]

_SAME = ("SAME_UPPER", "SAME_LOWER")


def _auto_pads(size, kernel, stride, dilation, mode):
    """(pads before, pads after) of an axis with attribute auto_pad SAME_UPPER or SAME_LOWER
    (`mode`)."""
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def spatial(node: Node, name: str, values: Sequence[int] | None, rank: int,
            default: int) -> list[int]:
    """The `values` of the attribute `name`, one for each of `rank` axes; None: all `default`.
    Raises UserError at `node` for another number of values."""
    values = [default] * rank if values is None else [int(item) for item in values]
    if len(values) != rank:
        node.fail(f"attribute {name} must have {rank} values, not {values}")
    return values


def window(node: Node, rank: int, size: Sequence[int], kernel: Sequence[int],
           strides: Sequence[int] | None = None, dilations: Sequence[int] | None = None,
           pads: Sequence[int] | None = None,
           auto_pad: str = "NOTSET") -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """(stride, dilation, pads) of a window operator with these ONNX attributes, for each of `rank`
    axes; pads are (before, after). `size` and `kernel` are those of the axes. Raises UserError at
    `node`."""
    stride, dilation = (spatial(node, key, values, rank, 1) for key, values in
                        (("strides", strides), ("dilations", dilations)))
    for key, values in (("strides", stride), ("dilations", dilation)):
        if min(values) < 1:
            node.fail(f"attribute {key} must be at least 1, not {values}")
    mode = node.expect("auto_pad", auto_pad, ("NOTSET", "VALID", *_SAME))
    if mode != "NOTSET" and any(pads or []):
        node.fail(f"attribute pads must be left out where auto_pad is {mode!r}")
    if mode in _SAME:
        # ONNX Runtime's operators place such windows differently, or fail.
        least = min((-(-n // s) - 1) * s + d * (k - 1) + 1 - n for n, k, s, d in
                    zip(size, kernel, stride, dilation, strict=True))
        if least < (-2 if node.operator == "Conv" else 0):
            node.fail(f"attribute auto_pad must be 'NOTSET' or 'VALID' where windows {kernel} of "
                      f"strides {stride} leave pixels of {size} over; give pads")
        return stride, dilation, [_auto_pads(*item, mode) for item in
                                  zip(size, kernel, stride, dilation, strict=True)]
    numbers = [int(item) for item in pads or [0] * (2 * rank)]
    if len(numbers) != 2 * rank:
        node.fail(f"attribute pads must have {2 * rank} values, not {numbers}")
    return stride, dilation, list(zip(numbers[:rank], numbers[rank:], strict=True))


def as_map(value: Value, node: Node) -> None:
    """Raise UserError at `node` where a value's shape is not that of its map: [C, H, W], or [C, W]
    with a height of 1."""
    if len(value.shape) not in (2, 3):
        node.fail("supports 1-D and 2-D maps, [N, C, W] and [N, C, H, W], not an input of shape "
                  f"{shape_text(value.shape)}; reshape the input to one of these")
    wanted = value.shape if len(value.shape) == 3 else (value.shape[0], 1, value.shape[1])
    if tuple(wanted) != tuple(value.map):
        node.fail(f"reads {shape_text(value.shape)}, which a reshape made of a map of "
                  f"{value.map[0]} x {value.map[1]} x {value.map[2]}; reshape the input before "
                  "it is quantized instead")

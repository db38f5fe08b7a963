"""The host's conversions at a network's inputs and outputs: real numbers to codes, and codes to
real numbers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import numerics
from .tensor import Tensor

__all__ = ["Decoder", "Encoder", "after_step"]


def after_step(shape: tuple, operation: str, operand: Any) -> tuple:
    """The shape after a step of an `Encoder`, from the shape before it, both without the batch."""
    if operation == "reshape":
        return tuple(operand)
    if operation == "transpose":
        return tuple(shape[n - 1] for n in operand[1:])
    if operation == "pad":
        return tuple(size + sum(pair) for size, pair in zip(shape, operand[1], strict=True))
    return operand.shape if operation == "take" else shape


def _padded(values, mode, around, number):
    """Pads as ONNX's Pad does; negative ones cut."""
    around = [(0, 0), *around]
    more = {"constant_values": np.float32(number)} if mode == "constant" else {}
    values = np.pad(values, [[max(pad, 0) for pad in pair] for pair in around], mode=mode, **more)
    return values[tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in
                        zip(around, values.shape, strict=True))]


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 numbers rounded to "float16" or "bfloat16", as float32; those that are too large
    become infinite."""
    values = np.ascontiguousarray(values, np.float32)
    if kind == "bfloat16":
        # The upper half of the bits, to nearest, ties to even; a carry goes into the exponent.
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Encoder:
    """How the host turns one ONNX input into the codes of one tensor.

    Attributes
    ----------
    name : str
        The ONNX input.
    shape : tuple
        Its shape without the batch dimension.
    tensor : str
        The tensor that it fills.
    steps : list of (operation, operand)
        Done in float32 before quantizing: "add", "subtract", "multiply", "divide" with an array
        that broadcasts, "clip" with (low, high), "reshape" with a shape that leaves out the batch
        dimension, "transpose" with a permutation that leaves the batch dimension first, "pad"
        with (mode of ONNX's Pad, (before, after) for each dimension but the batch, value), "sign"
        with the number that stands for +1: what is 0 or more becomes it, the rest its negative,
        "round" with the name of a short float as of `rounded`, "take" with
        an array, in the new shape, of the numbers that elements of one image have, "constant"
        with an array that takes the place of every image.
    low, high : int or None
        Limits of the code, as an ordered integer.
    odd : bool
        Ties go to the odd integer, before the zero point is added.
    """
    name: str
    shape: tuple
    tensor: str
    steps: list = field(default_factory=list)
    low: int | None = None
    high: int | None = None
    odd: bool = False

    def encode(self, values: np.ndarray, tensor: Tensor) -> np.ndarray:
        """Codes [N, C, H, W] of `tensor` from float32 values [N, *shape]."""
        values = np.asarray(values)
        if values.dtype.kind not in "fiub":
            raise ValueError(f"input {self.name!r} must be numbers, not {values.dtype}")
        if values.shape[1:] != tuple(self.shape) or values.ndim == 0:
            expected = ", ".join(["N", *map(str, self.shape)])
            raise ValueError(f"input {self.name!r} must have the shape ({expected}), N images, "
                             f"not {values.shape}")
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            index = tuple(int(n) for n in np.argwhere(~np.isfinite(values))[0])
            raise ValueError(f"input {self.name!r} must be finite, not {values[index]} "
                             f"(at {index})")
        for operation, operand in self.steps:
            if operation == "reshape":
                values = values.reshape(len(values), *operand)
            elif operation == "transpose":
                values = values.transpose(operand)
            elif operation == "constant":
                values = np.broadcast_to(operand, (len(values), *operand.shape))
            elif operation == "pad":
                values = _padded(values, *operand)
            elif operation == "sign":
                values = np.where(values >= 0, np.float32(operand), -np.float32(operand))
            elif operation == "take":
                values = values.reshape(len(values), -1)[:, operand]
            elif operation == "clip":
                values = np.clip(values, np.float32(operand[0]), np.float32(operand[1]))
            elif operation == "round":
                values = rounded(values, operand)
            else:
                values = getattr(np, operation)(values, np.asarray(operand, dtype=np.float32))
        values = values / np.float32(tensor.scale)
        if tensor.zero_point or self.odd:
            values = numerics.round_reals(values, self.odd) + tensor.zero_point
        form = tensor.format
        assert form is not None, "an input holds codes"
        codes = form.encode(values)
        if not form.binary:
            order = form.ordered(codes)
            if self.low is not None:
                order = np.clip(order, self.low, self.high)
            codes = form.from_ordered(order)
        return codes.reshape(len(values), *tensor.shape)


@dataclass(frozen=True)
class Decoder:
    """How the host turns the codes of one tensor into one ONNX output.

    Attributes
    ----------
    name : str
        The ONNX output.
    shape : tuple
        Its shape without the batch dimension.
    tensor : str
        The tensor that it comes from.
    scale, offset : array [channels] or None
        real = scale * decode(code) + offset; None: what the tensor's codes stand for.
    slope : array [channels] or None
        What real numbers below zero are multiplied with.
    low, high : float or None
        Limits of the real numbers.
    function : (int, array) or None
        The real numbers of all codes in the order of their values, the first one's as an ordered
        integer; then scale, offset and limits are None.
    rounding : str
        The short float, as of `rounded`, that results are rounded to; "": float32.
    half : bool
        Whether the output is of type float16, not float32.
    order : int64 array [rows * elements of shape] or None
        The number of the tensor's element that stands at each place of the output; None: all of
        them as they stand.
    rows : int
        The output has so many times as many images as the tensor.
    """
    name: str
    shape: tuple
    tensor: str
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None
    slope: np.ndarray | None = None
    low: float | None = None
    high: float | None = None
    function: tuple | None = None
    rounding: str = ""
    half: bool = False
    order: np.ndarray | None = None
    rows: int = 1

    def decode(self, codes: np.ndarray, tensor: Tensor) -> np.ndarray:
        """float32 values (float16 where the output is) [N, *shape] from codes [N, C, H, W] of
        `tensor`."""
        codes = np.asarray(codes)
        if codes.ndim != 4 or codes.shape[1:] != tuple(tensor.shape):
            raise ValueError(f"codes of {tensor.name!r} must have the shape (N, "
                             f"{', '.join(map(str, tensor.shape))}), not {codes.shape}")
        values = self.reals(codes, tensor).reshape(len(codes), -1)
        values = values if self.order is None else values[:, self.order]
        values = values.reshape(len(codes) * self.rows, *self.shape).astype(np.float32)
        if self.rounding:
            values = rounded(values, self.rounding)
        return values.astype(np.float16) if self.half else values

    def reals(self, codes: np.ndarray, tensor: Tensor) -> np.ndarray:
        """float64 of codes [N, C, H, W]."""
        if self.function is not None:
            least, numbers = self.function
            assert tensor.format is not None, "functions are of codes"
            index = tensor.format.ordered(codes) - least
            if index.size and index.min() < 0:
                raise ValueError(f"codes of {tensor.name!r} are below the least that the output "
                                 f"{self.name!r} is a function of")
            return numbers[index]
        if self.scale is None or self.offset is None:
            values = tensor.real(codes)
        else:
            values = (tensor.decode(codes) * np.reshape(self.scale, (-1, 1, 1))
                      + np.reshape(self.offset, (-1, 1, 1)))
        if self.slope is not None:
            values = values * np.where(values < 0, np.reshape(self.slope, (-1, 1, 1)), 1)
        if self.low is not None or self.high is not None:
            values = np.clip(values, self.low, self.high)
        return values

"""QONNX's quantizers after a convolution; ONNX Runtime, which lacks them, computes what defines
them by its own operators.

Zero points are 0 or even where QONNX adds them before it rounds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from systolith.hw.formats import parse

from .network import Judged, Network
from .rationals import Exact
from .rationals import rounded as nearest
from .real import Real, rounded

__all__ = ["QUANTIZERS"]

_QONNX = "qonnx.custom_op.general"


def _sums(net: Network) -> str:
    """A convolution's."""
    channels, rows, columns = net.sizes()
    return net.node("Conv", net.given(channels, rows, columns), net.weights(4, channels, 2, 2))


def _judge(net: Network, node: Any, x: str, levels: list[int], unit: Any, even: list[bool],
           roundings: int = 2) -> None:
    real = net.values[x]
    net.judged = Judged(rounded(real.exact, real.error, roundings), levels, unit, even)
    net.result(node.output[0])


def _quant(operator: str) -> Callable[[Network], None]:
    """Quant and IntQuant: divide, add the zero point, clip, round to even, and back."""
    def case(net: Network) -> None:
        x = _sums(net)
        bits, scale, zero = net.pick(8, 8, 6, 4), net.step(x), net.pick(0, 2)
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        node = net.emit(operator, x, scale, np.float32(zero), np.float32(bits), domain=_QONNX,
                        signed=1, narrow=0, rounding_mode="ROUND")
        net.twin(node, ("Div", [None, scale], {}), ("Add", [None, np.float32(zero)], {}),
                 ("Clip", [None, np.float32(low), np.float32(high)], {}), ("Round", [None], {}),
                 ("Sub", [None, np.float32(zero)], {}), ("Mul", [None, scale], {}))
        levels = list(range(low - zero, high - zero + 1))
        # The zero point is added in float32: a rounding more, of the number and of itself.
        real = net.values[x]
        net.values[x] = real._replace(error=real.error + float(scale) * abs(zero) * 2.0 ** -24)
        _judge(net, node, x, levels, scale, [n % 2 == 0 for n in levels], 3)
    return case


def _trunc(net: Network) -> None:
    """The upper 5 of a Quant's 8 bits; the number is an integer times the scale."""
    scale, zero, bits = net.scale(1 / 16), 0, 5
    x = net.given(*net.sizes(), scale=scale, zero=0)
    node = net.emit("Trunc", x, scale, np.float32(zero), np.float32(8), np.float32(bits),
                    domain=_QONNX, rounding_mode="FLOOR")
    net.twin(node, ("Div", [None, scale], {}), ("Round", [None], {}),
             ("Div", [None, np.float32(1 << 8 - bits)], {}), ("Floor", [None], {}),
             ("Mul", [None, scale], {}))
    codes, _ = nearest(net.values[x].exact, scale)
    exact = Exact(codes // (1 << 8 - bits)) * Exact.of(scale)
    net.judged = Judged(Real(exact, np.zeros(codes.shape)), list(range(-16, 32)), scale,
                        [False] * 48)
    net.result(node.output[0])


def _bipolar(net: Network) -> None:
    """The sign, of which 0 has +1."""
    x, scale = _sums(net), net.scale(1)
    node = net.emit("BipolarQuant", x, scale, domain=_QONNX)
    net.twin(node, ("GreaterOrEqual", [None, np.float32(0)], {}), ("Cast", [None], {"to": 1}),
             ("Mul", [None, 2 * scale], {}), ("Sub", [None, scale], {}))
    _judge(net, node, x, [-1, 1], scale, [False, True], 0)


def _multi_threshold(net: Network) -> None:
    """How many thresholds a number reaches: those at halves of steps, where a tie goes up."""
    x = _sums(net)
    step, steps = net.step(x) * 16, 7
    thresholds = np.asarray((np.arange(steps)[None] - 3 + 0.5) * np.float64(step), np.float32)
    node = net.emit("MultiThreshold", x, thresholds, domain=_QONNX,
                    out_scale=1.0, out_bias=-3.0)
    wide = thresholds.reshape(1, 1, steps, 1, 1)
    axis = np.array([2], np.int64)
    net.twin(node, ("Unsqueeze", [None, axis], {}), ("GreaterOrEqual", [None, wide], {}),
             ("Cast", [None], {"to": 1}), ("ReduceSum", [None, axis], {"keepdims": 0}),
             ("Add", [None, np.float32(-3)], {}))
    net.judged = Judged(net.values[x], list(range(-3, 5)), np.float32(1), [], Exact.of(
        thresholds.reshape(-1)))
    net.result(node.output[0])


def _short_float(operator: str) -> Callable[[Network], None]:
    """e4m3fn, which ONNX Runtime casts to."""
    def case(net: Network) -> None:
        x, form = _sums(net), parse("e4m3fn")
        scale = net.step(x) / np.float32(2)
        if operator == "FloatQuant":
            node = net.emit(operator, x, scale, *map(np.float32, (4, 3, 7, 448)), domain=_QONNX,
                            has_inf=0, has_nan=1, has_subnormal=1, saturation=1,
                            rounding_mode="ROUND")
        else:
            node = net.emit(operator, x, scale, np.float32(0), domain="systolith", format="e4m3fn")
        net.twin(node, ("Div", [None, scale], {}),
                 ("Cast", [None], {"to": TensorProto.FLOAT8E4M3FN, "saturate": 1}),
                 ("Cast", [None], {"to": 1}), ("Mul", [None, scale], {}))
        numbers = [float(form.decode(code)) for code in range(1 << form.width)
                   if np.isfinite(float(form.decode(code)))]
        levels = sorted({int(number * 2 ** 9) for number in numbers})
        codes = {int(float(form.decode(code)) * 512): code % 2 == 0 for code in range(127)}
        _judge(net, node, x, levels, np.float64(scale) / 512, [codes[abs(n)] for n in levels])
    return case


def _upsample(net: Network) -> None:
    """An operator of opset 9, which has no other quantizer."""
    net.opset = 9
    scale, (channels, rows, columns) = net.scale(), net.sizes()
    name, shape = "x0", (net.images, channels, rows, columns)
    codes = net.rng.integers(-128, 128, shape)
    net.feeds[name] = np.asarray(codes * np.float64(scale), np.float32)
    parts: list[tuple] = [("Div", [None, scale], {}), ("Round", [None], {}),
             ("Clip", [None, np.float32(-128), np.float32(127)], {}), ("Mul", [None, scale], {})]
    numbers = [scale, np.float32(0), np.float32(8)]
    given: dict[str, Any] = {"domain": _QONNX, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    node = net.emit("Quant", name, *numbers, **given)
    net.twin(node, *parts)
    net.values[node.output[0]] = rounded(Exact(codes.astype(object)) * Exact.of(scale), 0, 1)
    sizes = np.array([1, 1, 2, 3], np.float32)
    up = net.node("Upsample", node.output[0], sizes, mode="nearest")
    net.twin(net.nodes[-1], ("Resize", [None, np.array([], np.float32), sizes], {
        "mode": "nearest", "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor"}))
    step = net.step(up)
    last = net.emit("Quant", up, step, *numbers[1:], **given)
    net.twin(last, ("Div", [None, step], {}), *parts[1:3], ("Mul", [None, step], {}))
    levels = list(range(-128, 128))
    _judge(net, last, up, levels, step, [n % 2 == 0 for n in levels])


QUANTIZERS: dict[str, Callable[[Network], None]] = {
    "Quant": _quant("Quant"), "IntQuant": _quant("IntQuant"), "Trunc": _trunc,
    "BipolarQuant": _bipolar, "MultiThreshold": _multi_threshold,
    "Upsample": _upsample, "FloatQuant": _short_float("FloatQuant"),
    "FormatQuant": _short_float("FormatQuant")}

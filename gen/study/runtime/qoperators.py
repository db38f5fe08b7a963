"""ONNX Runtime's operators on codes: QLinearConv and its like, whose results are codes.

Sums of products of codes are exact there, in 32 bits, and multiplied by a quotient of scales that
is rounded twice; others dequantize as the operators of floats do. Where zero points are added
before the result is rounded, they are even, so that ties go to the same side.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from .network import Network
from .rationals import Exact
from .real import FUNCTIONS, Real, compute, rounded

__all__ = ["QOPERATORS"]

_MICROSOFT = "com.microsoft"
#: Roundings of a sum of products on its way to a code: sum and quotient (two), and their product;
#: with the zero points that ONNX Runtime adds in float32.
_FEW = 4


def _constants(net: Network, scale: Any, zero: Any) -> list[str]:
    return [net.constant(np.float32(scale)), net.constant(net.kind(zero))]


def _codes(net: Network, *shape: int) -> tuple[str, np.float32, int, str]:
    """An input of the network as codes: (their tensor, scale, zero point, the numbers' tensor)."""
    scale, zero = net.scale(), 4 if net.kind is np.int8 else 130
    x = net.given(*shape, scale=scale, zero=zero)
    q = next(node.input[0] for node in net.nodes if node.output[0] == x)
    del net.nodes[-1]                   # nothing reads the numbers
    return q, scale, zero, x


def _real(net: Network, operator: str, *inputs: Any, **given: Any) -> Real:
    """What an operator of floats gives for the numbers of these tensors and arrays."""
    names = [item if isinstance(item, str) else net.constant(item) for item in inputs]
    node = helper.make_node(operator, names, ["real"], **given)
    net.rough |= operator in FUNCTIONS
    arrays = [net.arrays.get(name) for name in names]
    reals = [net.values[name] if name in net.values else Real.of(array)
             for name, array in zip(names, arrays, strict=True)]
    return compute(node, reals, arrays, net.opset)


def _finish(net: Network, q: str, real: Real, scale: Any, zero: Any, names: list[str],
            integers: bool) -> None:
    """`q` are the codes; `integers`: of a sum of products, which no operand's rounding changes."""
    if integers:
        real = rounded(real.exact, 0, _FEW)
    # Numbers and zero points are added up in steps of the result.
    most = float(scale) * 256
    net.judge(Real(real.exact, real.error + 6 * 2.0 ** -24 * most), scale, zero)
    net.result(net.emit("DequantizeLinear", q, *names).output[0])


def _step(net: Network, real: Real) -> tuple[np.float32, int, list[str]]:
    net.values["real"] = real
    scale, zero = net.step("real"), -4 if net.kind is np.int8 else 140
    return scale, zero, _constants(net, scale, zero)


def _weights(net: Network, *shape: int) -> tuple[str, str, str, str]:
    """(codes, scale, zero point, numbers)"""
    codes = net.rng.integers(-127, 128, shape).astype(np.int8)
    scale = net.scale(1 / 32)
    name = f"weights{len(net.arrays)}"
    net.values[name] = rounded(Exact(codes.astype(object)) * Exact.of(scale), 0, 1)
    return net.constant(codes), net.constant(scale), net.constant(np.int8(0)), name


def _qlinear_conv(net: Network) -> None:
    channels, rows, columns = net.sizes()
    q, scale, zero, x = _codes(net, channels, rows, columns)
    w, w_scale, w_zero, numbers = _weights(net, 4, channels, 2, 3)
    bias = net.rng.integers(-3000, 3000, 4, dtype=np.int32)
    unit = np.float64(scale) * np.float64(net.arrays[w_scale])
    net.values["bias"] = Real(Exact(bias.astype(object)) * Exact.of(np.float32(scale)) * Exact.of(
        net.arrays[w_scale]), np.zeros(4))
    assert unit > 0
    real = _real(net, "Conv", x, numbers, "bias", strides=[1, 2], pads=[1, 0, 0, 1])
    step, z, names = _step(net, real)
    node = net.emit("QLinearConv", q, *_constants(net, scale, zero), w, w_scale, w_zero, *names,
                    bias, strides=[1, 2], pads=[1, 0, 0, 1], kernel_shape=[2, 3])
    _finish(net, node.output[0], real, step, z, names, True)


def _qlinear_matmul(net: Network) -> None:
    q, scale, zero, x = _codes(net, 37)
    w, w_scale, w_zero, numbers = _weights(net, 37, 5)
    real = _real(net, "MatMul", x, numbers)
    step, z, names = _step(net, real)
    node = net.emit("QLinearMatMul", q, *_constants(net, scale, zero), w, w_scale, w_zero, *names)
    _finish(net, node.output[0], real, step, z, names, True)


def _qgemm(net: Network) -> None:
    q, scale, zero, x = _codes(net, 37)
    w, w_scale, w_zero, numbers = _weights(net, 37, 5)
    bias = net.rng.integers(-3000, 3000, 5, dtype=np.int32)
    net.values["bias"] = Real(Exact(bias.astype(object)) * Exact.of(np.float32(scale)) * Exact.of(
        net.arrays[w_scale]), np.zeros(5))
    real = _real(net, "Gemm", x, numbers, "bias")
    step, z, names = _step(net, real)
    node = net.emit("QGemm", q, *_constants(net, scale, zero), w, w_scale, w_zero, bias, *names,
                    domain=_MICROSOFT)
    _finish(net, node.output[0], real, step, z, names, True)


def _two(operator: str) -> Callable[[Network], None]:
    def case(net: Network) -> None:
        sizes = net.sizes()
        (a, a_scale, a_zero, x), (b, b_scale, b_zero, y) = (_codes(net, *sizes) for _ in "ab")
        real = _real(net, operator, x, y)
        step, z, names = _step(net, real)
        node = net.emit(f"QLinear{operator}", a, *_constants(net, a_scale, a_zero), b,
                        *_constants(net, b_scale, b_zero), *names, domain=_MICROSOFT)
        _finish(net, node.output[0], real, step, z, names, False)
    return case


def _one(operator: str, **given: Any) -> Callable[[Network], None]:
    def case(net: Network) -> None:
        sizes = (4, 4, 8)
        q, scale, zero, x = _codes(net, *sizes)
        real = _real(net, operator, x, **given)
        step, z, names = _step(net, real)
        node = net.emit(f"QLinear{operator}", q, *_constants(net, scale, zero), *names,
                        domain=_MICROSOFT, **given)
        _finish(net, node.output[0], real, step, z, names, False)
    return case


def _concat(net: Network) -> None:
    parts = [_codes(net, n, 4, 5) for n in (2, 3)]
    real = _real(net, "Concat", *(part[3] for part in parts), axis=1)
    step, z, names = _step(net, real)
    operands = [item for q, scale, zero, _ in parts for item in (q, *_constants(net, scale, zero))]
    node = net.emit("QLinearConcat", *names, *operands, domain=_MICROSOFT, axis=1)
    _finish(net, node.output[0], real, step, z, names, False)


def _integer(operator: str) -> Callable[[Network], None]:
    """Sums of codes, made numbers by a product with a scale."""
    def case(net: Network) -> None:
        net.kind = np.uint8
        shape = (3, 6, 7) if operator == "Conv" else (37,)
        q, scale, zero, x = _codes(net, *shape)
        w, w_scale, w_zero, numbers = _weights(net, *((4, 3, 2, 2) if operator == "Conv" else
                                                      (37, 5)))
        real = _real(net, operator, x, numbers)
        factor = np.float32(np.float64(scale) * np.float64(net.arrays[w_scale]))
        # The factor is a number of the file: not the product of the scales, but what float32 has.
        codes = real.exact * Exact.of(np.float32(1))
        whole = Exact(_divided(codes, scale, net.arrays[w_scale]))
        sums = net.emit(f"{operator}Integer", q, w, net.constant(net.kind(zero)), w_zero)
        floats = net.emit("Cast", sums.output[0], to=1)
        made = net.emit("Mul", floats.output[0], factor)
        net.values[made.output[0]] = rounded(whole * Exact.of(factor), 0, 2)
        net.quantized(made.output[0])
    return case


def _divided(exact, *scales):
    for scale in scales:
        unit = Exact.of(np.float32(scale))
        exact = Exact(exact.numbers, exact.unit / (int(unit.numbers) * unit.unit))
    return exact.numbers * exact.unit.numerator // exact.unit.denominator


def _to_float(net: Network) -> None:
    net.kind = np.uint8
    q, scale, zero, x = _codes(net, 37)
    w, w_scale, w_zero, numbers = _weights(net, 37, 5)
    real = _real(net, "MatMul", x, numbers)
    node = net.emit("MatMulIntegerToFloat", q, w, np.float32(scale), w_scale, net.kind(zero),
                    w_zero, domain=_MICROSOFT)
    net.values[node.output[0]] = rounded(real.exact, 0, _FEW)
    net.quantized(node.output[0])


QOPERATORS: dict[str, Callable[[Network], None]] = {
    "QLinearConv": _qlinear_conv, "QLinearMatMul": _qlinear_matmul, "QGemm": _qgemm,
    "QLinearAdd": _two("Add"), "QLinearMul": _two("Mul"), "QLinearConcat": _concat,
    "QLinearLeakyRelu": _one("LeakyRelu", alpha=0.25), "QLinearSigmoid": _one("Sigmoid"),
    "QLinearAveragePool": _one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "QLinearGlobalAveragePool": _one("GlobalAveragePool"),
    "ConvInteger": _integer("Conv"), "MatMulInteger": _integer("MatMul"),
    "MatMulIntegerToFloat": _to_float}

"""Networks of one operator, for every operator that the importer reads.

`CASES` has functions of a `Network`, which draws shapes, attributes and numbers; what ONNX Runtime
cannot compute is in `ABSENT`, with the reason.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from systolith.gen.importer.checks import supported_operators

from .network import Judged, Network
from .qoperators import QOPERATORS
from .quantizers import QUANTIZERS
from .real import FUNCTIONS

__all__ = ["ABSENT", "CASES", "drawn", "missing"]

#: Operators that the importer reads and ONNX Runtime has nothing for, each with the reason.
ABSENT = {
    "QLinearReduceMean": "ONNX Runtime has the schema of this operator and no code for it",
    "QLinearSoftmax": "Softmax is computed by the host, in ONNX Runtime itself",
}

Case = Callable[[Network], None]


def _of_one(operator: str, *inputs: Any, several: bool = False, **given: Any) -> Case:
    """A case of an operator that reads one map. Inputs and attributes that are functions draw
    theirs of (net, shape of the map)."""
    def case(net: Network) -> None:
        sizes = net.sizes()
        x = net.given(*sizes)
        more = [item(net, sizes) if callable(item) else item for item in inputs]
        facts = {key: item(net, sizes) if callable(item) else item for key, item in given.items()}
        net.quantized(net.node(operator, x, *more, **facts))
    return case


def _of_two(operator: str) -> Case:
    def case(net: Network) -> None:
        sizes = net.sizes()
        other = sizes if net.rng.random() < 0.7 else (sizes[0], 1, 1)
        net.quantized(net.node(operator, net.given(*sizes), net.given(*other, scale=net.scale(
            net.pick(1 / 8, 1 / 16, 1 / 32)))))
    return case


def _conv(net: Network) -> None:
    channels, rows, columns = net.sizes()
    outputs, groups = int(net.rng.integers(1, 6)), 1
    style = net.pick("plain", "plain", "group", "each")
    if style == "each":
        groups, outputs = channels, channels
    elif style == "group":
        groups, channels, outputs = 2, 4, 2 * net.pick(1, 2)
    kernel = [int(net.rng.integers(1, 4)) for _ in "yx"]
    dilations = [net.pick(1, 1, 2) for _ in "yx"]
    pads = [int(net.rng.integers(0, 2)) for _ in range(4)]
    if any((k - 1) * d >= n for k, d, n in zip(kernel, dilations, (rows, columns), strict=True)):
        dilations = [1, 1]
    scale = net.scale()
    x = net.given(channels, rows, columns, scale=scale)
    w = net.weights(outputs, channels // groups, *kernel, each=net.pick(None, None, 0))
    b = [net.bias(outputs, scale, 1 / 32)] * (net.rng.random() < 0.8)
    y = net.node("Conv", x, w, *b, pads=pads, strides=[net.pick(1, 1, 2) for _ in "yx"],
                 dilations=dilations, group=groups, kernel_shape=kernel)
    net.quantized(net.node("Relu", y) if net.rng.random() < 0.3 else y)


def _conv_transpose(net: Network) -> None:
    channels, rows, columns = net.sizes()
    outputs, kernel = int(net.rng.integers(1, 5)), [int(net.rng.integers(2, 4)) for _ in "yx"]
    scale = net.scale()
    x, w = net.given(channels, rows, columns, scale=scale), net.weights(channels, outputs, *kernel)
    b = [net.bias(outputs, scale, 1 / 32)] * (net.rng.random() < 0.7)
    net.quantized(net.node("ConvTranspose", x, w, *b, strides=[net.pick(1, 2) for _ in "yx"],
                           pads=[net.pick(0, 1)] * 4))


def _gemm(net: Network) -> None:
    inputs, outputs = (int(n) for n in net.rng.integers((2, 1), (300, 9)))
    scale, turned = net.scale(), net.pick(0, 1)
    w = net.weights(*((outputs, inputs) if turned else (inputs, outputs)))
    net.quantized(net.node("Gemm", net.given(inputs, scale=scale), w,
                           net.bias(outputs, scale, 1 / 32), transB=turned))


def _matmul(net: Network) -> None:
    inputs, outputs = (int(n) for n in net.rng.integers((2, 1), (300, 9)))
    net.quantized(net.node("MatMul", net.given(inputs), net.weights(
        inputs, outputs, each=net.pick(None, 1))))


def _arithmetic(operator: str) -> list[Case]:
    """Cases of two maps, and of one and constants."""
    def constant(net: Network) -> None:
        channels, rows, columns = net.sizes()
        numbers = net.powers(1, channels, 1, 1)
        if operator in ("Add", "Sub"):
            numbers = net.numbers(1, channels, 1, 1)
        net.quantized(net.node(operator, net.given(channels, rows, columns), numbers))
    return [*([_of_two(operator)] if operator != "Div" else []), constant]


def _slopes(net: Network, sizes: tuple) -> np.ndarray:
    return net.powers(sizes[0], 1, 1)


def _batch_norm(net: Network) -> None:
    channels, rows, columns = net.sizes()
    factor, beta, mean = net.powers(channels), net.numbers(channels), net.numbers(channels)
    roots = np.array([net.pick(0.5, 1, 2) if net.exact else net.pick(0.75, 1.25, 3, 0.5)
                        for _ in range(channels)], np.float32)
    net.quantized(net.node("BatchNormalization", net.given(channels, rows, columns), factor, beta,
                           mean, roots * roots, epsilon=0.0))


def _clip(net: Network) -> None:
    net.quantized(net.node("Clip", net.given(*net.sizes()), net.numbers(1, least=-3, most=-1)[0],
                           net.numbers(1, least=1, most=4)[0]))


def _window(net: Network, sizes: tuple) -> list[int]:
    return [net.pick(2, 4), 2] if net.exact else [int(net.rng.integers(1, 5)) for _ in "yx"]


def _average(net: Network) -> None:
    sizes = net.sizes()
    net.quantized(net.node("AveragePool", net.given(*sizes), kernel_shape=_window(net, sizes),
                           strides=[net.pick(1, 2) for _ in "yx"]))


def _map_of_eights(net: Network) -> tuple[int, int, int]:
    """Sizes with means that float32 has exactly, or any."""
    return (net.pick(2, 4), 4, 8) if net.exact else net.sizes()


def _whole_map(operator: str, **given: Any) -> Case:
    def case(net: Network) -> None:
        x = net.given(*_map_of_eights(net))
        axes = [] if operator.startswith("Global") else [np.array([2, 3], np.int64)]
        net.quantized(net.node(operator, x, *axes, **given))
    return case


def _max_pool(net: Network) -> None:
    kernel = [int(net.rng.integers(2, 4)) for _ in "yx"]
    net.quantized(net.node("MaxPool", net.given(*net.sizes()), kernel_shape=kernel,
                           strides=[net.pick(1, 2) for _ in "yx"], pads=[net.pick(0, 1)] * 4))


def _compared(operator: str) -> Case:
    """A choice between two numbers by a comparison with a constant; as QDQ has no codes of signs,
    the numbers are the results."""
    def case(net: Network) -> None:
        zero, scale = 3, net.scale()
        x = net.given(*net.sizes(), scale=scale, zero=zero)
        # Between two codes, or at one: where float32 of the product has no rounding.
        at = np.float32(scale * net.pick(0, 5.5, -20.25))
        condition = net.node(operator, x, np.full((1,), at))
        _chosen(net, condition)
    return case


def _chosen(net: Network, condition: str) -> None:
    y = net.node("Where", condition, np.float32(1.5), np.float32(-0.5))
    net.result(y)
    net.judged = Judged(net.values[y], [-1, 3], np.float32(0.5), [False, False])


def _not(net: Network) -> None:
    x = net.given(*net.sizes(), zero=3)
    condition = net.node("Less", x, np.full((1,), np.float32(0)))
    _chosen(net, net.node("Not", condition))


def _cast(net: Network) -> None:
    x = net.given(*net.sizes(), zero=3)
    y = net.node("Cast", net.node("Greater", x, np.full((1,), np.float32(0))), to=1)
    net.result(y)
    net.judged = Judged(net.values[y], [0, 1], np.float32(1), [False, False])


def _function(operator: str) -> Case:
    """A function of every code, with a scale that keeps results in range."""
    about = {"Acos": 1 / 128, "Asin": 1 / 128, "Atanh": 1 / 256, "Exp": 1 / 64, "Cosh": 1 / 64,
             "Sinh": 1 / 64, "Round": 1 / 4, "Floor": 1 / 4, "Ceil": 1 / 4, "Tan": 1 / 256,
             "Acosh": 1 / 64, "Log": 1 / 64, "Sqrt": 1 / 64, "Reciprocal": 1 / 64}
    positive = operator in ("Acosh", "Log", "Sqrt", "Reciprocal")

    def case(net: Network) -> None:
        net.opset = 24 if operator == "Swish" else 22
        least = np.iinfo(net.kind).min
        # From 1 on, or around 0.
        zero = least - 0 if positive else None
        x = net.given(4, 8, 8, scale=net.scale(about.get(operator, 1 / 16)), every=True, zero=zero)
        if positive:
            x = net.node("Clip", x, np.float32(1 if operator == "Acosh" else 1 / 8), np.float32(16))
        if operator in ("Acos", "Asin", "Atanh"):
            x = net.node("Clip", x, np.float32(-0.875), np.float32(0.875))
        net.quantized(net.node(operator, x))
    return case


def _pow(net: Network) -> None:
    net.quantized(net.node("Pow", net.given(4, 8, 8, every=True), np.float32(2)))


def _gather(net: Network, sizes: tuple) -> np.ndarray:
    return net.rng.permutation(sizes[0]).astype(np.int64)


def _concat(net: Network) -> None:
    channels, rows, columns = net.sizes()
    scale = net.scale()
    parts = [net.given(n, rows, columns, scale=scale, zero=2) for n in (channels, 3)]
    net.quantized(net.node("Concat", *parts, axis=1))


def _split(net: Network) -> None:
    _, rows, columns = net.sizes()
    x = net.given(5, rows, columns)
    net.quantized(net.node("Split", x, np.array([3, 2], np.int64), axis=1, outputs=2))


def _reshaped(operator: str, shape: Callable, *inputs: Any, **given: Any) -> Case:
    """A view, between two quantizers."""
    def case(net: Network) -> None:
        sizes = shape(net)
        more = [np.int64(item(sizes)) if callable(item) else item for item in inputs]
        net.quantized(net.node(operator, net.given(*sizes), *more, **given))
    return case


def _depth(net: Network) -> tuple[int, int, int]:
    return (8, int(net.rng.integers(2, 5)), int(net.rng.integers(2, 5)))


def _even(net: Network) -> tuple[int, int, int]:
    return (int(net.rng.integers(1, 4)), 4, 6)


def _pads(net: Network, sizes: tuple) -> np.ndarray:
    return np.array([0, 0, *net.rng.integers(0, 3, 2), 0, 0, *net.rng.integers(0, 3, 2)], np.int64)


def _slice(net: Network) -> None:
    channels, rows, columns = net.sizes()
    net.quantized(net.node("Slice", net.given(channels, rows, columns), np.array([1, 0], np.int64),
                           np.array([rows, columns - 1], np.int64), np.array([2, 3], np.int64),
                           np.array([net.pick(1, 2), 1], np.int64)))


def _resize(mode: str) -> Case:
    def case(net: Network) -> None:
        given: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
        if mode == "nearest":
            given["nearest_mode"] = "floor"
        else:
            given["coordinate_transformation_mode"] = "half_pixel"
        factors = np.array([1, 1, 2, 2], np.float32)
        net.quantized(net.node("Resize", net.given(*_even(net)), None, factors, **given))
    return case


def _qdq(net: Network) -> None:
    """Two quantizers after each other, of other scales and zero points."""
    net.quantized(net.given(*net.sizes()))


CASES: dict[str, list[Case]] = {
    "QuantizeLinear": [_qdq], "DequantizeLinear": [_qdq],
    "Conv": [_conv], "ConvTranspose": [_conv_transpose], "Gemm": [_gemm], "MatMul": [_matmul],
    **{name: _arithmetic(name) for name in ("Add", "Sub", "Mul", "Div")},
    **{name: [_of_two(name)] for name in ("Max", "Min", "Sum")},
    "BatchNormalization": [_batch_norm], "Relu": [_of_one("Relu")], "Clip": [_clip],
    "LeakyRelu": [_of_one("LeakyRelu", alpha=lambda net, sizes: float(net.powers(1)[0]))],
    "PRelu": [_of_one("PRelu", _slopes)],
    "HardSigmoid": [_of_one("HardSigmoid", alpha=0.25, beta=0.5)],
    "Abs": [_of_one("Abs")], "Neg": [_of_one("Neg")], "Pow": [_pow],
    **{name: [_function(name)] for name in FUNCTIONS},
    **{name: [_compared(name)] for name in ("Greater", "GreaterOrEqual", "Less",
                                            "LessOrEqual")},
    "Where": [_compared("Less")],
    "Not": [_not], "Cast": [_cast],
    "AveragePool": [_average], "GlobalAveragePool": [_whole_map("GlobalAveragePool")],
    "GlobalMaxPool": [_whole_map("GlobalMaxPool")], "MaxPool": [_max_pool],
    **{name: [_whole_map(name)] for name in ("ReduceMean", "ReduceMax", "ReduceMin",
                                             "ReduceSum")},
    "Transpose": [_of_one("Transpose", perm=lambda net, sizes: net.pick(
        [0, 1, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2]))],
    "DepthToSpace": [_reshaped("DepthToSpace", _depth, blocksize=2, mode="DCR"),
                     _reshaped("DepthToSpace", _depth, blocksize=2, mode="CRD")],
    "SpaceToDepth": [_reshaped("SpaceToDepth", _even, blocksize=2)],
    "Concat": [_concat], "Split": [_split], "Slice": [_slice],
    "Gather": [_of_one("Gather", _gather, axis=1)],
    "Pad": [_of_one("Pad", _pads)],
    "Flatten": [_reshaped("Flatten", _even)],
    "Reshape": [_reshaped("Reshape", _even, lambda sizes: [0, sizes[0], -1])],
    "Squeeze": [_reshaped("Squeeze", lambda net: (4, 6, 1), np.array([3], np.int64))],
    "Unsqueeze": [_reshaped("Unsqueeze", lambda net: (4, 6), np.array([3], np.int64))],
    "Identity": [_of_one("Identity")], "Dropout": [_of_one("Dropout")],
    "Resize": [_resize("nearest"), _resize("linear")],
    "Expand": [_reshaped("Expand", lambda net: (3, 1, 1), np.array([1, 3, 4, 5], np.int64))],
    "Tile": [_reshaped("Tile", lambda net: (3, 1, 1), np.array([1, 1, 4, 5], np.int64))],
    **{name: [case] for name, case in (QUANTIZERS | QOPERATORS).items()},
}


def missing() -> list[str]:
    """Operators that the importer reads and that have neither a case nor a reason."""
    return sorted({*supported_operators()} - {*CASES} - {*ABSENT})


def drawn(operator: str, seed: int, scales: str, kind: Any = np.int8, images: int = 2) -> Network:
    """The network of an operator that a seed stands for; `scales`: as of `Network`."""
    made = CASES[operator]
    net = Network([*operator.encode(), seed, len(scales)], scales, kind, images)
    made[seed % len(made)](net)
    return net

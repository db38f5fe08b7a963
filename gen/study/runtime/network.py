"""Small quantized networks whose exact results are known: one operator between two quantizers.

What the judged quantizer reads is computed in exact fractions along with the network (`real.py`).
Operators that ONNX Runtime lacks (QONNX's) stand in its network as operators that it has and that
compute what QONNX defines.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .rationals import Exact
from .rationals import rounded as nearest
from .real import FUNCTIONS, Real, compute, rounded

__all__ = ["Judged", "Network"]

_QONNX = "qonnx.custom_op.general"
#: Of the networks; the newest that ONNX Runtime, ONNX and all operators' forms here agree on.
OPSET = 21


@dataclass
class Judged:
    """A quantizer's results: what it reads, and the numbers that it can give.

    Attributes
    ----------
    real : Real
        What is quantized.
    levels : list of int
        The numbers, in ascending order, in units of `unit`.
    unit : float
        A float32, or a float32 times a power of two.
    even : list of bool
        Of each, whether it is the one that ties go to.
    edges : Exact or None
        Numbers [levels - 1] from which on the next level is the result; None: half-way between
        levels.
    rough : bool
        Whether no scale makes float32 exact: functions that are no fractions.
    """
    real: Real
    levels: list[int]
    unit: Any
    even: list[bool]
    edges: Exact | None = None
    rough: bool = False


class Network:
    """Collects nodes and computes each at once.

    Parameters
    ----------
    seed : sequence of int
    scales : str
        "two": powers of two, and numbers with which float32 is exact; "any": any float32; "simple":
        multiples of 0.01, whose quotients are often next to simple ones, where ties are.
    kind : numpy type
        Of the codes: int8 or uint8.
    images : int
        The batch.

    Attributes
    ----------
    feeds : {input: float32 array}
    judged : Judged
        After `quantized` or its like has made the last quantizer.
    """

    def __init__(self, seed: Any, scales: str, kind: Any = np.int8, images: int = 2):
        self.rng, self.scales, self.kind = np.random.default_rng(seed), scales, kind
        self.values: dict[str, Real] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.feeds: dict[str, np.ndarray] = {}
        self.nodes: list[NodeProto] = []
        self.twins: dict[int, list[NodeProto]] = {}     # in ONNX Runtime's network
        self.judged: Judged | None = None
        self.opset, self.rough = OPSET, False
        self._result = ""
        self.images = images

    @property
    def exact(self) -> bool:
        """Whether float32 is to be exact."""
        return self.scales == "two"

    # Numbers.

    def pick(self, *choices: Any) -> Any:
        """One of them."""
        return choices[int(self.rng.integers(len(choices)))]

    def scale(self, about: float = 1 / 16) -> np.float32:
        """A scale of about this size."""
        if self.scales == "two":
            return np.float32(2.0 ** np.round(np.log2(about)))
        if self.scales == "simple":
            return np.float32(max(1, round(about * 100 * self.rng.uniform(0.5, 2))) / 100)
        return np.float32(about * self.rng.uniform(0.7, 1.4))

    def numbers(self, *shape: int, least: float = -2, most: float = 2) -> np.ndarray:
        """float32; multiples of 1/16 where float32 is to be exact."""
        found = self.rng.uniform(least, most, shape)
        return np.asarray(np.round(found * 16) / 16 if self.exact else found, np.float32)

    def powers(self, *shape: int) -> np.ndarray:
        """Factors: powers of two where float32 is to be exact."""
        if self.exact:
            return np.asarray(2.0 ** self.rng.integers(-3, 2, shape), np.float32)
        return np.asarray(self.rng.uniform(0.1, 1.5, shape), np.float32)

    def sizes(self) -> tuple[int, int, int]:
        """Sizes of a map: channels, rows, columns."""
        channels, rows, columns = self.rng.integers((1, 4, 4), (7, 10, 10))
        return int(channels), int(rows), int(columns)

    # Nodes.

    def constant(self, array: Any) -> str:
        """The name of a constant."""
        name = f"constant{len(self.arrays)}"
        self.arrays[name] = np.asarray(array)
        return name

    def emit(self, operator: str, *inputs: Any, domain: str = "", outputs: int = 1,
             **attributes: Any) -> NodeProto:
        """Add a node without computing it; arrays become constants, None is left out."""
        names = ["" if item is None else item if isinstance(item, str) else self.constant(item)
                 for item in inputs]
        name = f"{operator.lower()}{len(self.nodes)}"
        results = [name, *(f"{name}.{n}" for n in range(1, outputs))]
        node = helper.make_node(operator, names, results, name, domain=domain, **attributes)
        self.nodes.append(node)
        return node

    def node(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns its first result's name."""
        node = self.emit(operator, *inputs, outputs=outputs, **attributes)
        arrays = [self.arrays.get(name) for name in node.input]
        reals = [self.values[name] if name in self.values else Real.of(array)
                 if array is not None and array.dtype == np.float32 else None
                 for name, array in zip(node.input, arrays, strict=True)]
        self.rough |= operator in FUNCTIONS
        self.values[node.output[0]] = compute(node, reals, arrays, self.opset)
        return node.output[0]

    def twin(self, node: NodeProto, *parts: tuple) -> None:
        """What ONNX Runtime computes in a node's place: (operator, inputs, attributes), each of
        which reads the result of the one before as `None`."""
        made, last = [], node.input[0]
        for n, (operator, inputs, attributes) in enumerate(parts):
            names = [last if item is None else self.constant(item) for item in inputs]
            last = node.output[0] if n == len(parts) - 1 else f"{node.output[0]}.part{n}"
            made.append(helper.make_node(operator, names, [last], **attributes))
        self.twins[len(self.nodes) - 1] = made

    def given(self, *shape: int, scale: Any = None, zero: Any = None, every: bool = False) -> str:
        """An input of the network, quantized: numbers that have codes, and, where float32 is exact,
        half-way between and beyond them. `every`: all codes in turn."""
        name, kind = f"x{len(self.feeds)}", self.kind
        scale = self.scale() if scale is None else np.float32(scale)
        zero = kind(self.pick(5, -7, 0) if kind is np.int8 else 131) if zero is None else kind(zero)
        info = np.iinfo(kind)
        shape = (self.images, *shape)
        codes = np.arange(np.prod(shape)) % 256 + info.min if every else self.rng.integers(
            info.min, info.max, shape, endpoint=True)
        images = (codes.reshape(shape) - int(zero)).astype(np.float64) * np.float64(scale)
        if self.exact and not every:
            images += self.rng.choice([0, 0, 0, 0.5, 40], shape) * np.float64(scale)
        self.feeds[name] = np.asarray(images, np.float32)
        s, z = self.constant(scale), self.constant(zero)
        codes, _ = nearest(Exact.of(self.feeds[name]), scale)
        codes = np.clip(codes + int(zero), info.min, info.max)
        q = self.emit("QuantizeLinear", name, s, z).output[0]
        return self.dequantized(q, codes, scale, zero, (s, z))

    def dequantized(self, q: str, codes: Any, scale: Any, zero: Any, names: Any) -> str:
        """The numbers of codes (exact integers); `names`: of the constants scale and zero point."""
        name = self.emit("DequantizeLinear", q, *names).output[0]
        self.values[name] = rounded(Exact(np.asarray(codes, object) - int(zero))
                                    * Exact.of(np.float32(scale)), 0, 1)
        return name

    def weights(self, *shape: int, each: int | None = None) -> str:
        """Codes of weights, int8; `each`: the axis of which each has its own scale."""
        most = self.pick(127, 127, 15, 3)       # a step of few sums, or of many
        codes = self.rng.integers(-most, most + 1, shape).astype(np.int8)
        codes.flat[0] = most
        scale: Any = self.scale(1 / 32)
        if each is not None:
            scale = np.array([self.scale(1 / self.pick(16, 32, 64)) for _ in range(shape[each])],
                             np.float32)
        zero = np.zeros(np.shape(scale), np.int8)
        axis: dict[str, Any] = {} if each is None else {"axis": each}
        node = self.emit("DequantizeLinear", codes, scale, zero, **axis)
        wide = np.reshape(scale, [-1 if n == each else 1 for n in range(len(shape))])
        self.values[node.output[0]] = rounded(Exact(codes.astype(object)) * Exact.of(wide), 0, 1)
        return node.output[0]

    def bias(self, count: int, *scales: Any) -> str:
        """An int32 bias, in steps of the product of two scales (float32)."""
        step = np.float32(np.prod([np.float32(item) for item in scales], dtype=np.float32))
        codes = self.rng.integers(-300, 300, count, dtype=np.int32)
        node = self.emit("DequantizeLinear", codes, step, np.int32(0))
        self.values[node.output[0]] = rounded(Exact(codes.astype(object)) * Exact.of(step), 0, 1)
        return node.output[0]

    # The judged quantizer.

    def step(self, x: str) -> np.float32:
        """A step with which the numbers fill the codes, and some are clipped."""
        most = float(np.abs(self.values[x].exact.floats()).max()) or 1.0
        if self.exact:
            return np.float32(2.0 ** np.floor(np.log2(most / 100)))
        return self.scale(most / 120)

    def quantized(self, x: str, zero: Any = None) -> None:
        """Quantize the result: QuantizeLinear."""
        scale, kind = self.step(x), self.kind
        zero = kind(-3 if kind is np.int8 else 140) if zero is None else kind(zero)
        s, z = self.constant(scale), self.constant(zero)
        q = self.emit("QuantizeLinear", x, s, z).output[0]
        self.result(self.emit("DequantizeLinear", q, s, z).output[0])
        self.judge(self.values[x], scale, zero)

    def judge(self, real: Real, scale: Any, zero: Any, divided: bool = True) -> None:
        """Codes of this scale and zero point are judged; `divided`: a division rounds before."""
        info, z = np.iinfo(self.kind), int(zero)
        levels = list(range(int(info.min) - z, int(info.max) - z + 1))
        self.judged = Judged(rounded(real.exact, real.error, 1 + divided), levels,
                             np.float32(scale), [n % 2 == 0 for n in levels], rough=self.rough)

    def result(self, name: str) -> None:
        """The network's output."""
        self._result = name

    def model(self, runtime: bool) -> ModelProto:
        """The network for the importer, or for ONNX Runtime."""
        nodes = []
        for n, node in enumerate(self.nodes):
            nodes += self.twins.get(n, [node]) if runtime else [node]
        assert self.judged is not None
        read = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes, "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *array.shape[1:]])
             for name, array in self.feeds.items()],
            [helper.make_tensor_value_info(self._result, TensorProto.FLOAT,
                                           ["N", *self.judged.real.error.shape[1:]])],
            [numpy_helper.from_array(array, name) for name, array in self.arrays.items()
             if name in read])
        domains = sorted({node.domain for node in nodes} - {""})
        return helper.make_model(graph, ir_version=10, opset_imports=[
            helper.make_opsetid("", max(self.opset, OPSET) if runtime else self.opset),
            *(helper.make_opsetid(domain, 1) for domain in domains)])

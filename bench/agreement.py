"""Random networks of all operators in all orders: `check` and `build` agree on every chip, nothing
ends in a fault of Systolith, and what builds computes what ONNX Runtime does.

    python bench/agreement.py --count 500 --jobs 2 --results agreement.jsonl
    python bench/agreement.py --first 17 --count 1 --keep .        repeats one and keeps its file

Each seed is one network, tried on all `CHIPS`. Results are kept line by line: seeds that the file
has are not tried again. What counts as a fault: any error but a message for the user, a verdict of
`check` that `build` does not share, results of the instruction-level simulator that are not the
golden model's, and outputs that have little in common with ONNX Runtime's (below 10 dB; exact ties
cost far less). Of each network the least decibels are kept; those below 40 are named, for a look.
"""

import argparse
import json
import tempfile
import time
import traceback
from collections import Counter
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.flow import build as build_module
from systolith.gen.flow.build import build
from systolith.gen.flow.check import check
from systolith.gen.flow.simulate import simulate
from systolith.gen.importer.run import FOREIGN, Evaluator, session
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.resume import in_processes

_ROOMY = ["buffers.operands=2048", "buffers.tables=2048", "post.leaky=true",
          "array.largest_k=32768"]
#: Presets and keys: plain, with all units, small and odd, float, binary, large.
CHIPS = [("sim-16x16-int8", []), ("sim-16x16-int8", _ROOMY),
         ("ulx3s-8x8", ["array.rows=5", "array.columns=6", "post.lanes=1", "buffers.operands=64",
                        "buffers.activations=96", "array.largest_k=32768"]),
         ("ulx3s-8x8-e3m2", []), ("ulx3s-bnn", []), ("big-32x32-int8", _ROOMY)]
#: Images that a network is run with; decibels that an output must have, and those not named.
_IMAGES, _LEAST, _FAR = 2, 10, 40
_OPSET, _QONNX = 18, "qonnx.custom_op.general"
#: Quantizers of a network and how often: QDQ, QONNX's Quant, signs among them or alone, floats.
_KINDS = {"int8": 0.24, "uint8": 0.16, "mixed": 0.12, "quant": 0.2, "signs": 0.08, "bipolar": 0.1,
          "float": 0.1}


class Drawn:
    """A random network: values by name, each with its array for one image of random numbers."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.opsets = [], [], [
            helper.make_opsetid("", _OPSET), helper.make_opsetid(_QONNX, 1)]
        self.evaluator = Evaluator(self.opsets)
        self.kind = str(self.rng.choice(list(_KINDS), p=list(_KINDS.values())))
        # Scales are powers of two, so that float32 is exact: the sign of a sum that should be 0 is
        # anything else.
        self.whole = self.rng.random() < 0.5 or self.kind in ("signs", "bipolar")
        side = int(self.rng.choice([6, 8, 9, 12]))
        self.shape = (int(self.rng.integers(1, 5)), side, side + int(self.rng.integers(0, 3)))
        self.shape = self.shape[:int(self.rng.choice([3, 3, 3, 3, 3, 3, 3, 2, 2, 1]))]
        if len(self.shape) == 1:
            self.shape = (int(self.rng.integers(4, 40)),)
        self.values = {"x": np.float32(self.rng.standard_normal((1, *self.shape)))}
        self.quantized = set()              # results of quantizers

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        self.values[name] = np.asarray(array)
        return name

    def node(self, operator, *inputs, outputs=1, **attributes):
        """Add a node; its (first) result, or None where ONNX Runtime does not compute it or the
        result is nothing to go on with."""
        if any(item is None for item in inputs):
            return None
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        results = [f"t{len(self.nodes)}_{n}" for n in range(outputs)]
        domain = {"domain": _QONNX} if operator in FOREIGN else {}
        node = helper.make_node(operator, names, results, f"{operator}_{len(self.nodes)}",
                                **domain, **attributes)
        try:
            arrays = self.evaluator.run(node, [self.values[name] if name else None
                                               for name in names])
        except UserError:
            return None
        if any(item.size == 0 or item.size > 1 << 15 or (
                item.dtype.kind == "f" and not np.isfinite(item).all()) for item in arrays):
            return None
        self.nodes.append(node)
        self.values |= dict(zip(results, arrays, strict=True))
        return results[0]

    def qdq(self, x):
        """`x` quantized and dequantized, by its own range."""
        if x is None or self.values[x].dtype != np.float32:
            return x
        low, high = float(min(0, self.values[x].min())), float(max(1e-3, self.values[x].max()))
        if self.kind not in ("int8", "uint8", "mixed"):
            name = self.qonnx(x, low, high)
        else:
            kind = self.rng.choice(["int8", "uint8"]) if self.kind == "mixed" else self.kind
            scale, least = self.scale((high - low) / 200), -128 if kind == "int8" else 0
            zero = np.clip(round(least - low / scale), least, least + 255)
            if self.rng.random() < 0.3:
                scale, zero = self.scale(max(high, -low) / 120), least + 128
            numbers = self.constant(scale), self.constant(np.dtype(str(kind)).type(zero))
            name = self.node("DequantizeLinear", self.node("QuantizeLinear", x, *numbers), *numbers)
        self.quantized.add(name)
        return name

    def qonnx(self, x, low, high):
        """`x` through a quantizer of QONNX."""
        rng = self.rng
        if self.kind == "bipolar" or (self.kind == "signs" and rng.random() < 0.4):
            return self.node("BipolarQuant", x, np.float32(rng.choice([1, 0.5])))
        if self.kind == "float":
            return self.e3m2(x, max(high, -low) / 24)
        bits, signed = int(rng.choice([2, 3, 4, 6, 8, 8])), int(low < 0 or rng.random() < 0.3)
        zero = int(rng.integers(-1, 4)) if rng.random() < 0.3 and bits > 3 else 0
        scale = self.scale((high - low) / (1 << bits))
        return self.node("Quant", x, scale, np.float32(zero), np.float32(bits), signed=signed,
                         narrow=int(rng.random() < 0.2), rounding_mode="ROUND")

    def e3m2(self, x, scale):
        return self.node("FloatQuant", x, self.scale(scale), *map(np.float32, (3, 2, 3, 28)),
                         has_subnormal=1, has_inf=0, has_nan=0, saturation=1)

    def scale(self, number):
        number = np.maximum(number, 1e-6)
        return np.float32(2 ** np.ceil(np.log2(number)) if self.whole else number)

    def weights(self, *shape, axis=0):
        """Quantized weights whose output channels lie along `axis`."""
        rng, count = self.rng, shape[axis]
        size = max(1, int(np.prod(shape)) // count)
        if self.kind in ("quant", "signs", "bipolar", "float"):
            return self.qonnx_weights(shape, axis, size)
        kind = str(rng.choice(["int8", "int8", "int8", "uint8"]))
        least, scale = (-128 if kind == "int8" else 0), self.scale(1 / 127 / np.sqrt(size))
        codes = rng.integers(least + (kind == "int8"), least + 256, shape).astype(kind)
        zero = least + 128
        if rng.random() < 0.25:
            zero += int(rng.integers(-9, 10))
        if rng.random() < 0.3:
            scale = self.scale(scale * rng.uniform(0.5, 2, count))
            zeros = np.full(count, zero)
            if zero != least + 128:
                zeros += rng.integers(-9, 10, count)
            return self.node("DequantizeLinear", codes, scale,
                             np.clip(zeros, least, least + 255).astype(kind), axis=axis)
        return self.node("DequantizeLinear", codes, scale, np.dtype(kind).type(zero))

    def qonnx_weights(self, shape, axis, size):
        rng, numbers = self.rng, np.float32(self.rng.standard_normal(shape) / np.sqrt(size))
        if self.kind == "bipolar" or rng.random() < 0.2 * (self.kind != "float"):
            return self.node("BipolarQuant", numbers, self.scale(1 / np.sqrt(size)))
        if self.kind == "float":
            return self.e3m2(numbers, np.abs(numbers).max() / 28)
        bits, scale = int(rng.choice([2, 3, 4, 8, 8])), np.abs(numbers).max()
        if rng.random() < 0.3:
            scale = np.abs(numbers).max(tuple(n for n in range(numbers.ndim) if n != axis),
                                        keepdims=True)
        return self.node("Quant", numbers, self.scale(scale / (1 << bits - 1)), np.float32(0),
                         np.float32(bits), signed=1, narrow=1, rounding_mode="ROUND")

    def conv_of_input(self, x):
        """A first layer."""
        x = self.qdq(x)
        self.qdq((_conv if len(self.shape) > 1 else _dense)(self, x, self.shape))

    def draw(self):
        """One of the values, of those made last rather, quantized ones rather."""
        names = [*(name for node in self.nodes for name in node.output
                        if self.values[name].dtype == np.float32
                        and self.values[name].ndim > 1 and len(self.values[name]) == 1
                        and not name.startswith("c") and node.op_type != "Constant"
                        and any(item not in self.fixed() for item in node.input))]
        better = [name for name in names if name in self.quantized]
        names = better if better and self.rng.random() < 0.85 else names
        return names[-1 - min(len(names) - 1, int(self.rng.exponential(1.2)))]

    def fixed(self):
        """Names of what is computed from constants."""
        names = {item.name for item in self.constants}
        for node in self.nodes:
            if all(name in names for name in node.input):
                names.update(node.output)
        return names

    def model(self):
        read = {name for node in self.nodes for name in node.input}
        ends = [name for node in self.nodes for name in node.output
                if name not in read and name not in self.fixed()]
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes, "drawn",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_empty_tensor_value_info(name) for name in ends[-3:]],
            [item for item in self.constants if item.name in used])
        model = helper.make_model(graph, opset_imports=self.opsets, ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


# Operators: functions of (network, value, its shape without the batch).

_FUNCTIONS = ["Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Softplus",
              "Exp", "Erf", "Neg", "Abs", "Sign", "Floor", "Identity", "Dropout", "Softmax",
              "LogSoftmax", "Mish", "Sqrt", "Sin", "GlobalAveragePool", "GlobalMaxPool", "Flatten",
              "ReduceL2", "Hardmax", "Softsign", "ThresholdedRelu", "LpNormalization"]


def _conv(net, x, shape):
    groups = shape[0] if net.rng.random() < 0.25 else 1
    outputs = shape[0] if groups > 1 else int(net.rng.integers(1, 13))
    kernel = [int(net.rng.integers(1, 4)) for _ in shape[1:]]
    weight = net.weights(outputs, shape[0] // groups, *kernel)
    bias = [np.float32(net.rng.standard_normal(outputs) / 4)] * (net.rng.random() < 0.6)
    return net.node("Conv", x, weight, *bias, group=groups,
                    pads=[int(net.rng.integers(0, 2)) for _ in 2 * kernel],
                    strides=[int(net.rng.integers(1, 3)) for _ in kernel],
                    dilations=[1 + int(net.rng.random() < 0.15) for _ in kernel])


def _transposed(net, x, shape):
    outputs = int(net.rng.integers(1, 6))
    return net.node("ConvTranspose", x, net.weights(shape[0], outputs, 2, 2, axis=1),
                    strides=[2, 2])


def _dense(net, x, shape):
    outputs = int(net.rng.integers(2, 17))
    if net.rng.random() < 0.6 and len(shape) > 1:
        x, shape = net.node("Flatten", x), [int(np.prod(shape))]
    if len(shape) == 1 and net.rng.random() < 0.5:
        return net.node("Gemm", x, net.weights(outputs, shape[0]),
                        np.float32(net.rng.standard_normal(outputs)), transB=1)
    return net.node("MatMul", x, net.weights(shape[-1], outputs, axis=1))


def _two(net, x, shape):
    """Two or three maps, of one shape or broadcast."""
    operator = str(net.rng.choice(["Add", "Sub", "Mul", "Max", "Min", "Add", "Add", "Sum"]))
    others = [name for name, array in net.values.items()
              if array.ndim == len(shape) + 1 and name not in net.fixed()
              and array.dtype == np.float32
              and all(mine in (1, size) for mine, size in zip(array.shape[1:], shape, strict=True))]
    same = [name for name in others if net.values[name].shape == (1, *shape)]
    if net.rng.random() < 0.6:
        others = same
    count = int(net.rng.integers(1, 4)) if operator in ("Sum", "Max", "Min") else 1
    names = [x, *(others[int(net.rng.integers(len(others)))] for _ in range(count))]
    return net.node(operator, *names[::int(net.rng.choice([1, -1]))])


def _addends(net, x, shape):
    """A sum of layers that no quantizer has seen, of two or three."""
    parts = []
    for _ in range(int(net.rng.integers(2, 4))):
        outputs = net.values[parts[0]].shape[1] if parts else int(net.rng.integers(1, 9))
        if len(shape) == 1:
            parts.append(net.node("MatMul", x, net.weights(shape[0], outputs, axis=1)))
            continue
        parts.append(net.node("Conv", x, net.weights(outputs, shape[0], *[1] * (len(shape) - 1)),
                              np.float32(net.rng.standard_normal(outputs) / 4)))
    total = parts[0]
    for part in parts[1:]:
        total = net.node("Add", total, part)
    return total


def _gate(net, x, shape):
    """A map times one number for each channel, or for each pixel, computed from it."""
    axes = [1] if net.rng.random() < 0.5 else [*range(2, len(shape) + 1)]
    operator = str(net.rng.choice(["ReduceMean", "ReduceMax"]))
    gate = net.qdq(net.node(operator, x, np.array(axes), keepdims=1))
    if axes != [1]:
        gate = net.qdq(_conv_of_one(net, gate, shape))
    return net.node("Mul", x, net.qdq(net.node("Sigmoid", gate)))


def _conv_of_one(net, x, shape):
    return net.node("Conv", x, net.weights(shape[0], shape[0], *[1] * (len(shape) - 1)))


def _tokens(net, x, shape):
    """Dense layers on (N, T, C)."""
    if len(shape) > 2 or net.rng.random() < 0.5:
        x = net.node("Reshape", x, np.array([1, shape[0], -1]))
        x = net.node("Transpose", x, perm=[0, 2, 1])
    count, outputs = net.values[x].shape[-1], int(net.rng.integers(2, 9))
    x = net.node("MatMul", x, net.weights(count, outputs, axis=1))
    return net.node("Add", x, np.float32(net.rng.standard_normal(outputs) / 4))


def _with_constant(net, x, shape):
    operator = str(net.rng.choice(["Add", "Sub", "Mul", "Div", "PRelu", "Max", "Pow", "Add"]))
    sizes = [(), (shape[0], *[1] * (len(shape) - 1)), (1, *shape[1:]), shape, shape[-1:]]
    sizes = sizes[int(net.rng.choice(5, p=[0.35, 0.35, 0.1, 0.15, 0.05]))]
    if operator == "PRelu" and sizes in (shape, shape[-1:]):
        sizes = ()
    numbers = np.float32(net.rng.uniform(0.2, 2, sizes))
    names = [x, np.float32(2) if operator == "Pow" else numbers]
    turned = operator in ("Add", "Sub", "Mul", "Max") and net.rng.random() < 0.2
    return net.node(operator, *names[::-1 if turned else 1])


def _pool(net, x, shape):
    rng, rank = net.rng, len(shape) - 1
    operator = str(rng.choice(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"]))
    kernel = [int(rng.integers(1, 4)) for _ in range(rank)]
    more = {"ceil_mode": int(rng.random() < 0.2)}
    if operator == "MaxPool" and rng.random() < 0.25:
        more["dilations"] = [int(rng.integers(1, 3)) for _ in kernel]
    if rng.random() < 0.3:
        more["pads"] = [int(rng.integers(0, size)) for size in 2 * kernel]
        if operator == "AveragePool":
            more["count_include_pad"] = int(rng.integers(0, 2))
    return net.node(operator, x, kernel_shape=kernel,
                    strides=[int(rng.integers(1, 3)) for _ in kernel], **more)


def _reduce(net, x, shape):
    operator = str(net.rng.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2",
                                   "ArgMax", "TopK", "ReduceMean", "ReduceSum"]))
    axis = int(net.rng.integers(1, len(shape) + 1))
    keep = int(net.rng.random() < 0.7)
    if operator == "ArgMax":
        return net.node(operator, x, axis=axis, keepdims=keep)
    if operator == "TopK":
        return net.node(operator, x, np.array([1]), axis=axis, outputs=2)
    axes = [axis] if net.rng.random() < 0.6 else [*range(2, len(shape) + 1)] or [1]
    return net.node(operator, x, np.array(axes), keepdims=keep)


def _moves(net, x, shape):
    rank, rng = len(shape) + 1, net.rng
    kind = int(rng.choice(9, p=[0.1, 0.1, 0.15, 0.1, 0.15, 0.1, 0.1, 0.12, 0.08]))
    if kind == 0:
        return net.node("Transpose", x, perm=[0, *(int(n) + 1 for n in rng.permutation(rank - 1))])
    if kind == 1:
        return net.node("Reshape", x, np.array([1, -1, shape[-1]]))
    if kind == 2:
        axis = int(rng.integers(1, rank))
        step = int(rng.choice([1, 1, 2, 2, 3, -1]))
        first, last = (-1, -(1 << 40)) if step < 0 else (int(rng.integers(0, 2)), 1 << 40)
        return net.node("Slice", x, np.array([first]), np.array([last]), np.array([axis]),
                        np.array([step]))
    if kind == 3:
        return net.node("Split", x, axis=1, num_outputs=2, outputs=2)
    if kind == 4:
        others = [name for name in net.values if net.values[name].ndim == rank
                  and net.values[name].shape[2:] == tuple(shape[1:]) and len(net.values[name]) == 1
                  and name not in net.fixed() and net.values[name].dtype == np.float32]
        return net.node("Concat", x, others[int(rng.integers(len(others)))], axis=1)
    if kind == 5:
        pads = rng.integers(0, 2, 2 * rank) * (np.arange(2 * rank) % rank > 1)
        return net.node("Pad", x, pads, mode=str(rng.choice(["constant", "edge", "reflect"])))
    if kind == 6:
        mode, block = str(rng.choice(["DepthToSpace", "SpaceToDepth"])), 2
        return net.node(mode, x, blocksize=block)
    if kind == 7:
        scales = np.float32([1, 1, *[float(rng.choice([2, 0.5, 1.5]))] * (rank - 2)])
        mode = str(rng.choice(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
        return net.node("Resize", x, "", scales, mode=str(rng.choice(["nearest", "linear"])),
                        coordinate_transformation_mode=mode)
    return net.node("Gather", x, rng.integers(0, shape[0], 3), axis=1)


def _norm(net, x, shape):
    ones = np.ones(shape[0], np.float32)
    kind = int(net.rng.integers(4))
    if kind == 0:
        return net.node("BatchNormalization", x, ones * 1.5, ones / 4, ones / 8, ones * 2)
    if kind == 1:
        return net.node("InstanceNormalization", x, ones, ones)
    if kind == 2:
        return net.node("LayerNormalization", x, np.ones(shape[-1], np.float32))
    return net.node("LRN", x, size=3)


def _choice(net, x, shape):
    above = net.node("Greater", x, np.float32(0.1))
    return above and net.node("Where", above, np.float32(1), np.float32(-1))


def _function(net, x, shape):
    return net.node(str(net.rng.choice(_FUNCTIONS)), x)


def _clip(net, x, shape):
    return net.node("Clip", x, np.float32(-0.5), np.float32(net.rng.choice([0.5, 6])))


_DRAWN = [_conv] * 6 + [_dense] * 2 + [_two] * 3 + [_moves] * 4 + [_function] * 3 + [
    _transposed, _with_constant, _with_constant, _pool, _pool, _reduce, _reduce, _norm, _choice,
    _clip, _addends, _gate, _tokens]


def _head(net, x):
    """What prepares the input for the first quantizer, if anything."""
    kind = int(net.rng.choice(5, p=[0.76, 0.1, 0.05, 0.05, 0.04]))
    sizes = (net.shape[0], *[1] * (len(net.shape) - 1))
    if kind == 1:
        return net.node("Mul", x, np.float32(0.5))
    if kind == 2:
        return net.node("Div", net.node("Sub", x, np.float32(net.rng.uniform(0, 1, sizes))),
                        np.float32(net.rng.uniform(0.5, 2, sizes)))
    if kind == 3:
        return net.node("Clip", x, np.float32(-1), np.float32(1))
    return x if kind == 0 or len(net.shape) < 3 else _turned(net, x)


def _turned(net, x):
    """The input's axes turned, as in a network whose channels come last."""
    x = net.node("Transpose", x, perm=[0, 3, 1, 2])
    net.shape = net.values[x].shape[1:]
    return x


def _tail(net):
    """What the host computes after the last layer."""
    x = net.draw()
    shape = net.values[x].shape[1:]
    operator = str(net.rng.choice(["Softmax", "TopK", "LayerNormalization", "ArgMax", "Exp",
                                   "Softmax"]))
    if operator == "TopK":
        net.node(operator, x, np.array([min(2, shape[-1])]), outputs=2)
    elif operator == "LayerNormalization":
        net.node(operator, x, np.ones(shape[-1], np.float32))
    elif operator == "ArgMax":
        net.node(operator, x, axis=len(shape))
    else:
        net.node(operator, x)


def drawn(seed):
    """A random network as an `onnx.ModelProto`."""
    net = Drawn(seed)
    given = net.shape
    net.conv_of_input(_head(net, "x"))
    often = float(net.rng.choice([0.5, 0.8, 0.95, 1.0]))
    for _ in range(int(net.rng.integers(2, 12))):
        x = net.draw()
        operator = _DRAWN[int(net.rng.integers(len(_DRAWN)))]
        shape = net.values[x].shape[1:]
        before = len(net.nodes)
        try:
            y = operator(net, x, shape)
        except (ValueError, IndexError, TypeError, KeyError):
            y = None
        if y is None:
            del net.nodes[before:]
        elif net.rng.random() < often:
            net.qdq(y)
    if net.rng.random() < 0.25:
        _tail(net)
    net.shape = given
    return net.model()


_core_verilog = lru_cache(len(CHIPS))(core_verilog.__wrapped__)


def tried(seed, keep=None):
    """What came of a network on all chips: plain data."""
    # What a chip's Verilog is, does not depend on the network.
    build_module.core_verilog, build_module.board_verilog = _core_verilog, lambda arch, core: ""
    model, start, faults, noise, maps = drawn(seed), time.monotonic(), [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"drawn{seed}.onnx"
        onnx.save(model, path)
        if keep is not None:
            onnx.save(model, Path(keep) / path.name)
        for number, (name, changes) in enumerate(CHIPS):
            found = _tried(path, load_chip(name, changes), Path(folder) / "out", seed, noise)
            if found == "maps":
                maps.append(number)
            elif found != "refused":
                faults.append(f"chip {number} ({name}): {found}")
    return {"key": str(seed), "error": None, "maps": maps, "faults": faults,
            "decibels": round(min(noise, default=99), 1),
            "operators": sorted({node.op_type for node in model.graph.node}),
            "seconds": round(time.monotonic() - start, 2)}


def _tried(path, arch, folder, seed, noise):
    """"maps", "refused", or what is wrong; `noise` gets the decibels of what is computed."""
    try:
        try:
            says = check(path, arch).maps
        except UserError:
            says = False
        try:
            made = build(path, arch, folder, area=False)
        except UserError as error:
            return f"check says it maps, build: {error}" if says else "refused"
        if not says:
            return f"builds, and check says: {check(path, arch).problems[:1]}"
        return _run(made, path, seed, noise)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (f"{type(error).__name__}: {str(error)[:200]} (at {Path(place.filename).name}:"
                f"{place.lineno})")


def _run(made, path, seed, noise):
    shape = tuple(made.graph.input_shapes["x"])
    images = np.float32(np.random.default_rng(seed).standard_normal((_IMAGES, *shape)))
    run = simulate(made, images, "isa")
    if run.comparison.bits:
        return f"the simulator differs from the golden model: {run.comparison.first}"
    model = onnx.load(path)
    names = [item.name for item in model.graph.output]
    found = run.outputs if isinstance(run.outputs, dict) else {names[0]: run.outputs}
    wanted = [_reference(model, names, image[None]) for image in images]
    for name in names:
        theirs = [item[name] for item in wanted]
        if any(np.asarray(mine).size != item.size
               for mine, item in zip(found[name], theirs, strict=True)):
            return f"output {name} has {found[name][0].size} numbers, not {theirs[0].size}"
        if theirs[0].dtype.kind != "f":
            continue                            # places of the largest: ties decide
        theirs, ours = (np.concatenate([np.asarray(item, np.float64).ravel() for item in items])
                        for items in (theirs, found[name]))
        lost, there = ((ours - theirs) ** 2).sum(), (theirs ** 2).sum() + 1e-6 * theirs.size
        noise.append(10 * np.log10(there / max(lost, there * 10 ** -9.9)))
        if noise[-1] < _LEAST:
            return f"output {name} is off: {noise[-1]:.1f} dB"
    return "maps"


def _reference(model, names, image):
    """{name: array} by ONNX Runtime as the nodes say, without its optimizer."""
    if any(node.op_type in FOREIGN for node in model.graph.node):
        return Evaluator(list(model.opset_import)).walk(model, {"x": image}, names)
    return dict(zip(names, session(model, optimized=False, threads=1).run(names, {"x": image}),
                    strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, help="file of a line a seed, gone on with")
    parser.add_argument("--keep", metavar="FOLDER", help="write the networks there")
    options = parser.parse_args()
    known = {}
    if options.results and options.results.exists():
        lines = map(json.loads, options.results.read_text().splitlines())
        known = {line["key"]: line for line in lines}
    seeds = range(options.first, options.first + options.count)
    waiting = [seed for seed in seeds if str(seed) not in known]
    for result in in_processes(partial(tried, keep=options.keep), waiting, options.jobs):
        known[result["key"]] = result
        for fault in result["faults"]:
            print(f"seed {result['key']}, {fault}", flush=True)
        if options.results:
            with options.results.open("a") as file:
                file.write(json.dumps(result) + "\n")
    results = [known[str(seed)] for seed in seeds]
    faulty = [result for result in results if result["faults"]]
    far = [f"{item['key']} ({item['decibels']} dB)" for item in results
           if item["maps"] and item["decibels"] < _FAR]
    operators = Counter(name for result in results for name in result["operators"])
    print(f"{len(results)} networks of {len(operators)} operators on {len(CHIPS)} chips: "
          f"{sum(len(result['maps']) for result in results)} builds, {len(faulty)} networks with "
          f"faults, {sum(result['seconds'] for result in results):.0f} s")
    print(f"{sum(bool(result['maps']) for result in results)} networks build on some chip; outputs "
          f"below {_FAR} dB: {', '.join(far) or 'none'}")
    raise SystemExit(bool(faulty))


if __name__ == "__main__":
    main()

"""Random networks of all operators in all orders: `check` and `build` agree on every chip, nothing
ends in a fault of Systolith, and what builds computes what ONNX Runtime does.

    python bench/agreement.py --count 500 --jobs 2 --results agreement.jsonl
    python bench/agreement.py --first 17 --count 1 --keep .        repeats one and keeps its file

Each seed is one network, tried on all `CHIPS`. Results are kept line by line: seeds that the file
has are not tried again. What counts as a fault: any error but a message for the user, a verdict of
`check` that `build` does not share, results of the instruction-level simulator that are not the
golden model's, and outputs that have little in common with ONNX Runtime's (below 10 dB; exact ties
cost far less).
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
from systolith.gen import build as build_module
from systolith.gen.build import build
from systolith.gen.check import check
from systolith.gen.config import load_chip
from systolith.gen.errors import UserError
from systolith.gen.onnx_run import Evaluator, Runner
from systolith.gen.resume import in_processes
from systolith.gen.simulate import simulate

_ROOMY = ["buffers.operands=2048", "buffers.tables=2048", "post.leaky=true",
          "array.largest_k=32768"]
#: Presets and keys: plain, with all units, small and odd, float, binary, large.
CHIPS = [("sim-16x16-int8", []), ("sim-16x16-int8", _ROOMY),
         ("ulx3s-8x8", ["array.rows=5", "array.columns=6", "post.lanes=1", "buffers.operands=64",
                        "buffers.activations=96", "array.largest_k=32768"]),
         ("ulx3s-8x8-e3m2", []), ("ulx3s-bnn", []), ("big-32x32-int8", _ROOMY)]
_OPSET = 18


class Drawn:
    """A random network: values by name, each with its array for one image of random numbers."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.opsets = [], [], [helper.make_opsetid("", _OPSET)]
        self.evaluator = Evaluator(self.opsets)
        self.kind = self.rng.choice(["int8", "uint8", "int8", "mixed"])
        side = int(self.rng.choice([6, 8, 9, 12]))
        self.shape = (int(self.rng.integers(1, 5)), side, side + int(self.rng.integers(0, 3)))
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
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        results = [f"t{len(self.nodes)}_{n}" for n in range(outputs)]
        node = helper.make_node(operator, names, results, f"{operator}_{len(self.nodes)}",
                                **attributes)
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
        kind = self.rng.choice(["int8", "uint8"]) if self.kind == "mixed" else self.kind
        low, high = min(0.0, self.values[x].min()), max(1e-3, self.values[x].max())
        scale = np.float32((high - low) / 200)
        least = -128 if kind == "int8" else 0
        zero = np.dtype(str(kind)).type(np.clip(round(least - low / scale), least, least + 255))
        if self.rng.random() < 0.3:
            scale, zero = np.float32(max(high, -low) / 120), np.dtype(str(kind)).type(least + 128)
        numbers = self.constant(scale), self.constant(zero)
        name = self.node("DequantizeLinear", self.node("QuantizeLinear", x, *numbers), *numbers)
        self.quantized.add(name)
        return name

    def weights(self, *shape, axis=0):
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        scale = np.float32(1 / 127 / np.sqrt(max(1, codes[0].size)))
        if self.rng.random() < 0.3:
            scale = np.float32(scale * self.rng.uniform(0.5, 2, shape[axis]))
            return self.node("DequantizeLinear", codes, scale,
                             np.zeros(shape[axis], np.int8), axis=axis)
        return self.node("DequantizeLinear", codes, scale, np.int8(0))

    def conv_of_input(self, x):
        """A first layer."""
        self.qdq(_conv(self, self.qdq(x), self.shape))

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
        graph = helper.make_graph(
            self.nodes, "drawn",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_empty_tensor_value_info(name) for name in ends[-3:]], self.constants)
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
    operator = str(net.rng.choice(["Add", "Sub", "Mul", "Max", "Min", "Add", "Add"]))
    others = [name for name in net.values if net.values[name].shape == (1, *shape)
              and name not in net.fixed()]
    return net.node(operator, x, others[int(net.rng.integers(len(others)))])


def _with_constant(net, x, shape):
    operator = str(net.rng.choice(["Add", "Sub", "Mul", "Div", "PRelu", "Max", "Pow"]))
    sizes = (shape[0], *[1] * (len(shape) - 1)) if net.rng.random() < 0.5 else ()
    numbers = np.float32(net.rng.uniform(0.2, 2, sizes))
    return net.node(operator, x, np.float32(2) if operator == "Pow" else numbers)


def _pool(net, x, shape):
    operator = str(net.rng.choice(["MaxPool", "AveragePool", "LpPool"]))
    return net.node(operator, x, kernel_shape=[int(net.rng.integers(1, 4)) for _ in shape[1:]],
                    strides=[int(net.rng.integers(1, 3)) for _ in shape[1:]],
                    ceil_mode=int(net.rng.random() < 0.2))


def _reduce(net, x, shape):
    operator = str(net.rng.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2",
                                   "ArgMax", "TopK"]))
    axis = int(net.rng.integers(1, len(shape) + 1))
    keep = int(net.rng.random() < 0.7)
    if operator == "ArgMax":
        return net.node(operator, x, axis=axis, keepdims=keep)
    if operator == "TopK":
        return net.node(operator, x, np.array([1]), axis=axis, outputs=2)
    return net.node(operator, x, np.array([axis]), keepdims=keep)


def _moves(net, x, shape):
    rank, rng = len(shape) + 1, net.rng
    kind = int(rng.integers(9))
    if kind == 0:
        return net.node("Transpose", x, perm=[0, *(int(n) + 1 for n in rng.permutation(rank - 1))])
    if kind == 1:
        return net.node("Reshape", x, np.array([1, -1, shape[-1]]))
    if kind == 2:
        axis = int(rng.integers(1, rank))
        return net.node("Slice", x, np.array([int(rng.integers(0, 2))]), np.array([1 << 40]),
                        np.array([axis]), np.array([int(rng.choice([1, 1, 2]))]))
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
        return net.node("Resize", x, "", scales, mode=str(rng.choice(["nearest", "linear"])))
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


_DRAWN = [_conv] * 6 + [_dense] * 2 + [_two] * 2 + [_moves] * 3 + [_function] * 3 + [
    _transposed, _with_constant, _with_constant, _pool, _pool, _reduce, _norm, _choice, _clip]


def drawn(seed):
    """A random network as an `onnx.ModelProto`."""
    net = Drawn(seed)
    x = "x"
    if net.rng.random() < 0.2:
        x = net.node("Mul", x, np.float32(0.5)) or x
    net.conv_of_input(x)
    often = float(net.rng.choice([0.5, 0.8, 0.95, 1.0]))
    for _ in range(int(net.rng.integers(2, 12))):
        x = net.draw()
        operator = _DRAWN[int(net.rng.integers(len(_DRAWN)))]
        shape = net.values[x].shape[1:]
        before = len(net.nodes)
        try:
            y = operator(net, x, shape)
        except (ValueError, IndexError, TypeError):
            y = None
        if y is None:
            del net.nodes[before:]
        elif net.rng.random() < often:
            net.qdq(y)
    return net.model()


def tried(seed, keep=None):
    """What came of a network on all chips: plain data."""
    build_module.core_verilog = lru_cache(_plain(build_module.core_verilog))
    build_module.board_verilog = lambda arch, core: ""
    model, start, faults, maps = drawn(seed), time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"drawn{seed}.onnx"
        onnx.save(model, path)
        if keep is not None:
            onnx.save(model, Path(keep) / path.name)
        for number, (name, changes) in enumerate(CHIPS):
            found = _tried(path, load_chip(name, changes), Path(folder) / "out", seed)
            maps += found == "maps"
            if found not in ("maps", "refused"):
                faults.append(f"chip {number} ({name}): {found}")
    return {"key": str(seed), "error": None, "maps": maps, "faults": faults,
            "operators": sorted({node.op_type for node in model.graph.node}),
            "seconds": round(time.monotonic() - start, 2)}


def _plain(function):
    return getattr(function, "__wrapped__", function)


def _tried(path, arch, folder, seed):
    """"maps", "refused", or what is wrong."""
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
        return _run(made, path, seed)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (f"{type(error).__name__}: {str(error)[:200]} (at {Path(place.filename).name}:"
                f"{place.lineno})")


def _run(made, path, seed):
    shape = tuple(made.graph.input_shapes["x"])
    images = np.float32(np.random.default_rng(seed).standard_normal((2, *shape)))
    run = simulate(made, images, "isa")
    if run.comparison.bits:
        return f"the simulator differs from the golden model: {run.comparison.first}"
    model = onnx.load(path)
    names = [item.name for item in model.graph.output]
    found = run.outputs if isinstance(run.outputs, dict) else {names[0]: run.outputs}
    runner = Runner(model, names)
    for n, image in enumerate(images):
        theirs = runner.run({"x": image[None]})
        for name in names:
            ours = np.asarray(found[name][n], np.float64).reshape(-1)
            other = np.asarray(theirs[name], np.float64).reshape(-1)
            if ours.shape != other.shape:
                return f"output {name} has {ours.size} numbers, not {other.size}"
            if theirs[name].dtype.kind != "f":
                continue                        # places of the largest: ties decide
            noise = ((ours - other) ** 2).sum()
            if noise > 0.1 * (other ** 2).sum() + 1e-6 * other.size:
                return f"output {name} is off: {noise:.3g} of {(other ** 2).sum():.3g}"
    return "maps"


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
    operators = Counter(name for result in results for name in result["operators"])
    print(f"{len(results)} networks of {len(operators)} operators on {len(CHIPS)} chips: "
          f"{sum(result['maps'] for result in results)} builds, {len(faulty)} networks with "
          f"faults, {sum(result['seconds'] for result in results):.0f} s")
    raise SystemExit(bool(faulty))


if __name__ == "__main__":
    main()

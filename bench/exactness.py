"""How many codes differ from those of exact arithmetic, and how near a tie these are.

    python bench/exactness.py --networks 40
    python bench/exactness.py --kinds downsample repvgg

Random small networks of each kind, of integers of 2 to 8 bits (weights of 1 to 8), with scales,
biases and factors that are any float32. They are computed by the golden model, and by integers and
fractions without any rounding but that of the network's own quantizers. Every quantizer is judged
by itself: it is given the golden model's codes of the quantizers before it. Of a code that differs
the exact number lies next to a tie; how far from it, in steps of the quantizer, is the last column.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.study.runtime.rationals import Exact, compute, walk

__all__ = ["KINDS", "Net", "compared", "measured"]

_QONNX = "qonnx.custom_op.general"
_CHANNELS, _SIDE, _IMAGES = 5, 7, 6


class Net:
    """Collects the nodes of a network, and computes each at once: `values` {name: Exact}."""

    def __init__(self, seed):
        self.rng, self.nodes, self.quantizers = np.random.default_rng(seed), [], []
        self.values, self.arrays = {}, {}           # Exact, and constants
        shape = _IMAGES, _CHANNELS, _SIDE, _SIDE
        self.images = np.float32(self.rng.standard_normal(shape))
        self.values["x"] = Exact.of(self.images)

    def node(self, operator, *inputs, **attributes):
        name, names = f"{operator.lower()}{len(self.nodes)}", []
        for item in inputs:
            if not isinstance(item, str):
                constant = f"c{len(self.arrays)}"
                self.arrays[constant], self.values[constant] = item, Exact.of(item)
                item = constant
            names.append(item)
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        self.values[name] = compute(self.nodes[-1], [self.values[item] for item in names],
                                    [self.arrays.get(item) for item in names])
        return name

    # What networks are made of.

    def quant(self, x, bits=None, keep=True):
        """A quantizer whose range is about that of `x`, unsigned where no number is below 0; with a
        zero point at times. `keep`: its codes are compared."""
        numbers, rng = self.values[x].floats(), self.rng
        bits = int(rng.integers(2, 9)) if bits is None else bits
        signed = int(numbers.min() < 0)
        steps = ((1 << bits) - 1) / (1 + signed)
        scale = np.abs(numbers).max() / steps * rng.uniform(0.7, 1.1)
        zero = int(rng.choice([0, 0, 1, -1])) if bits > 3 and signed else 0
        name = self.node("Quant", x, np.float32(scale), np.float32(zero), np.float32(bits),
                         domain=_QONNX, signed=signed, narrow=0, rounding_mode="ROUND")
        self.quantizers += [name] * keep
        return name

    def weights(self, outputs, inputs, kernel):
        """Quantized weights of 1 to 8 bits."""
        numbers = np.float32(self.rng.standard_normal((outputs, inputs, kernel, kernel)))
        bits = int(self.rng.integers(1, 9))
        top = max(1, (1 << bits - 1) - 1)
        scale = np.float32(np.abs(numbers).max() / top)
        # Numbers that are codes: what float32 makes of a tie is not asked here.
        numbers = np.clip(np.rint(numbers / scale), -top, top) * scale
        if bits == 1:
            return self.node("BipolarQuant", numbers, np.float32(scale / 2), domain=_QONNX)
        return self.node("Quant", numbers, scale, np.float32(0), np.float32(bits), domain=_QONNX,
                         signed=1, narrow=1, rounding_mode="ROUND")

    def conv(self, x, outputs=_CHANNELS, kernel=3, stride=1, bias=True):
        inputs = self.values[x].numbers.shape[1]
        numbers = np.float32(self.rng.standard_normal(outputs))
        return self.node("Conv", x, self.weights(outputs, inputs, kernel), *[numbers] * bias,
                         pads=[kernel // 2] * 4, strides=[stride] * 2, group=1)

    def relu(self, x):
        return self.node("Relu", x) if self.rng.random() < 0.7 else x

    def model(self):
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.images.shape[1:]])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT,
                                           ["N", *self.values[name].numbers.shape[1:]])
             for name in self.quantizers],
            [numpy_helper.from_array(*reversed(item)) for item in self.arrays.items()])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_QONNX, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


# Kinds of networks: functions that add to a Net what stands after its first quantizer `x`.

def plain(net, x):
    net.quant(net.relu(net.conv(x, kernel=int(net.rng.choice([1, 3])))))


def residual(net, x):
    y = net.quant(net.conv(x))
    net.quant(net.relu(net.node("Add", y, x)))


def downsample(net, x):
    y = net.quant(net.relu(net.conv(x, stride=2)))
    net.quant(net.relu(net.node("Add", net.conv(y), net.conv(x, kernel=1, stride=2))))


def repvgg(net, x):
    factors, added = (np.float32(net.rng.standard_normal((_CHANNELS, 1, 1))) for _ in range(2))
    y = net.node("Add", net.node("Mul", x, factors), added)
    y = net.node("Add", net.node("Add", net.conv(x), net.conv(x, kernel=1)), y)
    net.quant(net.relu(y))


def concat(net, x):
    parts = [net.quant(net.conv(x, int(net.rng.integers(1, 5)), 1)) for _ in range(2)]
    y = net.node("Concat", *parts, axis=1)
    net.quant(net.conv(y) if net.rng.random() < 0.5 else y)


def means(net, x):
    if net.rng.random() < 0.5:
        net.quant(net.node("GlobalAveragePool", x))
        return
    kernel = net.rng.integers(1, 4, 2).tolist()
    net.quant(net.node("AveragePool", x, kernel_shape=kernel,
                       strides=net.rng.integers(1, 3, 2).tolist()))


KINDS = {"plain": plain, "residual": residual, "downsample": downsample, "repvgg": repvgg,
         "concat": concat, "means": means}


def compared(net, model, changed=lambda graph: graph):
    """[(how many steps each code is off, how far the exact number is from a tie)] of the quantizers
    of a network; None where it is refused. `changed`: what is computed instead of it, or None."""
    try:
        graph = changed(load(model))
    except UserError:
        return None
    if graph is None:
        return None
    found = graph.decode_outputs(graph.run(graph.encode_inputs(net.images)))
    found = found if isinstance(found, dict) else {net.quantizers[0]: found}
    off = {}

    def replaced(node, right):
        """The golden model's codes."""
        name = node.output[0]
        if name not in net.quantizers:
            return right
        scale, zero = (net.arrays[item] for item in node.input[1:3])
        mine = np.int64(np.rint(found[name] / np.float64(scale))).astype(object) + int(zero)
        off[name] = np.int64(abs(mine - right))
        return mine
    _, distances = walk(model, {"x": net.images}, replaced)
    return [(item, distances[name]) for name, item in off.items()]


def measured(kind, count, first=0):
    """A row of the table: `count` networks of a kind, of seeds from `first` on."""
    row = {"kind": kind, "networks": 0, "refused": 0, "codes": 0, "differ": 0, "share": 0.0,
           "steps": 0, "farthest": 0.0}
    for seed in range(first, first + count):
        net = Net([list(KINDS).index(kind), seed])
        KINDS[kind](net, net.quant("x", keep=False))
        pairs = compared(net, net.model())
        row["refused" if pairs is None else "networks"] += 1
        for off, distance in pairs or ():
            row["codes"] += off.size
            row["differ"] += int((off > 0).sum())
            row["steps"] = max(row["steps"], int(off.max()))
            row["farthest"] = max(row["farthest"], float(distance[off > 0].max(initial=0)))
    row["share"] = row["differ"] / max(1, row["codes"])
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=40, help="of each kind")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    rows = [measured(kind, options.networks, options.first) for kind in options.kinds]
    print("| networks | refused | codes | differ | share | steps | farthest from a tie, steps |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['networks']} {row['kind']} | {row['refused']} | {row['codes']:,} | "
              f"{row['differ']:,} | {row['share']:.3%} | {row['steps']} | {row['farthest']:.1e} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    sys.exit(any(row["share"] > 0.001 or row["steps"] > 1 for row in rows))


if __name__ == "__main__":
    main()

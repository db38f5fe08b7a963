"""Train the residual float network and write its ONNX file next to this script.

`digits-resnet-float.onnx` is a ResNet-8: a first convolution and three blocks of two, with 1x1
convolutions where shapes change, for `systolith quantize` and the study of number formats. Batch
norms are part of the convolutions in the file. Needs the extra `train`: pip install .[train].
About 4 minutes of one core; `--epochs` shortens it.
"""

import torch
from export import Builder
from torch import nn
from torch.nn import functional
from train import command

#: Channels of the blocks; where they change, pixels are halved.
WIDTHS = (16, 16, 32, 32)


class _Conv(nn.Module):
    """A convolution and its batch norm."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2,
                              bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.norm(self.conv(x))

    def folded(self):
        """(weight, bias) of the convolution that computes both; float32 arrays."""
        norm = self.norm
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return ((self.conv.weight * factor[:, None, None, None]).detach().numpy(),
                (norm.bias - norm.running_mean * factor).detach().numpy())


class _Block(nn.Module):
    """x [n, inputs, h, w] to [n, outputs, h, w], or half of h and w."""

    def __init__(self, inputs, outputs):
        super().__init__()
        stride = 1 + (inputs != outputs)
        self.first = _Conv(inputs, outputs, 3, stride)
        self.second = _Conv(outputs, outputs, 3)
        self.shortcut = _Conv(inputs, outputs, 1, stride) if stride > 1 else None

    def forward(self, x):
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """[n, 1, 28, 28] in 0..1 to [n, 10]."""

    def __init__(self):
        super().__init__()
        self.first = _Conv(1, WIDTHS[0], 3, 2)
        self.blocks = nn.ModuleList(map(_Block, WIDTHS, WIDTHS[1:]))
        self.dense = nn.Linear(WIDTHS[-1], 10)

    def forward(self, x):
        x = functional.relu(self.first(x))
        for block in self.blocks:
            x = block(x)
        return self.dense(x.mean((2, 3)))


class _Writer(Builder):
    """A `Builder` with the parts of this network."""

    def conv(self, name, layer):
        weight, bias = layer.folded()
        kernel = weight.shape[2:]
        self.node("Conv", name, self.constant(f"{name}_weight", weight),
                  self.constant(f"{name}_bias", bias), kernel_shape=kernel,
                  pads=[size // 2 for size in kernel] * 2, strides=layer.conv.stride)
        return self.tensor


def export(network, path):
    """Write a `ResNet` in evaluation mode."""
    out = _Writer(["N", 1, 28, 28])
    out.conv("first", network.first)
    out.node("Relu", "first_relu")
    for number, block in enumerate(network.blocks, 1):
        name, shortcut = f"block{number}", out.tensor
        if block.shortcut is not None:
            shortcut = out.conv(f"{name}_shortcut", block.shortcut)
            out.tensor = out.nodes[-1].input[0]
        out.conv(f"{name}_first", block.first)
        out.node("Relu", f"{name}_first_relu")
        out.conv(f"{name}_second", block.second)
        out.node("Add", f"{name}_sum", shortcut)
        out.node("Relu", f"{name}_relu")
    out.node("GlobalAveragePool", "mean")
    out.node("Flatten", "flatten", axis=1)
    out.node("Gemm", "dense", *(out.constant(f"dense_{key}", value.detach().numpy()) for key, value
                                in network.dense.named_parameters()), transB=1)
    out.save(path)


if __name__ == "__main__":
    command(__doc__, ResNet, export, "digits-resnet-float.onnx", epochs=40, title="residual")

"""The networks in PyTorch, with quantizers that training sees (straight-through gradients)."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

__all__ = ["EXPONENT_BIAS", "EXPONENT_BITS", "LARGEST", "MANTISSA_BITS", "BinaryMlp", "Cnn", "Sign"]

#: e3m2, every code a finite number: the largest is 1.75 * 2**4.
EXPONENT_BITS, MANTISSA_BITS, EXPONENT_BIAS, LARGEST = 3, 2, 3, 28.0


class _FloatQuant(torch.autograd.Function):
    """Round x / scale to e3m2 (ties to even, saturating) and multiply by scale again."""

    @staticmethod
    def forward(context, x, scale):
        scaled = x / scale
        context.save_for_backward(scaled.abs() <= LARGEST)
        _, lead = torch.frexp(scaled)
        lead = lead.clamp(min=2 - EXPONENT_BIAS) - 1
        step = torch.ldexp(torch.ones_like(scaled), lead - MANTISSA_BITS)
        return (torch.round(scaled / step) * step).clamp(-LARGEST, LARGEST) * scale

    @staticmethod
    def backward(context, gradient):
        inside, = context.saved_tensors
        return gradient * inside, None


class Sign(torch.autograd.Function):
    """+1 where x >= 0, else -1; the gradient passes where |x| <= 1."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x.abs() <= 1)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(context, gradient):
        inside, = context.saved_tensors
        return gradient * inside


class Cnn(nn.Module):
    """Three 3x3 convolutions and a dense layer, for [n, 1, 28, 28] in 0..1.

    Computes in float until `start_quantizing` has chosen the activations' scales; then
    weights and activations are e3m2. A weight's scale takes its output channel's largest
    magnitude to the format's largest number; an activation's scale is a power of two.
    """

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1),
                                    nn.Conv2d(16, 16, 3, padding=1)])
        self.pooled = [True, True, False]
        self.dense = nn.Linear(16 * 7 * 7, 10)
        self.scales = None

    def start_quantizing(self, images):
        """Choose each activation's scale: the power of two under which 99.9 % fit."""
        self.scales, tops = None, []
        with torch.no_grad():
            for activation in self.activations(images):
                sample = activation[activation > 0]
                tops.append(sample.kthvalue(int(0.999 * len(sample)))[0])
        self.scales = [float(2 ** torch.ceil(torch.log2(top / LARGEST))) for top in tops]

    @staticmethod
    def weight_scale(weight):
        return weight.detach().abs().flatten(1).amax(1).clamp(min=1e-6) / LARGEST

    def quantized_weight(self, layer):
        weight = layer.weight
        scale = self.weight_scale(weight).reshape(-1, *[1] * (weight.dim() - 1))
        return _FloatQuant.apply(weight, scale) if self.scales else weight

    def activations(self, x):
        """What each layer reads, from the input to the dense layer."""
        def quantize(x, index):
            return _FloatQuant.apply(x, torch.tensor(self.scales[index])) if self.scales else x
        x = quantize(x, 0)
        yield x
        for index, (conv, pooled) in enumerate(zip(self.convs, self.pooled, strict=True)):
            x = functional.conv2d(x, self.quantized_weight(conv), conv.bias, padding=1)
            x = functional.relu(x)
            if pooled:
                x = functional.max_pool2d(x, 2)
            x = quantize(x, index + 1)
            yield x

    def forward(self, x):
        *_, last = self.activations(x)
        return functional.linear(last.flatten(1), self.quantized_weight(self.dense),
                                 self.dense.bias)


class BinaryMlp(nn.Module):
    """784-64-64-64-10 with binary weights and activations, for [n, 1, 28, 28] in 0..1.

    A pixel is +1 from 0.5 up. Every layer is a product, then batch norm; the sign of that is the
    next layer's input, and the last one's value is the result.
    """

    def __init__(self):
        super().__init__()
        widths = [784, 64, 64, 64, 10]
        self.linears = nn.ModuleList([nn.Linear(a, b, bias=False)
                                      for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for width in widths[1:]])
        for linear in self.linears:
            nn.init.uniform_(linear.weight, -1, 1)

    def forward(self, x):
        x = x.flatten(1) - 0.5
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = norm(functional.linear(Sign.apply(x), Sign.apply(linear.weight)))
        return x

    def clip(self):
        """Keep the weights behind the signs where their gradient lives."""
        with torch.no_grad():
            for linear in self.linears:
                linear.weight.clamp_(-1, 1)

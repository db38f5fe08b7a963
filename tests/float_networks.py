"""Float networks as people train them: batch norms, residual branches, every kind of layer."""

import numpy as np

from .onnx_networks import Network

__all__ = ["NETWORKS"]


def weights(net, *shape):
    return np.float32(net.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))


def numbers(net, count):
    return np.float32(net.rng.standard_normal(count))


def batch_norm(net, x, channels):
    rng = net.rng
    return net.node("BatchNormalization", x, np.float32(rng.uniform(0.5, 2, channels)),
                    numbers(net, channels), numbers(net, channels) / 4,
                    np.float32(rng.uniform(0.5, 2, channels)))


def conv(net, x, inputs, outputs, kernel=3, relu=True, norm=True, group=1, **attributes):
    x = net.node("Conv", x, weights(net, outputs, inputs // group, kernel, kernel),
                 pads=[kernel // 2] * 4, group=group, **attributes)
    x = batch_norm(net, x, outputs) if norm else x
    return net.node("Relu", x) if relu else x


def max_pool(net, x):
    return net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def residual(rng):
    """Pixels scaled by the host, residual branches with and without a convolution."""
    net = Network(rng, (3, 12, 12))
    x = net.node("Sub", "x", np.float32([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1))
    x = net.node("Div", x, np.float32([0.2, 0.3, 0.25]).reshape(1, 3, 1, 1))
    x = conv(net, x, 3, 8)
    y = conv(net, conv(net, x, 8, 8), 8, 8, relu=False)
    x = net.node("Relu", net.node("Add", y, x))
    y = conv(net, conv(net, x, 8, 16, strides=[2, 2]), 16, 16, relu=False)
    shortcut = conv(net, x, 8, 16, 1, relu=False, strides=[2, 2])
    x = net.node("Relu", net.node("Add", y, shortcut))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net, net.model(net.node("Gemm", x, weights(net, 10, 16), numbers(net, 10), transB=1))


def mobile(rng):
    """Depthwise layers, hard-swish taken apart, ReLU6, a mean, MatMul and Add."""
    net = Network(rng, (3, 12, 12))
    x = conv(net, conv(net, "x", 3, 8, strides=[2, 2]), 8, 8, group=8)
    gate = net.node("Clip", net.node("Add", x, np.float32(3)), np.float32(0), np.float32(6))
    x = net.node("Div", net.node("Mul", x, gate), np.float32(6))
    x = net.node("Clip", conv(net, x, 8, 16, 1, relu=False), np.float32(0), np.float32(6))
    x = net.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    return net, net.model(net.node("Add", net.node("MatMul", x, weights(net, 16, 5)),
                                   numbers(net, 5)))


def u_net(rng):
    """A transposed convolution, nearest upsampling, joined channels, a map as the result."""
    net = Network(rng, (2, 8, 8))
    top = conv(net, "x", 2, 4)
    low = conv(net, max_pool(net, top), 4, 8)
    up = net.node("ConvTranspose", low, weights(net, 8, 4, 2, 2), numbers(net, 4), strides=[2, 2])
    x = conv(net, net.node("Concat", up, top, axis=1), 8, 8)
    up = net.node("Resize", low, np.zeros(0, np.float32), np.float32([1, 1, 2, 2]), mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = conv(net, net.node("Concat", x, up, axis=1), 16, 2, 1, relu=False, norm=False)
    return net, net.model(x)


def squeeze_excite(rng):
    """Squeeze-and-excite, a split, a channel shuffle, an average as the result."""
    net = Network(rng, (3, 10, 10))
    x = conv(net, "x", 3, 8)
    gate = conv(net, net.node("GlobalAveragePool", x), 8, 4, 1, norm=False)
    gate = conv(net, gate, 4, 8, 1, relu=False, norm=False)
    gate = net.node("Add", net.node("Mul", gate, np.float32(1 / 6)), np.float32(0.5))
    x = net.node("Mul", x, net.node("Clip", gate, np.float32(0), np.float32(1)))
    net.node("Split", x, axis=1, outputs=2, name="halves")
    x = net.node("Concat", conv(net, "halves_out", 4, 4), "halves_out1", axis=1)
    x = net.node("Reshape", x, np.array([-1, 2, 4, 10, 10]))
    x = net.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = conv(net, net.node("Reshape", x, np.array([-1, 8, 10, 10])), 8, 8, relu=False)
    return net, net.model(net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))


def channels_last(rng):
    """As Keras exports: pixels with their channels behind, PRelu, maxima over windows that overlap
    and reach over the border, a Transpose and MatMul behind it."""
    net = Network(rng, (14, 12, 3))

    def bent(x, channels, map=True):
        return net.node("PRelu", x, np.float32(rng.uniform(-0.2, 0.3, (
            channels, *[1] * (2 * map)))))
    x = conv(net, net.node("Transpose", "x", perm=[0, 3, 1, 2]), 3, 6, relu=False, norm=False)
    x = net.node("MaxPool", bent(x, 6), kernel_shape=[3, 3], strides=[2, 2],
                 auto_pad="SAME_UPPER")
    x = bent(conv(net, x, 6, 5, relu=False, norm=False), 5)
    x = net.node("Flatten", net.node("Transpose", x, perm=[0, 2, 3, 1]))
    x = net.node("Add", net.node("MatMul", x, weights(net, 8, 210).T), numbers(net, 8))
    x = bent(x, 8, False)
    return net, net.model(net.node("Add", net.node("MatMul", x, weights(net, 4, 8).T),
                                   numbers(net, 4)))


def spelled_out(rng):
    """Hard-swish and SiLU of several operators, with a factor and a term behind."""
    net = Network(rng, (3, 8, 8))
    x = conv(net, "x", 3, 8, relu=False)
    gate = net.node("Clip", net.node("Add", x, np.float32(3)), np.float32(0), np.float32(6))
    x = net.node("Div", net.node("Mul", x, gate), np.float32(6))
    x = net.node("Add", net.node("Mul", np.float32([1.25]), x), np.float32([-0.25]))
    x = conv(net, x, 8, 8, group=8, relu=False)
    x = net.node("Mul", net.node("Sigmoid", x), x)
    x = net.node("GlobalAveragePool", conv(net, x, 8, 5))
    return net, net.model(net.node("Flatten", x))


def one_dimension(rng):
    """Rows of samples that the host transposes, 1-D convolutions, dense layers with factors."""
    net = Network(rng, (30, 3))
    x = net.node("Transpose", "x", perm=[0, 2, 1])
    x = net.node("Conv", x, weights(net, 8, 3, 5), strides=[2])
    x = net.node("Relu", batch_norm(net, x, 8))
    x = net.node("Relu", net.node("Conv", x, weights(net, 4, 8, 3), pads=[1, 1]))
    x = net.node("Gemm", net.node("Flatten", x), weights(net, 6, 52), numbers(net, 6), transB=1,
                 alpha=0.5, beta=2.0)
    x = net.node("Gemm", net.node("Relu", x), weights(net, 6, 3), numbers(net, 3))
    return net, net.model(x)


def pre_activation(rng):
    """Batch norms behind sums, where nothing takes them in."""
    net = Network(rng, (3, 8, 8))
    x = conv(net, "x", 3, 8, relu=False)
    y = conv(net, net.node("Relu", batch_norm(net, x, 8)), 8, 8, relu=False)
    x = net.node("Relu", batch_norm(net, net.node("Add", x, y), 8))
    x = net.node("Flatten", net.node("GlobalMaxPool", x))
    return net, net.model(net.node("Gemm", x, weights(net, 8, 4)))


NETWORKS = (residual, mobile, u_net, squeeze_excite, one_dimension, pre_activation,
            channels_last, spelled_out)

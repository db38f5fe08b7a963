"""Well-known networks as quantized ONNX files with random weights: their shapes, not their use.

`python bench/tiny_networks.py FOLDER` writes one file for each.
"""

from writer import Writer, write_all

__all__ = ["MACS", "NETWORKS", "ds_cnn", "mobilenet"]

#: Products of convolutions and dense layers; those of means not included.
MACS = {"mobilenet-v1-0.25": 7_489_664, "ds-cnn": 2_656_768}


def _separable(net, x, outputs, stride):
    x = net.conv(x, net.shapes[x][0], 3, stride, depthwise=True)
    return net.conv(x, outputs, 1)


#: (channels, stride) of the 13 separable convolutions of MobileNetV1 at a width of 1/4.
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2),
           (256, 1))


def mobilenet(size=96, blocks=_BLOCKS):
    """MobileNetV1 of a quarter width for two classes: MLPerf Tiny's person detection."""
    net = Writer("mobilenet-v1-0.25", (3, size, size))
    x = net.conv(net.input, 8, 3, 2)
    for outputs, stride in blocks:
        x = _separable(net, x, outputs, stride)
    return net, net.dense(net.average(x), 2)


def ds_cnn():
    """The depthwise separable network of MLPerf Tiny's keyword spotting."""
    net = Writer("ds-cnn", (1, 49, 10))
    x = net.conv(net.input, 64, (10, 4), 2)
    for _ in range(4):
        x = _separable(net, x, 64, 1)
    return net, net.dense(net.average(x), 12)


NETWORKS = {"mobilenet-v1-0.25": mobilenet, "ds-cnn": ds_cnn}


if __name__ == "__main__":
    write_all(NETWORKS)

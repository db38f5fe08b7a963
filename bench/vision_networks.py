"""Well-known larger networks as quantized ONNX files with random weights: their shapes, not their
use.

`python bench/vision_networks.py FOLDER` writes one file for each.
"""

from writer import Writer, write_all

__all__ = ["MACS", "NETWORKS", "autoencoder", "mobilenet_v2", "resnet18", "squeezenet", "unet"]

#: Products of convolutions and dense layers; those of means not included.
MACS = {"resnet-18": 1_814_073_344, "squeezenet-1.1": 349_151_936, "mobilenet-v2": 300_774_272,
        "mobilenet-v2-0.35-96": 11_934_128, "autoencoder": 264_192}


def resnet18(size=224, classes=1000, window=3):
    """ResNet-18; `window` is that of its maximum pooling."""
    net = Writer("resnet-18", (3, size, size))
    x = net.conv(net.input, 64, 7, 2, pads=3)
    x = net.max_pool(x, window, 2, pad=window // 3)
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = net.conv(x, channels, 3, stride, pads=1)
            y = net.conv(y, channels, 3, pads=1, relu=False, gain=0.4)
            if stride == 2:
                x = net.conv(x, channels, 1, 2, relu=False, gain=1)
            x = net.add(y, x)
    return net, net.dense(net.average(x), classes)


def squeezenet(size=224, classes=1000, window=3):
    """SqueezeNet 1.1: its maximum pooling has overlapping windows, its modules end in Concat."""
    net = Writer("squeezenet-1.1", (3, size, size))
    x = net.conv(net.input, 64, 3, 2, pads=0)
    for squeeze, expand, pooled in ((16, 64, True), (16, 64, False), (32, 128, True),
                                    (32, 128, False), (48, 192, True), (48, 192, False),
                                    (64, 256, False), (64, 256, False)):
        x = net.max_pool(x, window, 2, ceil=window == 3) if pooled else x
        x = net.conv(x, squeeze, 1)
        x = net.concat(net.conv(x, expand, 1), net.conv(x, expand, 3))
    return net, net.average(net.conv(x, classes, 1))


def _eighths(channels):
    """A multiple of 8 near a number of channels, at least nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * channels)


def mobilenet_v2(size=224, width=1.0, classes=1000):
    """MobileNetV2: expansion, depthwise, projection without ReLU, and a sum around them."""
    name = "mobilenet-v2" + (f"-{width:g}-{size}" if (size, width) != (224, 1.0) else "")
    net = Writer(name, (3, size, size))
    x = net.conv(net.input, _eighths(32 * width), 3, 2)
    for expansion, channels, blocks, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1)):
        channels = _eighths(channels * width)
        for block in range(blocks):
            inputs, y = net.shapes[x][0], x
            if expansion > 1:
                y = net.conv(y, inputs * expansion, 1)
            y = net.conv(y, inputs * expansion, 3, 1 if block else stride, depthwise=True)
            y = net.conv(y, channels, 1, relu=False, gain=0.4 if block else 1)
            x = net.add(x, y, relu=False) if block else y
    x = net.conv(x, max(1280, _eighths(1280 * width)), 1)
    return net, net.dense(net.average(x), classes)


def autoencoder(inputs=640):
    """The dense autoencoder of MLPerf Tiny's anomaly detection."""
    net = Writer("autoencoder", (inputs,))
    x = net.input
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = net.dense(x, outputs, relu=True)
    return net, net.dense(x, inputs)


def unet_into(net, channels, levels, classes, **last):
    """A U-Net in a `Writer` or `FloatWriter`: two convolutions at every level, transposed
    convolutions on the way up. `last`: of the last convolution. (net, name of the output)."""
    x, left = net.input, []
    for level in range(levels + 1):
        for _ in range(2):
            x = net.conv(x, channels << level, 3)
        if level < levels:
            left.append(x)
            x = net.max_pool(x, 2, 2)
    for level in reversed(range(levels)):
        x = net.concat(left[level], net.up(x, channels << level))
        for _ in range(2):
            x = net.conv(x, channels << level, 3)
    return net, net.conv(x, classes, 1, **last)


def unet(form="int8", size=64, channels=32, levels=3, classes=2):
    return unet_into(Writer(f"unet-{form}", (3, size, size), form), channels, levels, classes,
                     relu=False)


#: name: function() -> (Writer, name of the output)
NETWORKS = {
    "resnet-18": resnet18, "squeezenet-1.1": squeezenet, "mobilenet-v2": mobilenet_v2,
    "mobilenet-v2-0.35-96": lambda: mobilenet_v2(96, 0.35), "autoencoder": autoencoder,
    "unet-int6": lambda: unet("int6"), "unet-e3m2": lambda: unet("e3m2")}


if __name__ == "__main__":
    write_all(NETWORKS)

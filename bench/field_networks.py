"""Networks that people bring, through `systolith build`: cycles, how near float, the host's part.

Float ONNX networks with random weights, quantized to int8 with random images by `systolith build
--calibration`. The chip is 16 x 16 int8 with 494,592 bytes of buffers and tables; weights, program
and image come from memory over a bus of 64 bits that answers after 32 cycles. *dB* is the signal to
noise ratio, against the float network, of what the chip gives the host, for the worst output;
*ONNX Runtime dB* that of ONNX Runtime with the same quantized network. Every result of every layer
of the instruction-level simulator is held against the golden model for an image (`--check 0`: not).
*host*: the operators that the host computes after the chip.

`--small 1` takes the small sizes at which `make test` builds them.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
from common import arguments, buffer_bytes, built, report, reported
from detectors import yolov8n, yolox_nano
from float_writer import FloatWriter
from large_networks import Clock, check, chip
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.quantize.recipe import Recipe
from vision_networks import unet_into

__all__ = ["NETWORKS", "SMALL", "arch_for"]


def _separable(net, x, outputs, stride):
    x = net.conv(x, net.shapes[x][0], 3, stride, depthwise=True)
    return net.conv(x, outputs, 1)


def ds_cnn():
    net = FloatWriter("ds-cnn", (1, 49, 10))
    x = net.conv(net.input, 64, (10, 4), 2)
    for _ in range(4):
        x = _separable(net, x, 64, 1)
    return net, net.node("Softmax", [net.dense(net.average(x), 12)], (12,), axis=1)


def mobilenet_v1(size=96):
    net = FloatWriter("mobilenet-v1-0.25", (3, size, size))
    x = net.conv(net.input, 8, 3, 2)
    for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5,
                            (256, 2), (256, 1)):
        x = _separable(net, x, outputs, stride)
    return net, net.node("Softmax", [net.dense(net.average(x), 2)], (2,), axis=1)


def resnet8(size=32):
    net = FloatWriter("resnet-8", (3, size, size))
    x = net.conv(net.input, 16, 3)
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.conv(net.conv(x, outputs, 3, stride), outputs, 3, function=None)
        if stride > 1:
            x = net.conv(x, outputs, 1, stride, function=None)
        x = net.function(net.add(x, y), "relu")
    return net, net.node("Softmax", [net.dense(net.average(x), 10)], (10,), axis=1)


def autoencoder(inputs=640):
    net = FloatWriter("autoencoder", (inputs,))
    x = net.input
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = net.dense(x, outputs, "relu")
    return net, net.dense(x, inputs)


def resnet50(size=64, classes=1000, width=64):
    """ResNet-50; the channels of its first layer are `width`."""
    net = FloatWriter("resnet-50", (3, size, size))
    x = net.max_pool(net.conv(net.input, width, 7, 2), 3, 2)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        channels = width << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.conv(net.conv(x, channels, 1), channels, 3, stride)
            y = net.conv(y, 4 * channels, 1, function=None, gain=0.5)
            if not block:
                x = net.conv(x, 4 * channels, 1, stride, function=None)
            x = net.function(net.add(y, x), "relu")
    return net, net.dense(net.average(x), classes)


def efficientnet_lite0(size=224, classes=1000, width=1.0):
    """EfficientNet-Lite0; `width`: a factor of all channels."""
    net = FloatWriter("efficientnet-lite0", (3, size, size))
    x = net.conv(net.input, int(32 * width), 3, 2, "relu6")
    for expansion, channels, blocks, stride, kernel in (
            (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
            (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)):
        channels = int(channels * width)
        for block in range(blocks):
            inputs, y = net.shapes[x][0], x
            if expansion > 1:
                y = net.conv(y, inputs * expansion, 1, function="relu6")
            y = net.conv(y, inputs * expansion, kernel, 1 if block else stride, "relu6",
                         depthwise=True)
            y = net.conv(y, channels, 1, function=None, gain=0.4 if block else 1)
            x = net.add(y, x) if block else y
    x = net.conv(x, int(1280 * width), 1, function="relu6")
    return net, net.dense(net.average(x), classes)


def unet(size=64, channels=32, levels=3, classes=2):
    return unet_into(FloatWriter("unet", (3, size, size)), channels, levels, classes,
                     function=None)


#: name: function() -> (FloatWriter, name of the output)
NETWORKS = {
    "MLPerf Tiny: ResNet-8, 32x32": resnet8, "MLPerf Tiny: DS-CNN": ds_cnn,
    "MLPerf Tiny: MobileNetV1-0.25, 96x96": mobilenet_v1, "MLPerf Tiny: autoencoder": autoencoder,
    "ResNet-50, 64x64": resnet50, "EfficientNet-Lite0, 224x224": efficientnet_lite0,
    "U-Net, 64x64": unet, "YOLOv8n, 320x320": yolov8n, "YOLOX-nano, 416x416": yolox_nano}
#: The same at sizes that build in a moment.
SMALL = {
    "resnet-8": lambda: resnet8(16), "ds-cnn": ds_cnn, "mobilenet-v1": lambda: mobilenet_v1(32),
    "autoencoder": lambda: autoencoder(64), "resnet-50": lambda: resnet50(32, 10, 8),
    "efficientnet-lite0": lambda: efficientnet_lite0(32, 10, 0.25), "unet": lambda: unet(16, 8),
    "yolov8n": lambda: yolov8n(64, 8), "yolox-nano": lambda: yolox_nano(64, 8)}


def arch_for():
    """The chip of the table."""
    return replace(chip(16, "int8"), table_depth=512, largest_k=8192)


def images(net, count, seed=3):
    return np.float32(np.random.default_rng(seed).normal(0, 1, (count, *net.shapes["image"])))


def measure(name, make, options):
    net, output = make()
    arch = arch_for()
    with Clock() as building:
        made = built(net.model(output), arch, recipe=Recipe(range=options.range),
                     calibration=images(net, options.calibration))
    figures, batch = reported(made), images(net, 1, 4)
    layers = compare_with_onnx(made.graph, arch, made.quantized.model, batch,
                               made.quantized.float_model).rows
    ends = [row for row in layers if row["tensor"] in made.graph.outputs]
    tail = made.graph.tail
    host = Counter(node.op_type for node in tail.model.graph.node) if tail else {}
    row = {"network": name, "layers": len(made.graph.layers), "MACs": net.macs,
           "ideal": net.macs // arch.macs_per_cycle, "cycles": figures.cycles.total,
           **{title: min((row[key] for row in ends if row[key] is not None), default=float("nan"))
              for title, key in (("dB", "golden_to_float_db"),
                                 ("ONNX Runtime dB", "quantized_to_float_db"))},
           "host": ", ".join(f"{count} {kind}" if count > 1 else kind
                             for kind, count in host.items()) or "-",
           "build s": building.seconds}
    return row | (check(made, batch, "isa") if options.check else {})


def main():
    options = arguments(
        __doc__, networks=("", "parts of names, with commas; all"),
        small=(0, "1: small sizes"), calibration=(4, "random images for calibration"),
        range=("min-max", "how ranges are chosen"), check=(1, "0: no instruction-level simulator"))
    chosen = [part.lower() for part in options.networks.split(",")]
    rows = [measure(name, make, options)
            for name, make in (SMALL if options.small else NETWORKS).items()
            if any(part in name.lower() for part in chosen)]
    report(f"Networks that people bring, 16 x 16 int8, {buffer_bytes(arch_for()):,} bytes of "
           "buffers", rows, options.json)


if __name__ == "__main__":
    main()

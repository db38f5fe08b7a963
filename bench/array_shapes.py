"""Shapes of the array: ResNet-8, -18, -20, MobileNetV1-0.25 and a U-Net, int8 with random weights,
on arrays from 4 x 4 to 64 x 64, square and not, and with lanes.

Cycles of one image, and with `--layers 1` how well each layer fills each array, by the cycle model;
memory answers after 32 cycles over 64 bits.
"""

import onnx
from common import arguments, built, report, reported
from resnets import quantized_resnet
from systolith.hw.spec.arch import Arch
from tiny_networks import mobilenet
from vision_networks import resnet18, unet

#: Rows, columns, lanes.
SHAPES = ("4x4", "8x8", "8x16", "16x8", "8x8x2", "16x16", "16x32", "32x16", "16x16x2", "32x32",
          "64x64")


def _written(made):
    net, output = made
    return net.model(output)


#: Name: the network as ONNX; smaller ones for a quick try.
NETWORKS = {
    "ResNet-8": lambda small: quantized_resnet("ResNet-8"),
    "ResNet-20": lambda small: quantized_resnet("ResNet-20"),
    "ResNet-18": lambda small: _written(resnet18(32, 10) if small else resnet18()),
    "MobileNetV1-0.25": lambda small: _written(mobilenet(48 if small else 96)),
    "U-Net": lambda small: _written(unet("int8", 16, 8) if small else unet())}


def chip(shape):
    """A chip with such an array, and memories of the same bytes whatever its shape: 256 KiB of
    activations, 128 KiB each of weights and operands, 1,024 words of sums."""
    rows, columns, *lanes = map(int, shape.split("x"))
    lanes = lanes[0] if lanes else 1
    vector = rows * lanes
    return Arch(name=shape, rows=rows, columns=columns, lanes=lanes, largest_k=4608,
                activation_depth=(1 << 18) // vector, operand_depth=(1 << 17) // vector,
                weight_depth=max(4 * rows, (1 << 17) // (columns * lanes)),
                accumulator_depth=1024, parameter_depth=1024,
                depthwise=rows == columns and lanes == 1)


def main():
    options = arguments(__doc__, shapes=(",".join(SHAPES), "rows x columns, x lanes"),
                        networks=(",".join(NETWORKS), "by name"), layers=(0, "1: every layer"),
                        small=(0, "1: smaller networks"))
    rows, shapes = [], options.shapes.split(",")
    for name in options.networks.split(","):
        network: onnx.ModelProto = NETWORKS[name](options.small)
        layers: dict[str, dict] = {}
        for shape in shapes:
            arch = chip(shape)
            made = built(network, arch)
            figures = reported(made)
            macs, total = sum(item.macs for item in made.program.host.layers), figures.cycles.total
            rows.append({"network": name, "array": shape, "products a cycle": arch.macs_per_cycle,
                         "cycles": total, "used": f"{arch.utilization(macs, total):.0%}"})
            for item in figures.layers:
                line = layers.setdefault(item.layer.name, {
                    "layer": item.layer.name,
                    "output": "x".join(map(str, item.layer.output_shape))})
                line[shape] = f"{item.layer.ideal_cycles / max(1, item.cost.cycles):.0%}"
        if options.layers:
            columns = ["layer", "output", *shapes]
            report(f"{name}: how much of the array each layer uses",
                   [{key: line.get(key, "") for key in columns} for line in layers.values()])
            print()
    report("Cycles of one image", rows, options.json)


if __name__ == "__main__":
    main()

"""What weights in blocks cost in cycles: ResNet-18 beside the same array without scales.

An int8 ResNet-18 of random weights is built as `systolith build` does it (its own checks on) for
chips that differ in `array.weight` alone; plain weights are blocks with the scale 1, so that one
file serves both. Every block has its scale's word. Cycles of one image by the cycle model, whose
external memory answers after 32 cycles; *busy* is the share of them that products would take on an
array without a gap, *of plain* that of the plain chip's cycles.
"""

from common import arguments, built, report, reported
from systolith.hw.spec.arch import Arch
from vision_networks import resnet18

__all__ = ["chip", "rows"]

WEIGHTS = ("int8", "mxint8")


def chip(size, weight):
    """An array of size x size int8 elements, fed by a bus of 128 bits, with 2 MiB of weights."""
    return Arch(rows=size, columns=size, weight=weight, largest_k=4608, activation_depth=20480,
                weight_depth=(2 << 20) // size, accumulator_depth=2048, post_lanes=size,
                parameter_depth=512, operand_depth=8192, bus_bits=128)


def rows(model, macs, size):
    """A line for each format of weights."""
    found = []
    for weight in WEIGHTS:
        taken = reported(built(model, chip(size, weight))).cycles.total
        found.append({"array": f"{size} x {size}", "weights": weight, "cycles": taken,
                      "busy, %": 100 * macs / size ** 2 / taken,
                      "of plain, %": 100 * (found[0]["cycles"] if found else taken) / taken})
    return found


def main():
    options = arguments(__doc__, size=(16, "rows and columns: 16 or 32"),
                        pixels=(224, "rows and columns of the image"))
    net, output = resnet18(options.pixels)
    report("ResNet-18 with weights in blocks", rows(net.model(output), net.macs, options.size),
           options.json)


if __name__ == "__main__":
    main()

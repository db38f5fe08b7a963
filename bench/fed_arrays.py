"""Wide arrays that are fed: cycles of one image on arrays of several sizes, and what binds them.

Each network is built as `systolith build` does it (its own checks on) for a chip with more elements
than the smallest one, and the cycle model counts: memory answers after 32 cycles, weights, program
and image all come from there. *Ideal* is the number of products over that of elements and lanes;
*binds* says which of array passes, loads and others take most of the cycles, over all layers, as in
`systolith report`. `--rows` chooses rows by a part of their names.
"""

from collections import Counter
from pathlib import Path

import onnx
from common import arguments, built, report, reported
from resnets import quantized_resnet
from systolith.gen.chip.toml import load_chip
from systolith.gen.report.profile import BOUNDS, moved
from systolith.hw.spec.arch import Arch
from tiny_networks import ds_cnn, mobilenet
from vision_networks import resnet18, squeezenet
from writer import Writer

__all__ = ["ROWS", "cnv"]

_DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits-cnn-int8.onnx"


def cnv(form="bipolar1"):
    """FINN's CNV: six convolutions of 3 x 3 without padding and three dense layers, 59,456,768
    products. The image has 8 bits; all else has the format `form`."""
    net = Writer("cnv", (3, 32, 32), form, image="int8")
    x = net.input
    for channels, pooled in ((64, False), (64, True), (128, False), (128, True), (256, False),
                             (256, False)):
        x = net.conv(x, channels, 3, pads=0)
        x = net.max_pool(x, 2, 2) if pooled else x
    x = net.flatten(x)
    return net, net.dense(net.dense(net.dense(x, 512, True), 512, True), 10)


def _written(make):
    net, output = make()
    return net.model(output)


def _large(size, bus, weights=2 << 20):
    """A chip of size x size elements with so many bytes of weights."""
    return Arch(rows=size, columns=size, largest_k=4608, activation_depth=10240,
                weight_depth=weights // size, accumulator_depth=2048, post_lanes=size,
                parameter_depth=512, operand_depth=4096, depthwise=True, side_taps=True,
                two_fillings=True, bus_bits=bus)


def _preset(*changes):
    return load_chip("sim-16x16-int8", ["bus.windows=true", "buffers.two_writes=true",
                                           "array.two_fillings=true", *changes])


def _digits(size, bus):
    return _preset(f"array.rows={size}", f"array.columns={size}", f"post.lanes={size}",
                   "array.side_taps=true", f"bus.data_bits={bus}")


def _binary(bus):
    return Arch(rows=16, columns=16, lanes=64, activation="bipolar1", weight="bipolar1",
                bit_planes=True, plane_rows=True, tap_rows=True, post_lanes=16,
                activation_depth=4096, two_writes=True, two_fillings=True,
                weight_depth=4096, accumulator_depth=2048, parameter_depth=256, bus_bits=bus)


#: name: (function that makes the network, function that makes the chip)
ROWS = {
    "ResNet-18, 32 x 32, 128 bits": (lambda: _written(resnet18), lambda: _large(32, 128)),
    "ResNet-18, 64 x 64, 128 bits": (lambda: _written(resnet18), lambda: _large(64, 128)),
    "ResNet-18, 64 x 64, 256 bits": (lambda: _written(resnet18), lambda: _large(64, 256)),
    "ResNet-18, 64 x 64, 256 bits, 256 KiB of weights": (
        lambda: _written(resnet18), lambda: _large(64, 256, 1 << 18)),
    "SqueezeNet 1.1, 64 x 64, 128 bits": (lambda: _written(squeezenet), lambda: _large(64, 128)),
    "SqueezeNet 1.1, 64 x 64, 256 bits": (lambda: _written(squeezenet), lambda: _large(64, 256)),
    "MobileNetV1-0.25 96, 16 x 16, 64 bits": (lambda: _written(mobilenet), _preset),
    "DS-CNN, 16 x 16, 64 bits": (lambda: _written(ds_cnn), _preset),
    **{f"DS-CNN, {size} x {size}, 64 bits": (lambda: _written(ds_cnn),
                                             lambda size=size: _digits(size, 64))
       for size in (32, 64)},
    "ResNet-8, 16 x 16, 64 bits": (lambda: quantized_resnet("ResNet-8"), _preset),
    **{f"{name}, {size} x {size}, 64 bits": (network, lambda size=size: _digits(size, 64))
       for name, network in (("MobileNetV1-0.25 96", lambda: _written(mobilenet)),
                             ("ResNet-8", lambda: quantized_resnet("ResNet-8")))
       for size in (32, 64)},
    **{f"digits, preset with {size} x {size}": (
        lambda: onnx.load(_DIGITS), lambda size=size: load_chip(
            "sim-16x16-int8", [f"array.rows={size}", f"array.columns={size}"]))
       for size in (16, 32, 64)},
    **{f"digits, {size} x {size}, 64 bits": (lambda: onnx.load(_DIGITS),
                                             lambda size=size: _digits(size, 64))
       for size in (16, 32, 64)},
    "CNV, int8, 16 x 16, 64 bits": (lambda: _written(lambda: cnv("int8")), _preset),
    **{f"CNV, binary, 16 x 16 x 64, {bus} bits": (lambda: _written(cnv),
                                                  lambda bus=bus: _binary(bus))
       for bus in (64, 128, 256)},
}


def main():
    options = arguments(__doc__, rows=("", "only rows whose names have this in them"),
                        layers=(0, "1: every layer"))
    rows = []
    for name, (network, chip) in ROWS.items():
        if options.rows not in name:
            continue
        try:
            arch = chip()
        except ValueError as error:             # a bus that this version has not
            print(f"{name}: {error}")
            continue
        made = built(network(), arch)
        figures = reported(made)
        charged, macs = Counter(), sum(layer.macs for layer in made.program.host.layers)
        for layer in figures.layers:
            charged.update(layer.cost.charged)
        total = figures.cycles.total
        binds, share = charged.most_common(1)[0]
        rows.append({
            "network, array, bus": name, "ideal": -(-macs // arch.macs_per_cycle), "cycles": total,
            "used": arch.utilization(macs, total),
            "binds": f"{BOUNDS[binds]} {share / total:.0%}",
            "loaded bytes": sum(sum(item.values()) for item in moved(made.program)[0])})
        if options.layers:
            report(name, [{"layer": layer.layer.name,
                           "output": "x".join(map(str, layer.layer.output_shape)),
                           "ideal": layer.layer.ideal_cycles, "cycles": layer.cost.cycles,
                           **{key: value for key, value in layer.cost.charged.items()},
                           **{f"{k} B": v for k, v in layer.cost.loaded_bytes.items()}}
                          for layer in figures.layers])
            print()
    report("Cycles of one image", rows, options.json)


if __name__ == "__main__":
    main()

"""Binary and integer cores of about the same LUTs: area of whole cores, and cycles on the same
shapes.

The cores are mapped for xc7 without DSP blocks (`module_area`, as sweeps measure). The shapes are
those of FINN's CNV (`binary_networks.cnv`) and of ResNet-20 without its shortcuts, which chips of
signs alone do not add; weights and activations are signs but for the image of 8 bits. What is
called int8 takes the passes that a network of int8 takes, as all signs are numbers there. Modules
that have been mapped are kept (`gen/kit/cache.py`): a run that was stopped goes on where it was.
"""

import sys

from binary_networks import Net, cnv
from common import arguments, built, report
from systolith.gen.measure.area import count
from systolith.gen.measure.module_area import module_area
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles

#: Memories of about the same bytes, and what all cores share.
_INT8 = dict(rows=8, columns=8, post_multiplier="luts", bus_bits=64, activation_depth=16384,
             weight_depth=8192, accumulator_depth=1024, post_lanes=4, largest_k=4608)
_XNOR = dict(activation="bipolar1", weight="bipolar1", bit_planes=True, bus_bits=64,
             accumulator_depth=1024, largest_k=4608)
CHIPS = {
    "int8, 8 x 8": Arch(**_INT8),
    "int8 and signs, 8 x 8 (8 signs an element)": Arch(**_INT8, packed_signs=True),
    "XNOR, 8 x 8 x 8, as many lanes": Arch(**_XNOR, rows=8, columns=8, lanes=8, post_lanes=4,
                                          activation_depth=16384, weight_depth=8192),
    "XNOR, 4 x 32 x 16": Arch(**_XNOR, rows=4, columns=32, lanes=16, post_lanes=16,
                              activation_depth=16384, weight_depth=1024),
}


def resnet20(width=16, size=32, blocks=3):
    """The convolutions of ResNet-20, signs between them."""
    net = Net((3, size, size))
    x = net.signs(net.conv(net.quant("x", 1 / 128), width, 3, pads=[1] * 4))
    inputs = width
    for stage in range(3):
        outputs = width << stage
        for layer in range(2 * blocks):
            stride = 1 + (stage > 0 and layer == 0)
            x = net.signs(net.conv(x, outputs, inputs, pads=[1] * 4, strides=[stride] * 2))
            inputs = outputs
    x = net.node("MaxPool", x, kernel_shape=[size // 4] * 2, strides=[size // 4] * 2)
    return net.model(net.node("MatMul", net.node("Flatten", x), net.weights(inputs, 10)))


NETWORKS = {"CNV": cnv, "ResNet-20": resnet20}


def main():
    options = arguments(__doc__)
    models = {name: network() for name, network in NETWORKS.items()}
    rows, first = [], {}
    for name, arch in CHIPS.items():
        area = module_area(arch, "xc7", dsp=False)
        row = {"core": name, "LUT6": area.total.lut,
               "elements": count(area.parts["processing elements"]).lut}
        for network, model in models.items():
            taken = cycles(built(model, arch).program).cycles
            first.setdefault(network, taken)
            row |= {f"{network}, cycles": taken, f"{network}, times": first[network] / taken}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    report("Whole cores on xc7 without DSP blocks", rows, options.json)


if __name__ == "__main__":
    main()

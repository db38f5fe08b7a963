"""Cycles per image of programs for several images, by the cycle model.

Weights and parameters that fit are loaded once for all images of a batch, and dense layers take
the images together. Chip and memory as in `large_networks.py`; ResNet-8 on sim-16x16-int8.
"""

from common import arguments, built, report, reported
from large_networks import chip
from resnets import quantized_resnet
from systolith.gen.chip.toml import load_chip
from systolith.gen.report.profile import moved
from vision_networks import NETWORKS


def main():
    options = arguments(__doc__, batches=("1,4,16,64", "images, with commas"),
                        networks=("autoencoder,mobilenet-v2-0.35-96,ResNet-8",
                                  "which, with commas"))
    rows = []
    for name in options.networks.split(","):
        if name in NETWORKS:
            net, output = NETWORKS[name]()
            model, arch = net.model(output), chip(16, "int8")
        else:
            model, arch = quantized_resnet(name), load_chip("sim-16x16-int8")
        for batch in map(int, options.batches.split(",")):
            made = built(model, arch, batch=batch)
            total = reported(made).cycles.total
            loaded = sum(sum(item.values()) for item in moved(made.program)[0])
            rows.append({"network": name, "batch": batch,
                         "together": made.program.host.together,
                         "cycles": total, "cycles per image": round(total / batch),
                         "loaded bytes per image": round(loaded / batch),
                         "used": arch.utilization(made.graph.macs * batch, total)})
    report("Cycles per image in batches", rows, options.json)


if __name__ == "__main__":
    main()

"""Whole cores: what they take of a chip and how fast they are, beside what others publish.

Area by `systolith area`, cycles by the cycle model with a memory latency of 32 cycles, of networks
of int8. A clock is only shown where `--timing` names the file that `systolith timing --chip CHIP
--json FILE` wrote for that chip, and images per second only with a clock; `xnor` stands for
`--chip ulx3s-bnn --set array.rows=8 array.columns=8 array.lanes=64`. The figures of others are
those of their sources.
"""

import json
from pathlib import Path

from common import arguments, built, report
from resnets import quantized_resnet
from systolith.gen.chip.toml import load_chip
from systolith.gen.measure.chip_area import chip_area
from systolith.sim.machine.cycles import cycles
from tiny_networks import NETWORKS

#: name: (preset, what is set besides, whether int8 networks run on it)
CHIPS = {
    "ulx3s-8x8": ("ulx3s-8x8", (), True),
    "ulx3s-8x8-e3m2": ("ulx3s-8x8-e3m2", (), False),
    "xnor": ("ulx3s-bnn", ("array.rows=8", "array.columns=8", "array.lanes=64"), False),
}
#: (system, device, network, LUT, MHz, images a second, source); None: the source does not say.
PUBLISHED = (
    *((f"hls4ml / FINN, {name}", device, network, None, None, rate, "MLPerf Tiny v0.7 open")
      for device, rates in (("Pynq-Z2", (36.6, 661.5, 57268)),
                            ("Arty A7-100T", (30.1, 659.1, 30152)))
      for (name, network), rate in zip(
          (("RN07", "image classification"), ("CNV-W1A1", "image classification"),
           ("MLP W3A3", "keywords")), rates, strict=True)),
    ("hls4ml, RN08", "Pynq-Z2", "image classification", None, None, 130.8,
     "MLPerf Tiny v1.0 open"),
    ("VTA, 16 x 16 int8", "simulated (tsim), clock preset of PYNQ", "ResNet-18", None, 100,
     100e6 / 7729601, "apache/tvm-vta#30: 7,729,601 cycles without the first and the last layer"),
    ("Tensil, 16 x 16, 16 bits", "Ultra96", "ResNet-20", None, 100, 1 / 0.0235,
     "arXiv 2609.05249: 23 to 24 ms"),
)


def clock(path):
    """The median MHz of a file that `systolith timing --json` wrote."""
    return json.loads(Path(path).read_text())["mhz"]


def rows_of(chip, mhz, networks):
    """A row for each network on a chip of CHIPS, or one without, and its clock, `mhz` or None."""
    preset, overrides, runs = CHIPS[chip]
    arch = load_chip(preset, overrides)
    area = chip_area(arch).total
    for name, model in networks.items() if runs else [("", None)]:
        count = cycles(built(model, arch).program).cycles if runs else None
        rate = mhz and count and mhz * 1e6 / count
        yield {"chip": chip, "network": name, "LUT": area.lut, "FF": area.ff, "DSP": area.dsp,
               "BRAM": area.bram, "MHz": mhz or "", "cycles": count or "", "images/s": rate or "",
               "images/s per LUT": f"{rate / area.lut:.4f}" if rate else ""}


def main():
    options = arguments(__doc__, timing=("", "CHIP=FILE of systolith timing --json, with commas"))
    clocks = {name: clock(path) for name, _, path in
              (item.partition("=") for item in filter(None, options.timing.split(",")))}
    net, output = NETWORKS["ds-cnn"]()
    networks = {"ResNet-8": quantized_resnet("ResNet-8"), "DS-CNN": net.model(output)}
    rows = [row for chip in CHIPS for row in rows_of(chip, clocks.get(chip), networks)]
    report("Whole cores on ECP5", rows, options.json)
    print()
    report("As published", [
        {"system": system, "device": device, "network": network, "LUT": lut or "",
         "MHz": mhz or "", "images/s": rate, "source": source}
        for system, device, network, lut, mhz, rate, source in PUBLISHED])


if __name__ == "__main__":
    main()

"""Several cores that share a bus: cycles of an image on each at the same time, by the cycle model
and in RTL, beside those of one that has the bus for itself."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import arguments, report
from systolith.gen.chip.toml import chip_from_dict
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def main():
    options = arguments(__doc__, cores=("2,4", "side by side"), buses=("32,64", "bits"),
                        size=(4, "rows and columns"))
    chip = chip_from_dict({"array": {"rows": options.size, "columns": options.size},
                           "buffers": {"activations": 4096, "weights": 2048}}, "cores")
    with np.load(DIGITS / "digits-test.npz") as file:
        images = file["images"][:, None].astype(np.float32) / np.float32(255)
    rows = []
    for bus in options.buses.split(","):
        for cores in options.cores.split(","):
            arch = replace(chip, bus_bits=int(bus), cores=int(cores), post_lanes=None)
            with tempfile.TemporaryDirectory() as folder:
                made = build(DIGITS / "digits-cnn-int8.onnx", arch, folder, area=False)
                found = simulate(made, images, "rtl", limit=arch.cores)
            assert found.together is not None       # each core has run once
            rtl, model = found.together
            rows.append({"bus": arch.bus_bits, "cores": arch.cores, "alone": found.cycles_model,
                         "together, by the model": model, "in RTL": rtl,
                         "more than alone": f"{rtl / found.cycles_model - 1:.1%}",
                         "cycles an image": rtl // arch.cores,
                         "mismatching bits": found.comparison.bits})
    report("An image on each core at the same time", rows, options.json)


if __name__ == "__main__":
    main()

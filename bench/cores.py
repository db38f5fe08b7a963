"""Several cores that share a bus, in RTL: cycles of an image on each at the same time, beside the
least that the cycle model and the beats of the bus allow."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import arguments, report
from systolith.gen.chip.toml import chip_from_dict
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate
from systolith.gen.study.sweep.counts import counts_of

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def least(made, program_cycles):
    """Cycles that an image on each core takes at the least."""
    counted, arch = counts_of(made.graph, made.program), made.arch
    read = counted["loaded_bytes"] + counted["instruction_bytes"]
    return max(program_cycles, arch.cores * read // arch.beat_bytes,
               arch.cores * counted["stored_bytes"] // arch.beat_bytes)


def main():
    options = arguments(__doc__, cores=("1,2,4", "side by side"), buses=("32,64", "bits"),
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
            bound = least(made, found.cycles_model)
            rows.append({"bus": arch.bus_bits, "cores": arch.cores, "at least": bound,
                         "in RTL": found.cycles, "more": f"{found.cycles / bound - 1:.1%}",
                         "cycles an image": found.cycles // arch.cores,
                         "mismatching bits": found.comparison.bits})
    report("An image on each core at the same time", rows, options.json)


if __name__ == "__main__":
    main()

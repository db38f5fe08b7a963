"""Cycles, compile time and memory of larger networks, by the cycle model.

The networks are ONNX files with random weights (`vision_networks.py` writes them). Everything
comes from memory over a bus that answers after 32 cycles: weights, program and image. The array
is 16 x 16 with a bus of 64 bits and 471,040 bytes of buffers, or with `--array 32` 32 x 32 with
128 bits; *ideal* is the number of products divided by that of elements. Seconds are the
processor's: of building (all checks on, without the area), and of the golden model for an image.

`--check 1` holds every result of the instruction-level simulator against the golden model,
`--rtl 1` those of the core itself, `--layers 1` prints every layer.
"""

import time

from common import arguments, buffer_bytes, built, random_images, report, reported, same
from systolith.gen.flow.simulate import simulate
from systolith.gen.report.profile import moved
from systolith.hw.spec.arch import Arch
from vision_networks import MACS, NETWORKS

#: Formats of the networks that are not int8.
FORMS = {"unet-int6": "int6", "unet-e3m2": "e3m2"}


def chip(size, form):
    """size x size elements for a format, at most 512 KiB of buffers for 16 x 16 int8."""
    return Arch(rows=size, columns=size, activation=form, weight=form, largest_k=4608,
                activation_depth=10240, weight_depth=4096, accumulator_depth=2048,
                post_lanes=16, parameter_depth=512, operand_depth=4096, depthwise=True,
                bus_bits=64 if size == 16 else 128)


class Clock:
    """Seconds of processor time of a `with` block, in the attribute `seconds` after it."""

    def __enter__(self):
        self.start = time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds = time.process_time() - self.start


def check(made, inputs, engine, latency=32):
    """Hold every result of the simulator, or of the core, against the golden model's. Returns the
    elements compared, and for the core the clocks a second."""
    with Clock() as clock:
        run = same(simulate(made, inputs, engine, limit=1, latency=latency))
    if engine == "isa":
        return {"check: elements": run.comparison.elements, "check s": clock.seconds}
    if run.cycles != run.cycles_model:
        raise RuntimeError(f"the core takes {run.cycles} cycles, the model says "
                           f"{run.cycles_model}")
    return {"rtl: elements": run.comparison.elements, "rtl s": clock.seconds,
            "rtl clocks/s": round(run.clocks_per_second)}


def layer_rows(program):
    return [{"layer": item.name, "output": " x ".join(map(str, item.output_shape)),
             "kernel": " x ".join(map(str, item.kernel)), "ideal": item.ideal_cycles,
             "passes": item.array_cycles, "tiles": item.tiles,
             **{f"{key} bytes": size for key, size in loaded.items()}}
            for item, loaded in zip(program.host.layers, moved(program)[0], strict=True)]


def main():
    options = arguments(
        __doc__, networks=(",".join(NETWORKS), "which, with commas"), array=(16, "16 or 32"),
        window=(3, "maximum pooling of ResNet-18 and SqueezeNet, 2 or 3"),
        layers=(0, "1: every layer"), check=(0, "1: also the instruction-level simulator"),
        rtl=(0, "1: also the core itself"))
    rows = []
    for name in options.networks.split(","):
        settings = {"window": options.window} if name in ("resnet-18", "squeezenet-1.1") else {}
        net, output = NETWORKS[name](**settings)
        if net.macs != MACS.get(name, net.macs):
            raise RuntimeError(f"{name} has {net.macs} products, and should have {MACS[name]}")
        arch, model = chip(options.array, FORMS.get(name, "int8")), net.model(output)
        with Clock() as building:
            made = built(model, arch)
        figures, inputs = reported(made), random_images(made.graph)
        with Clock() as golden:
            simulate(made, inputs)
        loaded = sum(sum(item.values()) for item in moved(made.program)[0])
        rows.append({
            "network": name, "MACs": net.macs, "ideal": net.macs // arch.macs_per_cycle,
            "cycles": figures.cycles.total,
            "compute_cycles": figures.cycles.compute,
            "used": arch.utilization(net.macs, figures.cycles.total),
            "loaded bytes": loaded, "window bytes": made.program.window_bytes,
            "build s": building.seconds, "golden s": golden.seconds})
        for engine, wanted in (("isa", options.check), ("rtl", options.rtl)):
            if wanted:
                rows[-1] |= check(made, inputs, engine)
        if options.layers:
            report(name, layer_rows(made.program))
            print()
    size = options.array
    report(f"Cycles per image, {size} x {size}, {buffer_bytes(chip(size, 'int8')):,} bytes of "
           "buffers with int8", rows, options.json)


if __name__ == "__main__":
    main()

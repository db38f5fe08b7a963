"""Cycles, compile time and memory of larger networks, by the cycle model.

The networks are ONNX files with random weights (`vision_networks.py` writes them). Everything
comes from memory over a bus that answers after 32 cycles: weights, program and image. The array
is 16 x 16 with a bus of 64 bits and 471,040 bytes of buffers, or with `--array 32` 32 x 32 with
128 bits; *ideal* is the number of products divided by that of elements. Seconds are the
processor's: of reading and compiling the network, and of the golden model for an image.

`--check 1` holds every result of the instruction-level simulator against the golden model,
`--rtl 1` those of the core itself, `--layers 1` prints every layer.
"""

import time

import numpy as np
from common import arguments, buffer_bytes, report
from systolith.gen.lower import compile_graph
from systolith.gen.onnx_in import load
from systolith.gen.profile import moved
from systolith.gen.verilog import core_verilog
from systolith.hw.arch import Arch
from systolith.sim.compare import compare, locate, results_from_trace
from systolith.sim.cycles import cycles
from systolith.sim.host import pack_inputs
from systolith.sim.iss import Simulator
from systolith.sim.rtl import Job, Run, simulate
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
    """Seconds of the processor, as attribute `seconds` behind a `with`."""

    def __enter__(self):
        self.start = time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds = time.process_time() - self.start


def check(program, codes, expected, rtl):
    """Hold every result of the simulator, or of the core, against the golden model's. Returns the
    elements compared, and for the core the clocks a second."""
    host, rate = program.host, {}
    if rtl:
        run = Run(writes=[(host["input_offset"], pack_inputs(program, codes))])
        simulation = simulate(core_verilog(program.arch), [Job(program=program, runs=[run])])
        result = simulation.runs[0][0].check()
        rate = {"rtl clocks/s": round(simulation.clocks / simulation.seconds)}
        results = results_from_trace(result.trace, locate(program), program.arch)
        if result.cycles != cycles(program).cycles:
            raise RuntimeError(f"the core takes {result.cycles} cycles, the model says otherwise")
    else:
        memory = bytearray(program.window_bytes)
        memory[:len(program.image)] = program.image
        data = pack_inputs(program, codes)
        memory[host["input_offset"]:host["input_offset"] + len(data)] = data
        simulator = Simulator(program.arch, memory)
        simulator.run(program.instructions, seed=1)
        results = [item.items for item in sorted(simulator.results, key=lambda one: one.number)]
    found = compare(program, locate(program), results, expected)
    if found.bits:
        raise RuntimeError(str(found.first))
    return {f"{'rtl' if rtl else 'check'}: elements": found.elements} | rate


def layer_rows(program):
    return [{"layer": item["name"], "output": " x ".join(map(str, item["output_shape"])),
             "kernel": " x ".join(map(str, item["kernel"])), "ideal": item["ideal_cycles"],
             "passes": item["array_cycles"], "tiles": item["tiles"],
             **{f"{key} bytes": size for key, size in loaded.items()}}
            for item, loaded in zip(program.host["layers"], moved(program)[0], strict=True)]


def main():
    options = arguments(
        __doc__, networks=(",".join(NETWORKS), "which, with commas"), array=(16, "16 or 32"),
        window=(3, "maximum pooling of ResNet-18 and SqueezeNet, 2 or 3"),
        latency=(32, "cycles from a request to its first beat"),
        layers=(0, "1: every layer"), check=(0, "1: also the instruction-level simulator"),
        rtl=(0, "1: also the core itself"))
    rows = []
    for name in options.networks.split(","):
        settings = {"window": options.window} if name in ("resnet-18", "squeezenet-1.1") else {}
        net, output = NETWORKS[name](**settings)
        if net.macs != MACS.get(name, net.macs):
            raise RuntimeError(f"{name} has {net.macs} products, and should have {MACS[name]}")
        arch, model = chip(options.array, FORMS.get(name, "int8")), net.model(output)
        with Clock() as read:
            graph = load(model)
        with Clock() as compiled:
            program = compile_graph(graph, arch)
        with Clock() as modelled:
            timing = cycles(program, options.latency)
        values = np.random.default_rng(1).normal(0, 1, (1, *graph.encoders[0].shape))
        codes = graph.encode_inputs(np.float32(values))
        with Clock() as golden:
            expected = graph.run(codes, arch)
        loaded = sum(sum(item.values()) for item in moved(program)[0])
        rows.append({
            "network": name, "MACs": net.macs, "ideal": net.macs // arch.macs_per_cycle,
            "cycles": timing.cycles, "compute_cycles": timing.compute_cycles,
            "used": net.macs / arch.macs_per_cycle / timing.cycles, "loaded bytes": loaded,
            "window bytes": program.window_bytes, "read s": read.seconds,
            "compile s": compiled.seconds, "cycle model s": modelled.seconds,
            "golden s": golden.seconds})
        for kind, wanted in (("check", options.check), ("rtl", options.rtl)):
            if wanted:
                expected = {key: item[0] for key, item in expected.items() if len(item) == 1}
                with Clock() as simulated:
                    rows[-1] |= check(program, codes[0], expected, kind == "rtl")
                rows[-1][f"{kind} s"] = simulated.seconds
        if options.layers:
            report(name, layer_rows(program))
            print()
    size = options.array
    report(f"Cycles per image, {size} x {size}, {buffer_bytes(chip(size, 'int8')):,} bytes of "
           "buffers with int8", rows, options.json)


if __name__ == "__main__":
    main()

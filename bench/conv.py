"""How close a 3x3 convolution, 64 -> 64 channels, 32x32 pixels, padding 1, comes to the array.

Everything stays on the chip; inputs, weights and outputs go over the bus once. `compute_cycles`
count from the first array pass to the last result, `cycles` from the start to the interrupt.
The RTL's outputs are held against the golden model bit for bit; `model` is the cycle model.
"""

from common import arguments, int8_network, report, simulate_rtl
from systolith.gen.chip.toml import load_chip
from systolith.sim.machine.cycles import cycles


def main():
    options = arguments(__doc__, chip=("sim-16x16-int8", "preset or TOML file"),
                        latency=(32, "cycles from an address to its data"))
    arch = load_chip(options.chip)
    model = int8_network("convolution", (64, 32, 32), [dict(channels=64, kernel=3, pad=1)])
    made, run = simulate_rtl(model, arch, latency=options.latency)
    graph, model = made.graph, cycles(made.program, options.latency)
    ideal = graph.macs / arch.macs_per_cycle
    rows = [{"cycles": name, "RTL": rtl, "model": modelled,
             f"RTL x MACs / {arch.macs_per_cycle}": rtl / ideal}
            for name, rtl, modelled in (
                ("ideal", int(ideal), int(ideal)),
                ("compute_cycles", run.compute_cycles, model.compute_cycles),
                ("cycles", run.cycles, model.cycles))]
    report(f"3x3 convolution 64 -> 64, 32x32, on {arch.name}: {graph.macs:,} MACs", rows,
           options.json, chip=arch.to_dict())


if __name__ == "__main__":
    main()

"""What a layer costs beyond its passes: start, fill, drain, waiting for the layer before.

Networks of small layers run on RTL, and the cycle model must agree. A pass streams its pixels
through the array, or fills the array with the next weights where that takes longer. Every weight
crosses the bus once for each image, and layers with few pixels wait for that instead: `bus` is
what weights, parameters, inputs and instructions take at one beat a cycle. What the compute
cycles of the whole network exceed the larger of the two by is divided by the number of layers
(below 0: part of the traffic lies before the first pass).
"""

from common import arguments, int8_network, report, simulate_rtl
from systolith.gen.chip.toml import load_chip
from systolith.sim.machine.cycles import cycles

READ = ("code", "weights", "parameters", "inputs")
NETWORKS = {
    "12 x conv 3x3, 16 -> 16, 8x8": ((16, 8, 8), [dict(channels=16, kernel=3, pad=1)] * 12),
    "12 x conv 3x3, 32 -> 32, 8x8": ((32, 8, 8), [dict(channels=32, kernel=3, pad=1)] * 12),
    "12 x conv 3x3, 32 -> 32, 6x6": ((32, 6, 6), [dict(channels=32, kernel=3, pad=1)] * 12),
    "12 x conv 1x1, 32 -> 32, 8x8": ((32, 8, 8), [dict(channels=32, kernel=1)] * 12),
    "12 x conv 1x1, 16 -> 16, 16x16": ((16, 16, 16), [dict(channels=16, kernel=1)] * 12),
    "12 x dense 64 -> 64": ((64, 1, 1), [dict(channels=64, kernel=1)] * 12),
    "conv, conv, pool, conv, dense": ((16, 16, 16), [
        dict(channels=16, kernel=3, pad=1), dict(channels=32, kernel=3, pad=1, pool=2),
        dict(channels=32, kernel=3, pad=1), dict(channels=10, kernel="dense")]),
}


def main():
    options = arguments(__doc__, chip=("sim-16x16-int8", "preset or TOML file"))
    arch = load_chip(options.chip)
    rows = []
    for name, (shape, layers) in NETWORKS.items():
        made, run = simulate_rtl(int8_network(name, shape, layers), arch)
        graph, program = made.graph, made.program
        model = cycles(program)
        if (model.cycles, model.compute_cycles) != (run.cycles, run.compute_cycles):
            raise RuntimeError(f"{name}: the cycle model gives {model.cycles} cycles, the RTL "
                               f"{run.cycles}")
        passes = sum(layer.array_cycles for layer in program.host.layers)
        bus = -(-sum(section.bytes for section in program.host.memory
                     if section.section in READ) // arch.beat_bytes)
        rows.append({
            "network": name, "layers": len(graph.layers), "passes": passes, "bus": bus,
            "compute_cycles": run.compute_cycles, "cycles": run.cycles,
            "beyond, a layer": (run.compute_cycles - max(passes, bus)) / len(graph.layers)})
    report(f"Cycles that a layer costs beyond its passes, or the bus, on {arch.name}", rows,
           options.json, chip=arch.to_dict())


if __name__ == "__main__":
    main()

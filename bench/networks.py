"""Whole networks: how many cycles they take, and where.

Random weights, quantized as ONNX Runtime does it; the cycle model counts (it is exact, see
`docs/explanation/cycles.md`). `compute_cycles` go from the first array pass to the last result,
`cycles` from the start to the interrupt. MACs are those of convolutions and dense layers, without
pooling.
"""

from common import arguments, built, report
from resnets import NETWORKS, quantized_resnet
from systolith.gen.chip.toml import load_chip
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.cycles import cycles


def rows_of(program, timing):
    """One row a layer: what it should take, what its passes take, and what went by from the last
    result of the layer before to its own."""
    ends = {}
    for i, (_, end) in zip(program.instructions, timing.instructions, strict=True):
        if i.opcode == Opcode.POST:
            ends[i.layer] = max(end, ends.get(i.layer, 0))
    rows, before = [], timing.compute_first
    for index, layer in enumerate(program.host.layers):
        rows.append({
            "layer": layer.name, "output": " x ".join(map(str, layer.output_shape)),
            "kernel": " x ".join(map(str, layer.kernel)),
            "with": layer.operand.operation if layer.operand else "",
            "ideal": layer.ideal_cycles, "passes": layer.array_cycles,
            "cycles": ends[index] - before})
        before = ends[index]
    return rows


def main():
    options = arguments(__doc__, chip=("sim-16x16-int8", "preset or TOML file"),
                        latency=(32, "cycles from an address to its data"))
    arch = load_chip(options.chip)
    rows, layers = [], {}
    for name in NETWORKS:
        made = built(quantized_resnet(name), arch)
        graph, program = made.graph, made.program
        timing = cycles(program, options.latency)
        macs = sum(conv.macs for conv in graph.layers if not conv.pool.sum)
        rows.append({"network": name, "MACs": macs, "ideal": -(-macs // arch.macs_per_cycle),
                     "compute_cycles": timing.compute_cycles, "cycles": timing.cycles})
        layers[name] = rows_of(program, timing)
        report(f"{name} on {arch.name}", layers[name])
        print()
    report(f"Networks on {arch.name}", rows, options.json, chip=arch.to_dict(), layers=layers)


if __name__ == "__main__":
    main()

"""Cycles of MLPerf Tiny's networks with depthwise layers, by the cycle model.

The chip has 16 x 16 int8 elements and buffers of 442,368 bytes; everything comes from memory over
a bus of 64 bits that answers after 32 cycles: weights, program and image. *Ideal* is the number of
products divided by that of elements; the busy shares are the part of all cycles in which a unit
worked and waited for nothing.
"""

from common import arguments, buffer_bytes, built, report
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from tiny_networks import MACS, NETWORKS

ARCH = Arch(rows=16, columns=16, largest_k=4608, weight_depth=4096, activation_depth=12288,
            accumulator_depth=1024, post_lanes=16, parameter_depth=1024, depthwise=True,
            bus_bits=64)


def main():
    options = arguments(__doc__, latency=(32, "cycles from a request to its first beat"))
    rows = []
    for name in ("mobilenet-v1-0.25", "ds-cnn"):
        net, output = NETWORKS[name]()
        if net.macs != MACS[name]:
            raise RuntimeError(f"{name} has {net.macs} products, and should have {MACS[name]}")
        timing = cycles(built(net.model(output), ARCH).program, options.latency)
        rows.append({"network": name, "MACs": net.macs, "ideal": net.macs // ARCH.macs_per_cycle,
                     "cycles": timing.cycles, "compute_cycles": timing.compute_cycles}
                    | {f"{unit} busy": counts["running"] / timing.cycles
                       for unit, counts in timing.activity.items()})
    report(f"Cycles per image, {buffer_bytes(ARCH):,} bytes of buffers", rows, options.json,
           chip=ARCH.to_dict())


if __name__ == "__main__":
    main()

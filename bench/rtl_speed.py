"""How many clocks a second the RTL of a whole core runs at, memory model included.

A convolution runs again and again; only the time between the core's start and its interrupt
counts, the compilation by Verilator does not.
"""

from common import arguments, int8_network, report, simulate_rtl
from systolith.gen.chip.toml import load_chip


def main():
    options = arguments(__doc__, chip=("sim-16x16-int8", "preset or TOML file"),
                        images=(100, "runs of the convolution"))
    arch = load_chip(options.chip)
    model = int8_network("convolution", (64, 32, 32), [dict(channels=64, kernel=3, pad=1)])
    _, run = simulate_rtl(model, arch, options.images)
    row = {"chip": arch.name, "runs": options.images, "clocks of a run": run.cycles,
           "clocks/s": round(run.clocks_per_second)}
    report("RTL simulation of a 3x3 convolution 64 -> 64, 32x32", [row], options.json,
           chip=arch.to_dict())


if __name__ == "__main__":
    main()

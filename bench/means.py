"""Means as kernels (`gen/compile/window_taps.py`) against sums that POST adds up: cycles of small
networks with a mean between two layers, on random chips with activations from the top.

Whether a mean becomes a kernel is decided by an estimate of its cycles; this says how often that
was right, of the networks in which one became a kernel.
"""

import random
import sys
from statistics import median
from unittest.mock import patch

from common import arguments, report
from systolith.gen.compile import compile as compiler
from systolith.gen.flow.compile import compile_network
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from writer import Writer

__all__ = ["compared"]

_WINDOWS = (2, 2), (3, 3), (4, 4), (7, 7), (1, 7), (5, 2), (1, 3)


def _drawn(seed):
    """(network, chip, images of a run, what they are)."""
    draw = random.Random(f"mean {seed}")
    size, window = draw.choice((8, 16, 32, 64)), draw.choice(_WINDOWS)
    counts, channels = draw.choice(((1, 1), (2, 3), (6, 6))), draw.choice((24, 64, 256))
    arch = Arch(rows=size, columns=size, depthwise=True, largest_k=4608, activation_depth=16384,
                weight_depth=4096, accumulator_depth=1024, two_fillings=draw.random() < 0.5,
                post_lanes=draw.choice((size, 8, 4)), bus_bits=draw.choice((64, 128)))
    net = Writer("mean", (8, *(a * b for a, b in zip(window, counts, strict=True))))
    x = net.average_pool(net.conv(net.input, channels, 1), window)
    images = draw.choice((1, 1, 4))
    told = f"{arch.post_lanes} lanes, {channels} channels, {counts} windows {window}"
    return net.model(net.conv(x, 10, 1)), arch, images, f"{size} x {size}, {told}"


def compared(seed):
    """(cycles with POST's sums, cycles as it is compiled, what it is) of a network in which a mean
    became a kernel; else None."""
    model, arch, images, told = _drawn(seed)
    try:
        _, made = compile_network(model, arch, images)
        with patch.object(compiler, "with_window_taps", lambda layers, _: layers):
            _, before = compile_network(model, arch, images)
    except UserError:                           # too large for the chip
        return None
    if made.image == before.image:
        return None
    return cycles(before).cycles, cycles(made).cycles, told


def main():
    options = arguments(__doc__, networks=(400, "random ones"))
    found = []
    for seed in range(options.networks):
        if (one := compared(seed)) is not None:
            found.append(one)
        print(f"{seed + 1} of {options.networks}", end="\r", file=sys.stderr)
    parts = sorted((after / before, told) for before, after, told in found)
    report("Means as kernels", [{
        "networks with one": len(found),
        "faster": sum(part < 1 for part, _ in parts),
        "slower": sum(part > 1 for part, _ in parts),
        "median, % of the cycles": 100 * median(part for part, _ in parts),
        "worst, %": 100 * parts[-1][0], "which": parts[-1][1]}], options.json)


if __name__ == "__main__":
    main()

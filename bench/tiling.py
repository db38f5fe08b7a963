"""How near the chosen tilings come to the least traffic there is, on random small layers.

For layers whose input lies in external memory, on chips with small buffers: the bytes that the
compiler's plan loads, beside the least of an exhaustive search over every rectangle as a tile, one
or two buffers and every group of column blocks, and beside the bound that no tiling can beat, each
byte of input that a result depends on and each weight once. The compiler looks for the fewest
cycles, not the fewest bytes; `cycles` is its estimate for the fastest of the search over
that for its own plan (above 1: no plan of the search is as fast).
"""

import random

import numpy as np
from common import arguments, report
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.plan import Plan
from systolith.gen.compile.tiling import estimate, plan_layer, traffic
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.requantization import Requantization
from systolith.sim.model.weights import Weights


def random_case(draw):
    """(Layer, activation words for its input)."""
    arch = Arch(rows=16, columns=16, accumulator_depth=256,
                weight_depth=16 * draw.choice((9, 18, 36, 72)), activation_depth=4096)
    kernel, stride = draw.choice(((1, 1), (1, 2), (3, 1), (3, 1), (3, 2), (5, 1)))
    channels, out, size = draw.choice((16, 32, 64)), draw.choice((16, 48, 64)), draw.randint(6, 20)
    conv = Conv("conv", "in", "out", Weights(np.ones((out, channels, kernel, kernel)), Int(8)),
                Geometry((stride, stride), pads=(kernel // 2,) * 4),
                requantization=Requantization.plain(out), input_shape=(channels, size, size))
    layer = Layer(0, conv, arch)
    return layer, int(layer.input_words * draw.uniform(0.15, 1.1))


def every_plan(layer, words):
    """Plans of all rectangles that fit, cut off at the map's end."""
    pixels = layer.arch.accumulator_depth // 2
    for height in range(1, layer.y.out + 1):
        for width in range(1, layer.x.out + 1):
            tiles = [((y, min(y + height, layer.y.out)), (x, min(x + width, layer.x.out)))
                     for y in range(0, layer.y.out, height) for x in range(0, layer.x.out, width)]
            plan = Plan(layer, tiles, [layer.kernel], pixels)
            size = max((b - a) * (d - c) for tile in tiles
                       for (a, b), (c, d) in [plan.input_rectangle(tile, layer.kernel)])
            for buffers in (1, 2) if len(tiles) > 1 else (1,):
                if buffers * size * layer.blocks <= words:
                    for group in range(1, layer.column_blocks + 1):
                        yield Plan(layer, tiles, [layer.kernel], pixels, buffers,
                                   size * layer.blocks, group)


def bound(layer):
    """Bytes of the input that some result depends on, and of the weights."""
    arch, used = layer.arch, []
    for axis in (layer.y, layer.x):
        reads = {position for n in range(axis.out) for tap in range(axis.kernel)
                 for first, end, _ in [axis.span((n, n + 1), (tap, tap + 1))]
                 for position in range(first, end)}
        used.append(len(reads))
    return (used[0] * used[1] * layer.blocks * arch.activation_bytes
            + layer.stored.bytes)


def main():
    options = arguments(__doc__, layers=(40, "random layers"), seed=(0, "of the first"))
    found = []
    for seed in range(options.seed, options.seed + options.layers):
        layer, words = random_case(random.Random(seed))
        try:
            plan = plan_layer(layer, words)
        except UserError:
            continue
        plans = list(every_plan(layer, words))
        if not plans:                           # the kernel must be loaded part by part
            continue
        fast = min(plans, key=lambda plan: (estimate(plan), sum(traffic(plan))))
        found.append((sum(traffic(plan)), min(sum(traffic(plan)) for plan in plans), bound(layer),
                      estimate(fast) / estimate(plan), len(plan.tiles) > 1))
    rows = []
    for what, mine in (("all", found), ("of several tiles", [item for item in found if item[4]])):
        ratios = np.array([item[0] / item[1] for item in mine])
        rows.append({"layers": what, "number": len(mine),
                     "least traffic": float(np.mean(ratios <= 1)),
                     "traffic over the least, mean": float(np.mean(ratios)),
                     "most": float(np.max(ratios)),
                     "over the bound, mean": float(np.mean([item[0] / item[2] for item in mine])),
                     "the least over the bound": float(np.mean([item[1] / item[2]
                                                                for item in mine])),
                     "cycles": float(np.mean([item[3] for item in mine]))})
    report("Traffic of the chosen tilings against exhaustive search", rows, options.json)


if __name__ == "__main__":
    main()

"""POST's windows: the pixels of each result, as few words read as there can be."""

import random
from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.tiling import plan_layer
from systolith.gen.compile.windows import row_words, window_fields
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Pooling
from systolith.hw.spec.loops import reads, windows
from systolith.sim.model.pool import Pool
from systolith.sim.random.fields import random_windows

from ...layers import convolution


def layer_of(shape, arch, **fields):
    conv = convolution("conv", "in", "out", np.ones((4, 4, 1, 1), int), Int(8),
                       input_shape=(4, *shape), **fields)
    return Layer(0, conv, arch)


@pytest.mark.parametrize("seed", range(60))
def test_every_result_has_the_pixels_of_its_window(seed):
    draw = random.Random(seed)
    arch = Arch(rows=4, columns=4, accumulator_depth=draw.randint(32, 120))
    shape = draw.randint(1, 14), draw.randint(1, 14)
    pool = replace(random_windows(draw, shape), sum=draw.random() < 0.3)
    layer = layer_of(shape, arch, pool=pool)
    seen = np.zeros(layer.conv.output_shape[1:], int)
    for sub in plan_layer(layer, None).sub_tiles(((0, layer.y.out), (0, layer.x.out))):
        # Pixels as the array places them: window by window, or row by row.
        places = [[(y, x) for y in range(*layer.y.window(b)) for x in range(*layer.x.window(c))]
                  for b in range(*sub[0]) for c in range(*sub[1])]
        if layer.in_order:
            pixels = [pixel for place in places for pixel in place]
        else:
            pixels = [(y, x) for y in range(*layer.y.under(sub[0]))
                      for x in range(*layer.x.under(sub[1]))]
        assert len(pixels) == layer.words(sub) <= arch.accumulator_depth
        for ((y0, y1), (x0, x1)), fields in window_fields(layer, sub, 100):
            post = Instruction(Opcode.POST, fields)
            post.encode()
            found = windows(post).reshape(y1 - y0, x1 - x0, -1) - 100
            assert reads(post).size == (y1 - y0) * (row := reads(post).size // (y1 - y0))
            if y1 - y0 > 1:
                assert row_words(fields) == reads(post)[row] - reads(post)[0]
            for y, x in np.ndindex(*found.shape[:2]):
                mine = [(b, c) for b in range(*layer.y.window(y0 + y))
                        for c in range(*layer.x.window(x0 + x))]
                got = [pixels[n] for n in found[y, x]]
                assert set(got) == set(mine)
                assert fields["pooling"] != Pooling.SUM or sorted(got) == sorted(mine)
            seen[y0:y1, x0:x1] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("pads, reads_of_a_row", [((0, 0, 0, 0), 3 * 11), ((1, 1, 0, 0), 3 * 10)])
def test_a_column_that_windows_share_is_read_once(pads, reads_of_a_row):
    size = 11 - pads[1]
    layer = layer_of((size, size), Arch(rows=4, columns=4, accumulator_depth=512),
                     pool=Pool((3, 3), (2, 2), pads))
    parts = window_fields(layer, ((0, 5), (0, 5)), 0)
    assert len(parts) == 1 + (pads[0] > 0)
    (rows, _), fields = parts[-1]
    count = reads(Instruction(Opcode.POST, fields)).size // (rows[1] - rows[0])
    assert count == reads_of_a_row

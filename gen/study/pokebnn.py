"""The arithmetic of PokeBNN (Zhang, Zhang and Lew, CVPR 2022, arXiv 2112.00133) from its shapes.

What is counted follows the published code: images of 224 x 224; a first layer of 4 x 4 with stride
4 to 32 channels and one of 3 x 3 on each of them to 64, int8 both, whatever the multiplier; blocks
of three binary layers as in ResNet-50, 3, 4, 6 and 3 of them, the stride in the layer of 3 x 3; for
each binary layer a squeeze and excitation of int4 that reads the layer's input and has an eighth of
its channels between; a dense layer of int8. Widths are rounded down, and a block's output has four
times its width. Sums, products and comparisons that are no products of weights do not count.
"""

from dataclasses import astuple

from systolith.hw.formats import Bipolar, Format, Int
from systolith.sim.model.effort import Effort, effort

__all__ = ["PUBLISHED", "pokebnn"]

#: {multiplier: ACE in units of 10**9}, as published.
PUBLISHED = {0.5: 1.41, 0.75: 2.59, 1.0: 4.22, 1.4: 7.76, 2.0: 15.33}


def pokebnn(multiplier: float) -> Effort:
    """The `Effort` of one image in PokeBNN of this width."""
    counted: list[Effort] = []

    def layer(form: Format, outputs: int, inputs: int, kernel: int, size: int) -> None:
        counted.append(effort(form, form, (outputs, inputs, kernel, kernel),
                              outputs * size * size))
    layer(Int(8), 32, 3, 4, 56)
    layer(Int(8), 64, 1, 3, 56)
    channels, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = int(64 * 2 ** stage * multiplier)
        for block in range(blocks):
            after = size // 2 if stage and not block else size
            for outputs, kernel, here in ((width, 1, size), (width, 3, after),
                                          (4 * width, 1, after)):
                layer(Bipolar(1), outputs, channels, kernel, here)
                layer(Int(4), channels // 8, channels, 1, 1)
                layer(Int(4), outputs, channels // 8, 1, 1)
                channels = outputs
            size = after
    layer(Int(8), 1000, channels, 1, 1)
    return Effort(*map(sum, zip(*map(astuple, counted), strict=True)))

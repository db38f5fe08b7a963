"""Which width in memory a layer's weights have: fewer bits, or numbers of weights in a pool."""

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.narrow import pool_of, width_of, words_of_rows
from systolith.sim.model.weights import Weights

__all__ = ["fewest_words", "pool_codes"]


def pool_codes(weights: Weights, arch: Arch) -> np.ndarray:
    """The chip's codes of all different weights, that of 0 first: lanes without channel have it.
    The chip has them all."""
    found = weights.in_format(arch.weight)
    assert found is not None, "the layer is checked"
    codes = np.unique(found.codes)
    return np.concatenate([[0], codes[codes != 0]])


def fewest_words(weights: Weights, arch: Arch, height: int, turn: int) -> int:
    """As of ARRAY's field `narrow`: the width, or the pool, that holds all weights and takes the
    fewest words for passes of `height` rows; 0: the chip's own. Of pools that do, layer `turn` has
    one that the layer before has not."""
    held = weights.in_format(arch.weight)
    if held is None:                    # `check_layer` refuses it
        return 0
    images, plain = held.images, len(arch.weight_widths)
    low, high = min(images.min(initial=0), 0), max(images.max(initial=0), 0)
    fitting = [0, *(n for n, width in enumerate(arch.weight_widths, 1)
                    if -1 << width - 1 <= low and high < 1 << width - 1)]
    for n in range(1 + plain, 1 + len(arch.code_widths)):
        size = 1 << width_of(n, arch)
        # what is saved must be more than what loading the pool takes
        saved = images.size * (arch.weight.width - width_of(n, arch)) // 8
        if len(pool_codes(weights, arch)) <= size and saved > size * arch.pool_bytes:
            fitting.append(n)
    return min(fitting, key=lambda n: (
        words_of_rows(height, n, arch), pool_of(n, arch) is not None, n <= plain and n,
        (n + turn) % max(1, len(arch.weight_pools)), n))

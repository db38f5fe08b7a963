"""Which parameter words a layer has."""

import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.layer_data import parameter_bytes
from systolith.gen.compile.parameters import parameter_tail, parameter_words
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch

from ...layers import convolution


def layer(outputs, arch):
    weight = np.ones((outputs, 3, 1, 1), int)
    return Layer(0, convolution("conv", "in", "out", weight, Int(8), input_shape=(3, 2, 2)), arch)


@pytest.mark.parametrize("lanes, outputs, words", [
    (1, 1, 1), (1, 3, 3), (1, 4, 4), (1, 6, 6), (1, 8, 8), (1, 11, 11),
    (2, 1, 1), (2, 2, 1), (2, 3, 2), (2, 5, 3), (2, 7, 4), (2, 9, 5), (4, 4, 1), (4, 5, 2)])
def test_words_end_with_the_last_channel(lanes, outputs, words):
    made = layer(outputs, Arch(rows=4, columns=4, post_lanes=lanes))
    assert parameter_words(made) == words
    assert len(parameter_bytes(made)) == (
        (words - 1) * made.arch.parameter_bytes + parameter_tail(made))


def test_a_tail_holds_the_channels_of_the_last_word():
    arch = Arch(rows=16, columns=16, post_lanes=16)
    assert parameter_tail(layer(16, arch)) == arch.parameter_bytes
    beats = -(-arch.parameter_bits // (8 * arch.beat_bytes))
    assert parameter_tail(layer(1, arch)) == beats * arch.beat_bytes
    assert parameter_tail(layer(17, arch)) == beats * arch.beat_bytes

"""Which words stand for a block's scale."""

import pytest
from systolith.hw.formats import BlockScale
from systolith.hw.spec.scale_words import ScaleWord
from systolith.hw.spec.structures import Structure


@pytest.mark.parametrize("mantissa, structure, prepared", [
    (3, Structure.LUT6, True), (3, Structure.DSP, False), (3, Structure.GATES, False),
    (2, Structure.LUT6, False), (0, Structure.LUT6, False), (0, Structure.DSP, False)])
def test_scales_of_three_bits_are_prepared_for_lut6_alone(mantissa, structure, prepared):
    word = ScaleWord(BlockScale(16, mantissa), structure)
    assert word.prepared is prepared
    assert word.width == (8 if prepared else word.scale.width)

import pytest
from systolith.hw.spec.structures import TARGETS, Structure, structure_of


def test_structures_are_texts_with_facts():
    assert [str(structure) for structure in Structure] == ["lut6", "lut4", "gates", "dsp", "dsp48"]
    assert Structure("dsp48") == "dsp48"
    assert [structure for structure in Structure if structure.is_dsp] == ["dsp", "dsp48"]
    assert [structure for structure in Structure if structure.is_lut] == ["lut6", "lut4"]
    for structure in Structure:
        assert (structure.multiplier is not None) == structure.is_dsp
    assert Structure.DSP48.multiplier == (25, 18) and Structure.DSP48.has_preadder
    assert not Structure.DSP.has_preadder
    with pytest.raises(ValueError, match=r"structure must be one of lut6, lut4, .*, not 'lut5'"):
        Structure("lut5")


def test_targets_have_a_structure_with_and_without_dsp_blocks():
    for target in TARGETS:
        assert structure_of(target, True).is_dsp and not structure_of(target).is_dsp
    assert structure_of("xc7") == "lut6" and structure_of("xc7", True) == "dsp48"
    with pytest.raises(KeyError):
        structure_of("stratix")

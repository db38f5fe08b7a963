# amaranth: UnusedElaboratable=no
"""What multiplies a column's sums by scales of blocks, in Verilated RTL: every scale of every
structure, and faults that must be seen."""

import numpy as np
import pytest
from systolith.gen.study import prove as module
from systolith.gen.study.prove import cases_of, prove
from systolith.hw.element.block_scale import BlockScaleCell, ScaledNumber, scaled_bits
from systolith.hw.formats import BlockScale
from systolith.hw.spec.scale_words import ScaleWord
from systolith.hw.spec.structures import Structure
from systolith.sim.rtl.block_scales import (
    EXHAUSTIVE,
    Scaled,
    observe_scales,
    scale_vectors,
    wrong_products,
)

SHAPES = [(man, bits, structure) for man in (0, 1, 2, 3) for bits in (1, 2, 7)
          for structure in Structure] + [
              (3, 21, Structure.DSP48), (1, 21, Structure.LUT6), (3, 13, Structure.LUT6)]


def _cell(man, bits, structure):
    scale = BlockScale(16, man)
    return BlockScaleCell(ScaledNumber(scale, bits, scaled_bits(scale, bits),
                                       Structure(structure)))


def test_every_structure_multiplies_by_every_scale():
    random = np.random.default_rng(5)
    cells = [_cell(*shape) for shape in SHAPES]
    found = observe_scales(cells, [scale_vectors(cell, random) for cell in cells])
    for shape, cell, scaled in zip(SHAPES, cells, found, strict=True):
        assert not wrong_products(cell, scaled).any(), shape
        if len(cell.sum) + len(cell.code) <= EXHAUSTIVE:
            pairs = set(zip(scaled.sums.tolist(), scaled.codes.tolist(), strict=True))
            assert len(pairs) == 1 << len(cell.sum) + len(cell.code)


def test_a_product_that_is_one_off_is_seen():
    cell = _cell(3, 5, Structure.LUT4)
    sums, codes = np.array([-16, 3, 15]), np.array([0, 9, 63])
    right = np.array([-16 * 8, 3 * (9 << 1), 15 * (15 << 7)])
    assert not wrong_products(cell, Scaled(sums, codes, right)).any()
    wrong = wrong_products(cell, Scaled(sums, codes, right + np.array([0, 0, 1])))
    assert wrong.tolist() == [0, 0, 1]


class Flawed(BlockScaleCell):
    """Multiplies by other numbers than 8 to 15."""

    def _held(self, m, value, name):
        return super()._held(m, value & ~1 if name in ("low", "word") else value, name)


def test_proof_has_a_case_for_every_scale_and_sees_a_fault(tmp_path, monkeypatch):
    cases = [case for case in cases_of(["e2m1", "nvfp4", "mxfp4"]) if case.kind == "scale"]
    assert {(case.weight, case.structure) for case in cases} == {
        (weight, structure) for weight in ("nvfp4", "mxfp4") for structure in Structure}
    assert not any(case.kind == "scale" for case in cases_of(["e2m1", "e3m2"]))

    def scales(*arguments):
        return [case for case in cases if case.structure in ("lut6", "dsp")]
    monkeypatch.setattr(module, "cases_of", scales)
    results, _ = prove(tmp_path / "right")
    assert {case["mismatches"] for result in results for case in result["cases"]} == {0}
    assert all(result["exhaustive"] for result in results)
    monkeypatch.setattr(module, "BlockScaleCell", Flawed)
    results, _ = prove(tmp_path / "flawed")
    wrong = {(case["weight"], case["structure"]) for result in results for case in result["cases"]
             if case["mismatches"]}
    assert wrong == {("nvfp4", "lut6")}


@pytest.mark.parametrize("man, structure, stages, late", [
    (0, "lut4", 1, False), (1, "lut4", 2, False), (3, "lut4", 2, False), (0, "lut6", 1, False),
    (1, "lut6", 1, True), (2, "lut6", 2, False), (3, "lut6", 2, True), (1, "dsp48", 2, False),
    (3, "gates", 1, False)])
def test_its_stages_are_those_of_the_chip(man, structure, stages, late):
    cell = _cell(man, 4, structure)
    assert (cell.stages, cell.out.late) == (stages, late)
    assert len(cell.o) == (2 * (4 + man + 2) + 1 if late else cell.out.bits)


def test_a_prepared_word_multiplies_as_its_code():
    scale, sums = BlockScale(16, 3), np.arange(-4096, 4096)[:, None]
    words = ScaleWord(scale, Structure.LUT6)
    assert words.prepared and words.width == 8 and len(set(words.words.tolist())) == 64
    for kind in (np.int64, object):
        products = words.products(sums.astype(kind), words.words[None], 13, 24)
        assert np.array_equal(products, sums * scale.factors[None])
    plain = ScaleWord(scale, Structure.GATES)
    assert not plain.prepared and plain.words.tolist() == list(range(64))


def test_a_word_that_is_no_scale_means_what_the_circuit_makes_of_it():
    """1, 2 and 4 times the sum put together bit by bit, for a sum of 3; more than bits hold."""
    words = ScaleWord(BlockScale(16, 3), Structure.LUT6)
    assert words.products([3], [0], 13, 24).tolist() == [3 * 16 + (3 | 6 | 12)]
    assert words.products([3], [4], 13, 24).tolist() == [3 * 16 - (3 | 6 | 12)]
    # 72 times the largest sum is cut to 17 bits, and has the sign of the sum.
    assert words.products([4095], [0b00111010], 13, 24).tolist() == [
        (4095 * (16 + 8 * 5)) % (1 << 17)]

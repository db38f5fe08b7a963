"""The proof of processing elements: which cases, one simulation for equal circuits, resuming."""

import csv
import json
from dataclasses import replace

import pytest
from amaranth.hdl import Mux
from systolith.gen.cli.command import MISMATCH
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.study import prove as module
from systolith.gen.study.prove import cases_of, circuits_of, prove, summary
from systolith.hw.element.ints import IntArithmetic
from systolith.hw.formats import catalogue
from systolith.hw.spec.structures import Structure
from systolith.sim.rtl.block_scales import EXHAUSTIVE


def test_every_pair_of_the_catalogue_that_can_be_multiplied_is_a_case():
    pairs = {(case.activation, case.weight) for case in cases_of(structures=["lut4"])}
    names = catalogue()
    assert {("int8", "uint4"), ("e4m3", "e5m2fnuz"), ("bipolar1", "bipolar1")} <= pairs
    assert not {("e8m0fnu", "e4m3"), ("e4m3", "bipolar1"), ("lns8", "int8")} & pairs
    assert {("int8", "mxint8"), ("e2m1", "nvfp4")} <= pairs and "mxfp4" not in {
        activation for activation, _ in pairs}
    assert all(activation in names and weight in names for activation, weight in pairs)


def test_cases_have_all_structures_and_both_depths():
    cases = cases_of(["int4", "e2m1"])
    assert {case.structure for case in cases} == set(Structure)
    for case in cases:
        fast = replace(case, stages=None)
        assert {1, fast.rules().stages} == {
            other.stages for other in cases if replace(other, stages=None) == fast}
    shared = {case.structure for case in cases if case.columns == 2}
    assert shared == {"dsp", "dsp48"}


def test_formats_of_the_same_circuit_are_proven_together(tmp_path):
    results, (lines, table) = prove(tmp_path / "proof", ["e2m1", "e2m1b3"], ["lut4"])
    assert all(result["exhaustive"] for result in results)
    one = [result for result in results if result["cases"][0]["lanes"] == 1]
    assert all(len(result["cases"]) == 4 for result in one)
    assert {case["checked"] for result in one for case in result["cases"]} == {256}
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == sum(len(result["cases"]) for result in results)
    assert {row["mismatches"] for row in rows} == {"0"}
    heading, structure, everything = summary(results)
    assert dict(zip(heading, structure, strict=True))["format pairs"] == "4"
    assert structure[1:] == everything[1:]

    # Interrupted in the middle of a line, it goes on with what is missing.
    text = lines.read_text().splitlines()
    lines.write_text("\n".join(text[:-1]) + "\n" + text[-1][:30])
    again = []

    def noted(circuits):
        again.extend(circuits)
        return real(circuits)
    real = module._prove_together
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_prove_together", noted)
        resumed, _ = prove(tmp_path / "proof", ["e2m1", "e2m1b3"], ["lut4"])
    assert [circuit.key for circuit in again] == [json.loads(text[-1])["key"]]
    assert [result["cases"] for result in resumed] == [result["cases"] for result in results]


class Flawed(IntArithmetic):
    """Takes -2 for 1."""

    def decode_activation(self, m, codes):
        return Mux(codes == 2, 1, codes)


def test_a_wrong_element_fails_and_its_operands_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "arithmetic", Flawed)
    arguments = ["prove", "--formats", "int2", "--structures", "gates", "-o", str(tmp_path)]
    assert main(arguments) == MISMATCH
    assert "int2 x int2, 1 lanes, 1 column, gates, 1 stages: a=[2]" in capsys.readouterr().out


def test_wrong_names_are_refused():
    for formats, structures, message in (
            (["int99"], None, "from 1 to 16"), (["int8"], ["lut5"], "must be among lut6"),
            (["int8x"], None, "is no number format"), (["e8m0fnu"], None, "no products")):
        with pytest.raises(UserError, match=message):
            cases_of(formats, structures)


def test_results_of_something_else_are_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="is no result"):
        prove(tmp_path, ["int2"], ["lut4"])


def test_circuits_keep_all_cases_and_are_found_again(tmp_path, monkeypatch):
    cases = cases_of(["int2", "uint2"])
    circuits = circuits_of(cases, tmp_path / "circuits.jsonl")
    assert sorted(case for circuit in circuits for case in circuit.cases) == sorted(cases)
    assert all(len({case.columns for case in circuit.cases}) == 1 for circuit in circuits)
    monkeypatch.setattr(module, "_fingerprint", None)
    assert circuits_of(cases, tmp_path / "circuits.jsonl") == circuits


@pytest.mark.parametrize("bits, every", [
    ((EXHAUSTIVE - 9, 8), True), ((EXHAUSTIVE - 8, 8), True), ((EXHAUSTIVE - 7, 8), False)])
def test_products_by_scales_are_tried_all_up_to_a_bound(monkeypatch, bits, every):
    monkeypatch.setattr(module.Circuit, "operand_bits", bits)
    case = next(case for case in cases_of(["int8", "mxint8"]) if case.kind == "scale")
    assert module.Circuit("", (case,)).exhaustive == every


@pytest.mark.parametrize("bits, every", [((8, 7), True), ((8, 8), True), ((8, 9), False)])
def test_products_are_tried_all_up_to_a_bound(monkeypatch, bits, every):
    monkeypatch.setattr(module.Circuit, "operand_bits", bits)
    case = next(case for case in cases_of(["int8"]) if case.kind != "scale")
    assert module.Circuit("", (case,)).exhaustive == every

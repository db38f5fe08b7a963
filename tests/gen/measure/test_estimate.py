"""Estimates of areas: of what they are made, what they refuse, and that none is taken for a
measurement."""

import json
import re

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_rtlil
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import estimate as module
from systolith.gen.measure.area import built_for
from systolith.gen.measure.estimate import (
    estimate,
    figures_by,
    fit_content,
    measured_targets,
    warning,
)
from systolith.gen.measure.hierarchy import PARTS
from systolith.gen.measure.module_terms import (
    KINDS,
    _facts,
    element_base,
    element_key,
    element_terms,
    terms_of,
)
from systolith.gen.measure.ram_choice import ram_of, scratchpads
from systolith.gen.measure.word_bits import word_bits
from systolith.hw.core.cores import ONE
from systolith.hw.spec.arch import Arch

CHIP = Arch(name="small", rows=4, columns=4, operand_depth=256, table_depth=256)
#: Not modules of the core itself.
_ELEMENT = "systolith_pe"


def test_every_module_of_a_core_is_estimated():
    """A module that is new to the core must be in KINDS."""
    assert _built(CHIP) == {_ELEMENT, *(KINDS[kind].module for kind in terms_of(CHIP))}
    assert {kind.part for kind in KINDS.values()} <= set(PARTS)


def _built(arch):
    return {name for name in re.findall(r"^module \\\\?(\S+)", core_rtlil(arch), re.MULTILINE)}


def test_every_module_of_several_cores_is_estimated():
    """What they share is estimated with all that is inside, but for wires and the interrupt."""
    two = Arch(**(CHIP.to_dict() | {"cores": 2}))
    shared = [KINDS[kind].module for kind in terms_of(two) if KINDS[kind].shared]
    cores = {name.replace("systolith_core", ONE) for name in _built(CHIP)}
    rest = _built(two) - cores - {"systolith_core"}
    assert len(shared) == 2 and {name for name in rest if not any(
        name == module or name.startswith(f"{module}.") for module in shared)} == set()
    assert {count for kind, (count, _) in terms_of(two).items()
            if KINDS[kind].instances(CHIP) == 1} == {2}


def test_several_cores_cost_what_each_does_and_what_they_share():
    found = [estimate(Arch(**(CHIP.to_dict() | {"cores": cores}))) for cores in (1, 2, 4)]
    one, two, four = (item.total for item in found)
    assert (two.dsp, two.bram, four.bram) == (2 * one.dsp, 2 * one.bram, 4 * one.bram)
    for name in ("lut", "ff"):
        shared = [getattr(item, name) - cores * getattr(one, name)
                  for item, cores in ((two, 2), (four, 4))]
        assert 0 < shared[0] < shared[1] < getattr(one, name)
    assert found[1].parts["dma"].lut == 2 * found[0].parts["dma"].lut


@pytest.mark.parametrize("target", measured_targets())
def test_a_fit_has_costs_of_all_that_a_core_has(target):
    fit = json.loads(fit_content(target))
    assert fit["target"] == target and set(terms_of(CHIP)) <= set(fit["kinds"])
    for kind, costs in fit["kinds"].items():
        assert {"lut", "ff"} <= set(costs) and all(
            cost > 0 for some in costs.values() for cost in some.values()), kind
    for name in ("lut", "ff"):
        assert fit["error"][name]["median"] < 0.03 and fit["error"][name]["worst"] < 0.1


def test_an_estimate_is_the_sum_of_its_modules():
    """By a fit in which every term of a module costs one, and an element 7 LUTs a lane."""
    arch = built_for(CHIP, "ecp5")
    ones = {kind: {"lut": dict.fromkeys(terms, 1.0), "ff": {}}
            for kind, (_, terms) in terms_of(arch).items()}
    fit = {"kinds": ones, "elements": {element_key(arch): {"lanes": [1, 2], "costs": {
        "lut": {"lanes": 7.0}, "ff": {}, "dsp": {"lanes": 1.0}}}}}
    parts = figures_by(fit, arch)
    assert parts["processing elements"].dsp == 16
    assert parts["processing elements"].lut == 16 * (7 + element_base(arch)["lut"])
    count, terms = terms_of(arch)["accumulator"]
    assert (count, parts["accumulators"].lut) == (4, 4 * round(sum(terms.values())))
    # blocks: 4096 words of 4 bytes, 1024 of 32 bits, 256 of four lanes' 82 bits, ... of which two
    # copies of each column's sums
    assert parts["accumulators"].bram == 4 * 2 * ram_of(512, arch.accumulator_bits)[0]
    assert element_terms(arch)["operands"] == 16


@pytest.mark.parametrize(("memory", "found"), [
    ((512, 64, 2), (2, 0)), ((64, 312), (9, 0)), ((2048, 64, 2), (8, 0)),
    # bytes of 9 bits are written apart: two for 12 bits
    ((8192, 32, 16), (16, 0)), ((1024, 36, 3), (3, 0)), ((4096, 36, 3), (9, 0)),
    # of LUTs, 16 words of 4 bits a cell, where blocks would weigh more; a copy for each port
    ((64, 16, 1, 2), (0, 32)), ((64, 28, 1, 2), (2, 0)), ((64, 21, 1, 2), (2, 0)),
    ((256, 4), (0, 16)), ((1024, 97), (6, 0))])
def test_ram_is_what_yosys_made_of_it(memory, found):
    """Memories of chips that were mapped for ECP5."""
    assert ram_of(*memory) == found


def test_memories_of_even_and_odd_addresses():
    """Two of half the words, each written apart where the whole is."""
    arch = Arch(rows=4, columns=4, activation_depth=1001, weight_depth=512)
    both = Arch(**(arch.to_dict() | {"two_writes": True, "two_fillings": True}))
    plain, split = scratchpads(arch), scratchpads(both)
    (words, bits, parts), *rest = plain
    assert (words, split[:2]) == (1001, 2 * [(501, bits, parts)])
    assert split[2:4] == 2 * [(256, *rest[0][1:])] and split[4:] == rest[1:]


def test_more_costs_more():
    least = estimate(CHIP).total
    covered = json.loads(fit_content("ecp5")).get("options", [])
    for change in ({"rows": 8}, {"accumulator_depth": 4096}, {"leaky": True}, {"lanes": 2},
                   {"load_windows": True}, *({name: True} for name in covered)):
        more = estimate(Arch(**(CHIP.to_dict() | change))).total
        assert more.lut > least.lut and more.ff > least.ff and more.bram >= least.bram, change
    assert estimate(CHIP, dsp=False).total.dsp == 0 < least.dsp


@pytest.mark.parametrize(("change", "target", "why"), [
    ({}, "xc7", "only for ecp5"), ({"shared_columns": 4}, "ecp5", "4 columns"),
    ({"stages": 2}, "ecp5", "stages"), ({"post_stages": "few"}, "ecp5", "post.stages"),
    ({"lanes": 64}, "ecp5", "with 64 lanes"),
    ({"weight": "int5"}, "ecp5", "int8 x int5")])
def test_what_was_not_measured_is_refused(change, target, why):
    with pytest.raises(UserError, match=why):
        estimate(Arch(**(CHIP.to_dict() | change)), target)


@pytest.mark.parametrize("name", module.OPTIONS)
def test_options_are_estimated_where_the_fit_has_chips_with_them(name, monkeypatch):
    arch = Arch(**(CHIP.to_dict() | {name: True}))
    fit = json.loads(fit_content("ecp5"))
    monkeypatch.setattr(module, "_fit", lambda target: fit | {"options": [name]})
    assert estimate(arch).total.lut >= estimate(CHIP).total.lut
    monkeypatch.setattr(module, "_fit", lambda target: fit | {"options": []})
    with pytest.raises(UserError, match=f"for (buffers|array).{name}"):
        estimate(arch)


def test_it_says_what_it_is_worth():
    error = {"designs": 50, "lut": {"median": 0.012, "worst": 0.061},
             "ff": {"median": 0.009, "worst": 0.05}}
    assert warning(error) == (
        "areas are estimated, not synthesized: of 50 random chips LUT 1.2 % off (median; at worst "
        "6.1 %), FF 0.9 % off (median; at worst 5.0 %)")
    assert "earlier version of the hardware" in warning(error, stale=True)
    assert estimate(load_chip("ulx3s-8x8")).error["designs"] >= 20


@pytest.mark.parametrize("rows, columns, bits, slots", [
    (16, 4, 64, 5), (4, 4, 32, 10), (4, 32, 64, 5)])
def test_beats_of_the_longest_word(rows, columns, bits, slots):
    """Of activations of all rows, weights of all columns, and 40 bytes of parameters."""
    assert _facts(Arch(rows=rows, columns=columns, bus_bits=bits))["slots"] == slots


#: Options that an array of lanes has, and what they add to which module.
_LANES = {"rows": 16, "columns": 16, "lanes": 16, "activation": "bipolar1", "weight": "bipolar1",
          "bit_planes": True}


@pytest.mark.parametrize("option, kind, term", [
    ("tap_rows", "pixels", "bank addresses"), ("tap_rows", "writer", "copies"),
    ("tap_rows", "core", "in banks"), ("plane_rows", "edges", "planes"),
    ("plane_rows", "array", "plane_rows")])
def test_options_of_arrays_have_terms_of_their_own(option, kind, term):
    without, there = (terms_of(Arch(**_LANES, **{option: on}))[kind][1][term]
                      for on in (False, True))
    assert without == 0 < there


def test_banks_of_the_activation_memory_are_memories_of_their_own():
    one, many = (scratchpads(Arch(**_LANES, tap_rows=on)) for on in (False, True))
    assert one[0] == (4096, 256, 16) and many[:16] == 16 * [(4096, 16, 1)] and one[1:] == many[16:]


def test_bits_of_words_that_load_keeps():
    """Parameters of all lanes are the longest word; where one of activations is longer, of each of
    its bytes the two bits of a group of two signs."""
    assert word_bits(CHIP) == CHIP.post_lanes * CHIP.parameter_bits > 300
    signs = Arch(rows=8, columns=2, lanes=16, activation="bipolar1", weight="bipolar1")
    longest = signs.post_lanes * signs.parameter_bits
    assert word_bits(signs) == longest + 2 * sum(8 * n >= longest for n in range(64)) < 300


def test_only_windows_of_loads_cost_what_they_are_made_of():
    for there in (False, True):
        _, terms = terms_of(Arch(**(CHIP.to_dict() | {"load_windows": there})))["load"]
        of_windows = {name: cost for name, cost in terms.items() if name.startswith("window ")}
        assert len(of_windows) == 4 and all((cost > 0) == there for cost in of_windows.values())


@pytest.mark.parametrize("change", [
    {}, {"rows": 8}, {"columns": 8, "shared_columns": 2}, {"accumulator_depth": 64}])
def test_bits_of_control_are_registers_of_the_circuit(change):
    arch = Arch(**(CHIP.to_dict() | change))
    text = core_rtlil(arch).partition("module \\systolith_core.array\n")[2].partition("\nend\n")[0]
    found = re.findall(r"wire width (\d+) \\control_\d+$", text, re.MULTILINE)
    _, terms = terms_of(arch)["array"]
    assert terms["control"] == sum(map(int, found)) > 0


@pytest.mark.parametrize("latency, bits", [(13, 4), (14, 4), (15, 5)])
def test_bits_of_a_latency_hold_two_more(latency, bits):
    """The counter of what is in flight, a register of the circuit."""
    columns = latency - _facts(CHIP)["latency"] + CHIP.columns
    arch = Arch(**(CHIP.to_dict() | {"columns": columns, "post_lanes": 1}))
    assert _facts(arch)["latency"] == latency
    found = re.search(r"wire width (\d+) \\in_flight$", core_rtlil(arch), re.MULTILINE)
    assert terms_of(arch)["array"][1]["latency bits"] == int(found[1]) == bits

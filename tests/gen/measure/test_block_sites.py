"""Sites of blocks: each block has one of its own, short wires, and what is left to the placer."""

import numpy as np
import pytest
from systolith.gen.measure.block_sites import place_blocks, sites

PART = "LFE5U-85F"


def netlist(rams, multipliers=0, *, enables=1):
    """RAMs in a row, each wired to the next one through flip-flops; multipliers beside the RAMs,
    each with so many enables of its own."""
    cells, bits = {}, iter(range(2, 10**6))

    def cell(kind, name, **pins):
        cells[name] = {"type": kind, "attributes": {}, "parameters": {},
                       "connections": {pin: [bit] for pin, bit in pins.items()}}
    outputs = [next(bits) for _ in range(rams)]
    for number in range(rams):
        taken = next(bits)
        cell("TRELLIS_FF", f"f{number}", CLK=1, DI=outputs[number - 1], Q=taken)
        cell("DP16KD", f"ram{number}", CLKA=1, DIA0=taken, DOB0=outputs[number])
    for number in range(multipliers):
        own = {f"CE{n}": next(bits) for n in range(enables)}
        cell("MULT18X18D", f"product{number}", CLK0=1, A0=outputs[number % rams],
             P0=next(bits), **own)
    return {"cells": cells}


def chosen(module, kind):
    return {name: cell["attributes"].get("BEL") for name, cell in module["cells"].items()
            if cell["type"] == kind}


@pytest.mark.parametrize("part, rams, multipliers", [
    ("LFE5U-12F", 56, 28), ("LFE5U-25F", 56, 28), ("LFE5U-45F", 108, 72), ("LFE5U-85F", 208, 156),
    ("LFE5UM5G-85F", 208, 156)])
def test_sites_of_a_part_as_its_data_sheet_counts_blocks(part, rams, multipliers):
    found = sites(part)
    assert len({name for *_, name in found["DP16KD"]}) == rams
    assert len({name for *_, name in found["MULT18X18D"]}) * 4 == multipliers * 3
    for some in found.values():
        assert all(name.startswith(f"X{x}/Y{y}/") for x, y, name in some)


def test_every_block_has_a_site_of_its_own_and_neighbours_are_near():
    module = netlist(40, 30)
    assert place_blocks(module, PART) == 70
    where = {name: (x, y) for some in sites(PART).values() for x, y, name in some}
    for kind, count in (("DP16KD", 40), ("MULT18X18D", 30)):
        found = chosen(module, kind)
        assert len(set(found.values())) == count and set(found.values()) <= set(where)
    rams = list(chosen(module, "DP16KD").values())

    def length(order):
        return sum(abs(where[one][axis] - where[other][axis]) for axis in range(2)
                   for one, other in zip(order, [*order[1:], order[0]], strict=True))
    shuffled = list(np.random.default_rng(1).permutation(rams))
    assert length(rams) < length(shuffled) / 2


def test_the_same_netlist_has_the_same_sites():
    one, two = netlist(12), netlist(12)
    place_blocks(one, PART)
    place_blocks(two, PART)
    assert chosen(one, "DP16KD") == chosen(two, "DP16KD")


@pytest.mark.parametrize("module, part", [
    (netlist(4), "iCE40UP5K"), (netlist(4), "GW2AR-18"), (netlist(60), "LFE5U-25F"),
    ({"cells": {}}, PART)])
def test_what_is_left_to_the_placer(module, part):
    assert place_blocks(module, part) == 0
    assert not any(chosen(module, "DP16KD").values())


def test_a_kind_with_a_site_already_is_left_alone():
    module = netlist(8, 4)
    module["cells"]["ram3"]["attributes"]["BEL"] = "X4/Y22/EBR0"
    assert place_blocks(module, PART) == 4
    assert [name for name, site in chosen(module, "DP16KD").items() if site] == ["ram3"]


def test_multipliers_with_more_enables_than_their_group_are_left_to_the_placer():
    module = netlist(4, 3)
    assert place_blocks(module, PART) == 7
    module = netlist(4, 117, enables=2)          # three of them in each group
    assert place_blocks(module, PART) == 4
    assert not any(chosen(module, "MULT18X18D").values())

"""Annealing of a placed design: what stays, what stands together, and that wires become short."""

import copy
import random

import pytest
from systolith.gen.kit.processes import Processes, ToolError
from systolith.gen.measure import refine as module
from systolith.gen.measure.block_sites import logic_tiles, sites
from systolith.gen.measure.refine import refine

PART = "LFE5U-12F"
SLICES = "ABCD"


def cell(kind, bel, inputs, outputs, **parameters):
    pins = {**inputs, **outputs}
    return {"type": kind, "parameters": parameters, "attributes": {"NEXTPNR_BEL": bel},
            "port_directions": {pin: "output" if pin in outputs else "input" for pin in pins},
            "connections": {pin: [bit] for pin, bit in pins.items()}}


def scattered(seed=1, stages=40):
    """A ring of LUTs with flip-flops, far from each other; some have enables and resets. A chain of
    carries, a block of RAM and distributed RAM stand where they are."""
    draw = random.Random(seed)
    tiles = draw.sample([tile for tile in logic_tiles(PART) if tile not in ((10, 10), (20, 20))],
                        2 * stages)
    cells = {}
    for n in range(stages):
        (x, y), (u, v) = tiles[2 * n:2 * n + 2]
        before = 2000 + (n - 1) % stages
        # a LUT alone, one with its flip-flop, and a flip-flop alone
        cells[f"alone_{n}"] = cell("TRELLIS_COMB", f"X{x}/Y{y}/SLICEA.K0", {"A": before},
                                   {"F": 1000 + n})
        cells[f"pair_{n}"] = cell("TRELLIS_COMB", f"X{u}/Y{v}/SLICEB.K1", {"A": 1000 + n},
                                  {"F": 3000 + n})
        cells[f"pair_{n}_ff"] = cell(
            "TRELLIS_FF", f"X{u}/Y{v}/SLICEB.FF1",
            {"DI": 3000 + n, "CLK": 1, "CE": 100 + n, "LSR": 20 + n // 20}, {"Q": 4000 + n},
            SD="1 ", LSRMUX="LSR", CEMUX="CE")
        cells[f"ff_{n}"] = cell("TRELLIS_FF", f"X{x}/Y{y}/SLICED.FF0",
                                {"M": 4000 + n, "CLK": 1, "CE": 200 + n, "LSR": 20 + n // 20},
                                {"Q": 2000 + n}, SD="0 ", LSRMUX="LSR", CEMUX="CE")
    for place in range(4):
        cells[f"carry_{place}"] = cell(
            "TRELLIS_COMB", f"X10/Y10/SLICE{SLICES[place // 2]}.K{place % 2}",
            {"A": 2000, **({"FCI": 5000 + place - 1} if place else {})}, {"FCO": 5000 + place},
            MODE="CCU2")
    x, y, name = sites(PART)["DP16KD"][0]
    cells["block"] = cell("DP16KD", name, {"ADA0": 2000, "CLKA": 1}, {"DOA0": 6000})
    cells["memory"] = cell("TRELLIS_COMB", "X20/Y20/SLICEA.K0", {"A": 2001, "WRE": 2002, "WCK": 1},
                           {"F": 6001}, MODE="DPRAM")
    cells["write"] = cell("TRELLIS_RAMW", "X20/Y20/SLICEC.RAMW", {"A0": 2003}, {"WDO0": 6002})
    return {"cells": cells, "netnames": {}}


def place(one):
    tile, _, where = one["attributes"]["NEXTPNR_BEL"].rpartition("/")
    return tile, where


def wrong(cells):
    """What nextpnr would refuse of a placement."""
    found, keys, enables = [], {}, {}
    bels = [one["attributes"]["NEXTPNR_BEL"] for one in cells.values()]
    found += [bel for bel in bels if bels.count(bel) > 1]
    for name, one in cells.items():
        tile, where = place(one)
        if one["type"] == "TRELLIS_FF":
            links = one["connections"]
            if keys.setdefault(tile, links.get("LSR")) != links.get("LSR"):
                found.append(f"reset of {name}")
            if enables.setdefault((tile, where[:6]), links.get("CE")) != links.get("CE"):
                found.append(f"enable of {name}")
        if name.endswith("_ff") and place(cells[name[:-3]]) != (tile, where.replace("FF", "K")):
            found.append(f"{name} is not with its LUT")
        if one["type"] == "TRELLIS_COMB" and tile == "X20/Y20" and where.startswith("SLICEC"):
            found.append(f"{name} stands where memory is written")
    carries = [place(cells[f"carry_{n}"]) for n in range(4)]
    if len({tile for tile, _ in carries}) > 1 or [where for _, where in carries] != [
            "SLICEA.K0", "SLICEA.K1", "SLICEB.K0", "SLICEB.K1"]:
        found.append("the chain of carries")
    return found


def length(cells):
    def at(name):
        tile = place(cells[name])[0]
        x, y = tile[1:].split("/Y")
        return int(x), int(y)
    return sum(abs(a - b) for n in range(40) for one, other in (
        (f"alone_{n}", f"pair_{n}"), (f"pair_{n}", f"ff_{n}"), (f"ff_{n}", f"alone_{(n + 1) % 40}"))
        for a, b in zip(at(one), at(other), strict=True))


def refined(design, seed=1):
    with Processes() as processes:
        refine(design, PART, seed, processes)
    return design["cells"]


@pytest.mark.parametrize("seed", [1, 2])
def test_wires_become_short_and_the_placement_stays_legal(seed):
    before = scattered(seed)
    after = refined(copy.deepcopy(before), seed)
    assert not wrong(before["cells"])
    assert not wrong(after)
    assert length(after) < length(before["cells"]) / 10
    for name in ("block", "memory", "write"):
        assert place(after[name]) == place(before["cells"][name])
    # nothing but places has changed
    assert {name: one["connections"] for name, one in after.items()} == {
        name: one["connections"] for name, one in before["cells"].items()}


def test_the_same_seed_gives_the_same_places():
    first, same, other = (refined(scattered(), seed) for seed in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize("rule, without", [
    ("_tile_key", lambda cell: 0), ("_slice_key", lambda cell: 0),
    ("_direct", lambda cell, pin: pin == "FCI"), ("_MEMORY_MODES", ())])
def test_a_forgotten_rule_is_found(rule, without, monkeypatch):
    """What these tests call legal is what the rules bring about."""
    monkeypatch.setattr(module, rule, without)
    design = scattered()
    after = refined(copy.deepcopy(design))
    assert wrong(after) or place(after["memory"]) != place(design["cells"]["memory"])


def test_what_is_not_a_placement_is_refused():
    design = scattered()
    # a loop without a register
    design["cells"]["alone_0"]["connections"]["A"] = [3000]
    with pytest.raises(ToolError, match="annealing failed: a loop without a register"):
        refined(design)

"""Finalists: the best of a front are placed and routed, once, and their figures stay apart."""

import csv
import json

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import place_and_route
from systolith.gen.measure.flows import FLOWS
from systolith.gen.measure.paths import Path
from systolith.gen.measure.place_and_route import Timing
from systolith.gen.report import pareto
from systolith.gen.study.sweep import point as module
from systolith.gen.study.sweep.finalists import finalists, table_of
from systolith.gen.study.sweep.point import PlacedOf
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.space_file import read_space

from ....sweeps import SPACE, fake


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])
    (tmp_path / "net.onnx").write_bytes(b"a network")
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


def point(name, cycles, lut, feasible=True):
    return {"id": name, "feasible": feasible, "figures": {"cycles": cycles, "lut": lut}}


def test_the_best_of_each_objective_then_evenly():
    front = [point(f"p{n}", 10 + n, 100 - n) for n in range(11)]
    results = [*front, point("beaten", 30, 200), point("too large", 1, 1, feasible=False)]

    def chosen(number):
        return [item["id"] for item in finalists(results, ["cycles", "lut"], number)]
    assert chosen(1) == ["p0"]
    assert chosen(2) == ["p0", "p10"]
    assert chosen(3) == ["p0", "p5", "p10"]
    assert chosen(99) == [item["id"] for item in front]
    assert chosen("all") == [*(item["id"] for item in front), "beaten"]
    unknown = [point("x", None, 1)]
    assert [finalists(unknown, ["cycles", "lut"], number) for number in (3, "all")] == [[], []]


def test_finalists_are_placed_once(space, tmp_path):
    asked = []

    def spy(task):
        asked.append(task)
        return fake(task)
    results, _ = sweep(space, tmp_path / "out", evaluate=spy, finalists=2)
    placed = [task for task in asked if isinstance(task, PlacedOf)]
    assert len(placed) == 2 and asked[-2:] == placed
    there = [item for item in results if item.get("placed")]
    assert len(there) == 2 and all(item["feasible"] for item in there)
    for item in there:
        macs = item["macs_per_cycle"]
        assert item["figures"]["placed_mhz"] == 100 - macs
        assert item["figures"]["placed_images_per_s"] == pytest.approx(
            (100 - macs) * 1e6 / (5000 // macs))
        assert item["figures"]["clock_mhz"] != 100 - macs       # what the chip asks for
    assert f"{there[0]['placed']['mhz']:.1f}" in table_of(results)
    assert f"slowest path of {there[0]['id']}: a -> b" in table_of(results)
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["placed_mhz"] != "" for row in rows) == 2

    asked.clear()
    sweep(space, tmp_path / "out", evaluate=spy, finalists=3)
    assert [type(task) for task in asked] == [PlacedOf]
    asked.clear()
    results, _ = sweep(space, tmp_path / "out", evaluate=spy)
    assert not asked
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["state"] == "done"


def test_the_path_that_bounds_the_slowest_seed_is_kept(space, monkeypatch):
    paths = {1: [Path(("a",), 1.0, 2.0, 1)], 2: [Path(("b", "c"), 2.0, 3.5, 1)]}
    timings = [Timing({1: 50.0, 2: 40.0}, {}, paths), Timing({1: 50.0, 2: 40.0}, {}, {1: []})]
    monkeypatch.setattr(module, "board_timing", lambda arch, **words: timings.pop(0))
    task = read_space(space).points[0].placed
    assert task.measure() == {
        "mhz": 45.0, "by_seed": {1: 50.0, 2: 40.0}, "cells": {},
        "slowest": "b -> c (5.5 ns: logic 2.0, routing 3.5)"}
    assert task.measure()["slowest"] == ""


def test_a_board_without_flow_is_recorded(space):
    found = [item.placed for item in read_space(space).points]
    assert {item.arch.board for item in found} == {"ulx3s-85f", "none"}
    bare = next(item for item in found if item.arch.board == "none")
    with pytest.raises(UserError, match="no open flow for the board 'none'"):
        bare.measure()
    assert len({item.key for item in found}) == len(found)


def test_a_space_says_how_its_finalists_are_placed(space):
    plain = [item.placed for item in read_space(space).points]
    space.write_text(f"[finalists]\nseeds = 2\nmhz = 130\n{SPACE}")
    other = [item.placed for item in read_space(space).points]
    assert {(item.seeds, item.arch.clock_mhz) for item in other} == {(2, 130)}
    assert {item.seeds for item in plain} == {3} and plain[0].arch.clock_mhz != 130
    assert not {item.key for item in plain} & {item.key for item in other}


def test_a_clock_that_no_pll_makes_is_recorded(space, monkeypatch):
    monkeypatch.setattr(type(FLOWS["ecp5"].placer), "command", lambda tool: ["nextpnr"])
    for name in ("core_verilog", "board_verilog", "synthesize"):
        monkeypatch.setattr(place_and_route, name, lambda *arguments, **options: "")
    space.write_text(f"[finalists]\nmhz = 9000\n{SPACE}")
    with pytest.raises(UserError, match="9000 MHz: the PLL of the ulx3s-85f makes"):
        read_space(space).points[0].placed.measure()


@pytest.mark.parametrize("table, said", [
    ("seeds = 0", "seeds must be a whole number"), ("seeds = true", "seeds must be a whole"),
    ("mhz = -1", "mhz must be a number above 0"), ("mhz = nan", "mhz must be a number above 0"),
    ("clock = 3", "clock")])
def test_what_finalists_cannot_be(space, table, said):
    space.write_text(f"[finalists]\n{table}\n{SPACE}")
    with pytest.raises(UserError, match=said):
        read_space(space)


@pytest.mark.parametrize("text", ['objectives = ["placed_mhz"]',
                                  'constraints = ["placed_mhz > 50"]'])
def test_placed_figures_decide_nothing_before(space, text):
    space.write_text(f"{text}\n{SPACE}")
    with pytest.raises(UserError, match="placed_mhz"):
        read_space(space)

"""Place and route: what it is asked for, seeds side by side, what is told and what is refused. The
placer itself takes minutes."""

import io
import json

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter
from systolith.gen.measure import array_clock, place_and_route
from systolith.hw.spec.arch import Arch

PATH = {"ns": 3.75, "logic_ns": 0.75, "routing_ns": 3.0, "levels": 1,
        "names": ["store.offset", "csr.bus__rdata"]}


@pytest.fixture(autouse=True)
def no_verilog(monkeypatch):
    monkeypatch.setattr(place_and_route, "core_verilog", lambda arch: "")
    monkeypatch.setattr(place_and_route, "board_verilog", lambda arch, core: "")


def test_the_median_of_several_seeds(tools):
    found = place_and_route.board_timing(load_chip("ulx3s-bnn"), seeds=(1, 5, 9), jobs=3)
    assert found.to_dict() == {
        "mhz": 35.0, "by_seed": {1: 31.0, 5: 35.0, 9: 39.0}, "cells": {"TRELLIS_FF": (7, 83640)},
        "critical_paths": {seed: [PATH] for seed in (1, 5, 9)}, "asked_mhz": 25.0, "closes": True}
    assert found.best == 9
    asked = tools()
    assert asked.pop(0) == ["yosys"]
    for command in asked:
        assert {"--85k", "CABGA381", "--freq", "25"} <= set(command)
        # placed with the board's pins, annealed, routed as it stands then, and detours again
        placing = "--no-place" not in command
        assert placing == ("--no-route" in command) == ("ulx3s.lpf" in command)
    assert sorted(command[command.index("--seed") + 1] for command in asked) == [
        "1", "1", "1", "5", "5", "5", "9", "9", "9"]


def test_without_a_compiler_nothing_is_annealed(tools, monkeypatch):
    monkeypatch.setattr(place_and_route, "compiler", lambda: None)
    place_and_route.board_timing(load_chip("ulx3s-bnn"), seeds=(1,))
    _, command = tools()
    assert {"ulx3s.lpf", "--freq", "25"} <= set(command)
    assert not {"--no-route", "--no-place"} & set(command)


@pytest.mark.parametrize("board, words", [
    ("ulx3s-12f", ["--12k", "--lpf", "ulx3s.lpf"]), ("icebreaker", ["--up5k", "icebreaker.pcf"]),
    ("tang-nano-20k", ["GW2AR-LV18QN88C8/I7", "cst=tang_nano_20k.cst"])])
def test_each_board_by_its_own_flow(board, words, tools):
    place_and_route.board_timing(load_chip("tiny-2x4-bnn", [f"board={board}"]), seeds=(1,))
    assert set(words) <= set(tools()[1])


def test_the_command(tools, capsys, tmp_path):
    path = tmp_path / "t.json"
    assert main(["timing", "--chip", "ulx3s-bnn", "--seeds", "2", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "31.5 MHz, the median of 31.0, 32.0" in out
    assert ("slowest path of seed 2: store.offset -> csr.bus__rdata (3.8 ns: logic 0.8, routing "
            "3.0)") in out
    assert "Place and route, seed 1: 31.0 MHz" in err and "seed 2: 32.0 MHz" in err
    assert json.loads(path.read_text())["mhz"] == 31.5


def test_a_clock_that_does_not_close_is_refused(tools, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_MHZ", "20")
    assert main(["timing", "--chip", "ulx3s-bnn", "--seeds", "2"]) == 1
    out, err = capsys.readouterr()
    assert "21.5 MHz, the median of" in out
    assert ("the ulx3s-85f runs at 25 MHz, which timing does not close: seed 2 closes 22.00 MHz, "
            "the best of 2; its slowest path is store.offset -> csr.bus__rdata") in err


@pytest.mark.parametrize("fake, message", [
    ("error", "nextpnr-ice40 failed: Unable to place cell 'y'$"),
    ("over", "the design does not fit the iCE40UP5K: 7,301 of 5,280 ICESTORM_LC$")])
def test_a_design_that_does_not_fit_is_told(fake, message, tools, monkeypatch):
    monkeypatch.setenv("FAKE", fake)
    with pytest.raises(UserError, match=message):
        place_and_route.board_timing(load_chip("tiny-2x4-bnn", ["board=icebreaker"]))


def test_boards_without_a_flow():
    with pytest.raises(UserError, match="no open flow for the board 'none'"):
        place_and_route.board_timing(Arch(rows=2, columns=2))


def test_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"nextpnr-ecp5 is neither on PATH .* pip install"):
        place_and_route.board_timing(load_chip("ulx3s-8x8"))


@pytest.mark.parametrize("interval", [-1.0, 1e9])
def test_the_placers_lines_become_progress(interval, monkeypatch):
    """All of them, or in a short time those that begin a stage."""
    stream = io.StringIO()
    monkeypatch.setattr(Reporter, "INTERVAL", interval)
    with Reporter(stream=stream) as progress, progress.step("Seed 1") as moved:
        stage = place_and_route._Stage(moved)
        for line in ("Info: Packing LUTs..", "Info: constrained", "Info: Creating initial analytic",
                     "Info:     at iteration #4, type ALL: wirelen solved = 1",
                     "Info: overlap: COMB=31.9%, FF=29.8%, RAM=44.8%, MUL=8.6%",
                     "Info: Running simulated annealing placer for refinement.",
                     "Info:   at iteration #5: temp = 0.000000, timing cost = 769, wirelen = 4",
                     "Info: Routing..",
                     "Info:      36000 |     5786      29445 |  178   818 |      4476|  2.58 70.9|",
                     "Info:     iter=3 wires=5 overused=1234 overuse=7 archfail=NA"):
            stage.line(line + "\n")
    stages = ["packing", "placing", "refining", "routing"]
    every = ["packing", "placing", "placing, round 4",
             "placing, 32 % on top of each other", "refining", "refining, round 5", "routing",
             "routing, 4,476 arcs left", "routing, round 3, 1,234 wires used twice"]
    assert stream.getvalue().splitlines()[1:-1] == [
        f"Seed 1: {where}" for where in (every if interval < 0 else stages)]


def test_an_array_alone(tools, monkeypatch, capsys, tmp_path):
    def synthesis(commands, netlist):
        netlist.write_text("{}")
        (netlist.parent / "stat.json").write_text(json.dumps({"modules": {
            "\\systolith_clock": {"num_cells_by_type": {"systolith_array": 1, "TRELLIS_FF": 50}},
            "\\systolith_array": {"num_cells_by_type": {"systolith_pe": 6, "TRELLIS_FF": 9}},
            "\\systolith_pe": {"num_cells_by_type": {"LUT4": 5, "CCU2C": 2, "TRELLIS_FF": 7}}}}))
        assert "systolith_array array(" in (netlist.parent / "design.v").read_text()
    monkeypatch.setattr(array_clock, "run_yosys", synthesis)
    path = tmp_path / "t.json"
    assert main(["timing", "--array", "int2", "--rows", "2", "--columns", "3", "--stages", "1",
                 "--seeds", "3", "--json", str(path)]) == 0
    assert "32.0 MHz, the median of 31.0, 32.0, 33.0" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert (found["mhz"], found["stages"], found["structure"]) == (32.0, 1, "lut4")
    assert [found["array"][key] for key in ("lut", "carry", "slice_lut", "ff")] == [30, 12, 54, 51]
    assert all("--freq" in command and "--lpf" not in command for command in tools())


@pytest.mark.parametrize("arguments, message", [
    ([], "timing needs either --chip"), (["--array", "foo"], "'foo' is no number format"),
    (["--array", "int2", "--stages", "60"], "no array of int2 x int2: stages"),
    (["--array", "int2", "--set", "array.rows=2"], "--set goes with --chip only")])
def test_arrays_that_are_refused(arguments, message, capsys):
    assert main(["timing", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("processors, seeds, jobs", [(2, 1, 1), (2, 2, 2), (2, 3, 2), (8, 3, 3)])
def test_seeds_run_one_a_processor(processors, seeds, jobs, monkeypatch):
    monkeypatch.setattr(place_and_route.os, "sched_getaffinity", lambda _: set(range(processors)),
                        raising=False)
    assert place_and_route.jobs_for(range(seeds)) == jobs

"""Place and route: what it is asked for, and what it refuses. The placer itself takes minutes."""

import json
import subprocess

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import array_clock, place_and_route
from systolith.hw.spec.arch import Arch


@pytest.fixture
def placer(monkeypatch):
    """A placer that reports 30 + seed MHz; gives the list of its command lines."""
    asked = []
    monkeypatch.setattr(place_and_route.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(place_and_route, "run_yosys",
                        lambda commands, result: result.write_text("{}"))

    def run(command, cwd, **options):
        asked.append(command[3:])
        seed = int(command[command.index("--seed") + 1])
        if "--lpf" in command:
            assert (cwd / command[command.index("--lpf") + 1]).is_file()
        (cwd / command[command.index("--report") + 1]).write_text(json.dumps({
            "fmax": {"clk": {"achieved": 30.0 + seed, "constraint": 25.0}},
            "utilization": {"TRELLIS_FF": {"used": 7, "available": 83640},
                            "DCCA": {"used": 0, "available": 56}}}))
        return subprocess.CompletedProcess(command, 0, "", "")
    monkeypatch.setattr(place_and_route.subprocess, "run", run)
    return asked


def test_the_median_of_several_seeds(placer):
    found = place_and_route.board_timing(load_chip("ulx3s-8x8"), seeds=(1, 5, 9))
    assert found.to_dict() == {"mhz": 35.0, "by_seed": {1: 31.0, 5: 35.0, 9: 39.0},
                               "cells": {"TRELLIS_FF": (7, 83640)}}
    assert all({"--85k", "CABGA381", "ulx3s.lpf"} <= set(command) for command in placer)


def test_the_command(placer, capsys, tmp_path):
    path = tmp_path / "t.json"
    assert main(["timing", "--chip", "ulx3s-8x8", "--seeds", "2", "--json", str(path)]) == 0
    assert "31.5 MHz, the median of 31.0, 32.0" in capsys.readouterr().out
    assert json.loads(path.read_text())["mhz"] == 31.5


def test_a_design_that_does_not_fit_is_told(placer, monkeypatch):
    monkeypatch.setattr(place_and_route.subprocess, "run", lambda command, **options: (
        subprocess.CompletedProcess(command, 1, "", "Info: x\nERROR: Unable to place cell\n")))
    with pytest.raises(UserError, match="place and route failed: Unable to place cell"):
        place_and_route.board_timing(load_chip("ulx3s-8x8"))


def test_boards_without_a_placer(placer):
    with pytest.raises(UserError, match="for boards with an ECP5; this chip's board is 'none'"):
        place_and_route.board_timing(Arch(rows=2, columns=2))


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(place_and_route.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        place_and_route.board_timing(load_chip("ulx3s-8x8"))


def test_an_array_alone(placer, monkeypatch, capsys, tmp_path):
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
    assert all("--freq" in command and "--lpf" not in command for command in placer)


@pytest.mark.parametrize("arguments, message", [
    ([], "timing needs either --chip"), (["--array", "foo"], "'foo' is no number format"),
    (["--array", "int2", "--stages", "60"], "no array of int2 x int2: stages"),
    (["--array", "int2", "--set", "array.rows=2"], "--set goes with --chip only")])
def test_arrays_that_are_refused(arguments, message, capsys):
    assert main(["timing", *arguments]) == 1
    assert message in capsys.readouterr().err

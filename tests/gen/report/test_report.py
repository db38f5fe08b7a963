"""Reports, files that are whole or not there, and progress."""

import io
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.compile import compile_graph
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import MANIFEST, new_file, new_folder, write_file
from systolith.gen.kit.progress import Reporter
from systolith.gen.measure.area import Area, Figures
from systolith.gen.report.contents import Chip, Clock
from systolith.gen.report.report import (
    area_rows,
    effort_line,
    make_report,
    markdown,
    read_report,
)
from systolith.gen.report.report import write_report as write
from systolith.hw.board.boards import BOARDS
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.effort import efforts, total

from ...networks import random_network


@pytest.fixture(scope="module")
def programs():
    made = {}
    for name, chip in (("board", "ulx3s-8x8"), ("none", "sim-16x16-int8")):
        arch = load_chip(chip, ["post.lanes=4"])
        made[name] = compile_graph(random_network(5, arch, layers=3)[0], arch)
    return made


def test_figures_are_those_of_the_cycle_model(programs):
    program = programs["board"]
    report, timing = make_report(program, latency=7), cycles(program, 7)
    found = report.cycles
    assert (found.total, found.compute) == (timing.cycles, timing.compute_cycles)
    assert found.utilization == pytest.approx(program.host.macs / timing.cycles / 64)
    assert found.images_per_second == pytest.approx(120e6 / timing.cycles)
    assert report.network.macs == sum(item.layer.macs for item in report.layers)
    for before, after in pairwise(report.layers):
        assert before.cost.last_cycle <= after.cost.last_cycle <= timing.cycles


def test_clock_says_where_it_comes_from(programs):
    assert make_report(programs["board"]).clock == Clock(120.0, "PLL of the ulx3s-85f")
    assert make_report(programs["none"]).clock == Clock(100.0, "assumed: clock.mhz of the chip")


def test_page_and_data_agree(programs, tmp_path):
    for program in programs.values():
        report = replace(make_report(program), area=AREA)
        write(report, tmp_path)
        assert read_report(tmp_path) == report
        page = (tmp_path / "report.md").read_text()
        assert page == markdown(report)
        assert f"{report.cycles.total:,} (cycle model" in page
        assert all(item.layer.name in page for item in report.layers)
    assert "the part has" not in page and "core alone, ecp5" in page


def test_of_several_cores_one_is_reported(programs):
    report = make_report(programs["none"])
    assert "| cores " not in markdown(report)
    several = replace(report, chip=Chip(replace(report.chip.arch, cores=2)))
    assert "2 on one port to memory, an image each" in markdown(several)


def test_arithmetic_of_the_network_stands_in_the_report(tmp_path):
    arch = load_chip("sim-16x16-int8")
    graph = random_network(5, arch, layers=3)[0]
    layers = efforts(graph)
    report = replace(make_report(compile_graph(graph, arch)), arithmetic=layers)
    write(report, tmp_path)
    assert read_report(tmp_path).arithmetic == layers
    page, whole = (tmp_path / "report.md").read_text(), total(layers)
    row = " | ".join(f"{n:,}" for n in (whole.macs, whole.ace, whole.bops, whole.weight_bytes))
    assert whole.ace == 64 * whole.macs and row in " ".join(page.split())
    assert f"{whole.bops:,} BOPs, {whole.ace:,} ACE" in effort_line(layers)


def test_a_program_that_does_not_fit_the_board_is_told(programs):
    report = make_report(programs["board"])
    assert report.board.program_fits and "the program fits." in markdown(report)
    smaller = replace(report, board=replace(report.board, program_fits=False))
    assert "**does not fit**" in markdown(smaller)


AREA = Area("ecp5", {"dma": Counter(LUT4=300, TRELLIS_FF=15, DP16KD=1, MULT9X9=1),
                     "processing elements": Counter(LUT4=700, TRELLIS_FF=5, MULT18X18D=2)},
            Counter(LUT4=10, TRELLIS_FF=2, MULT18X18D=1), 3, ["core.x: 4 x 4"])


def test_area_table():
    rows = area_rows(AREA, Figures.of(BOARDS["ulx3s-85f"].part))
    assert [row[0] for row in rows] == ["part", "one processing element", "processing elements (3)",
                                        "dma", "**total**", "the part has", "used"]
    assert rows[0][1:] == ["LUT", "FF", "DSP", "BRAM"]
    assert rows[1] == ["one processing element", "10", "2", "1", "0"]
    assert rows[4] == ["**total**", "1,000", "20", "2.5", "1"]
    assert rows[5] == ["the part has", "83,640", "83,640", "156", "208"]
    assert rows[6][1:] == ["1.2 %", "0.0 %", "1.6 %", "0.5 %"]
    assert len(area_rows(AREA)) == 5


# Files.

def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    assert write_file(path, "one") == path
    with pytest.raises(ZeroDivisionError), new_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]
    write_file(path, b"two")
    assert path.read_text() == "two" and path.stat().st_mode & 0o444 == 0o444


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out"
    with new_folder(path) as new:
        (new / "mark").write_text("one")
    with pytest.raises(ZeroDivisionError), new_folder(path) as new:
        (new / "mark").write_text("two")
        raise ZeroDivisionError
    assert (path / "mark").read_text() == "one" and list(tmp_path.iterdir()) == [path]
    with new_folder(path) as new:
        (new / "other").write_text("three")
    assert {item.name for item in path.iterdir()} == {"other", MANIFEST}
    (path / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"there is no manifest\.json"), new_folder(path):
        pass
    assert (path / "other").exists() and list(tmp_path.iterdir()) == [path]


# Progress.

def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with Reporter(stream=stream) as reporter:
        reporter.INTERVAL = 0.0
        with reporter.step("Counting", 3) as done:
            time.sleep(0.01)
            done(2)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["Counting ...", "Counting: 2 of 3"] and lines[2].startswith("Counting: 0.")


def test_silence():
    stream = io.StringIO()
    with Reporter(shown=False, stream=stream) as reporter, reporter.step("Counting", 3) as done:
        done(3)
    assert stream.getvalue() == ""


def test_bars_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Reporter(stream=stream) as reporter, reporter.step("Counting", 3) as done:
        done(3)
    assert "Counting" in stream.getvalue() and "3 of 3" in stream.getvalue()


def test_what_the_host_lays_out_is_said(programs):
    program = programs["none"]
    report = make_report(program)
    recipe = program.host.inputs[0].taps
    assert ("The host writes the input" in markdown(report)) == bool(recipe)
    tapped = replace(report.network.inputs[0], laid_out_as=(9, 4, 4))
    report = replace(report, network=replace(report.network, inputs=(tapped,)))
    assert "as 9 x 4 x 4 instead of" in markdown(report)

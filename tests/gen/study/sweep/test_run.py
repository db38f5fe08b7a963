"""Sweeps: spaces are read strictly, every point is measured once, failures are kept, plots come."""

import csv
import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import chip_area
from systolith.gen.report import pareto
from systolith.gen.study.sweep import net, run
from systolith.gen.study.sweep import point as module
from systolith.gen.study.sweep.point import AreaOf, evaluate
from systolith.gen.study.sweep.run import result_of, sweep
from systolith.gen.study.sweep.space import Space
from systolith.gen.study.sweep.space_file import read_space
from systolith.hw.spec.arch import Arch

from ....sweeps import SPACE, fake

EXAMPLES = Path(__file__).resolve().parents[4] / "examples" / "sweep"

@pytest.fixture(autouse=True)
def _no_pictures(request, monkeypatch):
    """Pictures take longer than all the rest."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])


@pytest.fixture
def pictures():
    """The test wants them."""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"a network")
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


class Asked(list):
    """`fake` that keeps what it is asked for."""

    def __call__(self, task):
        self.append(task)
        return fake(task)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def rows_of(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def keys(points):
    return [{point.area.key for point in points},
            {task.key for point in points for task in point.cycles.values()}]


def test_one_point_has_no_picture_of_a_front(space, tmp_path, pictures):
    space.write_text("""
[[group]]
chip = "ulx3s-8x8"
networks = ["net.onnx"]
""")
    _, files = sweep(space, tmp_path / "out", evaluate=fake)
    assert {path.suffix for path in files} == {".jsonl", ".csv", ".json", ".parquet", ".html"}


def test_points_are_all_combinations(space):
    points = read_space(space).points
    assert len(points) == 2 * 3 * 2 + 2
    first = points[0]
    assert first.settings == {"array.rows": 2, "array.columns": 2, "array.lanes": 1,
                              "bus.data_bits": 32}
    assert (first.arch.rows, first.arch.bus_bits, first.arch.weight_depth) == (2, 32, 512)
    assert points[1].arch.lanes == 2 and points[1].arch.bus_bits == 64
    assert str(points[-1].arch.activation) == "e3m2"
    assert [len(found) for found in keys(points)] == [14, 14]


def test_results_resume_failures_and_files(space, tmp_path, pictures):
    folder = tmp_path / "out"
    results, files = sweep(space, folder, evaluate=fake)
    assert len(results) == 14
    assert [path.name for path in files] == [
        "results.jsonl", "results.csv", "results.json", "results.parquet", "pareto.html",
        "pareto.png", "pareto.svg"]
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == 28
    rows = rows_of(folder)
    assert len(rows) == 14
    failed = [row for row in rows if row["error"]]
    assert [row["error"] for row in failed] == ["Yosys failed: a test"] and failed[0]["lut"] == ""
    assert {row["pareto"] for row in rows} == {"0", "1"}
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "pareto.html").read_text()
    assert "Pareto" in page and "<script src=" not in page

    # An interrupted run: the last line is cut off, others are missing.
    (folder / "results.jsonl").write_text("\n".join([*lines[:5], lines[5][:20]]))
    asked = Asked()
    sweep(space, folder, evaluate=asked)
    known = {json.loads(line)["key"] for line in lines[:5]}
    every = set.union(*keys(read_space(space).points))
    assert {task.key for task in asked} == every - known
    assert {line["key"] for line in lines_of(folder)} == every and len(lines_of(folder)) == 28

    # Everything is known, what failed as well, until it is asked for.
    asked.clear()
    sweep(space, folder, evaluate=asked)
    assert not asked
    sweep(space, folder, evaluate=asked, retry_failed=True)
    assert [(task.kind, task.arch.rows, task.arch.macs_per_cycle) for task in asked] == [
        ("area", 3, 6)]


def test_names_boards_and_clocks_change_no_key(space):
    before = keys(read_space(space).points)
    space.write_text(space.read_text().replace('name = "int"', 'name = "other"').replace(
        '"buffers.weights" = 512', '"buffers.weights" = 512, "clock.mhz" = 20'))
    assert keys(read_space(space).points) == before


def test_area_and_cycles_have_keys_of_their_own(space, monkeypatch):
    """Each changes with what its result depends on, and with nothing else."""
    point = read_space(space).points[0]

    def changed(**what):
        other = replace(point, **what)
        return (other.area.key != point.area.key,
                other.cycles["net"].key != point.cycles["net"].key)

    def chip(**what):
        return changed(arch=replace(point.arch, **what))
    assert chip() == chip(name="other") == chip(clock_mhz=1.0) == (False, False)
    assert chip(counters=False) == chip(structure="gates") == (True, False)
    assert chip(rows=4) == chip(stages=1) == chip(shared_columns=2) == (True, True)
    assert changed(target="ice40", dsp=False) == changed(dsp="post") == (True, False)
    net, = point.networks
    assert changed(networks=(replace(net, content="other"),)) == (False, True)
    assert changed(networks=(replace(net, path=net.path.parent / "." / "net.onnx"),)) == (
        False, False)

    def code(modules, tools):
        return " ".join([*modules, *tools])
    monkeypatch.setattr(module, "code_hash", code)
    seen = []
    monkeypatch.setattr(module, "key_of", lambda *facts: seen.append(str(facts)) or "key")
    assert replace(point).area.key == replace(point).cycles["net"].key == "key"
    assert "pyosys" in seen[0] and "measure.module_area" in seen[0] and "compile" not in seen[0]
    assert "flow.compile" in seen[1] and "cycles" in seen[1] and "pyosys" not in seen[1]


def test_results_of_other_code_are_kept_and_not_used(space, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    sweep(space, folder, evaluate=fake)
    other = module.code_hash
    monkeypatch.setattr(module, "code_hash", lambda modules, tools: (
        "of another Yosys" if "pyosys" in tools else other(modules, tools)))
    asked = Asked()
    sweep(space, folder, evaluate=asked)
    assert [task.kind for task in asked] == ["area"] * 14
    assert len({line["key"] for line in lines_of(folder)}) == len(lines_of(folder)) == 42
    assert len(rows_of(folder)) == 14


def test_chips_that_share_a_result_are_measured_once(space, tmp_path):
    space.write_text("""
[[group]]
chip = "ulx3s-8x8"
networks = ["net.onnx"]
vary = { "control.counters" = [true, false] }

[[group]]
chip = "ulx3s-8x8"
networks = ["net.onnx"]
""")
    asked = Asked()
    sweep(space, tmp_path / "out", evaluate=asked)
    assert [task.kind for task in asked] == ["cycles", "area", "area"]
    assert len(rows_of(tmp_path / "out")) == 3


def test_a_chip_on_which_no_network_runs_is_not_synthesized(space, tmp_path):
    def refuses(task):
        return fake(task) | ({"error": "no such layer"} if task.kind == "cycles"
                             and task.arch.rows == 3 else {})
    sweep(space, tmp_path / "out", evaluate=refuses)
    assert sum(line["kind"] == "area" for line in lines_of(tmp_path / "out")) == 8
    assert [row["error"] for row in rows_of(tmp_path / "out")].count("no such layer") == 6


def test_chips_that_do_not_fit_are_not_on_the_front(space, tmp_path):
    """The fastest chip, of 16 products a cycle, takes 300 block RAMs of 208."""
    results, _ = sweep(space, tmp_path / "out", evaluate=fake)
    fastest = {n for n, result in enumerate(results) if result["macs_per_cycle"] == 24}
    large = {n for n, result in enumerate(results) if result["macs_per_cycle"] == 16}
    rows = rows_of(tmp_path / "out")
    assert fastest and large
    for n, row in enumerate(rows):
        assert row["does_not_fit"] == ("300 BRAM of 208" if n in large else "")
    assert not any(rows[n]["pareto"] == "1" for n in large)
    page = (tmp_path / "out" / "pareto.html").read_text()
    assert '"does_not_fit": "300 BRAM of 208"' in page
    # Without a part, the same chip is on it.
    space.write_text(space.read_text().replace('name = "int"', 'name = "int"').replace(
        'set = {', 'set = { "board" = "none",'))
    sweep(space, tmp_path / "out", evaluate=fake)
    rows = rows_of(tmp_path / "out")
    assert any(rows[n]["pareto"] == "1" for n in large)
    # A part of the space counts for all chips.
    space.write_text('part = "LFE5U-25F"\n' + space.read_text())
    results, _ = sweep(space, tmp_path / "out", evaluate=fake)
    assert {result["part"] for result in results} == {"LFE5U-25F"}
    assert results[min(large)]["exceeds"] == ["300 BRAM of 56"]


def test_results_that_are_no_longer_asked_for_are_not_passed_over_in_silence(
        tmp_path, monkeypatch, capsys):
    """After a change of the code all are measured anew, and the command says what became of the
    others; where nothing has changed it says nothing."""
    space = tmp_path / "space.toml"
    space.write_text('[[group]]\nchip = "ulx3s-8x8"\nvary = { "array.rows" = [4, 8] }\n')
    monkeypatch.setattr(run, "sweep", partial(sweep, evaluate=fake))

    def said():
        assert main(["sweep", str(space), "-o", str(tmp_path / "out"), "--jobs", "1"]) == 0
        unused = json.loads((tmp_path / "out" / "status.json").read_text())["unused"]
        return unused, "results of earlier runs were not used" in capsys.readouterr().out
    assert said() == said() == (0, False)
    monkeypatch.setattr(module, "code_hash", lambda *facts: "another version")
    assert said() == (2, True)
    assert len(lines_of(tmp_path / "out")) == 4


def test_a_space_of_several_parts(tmp_path):
    """Each chip is a point on each part; of one family it is measured once for all."""
    space = tmp_path / "space.toml"
    space.write_text('part = ["LFE5U-25F", "LFE5U-85F", "XC7A35T"]\n'
                     '[[group]]\nchip = "ulx3s-8x8"\nvary = { "array.rows" = [4, 8] }\n')
    seen = []

    def kept(task):
        seen.append((task.target, task.arch.rows))
        return fake(task) | {"bram": 100}
    results, _ = sweep(space, tmp_path / "out", evaluate=kept)
    assert [(item["part"], item["chip"]["rows"], item["exceeds"]) for item in results] == [
        ("LFE5U-25F", 4, ["100 BRAM of 56"]), ("LFE5U-25F", 8, ["100 BRAM of 56"]),
        ("LFE5U-85F", 4, []), ("LFE5U-85F", 8, []),
        ("XC7A35T", 4, ["100 BRAM of 50"]), ("XC7A35T", 8, ["100 BRAM of 50"])]
    assert sorted(seen) == [("ecp5", 4), ("ecp5", 8), ("xc7", 4), ("xc7", 8)]
    assert len({item["id"] for item in results}) == 6


@pytest.mark.parametrize("target, dsp, structure", [
    ("ecp5", "post", "lut4"), ("xc7", "post", "lut6"), ("xc7", False, "lut6"),
    ("ice40", False, "lut4"), ("ecp5", True, "dsp"), ("xc7", True, "dsp48")])
def test_points_are_measured_as_systolith_area_measures(target, dsp, structure, monkeypatch):
    """One function for both; elements without DSP blocks are those for the target's LUTs."""
    seen = []

    def measure(arch, top, target, **options):
        seen.append((arch, target, options))
        raise module.UserError("enough")
    monkeypatch.setattr(chip_area, "core_verilog", lambda arch: arch)
    monkeypatch.setattr(chip_area, "measure", measure)
    point = read_space(EXAMPLES / "formats.toml").points[8]
    assert str(point.arch.activation) == "int8" and point.arch.structure == "auto"
    evaluate(replace(point, target=target, dsp=dsp, networks=(), method="whole").area)
    with pytest.raises(module.UserError, match="enough"):
        chip_area.chip_area(point.arch, target, dsp=dsp)
    assert seen[0] == seen[1] and seen[0][0].pe_structure == structure
    assert seen[0][2] == {"dsp": bool(dsp), "pe_dsp": dsp is True}


def test_results_are_in_the_file_before_the_next_starts(space, tmp_path):
    seen = []

    def spy(task):
        seen.append(len(lines_of(tmp_path / "out")))
        return fake(task)
    sweep(space, tmp_path / "out", evaluate=spy)
    assert seen == list(range(28))


def test_another_network_is_counted_anew(space, tmp_path):
    areas, counts = keys(read_space(space).points)
    (tmp_path / "net.onnx").write_bytes(b"another network")
    assert keys(read_space(space).points)[0] == areas
    assert keys(read_space(space).points)[1].isdisjoint(counts)


def test_tensors_in_other_files_belong_to_the_network(space, tmp_path):
    model = onnx.load(EXAMPLES / ".." / "digits" / "digits-cnn.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data",
              size_threshold=0)
    areas, counts = keys(read_space(space).points)
    content = bytearray((tmp_path / "net.data").read_bytes())
    content[-1] ^= 1
    (tmp_path / "net.data").write_bytes(content)
    assert keys(read_space(space).points)[0] == areas
    assert keys(read_space(space).points)[1].isdisjoint(counts)


def test_chips_that_do_not_exist_are_recorded(space, tmp_path):
    space.write_text('[[group]]\nchip = "ulx3s-8x8"\nvary = { "buffers.weights" = [4, 2048] }\n')
    sweep(space, tmp_path / "out", evaluate=fake)
    wrong, right = rows_of(tmp_path / "out")
    assert wrong["error"].startswith("buffers.weights must hold the 8 rows")
    assert right["error"] == ""


def test_no_point_at_all_is_an_error(space, tmp_path):
    space.write_text('[[group]]\nchip = "ulx3s-8x8"\nvary = { "buffers.weights" = [4, 5] }\n')
    with pytest.raises(UserError, match=r"no point could be measured.*buffers\.weights must hold"):
        sweep(space, tmp_path / "out", evaluate=fake)


@pytest.mark.parametrize("text, words", [
    ("", "at least one [[group]]"),
    ("group = 3", "at least one [[group]]"),
    ("speed = 3\n" + SPACE, "speed is no key"),
    ("target = 'cpld'\n" + SPACE, "target must be one of xc7"),
    ("dsp = 3\n" + SPACE, "dsp must be true, false or"),
    ("part = 'Z80'\n" + SPACE, "part must be one of LFE5U-85F"),
    ("part = 'XC7A35T'\ntarget = 'ecp5'\n" + SPACE, "the part XC7A35T is of 'xc7'"),
    ("part = ['LFE5U-25F', 3]\n" + SPACE, "or a list of them, not 3"),
    ("part = ['LFE5U-25F', 'LFE5U-25F']\n" + SPACE, "each once"),
    ("part = []\n" + SPACE, "one part or several"),
    ("part = ['LFE5U-25F', 'XC7A35T']\narea = 'estimate'\n" + SPACE,
     "can be estimated for ecp5, not for xc7"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nnetworks = ['net.onnx', '../net.onnx']",
     "have the same name"),
    ("[[group]]\nchip = 3", "group 1: chip must be a preset"),
    ("[[group]]\nchip = 'nix'", "'nix' is neither a file nor a preset"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nrange = {}", "range is no key. Keys of a group"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nnetworks = 'x'", "networks must be a list of paths and"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nnetworks = ['x.onnx']", "x.onnx does not exist"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nvary = { rows = [1] }", "vary: 'rows' is no key of a chip"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nvary = { \"array.rows\" = 1 }", "must be a list of values"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nvary = 3", "vary must be a table"),
    ("[[group]]\nchip = 'ulx3s-8x8'\ntogether = { \"array.rows\" = [1], \"array.lanes\" = [1, 2] }",
     "the same length"),
    ("[[group]]\nchip = { array = { rows = 0, columns = 1 } }", "array.rows must be a whole"),
    ("[[group]\n", "not valid TOML"),
])
def test_mistakes(space, text, words):
    folder = space.parent / "in"
    folder.mkdir()
    for name in ("net.onnx", "in/net.onnx"):
        (space.parent / name).write_bytes(b"a network")
    space = folder / "space.toml"
    space.write_text(text)
    with pytest.raises(UserError) as caught:
        read_space(space)
    assert words in str(caught.value)


def test_a_foreign_results_file_is_not_touched(space, tmp_path):
    (tmp_path / "results.jsonl").write_text("hello\n")
    with pytest.raises(UserError, match="line 1 is no result"):
        sweep(space, tmp_path, evaluate=fake)
    assert (tmp_path / "results.jsonl").read_text() == "hello\n"


@pytest.mark.parametrize("pairs, front", [
    ([(1, 9), (2, 5), (3, 5), (4, 1), (5, 2)], [0, 1, 3]),
    ([(2, 2), (1, 1)], [1]),
    ([(1, 1), (1, 1)], [0]),
    ([], []),
])
def test_pareto_front(pairs, front):
    assert pareto.pareto_front(pairs) == front


@pytest.mark.parametrize("name", [path.name for path in EXAMPLES.glob("*.toml")])
def test_shipped_spaces_are_whole(name):
    space = read_space(EXAMPLES / name)
    numbers = range(0, space.size, 1 + space.size // 100)
    points = [point for point in map(space.point, numbers) if point is not None]
    assert points and all(point.arch is not None and point.networks for point in points)


def test_the_shipped_format_space_covers_three_families():
    points = read_space(EXAMPLES / "formats.toml").points
    assert len(points) >= 24
    assert {str(point.arch.activation) for point in points} == {"e3m2", "int8", "bipolar1"}


@pytest.mark.slow
def test_one_real_point(tmp_path):
    network = (EXAMPLES / ".." / "digits" / "digits-mlp-bnn.onnx").resolve()
    (tmp_path / "space.toml").write_text(f"""
area = "whole"
[[group]]
chip = "ulx3s-bnn"
networks = ["{network}"]
set = {{ "post.lanes" = 1, "bus.data_bits" = 32, "control.queue_depth" = 1 }}
vary = {{ "array.columns" = [4] }}
""")
    (result,), _ = sweep(tmp_path / "space.toml", tmp_path / "out")
    assert result["error"] is None
    assert result["lut"] > 1000 and result["ff"] > 1000
    assert result["lut"] == pytest.approx(sum(part["lut"] for part in result["parts"].values()))
    assert result["part"] == "LFE5U-85F" and result["exceeds"] == []
    figures = result["networks"]["digits-mlp-bnn"]
    assert 0 < figures["utilization"] <= 1
    assert figures["cycles"] > figures["macs"] / result["macs_per_cycle"]


def test_failures_of_measuring_are_recorded(monkeypatch):
    point = read_space(EXAMPLES / "formats.toml").points[0]

    def fail(*arguments, **options):
        raise module.UserError("Yosys failed: a test")
    fail.__module__ = module.module_area.__module__
    monkeypatch.setattr(module, "module_area", fail)
    assert evaluate(point.area)["error"] == "Yosys failed: a test"


def test_a_fault_at_one_point_leaves_the_others(space, tmp_path, monkeypatch, capsys):
    def broken(*arguments, **more):
        raise IndexError("planted")
    monkeypatch.setattr(net, "load", broken)
    result = evaluate(read_space(space).points[0].cycles["net"])
    assert "fault of Systolith" in result["error"] and "IndexError: planted" in result["fault"]
    assert str(space.parent / "net.onnx") in result["error"]
    assert main(["sweep", str(space), "-o", str(tmp_path / "out"), "--jobs", "1"]) == 4
    err = capsys.readouterr().err
    assert "IndexError: planted" in err and "Traceback" not in err
    assert len(lines_of(tmp_path / "out")) == 14


def test_the_command_says_what_failed_and_what_is_too_large(space, tmp_path, monkeypatch, capsys):
    """And it measures failures again only where it is told to."""
    asked = Asked()
    monkeypatch.setattr(run, "sweep", partial(sweep, evaluate=asked))
    command = ["sweep", str(space), "-o", str(tmp_path / "out"), "--jobs", "1"]
    assert main(command) == 0
    assert "14 chips: 1 failed, 1 do not fit their part" in capsys.readouterr().out
    asked.clear()
    assert main(command) == 0 and not asked
    assert main([*command, "--retry-failed"]) == 0 and len(asked) == 1


def killed_at_three_rows(task):
    """`fake` in a process that is killed over a chip of three rows."""
    if task.arch.rows == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return fake(task)


def test_a_killed_worker_costs_its_point_alone(space, tmp_path):
    space.write_text("""
[[group]]
chip = { array = { rows = 2, columns = 2 } }
vary = { "array.rows" = [2, 3] }
""")
    results, _ = sweep(space, tmp_path / "out", evaluate=killed_at_three_rows, jobs=2)
    assert results[0]["error"] is None
    assert "ended twice, the last time by SIGKILL" in results[1]["error"]
    assert [line["error"] is None for line in lines_of(tmp_path / "out")] == [True, False]
    asked = Asked()
    sweep(space, tmp_path / "out", evaluate=asked)
    assert not asked


def test_asic_spaces(space, tmp_path):
    """Gates in place of LUTs, whatever part the chip's board has; measured as a whole."""
    def gates(task):
        result = fake(task)
        if not isinstance(task, AreaOf):
            return result
        assert task.target == "asic" and task._measured is chip_area.chip_area
        return {"key": task.key, "kind": "area", "error": None, "gates": 10 * task.arch.rows,
                "ff": 3, "um2": None, "macro_bits": 64, "macro_um2": None, "parts": {}}
    space.write_text('target = "asic"\n' + SPACE)
    results, _ = sweep(space, tmp_path / "out", evaluate=gates)
    assert {result["part"] for result in results} == {None}
    assert all(result["feasible"] and result["figures"]["gates"] == 10 * result["chip"]["rows"]
               for result in results)
    rows = rows_of(tmp_path / "out")
    assert rows[0]["gates"] == "20" and rows[0]["lut"] == rows[0]["um2"] == ""
    front = [row for row in rows if row["pareto"] == "1"]
    assert front and min(int(row["cycles"]) for row in rows) in [
        int(row["cycles"]) for row in front]


def test_a_network_with_its_own_table_of_energies(space, tmp_path):
    table = tmp_path / "mine.toml"
    table.write_text('source = "mine"\nmultiply_pj_per_bit2 = 1\nadd_pj_per_bit = 0\n'
                     "sram_pj_per_64_bits = [[1024, 64.0]]\nexternal_pj_per_bit = 2\n")
    space.write_text('energy = "mine.toml"\n' + SPACE)
    results, _ = sweep(space, tmp_path / "out", evaluate=fake)
    # 1,000 products of 8 x 8 bits, 80 bits of memory, 16 bytes over the bus
    assert results[0]["figures"]["energy_uj"] == pytest.approx((64_000 + 80 + 256) / 1e6)
    assert results[0]["figures"]["external_bytes"] == 16
    table.write_text('source = "mine"\n')
    with pytest.raises(UserError, match=r"mine\.toml: must have the keys add_pj_per_bit"):
        sweep(space, tmp_path / "out", evaluate=fake)


ESTIMATED = """
part = "LFE5U-12F"
area = "estimate"
constraints = ["estimated_lut <= 20000"]
[[group]]
chip = { array = { rows = 4, columns = 4 } }
vary = { "array.rows" = [4, 8], "buffers.activations" = [1024, 8192] }
together = { "array.weight" = ["int8", "int5"], "array.lanes" = [1, 1] }
"""


def test_areas_are_estimated_and_said_to_be(tmp_path, capsys):
    """Under names of their own; what is not estimated fails with its reason."""
    path = tmp_path / "space.toml"
    path.write_text(ESTIMATED)
    assert main(["sweep", str(path), "-o", str(tmp_path / "out"), "--jobs", "1"]) == 0
    assert "areas are estimated, not synthesized: of " in capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    good = [row for row in rows if not row["error"]]
    assert len(rows) == 8 and len(good) == 4 and all(
        "no estimate for elements of int8 x int5" in row["error"]
        for row in rows if row not in good)
    assert all(int(row["estimated_lut"]) > 3000 and not row["lut"] and not row["fill"]
               and "estimated, not synthesized" in row["estimate"] for row in good)
    small, large = (row for row in good if row["array.rows"] == "8")
    assert small["estimated_lut"] < large["estimated_lut"]
    assert int(small["estimated_bram"]) < 56 < int(large["estimated_bram"])
    assert large["does_not_fit"].endswith(" BRAM of 56, estimated") and not large["violated"]
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert data["objectives"] == ["estimated_lut"]
    page = (tmp_path / "out" / "pareto.html").read_text()
    assert page.count("areas are estimated, not synthesized") == 1


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"estimate"', '"modules"', "constraints: 'estimated_lut' is known with area = \"estimate\""),
    ("estimated_lut <=", "lut <=", "constraints: 'lut' is a figure of synthesis; with area"),
    ('area = ', 'objectives = ["fill"]\narea = ', "objectives: 'fill' is a figure of synthesis"),
    ('part = "LFE5U-12F"', 'target = "xc7"', "areas can be estimated for ecp5, not for xc7")])
def test_estimates_and_synthesis_do_not_mix(tmp_path, old, new, message):
    path = tmp_path / "space.toml"
    path.write_text(ESTIMATED.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_space(path)
    assert message in str(caught.value)


def test_a_result_has_the_placement_that_was_measured():
    arch = Arch(rows=2, columns=2)
    point = SimpleNamespace(
        id="p", group="g", settings={}, problem="", target="ecp5", dsp=True, part=None, arch=arch,
        area=None, placed=SimpleNamespace(key="place"), networks={}, cycles={}, accuracy={})
    placed = {"mhz": 70.0, "by_seed": {1: 70.0}, "cells": {}, "error": None}
    found = result_of(point, Space(Path("s"), [], [], []), {"place": placed}, None)
    assert found["placed"]["mhz"] == 70.0
    point.placed = None
    assert "placed" not in result_of(point, Space(Path("s"), [], [], []), {"place": placed}, None)

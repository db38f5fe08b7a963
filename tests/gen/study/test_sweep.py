"""Sweeps: spaces are read strictly, every point is measured once, failures are kept, plots come."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import area
from systolith.gen.report.pareto import pareto_front
from systolith.gen.study import sweep as module
from systolith.gen.study.sweep import evaluate, read_space, sweep

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "sweep"

SPACE = """
[[group]]
name = "int"
chip = "ulx3s-8x8"
networks = ["net.onnx"]
set = { "buffers.weights" = 512 }
vary = { "array.rows" = [2, 3], "array.columns" = [2, 4, 6] }
together = { "array.lanes" = [1, 2], "bus.data_bits" = [32, 64] }

[[group]]
name = "float"
chip = { array = { rows = 2, columns = 2, activation = "e3m2", weight = "e3m2" } }
networks = ["net.onnx"]
vary = { "array.lanes" = [1, 2] }
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"a network")
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


def fake(point):
    """A point's result without Yosys: chips with more multipliers are larger and faster."""
    if point.arch is None:
        return {"key": point.key, "group": point.group, "settings": point.settings,
                "error": point.problem}
    macs = point.arch.macs_per_cycle
    error = "Yosys failed: a test" if point.settings.get("array.rows") == 3 and macs == 6 else None
    result = {"key": point.key, "group": point.group, "settings": point.settings, "error": error}
    return result if error else result | {
        "chip": point.arch.to_dict(), "macs_per_cycle": macs, "target": "ecp5", "lut": 100 * macs,
        "ff": 7, "dsp": 0, "bram": 1, "networks": {"net": {
            "macs": 1000, "cycles": 5000 // macs, "compute_cycles": 4000 // macs,
            "utilization": 0.5}}}


def test_points_are_all_combinations(space):
    points = read_space(space)
    assert len(points) == 2 * 3 * 2 + 2
    first = points[0]
    assert first.settings == {"array.rows": 2, "array.columns": 2, "array.lanes": 1,
                              "bus.data_bits": 32}
    assert (first.arch.rows, first.arch.bus_bits, first.arch.weight_depth) == (2, 32, 512)
    assert points[1].arch.lanes == 2 and points[1].arch.bus_bits == 64
    assert str(points[-1].arch.activation) == "e3m2"
    assert len({point.key for point in points}) == len(points)


def test_results_resume_failures_and_files(space, tmp_path):
    folder = tmp_path / "out"
    files = sweep(space, folder, evaluate=fake)
    assert [path.name for path in files] == ["results.jsonl", "results.csv", "pareto.png",
                                             "pareto.html"]
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == 14
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    failed = [row for row in rows if row["error"]]
    assert [row["error"] for row in failed] == ["Yosys failed: a test"] and failed[0]["lut"] == ""
    assert {row["pareto"] for row in rows} == {"0", "1"}
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "pareto.html").read_text()
    assert "Pareto" in page and "<script src=" not in page

    # An interrupted run: the last line is cut off, others are missing.
    (folder / "results.jsonl").write_text("\n".join([*lines[:5], lines[5][:20]]))
    asked = []
    sweep(space, folder, evaluate=lambda point: asked.append(point) or fake(point))
    again = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    known = {json.loads(line)["key"] for line in lines[:5]}
    assert {point.key for point in asked} == {point.key for point in read_space(space)} - known
    assert len({result["key"] for result in again}) == 14

    # Everything is known, what failed as well.
    asked.clear()
    sweep(space, folder, evaluate=lambda point: asked.append(point) or fake(point))
    assert not asked


def test_results_of_other_code_are_kept_and_not_used(space, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    sweep(space, folder, evaluate=fake)
    monkeypatch.setattr(module, "code_hash", lambda: "of other code")
    asked = []
    sweep(space, folder, evaluate=lambda point: asked.append(point) or fake(point))
    assert len(asked) == 14
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 28
    with (folder / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 14


@pytest.mark.parametrize("package", ["hw", "sim", "gen"])
def test_the_code_hash_is_of_all_sources_and_tools(package, tmp_path, monkeypatch):
    before = module.code_hash()
    assert before == module.code_hash.__wrapped__()
    copy = tmp_path / package
    real = Path(getattr(module, package).__file__).parent
    shutil.copytree(real, copy, ignore=lambda folder, names: [
        name for name in names if not name.endswith(".py") and "." in name])
    monkeypatch.setattr(getattr(module, package), "__file__", str(copy / "__init__.py"))
    assert module.code_hash.__wrapped__() == before
    changed = next(iter(sorted(copy.rglob("[a-z]*.py"))))
    changed.write_text(changed.read_text() + "# changed\n")
    assert module.code_hash.__wrapped__() != before
    monkeypatch.undo()
    monkeypatch.setattr(module, "version", lambda name: "another")
    assert module.code_hash.__wrapped__() != before


@pytest.mark.parametrize("target, dsp, structure", [
    ("ecp5", "post", "lut4"), ("xc7", "post", "lut6"), ("xc7", False, "lut6"),
    ("ice40", False, "lut4"), ("ecp5", True, "dsp"), ("xc7", True, "dsp48")])
def test_points_are_measured_as_systolith_area_measures(target, dsp, structure, monkeypatch):
    """One function for both; elements without DSP blocks are those for the target's LUTs."""
    seen = []

    def measure(arch, top, target, **options):
        seen.append((arch, target, options))
        raise module.UserError("enough")
    monkeypatch.setattr(area, "core_verilog", lambda arch: arch)
    monkeypatch.setattr(area, "measure", measure)
    point = read_space(EXAMPLES / "formats.toml")[8]
    assert str(point.arch.activation) == "int8" and point.arch.structure == "auto"
    evaluate(replace(point, target=target, dsp=dsp, networks=()))
    with pytest.raises(module.UserError, match="enough"):
        area.chip_area(point.arch, target, dsp=dsp)
    assert seen[0] == seen[1] and seen[0][0].pe_structure == structure
    assert seen[0][2] == {"dsp": bool(dsp), "pe_dsp": dsp is True}


def test_results_are_in_the_file_before_the_next_point_starts(space, tmp_path):
    seen = []

    def spy(point):
        seen.append(len((tmp_path / "out" / "results.jsonl").read_text().splitlines()))
        return fake(point)
    sweep(space, tmp_path / "out", evaluate=spy)
    assert seen == list(range(14))


def test_another_network_is_another_point(space, tmp_path):
    before = {point.key for point in read_space(space)}
    (tmp_path / "net.onnx").write_bytes(b"another network")
    assert before.isdisjoint(point.key for point in read_space(space))


def test_chips_that_do_not_exist_are_recorded(space, tmp_path):
    space.write_text('[[group]]\nchip = "ulx3s-8x8"\nvary = { "buffers.weights" = [4, 2048] }\n')
    sweep(space, tmp_path / "out", evaluate=fake)
    lines = [json.loads(line) for line in
             (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert lines[0]["error"].startswith("buffers.weights must hold the 8 rows")
    assert lines[1]["error"] is None


def test_no_point_at_all_is_an_error(space, tmp_path):
    space.write_text('[[group]]\nchip = "ulx3s-8x8"\nvary = { "buffers.weights" = [4, 5] }\n')
    with pytest.raises(UserError, match=r"no point could be measured.*buffers\.weights must hold"):
        sweep(space, tmp_path / "out", evaluate=fake)


@pytest.mark.parametrize("text, words", [
    ("", "at least one [[group]]"),
    ("group = 3", "at least one [[group]]"),
    ("speed = 3\n" + SPACE, "speed is no key"),
    ("target = 'asic'\n" + SPACE, "target must be one of xc7"),
    ("dsp = 3\n" + SPACE, "dsp must be true, false or"),
    ("[[group]]\nchip = 3", "group 1: chip must be a preset"),
    ("[[group]]\nchip = 'nix'", "'nix' is neither a file nor a preset"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nrange = {}", "range is no key. Keys of a group"),
    ("[[group]]\nchip = 'ulx3s-8x8'\nnetworks = 'x'", "networks must be a list of paths"),
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
    assert pareto_front(pairs) == front


@pytest.mark.parametrize("name", [path.name for path in EXAMPLES.glob("*.toml")])
def test_shipped_spaces_are_whole(name):
    points = read_space(EXAMPLES / name)
    assert all(point.arch is not None and point.networks for point in points)


def test_the_shipped_format_space_covers_three_families():
    points = read_space(EXAMPLES / "formats.toml")
    assert len(points) >= 24
    assert {str(point.arch.activation) for point in points} == {"e3m2", "int8", "bipolar1"}


def test_one_real_point(tmp_path):
    network = (EXAMPLES / ".." / "digits" / "digits-mlp-bnn.onnx").resolve()
    (tmp_path / "space.toml").write_text(f"""
[[group]]
chip = "ulx3s-bnn"
networks = ["{network}"]
set = {{ "post.lanes" = 1, "bus.data_bits" = 32, "control.queue_depth" = 1 }}
vary = {{ "array.columns" = [4] }}
""")
    point = read_space(tmp_path / "space.toml")[0]
    result = evaluate(point)
    assert result["error"] is None and result["key"] == point.key
    assert result["lut"] > 1000 and result["ff"] > 1000
    assert result["lut"] == pytest.approx(sum(part["lut"] for part in result["parts"].values()))
    figures = result["networks"]["digits-mlp-bnn"]
    assert 0 < figures["utilization"] <= 1
    assert figures["cycles"] > figures["macs"] / result["macs_per_cycle"]
    json.dumps(result)


def test_failures_of_measuring_are_recorded(monkeypatch):
    point = read_space(EXAMPLES / "formats.toml")[0]

    def fail(*arguments, **options):
        raise module.UserError("Yosys failed: a test")
    monkeypatch.setattr(module, "chip_area", fail)
    assert evaluate(point)["error"] == "Yosys failed: a test"


def test_a_fault_at_one_point_leaves_the_others(space, tmp_path, monkeypatch, capsys):
    def broken(*arguments, **more):
        raise IndexError("planted")
    monkeypatch.setattr(module, "load", broken)
    result = evaluate(read_space(space)[0])
    assert "fault of Systolith" in result["error"] and "IndexError: planted" in result["fault"]
    assert main(["sweep", str(space), "-o", str(tmp_path / "out"), "--jobs", "1"]) == 4
    err = capsys.readouterr().err
    assert "IndexError: planted" in err and "Traceback" not in err
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == len(
        read_space(space))

"""The table of processing elements: resuming, figures, tables. Yosys is not asked."""

import csv
import json

import pytest
from systolith.gen.cli.main import main
from systolith.gen.study import element_table
from systolith.gen.study.catalogue import Entry
from systolith.gen.study.element_table import Measurement, area_table, with_share
from systolith.hw.formats import parse


def fake(measurement):
    """What measuring would give, without Yosys."""
    size = 10 * parse(measurement.entry.weight).width * (2 if measurement.entry.plain else 1)
    figures = {"lut": size, "ff": 7, "carry": 1, "dsp": int(measurement.dsp), "flow": "area",
               "slice_lut": size + 2, "slices": 3, "bare_carry": 1, "transistors": 20 * size}
    return {"key": measurement.key, "label": measurement.entry.label, "target": measurement.target,
            "dsp": measurement.dsp, "error": None, "figures": figures}


def test_an_element_has_its_share_of_the_scale(monkeypatch):
    """What multiplies a column's sums by scales is measured beside the element, and a 16th of it
    counts, whole cells."""
    tops = []

    def area(text, top, target, **options):
        assert f"module {top}(" in text
        tops.append(top)
        return {"lut": 33 if top == "systolith_scale" else 20, "um2": 8.0, "flow": "area"}
    monkeypatch.setattr(element_table, "element_area", area)
    one, other = (element_table.evaluate(Measurement(Entry("e2m1", weight), "xc7", False, None, ""))
                  for weight in ("mxfp4", "e2m1"))
    assert one["figures"] == {"lut": 23, "um2": 8.5, "flow": "area"}
    assert other["figures"] == {"lut": 20, "um2": 8.0, "flow": "area"}
    assert tops == ["systolith_pe", "systolith_scale", "systolith_pe"]
    assert with_share({"lut": 1}, {"lut": 16, "ff": 17}, 16) == {"lut": 2, "ff": 2}
    assert with_share({"lut": 1, "dsp": 0}, {"lut": 1, "dsp": 1}, 16) == {"lut": 2, "dsp": 1 / 16}
    assert with_share({"lut": 1, "dsp": 1}, {"lut": 1, "dsp": 0}, 16) == {"lut": 2, "dsp": 1}


def test_a_scale_counts_what_it_adds_to_the_accumulator(monkeypatch):
    """LUTs of six inputs leave the last shift to the adder: it is measured with it and without."""
    measured = []

    def area(text, top, target, **options):
        measured.append(top)
        more = measured.count("systolith_sum") == 1     # the one that shifts is the first
        return {"flow": "area", "lut": {"systolith_pe": 20, "systolith_scale": 16,
                                        "systolith_sum": 50 if more else 18}[top]}
    monkeypatch.setattr(element_table, "element_area", area)
    for weight, target, dsp, lut in (("mls", "xc7", False, 23), ("mls", "xc7", True, 21),
                                     ("mls", "ecp5", False, 21), ("nvfp4", "xc7", False, 23)):
        measured.clear()
        found = element_table.evaluate(Measurement(Entry("e2m1", weight), target, dsp, None, ""))
        assert found["figures"] == {"lut": lut, "flow": "area"}, (weight, target, dsp)
        assert measured.count("systolith_sum") == 2 * (lut == 23)


def test_small_elements_stay_luts_beside_a_scale_in_a_dsp_block():
    """Of scales with a mantissa alone; shifts need no block, and large products take their own."""
    entries = [Entry("e2m1", weight) for weight in ("nvfp4", "mls", "mxfp4")]
    found = {(item.entry.weight, item.dsp) for item in element_table.measurements(entries, ["xc7"])}
    assert found == {("nvfp4", False), ("nvfp4", True), ("mls", False), ("mls", True),
                     ("mxfp4", False)}
    assert Entry("e2m1", "nvfp4").structure("xc7", True) == "lut6"
    assert Entry("int8", "mxint8").structure("xc7", True) == "dsp48"
    assert Entry("e2m1", "e2m1").structure("xc7", True) == "dsp48"


def test_scales_are_part_of_what_is_measured():
    entries = [Entry("e2m1", weight) for weight in ("e2m1", "mxfp4", "nvfp4", "mls")]
    assert len({item.key for item in element_table.measurements(entries, ["asic"])}) == 4


def test_the_table(tmp_path):
    rows, files = area_table(["int2", "e2m1:bipolar1"], ["xc7", "asic"], tmp_path / "t",
                             evaluate=fake)
    assert [path.name for path in files] == ["results.jsonl", "area.csv", "area.json", "area.md",
                                             "area.png"]
    by_name = {(row["element"], row["target"]): row for row in rows}
    assert by_name["int2", "xc7"]["figures"]["lut"] == 20
    assert by_name["plain int16", "xc7"]["figures"]["lut"] == 320
    assert by_name["int2", "xc7"]["against"] == {
        "plain int16": 320, "int16": 160, "own 16 bits": "int16", "own 16 bits size": 160}
    assert "no processing element for e2m1" in by_name["e2m1 x bipolar1", "xc7"]["error"]
    page = (tmp_path / "t" / "area.md").read_text()
    assert "- e2m1 x bipolar1: no processing element" in page and "um2: not measured" in page
    line = next(line for line in page.splitlines() if line.startswith("| int2 "))
    assert [cell.strip() for cell in line.strip("|").split("|")][:6] == [
        "int2", "20", "1", "7", "3", "20"]
    with (tmp_path / "t" / "area.csv").open() as file:
        table = {(row["element"], row["target"]): row for row in csv.DictReader(file)}
    assert table["int2", "xc7"]["of_plain_int16"] == "0.062"
    assert table["int2", "asic"]["transistors"] == "400"
    assert (tmp_path / "t" / "area.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "t" / "area.json").read_text()) == rows


def test_it_goes_on_where_it_stopped(tmp_path):
    asked = []

    def stops(measurement):
        asked.append(measurement.key)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return fake(measurement)
    with pytest.raises(KeyboardInterrupt):
        area_table(["int2"], ["ice40"], tmp_path, evaluate=stops)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "cut o')

    def counted(measurement):
        asked.append(measurement.key)
        return fake(measurement)
    area_table(["int2"], ["ice40"], tmp_path, evaluate=counted)
    assert len(asked) == len(set(asked)) + 1
    before = len(asked)
    area_table(["int2"], ["ice40"], tmp_path, evaluate=counted)
    assert len(asked) == before


def test_circuits_that_are_the_same_are_measured_once(tmp_path):
    asked = []

    def counted(measurement):
        asked.append(measurement.entry.label)
        return fake(measurement)
    rows, _ = area_table(["e4m3", "e4m3b3"], ["xc7"], tmp_path, evaluate=counted)
    assert "e4m3" in asked and "e4m3b3" not in asked
    sizes = [row["figures"]["lut"] for row in rows if row["element"].startswith("e4m3")]
    assert len(sizes) == 2 and len(set(sizes)) == 1


def test_a_failed_measurement_is_told_and_tried_again(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise element_table.AreaError("Yosys failed: no")
    monkeypatch.setattr(element_table, "element_area", fails)
    monkeypatch.setattr(element_table, "pe_verilog", lambda rules: "")
    for _ in range(2):
        rows, _ = area_table(["int2"], ["ice40"], tmp_path)
        assert {row["error"] for row in rows} == {"Yosys failed: no"}


@pytest.mark.parametrize("arguments, message", [
    ([], "needs either --chip"),
    (["--chip", "ulx3s-8x8", "--formats", "int2"], "needs either --chip"),
    (["--formats", "int2", "--target", "xc7"], "--target does not go with --formats"),
    (["--formats", "int2", "--array"], "--array does not go with --formats"),
    (["--formats", "int2", "--targets", "cmos"], "targets must be among xc7, ecp5, ice40, asic"),
    (["--formats", "int2", "--liberty", "absent.lib"], "absent.lib: there is no such"),
    (["--chip", "ulx3s-8x8", "--targets", "xc7"], "--targets goes with --formats only"),
    (["--chip", "ulx3s-8x8", "--flatten"], "--flatten goes with --array only"),
    (["--chip", "ulx3s-8x8", "--target", "asic", "--no-dsp"], "has no DSP blocks"),
    (["--chip", "ulx3s-8x8", "--target", "asic", "--liberty", "absent.lib"], "cannot be read"),
    (["--chip", "ulx3s-8x8", "--macros", "absent.toml"], "--macros goes with --target asic only"),
])
def test_what_the_command_refuses(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["area", *arguments]) == 1
    assert message in capsys.readouterr().err

"""The contents of report.json: written and read again, and what is wrong is named."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from systolith.gen.kit.notes import Note
from systolith.gen.measure.area import Area
from systolith.gen.report.contents import Clock, Report
from systolith.gen.report.report import make_report
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.records import RecordError
from systolith.sim.model.host_work import HostWork

from ...hosts import smallest_program

ARCH = Arch(rows=4, columns=4, board="ulx3s-85f")


@pytest.fixture(scope="module")
def report():
    program = smallest_program(ARCH)
    made = make_report(replace(program, host=replace(
        program.host, peak={"weight_words": 3}, depth={"weight_words": 64})))
    return replace(
        made, area=Area("ecp5", {"dma": Counter(LUT4=7, MULT18X18D=1)}, Counter(LUT4=5), 2,
                        ["a.b: 2 x 3"], 0.25),
        host={"after": HostWork(2, {"Add": 1, "Mul": 1}, ("a",), ("b", "c"), 0, 0.5, "")},
        notes=(Note("rows", "Resize_1", 0.25), Note("short", "", None, detail="float16")))


def test_a_report_survives_json(report):
    text = json.dumps(report.to_json())
    again = Report.from_json(json.loads(text))
    assert again == report and json.dumps(again.to_json()) == text


def test_its_sections_and_what_they_say_once(report):
    data = report.to_json()
    assert list(data) == ["network", "chip", "clock", "cycles", "units", "layers", "memory", "area",
                          "board", "host", "notes"]
    layer, = data["layers"]
    assert (layer["name"], layer["array"]["table"], layer["bound"]) == ("conv", 192, "latency")
    assert data["chip"]["macs_per_cycle"] == 16 and data["chip"]["rows"] == 4
    assert data["memory"]["on_chip"] == {"weight_words": {"used": 3, "of": 64}}
    assert data["board"]["has"] == {"lut": 83640, "ff": 83640, "dsp": 156, "bram": 208}
    assert data["notes"][0]["what"].startswith("rows of a linear Resize")


def test_a_report_without_board_host_and_notes_has_no_such_keys(report):
    data = replace(report, board=None, host=None, notes=None, area=None).to_json()
    assert list(data)[-1] == "area" and data["area"] is None
    assert Report.from_json(data).to_json() == data


@pytest.mark.parametrize("place, text", [
    (("network", "batch"), "network.batch is missing"),
    (("chip", "columns"), "chip.columns is missing"),
    (("clock", "mhz"), "clock.mhz is missing"),
    (("cycles", "compute"), "cycles.compute is missing"),
    (("layers", 0, "charged"), "layers[0].charged is missing"),
    (("layers", 0, "array", "y", "pad"), "layers[0].array.y.pad is missing"),
    (("memory", "on_chip", "weight_words", "of"), "memory.on_chip.weight_words.of is missing"),
    (("area", "parts", "dma", "cells"), "area.parts.dma.cells is missing"),
    (("board", "has", "dsp"), "board.has.dsp is missing"),
    (("host", "after", "why"), "host.after.why is missing"),
    (("notes", 1, "detail"), "notes[1].detail is missing"),
    (("units",), "units is missing")])
def test_what_is_missing_is_named(report, place, text):
    data = report.to_json()
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    with pytest.raises(RecordError) as caught:
        Report.from_json(data)
    assert str(caught.value) == text


@pytest.mark.parametrize("place, value, text", [
    (("cycles", "total"), 1.5, "cycles.total must be a whole number, not 1.5"),
    (("units", "load", "busy"), None, "units.load.busy must be a whole number, not None"),
    (("layers", 0, "loaded_bytes"), [], "layers[0].loaded_bytes must be an object, not []"),
    (("chip", "rows"), 0, "chip must be a chip's fields: "),
    (("chip",), [], "chip must be a chip's fields: "),
    (("board", "program_fits"), 1, "board.program_fits must be true or false, not 1"),
    (("notes", 0, "off"), "x", "notes[0].off must be a number, not 'x'")])
def test_a_wrong_type_is_named(report, place, value, text):
    data = report.to_json()
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(RecordError) as caught:
        Report.from_json(data)
    assert str(caught.value).startswith(text)


def test_images_per_second():
    assert Clock(25.0, "x").images_per_second(4, 1000) == 100_000

"""The page of a build in a browser: timeline, layers, treemap, memory; offline and small."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.compile import compile_network
from systolith.gen.measure.area import Area
from systolith.gen.report.build_page import PAGE, _joined, add_comparison, build_page
from systolith.gen.report.report import make_report
from systolith.sim.machine.cycles import cycles

from ...browser import text_of

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits" / "digits-cnn-int8.onnx"


def test_a_browser_shows_a_build(tmp_path):
    _, program = compile_network(DIGITS, load_chip("ulx3s-8x8"))
    timing = cycles(program)
    area = Area("ecp5", {"post-processing": Counter(LUT4=60), "control": Counter(LUT4=30),
                         "dma": Counter(TRELLIS_FF=5)})
    report = replace(make_report(program, timing=timing), area=area)
    rows = [{"layer": "conv1", "format": "int8", "sqnr": 45.04},
            {"layer": "dense", "format": "sums", "sqnr": None}]
    text = build_page(report, program, timing, rows)
    assert len(text) < 200_000 and not re.search(r"(src|href)=|https?://(?!www\.w3\.org)", text)
    path = tmp_path / PAGE
    path.write_text(text)
    # what `simulate --compare` finds is added to the page, in place of what it had found before
    row = {"layer": "conv1", "format": "int8", "elements": 4000, "codes_differing": 4,
           "largest_steps": 1.0, "quantized_tensor": "q", "golden_to_quantized_db": 71.26,
           "float_tensor": None, "golden_to_float_db": None}
    assert not add_comparison(tmp_path / "elsewhere", "", [])
    for facts in ("3 </script> images", "10 images, layer by layer"):
        assert add_comparison(tmp_path, facts, [row]) == [path]
    seen = text_of(path).replace(path.read_text().partition("<body>")[0], "")
    drawn = Counter(re.findall(r'data-unit="(\w+)"', seen))
    assert set(drawn) == {"LOAD", "ARRAY", "POST", "STORE"} and all(
        number >= 1 for number in drawn.values())
    # sizes of the rectangles are as the areas: 60 of 90 LUT4
    boxes = {name: float(width) * float(height) for width, height, name in re.findall(
        r'<rect x="[^"]*" y="[^"]*" width="([^"]*)" height="([^"]*)"[^>]*data-part="([^"]*)"',
        seen)}
    assert set(boxes) == {"post-processing", "control"}
    assert abs(boxes["post-processing"] / sum(boxes.values()) - 2 / 3) < 1e-6
    table = re.search(r'<table id="layers">.*?</table>', seen, re.DOTALL)[0]
    for item in report.layers:
        assert f"{item.layer.name}</td>" in table and f"<td>{item.cost.cycles:,}</td>" in table
    sections = re.findall(r'data-section="(\w+)"', seen)
    assert sections == [item.section for item in report.memory.sections]
    assert "45.0 dB" in seen and "<td>exact</td>" in seen
    assert "10 images, layer" in seen and "</script> images" not in seen
    assert "<td>4 (0.100 %)</td>" in seen and "<td>71.3 dB</td><td>-</td>" in seen


def test_ranges_that_nobody_could_tell_apart_are_one():
    assert _joined([(0, 10, 1), (12, 20, 1), (30, 40, 1)], 5) == [[0, 20, 1], [30, 40, 1]]
    assert _joined([(0, 10, 1), (12, 20, 2), (20, 21, 2)], 5) == [[0, 10, 1], [12, 21, 2]]
    assert _joined([(0, 1, 1), (1, 2, 2), (2, 3, 3), (9, 20, 3)], 5) == [[0, 3, 1], [9, 20, 3]]

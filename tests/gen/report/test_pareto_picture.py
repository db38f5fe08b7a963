"""Pictures of a sweep: what they say of their points, and that much of it leaves room for them."""

import re
import warnings

import pytest
from systolith.gen.report.pareto_picture import write_pictures


def row(point, **others):
    return {"point": point, "network": "net", "group": "g", "error": "", "does_not_fit": "",
            "violated": "", "target": "ecp5", "cycles": 1000.0, "lut": 100.0, "array.rows": 8,
            "array.columns": 8, "array.lanes": 1, "array.activation": "int8",
            "array.weight": "int8"} | others


def texts(rows, folder, monkeypatch):
    """The texts of the picture as SVG."""
    import matplotlib
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")      # of a picture without room for its axes, too
        png, svg = write_pictures(rows, ["cycles", "lut"], folder)
    assert png.stat().st_size > 10_000
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())


@pytest.mark.parametrize("first, second, labels, title", [
    ({}, {"array.rows": 4}, {"8 x 8", "4 x 8"}, "rows x columns x lanes"),
    ({}, {"array.lanes": 2}, {"8 x 8", "8 x 8 x 2"}, "rows x columns x lanes"),
    ({}, {"array.weight": "int4"}, {"int8", "int8 x int4"}, "activations x weights"),
    ({"array.rows": 4}, {"array.weight": "int4"}, {"int8, 4 x 8", "int8 x int4, 8 x 8"},
     "activations x weights, rows x columns x lanes"),
    ({}, {}, {"8 x 8"}, "rows x columns x lanes")])
def test_points_are_labelled_with_what_differs(first, second, labels, title, tmp_path, monkeypatch):
    rows = [row("a", **first), row("b", cycles=10.0, lut=1000.0, **second)]
    found = texts(rows, tmp_path, monkeypatch)
    assert labels <= set(found)
    assert f"Lines join the Pareto-optimal chips ({title})" in found


def test_many_groups_leave_room_for_the_points(tmp_path, monkeypatch):
    rows = [row(str(n), group=f"a group with a name, {n}", cycles=1000.0 / (n + 1),
                lut=100.0 * (n + 1)) for n in range(12)]
    assert "net (12 groups)" in texts(rows, tmp_path, monkeypatch)
    rows = [row("a", group="one"), row("b", group="two", cycles=10.0, lut=1000.0)]
    assert "net (one, two)" in texts(rows, tmp_path, monkeypatch)

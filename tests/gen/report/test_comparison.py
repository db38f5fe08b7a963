"""A comparison layer by layer as text and as a picture; the model may lack what a layer writes."""

from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from systolith.gen.report.comparison import comparison_table, write_comparison


def row(name, quantized="q", real="f", codes=5, steps=1.0, db=20.0):
    return {"layer": name, "format": "int8", "elements": 1000, "quantized_tensor": quantized,
            "float_tensor": real, "codes_differing": codes, "largest_steps": steps,
            "golden_to_quantized_db": db + 1, "golden_to_float_db": db + 2,
            "quantized_to_float_db": db + 3}


def comparison(*rows):
    return SimpleNamespace(rows=rows, images=3, quantized_by="one", float_source="a file",
                           float_by="another", arithmetic=None, answers=[("x", "an answer")])


def cells(text, name):
    line, = (line for line in text.splitlines() if f" {name} " in line)
    return [word for word in line.split() if word.isascii() and word != "|"]


@pytest.mark.parametrize("quantized, real, wanted", [
    ("q", "f", ["5", "(0.500", "%)", "1", "21.0", "22.0", "23.0"]),
    ("q", None, ["5", "(0.500", "%)", "1", "21.0", "-", "-"]),
    (None, "f", ["-", "-", "-", "22.0", "-"]), (None, None, ["-"] * 5)])
def test_what_is_not_known_is_a_dash(quantized, real, wanted):
    text = comparison_table(comparison(row("conv", quantized, real)))
    assert cells(text, "conv") == ["conv", "int8", "1,000", *wanted]
    assert ("stands nowhere in the model" in text) == (quantized is None)
    assert "3 images" in text and text.endswith("an answer")


def test_the_picture_has_the_layers_that_the_model_has(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: (
        seen.append(figure), path.write_bytes(b"")))
    write_comparison(comparison(row("one"), row("two", None), row("three", real=None, codes=40),
                                row("a" * 40, db=300.0)), tmp_path)
    upper, lower = seen[0].axes
    assert [label.get_text() for label in lower.get_xticklabels()] == [
        "one", "three", "..." + "a" * 25]
    assert [bar.get_height() for bar in lower.patches] == pytest.approx([0.5, 4, 0.5])
    golden, quantized = upper.lines
    assert golden.get_xdata().tolist() == [0, 2] and golden.get_ydata().tolist() == [22, 120]
    assert quantized.get_ydata().tolist() == [23, 120]

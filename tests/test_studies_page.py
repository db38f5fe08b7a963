"""docs/studies.py: tables of studies, and that they are written into the page where it has them."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.append(str(DOCS))

import studies  # noqa: E402


def point(networks, *, group="g", **chip):
    """A result of a sweep with an area, of networks given as {name: figures}."""
    chip = {"rows": 4, "columns": 8, "lanes": 1, "activation": "int8", "weight": "int8",
            "packed_signs": False} | chip
    return {"group": group, "chip": chip, "lut": 12345, "ff": 1000, "bram": 7,
            "processing_element": {"lut": 96}, "figures": next(iter(networks.values())),
            "networks": {name: figures | {"figures": figures}
                         for name, figures in networks.items()}}


FIGURES = {"cycles": 1710, "energy_uj": 2.04, "images_per_s": 8501.6, "accuracy": 0.985,
           "images_per_s_per_klut": 128.4, "utilization": 0.713}


def rows(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_every_table_has_its_place_in_the_page():
    names = [name for _, some in studies.STUDIES.values() for name in some]
    text = studies.generate.filled(studies.PAGE, **dict.fromkeys(names, "| its place |"))
    assert text.count("| its place |") == len(names) == len(set(names))


def test_a_table_that_the_page_lacks_is_refused():
    with pytest.raises(AssertionError, match="must have <!-- other -->"):
        studies.generate.filled(studies.PAGE, other="| its place |")


def test_shapes_by_rows_and_columns():
    results = [point({"n": FIGURES | {"cycles": cycles}}, rows=height, columns=width)
               for height, width, cycles in ((4, 4, 9000), (4, 8, 7000), (8, 4, 6000),
                                             (8, 8, 5000))]
    results.append(point({"n": FIGURES | {"cycles": 1}}, lanes=2))
    heading, _, *found = rows(studies.shape_tables(results)["shapes"])
    assert heading == ["rows \\ columns", "4", "8"]
    assert found == [["4", "9,000", "7,000"], ["8", "6,000", "**5,000**"]]


def test_binary_elements_beside_integers():
    found = rows(studies.binary_tables([
        point({"n": FIGURES}, group="binary", lanes=16), point({"n": FIGURES}, group="int8")])[
            "binary"])
    assert found[2:] == [["binary, 4 x 8 x 16 lanes", "12,345", "1,000", "7", "1,710", "2.0"],
                         ["int8, 4 x 8", "12,345", "1,000", "7", "1,710", "2.0"]]


def test_formats_of_two_networks():
    both = dict.fromkeys(studies.formats.NETWORKS, FIGURES)
    signs = point({"digits-residual-bnn": FIGURES | {"accuracy": 0.974}}, packed_signs=True)
    found = studies.format_tables([point(both, weight="e3m0"), signs], [point(both)])
    size = rows(found["format-size"])[2:]
    assert size[0] == ["int8 x e3m0 (powers of two)", "12,345", "1,000", "7", "96", "98.5 %",
                       "98.5 %", "", "", "", "", "2.0"]
    assert size[1][0] == "int8, binary layers as packed signs"
    assert size[1][5:8] == ["", "97.4 %", ""]
    assert rows(found["format-area"])[2][1:7] == [
        "4 x 8", "12,345", "1,000", "7", "1,710", "8,502"]


def test_formats_at_their_own_clocks():
    there = FIGURES | {"placed_images_per_s": 12345.6}
    placed = {"placed": {"mhz": 131.25}}
    both = point(dict.fromkeys(studies.formats.NETWORKS, there)) | placed
    signs = point({"digits-residual-bnn": there}, packed_signs=True) | placed
    plain, binary = rows(studies.format_tables([both, signs], [])["format-size"])[2:]
    assert plain[7:] == ["131.2", "12,346", "12,346", "1000", "2.0"]
    assert binary[7:] == ["131.2", "", "(12,346)", "(1000)", "2.0"]


def test_networks_by_shape():
    found = rows(studies.network_tables([point({"a": FIGURES, "b": FIGURES}, lanes=2)],
                                        ["a", "b"])["networks"])
    assert found[2] == ["4 x 8, two lanes", "1,710, 71 %", "1,710, 71 %"]


def test_squeezenet_on_its_parts():
    row = {"array": "16 x 8", "cores": 1, "bus": 64, "lut": 18000, "dsp": 8, "bram": 55,
           "cycles": 3290918, "MHz for it": 79.63}
    placed = row | {"by seed": "90.1", "images/s there": 27.4}
    missed = row | {"cores": 2, "by seed": "", "images/s there": ""}
    tables = studies.squeezenet_tables([row, placed, row], row)
    _, first, second = rows(tables["squeezenet"])[2:]
    found = studies.squeezenet_tables([row, placed, missed], row | {"cores": 5, "bus": 256})
    third = rows(found["squeezenet"])[4]
    assert first == ["16 x 8", "LUTs", "64", "18,000", "8", "55", "3,290,918", "79.6", "LFE5U-25F",
                     "90.1", "27.4", "32"]
    assert second[8] == "LFE5U-45F" and second[9:] == third[9:] == [""] * 3
    assert third[0] == "2 x 16 x 8"
    assert rows(found["squeezenet-fast"])[2][:2] == ["5 x 16 x 8", "256"]


def test_a_study_is_written_into_the_page(tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("before\n<!-- shapes -->\nold\n<!-- end -->\nafter\n")
    for module in (studies, studies.generate):
        monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(studies, "PAGE", "page.md")
    monkeypatch.setattr(studies, "sweep", lambda space, folder, jobs: (
        [point({"n": FIGURES})], []) if space.name == "array-shapes.toml" else None)
    monkeypatch.setattr(sys, "argv", ["studies.py", "shapes", "--folder", str(tmp_path)])
    studies.main()
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("before\n<!-- shapes -->\n| rows") and "**1,710**" in text
    assert text.endswith("<!-- end -->\nafter\n") and "shapes" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["studies.py", "other"])
    with pytest.raises(SystemExit):
        studies.main()

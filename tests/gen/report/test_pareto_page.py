"""The page of a sweep in a browser: points, fronts, winners, failures; offline and small."""

import html
import re
from types import SimpleNamespace

import pytest
from systolith.gen.report.energy import energy_pj, read_energy
from systolith.gen.report.metrics import METRICS, figures_of
from systolith.gen.report.pareto import pareto_front, rows_of
from systolith.gen.report.pareto_page import page
from systolith.hw.spec.arch import Arch

from ...browser import text_of


def point(number, lut, cycles, **more):
    arch = Arch(rows=4, columns=2 + 2 * number)
    figures = dict.fromkeys(METRICS) | {"lut": lut, "cycles": cycles}
    return {"id": f"p{number}", "group": "a </script> group", "settings": {}, "error": None,
            "target": "ecp5", "part": "LFE5U-25F", "exceeds": [], "violated": [],
            "chip": arch.to_dict(), "macs_per_cycle": arch.macs_per_cycle, "figures": figures,
            "networks": {"net": {"macs": 9, "compute_cycles": 5, "figures": figures}}} | more


POINTS = [point(0, 100, 900), point(1, 200, 500), point(2, 300, 500), point(3, 400, 100),
          point(4, 500, 50, exceeds=["70 BRAM of 56"]), point(5, 90, 40, violated=["lut > 95"]),
          point(6, None, None, error="Yosys failed: a <test>", networks={})]


@pytest.mark.parametrize("costs, front", [
    ([(1, 9), (2, 5), (3, 5), (4, 1), (5, 2)], [0, 1, 3]),
    ([(2, 2), (1, 1)], [1]), ([(1, 1), (1, 1)], [0]), ([], []),
    ([(1, 2, 3), (1, 2, 2), (2, 1, 3), (2, 2, 2), (3, 3, 1)], [1, 2, 4])])
def test_fronts_of_any_number_of_objectives(costs, front):
    assert pareto_front(costs) == front


def test_what_does_not_count_is_on_no_front():
    rows = rows_of(POINTS, ["cycles", "lut"])
    assert [row["point"] for row in rows if row["pareto"]] == ["p0", "p1", "p3"]
    assert rows[0]["accuracy"] == "" and rows[6]["error"].startswith("Yosys")
    assert [row["does_not_fit"] for row in rows][4] == "70 BRAM of 56"


def test_most_is_better_for_some():
    rows = rows_of([point(n, 100 * n + 1, 1) for n in range(3)], ["lut"])
    assert [row["pareto"] for row in rows] == [1, 0, 0]
    for n, item in enumerate(made := [point(n, 1, 1) for n in range(3)]):
        item["networks"]["net"]["figures"]["accuracy"] = n / 10
    assert [row["pareto"] for row in rows_of(made, ["accuracy"])] == [0, 0, 1]


def test_a_browser_shows_it(tmp_path):
    text = page(rows_of(POINTS, ["cycles", "lut"]), ["cycles", "lut"], "my/sweep")
    assert len(text) < 100_000 and not re.search(r"(src|href)=|https?://(?!www\.w3\.org)", text)
    (tmp_path / "page.html").write_text(text)
    seen = text_of(tmp_path / "page.html")
    assert re.findall(r'<circle[^>]*data-point="(p\d)"', seen) == [f"p{n}" for n in range(6)]
    # the front of two objectives: a move and two lines
    front, = re.findall(r'<path[^>]* d="(M[^"]*)"[^>]*data-front|<path[^>]*data-front=[^>]* d="(M'
                        r'[^"]*)"', seen)
    assert "".join(front).count("L") == 2
    assert len(re.findall(r'<tr class="front"', seen)) == 3
    assert len(re.findall(r'<tr class="no"', seen)) == 2
    words = html.unescape(re.sub(r"<[^>]+>", " ", seen.partition('<script id="data"')[0]))
    assert "systolith build --from-sweep my/sweep p3 -o build/p3" in words      # least cycles
    assert "Yosys failed: a <test>" in words and "Failures (1)" in words
    assert "7 points and networks, 1 failed, 1 do not fit their part, 1 violate" in words


def test_energies_of_an_image_are_in_microjoules():
    arch, table = Arch(rows=4, columns=4), read_energy()
    counted = {"macs": 1000, "cycles": 500, "cycles_together": 500,
               "compute_cycles": 400, "loaded_bytes": 10,
               "stored_bytes": 1, "instruction_bytes": 5, "weight_bytes": 7, "ace": 64,
               "bops": 100, "reads": {"weight": 80}, "writes": {}}
    found = figures_of(SimpleNamespace(arch=arch, part=None), None, counted, None, table)
    pj = sum(energy_pj(arch, counted, table).values())
    assert pj > 1000 and found["energy_uj"] == pytest.approx(pj / 1_000_000)
    assert found["images_per_joule"] == pytest.approx(1e12 / pj)
    assert found["images_per_s"] == pytest.approx(found["clock_mhz"] * 1e6 / 500)

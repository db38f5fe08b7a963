"""Several cores side by side: area of all, images of all, one bus."""

import csv

import pytest
from systolith.gen.report import pareto
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.space_file import read_space

from ....sweeps import fake

SPACE = """
constraints = ["cores <= 8"]
[[group]]
chip = {{ array = {{ rows = 4, columns = 4 }} }}
networks = ["net.onnx"]
vary = {{ cores = {cores} }}
"""


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])
    (tmp_path / "net.onnx").write_bytes(b"a network")

    def write(cores, text=SPACE):
        path = tmp_path / "space.toml"
        path.write_text(text.format(cores=cores))
        return path
    return write


def busy(task):
    """An image on each of several cores takes longer the more there are."""
    result = fake(task)
    if task.kind == "area":
        return result | {"lut": task.arch.cores * result["lut"]}
    return result | {"cycles_together": result["cycles"] + 10 * (task.arch.cores - 1)}


def test_area_and_images_of_several_cores(space, tmp_path):
    results, _ = sweep(space([1, 2, 8, 16]), tmp_path / "out", evaluate=busy)
    one = results[0]
    assert len({item["id"] for item in results}) == 4
    assert [item["figures"]["lut"] for item in results] == [
        n * one["figures"]["lut"] for n in (1, 2, 8, 16)]
    assert {item["figures"]["cycles"] for item in results} == {one["figures"]["cycles"]}
    rates = [item["figures"]["images_per_s"] for item in results]
    cycles = one["figures"]["cycles"]
    assert rates == pytest.approx([rates[0] * n * cycles / (cycles + 10 * (n - 1))
                                   for n in (1, 2, 8, 16)])
    assert [item["feasible"] for item in results] == [True, True, True, False]
    with (tmp_path / "out" / "results.csv").open() as file:
        assert [row["cores"] for row in csv.DictReader(file)] == ["1", "2", "8", "16"]


def test_memory_answers_later_where_cores_share_it(space):
    points = read_space(space([1, 2, 4])).points
    assert len({point.area.key for point in points}) == 3
    assert len({point.placed.key for point in points}) == 3
    one, two, four = (point.cycles["net"].key for point in points)
    assert len({one, two, four}) == 3


@pytest.mark.parametrize("cores", [[0], [17], ["two"], [True], [1.5]])
def test_mistakes(space, cores):
    text = str(cores).replace("'", '"').replace("True", "true")
    point, = read_space(space(text)).points
    assert point.arch is None and "cores must be a whole number from 1 to 16" in point.problem

"""Which points are measured: conditions, random ones, Optuna's; what a killed search leaves."""

import json

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.report import pareto
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.space_file import read_space

from ....sweeps import fake

SPACE = """
objectives = ["cycles", "lut"]
[search]
method = "{method}"
evaluations = {evaluations}
[[group]]
chip = {{ array = {{ rows = 2, columns = 2 }} }}
networks = ["net.onnx"]
vary = {{ "array.rows" = {{ from = 2, to = 16, step = 2 }}, "array.lanes" = [1, 2, 3] }}
together = [{{ "array.columns" = [2, 4, 6] }}]
when = ["array.rows >= array.columns"]
"""


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])


@pytest.fixture
def space(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"a network")

    def made(method="nsga2", evaluations=30):
        path = tmp_path / "space.toml"
        path.write_text(SPACE.format(method=method, evaluations=evaluations))
        return path
    return made


def chips(results):
    return [(result["chip"]["rows"], result["chip"]["columns"], result["chip"]["lanes"])
            for result in results]


def test_conditions_leave_combinations_out(space):
    points = read_space(space("grid")).points
    assert len(points) == 3 * (3 * 8 - 1 - 2)
    assert all(point.arch.rows >= point.arch.columns for point in points)


def test_random_points_are_distinct_and_the_same_again(space, tmp_path):
    results, _ = sweep(space("random", 10), tmp_path / "one", evaluate=fake)
    again, _ = sweep(space("random", 10), tmp_path / "two", evaluate=fake)
    assert len(set(chips(results))) == 10 and chips(results) == chips(again)
    other, _ = sweep(space("random", 10), tmp_path / "one", evaluations=12, evaluate=fake)
    assert chips(other)[:10] == chips(results) and len(other) == 12
    # all there are, where more are asked for
    assert len(sweep(space("random", 999), tmp_path / "one", evaluate=fake)[0]) == 63


@pytest.mark.parametrize("method", ["nsga2", "tpe"])
def test_optuna_measures_so_many_distinct_points(space, tmp_path, method):
    results, _ = sweep(space(method), tmp_path / "out", evaluate=fake)
    assert len(set(chips(results))) == len(results) == 30
    assert all(result["chip"]["rows"] >= result["chip"]["columns"] for result in results)
    lines = [json.loads(line) for line in
             (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == 60


class Killed(BaseException):
    """Ends a sweep as a signal does."""


def test_a_killed_search_goes_on(space, tmp_path):
    """What was measured is not measured again, and together it is as many as were asked for."""
    seen = []

    def until_killed(task):
        if len(seen) == 27:
            raise Killed
        seen.append(task.key)
        return fake(task)
    with pytest.raises(Killed):
        sweep(space(), tmp_path / "out", evaluate=until_killed)
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["state"] == "failed" and status["measurements"]["cycles"]["wanted"] > 0

    def once(task):
        assert task.key not in seen
        seen.append(task.key)
        return fake(task)
    sweep(space(), tmp_path / "out", evaluate=once)
    assert len(seen) == 60
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["state"] == "done"
    assert status["measurements"]["area"]["measured"] > 0 and status["best"]["lut"]["point"]


def test_a_search_that_has_had_its_points_asks_for_none(space, tmp_path):
    first, _ = sweep(space(), tmp_path / "out", evaluate=fake)

    def never(task):
        raise AssertionError(task)
    again, _ = sweep(space(), tmp_path / "out", evaluate=never)
    assert sorted(chips(again)) == sorted(chips(first))


def test_points_that_cannot_be_do_not_end_a_search(space, tmp_path):
    def refuses(task):
        return fake(task) | ({"error": "no"} if task.arch.lanes == 3 else {})
    results, _ = sweep(space(evaluations=20), tmp_path / "out", evaluate=refuses)
    assert len(results) == 20 and any(result["error"] == "no" for result in results)


def test_constraints_steer_and_are_said(space, tmp_path):
    path = space(evaluations=40)
    path.write_text('constraints = ["lut <= 2000", "array.lanes < 3"]\n' + path.read_text())
    results, _ = sweep(path, tmp_path / "out", evaluate=fake)
    for result in results:
        wrong = [text for text, holds in (
            ("lut <= 2000", result["figures"]["lut"] <= 2000),
            ("array.lanes < 3", result["chip"]["lanes"] < 3)) if not holds]
        assert result["violated"] == wrong and result["feasible"] is not bool(
            wrong or result["exceeds"])
    assert 0 < sum(result["feasible"] for result in results) < 40


@pytest.mark.parametrize("line, words", [
    ('[search]\nmethod = "luck"', "method must be one of grid"),
    ("[search]\nevaluations = 0", "evaluations must be a whole number"),
    ("[search]\nspeed = 3", "speed is no key. Keys of search"),
    ('objectives = ["speed"]', "'speed' is none. Objectives: cycles"),
    ('constraints = ["speed > 3"]', "speed is no name here"),
    ('area = "guess"', "area must be one of modules"),
])
def test_mistakes(space, line, words):
    path = space("grid")
    text = path.read_text().replace('objectives = ["cycles", "lut"]\n', "")
    path.write_text(line + text[text.index("\n[[group]]"):])
    with pytest.raises(UserError) as caught:
        read_space(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("groups", ["", "group = []\n", 'group = "all"\n', "group = [1]\n"])
def test_a_space_has_a_group(tmp_path, groups):
    path = tmp_path / "space.toml"
    path.write_text(groups + 'objectives = ["cycles"]\n')
    with pytest.raises(UserError, match=r"must have at least one \[\[group\]\]"):
        read_space(path)


@pytest.mark.parametrize("line, size", [
    ("", "lut"), ('area = "modules"', "lut"), ('area = "estimate"', "estimated_lut"),
    ('target = "asic"', "gates"), ('target = "asic"\narea = "whole"', "gates")])
def test_what_is_wanted_where_a_space_does_not_say(tmp_path, line, size):
    (tmp_path / "net.onnx").write_bytes(b"a network")
    path = tmp_path / "space.toml"
    group = "\n[[group]]\nchip = { array = { rows = 2, columns = 2 } }\n"
    path.write_text(line + group)
    assert read_space(path).objectives == [size]
    path.write_text(f'{line}{group}networks = ["net.onnx"]\n')
    assert read_space(path).objectives == ["cycles", size]

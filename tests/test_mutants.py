"""The faults that `bench/mutants.py` plants: each can still be planted, and is a program."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import mutants


def test_faults_that_have_a_name_can_be_planted():
    for what, mutant in mutants.named():
        assert mutant.source() != (mutants.ROOT / mutant.file).read_bytes(), what
        ast.parse(mutant.source())
        assert mutants.tests_of(mutant.file), what
    assert len({what for what, _ in mutants.named()}) == len(mutants.NAMED) >= 17


@pytest.mark.parametrize("file", ["hw/core/store.py", "sim/machine/iss.py", "gen/compile/emit.py"])
def test_mutants_are_programs_that_differ_and_have_names_of_their_own(file):
    found = mutants.mutants_of(file)
    source = (mutants.ROOT / file).read_bytes()
    assert len(found) > 100 and len({mutant.id for mutant in found}) == len(found)
    for mutant in found[::25]:
        assert source[mutant.first:mutant.last].decode() == mutant.old
        assert mutant.source() != source
        ast.parse(mutant.source())
    texts = {f"{' '.join(mutant.old.split())} -> {mutant.instead}" for mutant in found}
    if file == "hw/core/store.py":
        assert {"1 -> 2", "1 -> 0", "burst.more == 0 -> (burst.more != 0)"} <= texts


def test_results_count_what_was_drawn_alone(tmp_path, monkeypatch):
    drawn = mutants.mutants_of("hw/core/axi.py")[:3]
    monkeypatch.setattr(mutants, "sample", lambda count, seed: drawn)
    results = tmp_path / "results.jsonl"
    results.write_text("".join(
        f'{{"id": {mutants.json.dumps(name)}, "by": "{by}", "seconds": 1, "state": ""}}\n'
        for name, by in ((drawn[0].id, "a test"), (drawn[1].id, ""), ("another", ""))))
    found = mutants.summary(3, "1", results)
    assert (found["drawn"], found["tried"], found["killed"]) == (3, 2, 1)
    assert list(found["survivors"]) == [drawn[1].id]


SOURCE = """
def half(n):
    return n // 2

def apart(n):
    return abs(n - 1)

def never(n):
    return n + 1

def down(n):
    while n > 0:
        n -= 1
    return n
"""
TESTS = """
import pytest
from systolith.hw.small import apart, down, half

def test_apart():
    assert apart(3) == 2

@pytest.fixture(scope="module")
def halves():
    return [half(n) for n in range(5)]

def test_half(halves):
    assert halves == [0, 0, 1, 1, 2]

def test_down():
    assert down(2) == 0

def test_that_always_fails():
    assert half(1) == 7
"""
#: Mutants, the test that must notice each, and how many tests may run for it.
JUDGED = {"n // 2 -> ((n) * (2))": ("test_half", 1), "n - 1 -> ((n) + (1))": ("test_apart", 1),
          # no test can notice this one, and nothing executes that one
          "n - 1 -> ((1) - (n))": ("", 1), "n + 1 -> ((n) - (1))": ("", 0),
          # never ends
          "n -= 1 -> pass": ("test_down", 1)}
RUN = """
import json, sys
from pathlib import Path
import mutants
mutants.ROOT, mutants._OUTSIDE, mutants._SLOW = Path("project").resolve(), (), 0.2
mutants._REACH = float(sys.argv.pop(1))
wanted = [mutant for mutant in mutants.mutants_of("hw/small.py")
          if mutant.id.partition(": ")[2].rpartition(" #")[0] in sys.argv[1:]]
copy = mutants.Copy(Path("copy").resolve(), Path("cache"))
print(json.dumps([[mutant.id, found] for mutant, found in mutants.try_all(copy, wanted)]))
"""


def tried(tmp_path, reach, *wanted):
    """{mutant: (test that notices it, how many ran)}; `reach`: seconds for the tests of a file."""
    for name, text in (("hw/small.py", SOURCE), ("tests/hw/test_small.py", TESTS)):
        place = tmp_path / "project" / name
        place.parent.mkdir(parents=True)
        place.write_text(text)
    (tmp_path / "copy").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(reach), *wanted],
        cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(mutants.__file__).parent),
                          "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert done.returncode == 0, done.stderr
    return {name.partition(": ")[2].rpartition(" #")[0]: (item["by"].rpartition("::")[2],
                                                          item["ran"])
            for name, item in json.loads(done.stdout)}


def test_faults_that_a_test_notices_are_killed_and_others_survive(tmp_path):
    assert tried(tmp_path, 20, *JUDGED) == JUDGED
    # the sources are as they were
    assert (tmp_path / "copy" / "hw" / "small.py").read_text() == SOURCE


def test_that_the_time_is_up_kills_no_mutant(tmp_path):
    name = "n - 1 -> ((1) - (n))"
    assert tried(tmp_path, 0, name)[name][0] == ""

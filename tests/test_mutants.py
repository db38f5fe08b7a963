"""The faults that `bench/mutants.py` plants: each can still be planted, and is a program."""

import ast
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

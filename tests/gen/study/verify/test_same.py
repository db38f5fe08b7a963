"""The same bytes whatever the hash seed and the Python; a difference is found."""

import sys

from systolith.gen.study.verify import parts as making
from systolith.gen.study.verify import same
from systolith.gen.study.verify.same import ask, hashes, job, pythons


def test_another_process_gives_the_same_hashes():
    what = job(quick=True)
    version, found = ask(sys.executable, what, "7")
    assert version == sys.version.split()[0] and found == hashes(what)
    assert set(found) == {"Verilog of tiny-2x4-bnn", "program of digits-mlp-bnn"}


def test_chips_and_networks_of_the_repository_and_of_a_wheel(monkeypatch):
    inside = job()
    monkeypatch.setattr(same, "repository", lambda: None)
    outside = job()
    for what in (inside, outside):
        assert {name for name, _ in what["programs"].values()} <= set(what["chips"])
        assert len(what["chips"]) > 15 and len(what["programs"]) > 20
    assert set(inside["chips"]) != set(outside["chips"])
    # A network that a chip refuses has a hash, too.
    small = {"chips": {"c": 1}, "programs": {"p": ["c", 4]}}
    assert len(hashes(small)) == 2


def test_a_python_that_is_not_there():
    assert isinstance(ask("/nowhere/python3.99", {}, "1")[1], str)
    assert pythons(["/nowhere/python3.99"]) == ["/nowhere/python3.99"]


def test_differences_are_told(monkeypatch):
    answers = iter([("3.11.1", {"a": "1", "b": "2"}), ("3.11.1", {"a": "1", "b": "2"}),
                    ("3.13.0", {"a": "1", "b": "9"}), ("3.14.0", "No module named 'amaranth'")])
    monkeypatch.setattr(same, "ask", lambda *_: next(answers))
    monkeypatch.setattr(same, "pythons", lambda given: ["p13", "p14"])
    found = making.PARTS["bytes"].run(making.Settings(show=lambda line: None))
    assert [item.good for item in found] == [True, True, False, None]
    assert "1 of 2" in found[2].value and "not b" in found[2].value

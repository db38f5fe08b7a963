"""`systolith verify`: parts, figures that are kept, the page."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.study.runtime.cases import CASES
from systolith.gen.study.verify import kept as keeping
from systolith.gen.study.verify import parts as making
from systolith.gen.study.verify import report as reporting
from systolith.gen.study.verify.part import Figure, Part, Settings, repository
from systolith.gen.study.verify.parts import PARTS, coverage_figures

FIGURES = [Figure("things", "7"), Figure("faults | of <them>", "0", "0", True),
           Figure("speed", "3", "5", False)]


@pytest.fixture
def one(monkeypatch, tmp_path):
    """A part that takes no time, and where its figures are kept."""
    part = Part("one", "One thing", ("systolith.gen.study.code",), lambda settings: FIGURES)
    monkeypatch.setattr(reporting, "PARTS", {"one": part, "two": replace(part, name="two",
                                                                         repository=True)})
    monkeypatch.setattr(keeping, "SHIPPED", tmp_path / "none.json")
    return tmp_path / "kept.json"


def test_figures_are_kept_and_shown(one, tmp_path, capsys):
    assert main(["verify", "--part", "one", "--kept", str(one)]) == 3     # a target is missed
    assert "missed" in capsys.readouterr().out
    page = tmp_path / "page.md"
    assert main(["verify", "--report", "--kept", str(one), "-o", str(page)]) == 0
    out = capsys.readouterr().out
    assert "things" in out and "measured 20" in out and "not measured" in out
    text = page.read_text()
    assert "| faults \\| of &lt;them> | 0 | 0 | met |" in text and "## One thing" in text
    assert f"wrote {page}" in out
    known = json.loads(one.read_text())
    assert set(known) == {"one"} and len(known["one"]["figures"]) == 3


@pytest.mark.parametrize("top", ["hw/core", "sim/random", "gen", "bench"])
def test_mutants_are_drawn_of_all_sources(top, monkeypatch, tmp_path):
    folder = tmp_path / top
    folder.mkdir(parents=True)
    source = folder / "mutants.py"
    monkeypatch.setattr(keeping, "repository", lambda: tmp_path)
    found = []
    for text in ("one", "two", "one"):
        source.write_text(text)
        found.append(keeping.key(PARTS["mutants"]))
    assert found[0] == found[2] != found[1]


def test_other_sources_are_told(one, capsys):
    main(["verify", "--part", "one", "--kept", str(one)])
    known = json.loads(one.read_text())
    part = reporting.PARTS["one"]
    assert not keeping.stale(part, known) and not keeping.stale(reporting.PARTS["two"], known)
    assert [item.name for item in reporting._chosen(["stale"], known)] == ["two"]
    known["one"]["key"] = "0"
    one.write_text(json.dumps(known))
    assert keeping.stale(part, known)
    assert [item.name for item in reporting._chosen(["stale"], known)] == ["one", "two"]
    capsys.readouterr()
    assert main(["verify", "--kept", str(one)]) == 0
    assert "sources have changed since" in capsys.readouterr().out


def test_quick_keeps_nothing(one):
    assert main(["verify", "--part", "one", "--quick", "--kept", str(one)]) == 3
    assert not one.exists()


def test_a_part_that_needs_the_repository_says_so(one, monkeypatch, capsys):
    monkeypatch.setattr(reporting, "repository", lambda: None)
    assert main(["verify", "--part", "two", "--kept", str(one)]) == 0
    assert "two: needs the repository" in capsys.readouterr().out


def test_wrong_names_and_files(one, capsys):
    assert main(["verify", "--part", "three", "--kept", str(one)]) == 1
    assert "there is no such part" in capsys.readouterr().err
    for text in ("{", "[]"):
        one.write_text(text)
        with pytest.raises(UserError, match="no file of kept figures"):
            keeping.read(one)


def test_the_list_of_parts(capsys):
    assert main(["verify", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PARTS)


def test_every_part_names_what_it_depends_on():
    root = repository()
    for part in PARTS.values():
        assert len(keeping.key(part)) == 16
        assert all(list(root.glob(pattern)) for pattern in part.files), part.name
    assert keeping.key(PARTS["flips"]) != keeping.key(PARTS["runtime"])


def test_coverage_as_figures():
    figures = {"lines": (96, 100), "bits that have toggled": (7, 10)}
    found = coverage_figures(figures, ["random-1"], 5, [
        ["post", "a <= b", 2, ""], ["POST", "shift most", 1, "why"]], ["wrong"])
    assert [item.good for item in found] == [None, False, None, False, False, False]
    figures["lines"] = (97, 100)
    assert coverage_figures(figures, [], 5, [], [])[1].good


def test_quick_parts(monkeypatch):
    """Parts that take seconds, with the fewest cases."""
    settings = making.Settings(quick=True, show=lambda line: None)
    for name in ("mutants", "runtime"):
        found = PARTS[name].run(settings)
        assert found and all(item.what and item.value for item in found)
    with monkeypatch.context() as patched:
        patched.setattr(making, "repository", lambda: None)
        with pytest.raises(UserError, match="needs the repository"):
            PARTS["mutants"].run(settings)


def test_the_figures_that_come_with_systolith():
    known = keeping.read(keeping.SHIPPED)
    assert set(known) <= set(PARTS)
    page = repository() / "docs" / "explanation" / "verification-figures.md"
    for name, item in known.items():
        assert item["figures"] and name in page.read_text()


@pytest.mark.parametrize("quick", [False, True])
def test_chips_of_which_coverage_is_asked(quick, monkeypatch):
    """All that `regress` has, unless it is to be quick; then reasons may be of no chip."""
    asked = {}
    monkeypatch.setattr("systolith.gen.study.regress.regress",
                        lambda chips, seeds, *_, **__: asked.update(chips=chips) or [])
    monkeypatch.setattr("systolith.gen.study.coverage.wrong_reasons",
                        lambda covered, every: asked.update(every=every) or [])
    monkeypatch.setattr("systolith.gen.study.coverage.Covered.figures", lambda self: {
        "lines": (97, 100)})
    making._coverage(making.Settings(quick=quick, show=lambda line: None))
    assert asked == {"chips": ["random-1"] if quick else None, "every": not quick}


@pytest.mark.parametrize("code, said, good", [
    (0, "against the golden model: 0 bits differ in 212 results", True),
    (3, "layer 1 differs in 4 bits", False), (0, "", False)])
def test_a_netlist_is_right_where_its_bits_were_compared(code, said, good, monkeypatch):
    """One image, in the network's own shape."""
    shapes = []

    def played(*words, cwd):
        if "--files" in words:
            (cwd / "digits").mkdir()
            np.save(cwd / "digits" / "x.npy", np.zeros((3, 1, 28, 28), np.float32))
        if "simulate" not in words:
            return SimpleNamespace(returncode=0)
        shapes.append(np.load(cwd / "x.npy").shape)
        return SimpleNamespace(returncode=code, stdout=said, stderr="")
    monkeypatch.setattr(making, "command", played)
    found = making._netlist(making.Settings(show=lambda line: None))
    assert len(found) == 4 and all(item.good is good for item in found)
    assert set(shapes) == {(1, 784)}


def test_how_much_is_compared_with_onnx_runtime(monkeypatch):
    """Four seeds of each operator, with signed and unsigned codes, of four images."""
    from systolith.gen.study.runtime import judge
    asked = []

    def compared(operator, seed, scales, kind, images):
        asked.append((operator, seed, scales, kind, images))
        return judge.Verdict(networks=1, codes=10)
    monkeypatch.setattr(judge, "compared", compared)
    found = making._runtime(Settings(show=lambda line: None))
    assert {item[0] for item in asked} == set(CASES) and len(set(asked)) == len(asked)
    assert {item[1:] for item in asked} == {
        (seed, scales, kind, 4) for seed in range(4) for scales in ("two", "any", "simple")
        for kind in (np.int8, np.uint8)}
    counts = [item.value for item in found if item.what.endswith("networks, codes")]
    assert counts == [f"{8 * len(CASES):,}, {80 * len(CASES):,}"] * 3

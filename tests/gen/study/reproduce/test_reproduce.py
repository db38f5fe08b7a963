"""Published figures: those that take no tools come out, and what falls short is said."""

import json
from dataclasses import replace

import pytest
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.study.reproduce import STUDIES, Figure, reproduce, study, table
from systolith.gen.study.reproduce.squeezenet import squeezenet_graph


@pytest.mark.parametrize("name", ["omse", "sawb", "shift", "mx", "settle"])
def test_figures_are_as_published(name):
    figures = reproduce([name])[name]
    assert figures and all(item.good for item in figures), table({name: figures})


def test_squeezenet_has_its_products():
    """As the paper and all its implementations have: 0.35 G."""
    graph = squeezenet_graph()
    assert sum(layer.macs for layer in graph.layers) == 349_151_936
    assert graph.tensors["fire9"].shape == (512, 13, 13)


def test_unknown_names():
    with pytest.raises(UserError, match="there is no study 'osme'; did you mean 'omse'"):
        reproduce(["osme"])


def test_the_command(capsys, tmp_path, monkeypatch):
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in STUDIES) and "1902.06822" in out
    path = tmp_path / "figures.json"
    assert main(["reproduce", "settle", "--json", str(path)]) == 0
    assert "16584, 22" in capsys.readouterr().out
    assert json.loads(path.read_text())["settle"][0]["published"] == "16584, 22"
    short = replace(STUDIES["settle"], run=lambda: [Figure("a", "1", "2", False)])
    monkeypatch.setitem(study.STUDIES, "settle", short)
    assert main(["reproduce", "settle"]) == 3
    assert "| short |" in capsys.readouterr().out

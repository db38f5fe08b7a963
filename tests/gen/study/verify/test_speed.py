"""What the speed of simulations is measured on."""

import json
from types import SimpleNamespace

from systolith.gen.study import regress as regression
from systolith.gen.study.verify import speed as module
from systolith.gen.study.verify.part import Settings


def test_how_much_is_measured(monkeypatch):
    """The digits on a 16 x 16 array, 200 images for the rate of clocks, and 60 seeds."""
    words, seeds = [], []

    def command(*given, cwd, env):
        words.append(given[2:])
        if given[2] == "simulate":
            (cwd / "run.json").write_text(json.dumps({"clocks_per_second": 500_000}))
        return SimpleNamespace(returncode=0, stderr="")

    def regress(chips, count, jobs, show):
        seeds.append((chips, count, jobs))
        return list(range(count))
    monkeypatch.setattr(module, "command", command)
    monkeypatch.setattr(regression, "regress", regress)
    found = module.speed(Settings(jobs=2, show=lambda line: None))
    assert words == [
        ("demo", "--files", "digits"),
        ("build", "digits/digits-cnn-int8.onnx", "--chip", "sim-16x16-int8", "--no-area", "-o",
         "out"),
        *(("simulate", "out", "--engine", "rtl", "--inputs", "digits/x.npy", "--limit", limit,
           "--json", "run.json") for limit in ("1", "200"))]
    assert seeds == [(None, 60, 2)]
    assert [item.good for item in found] == [True, True, True] and found[1].value == "500,000"

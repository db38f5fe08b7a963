"""Which files look at the numbers of a layer's weights, from the network's file to the program:
those that "A weight's way" in docs/architecture.md lists."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.gen.importer.values import QuantizedConstant
from systolith.sim.model.weights import Weights

ROOT = Path(__file__).parent.parent
#: What the hooks below do not see: numbers that are not yet, or no longer, images.
#: And what no chip here has: weights in blocks.
UNSEEN = {"gen/importer/file.py", "hw/spec/words.py", "gen/compile/blocks.py"}
NETWORKS = [("digits-cnn-int8", "ulx3s-8x8", "qdq", "linear"),
            ("digits-cnn", "ulx3s-8x8-e3m2", "qonnx", "linear"),
            ("digits-mlp-bnn", "ulx3s-bnn", "qonnx", "dense")]


def listed():
    """The files of the list."""
    section = (ROOT / "docs" / "architecture.md").read_text().split("\n## A weight's way\n")[1]
    return set(re.findall(r"`((?:gen|sim|hw)/[\w/]+\.py)`", section.split("\n## ")[0]))


def caller():
    """The file of the project, as a path from its root, whose function reads or makes numbers;
    None for a record's shape, and for a copy of it with other fields."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith("<"):     # the record's own __init__
        frame = frame.f_back
    if (Path(frame.f_code.co_filename).name == "dataclasses.py"
            or frame.f_code.co_name in ("shape", "__len__")):
        return None
    return Path(frame.f_code.co_filename).resolve().relative_to(ROOT).as_posix()


@pytest.fixture
def seen(monkeypatch):
    """Files that read or made images or codes of weights, filled while a test runs."""
    found = set()

    def watched(name):
        def read(item):
            found.add(caller())
            return vars(item)[name]

        def write(item, value):
            found.add(caller())
            vars(item)[name] = value
        return property(read, write)

    def codes(item, read=Weights.codes.fget):
        found.add(caller())
        return read(item)
    for record in (Weights, QuantizedConstant):
        monkeypatch.setattr(record, "images", watched("images"), raising=False)
    monkeypatch.setattr(Weights, "codes", property(codes))
    return found


@pytest.mark.parametrize("model, chip, dialect, operator", NETWORKS)
def test_only_the_files_of_the_list_look_at_weights(seen, model, chip, dialect, operator):
    graph = load(ROOT / "examples" / "digits" / f"{model}.onnx")
    arch = load_chip(chip)
    compile_graph(graph, arch)
    codes = np.zeros((1, *graph.inputs[0].shape), np.int64)
    graph.run(codes)
    graph.run(codes, replace(arch, accumulator=40))     # sums that may saturate
    others = {f"gen/importer/dialects/{name}.py" for name in {"qdq", "qonnx"} - {dialect}}
    if operator == "dense":                             # the others have both
        others.add("gen/importer/operators/linear.py")
    wanted = {name for name in listed() - UNSEEN - others if not name.startswith("hw/")}
    assert seen - {None} == wanted


def test_the_files_of_the_list_are_there():
    assert UNSEEN < listed()
    for name in listed():
        assert (ROOT / name).is_file(), name

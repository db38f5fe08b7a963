"""Hostile inputs: each is refused as it should be, and what is not is noticed."""

import numpy as np
import onnxruntime
import pytest
from systolith.gen.study.verify import inputs
from systolith.gen.study.verify.inputs import CASES, MEMORY, Outcome, tried


@pytest.mark.parametrize("name", [
    "local functions nested 60 deep, each called twice", "a chain of 100,000 nodes",
    "TOML, arrays nested 20,000 deep", "regress --seed -1", "a pipe that nobody writes to",
    "Verilog to /dev/full"])
def test_hostile_inputs(name):
    assert not tried(name).wrong


def test_what_is_wrong_is_noticed(monkeypatch):
    name = "/dev/zero as a network"
    for outcome, text in (
            (Outcome(1, "systolith: no\n", 1.0, 1 << 20), ""),
            (Outcome(4, "systolith: no\n", 1.0, 1 << 20), "exit code 4"),
            (Outcome(1, "systolith: no\nsystolith: why\n", 1.0, 1 << 20), "2 lines"),
            (Outcome(1, "Traceback (most ...)\nsystolith: no\n", 1.0, 1 << 20), "Traceback"),
            (Outcome(1, "systolith: no\n", 61.0, 1 << 20), "61 s"),
            (Outcome(1, "systolith: no\n", 1.0, MEMORY + (1 << 20)), "2049 MiB")):
        monkeypatch.setattr(inputs, "systolith", lambda *_, found=outcome: found)
        wrong = tried(name).wrong
        assert text in wrong and bool(wrong) == bool(text)
    assert len(CASES) >= 18


@pytest.mark.parametrize("codes, text", [
    ([130, 130, 0], ""), ([-2, 130, 130, 130, 130], ""), ([0], "no build ended with exit code 130"),
    ([-2, 0], "no build ended with exit code 130"), ([130, 1], "exit code 1")])
def test_a_build_that_no_signal_has_ended_says_nothing(codes, text, monkeypatch):
    left = iter(codes)
    monkeypatch.setattr(inputs, "systolith", lambda folder, *_, stop: Outcome(
        next(left), "", 1.0, 1 << 20))
    wrong = tried("Ctrl-C during a build").wrong
    assert text in wrong and bool(wrong) == bool(text)
    assert next(left, None) is None


def test_ctrl_c_ends_what_a_shell_runs_in_the_background(monkeypatch, tmp_path):
    before = inputs.signal.signal(inputs.signal.SIGINT, inputs.signal.SIG_IGN)
    try:
        found = inputs.systolith(tmp_path, "regress", "--seeds", "99",
                                 stop=(2.0, inputs.signal.SIGINT))
    finally:
        inputs.signal.signal(inputs.signal.SIGINT, before)
    assert found.code in (130, -2)


@pytest.mark.parametrize("model", [inputs.nested(4), inputs.chain(9)], ids=["nested", "chain"])
def test_networks_are_hostile_by_their_size_alone(model):
    """Small ones are run by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found, = session.run(None, {"x": np.float32([[-1, 2, 0.5, -3]])})
    assert found.tolist() == [[0, 2, 0.5, 0]]

"""Damaged inputs are taken or refused with one message, in little time and memory."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.chip.toml import load_chip
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
import fuzz
import fuzz_onnx
from fuzz_running import ACCEPTED, confined, wrong_message

CHIP = load_chip("sim-16x16-int8")


@pytest.mark.parametrize("number", range(len(fuzz_onnx.seeds())))
def test_the_networks_compile_as_they_are(number, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(fuzz_onnx.seeds()[number])
    assert fuzz_onnx.attempt(path, CHIP) == ACCEPTED


@pytest.mark.parametrize("part", range(2))
def test_damaged_files(part, tmp_path):
    path, sources = tmp_path / "case.onnx", fuzz_onnx.seeds()
    compiled = 0
    for number in range(100 * part, 100 * part + 100):
        path.write_bytes(fuzz_onnx.case(number, sources))
        text, wrong = confined(lambda: fuzz_onnx.attempt(path, CHIP), 20)
        wrong = wrong or wrong_message(text)
        assert wrong is None, f"case {number}: {wrong}"
        compiled += text == ACCEPTED
    assert 0 < compiled < 90


@pytest.mark.parametrize("name, count", [("toml", 60), ("npy", 60), ("program", 40),
                                         ("command", 60)])
def test_other_damaged_inputs(name, count, tmp_path):
    kind, accepted = fuzz.KINDS[name](tmp_path, CHIP), 0
    for number in range(count):
        text, wrong = fuzz.trial(kind, number, tmp_path / f"case{kind.suffix}")
        assert wrong is None, f"{name} case {number}: {wrong}"
        accepted += text == ACCEPTED
    assert 0 < accepted < count / 2


def test_a_fault_of_a_command_is_found(tmp_path, monkeypatch):
    commands = fuzz.KINDS["command"](tmp_path, CHIP)
    case = tmp_path / "case.txt"
    case.write_text("report\nbuild")
    assert confined(lambda: commands.attempt(case), 20) == (ACCEPTED, None)
    monkeypatch.setattr("systolith.gen.report.report.read_report", lambda folder: 1 // 0)
    assert "exit code 4" in confined(lambda: commands.attempt(case), 20)[1]


def test_the_limits_hold():
    """What takes too long, too much memory, fails or dies is found."""
    def endless():
        while True:
            pass
    assert confined(endless, 1)[1] == "ended by SIGXCPU"
    assert confined(lambda: str(np.ones(1 << 30)), 20)[1].startswith("MemoryError")
    assert confined(lambda: str(bytearray(400 << 20))[:1], 20, 300 << 20)[1] is not None
    assert confined(lambda: str(1 // 0), 20)[1].startswith("ZeroDivisionError")
    assert confined(lambda: os.kill(os.getpid(), signal.SIGKILL), 20)[1] == "ended by SIGKILL"
    assert confined(lambda: "fine", 20) == ("fine", None)


def refused(model, message, path=None):
    start = time.perf_counter()
    with pytest.raises(UserError, match=message) as error:
        load(model if path is None else path)
    assert wrong_message(str(error.value)) is None and time.perf_counter() - start < 5


def seed():
    return onnx.ModelProto.FromString(fuzz_onnx.integer_seed())


@pytest.mark.parametrize("location, message", [
    ("../secret.bin", "it must lie in the model's own folder"),
    ("/etc/passwd", "it must lie in the model's own folder"),
    ("link.bin", "it must lie in the model's own folder"),
    ("", "it must lie in the model's own folder"), ("missing.bin", "there is no such file"),
    ("folder", "there is no such file"), ("short.bin", "it has 3 bytes, too few"),
    ("a\0b", "null byte|cannot be read")])
def test_external_data_stays_in_its_folder(location, message, tmp_path):
    inside = tmp_path / "models"
    (inside / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    (inside / "short.bin").write_bytes(bytes(3))
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = seed()
    tensor = next(item for item in model.graph.initializer if item.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    item = tensor.external_data.add()
    item.key, item.value = "location", location
    (inside / "net.onnx").write_bytes(model.SerializeToString())
    refused(model, f"tensor 'w' lies in the file .*{message}", inside / "net.onnx")


@pytest.mark.parametrize("key, value, message", [
    ("offset", "-1", "its offset must be a number of bytes"),
    ("length", "many", "its length must be a number of bytes"),
    ("length", "10", "needs 72 bytes, not 10"), ("offset", "999999999999", "too few")])
def test_where_external_data_lies(key, value, message, tmp_path):
    model = seed()
    tensor = next(item for item in model.graph.initializer if item.name == "w")
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for name, text in (("location", "w.bin"), (key, value)):
        item = tensor.external_data.add()
        item.key, item.value = name, text
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    refused(model, message, tmp_path / "net.onnx")
    del tensor.external_data[1:]
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    load(tmp_path / "net.onnx")


def test_sizes_that_no_memory_holds():
    for sizes in ([1 << 40], [1 << 31, 1 << 31], [0, 1 << 62]):
        model = seed()
        model.graph.initializer[0].dims[:] = sizes
        refused(model, "has more elements than are supported")
    model = seed()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40
    refused(model, "tensor 'x' of shape .* has more elements than are supported")
    model = seed()
    model.graph.initializer[0].dims[:] = [-4]
    refused(model, "sizes must not be negative")


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile", "Range"])
def test_constants_that_no_memory_holds(operator):
    model = seed()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "sizes"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "from"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 40), "to"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.float32), "one1"))
    inputs = {"ConstantOfShape": ["sizes"], "Expand": ["one1", "sizes"],
              "Tile": ["one1", "sizes"], "Range": ["from", "to", "step"]}[operator]
    node = helper.make_node(operator, inputs, ["huge"], "huge")
    model.graph.node.insert(0, node)
    refused(model, "'huge' of shape .* has more elements than are supported")


def test_constants_that_no_time_suffices_for():
    model = seed()
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])], "body",
        [helper.make_tensor_value_info("n", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, [])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 60), "count"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
    model.graph.node.insert(0, helper.make_node("Loop", ["count", "go"], [], "forever", body=body))
    refused(model, "'forever' .Loop.*: has no output")
    model.graph.node[0].output.append("never")
    refused(model, "valid ONNX|'forever' .Loop.: control flow is not supported")


def test_files_that_are_something_else(tmp_path):
    for name, content in (("a.txt", b"hello\n"), ("b.tflite", b"\x1c\0\0\0TFL3rest"), ("c", b""),
                          ("d.npy", b"\x93NUMPY\x01\0"), ("e.json", b'{"a": 1}'),
                          ("f.zip", b"PK\x03\x04" + bytes(100)), ("g", bytes(range(256)))):
        path = tmp_path / name
        path.write_bytes(content)
        refused(None, "is no ONNX file|TensorFlow Lite", path)
    os.mkfifo(tmp_path / "fifo")
    refused(None, "is no regular file", tmp_path / "fifo")
    refused(None, "is no regular file", "/dev/zero")
    refused(None, "Is a directory", tmp_path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 31)
    refused(None, "has 2,147,483,648 bytes, and may have", tmp_path / "large")

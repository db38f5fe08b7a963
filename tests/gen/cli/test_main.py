"""The command line: results, exit codes, one clear message for each mistake, nothing half-written.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli.main import main
from systolith.gen.flow import build as build_module
from systolith.gen.flow.build import open_build
from systolith.gen.kit.files import MANIFEST, write_manifest
from systolith.gen.measure.area import Area
from systolith.gen.report.report import read_report
from systolith.gen.study import demo as demo_module
from systolith.hw.spec import isa
from systolith.hw.spec.instruction import assemble, sealed

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"
MODEL = DIGITS / "digits-cnn.onnx"
CHIP = ["--chip", "ulx3s-8x8-e3m2", "--set", "array.rows=4", "array.columns=4", "post.lanes=1",
        "bus.data_bits=32"]


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of a command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def refused(capsys, *arguments):
    """The one message of a command that must fail with exit code 1."""
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("systolith: ")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build without area; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("built") / "out"
    assert main(["build", str(MODEL), *CHIP, "-o", str(folder), "--no-area"]) == 0
    return folder


@pytest.fixture
def copy(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "copy"))


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    path = tmp_path_factory.mktemp("batch") / "x.npy"
    images, _ = demo_module.read_digits(DIGITS / "digits-test.npz", (1, 28, 28))
    np.save(path, images[:8])
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What works.

def test_init_writes_a_chip_that_loads(capsys, tmp_path):
    path = tmp_path / "chip.toml"
    code, out, _ = run(capsys, "init", "--preset", "ulx3s-8x8", "--set", "array.rows=7",
                       "post.lanes=1", "--set", "name=seven", "-o", path)
    assert (code, out) == (0, f"wrote {path}\n")
    assert (load_chip(path).rows, load_chip(path).name) == (7, "seven")
    code, out, _ = run(capsys, "init")
    assert code == 0 and "[array]" in out
    assert "exists already" in refused(capsys, "init", "-o", path)
    assert run(capsys, "init", "-o", path, "--force")[0] == 0


def test_verilog(capsys, tmp_path):
    path = tmp_path / "core.v"
    code, out, _ = run(capsys, "verilog", *CHIP, "-o", path)
    assert code == 0 and f"wrote {path}" in out
    assert path.read_text().count("\nmodule systolith_core(") == 1


def test_build_lists_what_it_wrote(built):
    assert {path.name for path in built.iterdir()} == {
        "chip.toml", "core.v", "manifest.json", "model.onnx", "program.bin",
        "report.html", "report.json", "report.md", "ulx3s.v", "ulx3s.lpf"}
    build = open_build(built)
    assert (build.arch.rows, build.arch.board) == (4, "ulx3s-85f")
    assert "module ulx3s(" in (built / "ulx3s.v").read_text()


def test_build_measures_the_area_of_the_board(capsys, tmp_path, monkeypatch):
    asked = []

    def fake(verilog, top, target, **options):
        asked.append((top, target, options))
        return Area(target, {"board": Counter(LUT4=12), "control": Counter(TRELLIS_FF=3)})
    monkeypatch.setattr(build_module, "measure", fake)
    code, out, _ = run(capsys, "build", MODEL, *CHIP, "-o", tmp_path / "out")
    assert code == 0 and asked == [("ulx3s", "ecp5", {"dsp": True, "pe_dsp": False})]
    assert "the part has" in out and "83,640" in out
    assert read_report(tmp_path / "out").area.total.lut == 12


def test_golden_and_isa_agree_and_write_numpy(capsys, built, batch, tmp_path):
    outputs = {}
    for engine in ("golden", "isa"):
        path, figures = tmp_path / f"{engine}.npy", tmp_path / f"{engine}.json"
        code, out, _ = run(capsys, "simulate", built, "--engine", engine, "--inputs", batch,
                           "--outputs", path, "--limit", 2, "--json", figures)
        assert code == 0 and f"wrote {path}" in out
        outputs[engine] = np.load(path)
        figures = json.loads(figures.read_text())
        assert figures["images"] == 2 and figures["cycles_model"] > 1000
        assert figures["mismatches"] == (None if engine == "golden" else 0)
    assert outputs["golden"].shape == (2, 10) and outputs["golden"].dtype == np.float32
    assert np.array_equal(outputs["golden"], outputs["isa"])


def test_rtl_equals_golden_and_the_cycle_model(capsys, built, batch, tmp_path):
    figures = tmp_path / "figures.json"
    code, out, _ = run(capsys, "simulate", built, "--engine", "rtl", "--inputs", batch,
                       "--outputs", tmp_path / "y.npy", "--limit", 3, "--json", figures)
    assert code == 0, out
    figures = json.loads(figures.read_text())
    assert figures["images"] == 3 and figures["mismatches"] == 0
    assert figures["cycles"] == figures["cycles_model"] > figures["compute_cycles"] > 0
    assert figures["utilization"] == pytest.approx(figures["macs"] / figures["cycles"] / 16)
    assert figures["clocks_per_second"] > 0
    assert figures["units"] == figures["units_model"] and figures["units"]["array"]["running"] > 0
    assert "the same as the cycle model" in out
    assert figures["compared_elements"] > 3 * 3000
    assert main(["simulate", str(built), "--inputs", str(batch), "--limit", "3", "--outputs",
                 str(tmp_path / "golden.npy")]) == 0
    assert np.array_equal(np.load(tmp_path / "y.npy"), np.load(tmp_path / "golden.npy"))


def test_a_netlist_runs_in_place_of_the_core(capsys, built, batch, tmp_path):
    """Here the core as it was written, which is compiled already; others: test_gate_netlist.py."""
    path = tmp_path / "netlist.v"
    path.write_text(open_build(built).verilog)
    command = ("simulate", built, "--inputs", batch, "--limit", 3, "--engine", "rtl", "--netlist")
    code, out, _ = run(capsys, *command, path)
    assert code == 0 and "0 bits differ" in out
    path.write_text("module systolith_core(); endmodule")
    assert "the simulation did not finish" in refused(capsys, *command, path)


@pytest.mark.parametrize("arguments, message", [
    (["--netlist", "ecp5"], "--netlist goes with --engine rtl only"),
    (["--engine", "rtl", "--netlist", "asic"], "is neither a file nor one of gates, ecp5"),
    (["--engine", "rtl", "--netlist", "ecp5", "--liberty", "x"], "goes with --netlist gates only"),
    (["--engine", "rtl", "--save-netlist", "x"], "--save-netlist goes with --netlist only")])
def test_netlists_that_are_refused(capsys, built, batch, arguments, message):
    assert message in refused(capsys, "simulate", built, "--inputs", batch, *arguments)


@pytest.mark.parametrize("engine", ["isa", "rtl"])
def test_a_wrong_weight_is_a_difference_in_its_layer(capsys, copy, batch, engine):
    program = open_build(copy).program
    sections = {item.section: item.offset for item in program.host.memory}
    # the first weights that conv2 loads
    first = next(i for i in program.instructions if i.opcode == isa.Opcode.LOAD and i.layer == 1
                 and i.memory == isa.Memory.WEIGHT)
    assert sections["weights"] <= first.address < sections["parameters"]
    image = bytearray(program.image)
    for place in range(first.address, first.address + 16):
        image[place] ^= 0x55
    program.image = bytes(image)
    program.save(copy / "program.bin")
    write_manifest(copy)
    code, out, _ = run(capsys, "simulate", copy, "--engine", engine, "--inputs", batch,
                       "--limit", 1)
    assert code == 3
    assert "first difference: layer 1 (conv2), tensor " in out


def test_report_and_its_json(capsys, built, tmp_path):
    code, out, _ = run(capsys, "report", built, "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert code == 0 and "# digits-cnn on ulx3s-8x8-e3m2" in out
    assert report == json.loads((built / "report.json").read_text())
    assert report == read_report(built).to_json()


def test_trace(capsys, built, tmp_path):
    file, picture = tmp_path / "trace.json", tmp_path / "trace.png"
    code, out, _ = run(capsys, "trace", built, "-o", file, "--picture", picture, "--cycles", ":900")
    assert code == 0 and f"wrote {file}" in out and f"wrote {picture}" in out
    events = json.loads(file.read_text())["traceEvents"]
    assert {"conv1", "conv1: weights", "wait: tokens"} <= {event["name"] for event in events}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "give one of them" in refused(capsys, "trace", built)
    assert "BEGIN:END" in refused(capsys, "trace", built, "-o", tmp_path / "x", "--cycles", "9:1")
    assert ".png" in refused(capsys, "trace", built, "-o", tmp_path / "x", "--picture",
                             tmp_path / "x.gif")
    assert sorted(tmp_path.iterdir()) == [file, picture]


def test_disasm_reads_back(capsys, built):
    code, out, _ = run(capsys, "disasm", built)
    program = open_build(built).program
    lines = [line.partition("#")[0].split(maxsplit=1)[1] for line in out.splitlines()]
    assert code == 0
    assert [assemble(line).encode() for line in lines] == [
        item.encode() for item in program.instructions]


def test_area(capsys, tmp_path, monkeypatch):
    asked = []

    def fake(arch, target, **options):
        asked.append((arch.name, target, options))
        return Area(target, {"dma": Counter(LUT4=5)}, in_flipflops=["x.m: 8 x 8"])
    monkeypatch.setattr("systolith.gen.measure.chip_area.chip_area", fake)
    code, out, _ = run(capsys, "area", "--chip", "tiny-2x4-int4", "--target", "ice40", "--no-dsp",
                       "--json", tmp_path / "a.json")
    assert code == 0 and asked == [("tiny-2x4-int4", "ice40", {"dsp": False, "log": None})]
    assert "memories that became flip-flops: x.m: 8 x 8" in out
    area = json.loads((tmp_path / "a.json").read_text())
    assert area["lut"] == 5 and {"lut", "ff", "dsp", "bram", "total", "parts"} <= set(area)
    run(capsys, "area", "--chip", "ulx3s-8x8")
    assert asked[-1][1] == "ecp5"


def test_demo_of_a_folder_without_digits(capsys, tmp_path):
    assert "without --examples" in refused(capsys, "demo", "--examples", tmp_path)


# Help.

COMMANDS = ("init", "verilog", "check", "build", "simulate", "report", "trace", "area", "timing",
            "sweep", "disasm", "regress", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_examples(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and "examples:" in out and f"systolith {command}" in out


def test_top_help_names_every_command(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(command in out for command in COMMANDS)


# What is refused.

@pytest.mark.parametrize("arguments", [
    [], ["fly"], ["build"], ["check"], ["simulate", "x"], ["sweep", "s.toml"],
    ["simulate", "x", "--inputs", "y", "--limit", "0"], ["regress", "--jobs", "none"],
    ["regress", "--seed", "-1"],
    ["simulate", "x", "--inputs", "y", "--engine", "fpga"]])
def test_a_wrong_command_line_is_exit_code_2(capsys, arguments):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and err.startswith("usage: ")


@pytest.mark.parametrize("arguments, words", [
    (["verilog", "--chip", "nix"], "Presets: icebreaker-bnn"),
    (["verilog", "--chip", "nix.toml"], "nix.toml: No such file"),
    (["verilog", "--chip", "ulx3s-8x8", "--set", "array.rows=0"], "array.rows must be a whole"),
    (["build", "nix.onnx", *CHIP], "nix.onnx"),
    (["build", MODEL, "--chip", "ulx3s-8x8"], "e3m2"),
])
def test_bad_input_leaves_nothing_behind(capsys, tmp_path, arguments, words):
    assert words in refused(capsys, *arguments, "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_bad_networks_leave_an_earlier_build_alone(capsys, copy, tmp_path, damage):
    before, model = contents(copy), tmp_path / "bad.onnx"
    content = MODEL.read_bytes()
    model.write_bytes({"text": b"not a network", "truncated": content[:len(content) // 2],
                       "empty": b""}[damage])
    assert "bad.onnx" in refused(capsys, "build", model, *CHIP, "-o", copy)
    assert contents(copy) == before
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "bad.onnx"}


def test_unsupported_operators_and_bad_weights_are_named(capsys, tmp_path):
    model = onnx.load(MODEL)
    model.graph.node[0].op_type = "Softplus"
    model.graph.node[0].domain = ""
    onnx.save(model, tmp_path / "softplus.onnx")
    assert "Softplus" in refused(capsys, "build", tmp_path / "softplus.onnx", *CHIP, "-o",
                                 tmp_path / "out")
    model = onnx.load(MODEL)
    largest = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    values = onnx.numpy_helper.to_array(largest).copy()
    values.flat[3] = np.nan
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    onnx.save(model, tmp_path / "nan.onnx")
    message = refused(capsys, "build", tmp_path / "nan.onnx", *CHIP, "-o", tmp_path / "out")
    assert largest.name in message and "nan" in message.lower()
    assert not (tmp_path / "out").exists()


def test_a_failure_late_in_a_build_leaves_the_earlier_one_alone(capsys, copy, monkeypatch):
    before = contents(copy)

    def fail(*arguments, **options):
        raise build_module.UserError("Yosys failed: a test")
    monkeypatch.setattr(build_module, "measure", fail)
    assert "Yosys failed" in refused(capsys, "build", MODEL, *CHIP, "-o", copy)
    assert contents(copy) == before and len(list(copy.parent.iterdir())) == 1


def test_a_build_replaces_an_earlier_one_and_nothing_else(capsys, copy, tmp_path):
    (copy / "notes.txt").write_text("mine")
    (copy / "quantization.csv").write_text("of an earlier build")
    write_manifest(copy)
    names = json.loads((copy / MANIFEST).read_text())
    del names["files"]["notes.txt"]
    (copy / MANIFEST).write_text(json.dumps(names))
    (tmp_path / "link").symlink_to(copy)
    assert run(capsys, "build", MODEL, *CHIP, "-o", tmp_path / "link", "--no-area")[0] == 0
    assert (copy / "notes.txt").read_text() == "mine" and (tmp_path / "link").is_symlink()
    assert not (copy / "quantization.csv").exists() and open_build(copy)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    message = refused(capsys, "build", MODEL, *CHIP, "-o", tmp_path / "photos", "--no-area")
    assert "holds other files" in message
    assert (tmp_path / "photos" / "cat.jpg").exists()
    assert "is a file" in refused(capsys, "build", MODEL, *CHIP, "-o",
                                  tmp_path / "photos" / "cat.jpg")


@pytest.mark.parametrize("arguments", [["report"], ["disasm"], ["trace", "-o", "x.json"]])
def test_folders_that_are_no_builds(capsys, tmp_path, arguments):
    assert "systolith build" in refused(capsys, *arguments, tmp_path)
    assert "systolith build" in refused(capsys, *arguments, tmp_path / "absent")


def test_a_program_that_the_chip_cannot_run_is_refused(capsys, copy, batch):
    """Every checksum is right; the program waits for ever, or loads beyond a memory."""
    program = open_build(copy).program
    number, load = next((n, i) for n, i in enumerate(program.instructions)
                        if i.opcode == isa.Opcode.LOAD)
    for wrong, told in ((replace(load, wait=15), "waits in"),
                        (replace(load, fields=load.fields | {"base": 1 << 18}), "the chip has")):
        code = list(program.instructions)
        code[number] = wrong
        text = b"".join(i.to_bytes(program.arch.instruction_bytes) for i in sealed(code))
        image, start = bytearray(program.image), program.code_offset
        image[start:start + len(text)] = text
        replace(program, image=bytes(image)).save(copy / "program.bin")
        (copy / MANIFEST).unlink()
        write_manifest(copy)
        for command in (["disasm", copy], ["simulate", copy, "--inputs", batch]):
            message = refused(capsys, *command)
            assert "is no program that the chip can run" in message and told in message


def test_names_do_not_reach_the_terminal_as_commands(capsys):
    assert "\\x1b[31m/report.json: No such file" in refused(capsys, "report", "\x1b[31m")


def test_images_from_a_pipe_are_refused(capsys, built, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in refused(capsys, "simulate", built, "--inputs",
                                           tmp_path / "pipe")


def test_damaged_builds(capsys, copy, batch):
    program = (copy / "program.bin").read_bytes()
    (copy / "program.bin").write_bytes(program[:-100])
    assert "truncated or damaged" in refused(capsys, "simulate", copy, "--inputs", batch)
    (copy / "program.bin").write_bytes(b"hello")
    assert "no Systolith program" in refused(capsys, "simulate", copy, "--inputs", batch)
    (copy / "program.bin").write_bytes(program)
    text = (copy / "chip.toml").read_text()
    (copy / "chip.toml").write_text(text.replace("queue_depth = 4", "queue_depth = 3"))
    assert "not for" in refused(capsys, "simulate", copy, "--inputs", batch)
    (copy / "chip.toml").write_text(text)
    (copy / "core.v").unlink()
    assert "core.v is missing" in refused(capsys, "disasm", copy)
    data = json.loads((copy / "report.json").read_text())
    (copy / "report.json").write_text("{")
    assert "is no JSON" in refused(capsys, "report", copy)
    del data["layers"][1]["cycles"]
    (copy / "report.json").write_text(json.dumps(data))
    assert "report.json: layers[1].cycles is missing; `systolith build` writes it anew" in refused(
        capsys, "report", copy)


@pytest.mark.parametrize("make, words", [
    (lambda: np.zeros((2, 1, 28, 27), np.float32), "must have the shape (N, 1, 28, 28)"),
    (lambda: np.zeros((0, 1, 28, 28), np.float32), "no image"),
    (lambda: np.full((1, 1, 28, 28), np.nan, np.float32), "must be finite"),
    (lambda: np.full((1, 1, 28, 28), np.inf, np.float32), "must be finite"),
    (lambda: np.full((1, 1, 28, 28), "x"), "must be numbers"),
    (lambda: np.float32(3), "must have the shape"),
    (lambda: np.array([{}], object), "no numpy file of numbers"),
    (lambda: b"hello", "no numpy file of numbers"),
    (lambda: None, "No such file"),
])
def test_bad_inputs(capsys, built, tmp_path, make, words):
    path, output, content = tmp_path / "x.npy", tmp_path / "y.npy", make()
    output.write_bytes(b"an earlier result")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    assert words in refused(capsys, "simulate", built, "--inputs", path, "--outputs", output)
    assert output.read_bytes() == b"an earlier result"


def test_waves_are_for_rtl_only(capsys, built, batch, tmp_path):
    assert "rtl only" in refused(capsys, "simulate", built, "--inputs", batch, "--waves",
                                 tmp_path / "w.fst")


def test_outputs_that_cannot_be_written(capsys, built, batch, tmp_path):
    assert "cannot be written" in refused(
        capsys, "simulate", built, "--inputs", batch, "--outputs", tmp_path / "no" / "y.npy")
    assert "is a folder" in refused(
        capsys, "simulate", built, "--inputs", batch, "--outputs", tmp_path)


def test_a_failed_regression_is_exit_code_3(capsys, monkeypatch):
    from systolith.gen.study import regress

    def fake(chips, seeds, jobs, junit, *, seed, waves, coverage):
        assert (chips, seeds, jobs) == (["a", "b"], 7, 2)
        return [regress.Case("a", 0), regress.Case("b", 1, failure="differs")]
    monkeypatch.setattr(regress, "regress", fake)
    arguments = ("regress", "--chips", "a,b", "--seeds", 7, "--jobs", 2)
    assert run(capsys, *arguments)[0] == 3
    monkeypatch.setattr(regress, "regress", lambda *a, **b: [regress.Case("a", 0)])
    assert run(capsys, *arguments)[0] == 0


def test_a_run_that_does_not_finish_is_told(capsys, built, batch, monkeypatch):
    from systolith.gen.flow import simulate
    from systolith.sim.rtl.device import DeviceError

    def fail(*arguments):
        raise DeviceError("stopped on error 4, the memory bus answered with an error")
    monkeypatch.setattr(simulate, "_run_rtl", fail)
    assert "did not finish: stopped on error 4" in refused(
        capsys, "simulate", built, "--engine", "rtl", "--inputs", batch)


@pytest.mark.parametrize("computing, together", [(None, None), (8, (30, 31))])
def test_a_run_of_a_chip_without_counters_is_shown(capsys, computing, together):
    from types import SimpleNamespace

    from systolith.gen.cli.commands.built import Simulate
    Simulate()._show(SimpleNamespace(
        images=1, engine="rtl", comparison=None, batch=1, cycles=12, cycles_model=12,
        compute_cycles=computing, utilization=0.5, clocks_per_second=9, activity=None,
        together=together, arch=SimpleNamespace(cores=2)))
    out = capsys.readouterr().out
    assert "cycles per image: 12 (cycle model: 12)" in out
    assert ("8 of them computing" in out) == (computing is not None)
    assert ("each of 2 cores has run once, from the first start on: 30 (cycle model: 31)"
            in out) == (together is not None)
    assert "no counters" in out


def test_the_installed_command_and_a_closed_pipe():
    command = f"{sys.executable} -m systolith.gen.cli init | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("# A chip for Systolith") and done.stderr == ""


def test_a_fault_of_the_program_itself(capsys, monkeypatch, tmp_path):
    def broken(*arguments, **more):
        raise ZeroDivisionError("nobody\nforesaw it")
    monkeypatch.setattr("systolith.gen.flow.compile.compile_graph", broken)
    code, out, err = run(capsys, "build", MODEL, *CHIP, "-o", tmp_path / "out")
    assert code == 4 and "Traceback" not in err + out
    line, = [line for line in err.splitlines() if line.startswith("systolith: ")]
    assert "fault of Systolith, not of your input (ZeroDivisionError: nobody foresaw it)" in line
    assert str(MODEL) in line
    saved, = tmp_path.glob("systolith-fault-*.txt")
    assert str(saved) in line and not (tmp_path / "out").exists()
    text = saved.read_text()
    assert "Traceback" in text and "in broken" in text and f"build {MODEL}" in text
    assert "4 a fault" in run(capsys, "--help")[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_in_a_finalizer_ends_a_command(number, capsys, monkeypatch, tmp_path):
    class Last:
        def __del__(self):
            signal.raise_signal(number)
            time.sleep(0)                   # where what the signal raises is dropped

    def waits(*arguments, **more):
        Last()
        time.sleep(30)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("systolith.gen.flow.compile.compile_graph", waits)
    try:
        code, _, err = run(capsys, "build", MODEL, *CHIP, "-o", tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 128 + number and not (tmp_path / "out").exists()
    assert "Traceback" not in err and err.endswith("interrupted\n")


# The machine's limits.

def test_a_full_disk_is_one_line(capsys):
    message = refused(capsys, "verilog", *CHIP, "-o", "/dev/full")
    assert message == ("systolith: /dev/full: cannot be written, no space left on device: free "
                       "some space there and in the temporary folder")


def test_a_full_disk_is_named_by_the_file_that_was_to_be_written(capsys, monkeypatch, tmp_path):
    def full(source, target, **more):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))
    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(shutil, "copy2", full)
    monkeypatch.setattr(shutil, "copy", full)
    message = refused(capsys, "demo", "--files", tmp_path / "new")
    assert message.startswith(f"systolith: {tmp_path}") and "examples" not in message


def test_a_full_disk_as_numpy_says_it(capsys, monkeypatch, tmp_path):
    def full(*arguments, **more):
        raise OSError("784000 requested and 12 written")
    monkeypatch.setattr("systolith.gen.flow.compile.compile_graph", full)
    assert f"{tmp_path / 'out'}: cannot be written, no space left" in refused(
        capsys, "build", MODEL, *CHIP, "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_array_larger_than_any_memory_is_one_line(capsys, tmp_path, built):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {
            "descr": "<f4", "fortran_order": False, "shape": (10 ** 13, 1, 28, 28)})
    assert "not enough memory" in refused(capsys, "simulate", built, "--inputs", path)


def test_chips_that_are_no_chips(capsys, tmp_path):
    deep = tmp_path / "deep.toml"
    deep.write_text(f"a = {'[' * 20000}{']' * 20000}\n")
    assert "nested too deeply" in refused(capsys, "verilog", "--chip", deep, "-o", "core.v")
    os.mkfifo(tmp_path / "fifo.toml")
    for path in ("/dev/zero", tmp_path / "fifo.toml"):
        assert "is no regular file" in refused(capsys, "verilog", "--chip", path, "-o", "core.v")


@pytest.mark.parametrize("name", ["core.v", "model.onnx", "chip.toml", "ulx3s.v"])
@pytest.mark.parametrize("command", ["report", "disasm"])
def test_files_that_do_not_belong_together(capsys, copy, name, command):
    assert run(capsys, command, copy)[0] == 0
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content + b"\n")
    assert f"{copy / name}: is not the file that `systolith build` wrote" in refused(
        capsys, command, copy)
    (copy / name).write_bytes(content)
    (copy / "report.md").unlink()       # nothing reads it
    assert run(capsys, command, copy)[0] == 0


@pytest.fixture
def placed():
    """What place and route would give, and the seeds that it was asked for."""
    seen = []

    def place(*arguments, seeds, **options):
        seen.append(list(seeds))
        timing = SimpleNamespace(asked=25.0, best=2, mhz={1: 26.0, 2: 30.0})
        return SimpleNamespace(timing=timing, report=Path("timing.json"), file=Path("top.bit"),
                               load=["openFPGALoader", "top.bit"])
    return place, seen


def test_bitstream_says_what_it_wrote(capsys, tmp_path, monkeypatch, placed):
    place, seen = placed
    monkeypatch.setattr("systolith.gen.flow.bitstream.bitstream", place)
    monkeypatch.setattr("systolith.gen.measure.place_and_route.timing_text", lambda timing: "t")
    assert main(["bitstream", "--chip", "ulx3s-8x8", "--seeds", "2", "-o", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert seen == [[1, 2]] and "closes 30.0 MHz" in text
    assert "wrote timing.json" in text and "wrote top.bit" in text


def test_litex_places_as_many_seeds_as_were_asked_for(capsys, tmp_path, monkeypatch, placed):
    place, seen = placed
    soc = {"clock_mhz": 50.0, "memory": {"bytes": 32 << 20}, "sdram": {"type": "SDR"},
           "server": ["litex_server"]}
    for name, found in (("litex_build.build_soc", place),
                        ("litex_soc.write_soc", lambda *arguments, **options: soc),
                        ("litex_build.needs_open_flow", lambda board: None)):
        monkeypatch.setattr(f"systolith.gen.flow.{name}", found)
    monkeypatch.setattr("systolith.gen.measure.place_and_route.timing_text", lambda timing: "t")
    assert main(["litex", "--chip", "ulx3s-8x8", "--board", "ulx3s-85f", "--build", "--seeds", "3",
                 "-o", str(tmp_path)]) == 0
    assert seen == [[1, 2, 3]] and "wrote top.bit" in capsys.readouterr().out

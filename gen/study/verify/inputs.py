"""What a user may give by mistake or in bad faith, each to a command of its own: refused in one
line with the documented exit code, or done, within 60 s and 2 GiB; folders stay whole."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

__all__ = ["CASES", "MEMORY", "SECONDS", "Outcome", "tried"]

#: Limits for each input: seconds of processor time, and bytes of memory.
SECONDS, MEMORY = 60, 2 << 30
_CHIP = "tiny-2x4-int4"


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, what it printed, seconds of processor time, bytes of memory
    at most, and what is wrong, or ""."""
    code: int
    text: str
    seconds: float
    memory: int
    wrong: str = ""


def _minds_ctrl_c():
    """Shells let what they run in the background ignore it, and what that starts, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def systolith(folder: Path, *words: object, stop: tuple[float, int] | None = None) -> Outcome:
    """Run a command in a folder; `stop`: (seconds after which it gets a signal, the signal)."""
    log = folder / ".log"
    with log.open("w+b") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "systolith.gen.cli", *map(str, words)], cwd=folder, stdout=out,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=_minds_ctrl_c)
        end = time.monotonic() + 20 * SECONDS       # of a busy machine
        if stop is not None:
            time.sleep(stop[0])
            process.send_signal(stop[1])
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                process.kill()
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read(20_000).decode(errors="replace")
    log.unlink()
    return Outcome(process.returncode, text, used.ru_utime + used.ru_stime,
                   used.ru_maxrss * 1024)


# Files.

def _network(*nodes, functions=(), constants=()) -> ModelProto:
    """Nodes that read x (of 4 numbers) quantized as `q`, and write `last`, which is quantized."""
    scale = numpy_helper.from_array(np.array(1 / 16, np.float32), "s")
    zero = numpy_helper.from_array(np.array(0, np.int8), "z")
    around = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
              helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["q"]), *nodes,
              helper.make_node("QuantizeLinear", ["last", "s", "z"], ["yq"]),
              helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"])]
    shape: list[str | int | None] = ["N", 4]
    graph = helper.make_graph(
        around, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], [scale, zero, *constants])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def nested(depth: int = 60) -> ModelProto:
    """Local functions, each of which calls the next one twice: 2**depth nodes if taken apart."""
    functions = []
    for n in range(depth):
        nodes = ([helper.make_node("Relu", ["a"], ["b"])] if n == 0 else
                 [helper.make_node(f"f{n - 1}", ["a"], ["m"], domain="own"),
                  helper.make_node(f"f{n - 1}", ["m"], ["b"], domain="own")])
        functions.append(helper.make_function(
            "own", f"f{n}", ["a"], ["b"], nodes,
            [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]))
    return _network(helper.make_node(f"f{depth - 1}", ["q"], ["last"], domain="own"),
                    functions=functions)


def chain(count: int) -> ModelProto:
    """Nodes one after the other."""
    names = ["q", *(f"t{n}" for n in range(count - 1)), "last"]
    return _network(*(helper.make_node("Relu", names[n:n + 1], names[n + 1:n + 2])
                      for n in range(count)))


def dense() -> ModelProto:
    """A network that builds."""
    weights = np.random.default_rng(0).integers(-7, 8, (4, 4)).astype(np.int8)
    constants = [numpy_helper.from_array(weights, "w")]
    return _network(helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]),
                    helper.make_node("MatMul", ["q", "wf"], ["last"]), constants=constants)


def _saved(folder, model, name="net.onnx"):
    (folder / name).write_bytes(model.SerializeToString())
    return name


# Cases: functions of a folder that give (outcome, what is wrong).

Case = Callable[[Path], Outcome]


def _refused(outcome, code=1):
    """One line, and the exit code."""
    # What says how far it is comes before.
    lines = [line for line in outcome.text.splitlines() if line.startswith("systolith")]
    if "Traceback" in outcome.text:
        return f"Traceback: {outcome.text[-300:]!r}"
    if outcome.code != code:
        return f"exit code {outcome.code}, not {code}: {outcome.text[-200:]!r}"
    if len(lines) != 1:
        return f"{len(lines)} lines: {outcome.text[:200]!r}"
    return ""


def _limits(outcome):
    if outcome.seconds > SECONDS:
        return f"{outcome.seconds:.0f} s"
    return f"{outcome.memory >> 20} MiB" if outcome.memory > MEMORY else ""


def _judged(outcome, *wrong):
    text = "; ".join(filter(None, (*wrong, _limits(outcome))))
    return Outcome(outcome.code, outcome.text, outcome.seconds, outcome.memory, text)


def _check(model: Callable[[], ModelProto], refuse: bool = True) -> Case:
    def case(folder: Path) -> Outcome:
        found = systolith(folder, "check", _saved(folder, model()))
        wrong = _refused(found) if refuse else "" if found.code == 0 else found.text[-300:]
        return _judged(found, wrong)
    return case


def _command(*words: str, code: int = 1, **files: bytes) -> Case:
    def case(folder: Path) -> Outcome:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        _saved(folder, dense())
        return _judged(found := systolith(folder, *words), "" if code == 2 and found.code == 2
                       else _refused(found, code))
    return case


def _pipe(folder: Path) -> Outcome:
    os.mkfifo(folder / "pipe.onnx")
    return _judged(found := systolith(folder, "check", "pipe.onnx"), _refused(found))


def _built(folder, *words):
    """A build of a small network in `out`."""
    _saved(folder, dense())
    return systolith(folder, "build", "net.onnx", "--chip", _CHIP, "--set", "array.activation=int8",
                     "--set", "array.weight=int8", "--no-area", "-o", "out", *words)


def _npy(folder: Path) -> Outcome:
    made = _built(folder)
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 4), }" % (3 << 36)
    head += b" " * (117 - len(head)) + b"\n"
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    found = systolith(folder, "simulate", "out", "--inputs", "x.npy", "--engine", "golden")
    return _judged(found, made.text[-200:] if made.code else "", _refused(found))


def _changed(name: str) -> Case:
    """A file of a build that was changed is noticed."""
    def case(folder: Path) -> Outcome:
        made = _built(folder)
        path = folder / "out" / name
        if made.code or not path.is_file():
            return _judged(made, f"no {name}: {made.text[-200:]}")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
        return _judged(found := systolith(folder, "report", "out"), _refused(found))
    return case


def _sparse(name: str) -> Case:
    """A file of a build that says to have 8 GiB, of which the disk holds none."""
    def case(folder: Path) -> Outcome:
        made = _built(folder)
        os.truncate(folder / "out" / name, 8 << 30)
        return _judged(found := systolith(folder, "report", "out"),
                       made.text[-200:] if made.code else "", _refused(found))
    return case


def _notes(folder: Path) -> Outcome:
    """A file that a user has put into a build is there after the next one."""
    _built(folder)
    (folder / "out" / "notes.txt").write_text("mine")
    found = _built(folder)
    kept = (folder / "out" / "notes.txt").is_file()
    return _judged(found, "" if kept else "a user's file is lost",
                   "" if found.code in (0, 1) else f"exit code {found.code}")


def _link(folder: Path) -> Outcome:
    (folder / "place").mkdir()
    (folder / "out").symlink_to("place")
    found = _built(folder)
    whole = (folder / "out").is_symlink() and (folder / "place" / "report.json").is_file()
    return _judged(found, "" if whole and not found.code else
                   f"the link was not followed: {found.text[-200:]}")


def _stopped(number: int, code: int) -> Case:
    """A build that gets a signal, at several moments, leaves nothing."""
    def case(folder: Path) -> Outcome:
        _saved(folder, dense())
        before, last, ended = {item.name for item in folder.iterdir()}, None, False
        for wait in (0.3, 0.8, 1.5, 3.0, 6.0):
            found = systolith(folder, "build", "net.onnx", "--chip", "sim-16x16-int8",
                              "-o", "out", stop=(wait, number))
            left = {item.name for item in folder.iterdir()} - before
            whole = {"out"} if found.code == 0 else set()
            if found.code != 0 and "gen/cli" not in found.text and "Traceback" in found.text:
                last = last or found
                continue                    # Python had not come to the first of these lines
            # Before Python minds signals, the signal itself ends it.
            if found.code not in (0, code, -number) or left - whole or "Traceback" in found.text:
                return _judged(found, f"after {wait} s: exit code {found.code}, left {sorted(left)}"
                               f", {found.text[-200:]!r}")
            last, ended = found, ended or found.code == code
            if found.code == 0:
                break
        assert last is not None
        return _judged(last, "" if ended else f"no build ended with exit code {code}")
    return case


CASES: dict[str, Case] = {
    "local functions nested 60 deep, each called twice": _check(nested),
    "a chain of 3,000 nodes": _check(lambda: chain(3000), refuse=False),
    "a chain of 100,000 nodes": _check(lambda: chain(100_000)),
    ".npy whose header says 3 TiB": _npy,
    "TOML, arrays nested 20,000 deep": _command(
        "area", "--chip", "chip.toml", chip_toml=b"a = " + b"[" * 20_000 + b"]" * 20_000),
    "TOML, tables nested 20,000 deep": _command(
        "area", "--chip", "chip.toml", chip_toml=b"[" + b".".join([b"a"] * 20_000) + b"]\n"),
    "TOML, a key of 20,000 names": _command(
        "area", "--chip", "chip.toml", chip_toml=b".".join([b"a"] * 20_000) + b" = 1\n"),
    "TOML, a number of 5,000 digits": _command(
        "area", "--chip", "chip.toml", chip_toml=b"a = " + b"9" * 5000 + b"\n"),
    "regress --seed -1": _command("regress", "--seed", "-1", code=2),
    "/dev/zero as a network": _command("check", "/dev/zero"),
    "/dev/zero as a chip": _command("verilog", "--chip", "/dev/zero", "-o", "core.v"),
    "a pipe that nobody writes to": _pipe,
    "Verilog to /dev/full": _command("verilog", "--chip", _CHIP, "-o", "/dev/full"),
    "model.onnx of a build changed": _changed("model.onnx"),
    "core.v of a build changed": _changed("core.v"),
    "program.bin of a build changed": _changed("program.bin"),
    "program.bin of a build of 8 GiB": _sparse("program.bin"),
    "core.v of a build of 8 GiB": _sparse("core.v"),
    "manifest.json of a build of 8 GiB": _sparse("manifest.json"),
    "a user's file in a build's folder": _notes,
    "a symbolic link as -o": _link,
    "SIGTERM during a build": _stopped(signal.SIGTERM, 143),
    "Ctrl-C during a build": _stopped(signal.SIGINT, 130),
}


def tried(name: str) -> Outcome:
    """A case, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="systolith-verify-") as folder:
        return CASES[name](Path(folder))

"""The same bytes of Verilog and programs, whatever the hash seed and the version of Python.

Other Pythons run this package's own sources, with the packages that are installed there.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import systolith
from systolith.gen.chip.presets import preset_names
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.flow.compile import compile_network
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.program import Program
from systolith.sim.random.arch import random_arch
from systolith.sim.random.graphs import random_graph

from .part import repository

__all__ = ["ask", "hash_of_program", "hash_of_text", "hashes", "job", "pythons", "verilog_hash"]

_COMMENT = re.compile(r"^//.*\n", re.MULTILINE)
#: Minor versions of Python 3 that are looked for.
VERSIONS = (11, 12, 13, 14)


def _hash(content):
    return hashlib.sha256(content).hexdigest()[:16]


def hash_of_text(text: str) -> str:
    """A hash of Verilog without its comments."""
    return _hash(_COMMENT.sub("", text).encode())


def hash_of_program(program: Program) -> str:
    """A hash of a program, with what the host knows of it."""
    return _hash(bytes(program.image) + json.dumps(program.host.to_json(),
                                                   sort_keys=True).encode())


def verilog_hash(arch: Arch) -> str:
    """A hash of a core's Verilog and, where the chip has one, its board's top level."""
    text = core_verilog(arch)
    return hash_of_text(board_verilog(arch, text) if arch.board in BOARDS else text)


def job(quick: bool = False) -> dict[str, Any]:
    """What is hashed: {"chips": {name: a preset's name, a random chip's number or an Arch's
    fields}, "programs": {name: [chip, a network's path or a random one's number]}}, plain data.

    In the repository these are the chips and networks of tests/unchanged.json; else the presets,
    random chips, and the networks that come with Systolith.
    """
    digits = Path(str(resources.files("systolith.examples") / "digits"))
    programs: dict[str, Any] = {
        "digits-mlp-bnn": ["tiny-2x4-bnn", str(digits / "digits-mlp-bnn.onnx")]}
    chips: dict[str, Any] = {"tiny-2x4-bnn": "tiny-2x4-bnn"}
    if quick:
        return {"chips": chips, "programs": programs}
    programs |= {f"{model} on {name}": [name, str(digits / f"{model}.onnx")] for model, name in (
        ("digits-cnn-int8", "sim-16x16-int8"), ("digits-cnn-int8", "ulx3s-8x8"),
        ("digits-cnn", "ulx3s-8x8-e3m2"), ("digits-mlp-bnn", "ulx3s-bnn"))}
    chips |= {name: name for name, _ in programs.values()}
    root = repository()
    if root is not None:
        drawn = json.loads((root / "tests" / "unchanged_chips.json").read_text())
        chips |= drawn
        programs |= {f"random {name}": [name, int(name)] for name in drawn}
        programs |= {f"case {path.stem}": [
            "ulx3s-bnn" if path.stem == "binary_one_padding" else "sim-16x16-int8", str(path)]
            for path in sorted((root / "tests" / "cases").glob("*.onnx"))}
    else:
        chips |= {name: name for name in preset_names()} | {f"random-{n}": n for n in range(20)}
        programs |= {f"random {n}": [f"random-{n}", n] for n in range(20)}
    return {"chips": chips, "programs": programs}


def hashes(what: dict[str, Any]) -> dict[str, str]:
    """{name: hash} of a `job`."""
    def chip(name):
        given = what["chips"][name]
        if isinstance(given, int):
            return random_arch(given)
        return load_chip(given) if isinstance(given, str) else Arch(**given)
    found = {f"Verilog of {name}": verilog_hash(chip(name)) for name in what["chips"]}
    for name, (own, network) in what["programs"].items():
        arch = chip(own)
        graph = random_graph(arch, network)[0] if isinstance(network, int) else network
        try:
            found[f"program of {name}"] = hash_of_program(compile_network(graph, arch)[1])
        except systolith.UserError as error:
            found[f"program of {name}"] = _hash(str(error).encode())
    return found


def pythons(given: Sequence[str] = ()) -> list[str]:
    """Other Pythons: those given, or those of `VERSIONS` on the path."""
    if given:
        return [shutil.which(item) or item for item in given]
    found = [shutil.which(f"python3.{minor}") for minor in VERSIONS]
    return [item for item in found if item]


def ask(python: str, what: dict[str, Any], seed: str) -> tuple[str, dict[str, str] | str]:
    """(its version, {name: hash} or why there are none) of a Python with a hash seed."""
    try:
        version = subprocess.run([python, "-c", "import sys; print(sys.version.split()[0])"],
                                 capture_output=True, text=True, check=False).stdout.strip()
    except OSError as error:
        return python, f"{python}: {error.strerror}"
    with tempfile.TemporaryDirectory(prefix="systolith-") as folder:
        links = Path(folder) / "systolith"
        links.mkdir()
        for item in Path(str(systolith.__file__)).parent.iterdir():
            if item.name != "__pycache__":
                (links / item.name).symlink_to(item)
        for package in ("hw", "sim", "gen", "constraints", "examples"):
            own = Path(str(next(iter(resources.files(f"systolith.{package}").iterdir())))).parent
            if not (links / package).exists():
                (links / package).symlink_to(own)
        made = subprocess.run(
            [python, "-c", "import sys, json; from systolith.gen.study.verify.same import hashes; "
             "print(json.dumps(hashes(json.load(sys.stdin))))"], input=json.dumps(what),
            capture_output=True, text=True, check=False, cwd=folder,
            env=os.environ | {"PYTHONPATH": folder, "PYTHONHASHSEED": seed})
    if made.returncode:
        last = made.stderr.strip().splitlines()[-1:] or [f"exit code {made.returncode}"]
        return version or python, last[0]
    return version, json.loads(made.stdout)


if __name__ == "__main__":
    sys.exit("a module of systolith verify")

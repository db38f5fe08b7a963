"""Hashes of what is generated: Verilog and programs of many chips and networks.

The chips are presets and those of `unchanged_chips.json`, fields of `Arch` that are not the
defaults, which were drawn once.

A change that is meant to keep behaviour keeps them. One that is meant to change it renews the
file, `python tests/test_unchanged.py`, in a commit that says why.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.flow.compile import compile_network
from systolith.hw.board.boards import BOARDS
from systolith.hw.formats import Bipolar, Float, Int
from systolith.hw.spec.arch import Arch
from systolith.sim.random.graphs import random_graph

ROOT = Path(__file__).parent.parent
STORED = Path(__file__).with_name("unchanged.json")
#: What writes the Verilog: with another version, another text is no fault.
WRITERS = ("amaranth", "pyosys")

EXAMPLES = {"digits-cnn-int8": ("ulx3s-8x8", "sim-16x16-int8"), "digits-cnn": ("ulx3s-8x8-e3m2",),
            "digits-mlp-bnn": ("tiny-2x4-bnn", "ulx3s-bnn")}
DRAWN = json.loads(Path(__file__).with_name("unchanged_chips.json").read_text())
CASES = sorted(path.stem for path in (ROOT / "tests" / "cases").glob("*.onnx"))
#: On which preset the cases are compiled, where not on sim-16x16-int8.
OTHERS = {"binary_one_padding": "ulx3s-bnn"}

_COMMENT = re.compile(r"^//.*\n", re.MULTILINE)


def chip(name):
    return Arch(**DRAWN[name]) if name in DRAWN else load_chip(name)


@cache
def verilog_hash(name):
    """Of the core and, where the chip has one, its board's top level."""
    arch = chip(name)
    text = core_verilog(arch)
    return hash_of_text(board_verilog(arch, text) if arch.board in BOARDS else text)


def hash_of_text(text):
    """Of Verilog without its comments."""
    return _hash(_COMMENT.sub("", text).encode())


def program_hash(network, name):
    return hash_of_program(compile_network(network, chip(name))[1])


def hash_of_program(program):
    host = json.dumps(program.host.to_json(), sort_keys=True)
    return _hash(bytes(program.image) + host.encode())


def _hash(content):
    return hashlib.sha256(content).hexdigest()[:16]


def pairs():
    """{name of a pair: (chip, function that gives the network)}"""
    found = {f"{model} on {name}": (name, lambda model=model: ROOT / "examples" / "digits" /
                                    f"{model}.onnx")
             for model, names in EXAMPLES.items() for name in names}
    found |= {f"random {seed}": (seed, lambda seed=seed: random_graph(chip(seed), int(seed))[0])
              for seed in DRAWN}
    return found | {f"case {case}": (OTHERS.get(case, "sim-16x16-int8"), lambda case=case: ROOT /
                                     "tests" / "cases" / f"{case}.onnx") for case in CASES}


def chips():
    return list(dict.fromkeys(name for name, _ in pairs().values()))


def stored():
    return json.loads(STORED.read_text())


@pytest.mark.parametrize("name", chips())
def test_verilog(name):
    versions = stored()["written by"]
    if versions != {writer: version(writer) for writer in WRITERS}:
        pytest.skip(f"the stored hashes are of Verilog that {versions} wrote")
    assert verilog_hash(name) == stored()["verilog"][name]


@pytest.mark.parametrize("name", pairs())
def test_program(name):
    chip_name, network = pairs()[name]
    assert program_hash(network(), chip_name) == stored()["programs"][name]


def test_the_same_bytes_whatever_the_hash_seed():
    """(Those of other tests are of a seed by chance.)"""
    code = ("from tests.test_unchanged import *\n"
            "name, network = pairs()['digits-mlp-bnn on tiny-2x4-bnn']\n"
            "print(verilog_hash(name), program_hash(network(), name))")
    found = {subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed}).stdout for seed in "12"}
    assert len(found) == 1 and len(found.pop().split()) == 2


def test_the_chips_differ_in_every_option():
    archs = [chip(name) for name in chips()]
    assert {type(arch.activation) for arch in archs} == {Int, Float, Bipolar}
    assert {arch.bus_bits for arch in archs} >= {32, 64, 128}
    for option in ("depthwise", "packed_signs", "side_taps", "leaky", "slope_offsets",
                   "bit_planes", "operand_depth", "table_depth", "tap_rows", "plane_rows",
                   "two_writes", "load_windows", "two_fillings"):
        assert {bool(getattr(arch, option)) for arch in archs} == {False, True}, option
    for fact in (lambda a: a.rows == a.columns, lambda a: a.lanes > 1, lambda a: a.stages == 1,
                 lambda a: a.shared_columns > 1, lambda a: a.accumulator is None,
                 lambda a: a.activation == a.weight, lambda a: a.post_lanes == 1,
                 lambda a: a.board in BOARDS):
        assert {bool(fact(arch)) for arch in archs} == {False, True}
    assert len(pairs()) >= 20


def test_a_bit_changes_a_hash_and_a_version_does_not():
    arch = chip("50")
    text = core_verilog(arch)
    newer = text.replace(f"Systolith {version('systolith')}", "Systolith 99.0")
    assert newer != text and hash_of_text(newer) == hash_of_text(text)
    assert hash_of_text(text.replace("1'h0", "1'h1", 1)) != hash_of_text(text)
    program = compile_network(random_graph(arch, 50)[0], arch)[1]
    before = hash_of_program(program)
    program.image = bytes(program.image[:-1]) + bytes([program.image[-1] ^ 1])
    assert hash_of_program(program) != before


def renew():
    """Write what is generated now into the file."""
    content = {"written by": {writer: version(writer) for writer in WRITERS},
               "verilog": {name: verilog_hash(name) for name in chips()},
               "programs": {name: program_hash(network(), chip_name)
                            for name, (chip_name, network) in pairs().items()}}
    STORED.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    renew()

"""Damaged chip descriptions, images, programs and command lines."""

import contextlib
import copy
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
from fuzz_running import ACCEPTED
from systolith.gen.chip.toml import commented_toml, load_chip, preset_names
from systolith.gen.cli.main import main
from systolith.gen.cli.parser import make_parser
from systolith.gen.flow.build import PROGRAM, build, open_build
from systolith.gen.flow.compile import compile_network
from systolith.gen.flow.simulate import read_arrays, simulate
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_manifest
from systolith.gen.report.report import make_report
from systolith.hw.spec import isa
from systolith.hw.spec.instruction import sealed
from systolith.hw.spec.program import Program
from systolith.sim.machine.iss import ExecutionError

__all__ = ["ChipFiles", "Commands", "ImageFiles", "ProgramFiles"]

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
WORDS = ["0", "-1", "1", "7", "255", "65536", "1e9", "-0.5", "nan", "inf", "true", '""', '"auto"',
         '"int8"', '"e3m2"', '"e99m99"', '"bipolar1"', '"\\u0000"', "[]", "[1, 2]", "{}",
         "{ rows = 4 }", "1979-05-27", "0x7fffffffffffffff", "9" * 40, "'" + "a" * 3000 + "'",
         "[" * 3000, "\x1b[31m", "\N{SNOWMAN}"]
NUMBERS = [-(1 << 63), -1, 0, 1, 2, 3, 63, 64, 255, 65536, 1 << 20, 1 << 31, 1 << 40, 1 << 70, 0.5,
           None, True, "", "x", "../../etc/passwd", [], [1], {}]


def _any(items, rng):
    return items[rng.integers(len(items))]


def _damaged(data, rng):
    """The bytes with some of them changed, removed or doubled."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        a, action = int(rng.integers(max(1, len(data)))), rng.integers(4)
        if action == 0 and data:
            data[a] ^= 1 << int(rng.integers(8))
        elif action == 1:
            del data[a:a + int(rng.integers(1, 40))]
        elif action == 2:
            data[a:a] = data[a:a + int(rng.integers(1, 40))]
        else:
            data = data[:a] if rng.random() < 0.3 else data
    return bytes(data)


class ChipFiles:
    """Chip descriptions, each a preset's with lines changed."""
    suffix = ".toml"

    def __init__(self, folder, arch):
        self.sources = [commented_toml(load_chip(name)) for name in preset_names()]
        self.network = DIGITS / "digits-cnn-int8.onnx"

    def case(self, number):
        rng = np.random.default_rng([1, number])
        text = _any(self.sources, rng)
        if rng.random() < 0.15:
            return _damaged(text.encode(), rng)
        lines = text.splitlines()
        keys = [n for n, line in enumerate(lines) if "=" in line and not line.startswith("#")]
        for _ in range(rng.integers(1, 5)):
            place, action = int(_any(keys, rng)), rng.integers(6)
            if action < 3:
                lines[place] = f"{lines[place].partition('=')[0]}= {_any(WORDS, rng)}"
            elif action == 3:
                lines[place] = ""
            elif action == 4:
                lines.insert(place, lines[int(_any(keys, rng))])
            else:
                lines[place] = lines[place].replace(_any(list("aeiorst"), rng), "x", 1)
        return "\n".join(lines).encode()

    def attempt(self, path):
        try:
            chip = load_chip(path)
        except UserError as error:
            return str(error)
        try:
            compile_network(self.network, chip)
        except UserError as error:
            return str(error)
        return ACCEPTED


class _OfBuild:
    """What needs a build, which each case finds in a folder of its own."""
    chip, network = "tiny-2x4-bnn", "digits-mlp-bnn.onnx"

    def __init__(self, folder, arch):
        self.folder = folder / "build"
        build(DIGITS / self.network, load_chip(self.chip), self.folder, area=False)
        with np.load(DIGITS / "digits-test.npz") as file:
            self.images = np.float32(file["images"][:2]).reshape(2, -1)

    def attempt(self, path):
        try:
            return self.use(path)
        except (UserError, ExecutionError) as error:
            return str(error)


class ImageFiles(_OfBuild):
    """Files of images, .npy."""
    suffix = ".npy"

    def __init__(self, folder, arch):
        super().__init__(folder, arch)
        self.found = open_build(self.folder)
        file = io.BytesIO()
        np.save(file, self.images)
        self.source = file.getvalue()

    def case(self, number):
        rng = np.random.default_rng([2, number])
        if rng.random() < 0.5:
            return _damaged(self.source, rng)
        shape = tuple(int(_any([0, 1, 2, 64, 1 << 20, 1 << 40, 1 << 62, -1], rng))
                      for _ in range(rng.integers(0, 5)))
        kind = str(_any(["<f4", "<f8", "|b1", "<i8", "|O", "<c8", "|S5", "<U3", "<M8[s]", "nothing",
                         "[('a', '<f4')]"], rng))
        head = repr({"descr": kind, "fortran_order": bool(rng.integers(2)), "shape": shape})
        head = head.encode() + b" " * int(rng.integers(60)) + b"\n"
        return (b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
                + rng.bytes(int(rng.integers(3000))))

    def use(self, path):
        simulate(self.found, read_arrays(path), limit=2)
        return ACCEPTED


class ProgramFiles(_OfBuild):
    """Programs with changed instructions or headers, whose checksums are right again."""
    suffix = ".bin"

    def __init__(self, folder, arch):
        super().__init__(folder, arch)
        self.content = (self.folder / PROGRAM).read_bytes()
        self.program = Program.load(self.folder / PROGRAM)

    def case(self, number):
        rng = np.random.default_rng([3, number])
        magic, _, rest = self.content.partition(b"\n")
        size = int.from_bytes(rest[:4], "little")
        header, image = json.loads(rest[4:4 + size]), bytearray(rest[4 + size:-32])
        for _ in range(rng.integers(1, 4)):
            if rng.random() < 0.5:
                _change(header, rng)
            else:
                self._instruction(image, rng)
        text = json.dumps(header).encode()
        if rng.random() < 0.05:
            text = _damaged(text, rng)
        content = magic + b"\n" + len(text).to_bytes(4, "little") + text + bytes(image)
        return content + hashlib.sha256(content).digest()

    def _instruction(self, image, rng):
        """Change a field or a bit of an instruction, and the checksum in END with it."""
        code = list(self.program.instructions)
        place = int(rng.integers(len(code)))
        item = copy.deepcopy(code[place])
        names = [name for name in item.fields if name != "checksum"]
        start, size = self.program.code_offset, self.program.arch.instruction_bytes
        if names and rng.random() < 0.8:
            name = _any(names, rng)
            field = next(field for field in isa.OPCODES[item.opcode] if field.name == name)
            item.fields[field.name] = int(_any(
                [field.low, field.high, *rng.integers(field.low, field.high + 1, 2)], rng))
            code[place] = item
            for n, word in enumerate(sealed(code)):
                image[start + n * size:start + (n + 1) * size] = word.to_bytes(size)
        else:
            at = start + place * size + int(rng.integers(isa.INSTRUCTION_BYTES))
            image[at] ^= 1 << int(rng.integers(8))

    def use(self, path):
        (self.folder / PROGRAM).write_bytes(path.read_bytes())
        (self.folder / "manifest.json").unlink()
        write_manifest(self.folder)
        found = open_build(self.folder)
        make_report(found.program)
        simulate(found, self.images, "isa", limit=1)
        return ACCEPTED


def _change(data, rng):
    """Change one value somewhere in plain data."""
    while True:
        keys = list(data) if isinstance(data, dict) else range(len(data))
        if not keys:
            return
        key = _any(list(keys), rng)
        if isinstance(data[key], dict | list) and data[key] and rng.random() < 0.9:
            data = data[key]
            continue
        if isinstance(data, dict) and rng.random() < 0.1:
            del data[key]
        else:
            data[key] = copy.deepcopy(NUMBERS[rng.integers(len(NUMBERS))])
        return


class Commands:
    """Command lines of commands that need no other tool: a case is one argument on each line."""
    suffix = ".txt"
    NAMES = ("init", "verilog", "check", "quantize", "build", "simulate", "report", "trace", "host",
             "disasm")
    VALUES = ("0", "1", "-1", "2.5", "nan", "1e99", "", "x", "build", "images.npy", "net.onnx",
              "float.onnx", "chip.toml", "missing", "fifo", "/dev/null", "/dev/zero", "/", ".",
              "array.rows=2", "array.rows=", "array.rows=0", "nothing=1", "array.weight=e9m9",
              "golden", "isa", "min-max", "tiny-2x4-bnn", "a/b", "\x1b[31m", "x" * 500, "1,4,8,8",
              "input=1,1,8,8", "no/such/folder/file", "--", "-", "%s", "{}")

    def __init__(self, folder, arch):
        self.folder = folder
        chip = load_chip("tiny-2x4-bnn")
        build(DIGITS / "digits-mlp-bnn.onnx", chip, folder / "build", area=False)
        (folder / "chip.toml").write_text(commented_toml(chip))
        for name, file in (("net", "digits-mlp-bnn"), ("float", "digits-cnn-float")):
            if (DIGITS / f"{file}.onnx").is_file():
                (folder / f"{name}.onnx").write_bytes((DIGITS / f"{file}.onnx").read_bytes())
        with np.load(DIGITS / "digits-test.npz") as file:
            np.save(folder / "images.npy", np.float32(file["images"][:3]).reshape(3, -1))
        os.mkfifo(folder / "fifo")
        subparsers = next(action for action in make_parser(True)._actions if action.choices)
        self.actions = {name: subparsers.choices[name]._actions for name in self.NAMES}

    def case(self, number):
        rng = np.random.default_rng([4, number])
        name = str(_any(self.NAMES, rng))
        words = [name]
        right = {"model": "net.onnx", "chip": "chip.toml", "folder": "build", "build": "build",
                 "inputs": "images.npy", "output": "out", "calibration": "images.npy"}
        for action in self.actions[name]:
            if "-h" in action.option_strings:
                continue
            needed = action.required
            if not needed and rng.random() < 0.7:
                continue
            if needed and rng.random() < 0.05:
                continue
            if action.option_strings:
                words.append(str(_any(action.option_strings, rng)))
            if action.nargs == 0:
                continue
            value = right.get(action.dest) if rng.random() < 0.8 else None
            words.append(value or str(_any(list(action.choices or ()) or self.VALUES, rng)
                                      if rng.random() < 0.7 else _any(self.VALUES, rng)))
        return "\n".join(words).encode()

    def attempt(self, path):
        os.chdir(self.folder)
        out, told = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            try:
                code = main(path.read_text().split("\n"))
            except SystemExit as error:
                code = error.code
        if code == 0:
            return ACCEPTED
        assert code in (1, 2, 3), f"exit code {code}: {told.getvalue()[-1500:]}"
        lines = told.getvalue().strip().splitlines()
        return lines[-1] if lines else out.getvalue().strip().splitlines()[-1]

"""Do the tests notice? Small faults planted in the sources, one at a time, each tried against the
tests of the file that it is in.

    python bench/mutants.py --named                    # the faults that are listed by name, below
    python bench/mutants.py [--count 300] [--seed S]   # a sample; goes on where it stopped
    python bench/mutants.py --part 1/4                 # a quarter of it, for several machines
    python bench/mutants.py --report                   # what is known so far

A mutant is a place in the Python source and one change to it (`changes`). The sources of hardware
are Python, too: there a mutant is a fault of the circuit. Mutants are drawn by a hash of the seed,
the function that they are in and what is changed, as many from each of hw, sim and gen, so that the
sample stays when other places change.

Each is tried in a copy of the sources. Its tests are the file of the same name, or, where there is
none, those beside it that import its module or a neighbour that does (`tests_of`). A mutant is
noticed where a test fails that passes without it, or the tests take three minutes of CPU time.
Results are lines of JSON; one that survived is tried again when its source or tests have changed.
"""

import argparse
import ast
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
TOPS = "hw", "sim", "gen"
RESULTS = ROOT / "bench" / "mutants.jsonl"
#: Survivors that have been looked at: id -> why no test can or need notice.
JUDGED = ROOT / "bench" / "mutants_judged.json"
#: Test files that a file without one of its own is tried against, at most.
_MOST = 3
#: CPU seconds after which a mutant is taken for one that never ends.
_LIMIT = 180

_COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
             ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
_COUNTED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.LShift: ">>",
            ast.RShift: "<<", ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "|"}
_SWAPPED = ast.Sub, ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift, ast.Div


@dataclass(frozen=True)
class Mutant:
    """A change of one place: `file` below the root, the function or class that it is `within`,
    `first` and `last` byte of the place, what stands there and what does `instead`, and how many
    same changes of the same text come before it in `within`."""
    file: str
    within: str
    first: int
    last: int
    old: str
    instead: str
    number: int

    @property
    def id(self) -> str:
        return (f"{self.file}::{self.within}: {' '.join(self.old.split())} -> "
                f"{' '.join(self.instead.split())} #{self.number}")

    def source(self) -> bytes:
        """The file's text with the change."""
        text = (ROOT / self.file).read_bytes()
        return text[:self.first] + self.instead.encode() + text[self.last:]


def changes(node: ast.AST, of: Callable[[ast.AST], str]) -> Iterator[tuple[ast.AST, str]]:
    """Each change of a node as (what is replaced, by which text); `of`: the text of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value)):
            yield node, f"{value + 1}"
            if value:
                yield node, f"{value - 1}"
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARED:
            yield node, f"({of(left)} {_COMPARED[type(op)]} {of(right)})"
        case ast.BoolOp(op=op, values=values):
            word = " or " if isinstance(op, ast.And) else " and "
            yield node, "(" + word.join(f"({of(value)})" for value in values) + ")"
            yield node, f"({of(values[0])})"
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            yield node, f"({of(operand)})"
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in _COUNTED and not isinstance(left, ast.List | ast.JoinedStr | ast.Dict):
                yield node, f"(({of(left)}) {_COUNTED[type(op)]} ({of(right)}))"
            if isinstance(op, _SWAPPED) and of(left) != of(right):
                sign = {ast.Sub: "-", ast.FloorDiv: "//", ast.Mod: "%", ast.LShift: "<<",
                        ast.RShift: ">>", ast.Div: "/"}[type(op)]
                yield node, f"(({of(right)}) {sign} ({of(left)}))"
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield node, f"({of(orelse)} if {of(test)} else {of(body)})"
        case ast.Call(func=ast.Name(id="Mux"), args=[choose, one, other]):
            yield node, f"Mux({of(choose)}, {of(other)}, {of(one)})"
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[*_]):
            other = {"min": "max", "max": "min"}[name]
            yield node.func, other
        case ast.Expr(value=ast.Call()):
            yield node, "pass"
        case ast.Raise():
            yield node, "pass"
        case ast.AugAssign(target=target, op=op, value=value):
            if not of(target).startswith("m.d"):
                yield node, "pass"
            elif isinstance(value, ast.List):
                for part in value.elts if len(value.elts) > 1 else ():
                    yield part, ("[]" if not isinstance(part, ast.Starred) else "*[]")
            else:
                yield node, "pass"


def _whole(node):
    """Whether a node is left alone with all that it contains: text, annotations, messages."""
    return isinstance(node, ast.Raise | ast.JoinedStr | ast.arg | ast.Import | ast.ImportFrom)


def mutants_of(file: str) -> list[Mutant]:
    """All mutants of a source file, in the order of their places."""
    data = (ROOT / file).read_bytes()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []
    seen: Counter[tuple[str, str, str]] = Counter()

    def place(node):
        return (starts[node.lineno - 1] + node.col_offset,
                starts[node.end_lineno - 1] + node.end_col_offset)

    def of(node):
        first, last = place(node)
        return data[first:last].decode()

    def visit(node, within):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            within = f"{within}.{node.name}" if within else node.name
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if within and hasattr(node, "lineno"):
            for part, instead in changes(node, of):
                first, last = place(part)
                old = data[first:last].decode()
                key = within, old, instead
                found.append(Mutant(file, within, first, last, old, instead, seen[key]))
                seen[key] += 1
        if _whole(node):
            return
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, within)

    visit(ast.parse(data), "")
    return found


def _files(top):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / top).rglob("*.py")
                  if path.name not in ("__init__.py", "__main__.py"))


def sample(count: int, seed: str) -> list[Mutant]:
    """As many mutants, a third from each of hw, sim and gen, drawn by a hash of what they are."""
    chosen = []
    for n, top in enumerate(TOPS):
        found = [mutant for file in _files(top) for mutant in mutants_of(file)]
        found.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.id}".encode()).digest())
        chosen += found[:count // 3 + (n < count % 3)]
    return chosen


@cache
def _imports(file):
    """Modules, as "hw.core.store", that a file of the tree imports."""
    package = Path(file).parent.parts
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *(node.module or "").split("."))).strip(".")
            module = module.removeprefix("systolith.")
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("systolith.") for alias in node.names}
    return names


@cache
def tests_of(file: str) -> tuple[str, ...]:
    """The test files that must notice a fault of a source file."""
    path = Path(file)
    folder = Path("tests") / path.parent
    own = folder / f"test_{path.name}"
    if (ROOT / own).exists():
        return (str(own),)
    while not list((ROOT / folder).glob("test_*.py")):
        folder = folder.parent
    beside = sorted((ROOT / folder).glob("test_*.py"))
    names = [str(test.relative_to(ROOT)) for test in beside]
    module = ".".join(path.with_suffix("").parts)
    near = [name for name in names if module in _imports(name)]
    if not near:                        # tests of the modules that use it
        users = {Path(other).stem for other in _files(path.parts[0])
                 if module in _imports(other)}
        near = [name for name in names if Path(name).stem.removeprefix("test_") in users]
    # A file that says the same in its name first: test_bus_proofs for axi is as good as any.
    near = near or names
    return tuple(sorted(near, key=lambda name: (ROOT / name).stat().st_size)[:_MOST])


#: Faults by name: what, file, the text that stands there once, what stands there instead.
NAMED = [
    ("the window's end one beat too far, in STORE", "hw/core/store.py",
     "check.window_size.eq(self.window_size)",
     "check.window_size.eq(self.window_size + self.arch.beat_bytes)"),
    ("the window's end one beat too far, in the check", "hw/core/bursts.py",
     "Cat(self.last, page) - self.window_size[beat_bits:bits]",
     "Cat(self.last, page) - self.window_size[beat_bits:bits] - 1"),
    ("the window's end one beat too far, for reads", "hw/core/arbiter.py",
     "check.window_size.eq(self.window_size)",
     "check.window_size.eq(self.window_size + self.arch.beat_bytes)"),
    ("no bound of LOAD.memory", "hw/core/legality.py",
     "if item.least is not None or item.most is not None or",
     "if item.least is not None or"),
    ("LOAD.memory one beyond the last memory", "hw/spec/isa.py",
     "most=Memory.TABLE)", "most=Memory.TABLE + 1)"),
    ("POST.table on chips without tables", "hw/spec/legality.py",
     """    Option(Opcode.POST, "table", 1, 1, *_TABLES),\n""", ""),
    ("POST.table on chips without tables, in hardware", "hw/core/legality.py",
     "if option.opcode == opcode and option.missing(arch)",
     """if option.opcode == opcode and option.missing(arch) and option.field != "table\""""),
    ("STORE's report before LOAD's", "hw/core/sequencer.py",
     "told.eq(Mux(one.valid, one.as_value(), other.as_value()))",
     "told.eq(Mux(other.valid, other.as_value(), one.as_value()))"),
    ("the sequencer's own error before a unit's", "hw/core/sequencer.py",
     "with m.If(told.valid):",
     "with m.If(told.valid & ~(self.overflow | self.expired | damaged | (fault != 0))):"),
    ("a later report instead of the first", "hw/core/sequencer.py",
     "with m.Elif(self.busy & ~own.valid):", "with m.Elif(self.busy | own.valid):"),
    ("no layer in LOAD's bus error", "hw/core/arbiter.py",
     "report.layer.eq(Mux(load, layer, 0))", "report.layer.eq(0)"),
    ("a layer in a bus error of fetch", "hw/core/arbiter.py",
     "report.layer.eq(Mux(load, layer, 0))", "report.layer.eq(layer)"),
    ("no layer in STORE's bus error", "hw/core/store.py",
     "self.report.layer.eq(answer.layer),", "self.report.layer.eq(0),"),
    ("the largest number of the last batch", "gen/quantize/calibrate.py",
     "max(self.high, float(flat.max()))", "float(flat.max())"),
    ("upper extremes dropped", "gen/quantize/calibrate.py",
     "[*ends[:_EXTREME], *ends[-_EXTREME:], *self.extremes]",
     "[*ends[:_EXTREME], *self.extremes]"),
    ("tokens counted without what is on its way to a queue", "gen/compile/tokens.py",
     """np.full(arch.queue_depth + 2, len(instructions)))[
            arch.queue_depth + 2:]""",
     """np.full(arch.queue_depth, len(instructions)))[
            arch.queue_depth:]"""),
    ("instructions ordered without regard to readers", "gen/compile/emit.py",
     "if access.is_write and self.last_read > known:", "if False:"),
]


def named() -> list[tuple[str, Mutant]]:
    """The mutants of `NAMED`. Raises ValueError where the text is not there exactly once."""
    found = []
    for what, file, old, instead in NAMED:
        text = (ROOT / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{what}: {file} has {old!r} {text.count(old)} times, not once")
        first = len(text[:text.index(old)].encode())
        found.append((what, Mutant(file, "", first, first + len(old.encode()), old, instead, 0)))
    return found


class Copy:
    """The sources and tests in a folder of their own, in which mutants are tried."""

    def __init__(self, folder: Path, cache_folder: Path) -> None:
        self.folder = folder
        for part in (*TOPS, "tests", "constraints", "examples", "bench", "docs"):
            shutil.copytree(ROOT / part, folder / part,
                            ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "mkdocs.yml", "Makefile"):
            shutil.copy(ROOT / name, folder / name)
        package = folder / "path" / "systolith"
        package.mkdir(parents=True)
        for part in (*TOPS, "constraints", "examples"):
            (package / part).symlink_to(folder / part)
        (package / "__init__.py").symlink_to(folder / "gen" / "api" / "__init__.py")
        (package / "py.typed").symlink_to(folder / "gen" / "api" / "py.typed")
        self._environment = os.environ | {
            "PYTHONPATH": str(folder / "path"), "SYSTOLITH_TEST_CACHE": str(cache_folder),
            "PYTHONDONTWRITEBYTECODE": "1"}
        #: Tests that pass without a mutant, and that do not.
        self._good: set[str] = set()
        self._broken: list[str] = []

    def _run(self, tests):
        """(which test failed, empty for none, and the seconds that it took)."""
        start = time.monotonic()
        log = self.folder / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no",
                 *(f"--deselect={name}" for name in self._broken if name not in tests), *tests],
                cwd=self.folder, env=self._environment, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT, _LIMIT)))
            try:
                code = process.wait(10 * _LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                return "time", time.monotonic() - start
        text = log.read_text(errors="replace")
        failed = [line.partition(" ")[2].partition(" - ")[0] for line in text.splitlines()
                  if line.startswith(("FAILED ", "ERROR "))]
        by = (failed or ["time" if code < 0 else "import"])[0] if code else ""
        return by, time.monotonic() - start

    def tried(self, mutant, tests):
        """(by what it is noticed, empty for not, and seconds). Tests that fail without it, too,
        do not count."""
        place = self.folder / mutant.file
        while True:
            place.write_bytes(mutant.source())
            try:
                by, seconds = self._run(tests)
            finally:
                place.write_bytes((ROOT / mutant.file).read_bytes())
            if "::" not in by or by in self._good:
                return by, seconds
            if not self._run([by])[0]:
                self._good.add(by)
                return by, seconds
            print(f"{by} fails without a mutant: left out", flush=True)
            self._broken.append(by)


def _state(mutant, tests):
    """A hash of what a result depends on: the file and its tests."""
    digest = hashlib.sha256()
    for name in (mutant.file, *tests):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:12]


def known(path: Path) -> dict[str, dict]:
    """Results by id, the last of each."""
    if not path.exists():
        return {}
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


def judged() -> dict[str, str]:
    """Why survivors are no gap of the tests, by id."""
    return json.loads(JUDGED.read_text()) if JUDGED.exists() else {}


def summary(count: int, seed: str, path: Path = RESULTS) -> dict:
    """What the results say of the sample: how many mutants were `tried`, `killed`, `alike` (judged
    to change nothing that counts), and the `survivors`, judged or not."""
    results, why = known(path), judged()
    drawn = [mutant.id for mutant in sample(count, seed)]
    mine = [results[name] for name in drawn if name in results]
    survivors = [line["id"] for line in mine if not line["by"]]
    return {"drawn": len(drawn), "tried": len(mine), "killed": len(mine) - len(survivors),
            "survivors": {name: why.get(name, "") for name in survivors}}


def _print(found):
    survivors = found["survivors"]
    for name, why in survivors.items():
        print(f"survived: {name}{f'  ({why})' if why else ''}")
    share = found["killed"] / max(1, found["tried"])
    print(f"{found['tried']} of {found['drawn']} mutants tried, {found['killed']} noticed "
          f"({share:.1%}), {len(survivors)} not, of which {sum(map(bool, survivors.values()))} are "
          "judged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--named", action="store_true", help="the faults that are listed by name")
    parser.add_argument("--count", type=int, default=300, help="how many are drawn")
    parser.add_argument("--seed", default="1", help="what they are drawn by")
    parser.add_argument("--part", default="1/1", help="the Nth of M parts: N/M")
    parser.add_argument("--again", action="store_true",
                        help="also those that were noticed, where source or tests have changed")
    parser.add_argument("--file", default="", help="mutants of files with this in their name only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="lines of JSON")
    parser.add_argument("--report", action="store_true", help="try none, say what is known")
    arguments = parser.parse_args()
    if arguments.report:
        _print(summary(arguments.count, arguments.seed, arguments.results))
        return
    with TemporaryDirectory(prefix="mutants-") as folder:
        kept = ROOT / "build" / "mutants-cache"
        kept.mkdir(parents=True, exist_ok=True)
        copy = Copy(Path(folder), kept)
        if arguments.named:
            missed = 0
            for what, mutant in named():
                by, seconds = copy.tried(mutant, tests_of(mutant.file))
                missed += not by
                print(f"{seconds:5.0f} s  {'killed by ' + by if by else 'SURVIVED'}: {what}",
                      flush=True)
            sys.exit(f"{missed} survived" if missed else 0)
        results = known(arguments.results)
        part, _, parts = arguments.part.partition("/")
        mine = [mutant for mutant in sample(arguments.count, arguments.seed)
                if arguments.file in mutant.file]
        mine.sort(key=lambda mutant: hashlib.sha256(mutant.id.encode()).digest())
        for mutant in mine[int(part) - 1::int(parts)]:
            tests = tests_of(mutant.file)
            state, old = _state(mutant, tests), results.get(mutant.id)
            if old and ((old["by"] and not arguments.again) or old["state"] == state):
                continue
            by, seconds = copy.tried(mutant, tests)
            line = {"id": mutant.id, "by": by, "seconds": round(seconds, 1), "state": state}
            with arguments.results.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(f"{seconds:5.0f} s  {by or 'SURVIVED'}: {mutant.id}", flush=True)
    _print(summary(arguments.count, arguments.seed, arguments.results))


if __name__ == "__main__":
    main()

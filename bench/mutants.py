"""Do the tests notice? Small faults planted in the sources, one at a time, each tried against the
tests of the file that it is in.

    python bench/mutants.py --named                    # the faults that are listed by name, below
    python bench/mutants.py [--count 300] [--seed S]   # a sample; goes on where it stopped
    python bench/mutants.py --part 1/4                 # a quarter of it, for several machines
    python bench/mutants.py --whole                    # survivors once more, slow tests, too
    python bench/mutants.py --report                   # what is known so far

A mutant is a place in the Python source and one change to it (`changes`). The sources of hardware
are Python, too: there a mutant is a fault of the circuit. Mutants are drawn by a hash of the seed,
the function that they are in and what is changed, as many from each of hw, sim and gen, so that the
sample stays when other places change.

Each is tried in a copy of the sources. Its tests are the file of the same name, or, where there is
none, those beside it that import its module or a neighbour that does (`tests_of`). Of these, those
run that execute the mutant's statement, the quickest first (`Copy.reach`; where a file has one
mutant alone, all of them run). A mutant is noticed where a test fails that passes without it, or
takes ten times as long. Tests that compile hardware are left out at first, for they take minutes:
`--whole` tries survivors against all tests of their files. Results are lines of JSON; one that
survived is tried again when its source or tests have changed.
"""

import argparse
import ast
import builtins
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOPS = "hw", "sim", "gen"
RESULTS = ROOT / "bench" / "mutants.jsonl"
#: Survivors that have been looked at: id -> why no test can or need notice.
JUDGED = ROOT / "bench" / "mutants_judged.json"
#: Test files that a file without one of its own is tried against, at most.
_MOST = 3
#: CPU seconds after which a mutant is taken for one that never ends.
_LIMIT = 180
#: The same where slow tests run, too.
_LONGEST = 1800
#: CPU seconds for the tests of a file without a mutant, and for each of them; what takes longer,
#: or compiles hardware, is no test that mutants are tried against.
_REACH = 20
_SLOW = 3
#: Bytes of address space of a process with a mutant.
_MEMORY = 16 << 30
_PROBE = "getattr(__import__('builtins'), '_mutants_reached', id)({})"
#: What tests import that is no part of the project.
_OUTSIDE = ("numpy", "amaranth", "amaranth.sim", "amaranth.back.verilog", "amaranth.lib.wiring",
            "amaranth.lib.memory", "onnx", "onnx.reference", "onnxruntime", "hypothesis", "scipy",
            "hypothesis.strategies", "matplotlib.figure", "rich", "ml_dtypes", "gfloat")

_COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
             ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
_OPPOSITE = {ast.Lt: ">=", ast.GtE: "<", ast.Gt: "<=", ast.LtE: ">"}
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

    def source(self, text: bytes | None = None) -> bytes:
        """The file's text with the change."""
        text = (ROOT / self.file).read_bytes() if text is None else text
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
            sign = _COMPARED[type(op)]
            if isinstance(left, ast.Call) and getattr(left.func, "attr", "") == "random":
                sign = _OPPOSITE.get(type(op), sign)    # that they are equal never happens
            yield node, f"({of(left)} {sign} {of(right)})"
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
     "most=Memory.POOL)", "most=Memory.POOL + 1)"),
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
    """The sources and tests in a folder of their own, in which mutants are tried: each by a process
    that forks from this one, which has imported what is no part of the project."""

    def __init__(self, folder: Path, cache_folder: Path) -> None:
        self.folder = folder
        for part in (*TOPS, "tests", "constraints", "examples", "bench", "docs"):
            if (ROOT / part).exists():
                shutil.copytree(ROOT / part, folder / part,
                                ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "mkdocs.yml", "Makefile"):
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, folder / name)
        package = folder / "path" / "systolith"
        package.mkdir(parents=True)
        for part in (*TOPS, "constraints", "examples"):
            (package / part).symlink_to(folder / part)
        (package / "__init__.py").symlink_to(folder / "gen" / "api" / "__init__.py")
        (package / "py.typed").symlink_to(folder / "gen" / "api" / "py.typed")
        self._environment = {"PYTHONPATH": str(folder / "path"),
                             "SYSTOLITH_TEST_CACHE": str(cache_folder)}
        for name in _OUTSIDE:
            with suppress(ImportError):
                importlib.import_module(name)
        self._written = 0

    @contextmanager
    def _with(self, file, change):
        """The source of a file in the copy is what `change` makes of it. Its time of change is one
        that no other had, or Python would take the bytecode of the last one."""
        place = self.folder / file
        text, kept = place.read_bytes(), place.stat()
        self._written += 1
        place.write_bytes(change(text))
        os.utime(place, (self._written, self._written))
        try:
            yield
        finally:
            place.write_bytes(text)
            os.utime(place, ns=(kept.st_atime_ns, kept.st_mtime_ns))

    def _run(self, plugin, tests, limit):
        """Runs tests in a process of their own, with so many seconds of CPU time, and returns what
        `plugin` has found; with "over" where the time was up, "code" that of pytest otherwise."""
        told = self.folder / "told"
        told.unlink(missing_ok=True)
        sys.stdout.flush()
        process = os.fork()
        if not process:
            code = 9
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
                log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.environ |= self._environment
                os.chdir(self.folder)
                sys.path[:0] = [str(self.folder / "path")]
                sys.argv = ["pytest"]
                builtins._mutants_reached = plugin.now.add          # type: ignore[attr-defined]
                code = pytest.main(["-q", "-p", "no:cacheprovider", "--tb=short",
                                    "-W", "ignore::pytest.PytestAssertRewriteWarning",
                                    *plugin.OPTIONS,
                                    *sorted({name.partition("::")[0] for name in tests})],
                                   [plugin])
                told.write_text(json.dumps(plugin.found | {"code": int(code)}))
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)
        over = time.monotonic() + 10 * limit
        while not (ended := os.waitpid(process, os.WNOHANG))[0] and time.monotonic() < over:
            time.sleep(0.02)
        with suppress(ProcessLookupError):          # also what it may have left running
            os.killpg(process, signal.SIGKILL)
        if not ended[0]:
            ended = os.waitpid(process, 0)
        if told.exists():
            return json.loads(told.read_text())
        if not os.WIFSIGNALED(ended[1]):
            raise RuntimeError("pytest did not come to an end:\n"
                               + (self.folder / "log").read_text(errors="replace")[-2000:])
        return plugin.found | {"over": True}

    def reach(self, file: str, drawn: Sequence["Mutant"], tests: Sequence[str]) -> dict:
        """Which quick tests execute the statement of which mutant: {"tests": {name: {"seconds",
        "hits": numbers of mutants, "starts": whether it starts processes, in which nothing is
        seen}}, "all": numbers of those that every test executes}."""
        with self._with(file, lambda text: with_probes(text, drawn)):
            found = self._run(_Reach(), tests, _LIMIT)
        if "over" in found or found["code"] > 1:
            raise RuntimeError(f"{file}: tests do not run without a mutant:\n"
                               + (self.folder / "log").read_text(errors="replace")[-2000:])
        return found

    def tried(self, mutant: "Mutant", number: int, reach: dict | None,
              tests: Sequence[str]) -> dict:
        """What became of a mutant, the one with this `number` in `reach`: {"by": the test that
        noticed it, "time", "import" or empty, "ran": tests that ran, "seconds" of CPU time}.
        Without `reach` all tests of the files run; then "doubt" says that a test failed because it
        took long, or may fail without the mutant, too."""
        limits = None
        if reach is not None:
            chosen = {name: one for name, one in reach["tests"].items()
                      if number in one["hits"] or number in reach["all"] or one["starts"]}
            if not chosen:
                return {"by": "", "ran": 0, "seconds": 0.0}
            limits = {name: _SLOW + 10 * one["seconds"] for name, one in sorted(
                chosen.items(), key=lambda item: (item[1]["starts"], item[1]["seconds"]))}
        spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        with self._with(mutant.file, mutant.source):
            found = self._run(_Try(limits), limits or tests, _LIMIT)
        spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - spent
        by = found["failed"] or ("time" if "over" in found else
                                 "import" if found["code"] > 1 and not found["stopped"] else "")
        return {"by": by, "ran": found["ran"], "seconds": round(spent, 1)} | (
            {"doubt": True} if reach is None and (
                by == "time" or found["slow"] or found["stopped"]) else {})

    def tried_whole(self, tests: Sequence[str], mutant: "Mutant") -> dict:
        """As `tried`, against all tests of the files, however long they take."""
        spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        with self._with(mutant.file, mutant.source):
            found = self._run(_Whole(), tests, _LONGEST)
        spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - spent
        by = found["failed"] or ("time" if "over" in found else "import" if found["code"] > 1
                                 else "")
        if "::" in by and not self.passes(by):
            by = ""
        return {"by": by, "ran": found["ran"], "seconds": round(spent, 1), "whole": True}

    def passes(self, test: str) -> bool:
        """Whether a test passes without a mutant."""
        found = self._run(_Whole({test: _LIMIT}), [test], _LONGEST)
        return found.get("code") == 0


def with_probes(source: bytes, drawn: Sequence[Mutant]) -> bytes:
    """A source in which the statement of each mutant first says that it is executed."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    hits: dict[ast.stmt, list[int]] = {}
    for number, mutant in enumerate(drawn):
        inside = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)
                  and starts[node.lineno - 1] + node.col_offset <= mutant.first
                  and mutant.last <= starts[node.end_lineno - 1] + node.end_col_offset]
        hits.setdefault(max(inside, key=lambda node: (node.lineno, node.col_offset)),
                        []).append(number)
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and any(part in hits for part in value):
                value[:] = [one for part in value for one in
                            [*(ast.parse(_PROBE.format(n)).body[0] for n in hits.get(part, ())),
                             part]]
    return ast.unparse(tree).encode()


class _Slow(BaseException):
    """A test takes long, or compiles hardware."""


class _Plugin:
    """Plugin of pytest that ends tests which take more seconds of CPU time than `limit` says, or
    start a C++ compiler; they are `slow`, and neither pass nor fail."""
    OPTIONS: tuple[str, ...] = ()

    def __init__(self):
        #: Probes that have been executed.
        self.now = set()
        self.found = {"slow": []}
        self._started = False
        self._is_slow = False

    def limit(self, name):
        return _SLOW

    def _slow(self, *_):
        self._is_slow = True
        raise _Slow

    def pytest_sessionstart(self):
        signal.signal(signal.SIGPROF, self._slow)
        start = subprocess.Popen.__init__

        def started(process, args, *more, **options):
            self._started = True
            if not isinstance(args, str) and {"--cc", "Vtop.mk"} & {*map(str, args)}:
                self._slow()
            start(process, args, *more, **options)
        subprocess.Popen.__init__ = started
        os.register_at_fork(before=lambda: setattr(self, "_started", True))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self._started = self._is_slow = False
        signal.setitimer(signal.ITIMER_PROF, self.limit(item.nodeid))
        yield
        signal.setitimer(signal.ITIMER_PROF, 0)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        if self._is_slow:
            report = outcome.get_result()
            report.outcome = "skipped"
            report.longrepr = (item.nodeid, 0, "slow")
            if item.nodeid not in self.found["slow"]:
                self.found["slow"].append(item.nodeid)


class _Reach(_Plugin):
    """Which test executes which probe. What a fixture executes counts for each test that uses it,
    and caches of functions are emptied before each test."""

    def __init__(self):
        super().__init__()
        self.found |= {"tests": {}, "all": [], "broken": []}
        self._by_fixture = {}

    def pytest_collection_modifyitems(self, items):
        self.found["all"] = sorted(self.now)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        before = self.now.copy()
        self.now.clear()
        yield
        self._by_fixture.setdefault(fixturedef.argname, set()).update(self.now)
        self.now |= before

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        name = item.nodeid
        if time.process_time() > _REACH:
            self.found["slow"].append(name)
        self.now.clear()
        _empty_caches()
        start = sum(os.times()[:4])
        yield from super().pytest_runtest_protocol(item)
        if name not in self.found["slow"] and name not in self.found["broken"]:
            hits = self.now.union(*(self._by_fixture.get(one, ()) for one in item.fixturenames))
            self.found["tests"][name] = {"seconds": round(sum(os.times()[:4]) - start, 3),
                                         "hits": sorted(hits), "starts": self._started}

    def pytest_runtest_setup(self, item):
        if item.nodeid in self.found["slow"]:
            pytest.skip(f"after {_REACH} s of CPU time; counts for no mutant")

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.found["broken"].append(report.nodeid)


class _Try(_Plugin):
    """The tests that have `limits`, in their order, or else all, until one fails or takes longer
    than its limit."""
    OPTIONS = ("-x",)

    def __init__(self, limits):
        super().__init__()
        self.found |= {"failed": "", "ran": 0, "stopped": False}
        self._limits = limits
        self._order = {name: n for n, name in enumerate(limits or ())}

    def limit(self, name):
        return self._limits[name] if self._limits else _SLOW

    def _slow(self, *_):
        if self._limits:
            raise AssertionError("takes longer")
        super()._slow()

    def pytest_collection_modifyitems(self, items):
        if self._limits:
            items[:] = sorted((item for item in items if item.nodeid in self._order),
                              key=lambda item: self._order[item.nodeid])

    def pytest_runtest_setup(self, item):
        self.found["ran"] += 1
        if self._limits is None and time.process_time() > _REACH:
            item.session.shouldstop, self.found["stopped"] = "no time", True

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.found["failed"]:
            self.found["failed"] = report.nodeid


class _Whole(_Try):
    """All tests, or those that are named, however long they take and whatever they start."""

    def __init__(self, limits=None):
        super().__init__(limits)

    def limit(self, name):
        return 0

    def _slow(self, *_):
        pass

    def pytest_runtest_setup(self, item):
        self.found["ran"] += 1


def _empty_caches():
    kind = type(cache(lambda: None))
    for name, module in list(sys.modules.items()):
        if name.startswith(("systolith.", "tests.")):
            for value in list(vars(module).values()):
                for one in (value, *(vars(value).values() if isinstance(value, type) else ())):
                    if isinstance(one, kind):
                        one.cache_clear()


def _state(file, tests, root=None):
    """A hash of what a result depends on: the file and its tests."""
    digest = hashlib.sha256()
    for name in (file, *tests):
        digest.update(((root or ROOT) / name).read_bytes())
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
    """What the results say of the sample: how many mutants were `drawn`, `tried` and `killed`, and
    the `survivors`: {id: why it changes nothing that counts, empty where nobody has judged it}."""
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
    alike = sum(map(bool, survivors.values()))
    share = found["killed"] / max(1, found["tried"])
    rest = found["killed"] / max(1, found["tried"] - alike)
    print(f"{found['tried']} of {found['drawn']} mutants tried, {found['killed']} noticed "
          f"({share:.1%}), {len(survivors)} not, of which {alike} change nothing that counts "
          f"({rest:.1%} of the others noticed)")


def try_all(copy: Copy, wanted: Sequence[Mutant], whole: bool = False
            ) -> Iterator[tuple[Mutant, dict]]:
    """What becomes of mutants, those of a file together; `whole`: against slow tests, too."""
    def by_file(mutant):
        return hashlib.sha256(mutant.file.encode()).digest()

    for _, group in groupby(sorted(wanted, key=by_file), key=by_file):
        drawn = list(group)
        file = drawn[0].file
        tests = tests_of(file)
        reach = None
        for number, mutant in enumerate(drawn):
            if whole:
                found = copy.tried_whole(tests, mutant)
                yield mutant, found | {"state": _state(file, tests, copy.folder)}
                continue
            found = None
            if len(drawn) == 1:         # which tests reach it costs more than running all
                found = copy.tried(mutant, number, None, tests)
                if found.pop("doubt", False) or ("::" in found["by"]
                                                 and not copy.passes(found["by"])):
                    found = None
            if found is None:
                reach = reach or copy.reach(file, drawn, tests)
                found = copy.tried(mutant, number, reach, tests)
            yield mutant, found | {"state": _state(file, tests, copy.folder)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--named", action="store_true", help="the faults that are listed by name")
    parser.add_argument("--count", type=int, default=300, help="how many are drawn")
    parser.add_argument("--seed", default="1", help="what they are drawn by")
    parser.add_argument("--part", default="1/1", help="the Nth of M parts: N/M")
    parser.add_argument("--again", action="store_true",
                        help="also those that were noticed, where source or tests have changed")
    parser.add_argument("--new", action="store_true", help="only what has never been tried")
    parser.add_argument("--whole", action="store_true",
                        help="survivors that are not judged, against slow tests as well")
    parser.add_argument("--file", default="", help="mutants of files with this in their name only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="lines of JSON")
    parser.add_argument("--report", action="store_true", help="try none, say what is known")
    arguments = parser.parse_args()
    if arguments.report:
        _print(summary(arguments.count, arguments.seed, arguments.results))
        return
    results = {} if arguments.named else known(arguments.results)
    part, _, parts = arguments.part.partition("/")
    names = {mutant: what for what, mutant in named()} if arguments.named else {}
    wanted = [mutant for mutant in names or sample(arguments.count, arguments.seed)
              if arguments.file in mutant.file
              and int(hashlib.sha256(mutant.file.encode()).hexdigest(), 16) % int(parts)
              == int(part) - 1]
    for mutant in list(wanted):
        # asked for now and remembered: the sources may change while the copy is worked on
        tests, old = tests_of(mutant.file), results.get(mutant.id)
        same = old and old["state"] == _state(mutant.file, tests)
        if arguments.whole:
            if not old or old["by"] or mutant.id in judged() or (same and "whole" in old):
                wanted.remove(mutant)
        elif old and (arguments.new or same or (
                not arguments.again and (old["by"] or mutant.id in judged()))):
            wanted.remove(mutant)
    missed = 0
    with TemporaryDirectory(prefix="mutants-") as folder:
        kept = ROOT / "build" / "mutants-cache"
        kept.mkdir(parents=True, exist_ok=True)
        for mutant, found in try_all(Copy(Path(folder), kept), wanted, arguments.whole):
            missed += not found["by"]
            if not arguments.named:
                with arguments.results.open("a") as out:
                    out.write(json.dumps({"id": mutant.id} | found) + "\n")
            print(f"{found['seconds']:5.1f} s {found['ran']:4} tests  "
                  f"{'killed by ' + found['by'] if found['by'] else 'SURVIVED'}: "
                  f"{names.get(mutant, mutant.id)}", flush=True)
    if arguments.named:
        sys.exit(f"{missed} survived" if missed else 0)
    _print(summary(arguments.count, arguments.seed, arguments.results))


if __name__ == "__main__":
    main()

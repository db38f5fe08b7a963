"""The parts of the verification, in the order of the report."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from systolith.gen.kit.errors import UserError

from .part import Figure, Part, Settings, command, repository, seconds_of
from .speed import speed

__all__ = ["PARTS"]

_STUDY = "systolith.gen.study"


def _count(number: int) -> str:
    return f"{number:,}"


def _root() -> Path:
    root = repository()
    if root is None:
        raise UserError("this part needs the repository (tests/, bench/), not an installed "
                        "package: git clone it, pip install --editable '.[dev]', run it there")
    return root


# The core.

def _faults(settings: Settings) -> list[Figure]:
    from systolith.gen.study.regress import regress
    seeds = 2 if settings.quick else 54
    chips = ["random-3"] if settings.quick else None
    cases = regress(chips, seeds, settings.jobs, show=settings.show)
    kinds = Counter(kind for case in cases for kind in case.trouble)
    wrong = sum(bool(case.failure) for case in cases)
    return [
        Figure("seeds, each a program, a network and four runs in trouble, on chips",
               f"{len(cases)} on {len({case.chip for case in cases})}"),
        Figure("clocks in RTL", _count(sum(case.clocks for case in cases))),
        *(Figure(f"runs with {kind}", str(count)) for kind, count in sorted(kinds.items())),
        Figure("good runs at once after a soft or hard reset", str(len(cases) - wrong)),
        Figure("seeds that failed (results, order of writes, memory, cycles, errors)", str(wrong),
               "0", not wrong),
        Figure("networks refused by the compiler, for reasons that are known",
               str(sum(bool(case.refused) for case in cases)))]


def _flips(settings: Settings) -> list[Figure]:
    from .flips import SILENT, flips
    found, count = flips(400 if settings.quick else 1, instructions=21)
    return [Figure(f"bits flipped of a program of {count} instructions",
                   _count(sum(found.values()))),
            *(Figure(what, _count(number)) for what, number in sorted(found.items())
              if what != SILENT),
            Figure("silently wrong", str(found[SILENT]), "0", not found[SILENT]),
            *_cost_of_checksum(settings)]


def _cost_of_checksum(settings: Settings) -> list[Figure]:
    """What the sum of fetched instructions takes, as a difference of two areas."""
    from systolith.gen.chip.toml import load_chip
    from systolith.gen.measure.module_area import module_area
    name = "tiny-2x4-int4"
    chip = load_chip(name)
    with_it, without = (module_area(replace(chip, checksum=has)).total for has in (True, False))
    of = f"of the checksum on an ECP5 (control.checksum), {name}"
    return [Figure(f"LUT4 {of}", str(with_it.lut - without.lut)),
            Figure(f"flip-flops {of}", str(with_it.ff - without.ff)),
            Figure("cycles of the checksum (tests/hw/core/test_sequencer.py)", "0")]


def _coverage(settings: Settings) -> list[Figure]:
    from systolith.gen.study.coverage import Covered, wrong_reasons
    from systolith.gen.study.regress import regress
    covered = Covered()
    chips = ["random-1"] if settings.quick else None
    cases = regress(chips, 1 if settings.quick else 66, settings.jobs, coverage=covered,
                    show=settings.show)
    return coverage_figures(
        covered.figures(), sorted(covered.cores), len(cases),
        [list(item) for item in covered.uncovered()],
        wrong_reasons(covered, every=chips is None))


def coverage_figures(figures: dict, chips: Sequence[str], seeds: int, uncovered: Sequence,
                     wrong: Sequence[str]) -> list[Figure]:
    """What `regress --coverage` says, as figures."""
    wanted = {"lines": 0.97}
    found = [Figure("chips, seeds", f"{len(chips)} ({', '.join(chips)}), {seeds}")]
    for name, (met, total) in figures.items():
        share = met / max(total, 1)
        least = wanted.get(name)
        found.append(Figure(f"{name} covered", f"{share:.1%} of {total:,}",
                            f"{least:.0%}" if least else "", share >= least if least else None))
    lines = [item for item in uncovered if item[0] not in (
        "BEGIN", "LOAD", "ARRAY", "POST", "STORE", "END")]
    found += [Figure(f"not covered: {where}", f"{what[:60]} ({count})", why or "no reason known",
                     bool(why)) for where, what, count, why in lines]
    without = sum(not item[3] for item in uncovered)
    found.append(Figure("lines and values of fields not covered, without a reason",
                        f"{without} of {len(uncovered)}", "0", not without))
    found += [Figure("reasons that do not hold", text, "none", False) for text in wrong]
    return found


# Tests of the tests, proofs, inputs.

def _mutants(settings: Settings) -> list[Figure]:
    import importlib.util
    root = _root()
    spec = importlib.util.spec_from_file_location("mutants", root / "bench" / "mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    found = module.summary(300, "1")
    survivors = found["survivors"]
    alike = sum(map(bool, survivors.values()))
    share = found["killed"] / max(1, found["tried"] - alike)
    return [
        Figure("mutants drawn over hw, sim and gen", str(found["drawn"]), "300",
               found["drawn"] >= 300),
        Figure("tried", str(found["tried"]), str(found["drawn"]),
               found["tried"] == found["drawn"]),
        Figure("noticed by the tests of their file", str(found["killed"])),
        Figure("noticed of all tried", f"{found['killed'] / max(1, found['tried']):.1%}", "95 %",
               found["killed"] >= 0.95 * found["tried"]),
        Figure("noticed of those that change what counts", f"{share:.1%}", "95 %", share >= 0.95),
        *(Figure(f"survived: {name}", why or "open") for name, why in survivors.items())]


def _proofs(settings: Settings) -> list[Figure]:
    import tempfile
    root = _root()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        select = "handshake" if settings.quick else "proofs or induction"
        made, _, spent = seconds_of(lambda: command(
            "-m", "pytest", "-q", "-m", "", "-n", "0", "-p", "no:cacheprovider",
            f"--junitxml={report}", "-k", select, "tests/hw/core", cwd=root))
        if not report.exists():
            raise UserError(f"the proofs did not run: {made.stdout[-300:]}{made.stderr[-300:]}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None
              or case.find("error") is not None]
    rows = Counter[str]()
    times: dict[str, float] = {}
    for case in cases:
        name = f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name', '')}".partition(
            "[")[0].replace("_", " ")
        rows[name] += 1
        times[name] = times.get(name, 0) + float(case.get("time", "0"))
    return [*(Figure(name, f"{count} cases, {times[name]:.1f} s") for name, count in rows.items()),
            Figure("proofs and planted faults that failed", str(len(failed)), "0", not failed),
            Figure("processor time together", f"{spent:.0f} s", "180 s", spent < 180)]


def _fuzz(settings: Settings) -> list[Figure]:
    root = _root()
    count = 2 if settings.quick else 200
    made = command("bench/fuzz.py", "--count", str(count), cwd=root)
    return [*(Figure("fuzz", line) for line in made.stdout.splitlines() if line.strip()),
            Figure("inputs that ended in anything but a result or one message, "
                   "or took over 20 s or 2 GiB", "none" if made.returncode == 0 else
                   made.stderr[-200:] or "some", "none", made.returncode == 0)]


def _inputs(settings: Settings) -> list[Figure]:
    from .inputs import CASES, tried
    found = []
    for name in list(CASES)[:2] if settings.quick else CASES:
        outcome = tried(name)
        settings.show(f"{name}: {outcome.wrong or 'as it should'}")
        found.append(Figure(
            name, outcome.wrong or f"exit code {outcome.code}, {outcome.seconds:.1f} s, "
            f"{outcome.memory >> 20} MiB", "one line or a result; 60 s, 2 GiB", not outcome.wrong))
    return found


# Independent judges.

def _runtime(settings: Settings) -> list[Figure]:
    try:
        from systolith.gen.study.runtime.cases import ABSENT, CASES, missing
        from systolith.gen.study.runtime.judge import Verdict, compared
    except ImportError as error:
        raise UserError(f"this part compares with ONNX Runtime: {error}; pip install "
                        "'systolith[quantize]'") from None
    operators = list(CASES)[:4] if settings.quick else list(CASES)
    found = [Figure("operators that the importer reads, with a network of their own",
                    f"{len(CASES)}; without: {', '.join(missing()) or 'none'}", "none",
                    not missing()),
             *(Figure(f"not compared: {name}", why) for name, why in ABSENT.items())]
    for scales, words in (("two", "powers of two"), ("any", "any float32"),
                          ("simple", "multiples of 0.01")):
        total = Verdict()
        for operator in operators:
            for seed in range(1 if settings.quick else 4):
                for kind in (np.int8, np.uint8):
                    total.add(compared(operator, seed, scales, kind, images=4))
        settings.show(f"{words}: {total.codes} codes, {len(total.wrong)} wrong")
        of = f"scales are {words}: "
        found += [Figure(f"{of}networks, codes", f"{total.networks:,}, {total.codes:,}"),
                  Figure(f"{of}codes that differ", str(total.differ),
                         *(("0", not total.differ) if scales == "two" else ()))]
        if scales != "two":
            found += [
                Figure(f"{of}of these, exactly half-way between two codes", str(total.ties)),
                Figure(f"{of}of these, nearer to half-way than float32 is exact",
                       f"{total.near} (at most {total.farthest:.0%} of the bound)"),
                Figure(f"{of}codes whose exact number is half-way", _count(total.exact_ties)),
                Figure(f"{of}codes for which the golden model is not the nearest, by as little",
                       str(total.golden))]
        found.append(Figure(f"{of}codes that are wrong", str(len(total.wrong)), "0",
                            not total.wrong))
        found += [Figure("wrong", text) for text in total.wrong[:5]]
    return found


def _netlist(settings: Settings) -> list[Figure]:
    import json
    import tempfile

    import numpy as np
    found = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cli = ("-m", "systolith.gen.cli")
        command(*cli, "demo", "--files", "digits", cwd=place)
        made = command(*cli, "build", "digits/digits-mlp-bnn.onnx", "--chip", "tiny-2x4-bnn",
                       "--no-area", "-o", "out", cwd=place)
        if made.returncode:
            raise UserError(f"the build failed: {made.stderr[-300:]}")
        images = np.load(place / "digits" / "x.npy")
        np.save(place / "x.npy", images[:1].reshape(1, -1))
        for kind in ("ecp5",) if settings.quick else ("gates", "ecp5", "xc7", "ice40"):
            run = command(*cli, "simulate", "out", "--engine", "rtl", "--netlist", kind, "--inputs",
                          "x.npy", "--json", "run.json", cwd=place)
            value = run.stderr.strip().splitlines()[-1:] or [f"exit code {run.returncode}"]
            if (place / "run.json").exists():
                value = [json.dumps(json.loads((place / "run.json").read_text()))[:120]]
                (place / "run.json").unlink()
            lines = [line for line in run.stdout.splitlines() if "bits" in line]
            found.append(Figure(f"digits-mlp-bnn on tiny-2x4-bnn as {kind}, layer by layer",
                                (lines or value)[0].strip(), "0 bits differ",
                                run.returncode == 0 and bool(lines)))
            settings.show(f"{kind}: exit code {run.returncode}")
    return found


def _same(settings: Settings) -> list[Figure]:
    import sys

    from .same import ask, job, pythons
    what = job(settings.quick)
    found, first = [], None
    others = [] if settings.quick and not settings.pythons else pythons(settings.pythons)
    for python, seed in [(sys.executable, "1"), (sys.executable, "2"),
                         *((item, "3") for item in others)]:
        version, hashes = ask(python, what, seed)
        settings.show(f"Python {version}, hash seed {seed}: {len(hashes)} hashes"
                      if isinstance(hashes, dict) else f"{version}: {hashes}")
        name = f"Python {version}, hash seed {seed}"
        if isinstance(hashes, str):
            found.append(Figure(name, hashes, "same bytes" if python in settings.pythons else "",
                                False if python in settings.pythons else None))
            continue
        first = first or hashes
        off = [key for key in hashes if hashes[key] != first.get(key)]
        found.append(Figure(name, f"{len(hashes) - len(off)} of {len(hashes)} cores and programs "
                            f"the same{': not ' + ', '.join(off[:3]) if off else ''}",
                            "same bytes", not off and len(hashes) == len(first)))
    return found


def _part(name: str, title: str, run: Callable[[Settings], list[Figure]], *modules: str,
          **more: object) -> Part:
    return Part(name, title, tuple(f"{_STUDY}.{item}" for item in modules), run, **more)  # type: ignore[arg-type]


PARTS: dict[str, Part] = {part.name: part for part in (
    _part("faults", "Faults and resets of the core in RTL", _faults, "regress", takes="minutes"),
    _part("flips", "Single-bit flips of a program", _flips, "verify.flips", takes="minutes"),
    _part("coverage", "Coverage of the regression", _coverage, "regress", "coverage",
          takes="three minutes"),
    _part("mutants", "Mutants", _mutants, "verify.part", repository=True,
          files=("bench/mutants*", "hw/**/*.py", "sim/**/*.py", "gen/**/*.py")),
    _part("proofs", "Proofs by induction, on four chips each", _proofs, "verify.part",
          repository=True, files=("hw/core/*.py", "tests/hw/core/*proofs*.py",
                                  "tests/hw/core/test_shared_bus.py"), takes="three minutes"),
    _part("fuzz", "Damaged inputs", _fuzz, "verify.part", repository=True,
          files=("bench/fuzz*.py", "gen/importer/**/*.py", "gen/chip/*.py"), takes="minutes"),
    _part("inputs", "Hostile inputs, and folders", _inputs, "verify.inputs", takes="a minute"),
    _part("runtime", "Every operator against ONNX Runtime", _runtime, "runtime.judge",
          tools=("numpy", "onnx"), takes="two minutes"),
    _part("netlist", "Netlists after synthesis", _netlist, "verify.part",
          files=("hw/core/*.py", "gen/measure/*netlist*.py"), takes="minutes"),
    _part("bytes", "The same bytes on hash seeds and versions of Python", _same, "verify.same",
          tools=("amaranth", "pyosys"), takes="minutes for each version"),
    _part("speed", "Speed", speed, "regress", takes="minutes"))}

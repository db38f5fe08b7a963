"""Random programs and networks: the core in Verilator against the instruction-level simulator.

A seed stands for one random program and one random network, with random latency and stalls of the
memory. Every result of post-processing, every byte that is written, in order, and the memory in
the end must be the same; a network's outputs must also be what the golden model says, and where
the memory does not stall, the core takes the cycles that the cycle model says.

The program runs four times more in trouble: the memory answers wrongly somewhere, something is
wrong with its code, or the run is broken off. Such a run must end with an error or with the right
results, break no rule of the bus, and at once after a soft or a hard reset the same program must
run as if nothing had been. With the first seeds a program comes that gives fields of instructions
every value that the chip executes, as far as it can.
"""

import os
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.tokens import synchronize
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.faults import save_fault
from systolith.hw.spec.arch import KEYS, Arch
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.memory_plan import MemoryPlanError
from systolith.sim.random.arch import random_arch
from systolith.sim.random.graphs import random_graph
from systolith.sim.random.programs import random_program
from systolith.sim.random.values import program_of_values
from systolith.sim.rtl import core as rtl
from systolith.sim.rtl.verilate import SimulationError

from .coverage import Covered
from .judge import check_order, difference, wrong_cycles
from .known_cores import core_verilog
from .trouble import in_trouble, kind_of, told, vain_reset, wrong_end

__all__ = ["EXPECTED", "Case", "chip", "regress"]

#: Seeds that one simulation runs, and clock cycles after which a run has failed.
_SEEDS_AT_ONCE, _LIMIT = 25, 2_000_000
#: The seeds below it, one or more of each chip, have a program that gives fields many values, too.
_MANY_VALUES = 16
#: Runs of each program in trouble.
_TROUBLES = 4
#: Parts that a chip may have.
_OPTIONS = [key.field for key in KEYS.values() if key.optional]
#: For which reasons the compiler may refuse a random network, as patterns: nothing else is known of
#: the networks that `random_graph` makes for a chip but these. Any other refusal fails.
EXPECTED = (
    # Accumulators that saturate do so pass by pass; lanes without channel would add to that.
    r"could saturate accumulators of \d+ bits at another point; set array\.accumulator",
    # Each pass is made twice where padding meets an odd number of lanes without channel.
    r"pairs of passes could saturate accumulators of \d+ bits; set array\.accumulator",
    # A window that is pooled must be summed up as a whole.
    r"a pooling window of .* needs \d+ accumulator words, the chip has \d+; raise",
    # The network without signs would be another one.
    r"signs of .* do not fit the chip",
    # Random scales may want finer factors than narrow multipliers have.
    r"needs finer multipliers than the chip's \d+ bits, .* set post\.multiplier_bits",
    # So may they want finer biases, where a step of the sums is many of the results.
    r"the chip holds only \d+ fraction bits of a bias; set post\.bias_fraction",
    # Random chips count as few as 64 tokens.
    r"a unit would be \d+ tokens ahead of another one, and the chip counts \d+; set control\.",
)


@dataclass
class Case:
    """One seed on one chip: what failed (empty: nothing), whether by a fault of the compiler's,
    why its network was refused (empty: it was not), what it took, what went wrong on purpose."""
    chip: str
    seed: int
    failure: str = ""
    refused: str = ""
    clocks: int = 0
    seconds: float = 0.0
    fault: bool = False
    trouble: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that repeats the case with waveforms."""
        return f"systolith regress --chips {self.chip} --seed {self.seed} --waves run.fst"


def chip(name: str) -> Arch:
    """The chip of that name: `random-N` for a random one, else a preset or a TOML file."""
    prefix, _, number = name.partition("-")
    if prefix == "random" and number.isdecimal():
        return random_arch(int(number))
    return load_chip(name)


def regress(chips: Sequence[str] | None = None, seeds: int = 20, jobs: int = 1,
            junit: Path | str | None = None, *, seed: int | None = None,
            waves: Path | str | None = None, coverage: Covered | None = None,
            show: Callable[[str], object] = print) -> list[Case]:
    """Run seeds on chips and say what came of each.

    Parameters
    ----------
    chips : list of str or None
        Names, see `chip`; the seeds go round them. None: random chips, at least 4, and as many as
        it takes to have every optional part.
    seeds : int
        Seeds 0 to seeds - 1.
    jobs : int
        Simulations that run at the same time.
    junit : path or None
        JUnit XML file to write.
    seed : int or None
        This seed alone, on every chip.
    waves : path or None
        FST file to write; with one chip and `seed` only.
    coverage : Covered or None
        To which is added what the runs cover; they take several times as long.
    show : function of a line of text

    A network that the compiler refuses for one of the reasons in `EXPECTED` is counted; refusals
    for other reasons fail, and so does a regression in which all networks were refused.

    Returns the list of `Case`, all of which have passed where none has a `failure`. Raises
    UserError for a chip that does not exist and for arguments that do not go together.
    """
    if seeds < 1 or jobs < 1:
        raise UserError(f"--seeds and --jobs must be at least 1, not {min(seeds, jobs)}")
    names = list(chips or _random_chips(max(4, -(-seeds // 25))))
    if waves is not None and (seed is None or len(names) != 1):
        raise UserError("--waves needs --seed and one chip: waveforms are of one seed")
    for name in names:
        chip(name)
    if seed is not None:
        parts = [(name, [seed]) for name in names]
    else:
        mine = {name: [n for n in range(seeds) if names[n % len(names)] == name] for name in names}
        parts = [(name, part[first:first + _SEEDS_AT_ONCE]) for name, part in mine.items()
                 for first in range(0, len(part), _SEEDS_AT_ONCE)]
    start, cases = time.monotonic(), []

    def report(done, covered):
        if coverage is not None:
            coverage.add(covered)
        for case in done:
            text = f"FAILED\n  {case.failure}\n  repeat: {case.command}" if case.failure else "ok"
            note = f" (no network: {case.refused})" if case.refused else ""
            show(f"{case.chip} seed {case.seed}: {case.clocks} clocks, {text}{note}")
        cases.extend(done)

    if jobs == 1 or len(parts) == 1:
        for part in parts:
            report(*_run_part(*part, waves, coverage is not None))
    else:
        # Parts of one chip follow each other, so that its executable is compiled once.
        by_chip = {name: [part for part in parts if part[0] == name] for name, _ in parts}
        with ProcessPoolExecutor(jobs) as pool:
            for future in as_completed([pool.submit(_run_parts, mine, coverage is not None)
                                        for mine in by_chip.values()]):
                for done in future.result():
                    report(*done)
    cases.sort(key=lambda case: (names.index(case.chip), case.seed))
    refused = sum(bool(case.refused) for case in cases)
    if refused == len(cases) and seed is None:
        for case in cases:
            case.failure = case.failure or "the compiler refused the network, and all others, too"
    failed = sum(bool(case.failure) for case in cases)
    seconds = time.monotonic() - start
    show(f"{len(cases)} seeds on {len({case.chip for case in cases})} chips in {seconds:.0f} s, "
         f"{sum(case.clocks for case in cases)} clocks, {refused} networks refused: "
         + (f"{failed} FAILED" if failed else "all passed"))
    if junit is not None:
        _write_junit(cases, seconds, Path(junit))
    return cases


def _random_chips(count):
    """Names of random chips: first those with an option that no chip before has."""
    fresh: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    while len(seen) < len(_OPTIONS) or len(fresh) + len(others) < count:
        name = f"random-{len(fresh) + len(others)}"
        arch = chip(name)
        has = {field for field in _OPTIONS if getattr(arch, field)} - seen
        (fresh if has else others).append(name)
        seen |= has
    return (fresh + others)[:max(count, len(fresh))]


def _run_parts(parts, coverage):
    return [_run_part(name, seeds, None, coverage) for name, seeds in parts]


def _run_part(name, seeds, waves, coverage):
    """(cases of some seeds on one chip, `Covered`), of one simulation."""
    arch, start, covered = chip(name), time.monotonic(), Covered()
    cases = [Case(name, seed) for seed in seeds]
    prepared = []
    for case in cases:
        try:
            prepared += [(case, *item) for item in (*_prepare(arch, case),
                                                    *_many_values(arch, case))]
        except (AssertionError, MemoryPlanError) as error:
            case.failure = str(error)
        except Exception as error:
            case.failure, case.fault = save_fault(error, case.command), True
    if prepared:
        try:
            simulation = rtl.simulate(core_verilog(arch), [item[1] for item in prepared],
                                      waves=waves, strict=False, coverage=coverage)
        except SimulationError as error:
            text = str(error)
            for case, *_ in prepared:
                if not case.failure:
                    case.failure = text
                    text = f"the simulation failed, as seed {prepared[0][0].seed} says"
        else:
            if simulation.coverage is not None:
                covered.cores[name], covered.arches[name] = simulation.coverage, arch
                for _, job, *_ in prepared:
                    covered.run(job.program.instructions, arch)
            for (case, job, expected, what), runs in zip(prepared, simulation.runs, strict=True):
                case.clocks += sum(run.cycles for run in runs)
                wrong = (wrong_end(runs[0], expected, job) if job.again else "") or (
                    vain_reset(runs[-1], job)
                    or difference(runs[-1], expected, job.program) or wrong_cycles(runs[-1], job))
                if wrong and not case.failure:
                    case.failure = f"{what}: {wrong}"
    for case in cases:
        case.seconds = (time.monotonic() - start) / len(cases)
    return cases, covered


def _prepare(arch, case):
    """[(Job, Simulator after the same run, what it is)] of a seed."""
    draw = random.Random(f"memory {case.seed}")

    def job(program, writes):
        return rtl.Job(program, [rtl.Run(writes, [(0, program.window_bytes)])],
                       latency=draw.choice((1, 2, 7, 32, 100)),
                       stalls=draw.choice((0.0, 0.05, 0.3, 0.7)), seed=case.seed, limit=_LIMIT)

    program = random_program(arch, case.seed, synchronize)
    simulator = Simulator(arch, bytearray(program.image))
    simulator.run(program.instructions, case.seed)
    found = [(job(program, []), simulator, "program")]
    troubles = in_trouble(job(program, []), case.seed, _TROUBLES)
    case.trouble = tuple(map(kind_of, troubles))
    found += [(trouble, simulator, f"program with {told(trouble)}") for trouble in troubles]

    graph, codes = random_graph(arch, case.seed)
    batch = random.Random(f"batch {case.seed}").choice((1, 1, 2, 3, 4))
    codes = {name: np.concatenate([np.roll(values, n, axis=-1) for n in range(batch)])
             for name, values in codes.items()}
    try:
        program = compile_graph(graph, arch, batch)
    except UserError as error:
        case.refused = str(error)
        if not any(re.search(pattern, case.refused) for pattern in EXPECTED):
            case.failure = ("the compiler refused the network for none of the reasons that are "
                            f"expected: {error}")
        return found
    check_order(program)
    given: dict[str, Any] = codes if batch > 1 else {
        name: values[0] for name, values in codes.items()}
    section = pack_inputs(program, given)
    memory = bytearray(program.window_bytes)
    memory[:len(program.image)] = program.image
    offset = program.host.input_offset
    memory[offset:offset + len(section)] = section
    # The whole window is written, so that what the program leaves alone can be compared, too.
    found.append((job(program, [(0, bytes(memory))]), Simulator(arch, memory), "network"))
    simulator = found[-1][1]
    simulator.run(program.instructions, case.seed)
    first = program.host.output_offset
    outputs = unpack_outputs(program, bytes(memory[first:first + program.host.output_bytes]))
    golden = graph.run(codes, arch)
    for name in graph.outputs:
        if not np.array_equal(outputs[name].reshape(golden[name].shape), golden[name]):
            raise AssertionError(f"the compiled network's output {name!r} is not the golden "
                                 "model's")
    return found


def _many_values(arch, case):
    """What `_prepare` returns, of a program that gives fields many values."""
    if case.seed >= _MANY_VALUES:
        return []
    program = program_of_values(arch, case.seed, synchronize)
    simulator = Simulator(arch, bytearray(program.image))
    simulator.run(program.instructions, case.seed)
    draw = random.Random(f"memory of many values {case.seed}")
    return [(rtl.Job(program, [rtl.Run([], [(0, program.window_bytes)])],
                     latency=draw.choice((1, 7, 32)), stalls=draw.choice((0.0, 0.05)),
                     seed=case.seed, limit=_LIMIT), simulator, "program of many values")]


def _write_junit(cases, seconds, path):
    suite = ElementTree.Element("testsuite", name="systolith regress", tests=str(len(cases)),
                                failures=str(sum(bool(case.failure) for case in cases)),
                                time=f"{seconds:.3f}")
    for case in cases:
        item = ElementTree.SubElement(suite, "testcase", classname=case.chip,
                                      name=f"seed {case.seed}", time=f"{case.seconds:.3f}")
        if case.failure:
            failure = ElementTree.SubElement(item, "failure",
                                             message=case.failure.splitlines()[-1])
            failure.text = f"{case.failure}\nrepeat: {case.command}"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        ElementTree.ElementTree(suite).write(temporary, encoding="utf-8", xml_declaration=True)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}") from None

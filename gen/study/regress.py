"""Random programs and networks: the core in Verilator against the instruction-level simulator.

A seed stands for one random program and one random network, with random latency and stalls of the
memory. Every result of post-processing, every byte that is written, in order, and the memory in
the end must be the same; a network's outputs must also be what the golden model says, and where
the memory does not stall, the core takes the cycles that the cycle model says.

The program runs a second time in trouble: the memory answers wrongly somewhere, or the run is
broken off. It must end with an error or with the right results, break no rule of the bus, and at
once after a soft or a hard reset the same program must run as if nothing had been.
"""

import os
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.tokens import synchronize
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.faults import save_fault
from systolith.hw.spec import words as layout
from systolith.hw.spec.arch import KEYS, Arch
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.memories import word_bytes
from systolith.hw.spec.registers import ErrorCode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.memory_plan import MemoryPlanError, check_memory_plan
from systolith.sim.machine.races import find_races, find_stall
from systolith.sim.random.arch import random_arch
from systolith.sim.random.graphs import random_graph
from systolith.sim.random.programs import random_program
from systolith.sim.rtl import core as rtl
from systolith.sim.rtl.verilate import SimulationError

__all__ = ["EXPECTED", "Case", "chip", "regress"]

#: Seeds that one simulation runs, and clock cycles after which a run has failed.
_SEEDS_AT_ONCE, _LIMIT = 25, 2_000_000
#: Cycles without progress that end a run in trouble.
_WATCHDOG = 2000
#: What may go wrong, and what the core may then say, if it was met at all; None: anything. A beat
#: that is wrong may be part of an instruction, whose errors are as good.
_ANSWERS = {
    rtl.READ_ERROR: {ErrorCode.BUS}, rtl.WRITE_ERROR: {ErrorCode.BUS},
    rtl.READ_SILENT: {ErrorCode.WATCHDOG}, rtl.WRITE_SILENT: {ErrorCode.WATCHDOG},
    rtl.LAST: {ErrorCode.PROTOCOL},
    rtl.TWICE: {ErrorCode.PROTOCOL, ErrorCode.ILLEGAL, ErrorCode.IDENTITY},
    rtl.LOST: {ErrorCode.PROTOCOL, ErrorCode.ILLEGAL, ErrorCode.IDENTITY, ErrorCode.WATCHDOG}}
#: After which a soft reset may be in vain: the memory owes something.
_OWING = {rtl.READ_SILENT, rtl.WRITE_SILENT, rtl.LOST}
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
)


@dataclass
class Case:
    """One seed on one chip: what failed (empty: nothing), whether by a fault of the compiler's,
    why its network was refused (empty: it was not), what it took."""
    chip: str
    seed: int
    failure: str = ""
    refused: str = ""
    clocks: int = 0
    seconds: float = 0.0
    fault: bool = False

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
            waves: Path | str | None = None, show: Callable[[str], object] = print) -> list[Case]:
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

    def report(done):
        for case in done:
            text = f"FAILED\n  {case.failure}\n  repeat: {case.command}" if case.failure else "ok"
            note = f" (no network: {case.refused})" if case.refused else ""
            show(f"{case.chip} seed {case.seed}: {case.clocks} clocks, {text}{note}")
        cases.extend(done)

    if jobs == 1 or len(parts) == 1:
        for part in parts:
            report(_run_part(*part, waves))
    else:
        # Parts of one chip follow each other, so that its executable is compiled once.
        by_chip = {name: [part for part in parts if part[0] == name] for name, _ in parts}
        with ProcessPoolExecutor(jobs) as pool:
            for future in as_completed([pool.submit(_run_parts, mine)
                                        for mine in by_chip.values()]):
                report(future.result())
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
        has = {field for field in _OPTIONS if getattr(chip(name), field)} - seen
        (fresh if has else others).append(name)
        seen |= has
    return (fresh + others)[:max(count, len(fresh))]


def _run_parts(parts):
    return [case for name, seeds in parts for case in _run_part(name, seeds, None)]


def _run_part(name, seeds, waves):
    """Cases of some seeds on one chip, in one simulation."""
    arch, start = chip(name), time.monotonic()
    cases = [Case(name, seed) for seed in seeds]
    prepared = []
    for case in cases:
        try:
            prepared += [(case, *item) for item in _prepare(arch, case)]
        except (AssertionError, MemoryPlanError) as error:
            case.failure = str(error)
        except Exception as error:
            case.failure, case.fault = save_fault(error, case.command), True
    if prepared:
        try:
            simulation = rtl.simulate(core_verilog(arch), [item[1] for item in prepared],
                                      waves=waves, strict=False)
        except SimulationError as error:
            text = str(error)
            for case, *_ in prepared:
                if not case.failure:
                    case.failure = text
                    text = f"the simulation failed, as seed {prepared[0][0].seed} says"
        else:
            for (case, job, expected, what), runs in zip(prepared, simulation.runs, strict=True):
                case.clocks += sum(run.cycles for run in runs)
                difference = (_wrong_end(runs[0], expected, job) if job.again else "") or (
                    _vain_reset(runs[-1], job)
                    or _difference(runs[-1], expected, job.program) or _wrong_cycles(runs[-1], job))
                if difference and not case.failure:
                    case.failure = f"{what}: {difference}"
    for case in cases:
        case.seconds = (time.monotonic() - start) / len(cases)
    return cases


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
    trouble = _in_trouble(job(program, []), random.Random(f"trouble {case.seed}"))
    found.append((trouble, simulator, f"program with {_told(trouble)}"))

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
    _check_order(program)
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


def _in_trouble(job, draw):
    """The job with something that goes wrong in it, drawn, and a reset and a good run after it."""
    kind = draw.choice((*_ANSWERS, None, None, None))
    job = replace(job, watchdog=_WATCHDOG, again=draw.choice(("soft", "soft", "hard")),
                  limit_again=job.limit)
    if kind is None:                    # it is broken off
        return replace(job, limit=draw.randrange(1, cycles(job.program, job.latency).cycles))
    program = job.program
    writes = kind in (rtl.WRITE_ERROR, rtl.WRITE_SILENT)
    places = [] if writes else [program.code_offset + draw.randrange(
        program.arch.instruction_bytes * len(program.instructions))]
    for code in program.instructions:
        if code.opcode == (Opcode.STORE if writes else Opcode.LOAD):
            size = (code.items * (code.item_stride or 1) if writes else
                    code.words * word_bytes(code.memory, program.arch))
            places.append(code.address + draw.randrange(code.rows) * code.row_stride
                          + draw.randrange(size))
    place = draw.choice(places or [0])
    return replace(job, fault=(kind, place, place + draw.choice((0, 0, 0, 100))),
                   response=draw.choice((2, 3)))


def _told(job):
    """In words, what goes wrong in a job."""
    then = f", then a {job.again} reset"
    if job.fault is None:
        return f"an end after {job.limit} cycles{then}"
    kind, first, last = job.fault
    name = {rtl.READ_ERROR: "read errors", rtl.WRITE_ERROR: "write errors",
            rtl.READ_SILENT: "reads that are never answered",
            rtl.WRITE_SILENT: "writes that are never answered", rtl.LAST: "wrong RLAST",
            rtl.TWICE: "beats that come twice", rtl.LOST: "beats that are lost"}[kind]
    return f"{name} at bytes {first} to {last}{then}"


def _wrong_end(run, simulator, job):
    """What is wrong with how a run in trouble has ended, in words."""
    status = run.status
    if run.broken:
        return f"broken rule of the bus: {run.broken[0]}"
    if job.fault is None:
        return f"it stopped: {status}" if status.error is not None else ""
    if status.error is None:
        return (f"silently wrong: {difference}" if status.done and (
            difference := _difference(run, simulator, job.program)) else "" if status.done
            else f"neither done nor an error after {run.cycles} cycles")
    if status.error not in _ANSWERS[job.fault[0]]:
        return f"not the error of this fault: {status}"
    return ""


def _vain_reset(run, job):
    """Whether a soft reset was in vain that need not have been, in words."""
    owing = job.fault is not None and job.fault[0] in _OWING
    return "a soft reset did not end" if run.reset == "soft in vain" and not owing else ""


def _check_order(program):
    """Check for errors that simulation may miss: memories that are used twice at a time, races, and
    deadlocks at full queues."""
    check_memory_plan(program)
    races = find_races(program.instructions, program.arch)
    if races:
        raise AssertionError("tokens leave the order of these instructions to chance: "
                             + ", ".join(f"{one} and {other} ({space.name.lower()})"
                                         for one, other, space in races[:5]))
    stall = find_stall(program.instructions, program.arch)
    if stall:
        raise AssertionError(f"instructions {stall[:8]} wait for each other at full queues")


def _difference(run, simulator, program):
    """The first thing in which a run of the core differs from the simulator, in words."""
    problems = []
    trace, numbers = [], []
    for result in simulator.results:
        pack = layout.pack_raw_items if result.raw else layout.pack_group_items
        data = pack(result.items, program.arch)
        size = len(data) // len(result.items)
        trace += [(result.layer, int(result.raw), int.from_bytes(data[n:n + size], "little"))
                  for n in range(0, len(data), size)]
        numbers += [(result.number, n) for n in range(len(result.items))]
    for n, (found, expected) in enumerate(zip(run.trace, trace, strict=False)):
        if found != expected:
            number, item = numbers[n]
            problems.append(f"result {item} of instruction {number} is {_shown(found)}, not "
                            f"{_shown(expected)}: {program.instructions[number]}")
            break
    else:
        if len(run.trace) != len(trace):
            problems.append(f"{len(run.trace)} results, not {len(trace)}")
    if run.status.error is not None or not run.status.done:
        problems.append(f"after {run.cycles} cycles {run.status}")
    problems += [f"broken rule of the bus: {text}" for text in run.broken[:3]]
    problems += _wrong_writes(run, simulator, program)
    if run.status.done and not problems and bytes(simulator.memory) != bytes(run.outputs[0]):
        found, expected = np.frombuffer(run.outputs[0], np.uint8), simulator.memory
        place = int(np.flatnonzero(found != expected)[0])
        problems.append(f"byte {place} of the window is {found[place]}, not {expected[place]}")
    return "; ".join(problems)


def _wrong_writes(run, simulator, program):
    """Where the bytes written, STORE after STORE, are not the simulator's."""
    addresses, values = run.written
    first = 0
    for stored in simulator.stores:
        size = stored.data.shape[1]
        expected = (stored.addresses[:, None] + np.arange(size)).ravel()
        part = slice(first, first + expected.size)
        first += expected.size
        if not (np.array_equal(addresses[part], expected)
                and np.array_equal(values[part], stored.data.ravel())):
            return [f"the memory differs after instruction {stored.number}: "
                    f"{program.instructions[stored.number]}"]
    return [] if len(addresses) == first else [f"{len(addresses)} bytes written, not {first}"]


def _wrong_cycles(run, job):
    """Where the memory never stalled, in what the cycle model and the core's registers differ."""
    if job.stalls:
        return ""
    timing = cycles(job.program, job.latency)
    return "; ".join(f"{name} is {getattr(run, name)}, not {getattr(timing, name)} as in the cycle "
                     "model"
                     for name in ("cycles", "compute_first", "compute_last", "activity")
                     if getattr(run, name) not in (getattr(timing, name), None))


def _shown(result):
    layer, raw, item = result
    return f"{'raw ' if raw else ''}{item:#x} of layer {layer}"


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

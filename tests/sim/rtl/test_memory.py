"""The simulated memory and the testbench, with a core that only moves data."""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import ErrorCode, UnitState
from systolith.sim.rtl import core as rtl
from systolith.sim.rtl.core import Job, Run, clocks_per_second, simulate, simulate_parts
from systolith.sim.rtl.device import DeviceError
from systolith.sim.rtl.verilate import SimulationError

ARCH = Arch(rows=4, columns=4, bus_bits=64)
COPY, DATA_FIRST, READ_OUTSIDE, WRITE_OUTSIDE, CROSS, WITHDRAW, NO_LAST, NOTHING, READ_BACK = (
    range(9))
FROM, TO, SIZE = 0x1000, 0x2000, 0x4000
CONTENT = np.random.default_rng(5).integers(0, 256, SIZE, dtype=np.uint8).tobytes()


def dummy(arch=ARCH):
    text = (Path(__file__).parent / "dummy_core.sv").read_text()
    return text.replace("64'hIDENTITY", f"64'h{identity(arch):016x}").replace(
        "DATA_BITS = 64", f"DATA_BITS = {arch.bus_bits}")


def job(mode, beats=4, bursts=2, strobes=0xFF, hesitant=False, gap=0, reads=(), runs=None,
        arch=ARCH, image=CONTENT, **options):
    program = Program(arch, [], image, FROM, SIZE)
    what = (beats - 1 | bursts - 1 << 8 | mode << 12 | strobes << 16 | hesitant << 24 | gap << 25)
    return Job(program, runs or [Run(reads=list(reads))], watchdog=what,
               **{"limit": 100_000, **options})


@dataclass
class Cycle:
    """Handshakes of a cycle in which the dummy is busy."""
    number: int
    arvalid: int
    arready: int
    rvalid: int
    rready: int
    awvalid: int
    awready: int
    w: int
    wlast: int
    bvalid: int
    bready: int


def cycles(run):
    for layer, raw, item in run.trace:
        assert (layer, raw) == (7, 0)
        bits = [item >> (64 + n) & 1 for n in range(10)][::-1]
        yield Cycle(item >> 96, *bits)


def offers(seen, valid, ready):
    """[first cycle on offer, cycle of acceptance] of every transfer of a channel."""
    found, first = [], None
    for cycle in seen:
        if getattr(cycle, valid):
            first = cycle.number if first is None else first
            if getattr(cycle, ready):
                found.append((first, cycle.number))
                first = None
    return found


LATENCIES = [(1, 1, 1, False), (1, 8, 3, False), (5, 1, 16, False), (32, 64, 4, False),
             (32, 3, 9, True), (2, 5, 5, True)]
ERRORS = [(rtl.READ_ERROR, FROM + 24, FROM + 24, "byte 0x18 of the window"),
          (rtl.READ_ERROR, FROM + 31, FROM + 90, "byte 0x18 of the window"),
          (rtl.WRITE_ERROR, TO + 24, TO + 24, "byte 0x1000 of the window")]
SILENCES = [(rtl.READ_SILENT, FROM + 63), (rtl.WRITE_SILENT, TO)]
RULES = {READ_OUTSIDE: "burst outside the window", WRITE_OUTSIDE: "write outside the window",
         CROSS: "burst crosses 4 KiB", WITHDRAW: "AR changed before ARREADY",
         NO_LAST: "WLAST at the wrong beat"}
INPUTS = [bytes(range(n, n + 64)) for n in range(5)]


@pytest.fixture(scope="module")
def results():
    """Every test's runs, from one simulation."""
    jobs = {
        **{case: job(COPY, case[1], case[2], hesitant=case[3], latency=case[0])
           for case in LATENCIES},
        "strobes": job(COPY, 4, 1, strobes=0b01100100, reads=[(TO, 32)]),
        **{("stalls", n): job(COPY, 16, 4, stalls=stalls, seed=seed)
           for n, (stalls, seed) in enumerate([(0, 1), (0.5, 1), (0.5, 1), (0.5, 2)])},
        **{("back", seed): job(READ_BACK, 1, 1, stalls=0.6 * (seed > 0), seed=seed, latency=4,
                               reads=[(TO, 8)]) for seed in range(16)},
        **{error: job(COPY, fault=error[:3]) for error in ERRORS},
        **{kind: job(COPY, fault=(kind, address, address), limit=1000, runs=[Run(), Run()])
           for kind, address in SILENCES},
        "after": job(COPY, reads=[(TO, 64)]),
        **{rule: job(mode, beats=2, bursts=1, stalls=0.99 if mode == WITHDRAW else 0.5,
                    seed=3, reads=[(0, SIZE)])
           for mode, rule in RULES.items()},
        "several": job(COPY, runs=[Run([(FROM, data)], [(TO, 64)]) for data in INPUTS]),
        "nothing": job(NOTHING, reads=[(0, SIZE)]),
        **{("fill", seed): job(NOTHING, image=b"abc", reads=[(0, SIZE)], seed=seed)
           for seed in (1, 2)},
    }
    return dict(zip(jobs, simulate(dummy(), list(jobs.values()), strict=False).runs, strict=True))


@pytest.mark.parametrize("case", LATENCIES)
def test_latency_is_exact(results, case):
    latency, beats, bursts, _ = case
    run, = results[case]
    seen = list(cycles(run))
    asked = [last for _, last in offers(seen, "arvalid", "arready")]
    assert asked == list(range(asked[0], asked[0] + bursts))
    previous = -1
    beats_seen = offers(seen, "rvalid", "rready")
    assert len(beats_seen) == beats * bursts
    for n, (first, last) in enumerate(beats_seen):
        assert first == max(asked[n // beats] + latency, previous + 1)
        previous = last
    written = [cycle.number for cycle in seen if cycle.w and cycle.wlast]
    previous = -1
    answers = offers(seen, "bvalid", "bready")
    assert len(answers) == bursts
    for (first, last), end in zip(answers, written, strict=True):
        assert first == max(end + latency, previous + 1)
        previous = last
    assert run.status.done and not run.broken


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
def test_copies(bus_bits):
    arch = Arch(rows=4, columns=4, bus_bits=bus_bits)
    size = 12 * 3 * bus_bits // 8
    jobs = [job(mode, 12, 3, gap=gap, arch=arch, reads=[(TO, size), (TO - 3, size + 7)],
                stalls=stalls, seed=seed) for mode in (COPY, DATA_FIRST)
            for seed, (stalls, gap) in enumerate([(0, 0), (0.3, 9), (0.9, 100)])]
    done = simulate(dummy(arch), jobs)
    for (run,) in done.runs:
        exact, around = run.outputs
        assert exact == CONTENT[FROM:FROM + size]
        assert around == CONTENT[TO - 3:TO] + exact + CONTENT[TO + size:TO + size + 4]
        addresses, values = run.written
        assert (addresses == TO + np.arange(size)).all()
        assert values.tobytes() == exact
        assert len(run.write_cycles) == 36
    assert done.clocks >= sum(run.cycles for (run,) in done.runs) and (
        clocks_per_second([done]) > 0)


def test_strobes(results):
    run, = results["strobes"]
    for n, value in enumerate(run.outputs[0]):
        assert value == CONTENT[(FROM if n % 8 in (2, 5, 6) else TO) + n]
    assert [a - TO for a in run.written[0][:4]] == [2, 5, 6, 10]


def test_stalls_slow_down_and_repeat_with_their_seed(results):
    free, first, again, other = (results["stalls", n][0].cycles for n in range(4))
    assert first > free * 1.3
    assert first == again != other


def test_writes_take_effect_with_their_response(results):
    # Without stalls the read comes later than the response, with stalls it sometimes does not.
    early = []
    for seed in range(16):
        run, = results["back", seed]
        seen = list(cycles(run))
        (read,), (answer,) = offers(seen, "rvalid", "rready"), offers(seen, "bvalid", "bready")
        item = next(item for _, _, item in run.trace if item >> 96 == read[1])
        data = (item & (1 << 64) - 1).to_bytes(8, "little")
        early.append(read[0] <= answer[0])
        assert data == (CONTENT[TO:TO + 8] if early[-1] else b"\xA5" * 8)
        assert run.outputs == [b"\xA5" * 8]
    assert not early[0] and any(early)


@pytest.mark.parametrize("error", ERRORS)
def test_bus_errors(results, error):
    run, = results[error]
    assert run.status.error == ErrorCode.BUS and not run.broken
    assert error[3] in str(run.status) and "unit store, layer 7" in str(run.status)
    with pytest.raises(DeviceError, match="memory bus answered with an error"):
        run.check()


@pytest.mark.parametrize("kind", [kind for kind, _ in SILENCES])
def test_silence_ends_at_the_limit_and_the_next_job_is_unharmed(results, kind):
    run, = results[kind]                                 # the second run did not come
    assert run.status.busy and 1000 <= run.cycles < 1100
    with pytest.raises(DeviceError, match="array waits for a token from load, post waits for mem"):
        run.check()
    assert run.status.units["load"] == (UnitState.RUNNING, [])
    assert results["after"][0].outputs == [CONTENT[FROM:FROM + 64]]


@pytest.mark.parametrize("rule", RULES.values())
def test_broken_rules_are_told(results, rule):
    run, = results[rule]
    assert any(rule in line for line in run.broken)
    if rule != RULES[NO_LAST]:
        assert run.outputs == [CONTENT]


def test_broken_rules_are_errors():
    with pytest.raises(SimulationError, match="WLAST at the wrong beat"):
        simulate(dummy(), [job(NO_LAST)])


def test_several_runs_keep_the_memory_and_load_their_inputs(results):
    assert [run.outputs for run in results["several"]] == [[data] for data in INPUTS]
    assert all(run.trace for run in results["several"])
    assert results["nothing"][0].outputs == [CONTENT] and results["nothing"][0].cycles == 100


def test_memory_that_nobody_wrote_is_not_zero(results):
    first, second = (results["fill", seed][0].outputs[0] for seed in (1, 2))
    assert first[:3] == second[:3] == b"abc" and first[3:] != second[3:]
    assert 0 < first[3:].count(0) < SIZE // 64 and len(set(first)) == 256


def test_program_for_another_chip_is_refused():
    other = Arch(rows=4, columns=8, bus_bits=64)
    with pytest.raises(SimulationError, match=f"{identity(other):016x}.*this chip's identity is "
                                              f"{identity(ARCH):016x}; build the program"):
        simulate(dummy(), [job(COPY, arch=other)])


def test_a_clock_whose_falling_edge_is_evaluated_gives_the_same(monkeypatch):
    """Where Verilator keeps the clock under another name than `commands.cpp` knows."""
    def seen():
        run = simulate(dummy(), [job(COPY, latency=5, reads=[(TO, 64)])]).runs[0][0]
        return run.cycles, run.outputs, run.trace
    shortened = seen()
    read_text = Path.read_text
    changed = []

    def other_name(path, *arguments):
        text = read_text(path, *arguments)
        if path.name == "commands.cpp":
            changed.append(text.count("__Vtrigprevexpr___TOP__clk__0"))
            text = text.replace("__Vtrigprevexpr___TOP__clk__0", "no_such_name")
        return text
    monkeypatch.setattr(Path, "read_text", other_name)
    assert seen() == shortened and shortened[2]
    assert changed == [2]


def test_waveforms(tmp_path):
    waves = tmp_path / "run.fst"
    simulate(dummy(), [job(COPY, 16, 4)], waves=waves)
    content = waves.read_bytes()
    assert content[0] == 0 and len(content) > 4000          # FST's header block


def parts(**options):
    """Three simulations' jobs, each with a pattern of its own, so that results tell whose."""
    size = 12 * 3 * 8
    return [[job(COPY, 12, 3, reads=[(TO, size)], image=bytes([n]) * SIZE, **options)]
            for n in range(3)]


def test_as_many_parts_as_processors_are_simulated_at_the_same_time(monkeypatch):
    """Each waits until another one is at work, too; so do two of three at once, and no more."""
    together, at_work, most = Barrier(2), [], []

    def simulated(verilog, jobs, *, optimize, stop):
        at_work.append(jobs)
        most.append(len(at_work))
        together.wait(30)
        at_work.remove(jobs)
        return jobs
    monkeypatch.setattr(rtl, "processors", lambda: 2)
    monkeypatch.setattr(rtl, "simulate", simulated)
    monkeypatch.setattr(rtl, "build_core", lambda *arguments, **options: None)
    some = [[job(COPY, seed=n)] for n in range(6)]
    assert list(simulate_parts("", some)) == some
    assert max(most) == 2


def test_parts_come_in_order(monkeypatch):
    monkeypatch.setattr(rtl, "processors", lambda: 2)
    made = list(simulate_parts(dummy(), parts()))
    assert [one.runs[0][0].outputs[0] for one in made] == [bytes([n]) * 288 for n in range(3)]
    single, = simulate_parts(dummy(), parts()[1:2])
    assert single.runs[0][0].cycles == made[1].runs[0][0].cycles
    with pytest.raises(ValueError, match="waveforms are of one simulation"):
        next(simulate_parts(dummy(), parts(), waves="run.fst"))


def test_who_stops_reading_stops_what_still_runs(monkeypatch):
    """One part would take hours."""
    monkeypatch.setattr(rtl, "processors", lambda: 2)
    endless = job(COPY, 12, 3, limit=None, latency=1 << 30)
    with closing(simulate_parts(dummy(), [*parts()[:1], [endless], *parts()[1:]])) as made:
        assert next(made).runs[0][0].outputs[0] == bytes(288)


def test_a_part_that_fails_ends_the_others(monkeypatch):
    monkeypatch.setattr(rtl, "processors", lambda: 2)
    with pytest.raises(SimulationError, match="broke a rule"):
        list(simulate_parts(dummy(), [[job(CROSS)], *parts()]))


def test_seconds_of_simulations_at_the_same_time_count_once():
    made = [rtl.Simulation([], 100, [(0, 1), (3, 4)]), rtl.Simulation([], 200, [(0.5, 2)])]
    assert clocks_per_second(made) == 100
    assert clocks_per_second(made[:1]) == 50
    assert math.isnan(clocks_per_second([rtl.Simulation([], 0, [])]))

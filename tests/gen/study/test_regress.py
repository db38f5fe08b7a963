"""The regression: passes on the core as it is, and notices every kind of difference."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.study import judge, trouble
from systolith.gen.study import regress as module
from systolith.gen.study.regress import chip, regress
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.registers import ErrorCode
from systolith.sim.machine.cycles import cycles
from systolith.sim.random.arch import random_arch
from systolith.sim.rtl import core as rtl
from systolith.sim.rtl.verilate import SimulationError

CHIP, SEEDS = "random-1", 2


@pytest.fixture(scope="module")
def simulated():
    """One run of the regression on the real core: (cases, lines shown, what was simulated)."""
    kept, lines = [], []
    real = module.rtl.simulate

    def keep(*arguments, **options):
        kept.append((arguments, real(*arguments, **options)))
        return kept[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.rtl, "simulate", keep)
        cases = regress([CHIP], SEEDS, show=lines.append)
    return cases, lines, kept


def test_the_core_passes(simulated):
    cases, lines, kept = simulated
    assert [(case.chip, case.seed, case.failure) for case in cases] == [
        (CHIP, seed, "") for seed in range(SEEDS)]
    assert all(case.clocks > 100 for case in cases)
    assert lines[0] == f"{CHIP} seed 0: {cases[0].clocks} clocks, ok"
    assert lines[-1].startswith(f"{SEEDS} seeds on 1 chips in ") and "all passed" in lines[-1]
    (_, jobs), _ = kept[0]
    assert len(kept) == 1 and len(jobs) == 7 * SEEDS     # for each seed; four are in trouble
    assert any(run.trace for runs in kept[0][1].runs for run in runs)


def test_twenty_seeds_on_four_chips():
    """Integers, floats and binary, exact and saturating, with tables and without; arrays that are
    not square, and one with depthwise."""
    chips = ["random-19", "random-22", "random-51", "random-16"]
    arches = [chip(name) for name in chips]
    assert [arch.depthwise for arch in arches] == [False, True, False, False]
    assert all(arch.rows != arch.columns for arch in arches if not arch.depthwise)
    assert len({type(arch.activation) for arch in arches}) == 3
    assert len({arch.accumulator is None for arch in arches}) == 2
    assert [arch.table_depth > 0 for arch in arches] == [False, True, True, False]
    assert arches[2].leaky and arches[2].operand_depth
    cases = regress(chips, 20, jobs=2, show=lambda line: None)
    assert len(cases) == 20 and not [case for case in cases if case.failure]


@pytest.fixture
def no_verilog(monkeypatch):
    """For tests that simulate nothing."""
    monkeypatch.setattr(module, "core_verilog", lambda arch: "")


def run_with(simulated, monkeypatch, change, **options):
    """The regression, with `change` made to what the first run of the core did."""
    simulation = copy.deepcopy(simulated[2][0][1])
    change(simulation.runs[0][0])
    monkeypatch.setattr(module.rtl, "simulate", lambda *arguments, **options: simulation)
    lines = []
    cases = regress([CHIP], SEEDS, show=lines.append, **options)
    assert [bool(case.failure) for case in cases] == [True] + [False] * (SEEDS - 1)
    return cases[0], lines


def flip_result(run):
    layer, raw, item = run.trace[-1]
    run.trace[-1] = layer, raw, item ^ 1


def flip_write(run):
    values = run.written[1].copy()
    values[-1] ^= 128
    run.written = run.written[0], values


def move_write(run):
    run.written = run.written[0] + 1, run.written[1]


def flip_memory(run):
    content = bytearray(run.outputs[0])
    content[-1] ^= 1
    run.outputs[0] = bytes(content)


def stop(run):
    run.status = copy.copy(run.status)
    object.__setattr__(run.status, "error", ErrorCode.WATCHDOG)


@pytest.mark.parametrize("change, text", [
    (flip_result, r"program: result \d+ of instruction \d+ is .*0x.* not .*0x"),
    (lambda run: run.trace.pop(), r"program: \d+ results, not \d+"),
    (flip_write, r"the memory differs after instruction \d+: store"),
    (move_write, r"the memory differs after instruction \d+: store"),
    (lambda run: setattr(run, "written", tuple(np.append(part, 0) for part in run.written)),
     r"\d+ bytes written, not \d+"),
    (flip_memory, r"byte \d+ of the window is \d+, not \d+"),
    (stop, "stopped on error 5, no progress"),
    (lambda run: run.broken.append("7 40003000 burst crosses 4 KiB"), "crosses 4 KiB"),
])
def test_every_difference_is_seen(simulated, no_verilog, monkeypatch, change, text):
    case, lines = run_with(simulated, monkeypatch, change)
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(case.failure)
    assert lines[0].startswith(f"{CHIP} seed 0: ") and "FAILED" in lines[0]
    assert f"repeat: systolith regress --chips {CHIP} --seed 0 --waves run.fst" in lines[0]
    assert lines[-1].endswith("1 FAILED")


def test_a_cycle_more_than_the_model_says_is_seen(simulated):
    (_, jobs), _ = simulated[2][0]
    job = copy.copy(jobs[0])
    job.stalls = 0.0
    timing = cycles(job.program, job.latency)
    names = ("cycles", "compute_first", "compute_last")
    exact = {name: getattr(timing, name) for name in (*names, "activity")}
    assert judge.wrong_cycles(SimpleNamespace(**exact), job) == ""
    for name in names:
        late = SimpleNamespace(**exact | {name: exact[name] + 1})
        assert judge.wrong_cycles(late, job).startswith(f"{name} is {exact[name] + 1}, not")
    waits = timing.activity | {"array": timing.activity["array"] | {"tokens": 9999}}
    waiting = SimpleNamespace(**exact | {"activity": waits})
    assert judge.wrong_cycles(waiting, job).startswith("activity is {")
    assert judge.wrong_cycles(SimpleNamespace(**exact | {"activity": None}), job) == ""
    job.stalls = 0.3
    assert judge.wrong_cycles(late, job) == ""


def test_trouble_of_every_kind_is_drawn_and_ends_in_a_good_run(simulated):
    (_, jobs), simulation = simulated[2][0]
    each = [trouble.in_trouble(jobs[0], n, 4) for n in range(60)]
    assert all(len({trouble.kind_of(job) for job in some}) == 4 for some in each)
    assert len({trouble.kind_of(job) for some in each[:33:11] for job in some}) == 12
    drawn = [job for some in each for job in some]
    kinds = {job.fault[0] if job.fault else trouble.kind_of(job): job for job in drawn}
    assert set(kinds) == {*range(1, 8), "an end in mid-run", *trouble._SAYS}
    assert {job.again for job in drawn} == {"soft", "hard"}
    assert {job.response for job in drawn} == {2, 3}
    assert all("reset" in trouble.told(job) and job.watchdog for job in drawn)
    troubled = [(job, runs) for job, runs in zip(jobs, simulation.runs, strict=True) if job.again]
    assert len(troubled) == 4 * SEEDS
    for job, runs in troubled:
        assert job.again and len(runs) == 2 and runs[1].status.done
        assert runs[1].reset in (job.again, "soft in vain")


def test_a_wrong_end_is_seen(simulated):
    (_, jobs), simulation = simulated[2][0]
    (good,), program = simulation.runs[0], jobs[0].program
    simulator = module.Simulator(program.arch, bytearray(program.image))
    simulator.run(program.instructions, 0)

    def judged(kind, error=None, run=good, damage=None, **status):
        run = copy.copy(run)
        run.status = replace(run.status, error=error, **{"done": error is None} | status)
        job = replace(jobs[0], again="soft", fault=kind and (kind, 0, 3), damage=damage)
        return trouble.wrong_end(run, simulator, job)
    broken, flipped = copy.copy(good), copy.deepcopy(good)
    broken.broken = ["7 40003000 burst crosses 4 KiB"]
    flip_memory(flipped)
    assert judged(rtl.TWICE) == judged(rtl.TWICE, ErrorCode.PROTOCOL) == judged(None) == ""
    assert judged(rtl.TWICE, run=flipped).startswith("silently wrong: byte ")
    assert judged(rtl.TWICE, run=broken).startswith("broken rule of the bus: 7 ")
    assert judged(rtl.READ_SILENT, done=False).startswith("neither done nor an error after ")
    assert judged(rtl.READ_ERROR, ErrorCode.WINDOW).startswith("not the error of this fault: ")
    assert judged(None, ErrorCode.BUS).startswith("it stopped: stopped on error 4")
    for kind, code in trouble._SAYS.items():
        damage = kind, program
        assert judged(None, code, damage=damage) == ""
        for other in (None, ErrorCode.WATCHDOG):
            assert judged(None, other, damage=damage).startswith("not the error of this fault: ")
    for kind, text in ((rtl.LAST, "a soft reset did not end"), (rtl.LOST, "")):
        job = replace(jobs[0], again="soft", fault=(kind, 0, 3))
        assert trouble.vain_reset(replace(good, reset="soft in vain"), job) == text
        assert trouble.vain_reset(replace(good, reset="soft"), job) == ""


def test_the_first_chips_have_every_option():
    names = module._random_chips(4)
    assert names == [f"random-{n}" for n in (0, 1, 2, 3, 4, 5, 6, 10, 11, 16, 23, 53, 135)]
    assert all(any(getattr(chip(name), field) for name in names) for field in module._OPTIONS)
    assert module._random_chips(15) == [*names, "random-7", "random-8"]
    assert set(module._random_chips(150)) == {f"random-{n}" for n in range(150)}


def test_junit(simulated, no_verilog, monkeypatch, tmp_path):
    run_with(simulated, monkeypatch, flip_result, junit=tmp_path / "regress.xml")
    suite = ElementTree.parse(tmp_path / "regress.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(SEEDS), "1")
    assert [item.get("name") for item in suite] == [f"seed {n}" for n in range(SEEDS)]
    assert "of instruction" in suite[0][0].get("message") and "--seed 0" in suite[0][0].text
    assert [path.name for path in tmp_path.iterdir()] == ["regress.xml"]


@pytest.mark.parametrize("reason", [
    "layer 'x': 5 channels leave an odd number of the 8 lanes (rows * lanes) unused, and what the "
    "last one adds could saturate accumulators of 9 bits at another point; set array.accumulator "
    "to 12 or to \"exact\"",
    "layer 'x': a pooling window of 5 x 5 needs 25 accumulator words, the chip has 16; raise "
    "buffers.accumulators", "layer 'x' reads 'in' in int8, the chip computes in int4"])
def test_a_compiler_that_refuses_everything_fails(simulated, no_verilog, monkeypatch, reason):
    """Also for reasons that single networks may have."""
    def refuse(graph, arch, batch):
        raise UserError(reason)
    jobs = simulated[2][0][0][1]
    programs = SimpleNamespace(coverage=None, runs=[
        runs for n, runs in enumerate(simulated[2][0][1].runs) if n % 7 != 5])
    assert len(jobs) == 7 * SEEDS   # of each seed, number 5 is the network's
    monkeypatch.setattr(module, "compile_graph", refuse)
    monkeypatch.setattr(module.rtl, "simulate", lambda *arguments, **options: programs)
    lines = []
    cases = regress([CHIP], SEEDS, show=lines.append)
    assert [case.refused for case in cases] == [reason] * SEEDS
    assert all("the compiler refused the network" in case.failure for case in cases)
    assert f"{SEEDS} networks refused: {SEEDS} FAILED" in lines[-1]


@pytest.mark.parametrize("reason, failed", [
    ("what it adds could saturate accumulators of 9 bits at another point; set array.accumulator "
     "to 12", False),
    ("its pairs of passes could saturate accumulators of 8 bits; set array.accumulator to 10",
     False),
    ("and the chip holds only 16 fraction bits of a bias; set post.bias_fraction=17", False),
    ("no reason", True)])
def test_one_refusal_is_counted(simulated, no_verilog, monkeypatch, reason, failed):
    real = module.compile_graph
    calls = []

    def once(graph, arch, batch):
        calls.append(graph)
        if len(calls) == 1:
            raise UserError(reason)
        return real(graph, arch, batch)
    runs = SimpleNamespace(coverage=None, runs=[
        run for n, run in enumerate(simulated[2][0][1].runs) if n != 5])
    monkeypatch.setattr(module, "compile_graph", once)
    monkeypatch.setattr(module.rtl, "simulate", lambda *arguments, **options: runs)
    lines = []
    cases = regress([CHIP], SEEDS, show=lines.append)
    assert [bool(case.failure) for case in cases] == [failed] + [False] * (SEEDS - 1)
    assert f"(no network: {reason})" in lines[0] and "1 networks refused" in lines[-1]
    # What is repeated alone may be one that is refused.
    if not failed:
        calls.clear()
        runs.runs = runs.runs[:6]
        assert not regress([CHIP], seed=0, show=lines.append)[0].failure


def test_a_fault_in_the_core_is_seen(monkeypatch):
    """The whole way: Verilog whose accumulators subtract."""
    real, count = module.core_verilog, []

    def faulty(arch):
        before, name, behind = real(arch).partition("module systolith_accumulator")
        count.append(behind.count(" + ", 0, behind.index("endmodule")))
        return before + name + behind.replace(" + ", " - ", 1)
    monkeypatch.setattr(module, "core_verilog", faulty)
    cases = regress([CHIP], 2, show=lambda line: None)
    assert count == [1] and any("program: result" in case.failure for case in cases)


def test_a_missing_token_of_the_compiler_is_seen(no_verilog, monkeypatch):
    real = module.compile_graph

    def careless(graph, arch, batch):
        program = real(graph, arch, batch)
        taker = next(i for i in program.instructions if i.opcode == Opcode.POST)
        taker.wait = 0
        return program

    def none(verilog, jobs, **options):
        raise SimulationError("not run")

    monkeypatch.setattr(module, "compile_graph", careless)
    monkeypatch.setattr(module.rtl, "simulate", none)
    case, = regress([CHIP], 1, show=lambda line: None)
    assert "tokens leave the order of these instructions to chance" in case.failure


def test_a_simulation_that_fails_fails_its_seeds(no_verilog, monkeypatch):
    def broken(verilog, jobs, **options):
        raise SimulationError("no compiler")

    monkeypatch.setattr(module.rtl, "simulate", broken)
    lines = []
    cases = regress(None, 4, jobs=2, show=lines.append)
    assert {case.chip for case in cases} == {f"random-{n}" for n in range(4)}
    assert all(case.failure.endswith("no compiler") for case in cases) and len(lines) == 5
    assert lines[-1].startswith("4 seeds on 4 chips in ")
    first, second = regress([CHIP], 2, show=lines.append)
    assert first.failure.endswith("no compiler")
    assert second.failure == "the simulation failed, as seed 0 says"


def test_a_fault_of_the_compiler_is_one_line(monkeypatch, capsys):
    def broken(graph, arch, batch):
        raise KeyError("planted")

    def none(verilog, jobs, **options):
        raise SimulationError("not run")
    monkeypatch.setattr(module, "compile_graph", broken)
    monkeypatch.setattr(module.rtl, "simulate", none)
    assert main(["regress", "--chips", CHIP, "--seed", "0"]) == 4
    captured = capsys.readouterr()
    assert "fault of Systolith, not of your input (KeyError: 'planted')" in captured.out
    assert "Traceback" not in captured.out + captured.err


def test_names_of_chips():
    assert chip("random-7") == random_arch(7)
    assert chip("sim-16x16-int8").rows == 16
    with pytest.raises(UserError, match="neither a file nor a preset"):
        regress(["random-x"])


@pytest.mark.parametrize("options, text", [
    (dict(seeds=0), "must be at least 1, not 0"),
    (dict(jobs=0), "must be at least 1, not 0"),
    (dict(waves="run.fst"), "--waves needs --seed and one chip"),
    (dict(waves="run.fst", seed=3), "--waves needs --seed and one chip"),
])
def test_arguments_that_do_not_go_together(options, text):
    with pytest.raises(UserError, match=text):
        regress(**options)

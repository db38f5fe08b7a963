"""The core's buses against models of others: cocotbext-axi's memory and host.

One model in Verilator runs all cases: programs of long and short, whole and partial beats, under
stalls of every channel, with each kind of wrong answer, and with resets in mid-run.
"""

import pickle
import random
from functools import cache
from pathlib import Path

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import Destination, Memory, Opcode, Unit
from systolith.hw.spec.memories import word_bytes
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import SEQUENCER, STATUS_RESETTING, ErrorCode
from systolith.sim.machine.iss import Simulator
from systolith.sim.random.programs import random_program
from systolith.sim.rtl.core import build_bench, run_bench

#: A group is a beat, a raw chunk half of one; bursts are as long as a page allows.
ARCH = Arch(rows=4, columns=4, post_lanes=1, activation="int16", weight="int3", operand_depth=64,
            accumulator=30, accumulator_depth=600, activation_depth=600, weight_depth=64,
            parameter_depth=16, bus_bits=64, burst_beats=256, queue_depth=2)
DONE, ERROR = 2, 4
HERE = Path(__file__).parent
CHANNELS = ["ar", "r", "aw", "w", "b", "host ar", "host r", "host aw", "host w", "host b"]


@cache
def long_bursts():
    """A program that loads and stores 600 words, from and to places within a page."""
    place, code = 0, []
    for memory, words in ((Memory.PARAMETER, 4), (Memory.WEIGHT, 4), (Memory.ACTIVATION, 600)):
        code.append(Instruction(Opcode.LOAD, {"memory": memory, "address": place, "words": words}))
        place += word_bytes(memory, ARCH) * words
    code.append(Instruction(Opcode.ARRAY, {"out_y": 1, "out_x": 600, "stride_ox": 1,
                                           "x_last": 599}))
    code.append(Instruction(Opcode.POST, {
        "out_x": 600, "destination": Destination.STORE, "low": -32768, "high": 32767}))
    code.append(Instruction(Opcode.STORE, {"address": 0x2008, "items": 600, "burst": 1}))
    begin = Instruction(Opcode.BEGIN, fields={"identity": identity(ARCH)})
    code = sealed([begin, *synchronize(code, ARCH), Instruction(Opcode.END)])
    image = random.Random(1).randbytes(place).ljust(0x1800, b"\0") + b"".join(
        item.to_bytes() for item in code)
    # it ends in the middle of a beat, of a page, and just after what is stored
    return Program(ARCH, code, image, 0x1800, 0x2008 + 600 * 8 + 3)


@cache
def programs():
    return [long_bursts(), *(random_program(ARCH, seed, synchronize, instructions=12)
                             for seed in (6, 11))]


def case(program, **options):
    image = bytes(program.image).ljust(program.window_bytes, b"\0")
    return {"image": image, "window": program.window_bytes,
            "program": program.code_offset} | options


def cases():
    """{name: (program, case)}"""
    draw, found = random.Random(3), {}
    for number, program in enumerate(programs()):
        def add(name, program=program, number=number, **options):
            found[f"{name}, program {number}"] = program, case(program, **options)
        add("no stalls")
        for seed in range(3):
            add(f"stalls {seed}", seed=seed, stalls={
                name: draw.choice((0, 0.3, 0.7)) for name in CHANNELS})
        for name in ("soft", "hard"):
            for seed in range(4):
                add(f"{name} reset {seed}", seed=seed, stalls={"r": 0.3, "b": 0.5},
                    **{name: draw.randrange(5, 400)})
        for response in (2, 3):
            for channel, answers in (("r", 30), ("r", 5), ("b", 2)):
                add(f"response {response} on {channel} {answers}", fault=(
                    channel, draw.randrange(answers), {"rresp": response, "bresp": response}))
        for seed in range(4):
            stalls = {"r": draw.choice((0, 0.6)), "b": draw.choice((0, 0.6))}
            add(f"identifier on r {seed}", stalls=stalls,
                fault=("r", draw.randrange(150), {"rid": 1}))
            add(f"last on r {seed}", stalls=stalls,
                fault=("r", draw.randrange(150), {"rlast": seed % 2}))
            add(f"twice on r {seed}", stalls=stalls,
                fault=("r", draw.randrange(150), {"times": 2}))
            add(f"lost on r {seed}", stalls=stalls,
                fault=("r", draw.randrange(150), {"times": 0}))
        for what, change in (("identifier", {"bid": 1}), ("twice", {"times": 2}),
                             ("lost", {"times": 0})):
            add(f"{what} on b", fault=("b", draw.randrange(2), change))
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{name: (program, case, what came of it)}"""
    folder, all_cases = tmp_path_factory.mktemp("bus"), cases()
    executable = build_bench(
        {"core.v": core_verilog(ARCH), "bus_models.sv": (HERE / "bus_models.sv").read_text()},
        "bus_models", parameters={"DATA_BITS": ARCH.bus_bits})
    (folder / "cases.pickle").write_bytes(pickle.dumps([case for _, case in all_cases.values()]))
    (folder / "bus_models.py").write_text((HERE / "bus_models.py").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        run_bench(executable, "bus_models", "bus_models", folder=folder, timeout=300)
    found = pickle.loads((folder / "found.pickle").read_bytes())
    return {name: (*both, result) for (name, both), result in
            zip(all_cases.items(), found, strict=True)}


@cache
def expected(number):
    program = programs()[number]
    memory = bytearray(program.image).ljust(program.window_bytes, b"\0")
    Simulator(ARCH, memory).run(program.instructions)
    return bytes(memory)


def of(runs, *starts):
    """(name, program, case, result, memory as it should be) of the cases with such names."""
    return [(name, *facts, expected(int(name[-1]))) for name, facts in runs.items()
            if name.startswith(starts)]


def test_good_answers_give_the_models_memory_whatever_stalls(runs):
    for name, _, _, found, memory in of(runs, "no stalls", "stalls"):
        assert found["finished"] and found["status"] == DONE, name
        assert found["memory"] == memory, name


def test_a_reset_in_mid_run_and_at_once_a_good_run(runs):
    chosen = of(runs, "soft", "hard")
    assert sum(found["begun"] for _, _, _, found, _ in chosen) > len(chosen) // 2
    for name, _, _, found, memory in chosen:
        assert found["finished"] and found["status"] == DONE, name
        assert found["memory"] == memory, name


def test_bursts_are_long_and_within_a_page_and_the_window(runs):
    for name, program, _, found, _ in of(runs, ""):
        for channel, start, length, identifier, size, kind in found["bursts"]:
            end = start + (length + 1) * ARCH.beat_bytes
            assert start // PAGE_BYTES == (end - 1) // PAGE_BYTES, name
            assert (identifier, size, kind) == (0, 3, 1), (name, channel)
            assert 0x5000 <= start and end <= 0x5000 + program.window_bytes, name
    writes = {length for _, _, _, found, _ in of(runs, "no stalls")
              for channel, _, length, *_ in found["bursts"] if channel == "aw"}
    assert 255 in writes and 0 in writes
    strobes = set().union(*(found["strobes"] for _, _, _, found, _ in of(runs, "no stalls")))
    assert {0x0F, 0xF0, 0xFF} <= strobes


def test_nothing_outside_the_window_is_written(runs):
    assert all(found["outside"] for _, _, _, found, _ in of(runs, ""))


def test_wrong_answers_are_noticed(runs):
    """By an error or, where an answer is missing, by the watchdog; where none is, because the
    answer was changed into what it was already, or one too many came after all was done, by right
    results."""
    seen = set()
    for name, _, given, found, memory in of(runs, "response", "identifier", "last", "twice",
                                            "lost"):
        channel, number, _ = given["fault"]
        if found["answers"].get(channel, -1) < number:
            continue                            # the run had not so many
        status = found["status"]
        assert found["finished"] and status & (DONE | ERROR) in (DONE, ERROR), name
        if status & DONE:
            assert name.startswith(("last", "twice")) and found["memory"] == memory, name
            continue
        code, unit = ErrorCode(status >> 4 & 15), status >> 8 & 7
        kind = name.partition(" ")[0]
        seen.add((kind, channel, code))
        if kind == "response":
            assert code == ErrorCode.BUS, name
            assert unit in ((Unit.STORE,) if channel == "b" else (Unit.LOAD, SEQUENCER)), name
        elif kind == "lost":
            assert code in (ErrorCode.WATCHDOG, ErrorCode.PROTOCOL, ErrorCode.LAST,
                            ErrorCode.ILLEGAL), name
        elif channel == "b":
            assert (code, unit) == (ErrorCode.PROTOCOL, Unit.STORE), name
        elif kind == "last":
            assert code == ErrorCode.LAST, name
        else:
            assert code in (ErrorCode.PROTOCOL, ErrorCode.LAST, ErrorCode.ILLEGAL), name
    assert {("response", "r", ErrorCode.BUS), ("response", "b", ErrorCode.BUS),
            ("identifier", "r", ErrorCode.PROTOCOL), ("identifier", "b", ErrorCode.PROTOCOL),
            ("last", "r", ErrorCode.LAST), ("twice", "r", ErrorCode.LAST),
            ("twice", "b", ErrorCode.PROTOCOL), ("lost", "b", ErrorCode.WATCHDOG)} <= seen


def test_after_a_wrong_answer_a_soft_reset_and_at_once_a_good_run(runs):
    """Where all has come that was asked for, or more; else the core says that it has not."""
    good, vain = set(), set()
    for name, _, _, found, memory in of(runs, "response", "identifier", "last", "twice", "lost"):
        kind = name.partition(" ")[0], name.partition(" on ")[2][0]
        assert found["finished again"], name
        if found["after"] == DONE:
            assert found["again"] == memory, name
            good.add(kind)
        else:
            assert found["after"] & ~0xFFF0000 == (
                STATUS_RESETTING | ERROR | ErrorCode.RESET << 4 | SEQUENCER << 8), name
            vain.add(kind)
    assert vain == {("lost", "r"), ("lost", "b")}
    assert good >= {(kind, channel) for kind in ("response", "identifier", "twice")
                    for channel in "rb"} | {("last", "r")}

"""The whole core when something goes wrong: a status that says what and where, never a hang, never
a write outside the window, and a right run after the next reset."""

import copy
import random

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import sealed
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Opcode
from systolith.hw.spec.registers import ErrorCode
from systolith.sim.machine.iss import Simulator
from systolith.sim.random.arch import random_arch
from systolith.sim.random.programs import random_program
from systolith.sim.rtl.core import READ_ERROR, READ_SILENT, WRITE_ERROR, Job, Run, simulate

#: The chip whose core tests/gen/study/test_regress.py compiles too.
ARCH = random_arch(1)
WATCHDOG, LIMIT = 2000, 40_000
#: An address that the chip can form, but beyond the window of the program.
OUTSIDE = 1 << ARCH.address_bits - 1
FLIPS = 48


def job(program, **options):
    return Job(program, [Run(reads=[(0, program.window_bytes)])], watchdog=WATCHDOG, limit=LIMIT,
               **options)


def changed(program, number, word):
    """The program with instruction `number` replaced by these bytes."""
    program = copy.copy(program)
    at = program.code_offset + number * INSTRUCTION_BYTES
    image = bytearray(program.image)
    image[at:at + INSTRUCTION_BYTES] = word
    program.image = bytes(image)
    return program


def with_fields(program, number, **fields):
    instruction = copy.deepcopy(program.instructions[number])
    for name in ("wait", "signal"):
        if name in fields:
            setattr(instruction, name, fields.pop(name))
    instruction.fields.update(fields)
    code = [*program.instructions[:number], instruction, *program.instructions[number + 1:]]
    return changed(changed(program, number, instruction.to_bytes()), len(code) - 1,
                   sealed(code)[-1].to_bytes())


@pytest.fixture(scope="module")
def program():
    return random_program(ARCH, 11, synchronize)


@pytest.fixture(scope="module")
def runs(program):
    """Name -> run; all in one simulation, with a good run after every bad one."""
    first = {op: next(n for n, i in enumerate(program.instructions) if i.opcode == op)
             for op in Opcode}
    load = program.instructions[first[Opcode.LOAD]]
    store = program.instructions[first[Opcode.STORE]]
    draw = random.Random(7)
    bad = {
        "opcode": job(changed(program, first[Opcode.ARRAY], bytes(INSTRUCTION_BYTES))),
        "count": job(changed(program, first[Opcode.POST],
                             program.instructions[first[Opcode.POST]].to_bytes()[:3]
                             + bytes(INSTRUCTION_BYTES - 3))),
        "identity": job(with_fields(program, 0, identity=identity(ARCH) ^ 1)),
        "no end": job(changed(program, len(program.instructions) - 1, bytes(INSTRUCTION_BYTES))),
        "load outside": job(with_fields(program, first[Opcode.LOAD],
                                        address=-(-program.window_bytes // 64) * 64)),
        "store outside": job(with_fields(program, first[Opcode.STORE],
                                         address=OUTSIDE | store.address % 64)),
        "store beyond": job(with_fields(program, first[Opcode.STORE],
                                        address=1 << ARCH.address_bits | store.address % 64)),
        "load bus": job(program, fault=(READ_ERROR, load.address, load.address + 3)),
        "store bus": job(program, fault=(WRITE_ERROR, store.address, store.address + 3)),
        "token": job(with_fields(program, first[Opcode.LOAD], wait=1 << 3)),
    }
    code = program.code_offset * 8
    for number in range(FLIPS):
        bit = code + draw.randrange(8 * INSTRUCTION_BYTES * len(program.instructions))
        image = bytearray(program.image)
        image[bit // 8] ^= 1 << bit % 8
        flipped = copy.copy(program)
        flipped.image = bytes(image)
        bad[f"flip {number}"] = job(flipped, stalls=draw.choice((0, 0.3)), seed=number)
    jobs = {}
    for name, item in bad.items():
        jobs |= {name: item, f"after {name}": job(program)}
    jobs["silent"] = job(program, fault=(READ_SILENT, load.address, load.address + 3))
    done = simulate(core_verilog(ARCH), list(jobs.values()))     # strict: nothing breaks the bus
    return dict(zip(jobs, (run[0] for run in done.runs), strict=True))


@pytest.mark.parametrize("name, error, unit", [
    ("opcode", ErrorCode.ILLEGAL, "sequencer"), ("count", ErrorCode.ILLEGAL, "sequencer"),
    ("identity", ErrorCode.IDENTITY, "sequencer"), ("no end", ErrorCode.ILLEGAL, "sequencer"),
    ("load outside", ErrorCode.WINDOW, "load"), ("store outside", ErrorCode.WINDOW, "store"),
    ("store beyond", ErrorCode.ILLEGAL, "sequencer"),
    ("load bus", ErrorCode.BUS, "load"), ("store bus", ErrorCode.BUS, "store"),
    ("token", ErrorCode.WATCHDOG, "sequencer"), ("silent", ErrorCode.WATCHDOG, "sequencer"),
])
def test_a_status_says_what_and_where(runs, name, error, unit):
    status = runs[name].status
    assert not status.done and status.error == error
    assert str(status.unit).lower().endswith(unit)


def test_the_watchdog_says_who_waits_for_what(runs):
    assert "load waits for a token from store" in str(runs["token"].status)
    assert "load waits for memory" in str(runs["silent"].status)


def test_where_an_address_was_wrong(runs, program):
    assert runs["load outside"].status.address >= program.window_bytes
    assert runs["store outside"].status.address >= OUTSIDE > program.window_bytes


def test_a_flipped_bit_of_the_program_is_always_an_error(runs):
    ended = [runs[f"flip {number}"].status for number in range(FLIPS)]
    assert all(status.error is not None and not status.done for status in ended)
    assert {ErrorCode.CHECKSUM, ErrorCode.ILLEGAL} <= {status.error for status in ended}


def test_the_next_run_is_right(runs, program):
    memory = bytearray(program.image)
    Simulator(ARCH, memory).run(program.instructions)
    after = [run for name, run in runs.items() if name.startswith("after ")]
    assert len(after) == FLIPS + 10
    for run in after:
        assert run.check().outputs[0] == bytes(memory)

"""Runs of the core in which something goes wrong: what may, drawn at random, and how such a run may
end."""

import random
from dataclasses import replace

from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import HEAD, Opcode
from systolith.hw.spec.memories import word_bytes
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import ErrorCode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.iss import Simulator
from systolith.sim.rtl import core as rtl
from systolith.sim.rtl.core import RtlRun

from .judge import difference

__all__ = ["in_trouble", "kind_of", "told", "vain_reset", "wrong_end"]

#: Cycles without progress that end a run in trouble.
_WATCHDOG = 2000
#: What may go wrong, and what the core may then say, if it was met at all; None: anything. A beat
#: that is wrong may be part of an instruction, whose errors are as good.
_ANSWERS = {
    rtl.READ_ERROR: {ErrorCode.BUS}, rtl.WRITE_ERROR: {ErrorCode.BUS},
    rtl.READ_SILENT: {ErrorCode.WATCHDOG}, rtl.WRITE_SILENT: {ErrorCode.WATCHDOG},
    rtl.LAST: {ErrorCode.LAST},
    rtl.TWICE: {ErrorCode.PROTOCOL, ErrorCode.LAST, ErrorCode.ILLEGAL, ErrorCode.IDENTITY},
    rtl.LOST: {ErrorCode.PROTOCOL, ErrorCode.LAST, ErrorCode.ILLEGAL, ErrorCode.IDENTITY,
               ErrorCode.WATCHDOG}}
#: After which a soft reset may be in vain: the memory owes something.
_OWING = {rtl.READ_SILENT, rtl.WRITE_SILENT, rtl.LOST}
_FOREIGN, _UNKNOWN, _CHANGED, _ENDLESS = (
    "a program for another chip", "an instruction that there is not", "a wrong checksum", "no END")
#: What may be wrong with a program, and what the core then says.
_SAYS = {_FOREIGN: ErrorCode.IDENTITY, _UNKNOWN: ErrorCode.ILLEGAL, _CHANGED: ErrorCode.CHECKSUM,
         _ENDLESS: ErrorCode.WINDOW}
#: Values of an opcode's bits, and those of them that are no instruction.
_CODES = 1 << HEAD[0].width
_NONE = sorted(set(range(_CODES)) - set(Opcode))
#: A run that is broken off.
_END = "an end in mid-run"


def in_trouble(job: rtl.Job, seed: int, count: int) -> list[rtl.Job]:
    """So many of the job with something that goes wrong in each, and a reset and a good run after
    it. Kinds go round with the seed, so that few seeds have all; chips without a checksum have no
    wrong one."""
    draw = random.Random(f"trouble {seed}")
    kinds = [*_ANSWERS, *_SAYS, _END]
    if not job.program.arch.checksum:
        kinds[kinds.index(_CHANGED)] = _UNKNOWN
    return [_in_trouble(job, draw, kinds[(seed * count + n) % len(kinds)], seed % 2)
            for n in range(count)]


def _in_trouble(job, draw, kind, fetched):
    """`fetched`: answers to fetches are wrong, where reads are."""
    job = replace(job, watchdog=_WATCHDOG, again=draw.choice(("soft", "soft", "hard")),
                  limit_again=job.limit)
    program = job.program
    if kind == _END:
        return replace(job, limit=draw.randrange(1, cycles(program, job.latency).cycles))
    if kind in _SAYS:
        return replace(job, damage=(kind, _damaged(program, kind, draw)))
    writes = kind in (rtl.WRITE_ERROR, rtl.WRITE_SILENT)
    places = [] if writes else [program.code_offset + draw.randrange(
        program.arch.instruction_bytes * len(program.instructions))]
    if places and fetched:
        return replace(job, fault=(kind, *places * 2), response=draw.choice((2, 3)))
    for code in program.instructions:
        if code.opcode == (Opcode.STORE if writes else Opcode.LOAD):
            size = (code.items * (code.item_stride or 1) if writes else
                    code.words * word_bytes(code.memory, program.arch))
            places.append(code.address + draw.randrange(code.rows) * code.row_stride
                          + draw.randrange(size))
    place = draw.choice(places or [0])
    return replace(job, fault=(kind, place, place + draw.choice((0, 0, 0, 100))),
                   response=draw.choice((2, 3)))


def _damaged(program: Program, kind: str, draw: random.Random) -> Program:
    """The program with something wrong in its code."""
    code, size = list(program.instructions), program.arch.instruction_bytes
    place, window = program.code_offset, program.window_bytes
    if kind == _FOREIGN:
        identity = code[0].fields["identity"] ^ 1 << draw.randrange(64)
        code = sealed([Instruction(Opcode.BEGIN, {"identity": identity}), *code[1:]])
    elif kind == _CHANGED:
        code[-1] = replace(code[-1], fields={
            "checksum": code[-1].fields["checksum"] ^ 1 << draw.randrange(32)})
    elif kind == _ENDLESS:
        # The window ends after the last of the others, and a program begins at a multiple of 64.
        code.pop()
        load = next(item for item in code if item.opcode == Opcode.LOAD)
        code += [replace(load, wait=0, signal=0)] * (-len(code) % 4)
        place, window = window, window + len(code) * size
    image = bytearray(program.image.ljust(window, b"\0"))
    for n, item in enumerate(code):
        image[place + n * size:place + (n + 1) * size] = item.to_bytes(size)
    if kind == _UNKNOWN:                        # (an opcode is an instruction's lowest bits)
        first = place + size * draw.randrange(len(code))
        image[first] = image[first] // _CODES * _CODES | draw.choice(_NONE)
    return replace(program, image=bytes(image), code_offset=place, window_bytes=window)


def told(job: rtl.Job) -> str:
    """In words, what goes wrong in a job."""
    then = f", then a {job.again} reset"
    if job.damage is not None:
        return f"{job.damage[0]}{then}"
    if job.fault is None:
        return f"an end after {job.limit} cycles{then}"
    _, first, last = job.fault
    return f"{kind_of(job)} at bytes {first} to {last}{then}"


def kind_of(job: rtl.Job) -> str:
    """In words, what kind of thing goes wrong in a job."""
    if job.damage is not None:
        return job.damage[0]
    if job.fault is None:
        return _END
    return {rtl.READ_ERROR: "read errors", rtl.WRITE_ERROR: "write errors",
            rtl.READ_SILENT: "reads that are never answered",
            rtl.WRITE_SILENT: "writes that are never answered", rtl.LAST: "wrong RLAST",
            rtl.TWICE: "beats that come twice", rtl.LOST: "beats that are lost"}[job.fault[0]]


def wrong_end(run: RtlRun, simulator: Simulator, job: rtl.Job) -> str:
    """What is wrong with how a run in trouble has ended, in words."""
    status = run.status
    if run.broken:
        return f"broken rule of the bus: {run.broken[0]}"
    if job.damage is not None:
        return "" if status.error == _SAYS[job.damage[0]] else (
            f"not the error of this fault: {status}")
    if job.fault is None:
        return f"it stopped: {status}" if status.error is not None else ""
    if status.error is None:
        wrong = difference(run, simulator, job.program) if status.done else ""
        return (f"silently wrong: {wrong}" if wrong else "" if status.done
                else f"neither done nor an error after {run.cycles} cycles")
    if status.error not in _ANSWERS[job.fault[0]]:
        return f"not the error of this fault: {status}"
    return ""


def vain_reset(run: RtlRun, job: rtl.Job) -> str:
    """Whether a soft reset was in vain that need not have been, in words."""
    owing = job.fault is not None and job.fault[0] in _OWING
    return "a soft reset did not end" if run.reset == "soft in vain" and not owing else ""

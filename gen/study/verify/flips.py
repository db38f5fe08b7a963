"""What becomes of a program that is not fetched as it was compiled: its bits flipped one at a time,
a run of the core in RTL for each, all memory compared."""

import copy
from collections import Counter
from dataclasses import replace

from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec.program import Program
from systolith.sim.machine.iss import Simulator
from systolith.sim.random.arch import random_arch
from systolith.sim.random.programs import random_program
from systolith.sim.rtl.core import Job, Run, simulate

__all__ = ["SILENT", "flipped", "flips"]

#: What a flip must not end in.
SILENT = "done, WRONG"
#: Runs of one simulation.
_TOGETHER = 256


def flipped(program: Program, bit: int) -> Program:
    """The program with this bit of its instructions inverted."""
    changed, image = copy.copy(program), bytearray(program.image)
    image[program.code_offset + bit // 8] ^= 1 << bit % 8
    changed.image = bytes(image)
    return changed


def flips(every: int = 1, seed: int = 11, instructions: int = 20) -> tuple[Counter[str], int]:
    """(how many flips ended in what, instructions of the program): each `every`th bit of a random
    program."""
    arch = replace(random_arch(1), checksum=True)
    program = random_program(arch, seed, synchronize, instructions=instructions)
    memory = bytearray(program.image)
    Simulator(arch, memory).run(program.instructions)
    code = slice(program.code_offset,
                 program.code_offset + arch.instruction_bytes * len(program.instructions))
    bits = range(0, 8 * (code.stop - code.start), every)
    found: Counter[str] = Counter()
    for start in range(0, len(bits), _TOGETHER):
        part = bits[start:start + _TOGETHER]
        jobs = [Job(flipped(program, bit), [Run(reads=[(0, program.window_bytes)])],
                    latency=2, watchdog=2000, limit=40_000) for bit in part]
        for job, (run,) in zip(jobs, simulate(core_verilog(arch), jobs).runs, strict=True):
            if run.status.error is not None:
                found[f"error {run.status.error.value} {run.status.error.name}"] += 1
            elif run.status.done:
                wanted = bytearray(memory)
                wanted[code] = job.program.image[code]
                found["done, right" if run.outputs[0] == wanted else SILENT] += 1
            else:
                found["neither done nor an error"] += 1
    return found, len(program.instructions)

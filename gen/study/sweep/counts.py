"""What a program moves and computes for one image, in counts that area, energy and published
measures of arithmetic follow from."""

from dataclasses import asdict
from typing import Any

from systolith.hw.spec.isa import INSTRUCTION_BYTES, Destination, Opcode
from systolith.hw.spec.loops import (
    filled,
    fillings,
    moved_bytes,
    pass_words,
    passes,
    pixels,
    results,
    window_columns,
)
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.narrow import pool_of
from systolith.hw.spec.program import Program
from systolith.sim.model.effort import efforts, total
from systolith.sim.model.graph import Graph

__all__ = ["counts_of"]


def counts_of(graph: Graph, program: Program) -> dict[str, Any]:
    """Counts of one image, by name:

    - `loaded_bytes`, `stored_bytes`: over the bus, instructions left out;
    - `instruction_bytes`: of the program itself, which is fetched, too;
    - `macs`, `ace`, `bops`, `weight_bytes`: of the network in its own formats, as of `Effort`;
    - `reads`, `writes`: bits of each memory on the chip, by its name, that units read and write. A
      pixel in the padding counts as a word that is read.

    `graph` is the network as it was read, so that formats are its own and not the chip's.
    """
    arch, batch = program.arch, program.host.batch
    loaded = stored = 0
    reads = {row.name: 0 for row in MEMORIES.values()}
    writes = dict(reads)
    sums = arch.columns * arch.kept_bits
    for code in program.instructions:
        if code.opcode == Opcode.LOAD:
            loaded += moved_bytes(code, arch)
            memory = MEMORIES[Space(code.memory)]
            writes[memory.name] += code.rows * code.words * memory.bits(arch)
        elif code.opcode == Opcode.STORE:
            stored += moved_bytes(code, arch)
        elif code.opcode == Opcode.ARRAY:
            turns = fillings(code)
            reads["activation"] += turns * pixels(code) * arch.activation_bits
            if pool_of(code.narrow, arch) is not None:
                reads["pool"] += passes(code) * filled(code, arch) * arch.weight_bits
            reads["weight"] += passes(code) * pass_words(code, arch) * arch.weight_bits
            # the first pass writes, every other one adds to what is there
            reads["accumulator"] += (turns - 1) * results(code) * sums
            writes["accumulator"] += turns * results(code) * sums
        elif code.opcode == Opcode.POST:
            _post(code, arch, reads, writes)
    return {
        "loaded_bytes": loaded // batch, "stored_bytes": stored // batch,
        "instruction_bytes": len(program.instructions) * INSTRUCTION_BYTES // batch,
        **asdict(total(efforts(graph))),
        "reads": {name: bits // batch for name, bits in reads.items()},
        "writes": {name: bits // batch for name, bits in writes.items()}}


def _post(code, arch, reads, writes):
    """Add the bits that a POST reads and writes."""
    groups = results(code)
    columns, _ = window_columns(code.out_x, code.pool_x, code.jump, code.turn, code.pooling)
    reads["accumulator"] += (len(columns) * code.out_y * code.pool_y * arch.group
                             * arch.kept_bits)
    reads["parameter"] += groups * arch.group * arch.parameter_bits
    if code.operand:
        reads["operand"] += groups * arch.group_bits
    if code.table:
        reads["table"] += groups * arch.group * MEMORIES[Space.TABLE].bits(arch)
    if code.destination in (Destination.ACTIVATION, Destination.BOTH):
        writes["activation"] += groups * arch.group_bits
    if code.destination in (Destination.OPERAND, Destination.BOTH):
        writes["operand"] += groups * arch.group_bits

"""From instructions in sequential order to the stream that the chip fetches, and to the image of
external memory."""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import KEYS, Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, encoded, sealed
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Destination, Opcode, Unit
from systolith.hw.spec.loops import (
    chunk_count,
    filled,
    fillings,
    item_count,
    moved_bytes,
    pixels,
    results,
    steps,
)
from systolith.hw.spec.memories import Space, item_bytes
from systolith.hw.spec.timing import pass_cycles
from systolith.sim.machine.access import Access, AccessError, accesses, check, span_of

from .alloc import Sections
from .layer import Layer
from .tokens import outstanding, synchronize

__all__ = ["assemble_image", "close", "code_bytes", "finish", "interleave"]

#: Cycles from a request to its data, and from the last pixel to its sum: estimates, on which
#: nothing but the order of instructions depends.
_LATENCY = 40
#: Cycles between items that are stored by bursts of their own, of which four are outstanding.
_ITEM_CYCLES = 9


#: What `max` of an array calls.
_most = np.maximum.reduce


def _cycles(i, arch):
    """Estimated cycles for which an instruction keeps its unit busy."""
    if i.opcode == Opcode.LOAD:
        beats = moved_bytes(i, arch) // arch.beat_bytes
        # windows leave one a cycle
        return 4 + (max(beats, i.rows * i.words) if i.step_even else beats)
    if i.opcode == Opcode.ARRAY:
        return fillings(i) * pass_cycles(arch, steps(i, arch), filled(i, arch))
    if i.opcode == Opcode.POST:
        cycles = results(i) * i.pool_x * i.pool_y * chunk_count(i, arch)
        if i.destination == Destination.STORE:
            beats = max(1, item_bytes(i.raw, arch) // arch.beat_bytes)
            cycles = max(cycles, item_count(i, arch) * beats)
        return cycles
    beats = max(1, moved_bytes(i, arch) // item_count(i, arch) // arch.beat_bytes)
    return item_count(i, arch) * (beats if i.burst else max(beats, _ITEM_CYCLES))


class _Times:
    """For every word of a memory, the cycles from which on it can be read (`written`) and be
    written again (`read`), and the latest of each."""

    def __init__(self, size):
        self.written, self.read = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.last_written = self.last_read = 0

    def ready(self, access, span, known):
        """The cycle from which on the words of an `Access` can be accessed, at least `known`;
        `span` has the memory's first word and the end."""
        if self.last_written > known:
            known = max(known, int(_most(self.written[access.index(*span)], initial=0)))
        if access.is_write and self.last_read > known:
            known = max(known, int(_most(self.read[access.index(*span)], initial=0)))
        return known

    def touch(self, access, span, done):
        index = access.index(*span)
        if access.is_write:
            if done >= self.last_written:
                self.written[index] = self.last_written = done
            else:
                self.written[index] = np.maximum(self.written[index], done)
        elif done >= self.last_read:
            self.read[index] = self.last_read = done
        else:
            self.read[index] = np.maximum(self.read[index], done)


def interleave(instructions: Sequence[Instruction], used: Sequence[list[Access]],
               arch: Arch) -> list[int]:
    """The indices of instructions in the order of their estimated starts.

    The sequencer dispatches in order, and a full queue stops all later instructions. So each
    instruction should stand in the stream where its unit becomes free for it: loads as early as the
    memories have room, the post-processing of a tile next to the array instruction of the next
    tile. Starts are estimated from the words that instructions access (`used`, as of
    `sim.machine.access.accesses`). Instructions of one unit, and those that conflict, keep their
    order, so that executing them one by one in the new order is right if it was in the old one.
    """
    spans = {space: span_of(space, arch, used) for space in Space}
    spaces = {space: _Times(end - first) for space, (first, end) in spans.items()}

    def ready(mine, known):
        for access in mine:
            known = spaces[access.space].ready(access, spans[access.space], known)
        return known

    free: dict[Unit | None, int] = dict.fromkeys(Unit, 0)
    fetch = max(1, arch.instruction_bytes // arch.beat_bytes)       # beats of an instruction
    starts = []
    streams: deque = deque()
    stores = deque(mine for i, mine in zip(instructions, used, strict=True)
                   if i.opcode == Opcode.STORE)
    for i, mine in zip(instructions, used, strict=True):
        unit, cycles = i.opcode.unit, _cycles(i, arch)
        start = ready(mine, free[unit])
        if i.opcode == Opcode.POST and i.destination == Destination.STORE:
            # POST stops where no STORE takes its results, so that its STORE must be able to start
            # at the same time.
            start = ready(stores.popleft(), max(start, free[Unit.STORE]))
            streams.append((start, start + cycles))
        done = start + cycles
        if i.opcode == Opcode.STORE:
            start, finished = streams.popleft()
            done = max(start + cycles, finished)
        starts.append(start)
        free[unit] = done
        free[Unit.LOAD] += fetch        # on the same bus
        done += _LATENCY
        for access in mine:
            early = 0
            if i.opcode == Opcode.ARRAY and access.space == Space.ACCUMULATOR and not i.starts:
                # Post-processing may start with the last pass and read each sum as it is finished.
                early = pass_cycles(arch, pixels(i), filled(i, arch))
            spaces[access.space].touch(access, spans[access.space], done - early)
    return sorted(range(len(starts)), key=starts.__getitem__)


def close(sections: Sections, count: int, arch: Arch) -> int:
    """Add the section of a program with so many instructions between BEGIN and END, and give all
    sections their addresses; returns the bytes of the window."""
    sections.add("code", (count + 2) * arch.instruction_bytes)
    return sections.close()


def finish(code: Sequence[tuple[Instruction, str | None]], sections: Sections, arch: Arch,
           layers: Sequence[Layer]) -> tuple[list[Instruction], int, int]:
    """Give (Instruction, section) pairs of `Stream.code` their addresses, order them, and add
    tokens, BEGIN and END. The addresses are written into the given instructions.

    Returns (instructions, byte offset of the code, bytes of the window). Raises UserError, which
    names the layer, where a value does not fit its field, and where the window exceeds the chip's
    addresses.
    """
    window = close(sections, len(code), arch)
    reach = 1 << arch.address_bits
    if window > reach:
        key = KEYS["address_bits"]
        more = (f"; set {key.path} to {(window - 1).bit_length()} or more"
                if window <= 1 << key.high else "")
        raise UserError(f"the network needs {window} bytes of external memory, the chip addresses "
                        f"{reach}{more}")
    used = []
    for i, section in code:
        if section is not None:
            i.fields["address"] += sections.starts[section]
        try:
            used.append(accesses(i, arch))
            check(i, arch, window, used[-1])
        except (AccessError, ValueError) as error:
            raise UserError(f"{layers[i.layer].title} does not fit the chip's instructions: "
                            f"{error}") from None
    instructions = [i for i, _ in code]
    order = interleave(instructions, used, arch)
    ordered = synchronize([instructions[n] for n in order], arch, [used[n] for n in order])
    if outstanding(ordered, arch) > 1 << arch.token_bits:
        # Loads come too early for the token counters: keep the sequential order.
        ordered = synchronize(instructions, arch, used)
        if (most := outstanding(ordered, arch)) > 1 << arch.token_bits:
            key = KEYS["token_bits"]
            raise UserError(f"a unit would be {most} tokens ahead of another one, and the chip "
                            f"counts {1 << arch.token_bits}" + (
                                f"; set {key.path} to {(most - 1).bit_length()}"
                                if most <= 1 << key.high else ""))
    begin = Instruction(Opcode.BEGIN, {"identity": identity(arch)})
    return sealed([begin, *ordered, Instruction(Opcode.END)]), sections.starts["code"], window


def code_bytes(code: Sequence[Instruction], arch: Arch) -> bytes:
    """Instructions as they lie in memory."""
    rows = np.zeros((len(code), arch.instruction_bytes), np.uint8)
    rows[:, :INSTRUCTION_BYTES] = encoded(code).view(np.uint8)
    return rows.tobytes()


def assemble_image(code: Sequence[Instruction], arch: Arch, sections: Sections,
                   constants: Mapping[str, Sequence[tuple[int, bytes]]]) -> bytes:
    """The bytes of external memory from the start of the window to the end of the pools.

    `constants` is {section: [(byte offset in the section, bytes)]}; all else is 0.
    """
    image = bytearray(sections.starts["pools"] + sections.sizes["pools"])
    start = sections.starts["code"]
    text = code_bytes(code, arch)
    image[start:start + len(text)] = text
    for section, items in constants.items():
        for offset, content in items:
            start = sections.starts[section] + offset
            image[start:start + len(content)] = content
    return bytes(image)

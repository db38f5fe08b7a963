"""Programs that are wrong in one place, and what they compute."""

from dataclasses import replace

import numpy as np
from systolith.hw.spec.isa import OPCODES, Destination, Opcode
from systolith.sim.machine.access import AccessError
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import ExecutionError, Simulator

#: Fields that say what is done with numbers, not where they lie.
ARITHMETIC = {
    "pad_valid", "pad_code", "early", "double", "replicate", "raw", "pooling", "zero_point",
    "low", "high", "operand", "operand_zero", "first_low", "first_high", "gain",
    "operand_gain", "operand_shift", "operand_ties", "table", "memory", "burst", "destination"}


def in_order(program):
    """The same program without tokens, which the simulator then executes one by one."""
    code = [replace(i, fields=dict(i.fields), wait=0, signal=0) for i in program.instructions]
    return replace(program, instructions=code)


def outputs(program, seed=0):
    """{output: codes} for random inputs and random bytes in what nothing has written; None where
    the simulator refuses an instruction."""
    data, host = np.random.default_rng(seed), program.host
    memory = bytearray(data.bytes(program.window_bytes))
    memory[:len(program.image)] = program.image
    codes = {}
    for item in host.inputs:
        form = program.arch.activation
        shape = (host.batch, *item.shape)[host.batch == 1:]
        codes[item.name] = data.integers(0, 1 << form.width, shape)
    section = pack_inputs(program, codes)
    memory[host.input_offset:host.input_offset + len(section)] = section
    simulator = Simulator(program.arch, memory)
    try:
        simulator.run(program.instructions)
    except (AccessError, ExecutionError, ValueError, IndexError, OverflowError):
        return None
    first = host.output_offset
    found = unpack_outputs(program, bytes(memory[first:first + host.output_bytes]))
    return {name: codes.tolist() for name, codes in found.items()}


def mutate(program, draw):
    """(the program with one fault, what it is): an instruction that is missing, that stands
    elsewhere, that comes twice, or of which a field is another."""
    code = [replace(i, fields=dict(i.fields)) for i in program.instructions]
    places = [n for n, i in enumerate(code) if i.unit is not None]
    n = draw.choice(places)
    i = code[n]
    kind = draw.choice(("drop", "move", "field", "field", "field", "swap"))
    if kind == "drop":
        del code[n]
        if i.opcode == Opcode.POST and i.destination == Destination.STORE:
            # With the STORE that takes its results: else the program never ends.
            nth = sum(1 for other in code[:n] if other.opcode == Opcode.POST
                      and other.destination == Destination.STORE)
            stores = [m for m, other in enumerate(code) if other.opcode == Opcode.STORE]
            del code[stores[nth]]
        text = f"without instruction {n}: {i}"
    elif kind == "move":
        to = draw.choice(places)
        code.insert(to, code.pop(n))
        text = f"instruction {n} at {to}: {i}"
    elif kind == "swap":
        others = [m for m in places if code[m].opcode == i.opcode and m != n]
        if not others:
            return mutate(program, draw)
        other = code[draw.choice(others)]
        names = [name for name in i.fields if name not in ARITHMETIC
                 and i.fields[name] != other.fields[name]]
        if not names:
            return mutate(program, draw)
        name = draw.choice(names)
        text = f"instruction {n} with {name}={other.fields[name]} of another: {i}"
        i.fields[name] = other.fields[name]
    else:
        item = draw.choice([item for item in OPCODES[i.opcode] if item.name not in ARITHMETIC])
        step = draw.choice((1, 1, 2, 4, 8, 16, 64)) * draw.choice((1, -1))
        value = min(max(i.fields[item.name] + step, item.low), item.high)
        if value == i.fields[item.name]:
            return mutate(program, draw)
        text = f"instruction {n} with {item.name}={value}: {i}"
        i.fields[item.name] = value
    return replace(program, instructions=code), text

"""Tokens: enough of them, none that another makes needless without reason, early where allowed."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from systolith.gen.compile.tokens import outstanding, synchronize
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.memories import Space
from systolith.hw.spec.timing import ITEMS
from systolith.sim.machine.iss import ExecutionError, Simulator
from systolith.sim.machine.races import find_races, find_stall
from systolith.sim.random.arch import random_arch
from systolith.sim.random.programs import random_program

SEEDS = range(12)


def program_of(seed, instructions=24):
    return random_program(random_arch(seed), seed, synchronize, instructions)


def state(program, instructions, seed, strict=True):
    """All that a run leaves behind."""
    simulator = Simulator(program.arch, bytearray(program.image), strict=strict)
    simulator.run(instructions, seed)
    return [bytes(simulator.memory), simulator.activations.tobytes(), simulator.weights.tobytes(),
            simulator.parameters.tobytes(), simulator.accumulators.tobytes(),
            *(result.items.tolist() for result in simulator.results)]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_order_that_tokens_allow_gives_the_same(seed):
    program = program_of(seed)
    bare = [replace(i, wait=0, signal=0) for i in program.instructions]
    expected = state(program, bare, None)        # without tokens and seed: in program order
    for order in range(8):
        assert state(program, program.instructions, order) == expected
    assert find_races(program.instructions, program.arch) == []
    assert find_stall(program.instructions, program.arch) is None


def tokens_of(instructions):
    """(giver, taker) of every token, as numbers of instructions."""
    pairs = []
    for source in Unit:
        for target in Unit:
            given = [n for n, i in enumerate(instructions)
                     if i.unit == source and i.signal >> target & 1]
            taken = [n for n, i in enumerate(instructions)
                     if i.unit == target and i.wait >> source & 1]
            assert len(given) == len(taken)
            pairs += zip(given, taken, strict=True)
    return pairs


def ordered_without(instructions, pairs, token):
    """Whether the end of the giver comes before the start of the taker by other tokens."""
    behind = {n: set() for n in range(len(instructions))}
    mine = {unit: [n for n, i in enumerate(instructions) if i.unit == unit] for unit in Unit}
    before = {later: earlier for numbers in mine.values()
              for earlier, later in pairwise(numbers)}
    for later, earlier in before.items():
        behind[later].add(earlier)
    for giver, taker in pairs:
        if (giver, taker) != token:
            early = instructions[giver].opcode == Opcode.ARRAY and (
                instructions[giver].early and instructions[taker].unit == Unit.POST)
            behind[taker].add(("start", giver) if early else giver)
            behind["start", giver] = behind[giver]
    found, queue = set(), [token[1]]
    while queue:
        for earlier in behind[queue.pop()] - found:
            found.add(earlier)
            queue.append(earlier)
    return token[0] in found


def test_no_token_can_be_taken_away_unseen():
    needed = wrong = 0
    for seed in SEEDS:
        program = program_of(seed)
        pairs = tokens_of(program.instructions)
        expected = state(program, program.instructions, None)
        for giver, taker in pairs:
            less = list(program.instructions)
            less[giver] = replace(less[giver],
                                  signal=less[giver].signal & ~(1 << less[taker].unit))
            less[taker] = replace(less[taker], wait=less[taker].wait & ~(1 << less[giver].unit))
            races = find_races(less, program.arch)
            if ordered_without(program.instructions, pairs, (giver, taker)):
                continue
            if {less[giver].unit, less[taker].unit} in ({Unit.ARRAY, Unit.STORE},
                                                        {Unit.POST, Unit.STORE}):
                continue                         # random programs have such, which nothing needs
            assert races, f"seed {seed}: the token from {giver} to {taker} orders nothing"
            needed += 1
            if needed % 4 == 0:                  # the simulator is slower than the proof
                try:
                    wrong += any(state(program, less, order) != expected for order in range(8))
                except ExecutionError:
                    wrong += 1
    assert needed > 80
    assert wrong > 0.5 * (needed // 4)


def test_early_is_given_wherever_it_is_safe_and_nowhere_else():
    count = {0: 0, 1: 0}
    for seed in range(40):
        program = program_of(seed)
        assert find_races(program.instructions, program.arch) == []
        for n, i in enumerate(program.instructions):
            if i.opcode != Opcode.ARRAY or not i.signal >> Unit.POST & 1:
                assert i.opcode != Opcode.ARRAY or i.early == 0
                continue
            count[i.early] += 1
            if not i.early:
                sooner = list(program.instructions)
                sooner[n] = replace(i, fields=i.fields | {"early": 1})
                # Or it is safe since the tokens of other units order all but the sums.
                taker = next(b for a, b in tokens_of(program.instructions)
                             if a == n and program.instructions[b].unit == Unit.POST)
                sooner[n] = replace(i, signal=i.signal & ~(1 << Unit.POST))
                less = list(sooner)
                less[taker] = replace(less[taker], wait=less[taker].wait & ~(1 << Unit.ARRAY))
                sooner[n] = replace(i, fields=i.fields | {"early": 1})
                assert find_races(sooner, program.arch) or {
                    space for *_, space in find_races(less, program.arch)} <= {Space.ACCUMULATOR}, (
                        f"seed {seed}, instruction {n}: {i}")
    assert min(count.values()) > 15


# By hand.

ARCH = Arch(rows=2, columns=2, activation_depth=64, weight_depth=8, accumulator_depth=32,
            parameter_depth=4, bus_bits=32)


def load(memory, address=0, **fields):
    return Instruction(Opcode.LOAD, dict(memory=memory, address=address) | fields)


def array(pixels=4, **fields):
    return Instruction(Opcode.ARRAY, dict(
        out_x=pixels, y_last=0, x_last=15, stride_ox=1, base=0) | fields)


def post(results=4, **fields):
    return Instruction(Opcode.POST, dict(out_x=results, base=32, stride_x=1, high=1) | fields)


def shown(instructions):
    """Opcode, wait and signal in letters."""
    return [f"{i.opcode.name[0]} {mask(i.wait)}>{mask(i.signal)}"
            for i in synchronize(instructions, ARCH)]


def mask(bits):
    return "".join("LAPS"[unit] for unit in Unit if bits >> unit & 1)


def test_only_conflicts_get_tokens():
    loads = [load(0, words=16), load(1, words=2), load(2)]
    # Post waits for its parameters, array for its weights; the next array overwrites what post
    # still reads, and nobody waits twice.
    assert shown([*loads, array(), post(), array(), array(), post()]) == [
        "L >", "L >A", "L >P", "A L>P", "P LA>A", "A P>", "A >P", "P A>"]
    # Other sums, other weights: no waiting.
    assert shown([*loads, array(), array(accumulator=8), post()]) == [
        "L >", "L >A", "L >P", "A L>P", "A >", "P LA>"]
    # New weights over used ones; a result over an activation that the array reads.
    assert shown([array(), load(1, words=2), array()]) == ["A >L", "L A>A", "A L>"]
    assert shown([array(), post(base=0)]) == ["A >P", "P A>"]
    assert shown([post(), array(base=32)]) == ["P >A", "A P>"]


def test_external_memory_is_ordered_too():
    store = Instruction(Opcode.STORE, dict(address=8, items=4, item_stride=2))
    assert shown([post(destination=1), store, load(0, 12)]) == ["P >", "S >L", "L S>"]
    assert shown([load(0, 12), post(destination=1), store]) == ["L >S", "P >", "S L>"]
    assert shown([post(destination=1), store, load(0, 16)]) == ["P >", "S >", "L >"]


@pytest.mark.parametrize("instructions, early", [
    ([array(), post()], 1),
    ([array(), post(2), post(2, accumulator=2)], 1),            # the second continues the first
    ([array(), post(1), post(2, accumulator=2)], 0),            # the second would run ahead
    ([array(accumulator=4), post(8)], 1),                       # reads older words first
    ([array(), post(2, accumulator=2)], 0),
    ([array(), post(base=0)], 0),                               # writes what the array reads
    ([array(), post(), post(1, base=3)], 0),                    # so does a later one
    ([array(), post(), array(1, accumulator=9), post(1, accumulator=9, base=3)], 1),
    ([array(), post(base=4)], 1),
    ([array(accumulate=1), post()], 1),
    ([array(), array(base=8), post(base=3)], 1),                # the first has finished by then
    ([array(), load(0, words=4, base=0), post(1, accumulator=1, base=40)], 0),
    ([array(8), post(3, pool_x=2), post(1, accumulator=6)], 1),
    ([array(8), post(3, pool_x=2), post(1, accumulator=7)], 0),
    ([array(8), post(3, pool_x=2, pooling=1), post(1, accumulator=6)], 1),
    ([array(8), post(3, pool_x=2, pooling=2), post(1, accumulator=7)], 1),
    ([array(8), post(3, pool_x=3, jump=-1)], 1),                # reads some words again
    ([array(8), post(3, pool_x=2, pool_y=2, row=4)], 0),        # the second row is not there yet
])
def test_early(instructions, early):
    synchronized = synchronize(instructions, ARCH)
    giver = next(i for i in synchronized
                 if i.opcode == Opcode.ARRAY and i.signal >> Unit.POST & 1)
    assert giver.early == early
    assert find_races(synchronized, ARCH) == []
    other = [replace(i, fields=i.fields | {"early": 1}) if i is giver else i
             for i in synchronized]
    assert bool(find_races(other, ARCH)) == (not early)


def test_old_tokens_are_dropped_and_the_input_is_left_alone():
    given = [replace(array(), wait=15, signal=15), post()]
    assert synchronize(given, ARCH) == synchronize([array(), post()], ARCH)
    assert (given[0].wait, given[0].early, given[1].wait) == (15, 0, 0)


def test_races_and_stalls_are_found():
    assert find_races([array(), post()], ARCH) == [(0, 1, Space.ACCUMULATOR)]
    assert find_races([load(1, words=2), array()], ARCH) == [(0, 1, Space.WEIGHT)]
    waiting = [replace(array(), wait=1), load(1)]
    with pytest.raises(ValueError, match=r"never arrive before instructions \[0\]"):
        find_races(waiting, ARCH)
    assert find_stall(waiting, ARCH) == [0]
    # One POST works, `queue_depth` wait in front of it, and the STORE stands behind one more.
    many = ARCH.queue_depth + 2
    to_store = [post(ITEMS + 1, destination=1), *[post(destination=1)] * (many - 1)]
    store = Instruction(Opcode.STORE, dict(items=ITEMS + 4 * many - 3, item_stride=2))
    assert find_stall([*to_store, store], ARCH) == list(range(many - 1))
    assert find_stall([*to_store[:-1], store, to_store[-1]], ARCH) is None
    # The first one's results all find room.
    to_store[0], store.fields["items"] = post(4, destination=1), 4 * many
    assert find_stall([*to_store, store], ARCH) is None


def test_outstanding_tokens_are_counted():
    def chain(count):
        return synchronize([*(load(2, base=n % 4) for n in range(count)),
                            *(post(parameters=n % 4) for n in range(count))], ARCH)
    assert outstanding(chain(4), ARCH) == 4
    assert outstanding([array(), post()], ARCH) == 0
    many = synchronize([i for n in range(40) for i in (load(1, words=2), array())], ARCH)
    assert np.sum([i.signal == 1 for i in many]) == 39
    # While an ARRAY waits, one is on its way and the queue is full; the next one has been loaded.
    assert outstanding(many, ARCH) == ARCH.queue_depth + 3

"""The instruction-level simulator against plain loops, and what it refuses."""

from functools import cache

import numpy as np
import pytest
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec import words as layout
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import OPCODES, Opcode, Unit
from systolith.sim.machine.access import AccessError, accesses, check, words
from systolith.sim.machine.iss import ExecutionError, Simulator, _beside
from systolith.sim.random.arch import random_arch
from systolith.sim.random.programs import random_program

from ... import interpreter

SEEDS = (*range(18), 81, 100, 108, 158, 219, 264)


@cache
def case(seed):
    """A random program, its simulator and its interpreter after the run."""
    arch = random_arch(seed, ("int", "float", "bipolar")[seed % 3])
    program = random_program(arch, seed, synchronize, 24)
    simulator = Simulator(arch, bytearray(program.image))
    simulator.run(program.instructions, seed)
    return program, simulator, interpreter.run(arch, program.image, program.instructions)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_word_is_what_plain_loops_make_of_it(seed):
    program, simulator, expected = case(seed)
    for result, values in zip(simulator.results, expected.results, strict=True):
        assert result.items.ravel().tolist() == values, program.instructions[result.number]
    assert simulator.activations.tolist() == expected.activations
    assert simulator.accumulators.tolist() == expected.sums
    assert bytes(simulator.memory) == bytes(expected.memory)


@pytest.mark.parametrize("seed", SEEDS)
def test_accesses_are_exactly_what_plain_loops_touch(seed):
    program, _, expected = case(seed)
    for i, touched in zip(program.instructions, expected.touched, strict=True):
        found = {(access.space.name, int(word), access.is_write)
                 for access in accesses(i, program.arch) for word in words(access.intervals)}
        assert found == touched, i


def test_the_cases_use_every_field():
    seen = {}
    for seed in SEEDS:
        for i in case(seed)[0].instructions:
            for name, value in i.fields.items():
                seen.setdefault((i.opcode, name), set()).add(value)
    alike = [f"{opcode.name}.{item.name}" for opcode, fields in OPCODES.items() for item in fields
             if len(seen[opcode, item.name]) < 2]
    assert not alike


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_the_log_of_stores_is_what_changed_in_memory(seed):
    program, simulator, _ = case(seed)
    memory = bytearray(program.image)
    for written in simulator.stores:
        for address, data in zip(written.addresses, written.data, strict=True):
            memory[address:address + len(data)] = data.tobytes()
    assert bytes(memory) == bytes(simulator.memory)


# A chip of one multiplier, and programs by hand.

ONE = Arch(rows=1, columns=1, activation="int8", weight="int8", activation_depth=16,
           weight_depth=4, accumulator_depth=8, parameter_depth=4, largest_k=4, bus_bits=32)


def unit_load(memory, address, **fields):
    return Instruction(Opcode.LOAD, dict(memory=memory, address=address, **fields))


def memory_image(activations, weight, bias=0, multiplier=1, shift=0):
    image = bytearray(256)
    image[:64] = layout.pack_activation_words(np.resize(activations, (16, 1)) & 255, ONE)
    image[64:68] = layout.pack_weight_words(np.array([[weight & 255]]), ONE)
    parts = (np.array([[part]]) for part in (bias, multiplier, shift))
    image[128:128 + ONE.parameter_bytes] = layout.pack_parameter_words(
        *parts, ONE, ties=np.array([[1]]))
    return image


LOADS = [unit_load(0, 0, words=16), unit_load(1, 64), unit_load(2, 128)]


def array(**fields):
    return Instruction(Opcode.ARRAY, dict(y_last=0, x_last=15, stride_ox=1) | fields)


def post(**fields):
    return Instruction(Opcode.POST, dict(low=-128, high=127) | fields)


def execute(instructions, image, **options):
    simulator = Simulator(ONE, image, **options)
    simulator.run(synchronize(instructions, ONE))
    return simulator


def test_a_product_is_rounded_to_even_and_clipped():
    for activation, weight, bias, shift, zero_point, expected in (
            (3, 5, 0, 0, 0, 15), (3, 5, 0, 1, 0, 8), (1, 5, 0, 1, 0, 2), (-1, 5, 0, 1, 0, -2),
            (3, 5, 2, 0, -7, 10), (100, 100, 0, 0, 5, 127), (-100, 100, 0, 0, 5, -128)):
        simulator = execute([*LOADS, array(out_x=1), post(zero_point=zero_point)],
                            memory_image([activation], weight, bias, shift=shift))
        assert simulator.results[0].items.item() == expected & 255


def test_accumulate_pool_and_raw():
    simulator = execute(
        [*LOADS, array(out_x=4), array(out_x=2, accumulate=1),
         post(pool_x=2, out_x=2), post(destination=1, raw=1, out_x=4),
         Instruction(Opcode.STORE, dict(address=192, items=4, item_stride=4, raw=1))],
        memory_image([1, -2, 3, 4], 5, bias=1))
    assert simulator.accumulators[:4, 0].tolist() == [10, -20, 15, 20]
    assert simulator.results[0].items.ravel().tolist() == [11, 21]
    assert simulator.results[1].items.ravel().tolist() == [11, -19, 16, 21]
    size = ONE.raw_bytes
    assert [int.from_bytes(simulator.memory[192 + 4 * n:192 + 4 * n + size].tobytes(), "little",
                           signed=True) for n in range(4)] == [11, -19, 16, 21]


# What it refuses.

def test_a_deadlock_names_who_waits_for_what():
    program = synchronize([*LOADS, array(), post()], ONE)
    program[1].signal = 0
    with pytest.raises(ExecutionError, match=r"deadlock: array waits for a token from load before "
                                             r"instruction 3 \(array .*post waits for a token from "
                                             r"array before instruction 4"):
        Simulator(ONE, memory_image([1], 1)).run(program, 3)


def test_left_over_tokens_and_items_are_errors():
    program = synchronize(LOADS, ONE)
    program[0].signal = 1 << Unit.STORE
    with pytest.raises(ExecutionError, match="nobody took: 1 from load to store"):
        Simulator(ONE, memory_image([1], 1)).run(program)
    with pytest.raises(ExecutionError, match="2 items from post that nobody stored"):
        execute([*LOADS, array(out_x=2), post(out_x=2, destination=1)], memory_image([1], 1))
    with pytest.raises(ExecutionError, match="store waits for 1 more items from post"):
        execute([*LOADS, array(), post(destination=1),
                 Instruction(Opcode.STORE, dict(items=2, item_stride=4))], memory_image([1], 1))
    with pytest.raises(ExecutionError, match="expects raw sums, and post made a group of results"):
        execute([*LOADS, array(), post(destination=1), Instruction(Opcode.STORE, dict(raw=1))],
                memory_image([1], 1))


def test_unknown_words_are_not_read():
    for program, text in (
            ([LOADS[0], array()], "reads weight word 0, which nothing has written"),
            ([LOADS[1], array()], "reads activation word 0"),
            ([*LOADS, array(), post(out_x=2)], "reads accumulator word 1"),
            ([*LOADS, array(), post(parameters=2)], "reads parameter word 2"),
            ([*LOADS, array(accumulate=1)], "reads accumulator word 0")):
        with pytest.raises(ExecutionError, match=text):
            execute(program, memory_image([1], 1))
    execute([*LOADS, array(), post(out_x=2)], memory_image([1], 1), strict=False)


def test_sums_beyond_exact_accumulators_are_refused():
    repeated = [*LOADS, array(weight_base=0)] + [array(accumulate=1) for _ in range(8)]
    with pytest.raises(ExecutionError, match="more than accumulators of 18 bits hold"):
        execute(repeated, memory_image([-128], -128))


@pytest.mark.parametrize("instruction, text", [
    (unit_load(0, 0, words=17), r"writes activation words 0 to 16; the chip has 16"),
    (unit_load(0, 192, words=16, base=0, rows=2, row_stride=0),
     "reaches byte 256 of a window of 255 bytes"),
    (unit_load(0, 2), "address must be a multiple of 4 bytes"),
    (unit_load(3, 0), "the chip has no operand memory"),
    (array(out_x=9, x_last=15), "writes accumulator words 0 to 8; the chip has 8"),
    (array(weight_base=4), "reads weight words 4 to 4; the chip has 4"),
    (array(y_start=-5, y_last=0, stride_oy=1, out_y=6, base=17), "reads activation words 17"),
    (array(x_start=32767, stride_ox=1, out_x=2), "x_start is 32767, which does not fit the 7 bits"),
    (array(pad_code=256), "pad_code must be from 0 to 255, the codes"),
    (post(group=1), "group must be from 0 to 0, the groups of the columns"),
    (post(slot=1), "slot must be from 0 to 0, the groups of a word"),
    (post(low=-129), "low must be from -128 to 127, the results"),
    (post(low=1, high=0), "low must not be above high, and 1 is above 0"),
    (post(raw=1), "raw results go to the store unit"),
    (post(base=1, out_x=2, stride_x=-2), "writes activation words -1 to 1"),
    (Instruction(Opcode.STORE, dict(address=252, items=2, item_stride=4)), "reaches byte 257"),
    (Instruction(Opcode.STORE, dict(burst=1)), "no whole beats of 4 bytes"),
])
def test_what_reaches_outside_is_refused(instruction, text):
    with pytest.raises(AccessError, match=text):
        check(instruction, ONE, 255)
    if instruction.opcode != Opcode.STORE:       # without items it would only wait
        with pytest.raises(AccessError, match=text):
            Simulator(ONE, bytearray(255), strict=False).run([instruction])


def test_another_chips_program_is_refused():
    other = random_arch(3)
    program = random_program(other, 1, synchronize, 8)
    with pytest.raises(ExecutionError, match=f"identity {identity(other):016x}"):
        Simulator(ONE, bytearray(program.image)).run(program.instructions)


def test_memory_must_be_writeable():
    with pytest.raises(TypeError, match="must be writeable"):
        Simulator(ONE, bytes(64))


def test_the_seed_decides_the_order():
    program = [unit_load(0, 0), unit_load(1, 64), *(array() for _ in range(3))]

    class Noted(Simulator):
        def _execute(self, number, i):
            order.append(number)

    orders = set()
    for seed in [None, *range(20), *range(20)]:
        order = []
        Noted(ONE, bytearray(256)).run(program, seed)
        orders.add((seed, tuple(order)))
        if seed is None:
            assert order == sorted(order)
    assert len(orders) == 21 and len({order for _, order in orders}) > 5


def test_each_part_of_the_lanes_sees_the_pixel_before_that_of_the_part_before_it():
    images = np.arange(1, 13).reshape(3, 4)
    assert _beside(images, 1).tolist() == images.tolist()
    assert _beside(images, 2).tolist() == [[1, 2, 0, 0], [5, 6, 3, 4], [9, 10, 7, 8]]
    assert _beside(images, 4).tolist() == [[1, 0, 0, 0], [5, 2, 0, 0], [9, 6, 3, 0]]

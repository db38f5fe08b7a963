"""The cycle model against the core in Verilator, to the cycle."""

import random
from collections import deque
from types import SimpleNamespace

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec import timing
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import Destination, Memory, Opcode, Pooling, Unit
from systolith.hw.spec.loops import group_field
from systolith.hw.spec.memories import word_bytes
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import Model, Stuck, cycles
from systolith.sim.random.programs import random_program
from systolith.sim.rtl import core as rtl

#: Not square, not powers of two; the second one's POST can write in every cycle.
ARCHS = [
    Arch(rows=3, columns=6, lanes=2, bus_bits=32, burst_beats=8, queue_depth=2, post_lanes=2,
         activation_depth=200, accumulator_depth=60, weight_depth=60, parameter_depth=12,
         operand_depth=80, table_depth=512, load_windows=True),
    Arch(rows=10, columns=2, activation="e2m3", weight="e3m2", bus_bits=512, burst_beats=64,
         queue_depth=4, activation_depth=64, accumulator_depth=90, weight_depth=200,
         parameter_depth=20, table_depth=64, leaky=True, two_writes=True, two_fillings=True),
    Arch(rows=4, columns=4, lanes=4, bus_bits=64, burst_beats=16, post_lanes=4, tap_rows=True,
         activation_depth=201, accumulator_depth=60, weight_depth=64, parameter_depth=12,
         operand_depth=80, load_windows=True, two_writes=True),
    Arch(rows=9, columns=9, activation="int4", weight="int4", depthwise=True, bus_bits=64,
         activation_depth=64, accumulator_depth=90, weight_depth=200, parameter_depth=20,
         two_fillings=True),
    Arch(rows=5, columns=5, activation="int4", weight="int4", depthwise=True, bus_bits=64,
         address_bits=17, prefetch=False, activation_depth=64, accumulator_depth=90,
         weight_depth=200, parameter_depth=20),
]
WINDOW = 1 << 16


def program(arch, code, offset=0):
    """A Program of these instructions between BEGIN and END, at `offset`."""
    code = sealed([Instruction(Opcode.BEGIN, fields={"identity": identity(arch)}), *code,
                   Instruction(Opcode.END)])
    text = b"".join(item.to_bytes(arch.instruction_bytes) for item in code)
    return Program(arch, code, bytes(offset) + text, offset, WINDOW)


def wild_program(arch, seed, instructions=60):
    """Instructions that heed each other's tokens and nothing else.

    The core's timing does not depend on data, so that what they read and overwrite is left to
    chance, and all units are at work at the same time. Tokens are given before they are taken,
    in program order, and what goes to the store unit is stored at once: nothing can get stuck.
    """
    draw = random.Random(f"wild {seed}")
    code, given = [], {(giver, taker): 0 for giver in Unit for taker in Unit if giver != taker}

    def add(opcode, withheld=(), **fields):
        wait = signal = 0
        for (giver, taker), count in given.items():
            if taker == opcode.unit and count and draw.random() < 0.5:
                wait |= 1 << giver
                given[giver, taker] -= 1
        for giver, taker in given:
            if giver == opcode.unit and taker not in withheld and draw.random() < 0.3:
                signal |= 1 << taker
                given[giver, taker] += 1
        code.append(Instruction(opcode, wait=wait, signal=signal, fields=fields))

    def load():
        memory = draw.choice([Memory.ACTIVATION, Memory.ACTIVATION, Memory.WEIGHT,
                              Memory.PARAMETER, *[Memory.OPERAND] * bool(arch.operand_depth),
                              *[Memory.TABLE] * bool(arch.table_depth)])
        unit = max(16, arch.beat_bytes)
        beats = draw.choice([0, draw.randint(0, word_bytes(memory, arch) // arch.beat_bytes)])
        add(Opcode.LOAD, memory=memory, address=unit * draw.randrange(512),
            rows=draw.choice([1, 1, 3]), words=draw.choice([1, draw.randint(1, 40)]),
            row_stride=unit * draw.randrange(100), word_beats=beats)

    def windows():
        words, (even, odd) = draw.randint(1, 40), (draw.randint(1, 2 * arch.vector) for _ in "ab")
        size = words // 2 * even + (words - 1) // 2 * odd + arch.vector
        beats = -(-size // arch.beat_bytes)
        add(Opcode.LOAD, memory=Memory.ACTIVATION, address=64 * draw.randrange(100),
            rows=draw.choice([1, 1, 3]), words=words, row_stride=64 * draw.randrange(100),
            word_beats=beats, step_even=even, step_odd=odd, spare=beats * arch.beat_bytes - size)

    def array():
        add(Opcode.ARRAY, kernel_y=draw.randint(1, 3), kernel_x=draw.randint(1, 2),
            blocks=draw.randint(1, 3), out_y=draw.randint(1, 4), out_x=draw.randint(1, 5),
            weight_base=draw.randrange(4),
            pool_y=draw.randint(1, 2), accumulate=draw.randrange(2), x_last=4, y_last=4,
            **({"starts": 1} if arch.depthwise and draw.random() < 0.5 else
               {"pool_x": draw.randint(1, 2), "early": draw.randrange(2),
                "height": draw.randrange(arch.rows // arch.height_unit + 1)}))

    def post():
        to_store, raw = draw.random() < 0.4, draw.random() < 0.4
        raw &= to_store
        windows = {} if raw or draw.random() < 0.5 else dict(
            pool_y=draw.randint(1, 3), pool_x=draw.randint(1, 3), row=draw.randint(1, 9),
            jump=draw.randint(-1, 2), turn=draw.randint(0, 9), pooling=draw.choice(list(Pooling)))
        out_y, out_x = draw.randint(1, 5), draw.randint(1, 12)
        kept = windows.get("pooling") in (Pooling.CARRIED, Pooling.LEAD)
        chunks = arch.chunks if raw or kept else draw.randint(1, arch.chunks)
        # its own STORE must run along with it
        others = list(Destination) if arch.operand_depth else [Destination.ACTIVATION]
        add(Opcode.POST, withheld=[Unit.STORE] * to_store, out_y=out_y, out_x=out_x, **windows,
            raw=int(raw), stride_x=1, group=group_field(0, chunks, arch),
            operand=int(arch.operand_depth > 0 and not raw and draw.random() < 0.5),
            table=int(arch.table_depth > 0 and not raw and draw.random() < 0.5),
            destination=Destination.STORE if to_store else draw.choice(
                [item for item in others if item != Destination.STORE]))
        if to_store:
            size = arch.raw_bytes if raw else arch.group_bytes
            items = out_x * (arch.chunks if raw else 1)
            add(Opcode.STORE, raw=int(raw), rows=out_y, items=items,
                address=WINDOW // 2 + size * draw.randrange(100),
                row_stride=size * draw.randint(0, 2 * items), item_stride=2 * size,
                burst=int(size % arch.beat_bytes == 0 and draw.random() < 0.6))

    while len(code) < instructions:
        kind = draw.choice([windows if arch.load_windows and draw.random() < 0.5 else load,
                            load, array, post])
        for _ in range(draw.choice([1, 1, 1, 5])):
            kind()
    return program(arch, code, offset=64 * draw.randrange(64))


def by_core(simulation):
    return [(runs[0].cycles, runs[0].compute_first, runs[0].compute_last, runs[0].activity)
            for runs in simulation.runs]


def by_model(jobs):
    timings = [cycles(job.program, job.latency) for job in jobs]
    return [(timing.cycles, timing.compute_first, timing.compute_last,
             timing.activity) for timing in timings]


@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.rows}x{arch.columns}")
def test_the_model_is_the_core_to_the_cycle(arch):
    jobs = [rtl.Job(wild_program(arch, seed), [rtl.Run()], latency=(32, 1, 7, 100)[seed % 4])
            for seed in range(16)]
    jobs += [rtl.Job(random_program(arch, seed, synchronize), [rtl.Run()]) for seed in range(3)]
    assert by_model(jobs) == by_core(rtl.simulate(core_verilog(arch), jobs))


def starved_program(arch, seed):
    """POSTs of few items and STOREs of runs and bursts that these do not fill: which unit gets its
    next instruction first depends on when STORE is done with its runs, not with their items."""
    draw = random.Random(f"starved {seed}")
    posts = [draw.choice((1, 1, 1, 2, 3)) for _ in range(draw.randint(3, 9))]
    items, stores = sum(posts), []
    while items:
        rows = draw.choice([rows for rows in (1, 2, 2, 3) if rows <= items])
        stores.append((rows, draw.randint(1, items // rows)))
        items -= rows * stores[-1][1]
    code = [Instruction(Opcode.LOAD, signal=1 << Unit.POST,
                        fields={"memory": Memory.WEIGHT, "words": 100})]
    posts = [Instruction(Opcode.POST, fields={"raw": 1, "out_x": count,
                                              "destination": Destination.STORE})
             for count in posts]
    posts[0].wait = 1 << Unit.LOAD
    stores = [Instruction(Opcode.STORE, fields={
        "raw": 1, "rows": rows, "items": count, "burst": 1, "address": 4096 * n,
        "row_stride": 256}) for n, (rows, count) in enumerate(stores)]
    while posts or stores:
        code.append((posts if posts and (not stores or draw.random() < 0.5) else stores).pop(0))
    return program(arch, code)


@pytest.mark.parametrize("burst_beats", [4, 16])
def test_stores_make_way_before_their_items_have_come(burst_beats):
    arch = Arch(rows=4, columns=4, post_lanes=4, queue_depth=5, bus_bits=32,
                burst_beats=burst_beats, activation_depth=64, accumulator_depth=60,
                weight_depth=200, parameter_depth=12)
    jobs = [rtl.Job(starved_program(arch, seed), [rtl.Run()], latency=(1, 7)[seed % 2])
            for seed in range(60)]
    assert by_model(jobs) == by_core(rtl.simulate(core_verilog(arch), jobs))


def test_a_pass_of_one_pixel_before_one_from_the_top():
    arch = ARCHS[-1]
    made = program(arch, [Instruction(Opcode.ARRAY, fields={}),
                          Instruction(Opcode.ARRAY, fields={"starts": 1, "out_x": 3})])
    jobs = [rtl.Job(made, [rtl.Run()])]
    assert by_model(jobs) == by_core(rtl.simulate(core_verilog(arch), jobs))


def test_the_smallest_program_by_hand():
    arch = Arch(rows=4, columns=4, bus_bits=64)
    timing = cycles(program(arch, []), latency=32)
    # decided in cycle 1, asked in 2, on the bus in 3, 6 beats from 35 to 40: BEGIN is executed in
    # 44, END six cycles later. Five requests of 6 beats were made before.
    assert timing.instructions[0] == (44, 44)
    # after END, from 51 on, BEGIN is asked for again: decided in 52, on the bus in 54, the last of
    # its beats comes in 91, which is seen two cycles later
    assert timing.cycles == 93
    assert not any(timing.waits.values())
    assert not any(count for unit in timing.activity.values() for count in unit.values())


def test_passes_follow_each_other_without_a_bubble():
    arch = Arch(rows=16, columns=16, weight_depth=1024)
    one, nine = (cycles(program(arch, [Instruction(Opcode.ARRAY, fields={
        "kernel_y": kernel, "kernel_x": kernel, "out_y": 10, "out_x": 10})]))
        for kernel in (1, 3))
    assert nine.cycles - one.cycles == 8 * 100


def test_work_in_one_unit_is_hidden_behind_another():
    arch = Arch(rows=16, columns=16, weight_depth=1024)
    array = Instruction(Opcode.ARRAY, fields={"kernel_y": 9, "out_y": 20, "out_x": 25})
    load = Instruction(Opcode.LOAD, fields={"words": 1000})
    alone, both = cycles(program(arch, [array])), cycles(program(arch, [array, load]))
    assert alone.activity["array"]["running"] > 4500
    assert both.activity["load"]["running"] > 2000
    assert both.cycles == alone.cycles


@pytest.mark.parametrize("words", [1, 4, 9])
def test_load_is_at_work_until_its_last_word_is_written(words):
    """From the cycle before its first run is offered to that in which its tokens are given."""
    load = Instruction(Opcode.LOAD, dict(memory=Memory.WEIGHT, words=words))
    made = cycles(program(ARCHS[0], [load]))
    start, end = made.instructions[1]
    assert sum(made.activity["load"].values()) == end - start + 2


def test_instructions_are_timed_in_program_order():
    arch = ARCHS[0]
    made = wild_program(arch, 3)
    timing = cycles(made)
    assert len(timing.instructions) == len(made.instructions)
    for unit in Unit:
        own = [times for times, code in zip(timing.instructions, made.instructions, strict=True)
               if code.unit == unit]
        assert own == sorted(own)
        assert all(0 < start < end <= timing.cycles for start, end in own)
    assert timing.instructions[-1] == (timing.cycles, timing.cycles)


@pytest.mark.parametrize("code, message", [
    ([Instruction(Opcode.ARRAY, wait=1 << Unit.LOAD)], "array waits in instruction 1"),
    ([Instruction(Opcode.STORE), Instruction(Opcode.LOAD)], "store waits in instruction 1"),
    ([Instruction(Opcode.POST, fields={"out_x": 40, "destination": 1})],
     "post waits in instruction 1"),
])
def test_a_program_that_never_ends_is_refused(code, message):
    with pytest.raises(Stuck, match=f"^the program never ends; {message}$"):
        cycles(program(ARCHS[0], code))


def test_the_first_pass_of_an_instruction_fills_all_rows():
    """Of passes of one pixel that fill two of 16 rows, the second comes after 16 words, and the
    others after as many cycles as sums need."""
    arch = Arch(rows=16, columns=4, weight_depth=1024)
    passes = {count: cycles(program(arch, [Instruction(Opcode.ARRAY, fields=dict(
        kernel_x=count, height=2, x_last=8))])).instructions[1] for count in (1, 2, 3, 5)}
    length = {count: end - start for count, (start, end) in passes.items()}
    assert length[2] - length[1] == 16
    assert length[3] - length[2] == timing.REVISIT
    assert length[5] - length[3] == 2 * timing.REVISIT


@pytest.mark.parametrize("period, out_x, base, stride_y, stride_x, first", [
    (1, 5, 8, 5, 1, 0), (1, 4, 9, 7, 2, 3), (3, 3, 40, -4, -3, 0), (2, 1, 0, 3, 1, 2)])
def test_load_waits_where_post_writes_a_word_of_the_same_parity(period, out_x, base, stride_y,
                                                                stride_x, first):
    """Words that POST writes: those of its results from number `first` on, from cycle 20 on."""
    post = Instruction(Opcode.POST, dict(base=base, out_x=out_x, out_y=4, stride_y=stride_y,
                                         stride_x=stride_x))
    load = Instruction(Opcode.LOAD, dict(base=11, base_stride=7, words=3, rows=4))
    places = [base + y * stride_y + x * stride_x for y in range(4) for x in range(out_x)][first:]
    writes = {20 + n * period: place for n, place in enumerate(places)}
    words = [11 + row * 7 + word for row in range(4) for word in range(3)]
    for two in (True, False):
        arch = Arch(rows=2, columns=2, two_writes=two, load_windows=True)
        own = SimpleNamespace(arch=arch, written={
            Memory.ACTIVATION: deque([(20, period, max(writes), post, first)])})
        for cycle in range(15, max(writes) + 1):
            for number, word in enumerate(words):
                meets = cycle in writes and (not two or (writes[cycle] ^ word) & 1 == 0)
                assert bool(Model._post_writes(own, cycle, load, number)) == meets
        assert not Model._post_writes(own, max(writes) + 1, load, 0)
        assert not own.written[Memory.ACTIVATION]      # it is over

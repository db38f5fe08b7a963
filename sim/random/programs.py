"""Random legal programs for random chips, from a seed.

Every program is in a valid sequential order, reads only words that were written before, and stays
within the chip and its window; within that, fields, data and order are as wild as a program of
this size can be. The same seed gives the same program.
"""

import random
from collections.abc import Callable

import numpy as np
from systolith.hw.spec import loops
from systolith.hw.spec import words as layout
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import OPCODES, Destination, Memory, Opcode, Pooling, Unit
from systolith.hw.spec.legality import executes
from systolith.hw.spec.memories import MEMORIES, Space, item_bytes, loadable, word_bytes
from systolith.hw.spec.narrow import words_of_rows
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.program import Program
from systolith.sim.machine.access import AccessError, accesses, check, check_program, words
from systolith.sim.machine.races import find_stall

from .fields import combination, operand_fields, parameter_words, stretched

__all__ = ["STEPS", "random_program"]

#: Pixels times passes of one ARRAY instruction, at most; bounds the cycles of a simulation.
STEPS = 600
#: What a field can count, of those that may be longer.
_LONGEST = {item.name: item.high for item in OPCODES[Opcode.ARRAY]}


def random_program(arch: Arch, seed: int, synchronize: Callable[[list, Arch], list],
                   instructions: int = 40) -> Program:
    """A Program of at most about `instructions` instructions.

    synchronize(instructions, arch) -> instructions fills in the tokens, as `gen/compile/tokens.py`
    does. Every byte of the window is in the image.
    """
    return _Writer(arch, seed, instructions).program(synchronize)


class _Writer:
    """A random program as it grows, and which words the instructions so far have written."""

    def __init__(self, arch, seed, instructions):
        self.arch, self.limit = arch, instructions
        self.draw = random.Random(f"program {seed}")
        (self.other, self.heights, self.sides, self.ties, self.signs, self.chunks, self.windows_of,
         self.narrow, self.own_rows, self.ends, self.above, self.cuts) = (
            random.Random(f"program's {what} {seed}") for what in (
                "sums", "heights", "sides", "ties", "signs", "chunks", "windows", "narrow weights",
                "taps in rows", "ends", "rows from above", "parts of items"))
        self.data = np.random.default_rng([seed, 1])
        self.instructions = []
        self.layer = 0
        self.code_offset = self.draw.randrange(0, 5) * 64
        if seed % 2:                    # an instruction may lie on two pages
            self.code_offset = PAGE_BYTES - 64 * (1 + seed // 2 % 3)
        code = self.code_offset + (instructions + 8) * arch.instruction_bytes
        self.free = -(-code // 64) * 64          # where data may stand from
        if arch.address_bits <= 18 and self.ends.random() < 0.1:
            self.free = max(self.free, 1 << arch.address_bits - 1)
        self.sections = []                       # (start, bytes)
        self.window = self.free + PAGE_BYTES * self.draw.choice((1, 3))
        self.codes = {0, *arch.activation.finite_codes().tolist()}
        self.all_numbers = all(len(form.finite_codes()) == 1 << form.width
                               for form in (arch.activation, arch.weight))
        self.memories = [Memory(row.space) for row in loadable(arch)]
        self.slots = np.zeros((arch.activation_depth, arch.groups_per_word), bool)
        self.operands = np.zeros((MEMORIES[Space.OPERAND].depth(arch), arch.groups_per_word), bool)
        self.weights = np.zeros(arch.weight_depth, bool)
        self.parameters = np.zeros(arch.parameter_depth, bool)
        self.table = np.zeros(MEMORIES[Space.TABLE].depth(arch), bool)
        self.pool = np.zeros(MEMORIES[Space.POOL].depth(arch), bool)
        self.sums = np.zeros(arch.accumulator_depth, np.int64)       # products in each word

    def program(self, synchronize):
        arch = self.arch
        for memory in self.memories:
            self.load(memory)
        self.fill(self.limit - 2)
        code = [Instruction(Opcode.BEGIN, {"identity": identity(arch)}), *self.instructions,
                Instruction(Opcode.END)]
        code = synchronize(code, arch)
        self.add_tokens(code)
        code = sealed(code)
        window = -(-self.window // 64) * 64
        image = self.data.integers(0, 256, window, dtype=np.uint8)
        for start, section in self.sections:
            image[start:start + len(section)] = np.frombuffer(section, np.uint8)
        text = b"".join(i.to_bytes(arch.instruction_bytes) for i in code)
        image[self.code_offset:self.code_offset + len(text)] = np.frombuffer(text, np.uint8)
        program = Program(arch, code, image.tobytes(), self.code_offset, window)
        check_program(program)
        return program

    def fill(self, limit):
        """Append instructions until there are `limit`, or a few more."""
        draw, makers = self.draw, {self.any_load: 2, self.array: 4, self.post: 4}
        while len(self.instructions) < limit:
            if draw.random() < 0.3:
                self.layer = draw.randrange(1 << 12)
            draw.choices(list(makers), list(makers.values()))[0]()

    def add(self, opcode, **fields):
        """Append an instruction if it is legal; returns whether it was."""
        instruction = Instruction(opcode, fields, layer=self.layer)
        try:
            check(instruction, self.arch)
        except (AccessError, ValueError):
            return False
        self.instructions.append(self.at_ends(instruction))
        return True

    def at_ends(self, instruction):
        """The instruction with fields at the ends of their ranges, where it reads and writes the
        same words all the same: fields that do not matter here, limits, factors."""
        for _ in range(3):
            if self.ends.random() < 0.5:
                changed = stretched(instruction, self.arch, self.ends)
                if changed.fields.get("pad_code", 0) not in self.codes:
                    continue
                try:
                    check(changed, self.arch)
                except (AccessError, ValueError):
                    continue
                if self.touched(changed) == self.touched(instruction):
                    instruction = changed
        return instruction

    def add_tokens(self, code):
        """Tokens between units that need none, as STORE and POST, whose items meet in a queue."""
        for giver, taker in ((Unit.ARRAY, Unit.STORE), (Unit.STORE, Unit.ARRAY),
                             (Unit.POST, Unit.STORE), (Unit.STORE, Unit.POST)):
            gives = [n for n, i in enumerate(code) if i.unit == giver]
            if self.ends.random() < 0.5 or not gives or any(
                    i.unit == giver and i.signal >> taker & 1 for i in code):
                continue
            first = self.ends.choice(gives)
            after = [i for i in code[first:] if i.unit == taker]
            if after:
                last = self.ends.choice(after)
                code[first].signal ^= 1 << taker
                last.wait ^= 1 << giver
                # a POST may need the STORE that takes its items, to end
                if find_stall(code, self.arch):
                    code[first].signal ^= 1 << taker
                    last.wait ^= 1 << giver

    def touched(self, instruction):
        return [(access.space, access.is_write, access.intervals.tobytes())
                for access in accesses(instruction, self.arch)]

    def run(self, known, least=1):
        """(first, length) of some of the successive words that are known, None if too few."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], known.astype(np.int8), [0]))))
        runs = [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= least]
        if not runs:
            return None
        first, stop = self.draw.choice(runs)
        if self.draw.random() < 0.4:
            first = self.draw.randint(first, stop - least)
        return first, stop - first

    # Loads.

    def any_load(self):
        if executes(self.arch, Opcode.LOAD, "step_even") and self.windows_of.random() < 0.3:
            self.windowed()
        else:
            self.load(self.draw.choice(self.memories))

    def windowed(self):
        """Windows of runs of fresh codes, a byte each."""
        arch, draw = self.arch, self.windows_of
        words_a_run = draw.randint(1, min(40, arch.activation_depth))
        rows = draw.randint(1, min(3, arch.activation_depth // words_a_run))
        base = draw.randint(0, arch.activation_depth - rows * words_a_run)
        even, odd = (draw.randint(1, draw.choice((3, min(127, 2 * arch.vector)))) for _ in "ab")
        used = words_a_run // 2 * even + (words_a_run - 1) // 2 * odd + arch.window_bytes
        beats = -(-used // arch.beat_bytes)
        size = beats * arch.beat_bytes
        codes = self.data.choice(arch.activation.finite_codes(), rows * size).astype(np.uint8)
        address = self.window
        self.window += rows * size
        self.sections.append((address, codes.tobytes()))
        if self.add(Opcode.LOAD, memory=Memory.ACTIVATION, address=address, rows=rows,
                    words=words_a_run, row_stride=size, base=base, base_stride=words_a_run,
                    word_beats=beats, step_even=even, step_odd=odd,
                    spare=beats * arch.beat_bytes - used):
            self.slots[words(accesses(self.instructions[-1], arch)[1].intervals)] = True

    def load(self, memory):
        """Words of fresh data, or of whatever stands in the window already, which is random bytes
        in part: not where these may be codes of no number."""
        arch, draw = self.arch, self.draw
        size, depth = word_bytes(memory, arch), MEMORIES[Space(memory)].depth(arch)
        most = min(depth, max(arch.fill, 2048 // size, 1))
        count = draw.randint(min(depth, arch.chunks if memory == Memory.PARAMETER else arch.fill),
                             max(most, min(depth, arch.chunks)))
        rows = draw.choice([n for n in range(1, 9) if count // n]) if draw.random() < 0.6 else 1
        run = count // rows
        base_stride = draw.choice((run, run, run + draw.randrange(3), draw.randrange(run + 1)))
        reach = base_stride * (rows - 1) + run
        if reach > depth:
            base_stride, reach = run, run * rows
        base = draw.randint(0, depth - reach)
        if (memory == Memory.TABLE and not self.table.all()) or (
                memory == Memory.POOL and not self.pool.all()):
            rows, run, base, base_stride = 1, depth, 0, 0
        word_beats = draw.randint(1, size // arch.beat_bytes) if (
            self.all_numbers and draw.random() < 0.3) else 0
        whole, size = size, word_beats * arch.beat_bytes or size
        gap = draw.choice((0, 0, 1, draw.randrange(9))) * arch.beat_bytes
        row_stride = run * size + gap
        span = row_stride * (rows - 1) + run * size
        if draw.random() < 0.7 or self.free + span > self.window or not self.all_numbers:
            address = self.window
            if draw.random() < 0.3:              # ends or starts at a 4 KiB boundary
                address = -(-address // PAGE_BYTES) * PAGE_BYTES - draw.choice((0, arch.beat_bytes))
                address = max(address, self.window)
            self.window = address + span
            codes = b"".join(code[:size] for code in _cut(self.fresh(memory, run * rows), whole))
            for row in range(rows):
                self.sections.append((address + row * row_stride,
                                      codes[row * run * size:(row + 1) * run * size]))
        else:
            beats = (self.window - self.free - span) // arch.beat_bytes
            address = self.free + draw.randint(0, beats) * arch.beat_bytes
            if self.ends.random() < 0.2:
                address = 0
        if self.add(Opcode.LOAD, memory=memory, address=address, rows=rows, words=run,
                    row_stride=row_stride, base=base, base_stride=base_stride,
                    word_beats=word_beats):
            known = (self.slots, self.weights, self.parameters, self.operands, self.table,
                     self.pool)[memory]
            known[words(accesses(self.instructions[-1], arch)[1].intervals)] = True

    def fresh(self, memory, count):
        arch, data = self.arch, self.data
        if memory == Memory.PARAMETER:
            return parameter_words(arch, data, self.ties, count)
        if memory == Memory.TABLE:
            bottom, top = arch.activation.ordered_range
            return layout.pack_table_words(data.integers(bottom, top + 1, count), arch)
        if memory == Memory.POOL:
            return layout.pack_pool_words(data.choice(arch.weight.finite_codes(), count), arch)
        pack, format, width = (
            (layout.pack_activation_words, arch.activation, arch.vector)
            if memory in (Memory.ACTIVATION, Memory.OPERAND) else
            (layout.pack_weight_words, arch.weight, arch.columns * arch.lanes))
        every = format.finite_codes()
        values = format.decode(every)
        extremes = every[[values.argmin(), values.argmax()]]
        smallest = every[np.argsort(np.abs(values), kind="stable")[:3]]
        some = self.draw.choice((every, every, extremes, smallest))
        return pack(data.choice(some, (count, width)), arch)

    # Computing.

    def array(self):
        for _ in range(30):
            if self.add_array(self.draw.random() < 0.5):
                return
        self.load(self.draw.choice((Memory.ACTIVATION, Memory.WEIGHT)))

    def add_array(self, wild):
        """A convolution over some known words, or (wild) loops of any strides."""
        arch, draw = self.arch, self.draw
        rows_used = self.heights.choice(
            (0, 0, self.heights.randint(1, arch.rows // arch.height_unit)))
        longest = self.ends.choice(
            ("kernel_y", "kernel_x", "blocks", "pool_y", "pool_x", *[""] * 15))
        if longest and self.ends.random() < 0.5:    # of as many passes as can be
            rows_used = 1
        if arch.weight.block_scale:
            rows_used = 0
        narrow = self.narrow.randint(0, len(arch.code_widths))
        words_a_pass = words_of_rows(rows_used * arch.height_unit or arch.fill, narrow, arch)
        apart = self.taps_in_rows()
        if apart:
            rows_used, narrow, words_a_pass = apart[0], 0, apart[0] * arch.height_unit
        known, weights = self.run(self.slots.all(axis=1)), self.run(self.weights, arch.fill)
        if known is None or weights is None:
            return False
        base, length = known
        width = draw.randint(1, min(length, 12))
        height = draw.randint(1, min(length // width, 12))
        blocks = draw.randint(1, max(1, min(length // (width * height), 4)))
        kernel_y, kernel_x = draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3, 5))
        if apart:
            blocks, (kernel_y, kernel_x) = 1, apart[1:]
        if kernel_y * kernel_x * blocks > weights[1] // words_a_pass:
            kernel_y = kernel_x = 1
            blocks = draw.randint(1, weights[1] // words_a_pass)
        pool_y, pool_x = draw.choice(((1, 1), (1, 1), (2, 2), (1, 3), (3, 2)))
        stride = draw.randint(1, 3), draw.randint(1, 3)
        dilation = draw.choice((1, 1, 2)), draw.choice((1, 1, 2))
        pads = draw.randrange(kernel_y + 1), draw.randrange(kernel_x + 1)
        out_y, out_x = draw.randint(1, 6), draw.randint(1, 8)
        if longest:                              # one loop as long as it can be
            kernel_y = kernel_x = blocks = pool_y = pool_x = out_y = out_x = 1
        fields = dict(
            base=base, kernel_y=kernel_y, kernel_x=kernel_x, blocks=blocks, out_y=out_y,
            out_x=out_x, pool_y=pool_y, pool_x=pool_x, y_start=-pads[0] * width, x_start=-pads[1],
            y_last=(height - 1) * width, x_last=width - 1, stride_ky=dilation[0] * width,
            stride_kx=dilation[1], stride_block=width * height,
            stride_oy=stride[0] * pool_y * width, stride_ox=stride[1] * pool_x,
            stride_py=stride[0] * width, stride_px=stride[1])
        if longest:
            fields[longest] = (15 if longest.startswith("pool") else
                               min(weights[1] // words_a_pass, _LONGEST[longest]))
            fields |= dict(stride_ky=1, stride_kx=1, stride_block=0)
        if wild:
            for name in draw.sample(("ky", "kx", "oy", "ox", "py", "px", "block"), 3):
                fields[f"stride_{name}"] = draw.randint(-width - 1, width + 1)
            fields["y_start"], fields["x_start"] = draw.randint(-9, 9), draw.randint(-9, 9)
        if executes(arch, Opcode.ARRAY, "starts") and not apart and draw.random() < 0.5:
            self.from_above(fields)
        array = Instruction(Opcode.ARRAY, fields)
        if array.starts:
            words_a_pass = words_of_rows(arch.rows, narrow, arch)
            if rows_used and loops.passes(array) * words_a_pass > weights[1]:
                return False
            if self.above.random() < 0.5:
                rows_used = 0
        if array.starts and loops.begins(array).max() + arch.rows > loops.pixels(array):
            return False                         # rows would multiply what is not there
        passes, made = loops.passes(array), loops.results(array)
        if loops.pixels(array) * passes > STEPS or made > arch.accumulator_depth:
            return False
        first = draw.randint(0, arch.accumulator_depth - made)
        sums = slice(first, first + made)
        accumulate = bool(draw.random() < 0.4 and self.sums[sums].all())
        double = bool(executes(arch, Opcode.ARRAY, "double") and (
            accumulate or not arch.bit_planes) and self.other.random() < 0.6)
        signs = bool(executes(arch, Opcode.ARRAY, "signs") and not array.starts
                     and not rows_used and not narrow and self.signs.random() < 0.5)
        factor = 1 << arch.weight.width * (double and arch.wide_weights)
        products = passes * arch.vector * factor + (self.sums[sums] * accumulate << (
            double and arch.bit_planes))
        # Words that are no scales can multiply twice as much as the largest scale.
        if arch.accumulator is None and products.max() << (
                arch.prepared_scales and products.max() > arch.vector) > max(
                    arch.largest_k, arch.vector):
            return False
        side = int(executes(arch, Opcode.ARRAY, "side") and not array.starts and not signs
                   and self.sides.randrange(3))
        if apart and fields["blocks"] == 1:
            side, signs = 3, False
        fields["planes"] = int(executes(arch, Opcode.ARRAY, "planes") and not side
                               and self.own_rows.random() < 0.4)
        if fields["planes"]:
            products = passes * arch.pass_terms + (self.sums[sums] * accumulate << double)
            if arch.accumulator is None and products.max() > max(arch.largest_k, arch.pass_terms):
                return False
        fields |= dict(
            weight_base=weights[0] + draw.randint(0, weights[1] - passes * words_a_pass),
            height=rows_used, narrow=narrow,
            accumulator=first, accumulate=accumulate,
            pad_valid=draw.randrange(2) | (side > 0), side=side,
            replicate=side < 3 and self.other.random() < 0.3, double=double, signs=signs,
            pad_code=draw.choice(arch.activation.finite_codes()))
        if not self.add(Opcode.ARRAY, **fields):
            return False
        for access in accesses(self.instructions[-1], arch):
            if access.space == Space.ACTIVATION and not self.slots[words(access.intervals)].all():
                self.instructions.pop()
                return False
        self.sums[sums] = products
        self.sums[first:first + (1 << side % 3) - 1] = 0    # these mean nothing
        return True

    def taps_in_rows(self):
        """None, or (parts of the rows that each tap has, kernel_y, kernel_x) of an ARRAY whose taps
        have rows of their own."""
        arch, draw = self.arch, self.own_rows
        if not executes(arch, Opcode.ARRAY, "side", 3) or draw.random() >= 0.5:
            return None
        parts = draw.choice([n for n in (1, 2, 4, 8) if n <= arch.banks])
        kernel_x = draw.randint(1, min(4, arch.banks // parts))
        return parts, draw.randint(1, min(4, arch.banks // parts // kernel_x)), kernel_x

    def from_above(self, fields):
        """Let activations come from the top, results beginning here and there."""
        draw = self.draw
        fields["pool_x"], fields["pool_y"] = 1, draw.randint(1, 4)
        if self.ends.random() < 0.1:
            fields["pool_y"] = 15
        fields["out_x"] += draw.randint(0, 2 * self.arch.rows)
        start_y, start_x = draw.randint(1, 3), draw.randint(1, 3)
        fields |= dict(
            start_y=start_y, start_x=start_x,
            starts=draw.randint(1, (fields["pool_y"] - 1) // start_y + 1),
            results_x=draw.randint(1, (fields["out_x"] - 1) // start_x + 1))

    # Results.

    def post(self):
        """One POST to the activation memory, or some to the store unit and the STOREs for them."""
        arch, draw = self.arch, self.draw
        if draw.random() < 0.5:
            kinds = (Destination.ACTIVATION,) if not len(self.operands) else (
                Destination.ACTIVATION, Destination.ACTIVATION, Destination.OPERAND,
                Destination.BOTH)
            self.add_post(draw.choice(kinds), False)
            return
        raw = draw.random() < 0.4
        items = 0
        for _ in range(draw.randint(1, min(3, arch.queue_depth))):
            if self.add_post(Destination.STORE, raw):
                last = self.instructions[-1]
                items += loops.item_count(last, arch)
        for count in range(3):
            part = items if count == 2 or draw.random() < 0.6 else draw.randint(0, items)
            if part:
                self.store(raw, part)
            items -= part

    def add_post(self, destination, raw):
        arch, draw = self.arch, self.draw
        parameters = self.run(self.parameters, arch.chunks)
        arrays = [i for i in self.instructions if i.opcode == Opcode.ARRAY]
        if parameters is None or not arrays:
            return False
        sums, shape = self.run(self.sums > 0), None
        if sums is None:
            return False
        windows = dict(pool_x=draw.choice((1, 1, 2, 4, 5)))
        if draw.random() < 0.7:                  # what an ARRAY has made, if all means something
            i = draw.choice(arrays[-2:])
            made = i.accumulator, loops.results(i)
            if self.sums[made[0]:sum(made)].all():
                sums = made
                windows["pool_x"], shape = i.pool_y * i.pool_x, (i.out_y, i.out_x)
                if i.starts:
                    windows["pool_x"], shape = 1, (i.out_y * i.starts, i.results_x)
        pool = windows["pool_x"] = 1 if raw else min(windows["pool_x"], sums[1])
        if raw or shape is None or draw.random() < 0.2:
            out_y = draw.randint(1, max(1, min(sums[1] // pool, 5)))
            shape = out_y, draw.randint(1, max(1, min(sums[1] // pool // out_y, 20)))
        if not raw and self.other.random() < 0.4:
            windows, shape = self.windows(sums[1])
        elif pool > 1 and self.other.random() < 0.4:
            windows["pooling"] = Pooling.SUM
        bottom, top = arch.activation.ordered_range
        zero_point = draw.choice((0, bottom, draw.randint(bottom, top)))
        low, high = draw.choice(((bottom, top), (bottom, top), (zero_point, top),
                                 tuple(sorted(draw.randint(bottom, top) for _ in range(2)))))
        fields = dict(zero_point=zero_point, low=low, high=high)
        operands = len(self.operands)
        if destination != Destination.STORE or operands:
            depth = arch.activation_depth
            if operands and (destination != Destination.ACTIVATION or draw.random() < 0.8):
                depth = min(depth, operands)
            fields |= self.place(shape, depth)
            if operands and not raw and draw.random() < 0.6:
                fields |= self.operand(shape, fields, destination)
        if len(self.table) and not raw and self.other.random() < 0.5:
            fields |= self.looked_up()
        if executes(arch, Opcode.POST, "signs") and destination == Destination.ACTIVATION and (
                not fields.get("table") and (not fields.get("operand") or arch.combined_signs)
                and self.signs.random() < 0.6):
            slot = self.signs.randrange(arch.slots)
            if fields.get("operand"):       # whose slot is known
                slot += fields["slot"] - slot % arch.groups_per_word
            fields |= dict(signs=1, slot=slot)
        if executes(arch, Opcode.ARRAY, "side", 3) and destination in (
                Destination.ACTIVATION, Destination.BOTH) and self.own_rows.random() < 0.5:
            fields["slot"] |= self.own_rows.randint(1, 4) << arch.copy_bits
        if not self.add(
                Opcode.POST, accumulator=sums[0], out_y=shape[0], out_x=shape[1], **windows,
                group=self.group(
                    draw.randrange(arch.groups_per_columns), raw or fields.get("signs", 0)
                    or windows.get("pooling") in (Pooling.CARRIED, Pooling.LEAD)),
                parameters=parameters[0] + draw.randint(0, parameters[1] - arch.chunks),
                destination=destination, raw=raw, **fields):
            return False
        last = self.instructions[-1]
        for access in accesses(last, arch):
            if access.is_write:
                known = self.slots if access.space == Space.ACTIVATION else self.operands
                # above a group of signs the word is 0
                mine = (slice(-(-last.slot // arch.code_signs), None) if last.signs
                        else list(loops.slots_of(last, arch)) if known is self.slots
                        else loops.slot_of(last, arch))
                known[np.ix_(words(access.intervals), np.arange(known.shape[1])[mine].ravel())] = (
                    True)
        return True

    def group(self, which, whole):
        """A POST's `group` for a group of columns: of all its chunks if `whole` is not 0, else of
        some of them now and then."""
        arch = self.arch
        if whole or arch.chunks == 1 or self.chunks.random() < 0.6:
            return which
        return loops.group_field(which, self.chunks.randint(1, arch.chunks), arch)

    def windows(self, count):
        """Windows of any size over rows of pixels, `count` words in all; and how many."""
        draw = self.other
        row = draw.randint(1, min(count, 12))
        pool_y, pool_x = draw.randint(1, min(3, count // row)), draw.randint(1, min(3, row))
        if self.ends.random() < 0.1:
            pool_y = min(15, count // row)
        pooling = draw.choice(tuple(Pooling))
        lead = pooling == Pooling.LEAD and pool_x < row
        stride_y, stride_x = draw.randint(1, 3), draw.randint(1, 4)
        if pooling in (Pooling.CARRIED, Pooling.LEAD) and draw.random() < 0.7:
            stride_x = pool_x                    # not a word twice
        out_y = (count // row - pool_y) // stride_y + 1
        out_x = (row - lead - pool_x) // stride_x + 1
        last = (out_x - 1) * stride_x + pool_x - 1 + lead
        return dict(
            pool_y=pool_y, pool_x=pool_x, row=row, jump=stride_x - pool_x,
            turn=stride_y * row - last - 1,
            pooling=pooling if pooling != Pooling.LEAD or lead else Pooling.CARRIED), (
                draw.randint(1, out_y), out_x)

    def operand(self, shape, fields, destination):
        """Fields of an operand whose words are known and will not be written, or none."""
        draw, (out_y, out_x) = self.draw, shape
        offsets = np.add.outer(np.arange(out_y) * fields["stride_y"],
                               np.arange(out_x) * fields["stride_x"]).ravel()
        known = self.operands[:, fields["slot"]].copy()
        if destination in (Destination.OPERAND, Destination.BOTH):
            known[fields["copy_base"] + offsets] = False
        bases = [base for base in range(-offsets.min(), len(known) - offsets.max())
                 if known[base + offsets].all()]
        broadcast = not bases or draw.random() < 0.2
        if broadcast:
            bases = np.flatnonzero(known).tolist()
        if not bases:
            return {}
        mine, shift, first = operand_fields(self.arch, draw)
        return mine | dict(operand=combination(mine), operand_ties=self.ties.randrange(4),
                           broadcast=broadcast, operand_base=draw.choice(bases),
                           operand_shift=shift, first_low=first[0], first_high=first[1])

    def looked_up(self):
        """Fields of a POST that looks up its results in the table."""
        depth, (bottom, top) = len(self.table), self.arch.activation.ordered_range
        if self.arch.activation.floating:
            low, high = sorted(self.other.randint(bottom, top) for _ in range(2))
            return dict(table=1, low=low, high=high)
        low = self.other.choice((0, bottom, self.other.randint(-depth, depth - 1)))
        high = self.other.randint(low, min(low + depth, depth) - 1)
        return dict(table=1, low=low, high=high, zero_point=self.other.randint(low, high))

    def place(self, shape, depth):
        """Where results go in memory: one after the other, or anywhere."""
        arch, draw, (out_y, out_x) = self.arch, self.draw, shape
        stride_x, stride_y = 1, out_x
        if draw.random() < 0.4:
            stride_x, stride_y = draw.randint(-2, 3), draw.randint(-9, 12)
        low = min(0, stride_x * (out_x - 1)) + min(0, stride_y * (out_y - 1))
        high = max(0, stride_x * (out_x - 1)) + max(0, stride_y * (out_y - 1))
        if high - low >= depth:
            stride_x = stride_y = low = high = 0
        base = draw.randint(-low, arch.activation_depth - 1 - high)
        slot = draw.randrange(arch.groups_per_word)
        fields = dict(base=base, stride_y=stride_y, stride_x=stride_x, slot=slot)
        if high - low < len(self.operands):
            fields["copy_base"] = draw.randint(-low, len(self.operands) - 1 - high)
        return fields

    def store(self, raw, items):
        """One STORE of `items` items to any place after the code."""
        arch, draw = self.arch, self.draw
        size = item_bytes(raw, arch)
        unit = min(size, arch.beat_bytes)
        rows = draw.choice([n for n in range(1, min(items, 12) + 1) if items % n == 0])
        run = items // rows
        burst = size % arch.beat_bytes == 0 and draw.random() < 0.6
        item_stride = size + draw.choice((0, 0, 1, draw.randrange(20))) * unit
        across = run * size if burst else (run - 1) * item_stride + size
        row_stride = -(-across // unit) * unit + draw.choice((0, 1, draw.randrange(30))) * unit
        span = row_stride * (rows - 1) + across
        self.window = max(self.window, self.free + span)
        address = self.free + draw.randint(0, (self.window - self.free - span) // unit) * unit
        if span <= self.code_offset and self.ends.random() < 0.5:
            address = 0
        part = 0 if raw or burst or arch.group_beats == 1 else self.cuts.randrange(
            arch.group_beats)
        if not self.add(Opcode.STORE, address=address, rows=rows, items=run, item_beats=part,
                        row_stride=row_stride, item_stride=item_stride, raw=raw, burst=burst):
            raise AccessError("a random STORE must be legal, as its POST has been written")


def _cut(data, size):
    """The parts of `size` bytes of some data."""
    return [data[start:start + size] for start in range(0, len(data), size)]

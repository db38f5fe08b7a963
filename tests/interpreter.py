"""A second reading of the instruction set: plain loops over Python integers and fractions.

Slow, sequential, and written from the contract's words rather than from `sim.iss`; also notes which
words every instruction touches.
"""

from fractions import Fraction
from math import isfinite

from systolith.hw.formats import Bipolar, Lns
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.numbers import TIE_BITS

from .logarithms import Number, nearest


class Interpreter:
    """After `run`: `memory` (bytearray), `activations`, `sums`, `results`, and `touched`: for each
    instruction the set of (space, word, is_write); a word of EXTERNAL is a beat."""

    def __init__(self, arch, memory):
        self.arch, self.memory = arch, bytearray(memory)
        self.activations = [[0] * arch.vector for _ in range(arch.activation_depth)]
        self.operands = [[0] * arch.vector for _ in range(arch.operand_depth)]
        self.weights, self.parameters, self.table, self.pool = {}, {}, {}, {}
        self.sums = [[0] * arch.columns for _ in range(arch.accumulator_depth)]
        self.items, self.results, self.touched = [], [], []
        self.images = {format: {
            code: Number(format, code) if isinstance(format, Lns) else int(format.image(code))
            for code in range(1 << format.width) if isfinite(format.decode(code))}
            for format in (arch.activation, arch.weight)}
        if arch.activation.floating:
            images = self.images[arch.activation]
            self.magnitudes = [images[code] for code in range(arch.activation.max_code + 1)]

    def run(self, instructions):
        for i in instructions:
            self.now = set()
            if i.unit is not None:
                getattr(self, i.opcode.name.lower())(i)
            self.touched.append(self.now)

    def bits(self, address, size, is_write=False):
        """External bytes as one integer."""
        for byte in range(address, address + size):
            self.now.add(("EXTERNAL", byte // self.arch.beat_bytes, is_write))
        return int.from_bytes(self.memory[address:address + size], "little")

    def load(self, i):
        arch, address = self.arch, i.address
        for row in range(i.rows):
            for word in range(i.words):
                into = i.base + row * i.base_stride + word
                self.now.add((Memory(i.memory).name, into, True))
                size = {0: arch.activation_bytes, 1: arch.weight_bytes,
                        2: arch.parameter_bytes, 3: arch.activation_bytes,
                        4: arch.table_bytes, 5: arch.pool_bytes}[i.memory]
                if i.step_even:                 # windows of the run's bytes
                    first = (word // 2 * (i.step_even + i.step_odd)
                             + word % 2 * i.step_even) + i.row_stride * row
                    self.bits(address + i.row_stride * row, i.word_beats * arch.beat_bytes)
                    self.activations[into] = list(
                        self.memory[address + first:address + first + arch.vector])
                    continue
                whole, size = size, i.word_beats * arch.beat_bytes or size
                code = self.bits(address + row * i.row_stride + word * size, size)
                repeated = i.memory in (Memory.WEIGHT, Memory.PARAMETER)
                if arch.side_taps and repeated and i.word_beats in (
                        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048):     # again and again
                    code = sum(code << 8 * n for n in range(0, whole, size)) % (1 << 8 * whole)
                if i.memory in (Memory.ACTIVATION, Memory.OPERAND):
                    mask = (1 << arch.activation.width) - 1
                    memory = (self.activations if i.memory == Memory.ACTIVATION
                              else self.operands)
                    memory[into] = [
                        code >> 8 * arch.group_bytes * (channel // arch.group)
                        >> arch.activation.width * (channel % arch.group) & mask
                        for channel in range(arch.vector)]
                elif i.memory == Memory.WEIGHT:
                    self.weights[into] = [
                        code >> n * arch.weight.width & ((1 << arch.weight.width) - 1)
                        for n in range(arch.columns * arch.lanes)]
                elif i.memory == Memory.POOL:
                    self.pool[into] = code & (1 << arch.weight.width) - 1
                elif i.memory == Memory.TABLE:
                    half = 1 << arch.activation.width - 1
                    self.table[into] = (code + half) % (2 * half) - half
                else:
                    lanes = []
                    for lane in range(arch.post_lanes):
                        part = code >> lane * arch.parameter_bits
                        bias = part & ((1 << arch.accumulator_bits) - 1)
                        if bias >> arch.accumulator_bits - 1:
                            bias -= 1 << arch.accumulator_bits
                        part >>= arch.accumulator_bits
                        multiplier = part & (1 << arch.multiplier_bits) - 1
                        part >>= arch.multiplier_bits
                        unit = arch.addend_unit
                        addend = part >> 6 & (1 << arch.addend_bits) - 1
                        below = above = multiplier, part & 63, addend * unit
                        part >>= 6 + arch.addend_bits
                        ties = part & (1 << arch.tie_bits) - 1
                        if arch.leaky:
                            part >>= arch.tie_bits
                            size = part & (2 << arch.multiplier_bits) - 1
                            size -= (size >> arch.multiplier_bits) << arch.multiplier_bits + 1
                            part >>= arch.multiplier_bits + 1
                            addend = part >> 6 & (2 << arch.addend_bits) - 1
                            addend -= (addend >> arch.addend_bits) << arch.addend_bits + 1
                            below = size, part & 63, addend * unit * (arch.addend_bits > 0)
                        offset = 0
                        if arch.slope_offsets:
                            size = arch.parameters["offset"][0]
                            offset = code >> (lane + 1) * arch.parameter_bits - size
                            offset &= (1 << size) - 1
                            offset -= (offset >> size - 1) << size
                        lanes.append((bias, above, below, ties, offset))
                    self.parameters[into] = lanes

    def array(self, i):
        arch = self.arch
        images, weight_images = self.images[arch.activation], self.images[arch.weight]
        word = i.weight_base
        self.apart = {}         # sums so far of each pixel whose taps have rows of their own
        for ky in range(i.kernel_y):
            for kx in range(i.kernel_x):
                for block in range(i.blocks):
                    times = 1
                    if (ky, kx, block) == (0, 0, 0):
                        times = i.accumulate * (1 + (i.double and arch.bit_planes))
                    rows = []
                    height = i.height * arch.height_unit or arch.rows
                    own = arch.weight.width
                    forms = (own, *arch.weight_widths, *arch.weight_pools)
                    width, pool = forms[i.narrow], i.narrow - len(arch.weight_widths) - 1
                    first = pool << max(arch.weight_pools, default=0)
                    if pool >= 0:
                        self.now |= {("POOL", first + n, False) for n in range(1 << width)}
                    count = -(-height * width // own)
                    scales = arch.weight.block_scale
                    for n in range(count + (scales is not None)):
                        self.now.add(("WEIGHT", word + n, False))
                    held = [self.weights[word + n] for n in range(count)]
                    for n in range(height):
                        codes = [self.of_row(held, place, n, width)
                                 for place in range(arch.columns * arch.lanes)]
                        if pool >= 0:           # numbers of weights there, without a sign
                            codes = [self.pool[first + (code & (1 << width) - 1)]
                                     for code in codes]
                        rows.append(self.parts(codes, arch.weight, True) if i.signs else
                                    [weight_images[c] for c in codes])
                    idle = [weight_images[n % arch.lanes % 2 if arch.weight.binary else 0]
                            for n in range(arch.columns * arch.lanes)]
                    rows += [idle] * (arch.rows - height)
                    word += count
                    factors = [1] * arch.columns
                    if scales is not None:
                        factors = [self.factor(self.weights[word], column)
                                   for column in range(arch.columns)]
                        word += 1
                    self.array_pass(i, ky, kx, block, rows, images, times, factors)

    def slot(self, i):
        """The first group of a word that a POST writes."""
        bits = (self.arch.slots - 1).bit_length()
        return i.slot & (1 << bits) - 1 if self.arch.tap_rows else i.slot

    def factor(self, word, column):
        """What a word of scales multiplies the sums of a column by."""
        arch, code = self.arch, 0
        for lane in range(arch.lanes):
            code |= word[column * arch.lanes + lane] << lane * arch.weight.width
        man = arch.weight.block_scale.man
        code %= 1 << man + 3
        return ((1 << man) + code % (1 << man)) << (code >> man)

    def of_row(self, words, place, row, width):
        """A code of a row, whose bits lie in those of this place in words, row after row."""
        own = self.arch.weight.width
        stream = sum(word[place] << own * n for n, word in enumerate(words))
        bits = stream >> row * width & (1 << width) - 1
        return (bits - (bits >> width - 1 << width)) % (1 << own)

    def parts(self, codes, format, weights=False):
        """Signs, or halves; of weights the upper half first."""
        if not self.arch.packed_halves:
            return [1 if code >> bit & 1 else -1 for code in codes for bit in range(format.width)]
        half, found = format.width // 2, []
        for code in codes:
            both = code & (1 << half) - 1, code >> half
            both = [part - (part >> half - 1 << half) for part in both]
            found += reversed(both) if weights else both
        return found

    def array_pass(self, i, ky, kx, block, rows, images, times, factors):
        arch, words = self.arch, []
        seen = []               # of each pixel, whether it counts
        vector, lanes = arch.vector, arch.lanes
        scale = 1 << arch.weight.width * (i.double and arch.wide_weights)
        if i.signs:
            parts = 2 if arch.packed_halves else arch.activation.width
            vector, lanes = (n * parts for n in (vector, lanes))
            scale <<= arch.activation.width // 2 if arch.packed_halves else 0
        for oy in range(i.out_y):
            for ox in range(i.out_x):
                for py in range(i.pool_y):
                    for px in range(i.pool_x):
                        y = (i.y_start + ky * i.stride_ky + oy * i.stride_oy + py * i.stride_py)
                        x = (i.x_start + kx * i.stride_kx + ox * i.stride_ox + px * i.stride_px)
                        if i.replicate:
                            y, x = max(0, min(y, i.y_last)), max(0, min(x, i.x_last))
                        if 0 <= y <= i.y_last and 0 <= x <= i.x_last:
                            address = i.base + block * i.stride_block + y + x
                            self.now.add(("ACTIVATION", address, False))
                            codes = self.activations[address]
                        elif i.pad_valid or i.starts:
                            codes = [i.pad_code] * arch.vector
                        else:
                            words.append([0] * vector)
                            seen.append(False)
                            continue
                        seen.append(True)
                        words.append(self.parts(codes, arch.activation) if i.signs else
                                     [images[code] for code in codes])
        if i.side in (1, 2):
            words = self.side_by_side(words, vector >> i.side)
        if i.side == 3:
            first = (ky * i.kernel_x + kx) * i.height * arch.height_unit * arch.lanes
            words = [word[first:] + word[:first] for word in words]
        if i.starts == 0:
            height = i.height * arch.height_unit
            if arch.activation.binary and height:
                words = [(word[:height * arch.lanes] + [-there] * arch.vector)[:arch.vector]
                         for word, there in zip(words, seen, strict=True)]
            if i.planes:
                rows = [[value << max(0, 7 - n) for value in row] for n, row in enumerate(rows)]
            more = arch.lanes * (247 + arch.rows) % 256 * i.planes
            for pixel, word in enumerate(words):
                self.add(i, i.accumulator + pixel, times, [
                    more * seen[pixel] + scale * factors[column] * sum(
                        word[channel] * rows[channel // lanes][column * lanes + channel % lanes]
                        for channel in range(vector)) for column in range(arch.columns)])
            return
        pixel = i.accumulator
        for oy in range(i.out_y):
            for start in range(i.starts):
                for result in range(i.results_x):
                    begin = (oy * i.out_x + result * i.start_x) * i.pool_y + start * i.start_y
                    self.add(i, pixel, times, [
                        scale * sum(words[begin + row][column] * rows[row][column]
                                    for row in range(arch.rows) if rows[row][column])
                        for column in range(arch.columns)])
                    pixel += 1

    def side_by_side(self, words, size):
        """Words whose n-th part of so many channels is that of the word n places before."""
        return [[words[pixel - channel // size][channel] if pixel >= channel // size else 0
                 for channel in range(len(word))] for pixel, word in enumerate(words)]

    def add(self, i, pixel, times, sums):
        """One sum for each column to an accumulator word, which counts `times`."""
        arch = self.arch
        self.now.add(("ACCUMULATOR", pixel, True))
        if i.accumulate:
            self.now.add(("ACCUMULATOR", pixel, False))
        if i.side == 3:         # one pass: what was there is added once, and the whole is clipped
            there, so_far = self.apart.setdefault(pixel, (
                [times * n for n in self.sums[pixel]], [0] * arch.columns))
            self.apart[pixel] = there, [a + b for a, b in zip(so_far, sums, strict=True)]
            sums, times = self.apart[pixel][1], 1
            self.sums[pixel] = list(there)
        for column in range(arch.columns):
            total = self.rounded(sums[column]) + times * self.sums[pixel][column]
            total = self.rounded(total)
            if arch.accumulator is not None:
                top = 1 << arch.accumulator - 1
                total = min(max(total, -top), top - 1)
            self.sums[pixel][column] = total

    def rounded(self, number):
        """The nearest number of ten significant bits, of two the one whose last bit is 0, on chips
        whose accumulators are floats."""
        step = 1 << max(0, abs(number).bit_length() - 10)
        return round(Fraction(number, step)) * step if self.arch.sums == "1-6-9" else number

    def post(self, i):
        arch = self.arch
        parameters = []
        # the group's number lies in the lowest bits, and above it how many of its chunks are read
        bits = (arch.columns // arch.group - 1).bit_length()
        group, chunks = i.group % (1 << bits), i.group >> bits or arch.chunks
        used = chunks * arch.post_lanes
        for n in range(chunks):
            self.now.add(("PARAMETER", i.parameters + n, False))
            parameters += self.parameters[i.parameters + n]
        done = []
        top, kept = i.accumulator, []
        for n in range(i.out_y * i.out_x):
            best, total, x = None, [0] * used, n % i.out_x
            window = [] if x == 0 or i.pooling not in (1, 2) else kept
            for _ in range(i.pool_x + (i.pooling == 2 and x == 0)):
                kept = [top + r * i.row for r in range(i.pool_y)]
                window = window + kept
                top += 1
            top += i.turn if x == i.out_x - 1 else i.jump
            for pixel in window:
                self.now.add(("ACCUMULATOR", pixel, False))
                sums = self.sums[pixel][group * arch.group:][:used]
                if i.raw:
                    best = [total + bias for total, (bias, *_) in zip(sums, parameters,
                                                                      strict=True)]
                    continue
                if i.pooling == 3:
                    sums = total = [a + b for a, b in zip(total, sums, strict=True)]
                    best = None
                new = [self.requantize(i, self.wrap(total + bias), *scales)
                       for total, (bias, *scales) in zip(sums, parameters, strict=True)]
                if i.table and not i.operand:
                    new = self.looked_up(i, new)
                bipolar = isinstance(arch.activation, Bipolar)
                best = new if best is None else [
                    min(pair) if bipolar and shift % 2 else max(pair)
                    for *pair, (_, (_, shift, _), *_) in zip(best, new, parameters, strict=True)]
            if i.operand:
                best = self.combine(i, n, best, parameters)
                if i.table:
                    best = self.looked_up(i, best)
            if not i.raw:
                best = [self.code(value) for value in best] + [0] * (arch.group - used)
            done += best
            self.deliver(i, n, best)
        self.results.append(done)

    def wrap(self, total):
        top = 1 << self.arch.accumulator_bits
        return (total + top) % (2 * top) - top

    def looked_up(self, i, numbers):
        depth = self.arch.table_depth
        self.now |= {("TABLE", number % depth, False) for number in range(i.low, i.high + 1)}
        return [self.table[number % depth] for number in numbers]

    def requantize(self, i, total, above, below, ties, offset):
        """An integer in the order of the values."""
        format = self.arch.activation
        multiplier, shift, addend = below if total < 0 and i.operand != 3 else above
        product = total * multiplier + addend
        if isinstance(format, Bipolar):
            return int(product >= 0)
        exact = Fraction(product, 1 << shift)
        if format.floating:
            value = self.nearest(exact)
        else:
            if i.operand != 3:
                finer = self.arch.rounded_bits - self.arch.last_bits if i.operand else 0
                exact += Fraction(offset << finer, 1 << 16)
            value = self.whole(exact, ties) + (0 if i.operand else i.zero_point)
        low, high = (i.first_low, i.first_high) if i.operand else (i.low, i.high)
        return min(max(value, low), high)

    def combine(self, i, n, first, parameters):
        """Integers in the order of the values, from such and the operands of result n."""
        place = 0 if i.broadcast else n // i.out_x * i.stride_y + n % i.out_x * i.stride_x
        self.now.add(("OPERAND", i.operand_base + place, False))
        word = self.operands[i.operand_base + place]
        done = []
        for c, code, (_, _, (factor, right, _), _, offset) in zip(
                first, word[self.slot(i) * self.arch.group:], parameters, strict=False):
            r = int(self.images[self.arch.activation][code]) - i.operand_zero
            if self.arch.activation.floating:
                c = (-1) ** (c < 0) * int(self.magnitudes[abs(c)])
            t = c * r * i.gain if i.operand == 2 else c * i.gain + r * i.operand_gain
            exact = Fraction(t, 1 << i.operand_shift)
            if i.operand == 3:
                t = c + r * i.operand_gain
                exact = Fraction(offset, 1 << 16) + (
                    Fraction(t * factor, 1 << right) if t < 0 else
                    Fraction(t * i.gain, 1 << i.operand_shift))
            if self.arch.activation.floating:
                value = self.nearest(exact)
            else:
                value = self.whole(exact, i.operand_ties) + i.zero_point
            done.append(min(max(value, i.low), i.high))
        return done

    @staticmethod
    def whole(exact, ties):
        """The nearest integer; with `ties` what cannot be told from a tie goes to the even or the
        odd one."""
        bits, odd = 1 << TIE_BITS + 1, ties >> 1
        if not ties:
            return (exact + Fraction(1, 2)) // 1
        if exact * bits // 1 % bits in (bits // 2, bits // 2 - 1):
            exact = exact // 1 + Fraction(1, 2)
        return round(exact + odd) - odd

    def nearest(self, exact):
        """The float nearest to a number of smallest subnormals, in the order of the values."""
        # The nearest magnitude; ties to the even code, without mantissa bits to the larger.
        format = self.arch.activation
        if isinstance(format, Lns):
            return nearest(format, exact)
        magnitude = min(range(len(self.magnitudes)), key=lambda code: (
            abs(self.magnitudes[code] - abs(exact)),
            code & 1 if format.man or code < 2 else -code))
        return -magnitude if exact < 0 else magnitude

    def code(self, value):
        format = self.arch.activation
        if format.floating:
            return abs(value) + (value < 0) * (1 << format.width - 1)
        return value % (1 << format.width)

    def deliver(self, i, n, values):
        arch = self.arch
        place = n // i.out_x * i.stride_y + n % i.out_x * i.stride_x
        if i.destination != 1:
            for number, name, memory, word in (
                    (0, "ACTIVATION", self.activations, i.base + place),
                    (2, "OPERAND", self.operands, i.copy_base + place)):
                if i.destination in (number, 3):
                    self.now.add((name, word, True))
                    if i.signs:
                        width = arch.activation.width
                        bits = ([code >> bit & 1 for code in values for bit in range(width // 2)]
                                if arch.packed_halves else
                                [code >> width - 1 == 0 for code in values])
                        self.write_signs(memory[word], i.slot * len(bits), bits)
                    else:
                        slots = [self.slot(i)]
                        copies = i.slot >> (arch.slots - 1).bit_length()
                        if arch.tap_rows and copies and name == "ACTIVATION":
                            apart = arch.height_unit * arch.lanes << copies - 1
                            slots = [slot for slot in range(arch.slots)
                                     if (slot - slots[0]) * arch.group % apart == 0]
                        for slot in slots:
                            memory[word][slot * arch.group:(slot + 1) * arch.group] = values
        elif i.raw:
            for chunk in range(arch.chunks):
                part = values[chunk * arch.post_lanes:(chunk + 1) * arch.post_lanes]
                self.items.append((1, sum((v % (1 << arch.raw_bits)) << n * arch.raw_bits
                                          for n, v in enumerate(part))))
        else:
            self.items.append((0, sum(v << n * arch.activation.width
                                      for n, v in enumerate(values))))

    def write_signs(self, word, first, bits):
        """Bits into a word of codes from bit `first` on, and zeros above them."""
        width = self.arch.activation.width
        for place in range(first, len(word) * width):
            bit = bits[place - first] if place - first < len(bits) else 0
            code, at = divmod(place, width)
            word[code] = word[code] & ~(1 << at) | bit << at

    def store(self, i):
        size = self.arch.raw_bytes if i.raw else self.arch.group_bytes
        for row in range(i.rows):
            for item in range(i.items):
                raw, value = self.items.pop(0)
                assert raw == i.raw
                address = (i.address + row * i.row_stride
                           + item * (size if i.burst else i.item_stride))
                made = value.to_bytes(size, "little")
                if i.item_beats:
                    made = made[:i.item_beats * self.arch.bus_bits // 8]
                self.bits(address, len(made), is_write=True)
                self.memory[address:address + len(made)] = made


def run(arch, memory, instructions):
    """The interpreter after a program."""
    interpreter = Interpreter(arch, memory)
    interpreter.run(instructions)
    assert not interpreter.items
    assert all(i.opcode != Opcode.BEGIN for i in instructions[1:])
    return interpreter

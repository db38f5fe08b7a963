"""The instructions of one layer."""

from itertools import product

from systolith.hw.spec import isa
from systolith.hw.spec.isa import Combination, Destination, Memory, Opcode, Pooling
from systolith.hw.spec.loops import group_field

from .boxes import boxes
from .layer import Layer
from .operands import OperandMemory
from .parameters import parameter_tail, parameter_words
from .pass_order import pass_order, stored_passes
from .plan import Plan
from .pools import load_pool
from .stream import Region, Sink, Stream
from .tables import looked_up
from .windows import row_words, window_fields

__all__ = ["LayerCode"]

_STORE = {item.name: item.high for item in isa.OPCODES[Opcode.STORE]}
#: Weights that are loaded while the array waits for them are cut into pieces for array instructions
#: of at least so many cycles.
_PIECE_CYCLES = 192
#: The destination of POST on the chip, by (whether results go to the activation memory, whether to
#: the operand memory).
_INSIDE = {(False, False): None, (True, False): Destination.ACTIVATION,
           (False, True): Destination.OPERAND, (True, True): Destination.BOTH}


class LayerCode:
    """Emits the instructions of one layer into a `Stream`."""

    def __init__(self, stream: Stream, layer: Layer, plan: Plan, source: Region | tuple[int, tuple],
                 operand: Region | tuple[OperandMemory, tuple] | None, sink: Sink, weights: int,
                 parameters: int, tables: int, pools: int):
        """
        Parameters
        ----------
        stream : Stream
        layer : Layer
        plan : Plan
        source : Region, or (base, outside)
            The input: a map that is on the chip as a whole, or the first word of the input buffers
            and where the map lies in external memory (as of `Region`).
        operand : Region, or (OperandMemory, outside), or None
            The operand, in the same way.
        sink : Sink
        weights, parameters, tables, pools : int
            Byte offsets of the layer's constants in their sections.
        """
        self.stream, self.layer, self.plan = stream, layer, plan
        self.arch, self.source, self.operand, self.sink = layer.arch, source, operand, sink
        self.image = 0                          # the image of the round that is computed
        self.weights, self.parameters, self.tables = weights, parameters, tables
        self.pools = pools
        self.buffers: dict[int, tuple[tuple, Region]] = {}     # (image, tile, part), Region
        self.turn = 0
        _, self.height, self.width = sink.shape
        self.first_group = layer.conv.placement.first_channel // self.arch.group
        self.broadcast = False                  # one operand word for all results of an image
        if operand is not None:
            size = ((operand.rows[1], operand.columns[1]) if isinstance(operand, Region)
                    else operand[1][2:])
            self.broadcast = size == (layer.images, 1)
            if not isinstance(operand, Region):
                operand[0].begin(layer)

        cycles = max(layer.cycles(b - a, d - c) for tile in plan.tiles
                     for (a, b), (c, d) in plan.sub_tiles(tile))
        self.reused = plan.column_group > 1 or len(plan.tiles) * layer.images > 1 or (
            len(plan.sub_tiles(plan.tiles[0])) > 1)
        self.resident = self.reused and (
            plan.column_group * layer.stored.most_words <= self.arch.weight_depth)
        most = max(-(-_PIECE_CYCLES * layer.passes // cycles), -(-layer.most_passes // 4))
        if not self.resident or 2 * layer.stored.most_words > self.arch.weight_depth:
            most = min(most, max(1, self.arch.weight_depth // layer.pass_words // 4))
        self.most = most                        # passes that are loaded together
        self.apart = layer.part > 0             # taps have rows of their own
        # Parameters are loaded in runs of whole column blocks, or of groups.
        self.groups = layer.groups + sink.pad_lanes
        half = self.arch.parameter_depth // 2 // self.arch.chunks
        # (not more than the first results need, before the input's other rows)
        self.run = (self.groups if self.groups <= half and layer.index
                    else max(1, min(self.arch.groups_per_columns, half)))

    def emit(self) -> None:
        """Append the instructions to the stream."""
        plan = self.plan
        load_pool(self.stream, self.layer, self.pools)
        for first in range(0, self.layer.column_blocks, plan.column_group):
            group = range(first, min(first + plan.column_group, self.layer.column_blocks))
            for image, (number, tile) in product(
                    range(self.layer.images), enumerate(plan.tiles)):
                self.image = image
                for block in group:
                    for sub in plan.sub_tiles(tile):
                        self._sub_tile(number, group, block, sub)

    def _sub_tile(self, tile, group, block, sub):
        sums = self.stream.accumulators.place(None, self.layer.words(sub))
        accumulate, first, before = 0, self.layer.stored.offsets[block], None
        for (part, turn, used), stored in zip(pass_order(self.layer, self.plan.parts, block),
                                              stored_passes(self.layer, self.plan.parts, block),
                                              strict=True):
            region, weight = self._input(tile, part), self.layer.weight(turn, used)
            upper = self.layer.wide and turn == 1
            double = upper or before not in (None, weight)
            offset = first + stored * self.layer.pass_words
            for weight_base, box in self._weights(group, block, used, offset):
                self._array(region, box, sub, sums, weight_base, accumulate, double)
                accumulate, double = 1, upper
            before = weight
        operand = self._operand(block, sub)
        for group in range(self.layer.column_groups(block)):
            self._post(sub, sums, group, block * self.arch.groups_per_columns + group, operand)
        if self.sink.pad_lanes and block == self.layer.column_blocks - 1:
            for number in range(self.layer.groups, self._last_group() - self.first_group):
                self._post(sub, sums, 0, number)

    def _last_group(self):
        """The group of the output after the last one of which its readers need lanes."""
        arch, channels = self.arch, self.sink.shape[0]
        if channels > arch.vector:
            return -(-channels // arch.vector) * arch.groups_per_word
        rows = max(arch.height_of(channels), self.layer.copies * arch.height_unit)
        return -(-rows * arch.lanes // arch.group)

    # Input and weights.

    @property
    def _input_row(self):
        """The first row of the image in the map of all images."""
        return self.image * self.layer.conv.input_shape[1]

    def _input(self, tile, part):
        if isinstance(self.source, Region):
            return self.source
        name = self.image, tile, part
        for key, region in self.buffers.values():
            if key == name:
                return region
        plan, (base, outside) = self.plan, self.source
        box = plan.parts[part]
        rows, columns = plan.input_rectangle(plan.tiles[tile], box)
        rows = rows[0] + self._input_row, rows[1] + self._input_row
        first, end = self.stream.last_input
        if not self.buffers and first < base + plan.buffer_words and base < end:
            # The layer before may still read its last tile from where the first buffer lies.
            self.turn = 1
        buffer = self.turn % plan.buffers
        self.turn += 1
        start = base + buffer * plan.buffer_words
        region = Region(start, rows, columns, box.block, box.blocks, outside)
        self.buffers[buffer] = (name, region)
        self.stream.last_input = start, start + plan.buffer_words
        return region

    def _operand(self, block, sub):
        """The `Region` with the operands of a sub-tile, for which LOADs are emitted; None: the
        layer has no operand."""
        if self.operand is None:
            return None
        region, sub = self.operand, self._operand_rectangle(sub)
        (y0, y1), _ = sub
        if not isinstance(region, Region):
            memory, outside = region
            base, there, first, blocks = memory.buffer(self.layer, block, sub)
            rows, columns = sub
            region = Region(base, rows, columns, first, blocks, outside, y1 if there else y0,
                            Memory.OPERAND)
        self.stream.load_rows(region, y1)
        return region

    def _operand_rectangle(self, sub):
        """The rectangle of the operand's map that a sub-tile needs."""
        if self.broadcast:
            return (self.image, self.image + 1), (0, 1)
        row = self.image * self.layer.y.out
        return (sub[0][0] + row, sub[0][1] + row), sub[1]

    def _weights(self, group, column_block, used, offset):
        """Yields (first weight word, box) for boxes that together are the box `used`, in the order
        of its passes, and emits the LOADs of their weights. Weights that are loaded already make
        one box, others several, so that the array can begin with the first.

        `group` are the column blocks whose weights stay together, `offset` is the first weight word
        of the box, counted from the layer's first.
        """
        layer, stream = self.layer, self.stream
        base, ring = None, stream.weights
        if self.resident:
            key = (layer.index, group.start)
            first, end = layer.stored.offsets[group.start], layer.stored.offsets[group.stop]
            base = ring.find(key)
            if base is None:
                base = ring.place(key, end - first)
                stream.loaded[key] = set()
        name = offset, used.passes
        loaded = self.resident and name in stream.loaded[key]
        for box in (layer.together(used) if self.apart else
                    boxes(used, layer.most_passes if loaded else self.most)):
            words = box.passes * layer.pass_words
            if base is None:
                piece = (layer.index, offset, words)
                there = ring.find(piece)
                loaded = there is not None
                where = ring.place(piece, words) if there is None else there
            else:
                where = base + offset - first
            if not loaded:
                stream.load(Memory.WEIGHT, "weights",
                            self.weights + layer.stored.place(column_block, offset), where, words,
                            layer.stored.word_bytes(column_block))
            yield where, box
            offset += words
        if self.resident:
            stream.loaded[key].add(name)

    def _parameters(self, number):
        """The first word of the parameters of a group of output channels, for which LOADs are
        emitted where they are not in memory. All groups after the last one have the same
        parameters, whose results are -1."""
        number = min(number, self.groups - 1)
        run, chunks = number // self.run, self.arch.chunks
        ring, name = self.stream.parameters, (self.layer.index, run)
        base = ring.find(name)
        if base is None:
            words = (min(self.groups, (run + 1) * self.run) - run * self.run) * chunks
            if (run + 1) * self.run >= self.groups:
                words -= self.layer.groups * chunks - parameter_words(self.layer)
            base, size = ring.place(name, words), self.arch.parameter_bytes
            address = self.parameters + run * self.run * chunks * size
            tail = parameter_tail(self.layer)
            rest = (run + 1) * self.run >= self.groups and tail < size  # the last word apart
            if words > rest:
                self.stream.load(Memory.PARAMETER, "parameters", address, base, words - rest)
            if rest:
                self.stream.load(Memory.PARAMETER, "parameters", address + (words - 1) * size,
                                 base + words - 1, 1, tail)
        return base + number % self.run * chunks

    # Instructions.

    def _array(self, region, box, sub, sums, weight_base, accumulate, double):
        ky, rows, kx, columns, block, blocks = box
        conv, y, x = self.layer.conv, self.layer.y, self.layer.x
        above = self.layer.from_above
        taps_y, taps_x = above.taps if above else (1, self.layer.beside)
        top, bottom, y_start = y.span(
            sub[0], (ky * taps_y, min(y.kernel, (ky + rows) * taps_y)))
        left, right, x_start = x.span(
            sub[1], (kx * taps_x, min(x.kernel, (kx + columns) * taps_x)))
        self.stream.load_rows(region, self._input_row + bottom)
        width = region.width
        base = (region.base + (block - region.first_block) * region.plane + left - region.columns[0]
                + (self._input_row + top - region.rows[0]) * width)
        height, across = sub[0][1] - sub[0][0], sub[1][1] - sub[1][0]
        pad_code = self.layer.pad_code(box)
        padded = any(conv.geometry.pads)
        padding = padded and pad_code is not None
        fields = dict(
            weight_base=weight_base, base=base, accumulator=sums, accumulate=accumulate,
            double=double, planes=self.layer.weighed, signs=self.layer.signs,
            narrow=self.layer.narrow,
            kernel_y=rows, kernel_x=columns, blocks=blocks,
            y_start=y_start * width, y_last=(bottom - top - 1) * width,
            x_start=x_start, x_last=right - left - 1, replicate=conv.geometry.replicate and padded,
            stride_ky=taps_y * y.dilation * width * (rows > 1),
            stride_kx=taps_x * x.dilation * (columns > 1),
            stride_block=region.plane * (blocks > 1),
            height=self.layer.height % self.arch.fill // self.arch.height_unit,
            side=3 if self.apart else self.layer.side)
        if above:
            runs, out_x = -(-height // above.results), above.columns(self.layer, across)
            zero = self.arch.activation.zero_code
            self.stream.add(
                Opcode.ARRAY, **fields, out_y=runs, out_x=out_x, pool_y=above.step,
                stride_oy=above.results * y.stride * width * (runs > 1),
                stride_ox=out_x > 1, stride_py=width * (above.step > 1), starts=above.results,
                start_y=y.stride, start_x=x.stride, results_x=across,
                pad_code=pad_code if padding else zero)
            return
        fields |= dict(pad_valid=padding or self.layer.side > 0 or self.apart,
                       pad_code=pad_code if padding else 0)
        if not self.layer.in_order:
            (a, b), (c, d) = y.under(sub[0]), x.under(sub[1])
            count = d - c + self.layer.beside - 1
            self.stream.add(
                Opcode.ARRAY, **fields, out_y=b - a, out_x=count,
                stride_oy=y.stride * width * (b - a > 1), stride_ox=x.stride * (count > 1))
            return
        self.stream.add(
            Opcode.ARRAY, **fields, out_y=height, out_x=across, pool_y=y.pool, pool_x=x.pool,
            stride_oy=y.stride * y.step * width * (height > 1),
            stride_ox=x.stride * x.step * (across > 1),
            stride_py=y.stride * width * (y.pool > 1), stride_px=x.stride * (x.pool > 1))

    def _post(self, sub, sums, group, number, operand=None):
        """Emit the POSTs of one group of columns; results go to the group `number` of output
        channels."""
        for part, windows in window_fields(self.layer, sub, sums):
            self._post_part(part, windows, group, number, operand)

    def _post_part(self, sub, windows, group, number, operand):
        """Emit the POSTs, and the STORE, of a rectangle `sub` of results whose windows have the
        same fields `windows`."""
        (y0, _), (x0, _) = sub
        conv, arch, sink = self.layer.conv, self.arch, self.sink
        (step_y, step_x), (first_y, first_x) = conv.placement.step, conv.placement.origin
        row = self.image * (self.height // self.layer.images) + first_y + y0 * step_y
        pixel = row * self.width + first_x + x0 * step_x
        mine, _ = divmod(number, arch.groups_per_word)
        block, slot = divmod(self.first_group + number, self.layer.slots)
        word = block * self.height * self.width + pixel
        keeps = windows["pooling"] in (Pooling.CARRIED, Pooling.LEAD)
        chunks = arch.chunks if keeps else self.layer.used_chunks(number)
        fields = windows | {"group": group_field(group, chunks, arch),
                            "parameters": self._parameters(number)}
        own = conv.requantization
        if self.layer.plain_signs:
            fields |= {"low": -1, "high": 0, "signs": 1}
        elif own is not None and not arch.activation.binary:
            fields |= {"zero_point": own.zero_point, "low": own.low, "high": own.high,
                       "signs": self.layer.to_signs}
        if operand is not None:
            fields |= self._combined(operand, mine, sub) | {"slot": slot}
        if conv.table is not None:
            fields |= looked_up(self.stream, self.layer, self.tables)
        inside = {"destination": _INSIDE[sink.chip is not None, sink.copy is not None],
                  "slot": slot | self.layer.copies.bit_length() << arch.copy_bits,
                  "stride_y": self.width * step_y, "stride_x": step_x}
        inside |= {name: base + word for name, base in
                   (("base", sink.chip), ("copy_base", sink.copy)) if base is not None}
        if inside["destination"] is not None:
            if fields.get("stride_y", self.width) != self.width and not fields["broadcast"]:
                self._post_rows(fields, inside)
            else:
                self.stream.add(Opcode.POST, **fields | inside)
        if sink.outside is None:
            return
        self.stream.add(Opcode.POST, **fields, destination=Destination.STORE, raw=conv.raw)
        section, offset = sink.outside
        if conv.raw:
            pixel += number * self.height * self.width
            self._store(section, offset + pixel * arch.chunks * arch.raw_bytes, sub,
                        arch.chunks, arch.raw_bytes, arch.raw_bytes, 0)
        else:
            address = offset + word * arch.activation_bytes + slot * arch.group_bytes
            self._store(section, address, sub, 1, arch.group_bytes, arch.activation_bytes,
                        0 if sink.loaded else self.layer.used_beats(number))

    def _combined(self, operand, block, sub):
        """Fields of a POST that combines results with those of the region `operand`. Its strides
        are those of the region, whose rows may be shorter than those of the output."""
        mine, own = self.layer.conv.operand, self.layer.conv.requantization
        assert mine is not None and own is not None     # raw sums are not combined
        (row, _), (column, _) = self._operand_rectangle(sub)
        base = (operand.base + (block - operand.first_block) * operand.plane
                + (row - operand.rows[0]) * operand.width + column - operand.columns[0])
        kind = (Combination.PRODUCT if mine.product else Combination.LATE if own.late
                else Combination.SUM)
        return {"operand": kind, "broadcast": self.broadcast,
                "operand_base": base, "operand_zero": mine.operand_zero, "gain": mine.gain,
                "operand_gain": mine.operand_gain, "operand_shift": mine.shift,
                "operand_ties": mine.ties,
                "zero_point": mine.zero_point, "low": mine.low, "high": mine.high,
                "first_low": own.low, "first_high": own.high,
                "stride_y": operand.width, "stride_x": 1}

    def _post_rows(self, fields, inside):
        """Emit one POST for each row of results, because an instruction has the same strides for
        results and operands, and the rows of the operands are shorter."""
        for row in range(fields["out_y"]):
            own = {"accumulator": row_words(fields), "operand_base": fields["stride_y"]}
            there = {name: self.width for name in ("base", "copy_base") if name in inside}
            self.stream.add(Opcode.POST, **fields | inside | {"out_y": 1} | {
                name: (fields | inside)[name] + row * step for name, step in (own | there).items()})

    def _store(self, section, address, sub, items, size, stride, beats):
        """Emit the STORE of a rectangle of results, each of `items` items of `size` bytes, `stride`
        bytes apart, of which `beats` (0: all) are used."""
        (y0, y1), (x0, x1) = sub
        rows, count = y1 - y0, (x1 - x0) * items
        step_y, step_x = self.layer.conv.placement.step
        row_stride, stride = self.width * items * stride * step_y, stride * step_x
        if rows == 1 or (row_stride == count * stride and rows * count <= _STORE["items"]):
            rows, count = 1, rows * count
        burst = stride == size and size % self.arch.beat_bytes == 0
        if burst and rows * count > 1:          # joined, whole ones are sooner written
            beats = 0
        self.stream.add(
            Opcode.STORE, section, address=address, rows=rows, items=count,
            row_stride=row_stride * (rows > 1), item_stride=stride,
            raw=self.layer.conv.raw, burst=burst and not beats, item_beats=beats)

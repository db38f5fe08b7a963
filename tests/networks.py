"""Random quantized networks, and running a program on the instruction-level simulator with every
layer's results gathered."""

import random
from dataclasses import replace

import numpy as np
from systolith.hw.formats import Bipolar
from systolith.hw.spec.isa import Destination, Opcode
from systolith.hw.spec.loops import slot_of
from systolith.hw.spec.numbers import MULTIPLIER_BITS
from systolith.hw.spec.words import unpack_group_items, unpack_raw_items
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.numerics import output_size
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Below, Operand, Requantization
from systolith.sim.model.weights import Weights
from systolith.sim.random.fields import operand_fields, random_windows
from systolith.sim.rtl import core


def random_codes(rng, format, shape):
    return rng.choice(format.finite_codes(), shape)


def requantization(rng, sums, format):
    """(multiplier, shift) arrays that spread sums of this size over the format."""
    size = max(1.0, float(np.sqrt(np.mean(np.float64(sums) ** 2))))
    top = float(format.image_range[1])
    wanted = top / size * 2.0 ** rng.uniform(-2, 0.5)
    shift = int(np.clip(np.floor(17 - np.log2(wanted)), 0, 63))
    multiplier = int(np.clip(wanted * 2.0 ** shift, 1, (1 << 18) - 1))
    count = sums.shape[1]
    multiplier = np.clip(multiplier * rng.uniform(0.5, 1.5, count), 1, (1 << 18) - 1)
    return multiplier.astype(np.int64), np.full(count, shift)


def on_chip(codes, form):
    """Weights with these codes; elements of blocks with the smallest scale there is."""
    if form.block_scale is None:
        return Weights.of_codes(codes, form)
    return Weights(form.image(codes) << form.block_scale.man, form.wide)


def random_layer(draw, rng, arch, name, tensor):
    """A Conv that reads `tensor`, without its requantization."""
    channels, height, width = tensor.shape
    bipolar = isinstance(arch.activation, Bipolar)
    sizes = [], [], [], []
    dense = draw.random() < 0.15 and height * width <= 40
    for size in (height, width):
        kernel = draw.choice((1, 1, 2, 3, 3, 4, 5))
        stride, dilation = draw.choice((1, 1, 1, 2, 3)), draw.choice((1, 1, 1, 2))
        pads = (draw.randint(0, kernel - 1), draw.randint(0, kernel - 1))
        if dense:
            kernel, stride, dilation, pads = size, 1, 1, (0, 0)
        if output_size(size, kernel, stride, dilation, pads) < 1:
            kernel, stride, dilation, pads = 1, 1, 1, (0, 0)
        for item, value in zip(sizes, (kernel, stride, dilation, pads), strict=True):
            item.append(value)
    kernel, stride, dilation, pads = sizes
    same = arch.operand_depth and not dense and draw.random() < 0.4
    if same:                                    # as large as the input, which may be added
        kernel, stride, dilation = [1, 3], [1, 1], [1, 1]
        pads = [(0, 0), (1, 1)]
    odd = bipolar and -channels % arch.vector % 2
    pad_code = draw.choice((None, draw.randrange(1 << arch.activation.width)))
    if odd:
        pad_code = 0
    replicate = random.Random(f"{name} {channels} {pads}").random() < 0.3
    if replicate:
        pad_code = None
    out = channels if same else draw.randint(1, 2 * arch.columns + 3)
    weight = random_codes(rng, arch.weight, (out, channels, *kernel))
    if arch.weight.zero_code is not None and draw.random() < 0.3:    # groups of channels
        apart = np.arange(out)[:, None] * channels // out != np.arange(channels)
        weight[apart & (rng.random(apart.shape) < 0.95)] = arch.weight.zero_code
    geometry = Geometry(tuple(stride), tuple(dilation), (
        pads[0][0], pads[1][0], pads[0][1], pads[1][1]), pad_code, replicate)
    conv = Conv(name, tensor.name, f"{name}.out", on_chip(weight, arch.weight), geometry,
                nodes=[f"/{name}/Conv"], input_shape=tensor.shape)
    sizes = conv.conv_shape[1:]
    size = [draw.choice((1, 1, 2, 3)) if not same else 1 for _ in range(2)]
    pool = Pool(tuple(min(p, pixels) for p, pixels in zip(size, sizes, strict=True)))
    other = random.Random(f"windows {name} {channels} {size}")
    if not same and other.random() < 0.3:
        windows = random_windows(other, sizes)
        if np.prod(windows.size) <= arch.accumulator_depth:
            pool = windows
    if bipolar and random.Random(f"least {name} {channels} {size}").random() < 0.5:
        pool = replace(pool, least=tuple(rng.random(out) < 0.5))
    summed = (pool.size != (1, 1) and arch.accumulator is None and not odd
              and random.Random(f"{name} {channels} {size}").random() < 0.4)
    return replace(conv, pool=replace(pool, sum=summed))


def random_operand(draw, rng, conv, tensors, inputs, codes, values, arch):
    """(the layer, its operand's codes): with an operand, sometimes: a map that fits, or a new
    input. Without one None for the codes."""
    shape = conv.output_shape
    fitting = [item.name for item in tensors.values() if item.format is not None
               and tuple(item.shape) in (shape, (shape[0], 1, 1))]
    if draw.random() < 0.3:
        return conv, None
    if fitting and draw.random() < 0.7:
        name = draw.choice(fitting)
    else:
        name = f"operand{len(inputs)}"
        shape = draw.choice((shape, shape, (shape[0], 1, 1)))
        inputs.append(Tensor(name, shape, arch.activation))
        tensors[name] = inputs[-1]
        codes[name] = values[name] = random_codes(rng, arch.activation, (1, *shape))
    fields, shift, (low, high) = operand_fields(arch, draw)
    own = replace(conv.requantization, zero_point=0, low=low, high=high,
                  late=fields.pop("late", False))
    return replace(conv, operand=Operand(name, shift=shift, **fields),
                   requantization=own), values[name]


def bend(draw, rng, conv, arch):
    """A layer with fractions of biases and a way of its ties; a table, or other multipliers for
    sums below zero, sometimes."""
    own, operand, table = conv.requantization, conv.operand, None
    if own is None:
        return conv
    other = np.random.default_rng(len(conv.name) + int(abs(conv.bias).sum()))
    unit, fraction = arch.addend_unit, other.random(len(conv.weights))
    addend, below = (own.multiplier * fraction).astype(np.int64) // unit * unit, None
    ties = other.integers(0, 3, len(conv.weights))
    if operand is not None:
        operand = replace(operand, ties=int(other.integers(0, 3)))
    if arch.leaky and draw.random() < 0.5:
        slope = rng.uniform(-1, 1, len(conv.weights))
        factor = (own.multiplier * slope).astype(np.int64)
        below = Below(factor, own.shift, np.sign(factor) * (
            (abs(factor) * fraction).astype(np.int64) // unit * unit))
    limits = conv.limits
    if arch.table_depth and draw.random() < 0.5:
        codes = random_codes(rng, arch.activation, limits.high - limits.low + 1)
        table = arch.activation.ordered(codes)
    return replace(conv, operand=operand, table=table, requantization=replace(
        own, addend=addend, ties=ties, below=below))


def random_network(seed, arch, layers=None, size=None):
    """A Graph of random Conv layers for this chip; several readers of a tensor, several outputs
    and raw outputs among them."""
    draw, rng = random.Random(f"network {seed}"), np.random.default_rng([seed, 7])
    size = size or draw.choice((6, 12))
    shape = (draw.choice((1, 1, 2, 3, arch.vector, draw.randint(1, 2 * arch.vector))),
             draw.randint(1, size), draw.randint(1, size))
    shape = (min(shape[0], 60), *shape[1:])
    inputs = [Tensor("in", shape, arch.activation)]
    if draw.random() < 0.15:
        inputs.append(Tensor("other", shape, arch.activation))
    tensors = {item.name: item for item in inputs}
    codes = {item.name: random_codes(rng, arch.activation, (1, *shape)) for item in inputs}
    values, convs = dict(codes), []
    low, high = -(1 << arch.accumulator_bits - 1), (1 << arch.accumulator_bits - 1) - 1
    for n in range(layers or draw.randint(1, 4)):
        names = [name for name, tensor in tensors.items() if tensor.format is not None]
        source = tensors[names[-1] if draw.random() < 0.7 else draw.choice(names)]
        conv = random_layer(draw, rng, arch, f"layer{n}", source)
        sums = conv.accumulate(values[source.name], arch.activation, arch)
        spread = max(1, int(np.abs(sums).max()))
        room = max(1, min(spread, int(high - conv.sum_range(arch.activation)[1]),
                          int(conv.sum_range(arch.activation)[0] - low)))
        if arch.accumulator is not None:
            room = min(spread, high)
        conv = replace(conv, bias=rng.integers(-room, room, len(conv.weights)) // 2)
        if draw.random() < 0.15:
            conv = replace(conv, pool=Pool())
        else:
            own = Requantization(*requantization(rng, sums, arch.activation))
            if arch.activation.floating:
                top = arch.activation.max_code
                least, most = draw.choice(((-top, top), (0, top), (-top // 2, top // 2)))
                own = replace(own, low=least, high=most)
            elif not isinstance(arch.activation, Bipolar):
                low_code, high_code = arch.activation.image_range
                zero_point = draw.choice((0, draw.randint(low_code, high_code)))
                least = draw.choice((low_code, zero_point))
                own = replace(own, zero_point=zero_point, low=least, high=high_code)
            conv = replace(conv, requantization=own)
        operand = None
        if arch.operand_depth and not conv.raw:
            conv, operand = random_operand(draw, rng, conv, tensors, inputs, codes, values, arch)
        conv = bend(random.Random(f"functions {seed} {n}"), rng, conv, arch)
        tensor = Tensor(conv.output, conv.output_shape, None if conv.raw else arch.activation)
        tensors[tensor.name] = tensor
        values[tensor.name] = conv.run(values[source.name], arch.activation, tensor.format, arch,
                                       operand)
        convs.append(conv)
    read = {conv.input for conv in convs} | {
        conv.operand.tensor for conv in convs if conv.operand is not None}
    outputs = [conv.output for conv in convs if conv.output not in read or draw.random() < 0.1]
    outputs = list(dict.fromkeys(outputs))
    inputs = [item for item in inputs if item.name in read]
    for item in {"in", "other"} - {item.name for item in inputs}:
        tensors.pop(item, None)
        codes.pop(item, None)
    return Graph(f"random-{seed}", inputs, tensors, convs, outputs), codes


def wide_enough(arch):
    """The same chip with exact accumulators that hold every test network's sums, and multipliers of
    which these networks have all bits."""
    arch = replace(arch, multiplier_bits=MULTIPLIER_BITS)
    if arch.accumulator is not None:
        return arch
    for largest_k in (1 << 14, 1 << 12, 1 << 10):
        try:
            return replace(arch, largest_k=largest_k)
        except ValueError:
            continue
    return arch


def gather(program, simulator):
    """{(layer, tensor): int64 array [groups, y, x, group]} of all results, as they were posted,
    -1 << 40 where nothing was; from the simulator's results and stores."""
    arch, host = program.arch, program.host
    maps = {}

    def plane(layer):
        name = host.layers[layer].output
        channels, height, width = host.tensors[name].shape
        groups = -(-channels // arch.vector) * arch.groups_per_word
        groups = max(groups, -(-channels // arch.group))
        return name, height, width, maps.setdefault(name, np.full(
            (groups, height, width, arch.group), -1 << 40, object))

    for result in simulator.results:
        i = program.instructions[result.number]
        if i.opcode != Opcode.POST or i.destination == Destination.STORE:
            continue
        name, height, width, array = plane(result.layer)
        oy, ox = (index.ravel() for index in np.indices((i.out_y, i.out_x)))
        base, where = ((i.base, "chip") if i.destination != Destination.OPERAND
                       else (i.copy_base, "operand"))
        word = base + oy * i.stride_y + ox * i.stride_x - getattr(host.tensors[name], where)
        block, pixel = np.divmod(word, height * width)
        group = block * arch.groups_per_word + slot_of(i, arch)
        array[group, pixel // width, pixel % width] = result.items
    for stored in simulator.stores:
        name, height, width, array = plane(stored.layer)
        offset = stored.addresses - host.tensors[name].external
        data = stored.data.tobytes()
        if host.tensors[name].raw:
            item, chunk = np.divmod(offset // arch.raw_bytes, arch.chunks)
            group, pixel = np.divmod(item, height * width)
            values = unpack_raw_items(data, arch)
            for lane in range(arch.post_lanes):
                array[group, pixel // width, pixel % width,
                      chunk * arch.post_lanes + lane] = values[:, lane]
        else:
            word, rest = np.divmod(offset, arch.activation_bytes)
            block, pixel = np.divmod(word, height * width)
            group = block * arch.groups_per_word + rest // arch.group_bytes
            whole = np.zeros((len(stored.data), arch.group_bytes), np.uint8)
            whole[:, :stored.data.shape[1]] = stored.data   # the first beats, or all
            array[group, pixel // width, pixel % width] = unpack_group_items(whole.tobytes(), arch)
    return maps


def outputs_of(program, codes, seed=0, strict=True):
    """({output: codes}, simulator after the run) of one image [C, H, W], or those of a batch; what
    nothing has written in external memory is random."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, program.window_bytes).astype(np.uint8)
    memory[:len(program.image)] = np.frombuffer(program.image, np.uint8)
    start = program.host.input_offset
    data = pack_inputs(program, codes)
    memory[start:start + len(data)] = np.frombuffer(data, np.uint8)
    simulator = Simulator(program.arch, memory, strict=strict)
    simulator.run(program.instructions, seed)
    start = program.host.output_offset
    return unpack_outputs(
        program, memory[start:start + program.host.output_bytes].tobytes()), simulator


def run_program(program, codes, seed=0, strict=True):
    """({output: codes}, {tensor: codes of every layer's results}, simulator) of one image
    [C, H, W]."""
    outputs, simulator = outputs_of(program, codes, seed, strict)
    maps = {}
    for name, array in gather(program, simulator).items():
        channels, height, width = program.host.tensors[name].shape
        array = array.transpose(0, 3, 1, 2).reshape(-1, height, width)[:channels]
        lanes = program.host.tensors[name].channels
        maps[name] = array if lanes is None else array[list(lanes)]
    return outputs, maps, simulator


def core_job(program, codes, latency):
    """An `core.Job` of one image [C, H, W], whose one output is the network's outputs in memory."""
    memory = bytearray(program.window_bytes)
    memory[:len(program.image)] = program.image
    start, data = program.host.input_offset, pack_inputs(program, codes)
    memory[start:start + len(data)] = data
    outside = program.host.output_offset, program.host.output_bytes
    return core.Job(program, [core.Run([(0, bytes(memory))], [outside])], latency=latency)

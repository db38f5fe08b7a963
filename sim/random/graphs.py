"""Random networks that a random chip can compute, from a seed."""

import random
from dataclasses import replace

import numpy as np
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.legality import executes
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Below, Operand, Requantization
from systolith.sim.model.weights import Weights

from .fields import below_zero, offsets, operand_fields, parameters, random_windows

__all__ = ["random_graph"]


_SIGNS = Bipolar(1)


def random_graph(arch: Arch, seed: int, layers: int = 3) -> tuple[Graph, dict[str, np.ndarray]]:
    """A small network that the chip can compute, and codes for one image of it.

    Returns (Graph, {input name: codes [1, C, H, W]}). A chain of at most `layers` convolutions,
    sometimes with a second branch; the last one may give raw sums.
    """
    return _Network(arch, seed).graph(layers)


class _Network:
    """A network as it grows. Each kind of choice has a generator of its own, so that what is drawn
    of one kind does not change the others."""

    def __init__(self, arch, seed):
        self.arch, self.seed, self.format = arch, seed, arch.activation
        self.longest = max(arch.largest_k, arch.vector)         # products that sums hold
        self.draw, self.data = random.Random(f"graph {seed}"), np.random.default_rng([seed, 2])
        self.other, self.ties, self.signs, self.narrow, self.halves, self.planes = (
            random.Random(f"graph's {what} {seed}")
            for what in ("operands", "ties", "signs", "narrow weights", "halves", "planes"))
        self.blocks, self.more = (np.random.default_rng([seed, n]) for n in (3, 4))
        draw = self.draw
        self.tensors = [Tensor(
            "input", (draw.randint(1, min(2 * arch.vector + 2, self.longest)), draw.randint(1, 9),
                      draw.randint(1, 9)), self.format)]
        self.layers = []

    def graph(self, layers):
        """(Graph, {input name: codes}) after up to `layers` layers were added."""
        count = self.draw.randint(1, layers)
        for number in range(count):
            source = self.draw.choice([item for item in self.tensors
                                       if item.format is not None][-2:])
            if self.tensors[0].format != self.format and source is self.tensors[0]:
                source = self.tensors[1]        # planes of an input are for one layer
            if self._apart(self.tensors[-1].format):
                source = self.tensors[-1]
            if source.shape[0] <= self.longest:
                layer = self._layer(number, source)
                form = None if layer.raw else self.format
                if form and number + 1 < count and self._may_be_signs(layer):
                    form, layer = _SIGNS, replace(layer, table=None)
                elif form and number + 1 < count and self._may_be_halves(layer):
                    form, own = self.arch.part, layer.requantization
                    low, high = form.ordered_range
                    layer = replace(layer, table=None, requantization=replace(
                        own, low=max(own.low, low), high=high))
                self.layers.append(layer)
                self.tensors.append(Tensor(layer.output, layer.output_shape, form))
        read = {layer.input for layer in self.layers} | {
            layer.operand.tensor for layer in self.layers if layer.operand is not None}
        graph = Graph(f"random-{self.seed}", self.tensors[:1],
                      {item.name: item for item in self.tensors}, self.layers,
                      [item.name for item in self.tensors[1:] if item.name not in read])
        form = self.tensors[0].format
        assert form is not None
        codes = self.data.choice(form.finite_codes(), (1, *self.tensors[0].shape))
        return graph, {"input": codes}

    def _layer(self, number, source):
        """A layer that reads the tensor `source`."""
        arch, draw, data = self.arch, self.draw, self.data
        channels = source.shape[0]
        kernel, pads, dilation = self._kernel(source.shape)
        raw = draw.random() < 0.2
        filters, groups = self._filters(channels)
        bias, multiplier, shift, addend = parameters(
            arch, data, filters,
            min(1 << arch.accumulator_bits - 2, arch.term_bound * kernel[0] * kernel[1] * channels))
        tie = np.array([self.ties.randrange(3) for _ in range(filters)])
        bottom, top = self.format.ordered_range
        zero_point = draw.choice((0, bottom, draw.randint(bottom, top)))
        codes, width = arch.weight.finite_codes(), self.narrow.choice((0, *arch.weight_widths))
        if width:                               # those that fit so many bits
            images = arch.weight.image(codes)
            codes = codes[(images >= -1 << width - 1) & (images < 1 << width - 1)]
        if not width and arch.weight_pools:     # few different ones, among them 0
            few = (1 << self.narrow.choice((*arch.weight_pools, 8))) - 1
            codes = np.append(self.narrow.sample(list(codes), min(few, len(codes))), 0)
        weight = data.choice(codes, (filters, channels // groups, *kernel))
        signs, half = self._apart(source.format), self._half(source.format)
        if half:                                # weights of half the bits, too
            groups = 1
            images = arch.part.image(arch.part.finite_codes()) << arch.part.width
            weight = data.choice(arch.weight.from_image(images), (filters, channels, *kernel))
        if signs:
            groups = 1
            weight = data.integers(0, 2, (filters, channels, *kernel))
            # sums may be twice those of the layer
            multiplier, shift, addend = multiplier >> 1, np.minimum(shift, 62), addend >> 1
        geometry = Geometry((draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3))), dilation, pads,
                            groups=groups)
        low = draw.choice((bottom, zero_point))
        below = None
        if "below_shift" in arch.parameters and self.other.random() < 0.5:
            below = Below(*below_zero(arch, data, multiplier, shift))
        offset = None
        if "offset" in arch.parameters and not raw:
            offset = offsets(arch, data, (filters,))
        layer = Conv(
            f"layer{number}", source.name, f"map{number}",
            Weights.of_codes(weight, _SIGNS) if signs else self._weights(weight, groups),
            self._padding(geometry, kernel, channels, source.format, raw), bias // 2,
            None if raw else Requantization(multiplier, shift, addend, tie, below, offset,
                                            zero_point=zero_point, low=low, high=top),
            input_shape=source.shape)
        return self._in_planes(number, self._least(self._table(self._operand(self._pool(layer)))))

    def _in_planes(self, number, layer):
        """The layer with weights of several bits, or as the first one with an input of several
        bits, on binary chips that compute them bit plane by bit plane; or as it is."""
        arch, draw = self.arch, self.planes
        if not (arch.activation.binary and executes(arch, Opcode.ARRAY, "double")):
            return layer
        first = number == 0 and not layer.raw and layer.geometry.groups == 1
        taps = int(np.prod(layer.weights.shape[2:])) * layer.pool.summed
        terms = 2 * taps * (layer.inputs + 1 + (arch.plane_excess > 0))
        zeros = taps * -(-layer.inputs // arch.vector) * arch.vector << 2
        reach = {"signs": 1, "odd": 3, 1: 2, 2: 4, 3: 8, 8: 256}
        fitting = [(kind, bits) for kind, most in reach.items()
                   for bits in ((1, 2, 3, 8) if first else (1,))
                   if (terms * ((1 << bits) - 1) * most + (zeros << bits)).bit_length()
                   < arch.accumulator_bits]
        kind, bits = draw.choice(fitting or [("signs", 1)])
        if (kind, bits) == ("signs", 1):
            return layer
        if bits > 1:
            form = Int(bits)
            self.tensors[0] = replace(self.tensors[0], format=form)
            code = draw.choice((None, *(int(n) for n in form.finite_codes()[:9])))
            layer = replace(layer, geometry=replace(
                layer.geometry, pad_code=None if layer.geometry.replicate else code))
        return replace(layer, weights=self._planes_of_weights(layer, kind), bias=layer.bias >> 3)

    def _planes_of_weights(self, layer, kind):
        """Weights as a binary chip has them: signs, odd numbers, or even ones of so many bits and
        one more, of 1 bit from -2 to 2."""
        shape, geometry = layer.weights.shape, layer.geometry
        if kind == "odd" and (-layer.inputs % self.arch.vector % 2 and any(geometry.pads)):
            kind = 3                            # lanes that need a weight of 0
        if kind == "signs":
            return layer.weights
        if kind == "odd":
            return Weights(2 * self.more.integers(0, 4, shape) - 3, Bipolar(2))
        low = -1 if kind == 1 else -1 << kind - 1
        return Weights(2 * self.more.integers(low, 2 if kind == 1 else -low, shape),
                       Int(kind + 2 if kind == 1 else kind + 1))

    def _weights(self, codes, groups):
        """Weights of the chip's format; on chips with weights in blocks a scale for each pass where
        it takes channels of one tap alone, else for each output channel."""
        form = self.arch.weight
        if self.arch.wide_weights and self.narrow.random() < 0.5 and (
                codes[0].size << form.width <= self.arch.largest_k):
            images = form.image(codes)          # of two, one of which counts more
            return Weights(images + (self.data.permutation(images.reshape(-1)).reshape(
                images.shape) << form.width), Int(2 * form.width))
        if form.block_scale is None:
            return Weights.of_codes(codes, form)
        outputs, inputs, *kernel = codes.shape
        whole = groups > 1 or inputs < self.arch.vector
        shape = (outputs, *((1, 1, 1) if whole else (-(-inputs // self.arch.vector), *kernel)))
        factors = self.blocks.choice(form.block_scale.factors, shape)
        factors = factors.repeat(inputs if whole else self.arch.vector, axis=1)[:, :inputs]
        return Weights(form.image(codes) * factors, form.wide)

    def _kernel(self, shape):
        """(kernel, pads, dilation) for a map (channels, height, width): its sums have `longest`
        products at most, and its results at least one pixel."""
        draw, (channels, height, width) = self.draw, shape
        largest = min(5, int((self.longest // channels) ** 0.5))
        kernel = draw.randint(1, min(largest, height + 1)), draw.randint(1, min(largest, width + 1))
        if draw.random() < 0.15 and channels * height * width <= self.longest:
            kernel = height, width               # a dense layer
        pads = tuple(draw.randrange(min(2, kernel[n % 2])) if draw.random() < 0.7 else 0
                     for n in range(4))
        padded = height + pads[0] + pads[2], width + pads[1] + pads[3]
        kernel = tuple(min(pair) for pair in zip(kernel, padded, strict=True))
        dilation = tuple(draw.choice((1, 2)) if 2 * (k - 1) < size else 1
                         for k, size in zip(kernel, padded, strict=True))
        return kernel, pads, dilation

    def _filters(self, channels):
        """(output channels, groups) for so many input channels."""
        draw = self.draw
        filters, groups = draw.randint(1, 2 * self.arch.columns + 2), 1
        if self.arch.weight.zero_code is not None and draw.random() < 0.4:
            groups = draw.choice([n for n in range(1, channels + 1) if channels % n == 0])
            filters = -(-filters // groups) * groups
            if draw.random() < 0.7:              # each channel its own
                groups = filters = channels
        return filters, groups

    def _half(self, form):
        """Whether it is the format of halves of codes."""
        return self.arch.packed_halves and form == self.arch.part

    def _apart(self, form):
        """Whether it is the format of signs on a chip of integers."""
        return form == _SIGNS and form != self.format

    def _may_be_signs(self, layer):
        """Whether the results of a layer are to be signs, on chips that have them."""
        arch = self.arch
        if layer.operand is not None and not (
                arch.combined_signs and len(layer.weights) % arch.group == 0):
            return False
        return (arch.packed_signs and (layer.operand is not None or
                                       layer.requantization.below is None)
                and self.signs.random() < 0.6)

    def _may_be_halves(self, layer):
        """Whether the results of a layer are to have half the bits, on chips that have such."""
        return (self.arch.packed_halves and self.arch.accumulator is None
                and layer.operand is None
                and layer.requantization.low <= self.arch.part.ordered_range[1]
                and self.halves.random() < 0.7)

    def _too_long_in_pairs(self, kernel, channels, vector):
        """Whether exact accumulators have no room for a binary layer each pass of which is made
        twice, with all lanes of words of `vector` channels."""
        longest = 2 * kernel[0] * kernel[1] * -(-channels // vector) * vector
        return self.arch.accumulator is None and (
            longest.bit_length() + 1 > self.arch.accumulator_bits)

    def _padding(self, geometry, kernel, channels, form, raw):
        """The geometry with a code of padding, or with padding that is replicated."""
        if not any(geometry.pads):
            return geometry
        if self._apart(form):
            replicate, code = self.signs.choice((
                (False, 0), (False, 1), (False, None), (True, None)))
            lanes = self.arch.vector * self.arch.code_signs
            if (-channels) % lanes % 2 and not replicate and (
                    raw or self._too_long_in_pairs(kernel, channels, lanes)):
                code = 0
            return replace(geometry, pad_code=code, replicate=replicate)
        if not self.format.has_zero or self.draw.random() < 0.5:
            code = int(self.draw.choice(form.finite_codes()))
            if not self.format.has_zero and (-channels) % self.arch.vector % 2 and (
                    raw or self._too_long_in_pairs(kernel, channels, self.arch.vector)):
                code = 0            # the code that an odd number of idle lanes always allows
            geometry = replace(geometry, pad_code=code)
        if self.other.random() < 0.3:
            geometry = replace(geometry, pad_code=None, replicate=True)
        return geometry

    def _pool(self, layer):
        """The layer with windows that are apart, or with any windows, or without."""
        sizes = layer.conv_shape[1:]
        pool = self.draw.choice(((1, 1), (1, 1), (2, 2), (1, 2), (3, 2)))
        if layer.raw:
            return layer
        if all(part <= size for part, size in zip(pool, sizes, strict=True)):
            layer = replace(layer, pool=Pool(pool))
        if self.other.random() < 0.3:
            windows = random_windows(self.other, sizes)
            if np.prod(windows.size) <= self.arch.accumulator_depth:
                layer = replace(layer, pool=windows)
        return layer

    def _operand(self, layer):
        """The layer with an operand, if the chip can have one and a tensor fits, or without."""
        fitting = [item.name for item in self.tensors
                   if item.format == self.format and item.shape in (
            layer.output_shape, (layer.output_shape[0], 1, 1))]
        if not (executes(self.arch, Opcode.POST, "operand") and not layer.raw and fitting
                and self.other.random() < 0.7):
            return layer
        fields, right, (low, high) = operand_fields(self.arch, self.other)
        late = fields.pop("late", False)
        operand = Operand(self.other.choice(fitting), shift=right, **fields,
                          ties=self.ties.randrange(3))
        return replace(layer, operand=operand, requantization=replace(
            layer.requantization, zero_point=0, low=low, high=high, late=late))

    def _table(self, layer):
        """The layer with a function by table, if the chip can have one, or without."""
        limits = layer.limits
        if not (executes(self.arch, Opcode.POST, "table") and limits is not None
                and self.other.random() < 0.5):
            return layer
        bottom, top = self.format.ordered_range
        return replace(layer, table=self.data.integers(bottom, top + 1,
                                                       limits.high - limits.low + 1))

    def _least(self, layer):
        """The layer with min pooling in some channels, on binary chips, or without."""
        if not (self.format.binary and self.other.random() < 0.5):
            return layer
        least = tuple(self.data.random(len(layer.weights)) < 0.5)
        return replace(layer, pool=replace(layer.pool, least=least))

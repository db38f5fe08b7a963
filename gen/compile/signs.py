"""Binary tensors and weights on chips that compute in integers or floats.

A binary chip computes bipolar tensors as they are. On any other chip they are tensors of the
numbers +1 and -1 in its formats, and the comparison of a sum with 0 becomes a requantization whose
results are these two numbers. Chips with `array.packed_signs` keep those of them as signs, many in
a code, that only binary layers read and whose map fits the chip (`kept_signs`).
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import MULTIPLIER_BITS, SHIFT_BITS
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.graph import Graph
from systolith.sim.model.placement import Placement
from systolith.sim.model.requantization import Below, Requantization
from systolith.sim.model.weights import Weights

from .layer import made_twice

__all__ = ["in_order", "kept_signs", "of_larger_sums", "signs_as_numbers"]

_TOP = MULTIPLIER_BITS - 1


def kept_signs(graph: Graph, arch: Arch, apart: Collection[str] = ()) -> set[str]:
    """The names of bipolar tensors that a chip keeps as signs. `apart` are not among them: those
    whose map does not fit the chip."""
    names = {name for name, tensor in graph.tensors.items() if _is_sign(tensor)} if (
        arch.packed_signs) else set()
    names -= {*apart, *graph.outputs, *(item.name for item in graph.inputs)}
    for conv in graph.layers:
        own = conv.requantization
        plain = (own is not None and own.below is None) if conv.operand is None else (
            arch.combined_signs and len(conv.weights) % arch.group == 0)
        if not plain or conv.table is not None or any(conv.pool.least):
            names.discard(conv.output)
        if not _reads_signs(conv, graph, arch):
            names.discard(conv.input)
        if conv.operand is not None:
            names.discard(conv.operand.tensor)
    return {name for name in names if in_order(graph, name, arch.group)}


def _reads_signs(conv, graph, arch):
    """Whether a layer can read signs, in no more passes than numbers."""
    channels, geometry = graph.tensors[conv.input].shape[0], conv.geometry
    if not conv.weights.format.binary or conv.channels is not None:
        return False
    if not made_twice(conv, _idle(channels, arch)):
        return True
    # Sums are then twice those of the layer: no output. Accumulators that hold the products of as
    # many numbers hold them.
    words, packed = (-(-channels // geometry.groups // (arch.vector * signs))
                     for signs in (1, arch.code_signs))
    return not conv.raw and 2 * packed <= words


def _idle(channels, arch):
    """Lanes for signs that a map of so many channels leaves without channel."""
    return -channels % (arch.vector * arch.code_signs)


def in_order(graph: Graph, name: str, group: int) -> bool:
    """Whether the layers that write a tensor do so from its first channel up, all but the last in
    whole groups: each group of signs is written with zeros above it."""
    start = end = 0
    for conv in graph.layers:
        first = conv.placement.first_channel
        if conv.output == name and first != start:
            if first != end or first % group:
                return False
            start = first
        if conv.output == name:
            end = first + len(conv.weights)
    return True


def signs_as_numbers(graph: Graph, arch: Arch, apart: Collection[str] = ()) -> Graph:
    """The network with its bipolar tensors and binary weights in the formats of a chip that is not
    binary, but for the tensors of `kept_signs` and the weights of the layers that read them.
    Unchanged on binary chips, where there are none, and where the chip's formats have no +1 and -1.
    What the host gives and takes stays the same."""
    if arch.activation.binary or not (
            any(map(_is_sign, graph.tensors.values()))
            or any(layer.weights.format.binary for layer in graph.layers)):
        return graph
    if _codes(arch.activation) is None or _codes(arch.weight) is None:
        return graph
    others = {item.format.family for item in graph.tensors.values()
              if item.format and not item.format.binary}
    if others - {arch.activation.family}:
        return graph        # the chip does not have the other tensors' format either
    graph, kept = _with_combined(graph, arch, apart)
    return _Signs(graph, arch, kept).graph()


def _with_combined(graph, arch, apart):
    """(the network with the numbers +1 and -1 that layers with operands make as signs, where the
    chip keeps them so; all that it keeps)."""
    writers: dict[str, list[Conv]] = {}
    for conv in graph.layers:
        writers.setdefault(conv.output, []).append(conv)
    names = {name for name, convs in writers.items() if all(map(_combines_to_signs, convs))}
    names &= kept_signs(_as_signs(graph, names), arch, apart) if names else set()
    graph = _as_signs(graph, names)
    return graph, kept_signs(graph, arch, apart)


def _combines_to_signs(conv):
    """Whether the results of a layer with an operand are +1 and -1 alone: an even number plus or
    minus 1, clipped."""
    operand = conv.operand
    return operand is not None and conv.table is None and not (
        operand.shift or operand.gain % 2 or (operand.operand_gain % 2 and not operand.product)
    ) and (abs(operand.zero_point), operand.low, operand.high) == (1, -1, 1)


def _as_signs(graph, names):
    """The network with the tensors `names`, which hold +1 and -1, as signs."""
    layers = []
    for conv in graph.layers:
        code = conv.geometry.pad_code
        if conv.input in names and code is not None:
            sign = int(graph.tensors[conv.input].format.image(code)) > 0
            conv = replace(conv, geometry=replace(conv.geometry, pad_code=int(sign)))
        layers.append(conv)
    return replace(graph, layers=layers, tensors={
        name: replace(item, format=Bipolar(1)) if name in names else item
        for name, item in graph.tensors.items()}) if names else graph


def _is_sign(tensor):
    return tensor.format == Bipolar(1)


def _codes(form):
    """int64 array (code of -1, code of +1) of a format; None where it does not have both."""
    if form.binary or -form.exponent > _TOP:
        return None
    codes = form.encode(np.array([-1.0, 1.0]))
    return codes if (form.decode(codes) == [-1, 1]).all() else None


class _Signs:
    """Rewrites the layers of a network one by one, so that signs become numbers."""

    def __init__(self, graph, arch, kept):
        self.old, self.arch, self.kept = graph, arch, kept
        self.codes, self.exponent = _codes(arch.activation), arch.activation.exponent
        self.tensors = {name: self._tensor(item) for name, item in graph.tensors.items()}
        self.layers = []
        for conv in graph.layers:
            self._add(conv)

    def graph(self):
        encoders = [self._encoder(item) for item in self.old.encoders]
        decoders = [self._decoder(item) for item in self.old.decoders]
        origins = {name: replace(item, gain=float(np.ldexp(item.gain, self.exponent)))
                   if self._turns(self.old.tensors[name]) else item
                   for name, item in self.old.origins.items()}
        return replace(self.old, inputs=[self.tensors[item.name] for item in self.old.inputs],
                       tensors=self.tensors, layers=self.layers, encoders=encoders,
                       decoders=decoders, origins=origins)

    def _tensor(self, tensor):
        return replace(tensor, format=self.arch.activation) if self._turns(tensor) else tensor

    def _turns(self, tensor):
        """Whether the signs of a tensor become numbers."""
        return _is_sign(tensor) and tensor.name not in self.kept

    def _encoder(self, encoder):
        tensor = self.old.tensors[encoder.tensor]
        if not _is_sign(tensor):
            return encoder
        return replace(encoder, steps=[*encoder.steps, ("sign", tensor.scale)], low=None,
                       high=None)

    def _decoder(self, decoder):
        if decoder.function is None or not _is_sign(self.old.tensors[decoder.tensor]):
            return decoder
        least, numbers = decoder.function
        low, high = (int(item) for item in self.arch.activation.ordered(self.codes))
        wide = np.full(high - low + 1, numbers[0])          # what lies between is no sign
        wide[-1 if least == 0 else 0:] = numbers[-1]
        return replace(decoder, function=(low, wide))

    def _number(self, name):
        """A name that begins like this one and that no tensor has."""
        count = 1
        while f"{name}_{count}" in self.tensors:
            count += 1
        return f"{name}_{count}"

    def _add(self, conv):
        source, target = (self.old.tensors[name] for name in (conv.input, conv.output))
        sign = self._turns(target) and not conv.raw
        turned = np.array(conv.pool.least) if any(conv.pool.least) else None
        # On a chip with floats, results are first -1, 0 and 1, and a further layer makes 0 one of
        # the signs: a bias in whole units cannot put a threshold between 0 and its neighbours.
        last = sign and (turned is not None or self.arch.activation.floating)
        output = conv
        if last:
            name = self._number(f"{conv.output}_signs")
            self.tensors[name] = replace(self.tensors[conv.output], name=name,
                                         shape=conv.output_shape)
            conv = replace(conv, output=name, placement=Placement())
        if turned is not None:
            conv = self._turned(conv, turned)
        conv, more = self._in_numbers(conv, source)
        if sign:
            conv = self._sign(conv, more)
        self.layers.append(conv)
        if last:
            self.layers.append(self._copy(output, conv.output, turned))

    def _turned(self, conv, turned):
        """The layer with the opposite signs in the channels `turned` (bool array [O]), so that max
        pooling takes what min pooling would: s + b < 0 exactly where -s - b - 1 >= 0."""
        return replace(conv, weights=conv.weights.negated(turned),
                       pool=replace(conv.pool, least=()),
                       bias=np.where(turned, -conv.bias - 1, conv.bias))

    def _in_numbers(self, conv, source):
        """(the layer that reads numbers instead of signs, n): its sums are 2**n times as large."""
        if source.name in self.kept:
            twice = made_twice(conv, _idle(source.shape[0], self.arch))
            return self._with_room(conv) if twice else conv, 0
        more = 0
        if _is_sign(source):
            more -= self.exponent
            if conv.geometry.pad_code is not None:
                conv = replace(conv, geometry=replace(
                    conv.geometry, pad_code=int(self.codes[conv.geometry.pad_code])))
        if conv.weights.format.binary:
            weights = conv.weights.in_format(self.arch.weight)
            if weights is not None:
                more -= weights.format.exponent
                conv = replace(conv, weights=weights)
        operand = conv.operand
        if operand is not None and _is_sign(self.old.tensors[operand.tensor]):
            gain = round(operand.operand_gain * 2.0 ** self.exponent)
            conv = replace(conv, operand=replace(operand, operand_gain=gain))
        if not more:
            return conv, more
        if conv.requantization is None:
            tensor = self.tensors[conv.output]
            self.tensors[conv.output] = replace(tensor, scale=np.ldexp(tensor.scale, -more))
            return replace(conv, bias=conv.bias << more), more
        return of_larger_sums(conv, more), more

    def _with_room(self, conv):
        """The layer with numbers that still fit the chip's parameters when they are those of sums
        twice as large (`Requantization.of_doubled`)."""
        own, bits = conv.requantization, self.arch.multiplier_bits - 1

        def less(multiplier, shift, addend):
            size = np.array([int(item).bit_length() for item in abs(multiplier).tolist()], int)
            over = np.minimum(np.maximum(size - bits, shift == (1 << SHIFT_BITS) - 1), shift)
            return multiplier >> over, shift - over, addend >> over
        multiplier, shift, addend = less(own.multiplier, own.shift, own.addend)
        return replace(conv, requantization=replace(
            own, multiplier=multiplier, shift=shift, addend=addend,
            below=Below(*less(*own.below)) if own.below and not own.late else own.below))

    def _sign(self, conv, more):
        """The layer with results of +1 and -1 instead of signs; on chips with floats 0 where the
        sum is 0. Its sums are 2**more times as large as those of the signs."""
        form, count = self.arch.activation, len(conv.weights)
        multiplier = np.full(count, 1 << _TOP)
        if form.floating:
            # A sum of one step becomes 1 or more, which the limits clip to 1.
            shift = np.full(count, max(_TOP + more + self.exponent, 0))
            own = Requantization(multiplier, shift, low=-int(self.codes[1]),
                                 high=int(self.codes[1]))
        else:
            # The result is 2 * (s + b) + 1, which is never 0, clipped to -1 and 1.
            own = Requantization(multiplier, np.full(count, _TOP - 1), low=-1, high=1,
                                 zero_point=1)
        return replace(conv, requantization=own)

    def _copy(self, conv, source, turned):
        """The layer that writes the signs of `source`, opposite ones in the channels `turned`, to
        where `conv` wrote them."""
        form, count = self.arch.weight, len(conv.weights)
        ones = Weights.ones(form, count)
        more = -form.exponent - self.exponent
        bias = 0 if self.arch.activation.uniform else 1 << more - 1
        # A sum of 0 is a sign of +1, or of -1 where signs are turned.
        biases = np.where(turned, -bias, bias) if turned is not None else np.full(count, bias)
        return self._sign(Conv(
            f"{conv.name}_signs", source, conv.output,
            ones if turned is None else ones.negated(turned), Geometry(groups=count), biases,
            placement=conv.placement, nodes=conv.nodes), more - 1)


def of_larger_sums(conv: Conv, more: int) -> Conv:
    """The layer with the same results whose sums are 2**more times as large. It must have a
    requantization."""
    own = conv.requantization
    assert own is not None, "sums are requantized"
    # The fraction of the bias, now 2**more times as large, has a whole part.
    whole = (own.addend << more) // np.maximum(own.multiplier, 1)

    def scaled(multiplier, shift, addend):
        rest = (abs(addend) << more) - whole * abs(multiplier)
        rest = np.sign(multiplier) * np.clip(rest, 0, abs(multiplier))
        return _scaled(multiplier, shift, rest, more)
    multiplier, shift, addend = scaled(own.multiplier, own.shift, own.addend)
    return replace(conv, bias=(conv.bias << more) + whole, requantization=replace(
        own, multiplier=multiplier, shift=shift, addend=addend,
        below=own.below and Below(*scaled(*own.below))))


def _scaled(multiplier, shift, addend, more):
    """(multipliers, shifts, addends) that give the same results for sums that are 2**more times as
    large."""
    shift, most = shift + more, (1 << SHIFT_BITS) - 1
    over = np.maximum(shift - most, 0)
    return multiplier >> over, np.minimum(shift, most), addend >> over

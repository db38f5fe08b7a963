"""From symbolic values to a graph: the tensors and layers that a network needs, added while it is
read.

A quantizer turns a `Value` into a tensor of codes and the layers that make it (`layers`); an output
of the network becomes a tensor that the host reads.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from types import NoneType
from typing import Any

import numpy as np
from systolith.hw.formats import Format
from systolith.sim.model.conv import Conv
from systolith.sim.model.edges import Decoder, Encoder
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.model.tail import HostPart

from .codes import add_table, note_rescaled
from .copies import join, plain, quantize_parts
from .groups import mirrored
from .kernels import unwindowed
from .kinds import given, quantized
from .layers import copy_layer, identity, quantizing_layer
from .nodes import Node
from .notes import Notes
from .rationals import exact, uniform
from .target import Target
from .values import HostInput, Linear, Symbol, Value, on_chip

__all__ = ["Builder"]


class Builder:
    """Collects the tensors and layers of a graph.

    Parameters
    ----------
    weight_format : Format or None
        For layers that only rescale (a quantizer after a quantizer); None where the network has no
        quantized weights.
    roundings : {tensor of the model: (short float, whether it is of that type)}
        As of `half.roundings`.
    batch : int
        Images that the model insists on; 0: any number.
    offsets : bool
        Whether layers may add offsets after slopes below zero (`post.offsets`).

    Attributes
    ----------
    tensors : {name: Tensor}
    limits : {name of a tensor: (smallest, largest) ordered integer that it can hold}
    inputs, outputs : list of str
        Names of the chip's tensors that the host fills and reads.
    encoders, decoders : list of Encoder, list of Decoder
    layers : list of Conv
        Each after those that make what it reads.
    copies : list of Conv
        Layers that only copy codes.
    producers : {tensor: the Conv that makes it, unless that only copies codes}
    variants : {(tensor, Pool or None, low, high): (name of it pooled and clipped, nodes, node)}
    joined : {tensor: (pieces, target, nodes, node), as of `copies.join`}
    plains : what `copies.plain` made, by what it is
    moved : what `layout` made, by source and order of elements
    functions : {tensor that a table makes: (tensor it is a function of, its ordered integers for
        each of that tensor's, names of nodes)}
    rescaled : {tensor that a layer without table makes: the same}
    chosen : {(formats, target, gain, offset): (weight, ties), as of `layers.identity`}
    sums : {tensor of a sum: zero point of the tensor that its layer reads}
    notes : Notes
    """

    def __init__(self, weight_format: Format | None,
                 roundings: dict[str, tuple[str, bool]] | None = None, batch: int = 0,
                 offsets: bool = False):
        self.weight_format, self.offsets = weight_format, offsets
        self.roundings, self.batch = roundings or {}, batch
        self.tensors: dict[str, Any] = {}       # Any: only the outputs' have no format
        self.limits: dict[str, tuple[int, int]] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.encoders: list[Encoder] = []
        self.decoders: list[Decoder] = []
        self.layers: list[Conv] = []
        self.copies: list[Conv] = []
        self.producers: dict[str, Conv] = {}
        self.variants: dict[tuple, tuple] = {}
        self.joined: dict[str, tuple] = {}
        self.plains: dict[tuple, Any] = {}
        self.moved: dict[tuple, tuple] = {}
        self.functions: dict[str, tuple] = {}
        self.rescaled: dict[str, tuple] = {}
        self.chosen: dict[tuple, tuple[int, int]] = {}
        self.sums: dict[str, int] = {}
        self.notes = Notes()

    # Reading.

    def read(self, value: Symbol | None, node: Node) -> tuple[str, Any, np.ndarray]:
        """(source tensor, gain, offset [channels]) of a value that a layer reads: real = gain *
        image + offset. Raises UserError at `node` where the value is not quantized, or its channels
        have different scales."""
        value = self.codes(on_chip(value, node), node)
        gain = uniform(value.gain)
        if gain is None:
            maker = f"after {value.nodes[-1]!r}" if value.nodes else "before it"
            node.fail("reads channels that have different scales; put a quantizer with one scale "
                      f"{maker}")
        return value.source, gain, value.offset

    def codes(self, value: Value, node: Node) -> Value:
        """A quantized value as codes, its pooling and clipping done; channels may have different
        scales. Raises UserError at `node` where the value is not quantized."""
        if value.linear is not None or value.slope is not None:
            node.fail(f"reads the result of {value.nodes[-1]!r} before it is quantized; put a "
                      "quantizer between them")
        if not value.gain.all():
            node.fail("reads channels that a factor of 0 makes constant; put a quantizer before "
                      "it")
        value = self.pooled_codes(value, node)
        limits, format = list(self.limits[value.source]), self.tensors[value.source].format
        for bound, end in ((value.low, 0), (value.high, 1)):
            if bound is not None:
                orders = {(self._order(format, (bound - o) / g, value, node), end ^ (g < 0))
                          for g, o in set(zip(value.gain, value.offset, strict=True))}
                if len(orders) > 1:
                    node.fail("reads channels of different scales or offsets after a Relu or Clip; "
                              "put a quantizer between them")
                (order, own), = orders
                limits[own] = (max, min)[own](limits[own], order)
        low, high = limits
        source = self.variant(value.source, None, low, high, value.nodes, node)
        return replace(value, source=source, low=None, high=None)

    def pooled_codes(self, value: Value, node: Node, needed: bool = True) -> Value:
        """A value of codes with its max pooling done. Where that is min pooling of the codes,
        raises UserError at `node`, or, if the pooling is not `needed`, returns the value
        unchanged."""
        if not value.pool:
            return value
        least = np.array(value.pool.least or [False] * len(value.gain))
        if ((value.gain < 0).astype(bool) != least).any():
            if needed:
                node.fail("max pooling after a negative scale becomes min pooling, which is not "
                          "supported here; insert a quantizer (QuantizeLinear and "
                          "DequantizeLinear, or Quant) between the scale and the MaxPool")
            return value
        pool = replace(value.pool, least=())
        low, high = self.limits[value.source]
        source = self.variant(value.source, pool, low, high, value.nodes, node)
        return replace(value, source=source, pool=None)

    @staticmethod
    def _order(format, image, value, node):
        """The ordered integer of an image. Raises UserError at `node` where it has no code."""
        if image.denominator == 1 and not format.binary and format.has_image(int(image)):
            return int(format.ordered(format.from_image(int(image))))
        maker = value.nodes[-1] if value.nodes else value.source
        node.fail(f"reads the result of {maker!r}, which is clipped to a number without a code; "
                  "put a quantizer between them")

    def weights_of_one(self, source: str, node: Node) -> tuple[Format, int]:
        """(format, image of 1, or what copies instead) of the weights of a layer that copies,
        rescales or adds up elements of the tensor `source`. Raises UserError at `node` where the
        format has none."""
        form = self.weight_format or self.tensors[source].format
        one = form.copying[0]
        if one < 1:
            node.fail(f"needs weights of one, and there is none in {form}; quantize the weights to "
                      "more bits")
        return form, one

    # Tensors and layers.

    def unique(self, name: str) -> str:
        """`name`, or a name like it, that no tensor and no layer has."""
        taken = {*self.tensors, *(layer.name for layer in self.layers)}
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        return unique

    def add_tensor(self, name: str, shape: Sequence[int], target: Target) -> str:
        """Add a tensor of the map `shape` that holds codes of `target`; returns its name, `name` or
        one like it."""
        name = self.unique(name)
        self.tensors[name] = Tensor(name, tuple(shape), target.format, float(target.scale),
                                    target.zero_point)
        self.limits[name] = target.low, target.high
        return name

    def add_layer(self, layer: Conv, copy: bool = False) -> None:
        """Add a layer; `copy`: it only copies codes."""
        layer = replace(layer, input_shape=tuple(self.tensors[layer.input].shape))
        self.layers.append(layer)
        if copy:
            self.copies.append(layer)
        else:
            self.producers[layer.output] = layer

    def variant(self, source: str, pool: Pool | None, low: int, high: int, nodes: Sequence[str],
                node: Node) -> str:
        """The name of the tensor `source` pooled and clipped to the ordered integers `low` to
        `high`: made by another copy of the layer that makes `source`, which stands for the ONNX
        `nodes` too."""
        bounds = self.limits[source]
        if pool is None and (low, high) == bounds:
            return source
        key = source, pool, low, high
        if key in self.variants:
            return self.variants[key][0]
        old = self.tensors[source]
        shape = (old.shape[0], *(pool.out(old.shape[1:]) if pool else old.shape[1:]))
        target = Target(old.format, old.scale, old.zero_point, low, high)
        name = f"{source}_{'pooled' if pool else 'clipped'}"
        if source in self.joined:
            pieces, _, own, where = self.joined[source]
            copies = []
            for piece, part in pieces:
                least, most = self.limits[piece]
                copies.append((self.variant(piece, pool, min(max(low, least), high),
                                            max(min(high, most), low), nodes, node), part))
            name = join(self, name, shape, copies, target, own, where)
            self.variants[key] = name, nodes, node
            return name
        name = self.add_tensor(name, shape, target)
        made = self.producers.get(source)
        own = pool
        if made is not None and pool and not made.pool.nothing:
            own = made.pool.then(pool)
            made = made if own else None
        if made is None or (made.operand is not None and pool):
            self.add_layer(copy_layer(self, source, name, pool, nodes, node))
        elif made.operand is not None:
            self.add_layer(replace(made, output=name, nodes=(*made.nodes, *nodes),
                                   operand=replace(made.operand, low=low, high=high)))
            if source in self.sums:
                self.sums[name] = self.sums[source]
        else:
            layer = replace(made, output=name, nodes=(*made.nodes, *nodes), pool=own or made.pool)
            if made.table is not None:
                layer = replace(layer, table=np.clip(made.table, low, high))
            elif made.requantization is not None:
                layer = replace(layer, requantization=replace(made.requantization, low=low,
                                                              high=high))
            self.add_layer(layer)
        self.variants[key] = name, nodes, node
        return name

    def quantize(self, value: HostInput | Value, target: Target, name: str, node: Node) -> str:
        """Quantize a value by `target`; returns the name of its tensor: `name`, or one like it, if
        the tensor is new. Raises UserError at `node` where no layers can compute it."""
        if isinstance(value, HostInput):
            return self._quantize_input(value, target, name, node)
        self.notes.quantized(self, value, target)
        if value.parts:
            return quantize_parts(self, value, target, name, node)
        return quantized(value.linear, self, value, target, name, node)

    def quantize_sums(self, value: Value, target: Target, name: str, node: Node,
                      copy: bool = False) -> str:
        """Quantize codes or sums of a convolution by `target` with one layer; returns the name of
        its tensor. `copy`: the layer only copies codes."""
        if value.pool and value.pool.least and not target.format.binary:
            value = identity(self, value, target, node) if value.linear is None else value
            return mirrored(self, value, target, name, node)
        name = self.add_tensor(name, value.map, target)
        self.add_layer(quantizing_layer(self, value, target, name, node), copy)
        if not copy:
            note_rescaled(self, value, target, name, node)
        return name

    def _quantize_input(self, value, target, name, node):
        shape = value.whole
        if len(shape) > 2:
            shape = shape[0], prod(shape[1:-1]), shape[-1]
        else:
            shape = [(1, 1, 1), (*shape, 1, 1), (*shape[:1], 1, *shape[1:])][len(shape)]
        name = self.add_tensor(name, shape, target)
        self.inputs.append(name)
        if value.rounding:
            value = value.then("round", value.rounding)
        self.encoders.append(Encoder(value.name, value.input_shape, name, value.steps,
                                     target.low, target.high, target.odd))
        return name

    # The end.

    def output(self, value: Value, name: str, node: Node) -> None:
        """Make a value the network's output `name`. Raises UserError at `node` where it must be
        quantized first."""
        low = None if value.low is None else float(value.low)
        high = None if value.high is None else float(value.high)
        rounding, half = self.roundings.get(name, ("", False))
        decoder = Decoder(name, value.shape, "", low=low, high=high, rounding=rounding,
                          half=half and rounding == "float16", order=value.order, rows=value.rows)
        self.notes.quantized(self, value, None)
        value = plain(self, value, node)
        if value.slope is not None:
            if value.pool and (value.slope < 0).any():
                node.fail("is an output of the network and a MaxPool of numbers with a negative "
                          "slope; put a quantizer after it")
            decoder = replace(decoder, slope=value.slope.astype(np.float64))
        tensor, fields = given(value.linear, self, value, decoder, node)
        self.decoders.append(replace(decoder, tensor=tensor, **fields))
        if tensor not in self.outputs:
            self.outputs.append(tensor)

    def graph(self, name: str, head: HostPart | None = None, tail: HostPart | None = None) -> Graph:
        """The Graph, called `name`, of the layers that outputs depend on; `head` and `tail` as of
        `Graph`."""
        used, layers = set(self.outputs), list[Conv]()
        for layer in reversed(self.layers):
            if layer.output in used:
                layers.insert(0, layer)
                used.add(layer.input)
                if layer.operand is not None:
                    used.add(layer.operand.tensor)
        return Graph(name, [self.tensors[item] for item in self.inputs if item in used],
                     self.tensors, self._sharing_variants(layers), self.outputs,
                     [item for item in self.encoders if item.tensor in used], self.decoders, tail,
                     head, digits=self.notes.written)

    def _sharing_variants(self, layers):
        """The layers; where both a tensor and a pooled variant of it are used, the variant is
        pooled from the tensor instead of being computed a second time. Binary tensors stay as they
        are: on a binary chip a copy of one is a layer of pairs of passes."""
        layers, made = list(layers), {layer.output: n for n, layer in enumerate(layers)}
        for (source, pool, _, _), (variant, nodes, node) in self.variants.items():
            layer = layers[made[variant]] if variant in made else None
            if (source in made and layer is not None and layer.input != source
                    and source not in self.joined
                    and not self.tensors[source].format.binary):
                copy = copy_layer(self, source, variant, pool, nodes, node)
                layers[made[variant]] = copy
        return layers


# Codes and the sums of convolutions, as kinds of values.

@quantized.register(NoneType)
def _(codes, builder, value, target, name, node):
    target = target.within(value, node)
    source, bounds = builder.tensors[value.source], builder.limits[value.source]
    gain, offset = uniform(value.gain), uniform(value.offset)
    same = (source.format == target.format and gain == target.unit and value.slope is None
            and offset == -target.zero_point * target.unit)
    whole = value.channels is None and not any(value.pads)
    if same and whole:
        return builder.variant(value.source, value.pool, max(target.low, bounds[0]),
                               min(target.high, bounds[1]), value.nodes, node)
    if value.slope is None or (value.slope >= 0).all():
        value = builder.pooled_codes(value, node, needed=False)
    if (value.source in builder.functions and whole and value.slope is None and not same
            and gain is not None and offset is not None and not target.format.binary):
        return add_table(builder, value, target, name, node)
    copy = same and not value.pool and target.low <= bounds[0] and bounds[1] <= target.high
    return builder.quantize_sums(value, target, name, node, copy)


@quantized.register
def _(sums: Linear, builder, value, target, name, node):
    target = target.within(value, node)
    if value.window != (1, 1) and value.pool:
        node.fail("quantizes a MaxPool of an average that is not quantized; put a quantizer "
                  "between the average and the MaxPool")
    return builder.quantize_sums(value, target, name, node)


@given.register(NoneType)
def _(codes, builder, value, decoder, node):
    value = builder.pooled_codes(value, node)
    tensor = builder.tensors[value.source]
    step = Fraction(2) ** tensor.format.exponent
    unit = Fraction(tensor.scale) * step
    if uniform(value.gain) == unit and uniform(value.offset) == -tensor.zero_point * unit:
        return tensor.name, {}
    return tensor.name, {"scale": (value.gain / step).astype(np.float64),
                         "offset": value.offset.astype(np.float64)}


@given.register
def _(sums: Linear, builder, value, decoder, node):
    value = unwindowed(value, node)
    if value.pool:
        node.fail("a MaxPool whose result is an output of the network needs a quantizer; put one "
                  "after it")
    tensor = Tensor(builder.unique(decoder.name), value.map, None)
    builder.tensors[tensor.name] = tensor
    layer = quantizing_layer(builder, value, None, tensor.name, node)
    offset = value.offset - value.gain * exact(layer.bias)
    builder.tensors[tensor.name] = replace(tensor, scale=value.gain.astype(np.float64),
                                           offset=offset.astype(np.float64))
    builder.add_layer(layer)
    return tensor.name, {}

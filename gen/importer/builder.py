"""From symbolic values to layers: requantization in integers, fused pooling and clipping.

A quantizer turns a `Value` into a layer of the graph. What it computes is exact but for two
roundings: the scale to a multiplier of 26 bits, and the bias to so many fraction bits (of which the
chip holds some). A batch norm before a binary quantizer becomes an exact integer threshold.
"""

from dataclasses import replace
from fractions import Fraction
from itertools import count
from math import prod

import numpy as np
from systolith.gen.importer.operators.digits import added_up
from systolith.gen.importer.operators.extremes import Extreme, quantized_extreme
from systolith.gen.importer.operators.functions import (
    Function,
    add_table,
    function_of_codes,
    fuse_tables,
    note_rescaled,
    to_host,
)
from systolith.gen.importer.operators.kinks import Kink, quantize_kink
from systolith.gen.importer.operators.linear import unwindowed
from systolith.gen.importer.operators.pairs import added_values, combined_layer, fuse
from systolith.gen.importer.operators.smooth import Smooth, smooth_layer
from systolith.hw.formats import Bipolar, Int
from systolith.sim.model import numerics
from systolith.sim.model.graph import Conv, Decoder, Encoder, Graph, Tensor

from .binary import as_signs, thresholds
from .constant import settle_constant_channels
from .copies import join, own_target, plain, quantize_parts, remove_copies
from .groups import mirrored
from .notes import Notes
from .requantize import below_zero, best_weight, requantization
from .target import Target
from .ties import ties_of
from .values import HostInput, Linear, Pair, Pool, Value, codes_of, exact, uniform

__all__ = ["Builder"]


def _limits(value, target, node):
    """Limits of the code where the value is clipped before the quantizer."""
    low, high = target.low, target.high
    if isinstance(target.format, Bipolar):
        if (value.low is not None and value.low >= 0) or (value.high is not None
                                                           and value.high < 0):
            node.fail("the sign of a clipped value is always the same: remove the Relu or Clip "
                      "before the binary quantizer")
        return low, high
    if value.low is not None:
        low = target.order(value.low)
    if value.high is not None:
        high = target.order(value.high)
    return low, high


class Builder:
    """Collects the tensors and layers of a graph.

    `weight_format` is the format for layers that only rescale (a quantizer after a quantizer);
    None where the network has no quantized weights.
    """
    target = Target

    def __init__(self, weight_format):
        self.weight_format = weight_format
        self.tensors, self.inputs, self.encoders = {}, [], []
        self.layers, self.outputs, self.decoders, self.tail = [], [], [], None
        self.head = None
        self.producers, self.limits, self.variants = {}, {}, {}
        self.copies, self.joined, self.plains, self.moved = [], {}, {}, {}
        self.batch = None       # images that the model insists on
        self.dense = set()      # names of the model's tensors as of `onnx_layout.read_by_dense`
        self.functions = {}     # tensor -> (tensor it is a function of, ordered integers, nodes)
        self.rescaled = {}      # the same where a layer without table makes it
        self.roundings = {}     # tensor of the model -> as of `onnx_half.roundings`
        self.chosen = {}        # as of `identity`: (formats, target, gain, offset) -> weight, ties
        self.sums = {}          # tensor of a sum -> zero point of what its layer reads as it is
        self.notes = Notes()
        self.assumed = {}       # tensor that a refused node would make -> value like it

    # Reading.

    def read(self, value, node):
        """(source tensor, gain, offset array) of a value that a layer reads: real = gain * image
        + offset. An error at `node` where it is not quantized."""
        if isinstance(value, HostInput):
            node.fail(f"reads the input {value.name!r} as it is; put a quantizer before it")
        if not isinstance(value, Value):
            node.fail("its first input must be an activation, not a constant")
        value, gain = self.codes(value, node), uniform(value.gain)
        if gain is None:
            maker = f"after {value.nodes[-1]!r}" if value.nodes else "before it"
            node.fail("reads channels that have different scales; put a quantizer with one scale "
                      f"{maker}")
        return value.source, gain, value.offset

    def codes(self, value, node):
        """A quantized value as codes, its pooling and clipping done; channels may have different
        scales. An error at `node` where it is not quantized."""
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
        source = self._variant(value.source, None, *limits, value.nodes, node)
        return replace(value, source=source, low=None, high=None)

    def pooled_codes(self, value, node, needed=True):
        """The value of codes with its max pooling done; where the minimum of the codes is wanted,
        an error at `node`, or, if not `needed`, the value unchanged."""
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
        source = self._variant(value.source, pool, *self.limits[value.source], value.nodes, node)
        return replace(value, source=source, pool=None)

    @staticmethod
    def _order(format, image, value, node):
        if image.denominator == 1 and not isinstance(format, Bipolar):
            code = format.encode(np.ldexp(float(image), format.exponent))
            if int(format.image(code)) == image:
                return int(numerics.ordered(code, format))
        maker = value.nodes[-1] if value.nodes else value.source
        node.fail(f"reads the result of {maker!r}, which is clipped to a number without a code; "
                  "put a quantizer between them")

    # Tensors and layers.

    def unique(self, name):
        """`name`, or a name like it that no tensor and no layer has."""
        taken = {*self.tensors, *(layer.name for layer in self.layers)}
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        return unique

    def add_tensor(self, name, shape, target):
        name = self.unique(name)
        self.tensors[name] = Tensor(name, tuple(shape), target.format, target.scale,
                                    target.zero_point)
        self.limits[name] = target.low, target.high
        return name

    def add_layer(self, layer, copy=False):
        """Add a layer; `copy`: all that it does is to copy codes."""
        layer.input_shape = tuple(self.tensors[layer.input].shape)
        self.layers.append(layer)
        if copy:
            self.copies.append(layer)
        else:
            self.producers[layer.output] = layer

    def _variant(self, source, pool, low, high, nodes, node):
        """The tensor `source`, pooled (a Pool or None) and clipped: made by a copy of the layer
        that makes it."""
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
            made = []
            for piece, part in pieces:
                least, most = self.limits[piece]
                made.append((self._variant(piece, pool, min(max(low, least), high),
                                           max(min(high, most), low), nodes, node), part))
            name = join(self, name, shape, made, target, own, where)
            self.variants[key] = name, nodes, node
            return name
        name = self.add_tensor(name, shape, target)
        made = self.producers.get(source)
        own = pool
        if made is not None and pool and (mine := Pool.of(made)):
            own = None if made.pool_sum else mine.then(pool)
            made = made if own else None
        if made is None or (made.operand is not None and pool):
            self.add_layer(self.copy_layer(source, name, pool, nodes, node))
        elif made.operand is not None:
            self.add_layer(replace(made, output=name, nodes=[*made.nodes, *nodes],
                                   operand=replace(made.operand, low=low, high=high)))
            if source in self.sums:
                self.sums[name] = self.sums[source]
        else:
            limits = {"low": low, "high": high}
            if made.table is not None:
                limits = {"table": np.clip(made.table, low, high)}
            self.add_layer(replace(made, output=name, nodes=[*made.nodes, *nodes], **limits,
                                   **(own.fields if own else {})))
        self.variants[key] = name, nodes, node
        return name

    def copy_layer(self, source, output, pool, nodes, node):
        """A layer that only pools and clips."""
        old, target = self.tensors[source], self.tensors[output]
        unit = Fraction(old.scale) * Fraction(2) ** old.format.exponent
        gain = np.full(old.shape[0], unit, dtype=object)
        value = Value(source, old.shape, old.shape, gain, -old.zero_point * gain, pool=pool,
                      nodes=nodes)
        return self.quantizing_layer(value, Target(target.format, target.scale, target.zero_point,
                                         *self.limits[output]), output, node)

    def quantize(self, value, target, name, node):
        """The name of the tensor that holds `value` quantized by `target`; `name` if the tensor is
        new."""
        if isinstance(value, HostInput):
            return self._quantize_input(value, target, name, node)
        self.notes.quantized(self, value, target)
        if value.parts:
            return quantize_parts(self, value, target, name, node)
        if isinstance(value.linear, Kink):
            return quantize_kink(self, value, target, name, node)
        if isinstance(value.linear, Extreme):
            return quantized_extreme(self, value, target, name, node)
        if isinstance(value.linear, Smooth):
            name = self.add_tensor(name, value.map, target)
            self.add_layer(smooth_layer(self, value, target, name, node))
            return name
        if isinstance(value.linear, Function):
            if isinstance(target.format, Bipolar):
                target = target.as_integers
            return add_table(self, plain(self, value, node), target, name, node)
        low, high = _limits(value, target, node)
        target = replace(target, low=low, high=high)
        copy = False
        if value.linear is None:
            source = self.tensors[value.source]
            gain, offset = uniform(value.gain), uniform(value.offset)
            bounds = self.limits[value.source]
            same = (source.format == target.format and gain == target.unit and value.slope is None
                    and offset == -target.zero_point * target.unit)
            if same and value.channels is None and not any(value.pads):
                return self._variant(value.source, value.pool, max(low, bounds[0]),
                                     min(high, bounds[1]), value.nodes, node)
            if value.slope is None or (value.slope >= 0).all():
                value = self.pooled_codes(value, node, needed=False)
            if (value.source in self.functions and value.channels is None and value.slope is None
                    and not same and not any(value.pads) and gain is not None
                    and offset is not None and not isinstance(target.format, Bipolar)):
                return add_table(self, value, target, name, node)
            copy = same and not value.pool and low <= bounds[0] and bounds[1] <= high
        if isinstance(value.linear, Pair):
            sums = added_values(self, value, target, node)
            if sums is not None:
                return self.quantize(sums, target, name, node)
            if isinstance(target.format, Bipolar):
                target = target.as_integers
                low, high = target.low, target.high
            shape = value.linear.first.map
            name = self.add_tensor(name, shape, target)
            self.add_layer(combined_layer(self, value, target, name, node))
            return self._variant(name, value.pool, low, high, value.nodes, node)
        if value.window != (1, 1) and value.pool:
            node.fail("quantizes a MaxPool of an average that is not quantized; put a quantizer "
                      "between the average and the MaxPool")
        if value.pool and value.pool.least and not isinstance(target.format, Bipolar):
            value = self.identity(value, target, node) if value.linear is None else value
            return mirrored(self, value, target, name, node)
        name = self.add_tensor(name, value.map, target)
        self.add_layer(self.quantizing_layer(value, target, name, node), copy)
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

    def moving_layer(self, source, output, move, nodes, node):
        """A layer that copies what a `Move` says."""
        old, count = self.tensors[source], len(move.channels)
        ends = [corner + (size - 1) * stride + 1 - whole for corner, size, stride, whole in
                zip(move.corner, move.sizes, move.stride, old.shape[1:], strict=True)]
        unit = Fraction(old.scale) * Fraction(2) ** old.format.exponent
        gain = np.full(count, unit, dtype=object)
        whole = np.array_equal(move.channels, np.arange(old.shape[0]))
        shape = (count, *move.sizes)
        value = Value(source, shape, shape, gain, -old.zero_point * gain, nodes=nodes,
                      channels=None if whole else move.channels,
                      pads=(-move.corner[0], -move.corner[1], *ends))
        layer = self.quantizing_layer(value, own_target(self, source), output, node)
        layer.stride, layer.step, layer.origin = move.stride, move.step, move.origin
        layer.first_channel = move.first_channel
        return layer

    def identity(self, value, target, node):
        """The value as a 1 x 1 depthwise convolution, with weights chosen so that quantizing every
        code by `target` (None: raw) is as exact as possible."""
        source = self.tensors[value.source]
        format = self.weight_format or source.format
        images = format.image(format.finite_codes())
        one = int(format.image(format.encode(1.0)))
        candidates = [one, *sorted({int(image) for image in images if image > 0} - {one})]
        codes = source.format.image(source.format.finite_codes())
        keys = [(format, source.format, target, *item)
                for item in zip(value.gain, value.offset, strict=True)]
        for key in {*keys} - self.chosen.keys():
            self.chosen[key] = best_weight(candidates, codes, *key[-2:], target, node)
        weights, ties = (np.array(item) for item in zip(*(self.chosen[key] for key in keys),
                                                        strict=True))
        channels = len(weights)
        name = next(iter(value.nodes), node.name)
        linear = Linear(name, weights.reshape(channels, 1, 1, 1), format, (1, 1), (1, 1),
                        value.pads, value.pad_image, ties)
        return replace(value, linear=linear, gain=value.gain / exact(weights))

    def quantizing_layer(self, value, target, output, node):
        """The layer that quantizes `value` into the tensor `output`; target None: raw."""
        if value.linear is None:
            value = self.identity(value, target, node)
        linear, source = value.linear, self.tensors[value.source]
        images, form = linear.images.copy(), linear.format
        gain, offset = value.gain, value.offset
        below = ties = None
        if target is not None:
            negative = gain < 0
            images[negative] *= -1
            gain = abs(gain)
            if isinstance(target.format, Bipolar):
                images, form, gain = as_signs(images, form, gain)
                if value.slope is not None and (value.slope <= 0).any():
                    node.fail(f"takes the sign of {value.nodes[-1]!r}, whose slope must be "
                              "positive; put a quantizer of more than one bit between them")
                parameters = thresholds(images, gain, offset, source.format, target.strict,
                                        value.window[0] * value.window[1])
            else:
                if form.zero_code is not None:
                    gain, offset = settle_constant_channels(
                        images, gain, offset, value.slope, target, source.format,
                        value.window[0] * value.window[1])
                parameters = requantization(images, gain, offset, target, node)
                ties = linear.ties
                if ties is None and isinstance(target.format, Int):
                    window = value.window[0] * value.window[1]
                    ends = (window * np.array(item, object) for item in
                            numerics.sum_ranges(images, source.format))
                    ties = ties_of(zip(gain, offset, *ends, strict=True), value.slope, target)
                if value.slope is not None:
                    below = below_zero(images, gain, offset, value.slope, parameters, target, node)
        else:
            low, high = numerics.sum_ranges(images, source.format)
            bias = [0 if g == 0 else round(o / g) for g, o in zip(gain, offset, strict=True)]
            bias = [b if lo <= b <= hi else 0 for b, lo, hi in zip(bias, low, high, strict=True)]
            parameters = bias, [1] * len(bias), [0] * len(bias)
        bias, multiplier, shift, *addend = (np.array(item, dtype=np.int64) for item in parameters)
        count = source.shape[0] if value.channels is None else len(value.channels)
        groups = count // images.shape[1]
        pad_code = None
        padded = any(pad > 0 for pad in linear.pads)
        if linear.pad_image and padded:
            pad_code = int(codes_of(source.format, linear.pad_image, node))
        return Conv(
            name=self.unique(linear.name), input=value.source, output=output,
            weight=codes_of(form, images, node), weight_format=form,
            stride=linear.stride, dilation=linear.dilation, pads=linear.pads,
            pad_code=pad_code, replicate=linear.pad_image is None and padded, groups=groups,
            channels=value.channels,
            **(value.pool.fields if value.pool else {"pool": value.window}),
            pool_sum=value.window != (1, 1), bias=bias, multiplier=multiplier, shift=shift,
            addend=addend[0] if addend else None, below=below, raw=target is None,
            ties=ties, nodes=list(value.nodes),
            zero_point=0 if target is None else target.zero_point,
            low=0 if target is None else target.low, high=0 if target is None else target.high)

    # The end.

    def output(self, value, name, node):
        """Make `value` the ONNX output `name`."""
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
            decoder.slope = value.slope.astype(np.float64)
        if isinstance(value.linear, Function):
            tensor = self.tensors[value.source]
            if value.pool:
                node.fail("a MaxPool whose result is an output of the network needs a quantizer; "
                          "put one after it")
            decoder.function = function_of_codes(self, value, node)
            decoder.low = decoder.high = None
        elif value.linear is None:
            value = self.pooled_codes(value, node)
            tensor = self.tensors[value.source]
            unit = Fraction(tensor.scale) * Fraction(2) ** tensor.format.exponent
            if uniform(value.gain) != unit or uniform(value.offset) != -tensor.zero_point * unit:
                step = Fraction(2) ** tensor.format.exponent
                decoder.scale = (value.gain / step).astype(np.float64)
                decoder.offset = value.offset.astype(np.float64)
        else:
            if isinstance(value.linear, Kink):
                node.fail(f"its result {value.nodes[-1]!r} of two slopes is an output of the "
                          "network before it is quantized; put a quantizer after it")
            if isinstance(value.linear, Pair) and not value.linear.product:
                value = added_up(self, value, None, node)
            if isinstance(value.linear, (Extreme, Pair)):
                node.fail(f"its sum, product or extreme {value.linear.name!r} is an output of the "
                          "network before it is quantized; put a quantizer after it")
            value = unwindowed(value, node)
            if value.pool:
                node.fail("a MaxPool whose result is an output of the network needs a quantizer; "
                          "put one after it")
            tensor = Tensor(self.unique(name), value.map, None)
            self.tensors[tensor.name] = tensor
            layer = self.quantizing_layer(value, None, tensor.name, node)
            tensor.scale = value.gain.astype(np.float64)
            tensor.offset = (value.offset - value.gain * exact(layer.bias)).astype(np.float64)
            self.add_layer(layer)
        decoder.tensor = tensor.name
        if tensor.name not in self.outputs:
            self.outputs.append(tensor.name)
        self.decoders.append(decoder)

    def finish(self, name):
        """The graph, without tensors and layers that no output depends on."""
        self._drop_unused()
        self._share_variants()
        self.layers = fuse(self.layers, self.outputs, self.sums, self.tensors)
        self.layers = remove_copies(self)
        to_host(self)
        self.layers = fuse_tables(self.layers, self.outputs)
        self._flatten_inputs()
        self._name_layers()
        kept = [self.tensors[item] for item in self.inputs]
        tensors = {item.name: item for item in kept}
        tensors |= {layer.output: self.tensors[layer.output] for layer in self.layers}
        return Graph(name, kept, tensors, self.layers, self.outputs, self.encoders, self.decoders,
                     self.tail, self.head, notes=self.notes.kept(self.layers),
                     digits=self.notes.written)

    def _drop_unused(self):
        used, layers = set(self.outputs), []
        for layer in reversed(self.layers):
            if layer.output in used:
                layers.append(layer)
                used.add(layer.input)
                if layer.operand is not None:
                    used.add(layer.operand.tensor)
        self.layers = layers[::-1]
        self.encoders = [item for item in self.encoders if item.tensor in used]
        self.inputs = [item for item in self.inputs if item in used]

    def _share_variants(self):
        """Where both a tensor and its pooled variant are used, pool the tensor instead of
        computing it twice. Binary tensors stay as they are: on a binary chip a copy of one is a
        layer of pairs of passes."""
        made = {layer.output: index for index, layer in enumerate(self.layers)}
        for (source, pool, _, _), (variant, nodes, node) in self.variants.items():
            layer = self.layers[made[variant]] if variant in made else None
            if (source in made and layer is not None and layer.input != source
                    and source not in self.joined
                    and not isinstance(self.tensors[source].format, Bipolar)):
                copy = self.copy_layer(source, variant, pool, nodes, node)
                copy.input_shape = tuple(self.tensors[source].shape)
                self.layers[made[variant]] = copy

    def _name_layers(self):
        """Names of their own for layers of the same node."""
        given, taken = {layer.name for layer in self.layers}, set()
        for layer in self.layers:
            if layer.name in taken:
                layer.name = next(name for n in count(2)
                                  if (name := f"{layer.name}_{n}") not in given | taken)
            taken.add(layer.name)

    def _flatten_inputs(self):
        """An input that only dense layers read becomes one pixel of many channels."""
        combined = {layer.operand.tensor for layer in self.layers if layer.operand is not None}
        for name in self.inputs:
            if name in combined:
                continue
            channels, height, width = self.tensors[name].shape
            readers = [layer for layer in self.layers if layer.input == name]
            if readers and all(layer.weight.shape[2:] == (height, width) and not any(layer.pads)
                   and layer.channels is None for layer in readers):
                self.tensors[name].shape = (channels * height * width, 1, 1)
                for layer in readers:
                    layer.weight = layer.weight.reshape(len(layer.weight), -1, 1, 1)

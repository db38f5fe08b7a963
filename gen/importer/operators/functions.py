"""Functions of one number: operators that work element by element, evaluated on every code.

Whatever is computed element by element from one quantized tensor and constants is a function of its
codes, quantizers in between included: one table. `Function` holds what it gives for each code,
computed in float32 by ONNX's reference; a quantizer makes a layer of it that copies the tensor and
looks up the codes, and `fuse_tables` lets the layer that makes the tensor do that.
"""

from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator
from systolith.gen.importer.copies import plain
from systolith.gen.importer.values import (
    HostInput,
    Linear,
    Pair,
    Pool,
    Value,
    codes_of,
    exact,
    layout_of,
    like,
    uniform,
)
from systolith.hw.formats import Bipolar
from systolith.sim.model import numerics
from systolith.sim.model.graph import Conv

__all__ = ["FUNCTIONS", "Function", "add_table", "combined", "function_of_codes", "fuse_tables",
           "leaky", "lookup", "note_rescaled", "of_function", "quantized_function", "reals",
           "to_host"]

#: Operators of one input: name and attributes.
FUNCTIONS = {
    "Acos": set(), "Acosh": set(), "Asin": set(), "Asinh": set(), "Atan": set(),
    "Atanh": set(), "Ceil": set(), "Celu": {"alpha"}, "Cos": set(), "Cosh": set(),
    "Elu": {"alpha"}, "Erf": set(), "Exp": set(), "Floor": set(), "Gelu": {"approximate"},
    "HardSwish": set(), "Log": set(), "Mish": set(), "Reciprocal": set(), "Round": set(),
    "Selu": {"alpha", "gamma"}, "Shrink": {"bias", "lambd"}, "Sigmoid": set(), "Sign": set(),
    "Sin": set(), "Sinh": set(), "Softplus": set(), "Softsign": set(), "Sqrt": set(),
    "Swish": {"alpha"}, "Tan": set(), "Tanh": set(), "ThresholdedRelu": {"alpha"},
}
#: Those that take a constant of each channel where a quantizer stands before them.
_OF_EACH = {"Add", "Div", "Mul", "PRelu", "Sub"}


@dataclass
class Function:
    """Results of an operator before gain and offset are applied: float32 for each ordered integer
    that the source has, from the smallest to the largest."""
    name: str
    numbers: np.ndarray


def quantized_function(value):
    """Whether a value is a function of codes: what a quantizer made, or a Function of that."""
    return isinstance(value, Value) and (value.linear is None or isinstance(value.linear, Function))


def _ancestors(builder, value):
    """[(tensor, for each ordered integer of it that of the value's source)], the source first, then
    what it is a function of, and so on."""
    name, (low, high) = value.source, builder.limits[value.source]
    orders = np.arange(low, high + 1)
    found = [(name, orders)]
    while name in builder.functions or name in builder.rescaled:
        root, results, _ = builder.functions.get(name) or builder.rescaled[name]
        orders = orders[results - builder.limits[name][0]]
        name = root
        found.append((name, orders))
    return found


def reals(builder, value, orders, node):
    """float32 of a function's value where its source has these ordered integers."""
    gain, offset = uniform(value.gain), uniform(value.offset)
    if gain is None or offset is None:
        if isinstance(value.linear, Function):
            node.fail(f"reads the result of {value.linear.name!r}, a function of codes, which is "
                      "scaled or moved channel by channel before it is quantized; put a quantizer "
                      f"after {value.linear.name!r}")
        node.fail("is a function of channels of different scales; put a quantizer before it")
    low, _ = builder.limits[value.source]
    if isinstance(value.linear, Function):
        numbers = value.linear.numbers[orders - low]
        if (gain, offset) != (1, 0):
            numbers = numbers * np.float32(gain) + np.float32(offset)
    else:
        format = builder.tensors[value.source].format
        images = format.image(numerics.from_ordered(orders, format))
        numbers = np.array([float(gain * int(image) + offset) for image in images], np.float32)
    bounds = [None if item is None else np.float32(item) for item in (value.low, value.high)]
    return numbers if bounds == [None, None] else np.clip(numbers, *bounds)


def _whole(builder, value, node):
    """The value as all of one tensor, unpooled."""
    value = plain(builder, value, node)
    if value.slope is not None and not is_sign(builder, value):
        node.fail(f"reads the result of {value.nodes[-1]!r}, whose channels have different slopes, "
                  "before it is quantized; put a quantizer between them")
    if not value.pool:
        return value
    if value.linear is not None:
        node.fail(f"reads a maximum of the result of {value.nodes[-1]!r} before it is quantized; "
                  "put a quantizer between them")
    return builder.pooled_codes(value, node)


def evaluated(node, arrays):
    """The node's result for float32 arrays and constants, computed by ONNX's reference
    evaluator."""
    names = [f"x{n}" for n in range(len(arrays))]
    part = helper.make_node(node.operator, names, ["y"], **node.attributes)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
              for name, array in zip(names, arrays, strict=True)]
    graph = helper.make_graph([part], "function", inputs, [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[
        helper.make_opsetid("", defs.onnx_opset_version())])
    with np.errstate(all="ignore"):
        try:
            result, = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
        except Exception as error:
            # The evaluator raises whatever its numpy code meets.
            node.fail(f"cannot be computed: {error}")
    return np.asarray(result, np.float32)


def of_function(builder, node, inputs):
    """The Function that a node makes of values that are functions of one tensor, and constants;
    None where there is no such tensor."""
    values = [_whole(builder, item, node) for item in inputs if isinstance(item, Value)]
    if all(is_sign(builder, item) for item in values):
        return _of_signs(node, values, inputs)
    if len({(tuple(item.shape), tuple(item.map), layout_of(item).tobytes())
            for item in values}) > 1:
        return None
    lines = [dict(_ancestors(builder, value)) for value in values]
    common = [name for name in lines[0] if all(name in line for line in lines)]
    if not common:
        return None
    root, arrays = common[-1], []
    numbers = iter([reals(builder, value, line[root], node)
                    for value, line in zip(values, lines, strict=True)])
    for item in inputs:
        if isinstance(item, Value):
            arrays.append(next(numbers))
        elif item is not None:
            array = item.floats.reshape(-1)
            if array.size == 0 or (array != array[0]).any():
                instead = ("put a quantizer before it" if node.operator in _OF_EACH and any(
                    isinstance(other.linear, Function) for other in values) else "give it one")
                node.fail("is a function of codes and a constant of several numbers, and one is "
                          f"supported; {instead}")
            arrays.append(array[:1])
    value = values[0]
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    known = builder.functions | builder.rescaled
    nodes = [name for line in lines for tensor in line if tensor != root and tensor in known
             for name in known[tensor][2]]
    nodes = list(dict.fromkeys([*nodes, *(name for item in values for name in item.nodes),
                                node.name]))
    return like(value, Value(root, value.shape, value.map, ones, 0 * ones, nodes=nodes,
                             linear=Function(node.name, evaluated(node, arrays))))


def is_sign(builder, value):
    """Whether a value is a tensor of signs, scaled, moved or clipped."""
    return (isinstance(value, Value) and value.linear is None and not value.parts
            and isinstance(builder.tensors[value.source].format, Bipolar))


def of_sign(value, function):
    """A value that `is_sign`, not pooled, with `function` applied to its two numbers, an array of
    Fraction [2, channels]."""
    low, high = function(_two_numbers(value))
    return replace(value, gain=(high - low) / 2, offset=(high + low) / 2, slope=None, low=None,
                   high=None)


def _two_numbers(value):
    """The two numbers of a value that `is_sign`, for codes -1 and +1: [2, channels]."""
    numbers = np.array([value.offset - value.gain, value.offset + value.gain])
    if value.slope is not None:
        numbers = np.where(numbers < 0, numbers * value.slope, numbers)
    if value.low is not None:
        numbers = np.maximum(numbers, value.low)
    return numbers if value.high is None else np.minimum(numbers, value.high)


def _of_signs(node, values, inputs):
    """The result of a node whose operands are signs of one tensor and constants; None where they
    are of several tensors."""
    if len({(item.source, tuple(item.map), tuple(item.shape), layout_of(item).tobytes())
            for item in values}) > 1:
        return None
    arrays, numbers = [], iter(values)
    for item in inputs:
        if isinstance(item, Value):
            arrays.append(_two_numbers(next(numbers)).astype(np.float64).astype(np.float32))
        elif item is not None:
            if item.floats.size != 1:
                node.fail("a function of an activation and a constant is supported where the "
                          "constant is one number; give it one number for all channels")
            arrays.append(item.floats.reshape(1, 1))
    made = evaluated(node, arrays)
    if not np.isfinite(made).all():
        node.fail("its result is not finite for one of the two signs that it reads; choose a "
                  "function that is finite for both")
    return replace(of_sign(values[0], lambda _: exact(made)),
                   nodes=[*values[0].nodes, node.name])


def combined(builder, node, values):
    """The Function that a node makes of several activations of which one at least is a function
    of codes, all of the same; else None. Sums of a tensor and itself with another scale need no
    table, products do."""
    if all(is_sign(builder, item) and item.source == values[0].source for item in values):
        return of_function(builder, node, values)
    if all(map(quantized_function, values)) and (_of_clipped(builder, node, values) or any(
            isinstance(item.linear, Function) or item.source in builder.functions
            or (node.operator == "Mul" and item.source in builder.rescaled) for item in values)):
        return of_function(builder, node, values)
    return None


def _of_clipped(builder, node, values):
    """Whether values are computed from one tensor and one of them has limits or an offset, such as
    x * clip(x + 3): then a table must compute their sum or product."""
    if len({item.source for item in values}) > 1 or values[0].parts or (
            builder.tensors[values[0].source].format.width > 8):
        return False
    own = {(uniform(item.gain), uniform(item.offset)) for item in values}
    return any((item.low, item.high) != (None, None) for item in values) or (
        node.operator == "Mul" and len(own) > 1)


def add_table(builder, value, target, name, node):
    """The tensor that `target` makes of a function of codes: a layer that looks them up."""
    if value.linear is None:
        root, orders = _ancestors(builder, value)[-1]
    else:
        root, (low, high) = value.source, builder.limits[value.source]
        orders = np.arange(low, high + 1)
    results = _results(builder, value, orders, target, node)
    tensor = builder.add_tensor(name, value.map, target)
    builder.add_layer(lookup(builder, root, tensor, results, value, node))
    if not value.pool:
        builder.functions[tensor] = root, results, value.nodes
    return tensor


def note_rescaled(builder, value, target, tensor, node):
    """Remember what `target` makes of every code of the value's source, if nothing else decides on
    the tensor's codes."""
    if (value.linear is None and value.slope is None and value.channels is None
            and not value.pool and not any(value.pads) and uniform(value.gain) is not None
            and uniform(value.offset) is not None and not isinstance(target.format, Bipolar)):
        low, high = builder.limits[value.source]
        builder.rescaled[tensor] = value.source, _results(
            builder, value, np.arange(low, high + 1), target, node), value.nodes


def _results(builder, value, orders, target, node):
    """The ordered integers of a value quantized by `target`, for each ordered integer in `orders`
    of its source."""
    numbers = reals(builder, value, orders, node)
    if np.isnan(numbers).any():
        node.fail(f"the function before it is not a number for some codes of {value.source!r}; put "
                  "a Relu or Clip before the function, or choose scale and zero point so that "
                  "there are no such codes")
    if target.sign:
        return np.where((numbers > 0) | ((numbers == 0) & (not target.strict)), 1, -1)
    quotient = np.clip(numbers / np.float32(target.scale), -1e30, 1e30)
    if target.zero_point or target.odd:
        quotient = numerics.round_reals(quotient, target.odd) + target.zero_point
    return np.clip(numerics.ordered(target.format.encode(quotient), target.format),
                   target.low, target.high)


def function_of_codes(builder, value, node):
    """(least ordered integer, real numbers) that a Function stands for."""
    low, high = builder.limits[value.source]
    return low, reals(builder, value, np.arange(low, high + 1), node).astype(np.float64)


def lookup(builder, source, output, table, value, node):
    """A layer that copies codes and looks them up."""
    form = builder.tensors[source].format
    weight = builder.weight_format or form
    one = int(weight.image(weight.encode(1.0)))
    if one < 1:
        node.fail(f"needs weights of one, and there is none in {weight}; quantize the weights to "
                  "more bits")
    channels = builder.tensors[source].shape[0]
    low, high = builder.limits[source]
    codes = codes_of(weight, np.full((channels, 1, 1, 1), one), node)
    return Conv(builder.unique(value.nodes[-1] if value.nodes else output), source, output, codes,
                weight, groups=channels, multiplier=np.full(channels, 1 << 25),
                shift=np.full(channels, 25 + one.bit_length() - 1), low=low, high=high,
                table=table, nodes=list(value.nodes), **(value.pool.fields if value.pool else {}))


# Slopes.

def leaky(builder, node, value, slopes):
    """LeakyRelu and PRelu: `slopes` [channels] below zero."""
    if isinstance(value, HostInput):
        node.fail("reads an input of the network before it is quantized; put a quantizer before "
                  "it")
    if quantized_function(value) and (uniform(slopes) is not None
                                      or isinstance(value.linear, Function)):
        return None
    value = plain(builder, value, node)
    if is_sign(builder, value):
        value = _whole(builder, value, node)
        return replace(of_sign(value, lambda numbers: np.where(
            numbers < 0, numbers * slopes, numbers)), nodes=[*value.nodes, node.name])
    sums = isinstance(value.linear, Pair) and not value.linear.product
    if not sums and not isinstance(value.linear, Linear | None):
        node.fail(f"reads the sum {value.nodes[-1]!r} before it is quantized; put a quantizer "
                  "between them")
    if value.low is not None and value.low >= 0:
        return replace(value, nodes=[*value.nodes, node.name])
    if value.low is not None or value.high is not None or value.slope is not None:
        node.fail(f"reads the clipped result of {value.nodes[-1]!r}; put a quantizer between them")
    if value.pool and (slopes < 0).any():
        node.fail("has negative slopes after a MaxPool; put a quantizer between them")
    return replace(value, slope=slopes, nodes=[*value.nodes, node.name])


# The end.

def _monotone(table):
    return bool((np.diff(table) >= 0).all())


def fuse_tables(layers, outputs):
    """The layers, those that only look up codes in the layers that make the codes, where nothing
    else reads them."""
    layers = list(layers)
    for lookup in [layer for layer in layers if layer.table is not None]:
        if not _is_lookup(lookup):
            continue
        source = lookup.input
        makers = [layer for layer in layers if layer.output == source]
        readers = [layer for layer in layers if layer.input == source
                   or (layer.operand is not None and layer.operand.tensor == source)]
        if source in outputs or not makers or len(readers) > 1 or any(
                not _takes(layer, lookup, len(makers)) for layer in makers):
            continue
        place = next(n for n, layer in enumerate(layers) if layer is lookup)
        del layers[place]
        for n, layer in enumerate(layers):
            if any(layer is maker for maker in makers):
                layers[n] = _looking_up(layer, lookup)
    return layers


def _is_lookup(layer):
    """Whether a layer only looks up codes in a table, and perhaps pools them."""
    return (layer.operand is None and layer.channels is None and layer.step == (1, 1)
            and layer.weight.shape[1:] == (1, 1, 1) and layer.groups == len(layer.weight)
            and not any(layer.pads) and layer.first_channel == 0 and not layer.pool_sum
            and layer.stride == (1, 1) and layer.zero_point == 0
            and not layer.bias.any() and not layer.addend.any()
            and len(set(layer.weight.flat)) == 1 and (layer.multiplier == 1 << 25).all())


def _takes(maker, lookup, makers):
    limits = maker.operand or maker
    if maker.raw or maker.table is not None or limits.low < lookup.low or (
            limits.high > lookup.high):
        return False
    own, after = Pool.of(maker), Pool.of(lookup)
    if maker.operand is not None or maker.pool_sum:
        return after is None
    if own is None:
        return makers == 1 or after is None
    # Max pooling runs after the table lookup.
    return makers == 1 and _monotone(lookup.table) and (
        after is None or own.then(after) is not None)


def _looking_up(maker, lookup):
    limits = maker.operand or maker
    table = lookup.table[limits.low - lookup.low:limits.high - lookup.low + 1]
    own, after = Pool.of(maker), Pool.of(lookup)
    pool = own.then(after) if own and after else own or after
    return replace(maker, output=lookup.output, table=table, **(pool.fields if pool else {}),
                   nodes=list(dict.fromkeys([*maker.nodes, *lookup.nodes])))


def to_host(builder):
    """Move table lookups whose results only the host reads to the host."""
    read = {name for layer in builder.layers for name in (
        layer.input, *([layer.operand.tensor] if layer.operand else []))}
    for layer in [item for item in builder.layers if item.table is not None and _is_lookup(item)]:
        name, source = layer.output, layer.input
        decoders = [item for item in builder.decoders if item.tensor == name]
        if name in read or source in builder.inputs or Pool.of(layer) or sum(
                item.output == name for item in builder.layers) > 1 or any(
                item.scale is not None and len(set(item.scale)) + len(set(item.offset)) > 2
                for item in decoders):
            continue
        tensor = builder.tensors[name]
        codes = numerics.from_ordered(layer.table, tensor.format)[None, None, None]
        for decoder in decoders:
            one = replace(decoder, **{key: item if item is None else item[:1] for key, item in
                                      (("scale", decoder.scale), ("offset", decoder.offset))})
            decoder.function = layer.low, one.reals(codes, tensor).ravel()
            decoder.tensor, decoder.scale, decoder.offset = source, None, None
            decoder.low = decoder.high = None
        builder.layers = [item for item in builder.layers if item is not layer]
        builder.outputs = list(dict.fromkeys(
            source if item == name else item for item in builder.outputs))

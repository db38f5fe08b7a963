"""ONNX in: a quantized network becomes a `Graph` with exact integer semantics, or is refused.

`load` reads the file, checks it, resolves constants, and walks the nodes in order: each operator
is a function from symbolic values to symbolic values (`operators`, `dialects`), quantizers turn
values into layers (`builder`), and passes leave as few layers as they can (`passes`). Tensors go by
name, so one may feed several layers, and there may be several outputs.
"""

from difflib import get_close_matches
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from systolith.gen.importer.dialects.host import (
    NUMBERS,
    Host,
    HostResult,
    computable,
    ends_of,
    host_tensor,
)
from systolith.gen.kit.errors import MiddleError, UserError
from systolith.hw.formats import Int

from .builder import Builder
from .crop import is_input
from .dialects import qdq
from .file import STANDARD, array_of, check_finite, check_size, inferred_shapes, one_line, read
from .half import roundings
from .layout import as_pixels, laid_out, read_by_dense
from .nodes import nodes_of
from .origins import origins
from .passes import finished
from .rows import ROWS, Role, has
from .sizes import Part, with_known_sizes
from .target import Target
from .values import Constant, HostInput, Node, QuantizedConstant, Value
from .work import Work

__all__ = ["checked_nodes", "computed_from_constants", "host_input", "is_quantized", "load",
           "required_formats", "supported_operators"]

#: Quantizers, and what is taken apart into such.
_QUANTIZERS = {*qdq.EXPANDED, *(name for name in ROWS if has(name, Role.QUANTIZER))}
#: Of which a network is quantized that has them, if not statically.
_QUANTIZED = {*_QUANTIZERS, *qdq.DYNAMIC}
#: Where it matters that the model has rounded numbers to a short float.
_ROUNDED = Role.QUANTIZER | Role.LINEAR
#: What moves the elements of a constant and leaves their values alone.
_MOVES = Role.SAME | Role.VIEW | Role.TURN


#: What to do about operators that real exports have and that a chip of fixed scales has not.
_STATIC = ("its scale is computed from each input, and a chip's scales are fixed: give inputs that "
           "fix them, with systolith build MODEL.onnx --calibration x.npy, or quantize statically "
           "(onnxruntime.quantization.quantize_static)")
_SIZES = ("the sizes of what it reads must be known: give those of the inputs (--shape "
          "NAME=SIZE,SIZE,...), and quantize as QDQ: ONNX infers no sizes through QLinearAdd and "
          "the like")
_RECURRENT = ("recurrent layers are not supported: chips compute convolutional and dense layers, "
              "each image by itself")
_STATISTICS = ("normalization by the statistics of each image is not supported: train with "
               "BatchNormalization, whose numbers are fixed and become part of the layer before it")
_INSTEAD = {"Shape": _SIZES, "Size": _SIZES, "DynamicQuantizeLinear": _STATIC,
            "DynamicQuantizeMatMul": _STATIC,
            "GRU": _RECURRENT, "LSTM": _RECURRENT, "RNN": _RECURRENT,
            "GroupNormalization": _STATISTICS, "InstanceNormalization": _STATISTICS,
            "LayerNormalization": _STATISTICS, "RMSNormalization": _STATISTICS,
            "MeanVarianceNormalization": _STATISTICS,
            "QLinearConvTranspose": "the operator is not supported; quantize in the QDQ format"}


def supported_operators():
    """Names of the operators that the chip has."""
    return sorted({*ROWS, *qdq.EXPANDED, "Sum"} - {"BiasOfProduct"})


def required_formats(graph):
    """(formats of activations, formats of weights) that a graph uses, as sorted lists of names."""
    activations = {str(tensor.format) for tensor in graph.tensors.values() if tensor.format}
    return sorted(activations), sorted({str(layer.weight_format) for layer in graph.layers})


def load(model, refuse=None):
    """The `Graph` of an ONNX network.

    `model` is a path or an `onnx.ModelProto`. The network must be quantized: QuantizeLinear and
    DequantizeLinear as onnxruntime.quantization.quantize_static writes them (QDQ or QOperator),
    or QONNX's FloatQuant, Quant and BipolarQuant. Raises UserError, which names the node and what
    would be accepted, for everything else.

    With `refuse`, a function of a node (None: an output) and the UserError, what is wrong with a
    node is told to it; nodes that depend on it are told with None instead of an error, up to the
    next quantizer; and None is returned if there was any.
    """
    with np.errstate(all="ignore"):             # what is not finite is refused where it matters
        return _load(with_known_sizes(read(model)), refuse or _raise)


def _raise(node, error):
    raise error


def _load(model, refuse):
    graph, refusals = model.graph, []

    def refused(node, error):
        refusals.append(node)
        refuse(node, error)
    name = graph.name or "network"
    nodes = [part for node in nodes_of(graph) for part in qdq.expand(node)]
    _check_quantized(nodes)
    unknown = _unknown_operators(model, nodes)
    constants = _initializers(graph)
    inputs = [item for item in graph.input if item.name not in constants]
    nodes = _ordered(nodes, {*constants, *(item.name for item in inputs)}, graph)
    shapes = inferred_shapes(model)
    values = dict(constants)
    values |= {item.name: host_input(item) for item in inputs}
    host = Host(model, nodes)
    nodes = _fold(nodes, values, refused)
    builder = Builder(_widest_weights(nodes, values))
    builder.roundings, builder.dense = roundings(graph, nodes), read_by_dense(nodes)
    builder.batch = next((item.type.tensor_type.shape.dim[0].dim_value for item in inputs), 0)
    for node in nodes:
        inputs = [values[item] if item else None for item in node.inputs]
        if all(isinstance(item, (Constant, QuantizedConstant))
               for item in inputs if item is not None) and node.operator not in _QUANTIZERS:
            continue
        if has(node.operator, _ROUNDED) and isinstance(inputs[0], Value) and (
                node.inputs[0] in builder.roundings):
            builder.notes.add("short", "", detail=builder.roundings[node.inputs[0]][0])
        if not _assume(builder, node, inputs):
            refused(node, _own_error(host, node, unknown))
            values |= _unknown(node, shapes)
            continue
        try:
            value = _computed(builder, host, node, inputs, unknown)
            results = value if isinstance(value, list) else [value]
            for output, result in zip(node.outputs, results, strict=False):
                values[output] = result
                if isinstance(result, (Value, HostInput)):
                    _check_shape(node, output, result, shapes)
        except UserError as error:
            refused(node, error if refusals else _with_cuts(error, host, node, values))
            values |= _unknown(node, shapes)
    producers = {name: node for node in nodes for name in node.outputs}
    for item in graph.output:
        if not isinstance(values.get(item.name), (HostInput, HostResult, Value)) and (
                item.name not in producers):
            raise UserError(f"output {item.name!r} is not computed by the network from its inputs")
    if refusals:
        return None

    def give(value, name):
        builder.output(value, name, producers[name])
    try:
        head, tail = host.finish(builder, nodes, values, give)
    except UserError as error:
        refuse(None, error)
        return None
    built = finished(builder.graph(name, head, tail), builder.copies, builder.sums)
    built.notes = builder.notes.kept(built.layers)
    if not built.layers:
        _nothing_left(host, built)
    written = [item.name for item in graph.input]
    written += [name for node in graph.node for name in node.output]
    built.origins = origins(builder, {name: values[name] for name in written
                                      if isinstance(values.get(name), Value)}, built.tensors)
    return built


def _computed(builder, host, node, inputs, unknown):
    """The values of a node's outputs, computed on the chip or else on the host. Raises
    UserError."""
    prepared = host.prepare(node, inputs)
    if prepared is not None:
        return prepared
    try:
        found = host.take(builder, node, inputs)
        if found is not None:
            return found
        if node.name in unknown:
            raise unknown[node.name]
        found = _operator(node)(builder, node, laid_out(builder, node, inputs))
        if isinstance(found, Value) and node.outputs[0] in builder.dense and (
                len(found.shape) > 1 and is_input(builder, found)):
            found, *_ = as_pixels(builder, node, found)
    except UserError as error:
        found = host.instead(node, inputs, error)
        if found is None:
            raise
        return found
    if not isinstance(found, (Value, list)):
        host.passed(node, inputs)
    return found


def _own_error(host, node, unknown):
    """The node's own error, whatever it reads; None where that cannot be said."""
    if node.name not in unknown or (computable(node) and host.ends(node)):
        return None
    return unknown[node.name]


def _assume(builder, node, inputs):
    """Put values on the chip in the place of the `inputs` that refused nodes would have made, so
    that the node can be looked at; False where that cannot be."""
    for n, item in enumerate(inputs):
        if not isinstance(item, Unknown) or (
                n == 0 and item.shape is not None and node.operator in _QUANTIZERS):
            continue
        if item.shape is None or node.operator in _QUANTIZERS or (
                builder.weight_format is not None and builder.weight_format.binary):
            return False
        if item.name not in builder.assumed:
            builder.assumed[item.name] = _assumed(builder, node, item)
        inputs[n] = builder.assumed[item.name]
    return True


def _assumed(builder, node, item):
    """A quantized value like an Unknown one."""
    forms = [tensor.format for tensor in builder.tensors.values() if tensor.format]
    form = next((form for form in forms if not form.binary), Int(8))
    low, high = (int(form.ordered(form.encode(end))) for end in (-np.inf, np.inf))
    target = Target(form, 1 / 16, 0, low, high)
    source = builder.quantize(HostInput(item.name, item.shape, item.shape), target,
                              f"{item.name}_assumed", node)
    tensor = builder.tensors[source]
    ones = np.full(tensor.shape[0], target.unit, dtype=object)
    value = Value(source, item.shape, tensor.shape, ones, 0 * ones)
    if item.name in builder.dense and len(item.shape) > 1:
        value, *_ = as_pixels(builder, node, value)
    return value


def _with_cuts(error, host, node, values):
    """The error with the two parts of the network around a node, where there are such."""
    first, second = host.cuts(node, values)
    return _in_parts(error, host.work, first, _that_maps(host.model, second))


def _that_maps(model, second):
    """The tensors of `second` where the part of the network that begins with them is not refused;
    else those after the last node of that part that is refused in its middle, or none."""
    if not second:
        return []
    try:
        load(Part(inputs=tuple(second)).of(model))
    except MiddleError as error:
        return error.second
    except UserError:
        return []
    return second


def _in_parts(error, work, first, second):
    if first and not second and work.cost(work.needed(first)).quantized:
        return UserError(f"{error}; --outputs {','.join(first)} keeps the part before it")
    if not first or not second:
        return error
    after = f"--inputs {','.join(second)} keeps the part after it"
    if not work.cost(work.needed(first)).quantized:
        # No layer, and so no network of its own.
        return MiddleError(f"{error}; {after}", second)
    return MiddleError(f"{error}; it is in the middle of the network, which can be cut there: "
                       f"--outputs {','.join(first)} keeps the part before it, {after}", second)


def _nothing_left(host, graph):
    """Refuse a network of which the chip would compute nothing."""
    why = next(iter(host.why.values()), None)
    if why is None and not graph.outputs:
        why = "no output of the network depends on what is quantized"
    if why is not None:
        raise UserError(f"nothing is left for the chip: {why}")


def is_quantized(model):
    """Whether an `onnx.ModelProto` has quantizers."""
    return any(part.operator in _QUANTIZED for node in nodes_of(model.graph)
               for part in qdq.expand(node))


def checked_nodes(model, refuse=None):
    """(the nodes of a network that need not be quantized, each after those that it reads; tensors
    that only the host can compute, before the chip; the same after it).

    `model` is what `file.read` gave. Raises UserError as `load` does for operators and
    attributes that nobody here understands (told to `refuse`, as of `load`, if there is one),
    cycles, dangling edges and wrong shapes.
    """
    nodes = nodes_of(model.graph)
    unknown = _unknown_operators(model, nodes)
    constants = _initializers(model.graph)
    inputs = {item.name for item in model.graph.input if item.name not in constants}
    nodes = _ordered(nodes, {*constants, *inputs}, model.graph)
    work, first = Work(model, nodes, False), True
    before, after, middle = ends_of(work, set(unknown), inputs)
    for node in nodes:
        if node.name in middle:
            error = unknown[node.name]
            if first:
                rest = [item for item in work.dependents([node]) if item is not node]
                error = _in_parts(error, work, work.crossing([node]), work.crossing(rest))
            (refuse or _raise)(node, error)
            first = False
    inferred_shapes(model)
    return nodes, before, after


class Unknown(HostInput):
    """Placeholder for an output of a refused node; its shape may be None."""


def _unknown(node, shapes):
    """{output: Unknown} of a node."""
    result = {}
    for output in node.outputs:
        shape = shapes.get(output)
        known = shape is not None and None not in shape[1:] and len(shape) > 1
        sizes: Any = tuple(shape[1:]) if known else None
        result[output] = Unknown(output, sizes, sizes)
    return result


# Reading and checking the file.

def _operator(node):
    """The `Operator` of a node, or None."""
    found = ROWS.get(node.operator)
    return found if found is not None and node.domain in found.domains else None


def _check_quantized(nodes):
    if not any(node.operator in _QUANTIZED for node in nodes):
        raise UserError("this is a float network: give it calibration data (--calibration x.npy), "
                        "or quantize it first, with systolith quantize, onnxruntime.quantization."
                        "quantize_static (integers) or QONNX's FloatQuant, Quant and BipolarQuant")


def _unknown_operators(model, nodes):
    """{node: UserError} for operators and attributes that the chip does not have."""
    constant, unknown = computed_from_constants(model.graph, nodes), {}
    for node in nodes:
        try:
            _check_operator(node, bool(node.outputs) and node.outputs[0] in constant)
        except UserError as error:
            unknown[node.name] = error
    return unknown


def _check_operator(node, constant):
    known = _operator(node)
    if known is None:
        if constant and node.domain in STANDARD:
            return
        if node.operator in _INSTEAD:
            node.fail(_INSTEAD[node.operator])
        domain = f" of domain {node.domain!r}" if node.domain not in STANDARD else ""
        # Names of standard operators are right; others may be misspelled.
        names = [] if onnx.defs.has(node.operator, node.domain) else get_close_matches(
            node.operator, supported_operators(), 3, 0.6)
        like = f" (like it are {', '.join(names)})" if names else ""
        host = ", only on the host at a network's ends" if computable(node) else ""
        node.fail(f"the operator{domain} is not supported on the chip{host}; "
                  f"docs/reference/onnx.md lists those that are{like}")
    unknown = sorted(set(node.attributes) - known.attributes)
    if unknown and not constant:
        node.fail(f"attribute {unknown[0]} is not supported; supported are "
                  f"{', '.join(sorted(known.attributes)) or 'none'}")


def computed_from_constants(graph, nodes):
    """Names of all tensors that depend on initializers only."""
    known = {item.name for item in graph.initializer}
    known -= {item.name for item in graph.input} - known
    before = -1
    while len(known) != before:
        before = len(known)
        for node in nodes:
            if all(item in known for item in node.inputs if item) and (
                    node.inputs or node.operator == "Constant"):
                known.update(node.outputs)
    return known


def _initializers(graph):
    if graph.sparse_initializer:
        raise UserError("sparse initializers are not supported: store the weights as dense "
                        "tensors")
    constants = {}
    bounds = {item for node in graph.node if node.op_type == "Clip" for item in node.input[1:]}
    for tensor in graph.initializer:
        array = array_of(tensor, tensor.name)
        if tensor.name not in bounds:
            check_finite(tensor.name, array)
        constants[tensor.name] = Constant(tensor.name, array)
    return constants


def _ordered(nodes, known, graph):
    """The nodes, each after those that it reads. Refuses cycles and tensors without origin."""
    known, waiting, result = set(known), list(nodes), []
    written: dict[str, Node] = {}
    for node in nodes:
        for item in node.outputs:
            if item and (item in written or item in known):
                node.fail(f"writes {item!r}, which {written.get(item, 'an input')} gives already")
            written[item] = node
    for node in nodes:
        for item in node.inputs:
            if item and item not in written and item not in known:
                node.fail(f"reads {item!r}, which is no input, no initializer and no node's output")
    while waiting:
        ready = [node for node in waiting
                 if all(item in known for item in node.inputs if item)]
        if not ready:
            raise UserError("the network has a cycle, through the nodes "
                            f"{', '.join(repr(node.name) for node in waiting[:8])}; remove one of "
                            "the connections between them")
        result += ready
        known.update(item for node in ready for item in node.outputs)
        waiting = [node for node in waiting if node not in ready]
    for item in graph.output:
        if item.name not in known:
            raise UserError(f"output {item.name!r} is not computed by any node")
    return result


def _check_shape(node, name, value, shapes):
    """Refuse a model that states another shape than its value has."""
    expected = shapes.get(name)
    if expected is None:
        return
    shape = list(value.shape)
    if len(expected) != len(shape) + 1 or any(
            size not in (None, own) for size, own in zip(expected[1:], shape, strict=True)):
        node.fail(f"its result has the shape {['N', *shape]}, and the model says "
                  f"{['N' if size is None else size for size in expected]}")


def _element(number):
    """What ONNX calls an element type."""
    return next((name for name, own in TensorProto.DataType.items() if own == number), number)


def host_input(item):
    """The `HostInput` of a ValueInfoProto. Raises UserError for shapes and types that it cannot
    have."""
    kind = item.type.tensor_type
    sizes = [size.dim_value for size in kind.shape.dim]
    if not kind.HasField("shape") or len(sizes) < 2:
        raise UserError(f"input {item.name!r} must have a shape with a batch dimension first: "
                        "[N, ...]")
    if any(size < 1 for size in sizes[1:]):
        text = [size.dim_param or size.dim_value or "?" for size in kind.shape.dim]
        raise UserError(f"input {item.name!r} must have fixed sizes but for the batch, not {text}: "
                        f"give them (--shape {item.name}=SIZE,SIZE,...)")
    if kind.elem_type not in NUMBERS:
        raise UserError(f"input {item.name!r} must be numbers, not "
                        f"{_element(kind.elem_type)}")
    return host_tensor(item.name, kind.elem_type, sizes[1:])


# Constants.

def _fold(nodes, values, refuse):
    """Compute what depends on constants only into `values`; returns the other nodes."""
    rest = []
    for node in nodes:
        inputs = [values.get(item) for item in node.inputs if item]
        if not all(isinstance(item, (Constant, QuantizedConstant)) for item in inputs) or (
                not inputs and node.operator != "Constant"):
            rest.append(node)
            continue
        try:
            if node.operator in _QUANTIZERS:
                value = _operator(node)(None, node, [values[item] if item else None
                                                        for item in node.inputs])
                value.name = inputs[0].name
                values[node.outputs[0]] = value
            else:
                _evaluate(node, inputs, values)
        except UserError as error:
            refuse(node, error)
            values |= _unknown(node, {})
    return rest


def _evaluate(node, inputs, values):
    first = inputs[0] if inputs else None
    if isinstance(first, QuantizedConstant) and has(node.operator, _MOVES):
        rest = [item.array for item in inputs[1:]]
        values[node.outputs[0]] = QuantizedConstant(
            first.name, _reference(node, [first.images, *rest])[0],
            _reference(node, [np.ascontiguousarray(first.scale), *rest])[0], first.format,
            first.codes)
        return
    arrays = [item.array if isinstance(item, Constant) and item.array.dtype != object
              else item.floats for item in inputs]
    for name, array in zip(node.outputs, _reference(node, arrays), strict=False):
        if name:
            check_finite(name, array)
            values[name] = Constant(name, array)


def _reference(node, arrays):
    _check_effort(node, arrays)
    feeds = dict(zip((item for item in node.inputs if item), arrays, strict=True))
    try:
        return [np.asarray(item) for item in ReferenceEvaluator(node.proto).run(None, feeds)]
    except Exception as error:
        # The evaluator raises whatever its numpy code meets; the node and the reason are all that
        # a user can use.
        node.fail(f"its constant result cannot be computed: {one_line(error)}")


def _check_effort(node, arrays):
    """Refuse constants whose computation could take any time or memory: control flow, results of
    unbounded size."""
    if any(isinstance(item, onnx.GraphProto) for item in node.attributes.values()):
        node.fail("control flow is not supported: fold it, as onnxsim does")
    try:
        schema = onnx.defs.get_schema(node.operator, node.domain)
        names = [item for item in node.inputs if item]
        tensors = {name: onnx.numpy_helper.from_array(array) for name, array in
                   zip(names, arrays, strict=True) if array.size < 1000}
        types = {name: onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)}
        results = onnx.shape_inference.infer_node_outputs(schema, node.proto, types, tensors)
    except Exception:
        # The evaluator's own error is the better message.
        return
    for item in results.values():
        check_size(node.outputs[0], [size.dim_value for size in item.tensor_type.shape.dim])


def _widest_weights(nodes, values):
    """The format of the layers' weights, zero points left aside; the widest, should there be
    several."""
    formats = {values[item].codes or values[item].format
               for node in nodes for item in node.inputs[1:2]
               if has(node.operator, Role.LINEAR)
               and isinstance(values.get(item), QuantizedConstant)}
    known = sorted(formats, key=lambda item: (not item.binary, item.width))
    return known[-1] if known else None

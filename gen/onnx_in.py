"""ONNX in: a quantized network becomes a `Graph` with exact integer semantics, or is refused.

`load` reads the file, checks it, resolves constants, and walks the nodes in order: each operator
is a function from symbolic values to symbolic values (`onnx_ops`, `onnx_layers`, `onnx_qdq`,
`onnx_qonnx`), quantizers turn values into layers (`onnx_lower`). Tensors go by name, so one may
feed several layers, and there may be several outputs.
"""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..hw.formats import Bipolar
from . import onnx_ops, onnx_qdq, onnx_qonnx
from .errors import UserError
from .onnx_lower import Builder
from .onnx_values import Constant, HostInput, Node, QuantizedConstant, Value

__all__ = ["computed_from_constants", "load", "nodes_of", "required_formats",
           "supported_operators"]

_STANDARD = ("", "ai.onnx")
_MICROSOFT = "com.microsoft"
_QUANTIZERS = {*onnx_qdq.OPERATORS, *onnx_qdq.EXPANDED, *onnx_qonnx.OPERATORS}
#: What moves the elements of a constant and leaves their values alone.
_MOVES = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_OLDEST_OPSET = 11


def supported_operators():
    """Names of the operators that `load` accepts."""
    names = {*onnx_ops.OPERATORS, *_QUANTIZERS} - {"BiasOfProduct"}
    return sorted(names)


def required_formats(graph):
    """(formats of activations, formats of weights) that a graph uses, as sorted lists of names."""
    activations = {str(tensor.format) for tensor in graph.tensors.values() if tensor.format}
    return sorted(activations), sorted({str(layer.weight_format) for layer in graph.layers})


def load(model):
    """The `Graph` of an ONNX network.

    `model` is a path or an `onnx.ModelProto`. The network must be quantized: QuantizeLinear and
    DequantizeLinear as onnxruntime.quantization.quantize_static writes them (QDQ or QOperator),
    or QONNX's FloatQuant, Quant and BipolarQuant. Raises UserError, which names the node and what
    would be accepted, for everything else.
    """
    model = _read(model)
    graph = model.graph
    name = graph.name or "network"
    nodes = [part for node in nodes_of(graph) for part in onnx_qdq.expand(node)]
    _check_operators(model, nodes)
    constants = _initializers(graph)
    inputs = [item for item in graph.input if item.name not in constants]
    nodes = _ordered(nodes, {*constants, *(item.name for item in inputs)}, graph)
    shapes = _inferred_shapes(model)
    values = dict(constants)
    values |= {item.name: _input(item) for item in inputs}
    nodes = _fold(nodes, values)
    builder = Builder(_widest_weights(nodes, values))
    for node in nodes:
        if all(isinstance(values[item], (Constant, QuantizedConstant))
               for item in node.inputs if item) and node.operator not in _QUANTIZERS:
            continue
        value = _operator(node)[0](builder, node,
                                   [values[item] if item else None for item in node.inputs])
        results = value if isinstance(value, list) else [value]
        for output, result in zip(node.outputs, results, strict=False):
            values[output] = result
            _check_shape(node, output, result, shapes)
    producers = {name: node for node in nodes for name in node.outputs}
    for item in graph.output:
        value = values.get(item.name)
        if not isinstance(value, Value):
            raise UserError(f"output {item.name!r} is not computed by the network from its inputs")
        builder.output(value, item.name, producers[item.name])
    return builder.finish(name)


# Reading and checking the file.

def _read(model):
    if isinstance(model, onnx.ModelProto):
        path = None
    else:
        path = Path(model)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        model = onnx.ModelProto()
        try:
            model.ParseFromString(content)
        except DecodeError:
            raise UserError(f"{path} is no ONNX file, or it is truncated") from None
    where = "the model" if path is None else str(path)
    if not model.graph.node:
        raise UserError(f"{where} is no ONNX file, or it is truncated: it has no nodes")
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            _load_external(tensor, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    for opset in model.opset_import:
        if opset.domain in _STANDARD and opset.version < _OLDEST_OPSET:
            raise UserError(f"{where} uses opset {opset.version}, and must use {_OLDEST_OPSET} or "
                            "later: convert it with onnx.version_converter")
    return model


def _load_external(tensor, path):
    location = {item.key: item.value for item in tensor.external_data}.get("location", "?")
    folder = "." if path is None else str(path.parent)
    try:
        external_data_helper.load_external_data_for_tensor(tensor, folder)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(f"tensor {tensor.name!r} lies in the file {location!r} beside the model, "
                        f"which cannot be read: {error}") from None
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def nodes_of(graph):
    """The nodes of an `onnx.GraphProto`, each with a name of its own."""
    nodes, taken = [], set()
    for proto in graph.node:
        name = proto.name or (proto.output[0] if proto.output else proto.op_type)
        while name in taken:
            name += "_"
        taken.add(name)
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in proto.attribute}
        attributes = {key: value.decode(errors="replace") if isinstance(value, bytes) else value
                      for key, value in attributes.items()}
        nodes.append(Node(name, proto.op_type, proto.domain, list(proto.input),
                          list(proto.output), attributes, proto))
    return nodes


def _operator(node):
    """(function, attributes) of a node, or None."""
    if node.domain in onnx_qonnx.DOMAINS:
        return onnx_qonnx.OPERATORS.get(node.operator)
    if node.domain == _MICROSOFT:
        return onnx_qdq.OPERATORS.get(node.operator)
    if node.domain in _STANDARD:
        return onnx_qdq.OPERATORS.get(node.operator) or onnx_ops.OPERATORS.get(node.operator)
    return None


def _check_operators(model, nodes):
    """Refuse float networks, operators and attributes that nobody here understands."""
    constant = computed_from_constants(model.graph, nodes)
    for node in nodes:
        known = _operator(node)
        if known is None:
            if node.outputs and node.outputs[0] in constant and node.domain in _STANDARD:
                continue
            domain = f" of domain {node.domain!r}" if node.domain not in _STANDARD else ""
            node.fail(f"the operator{domain} is not supported; supported are "
                      f"{', '.join(supported_operators())}")
        unknown = sorted(set(node.attributes) - known[1])
        if unknown and node.outputs[0] not in constant:
            node.fail(f"attribute {unknown[0]} is not supported; supported are "
                      f"{', '.join(sorted(known[1])) or 'none'}")
    if not any(node.operator in _QUANTIZERS for node in nodes):
        raise UserError("this is a float network: quantize it first, with onnxruntime.quantization."
                        "quantize_static (integers) or QONNX's FloatQuant, Quant and BipolarQuant")


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


def _array(tensor, name):
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"tensor {name!r} is damaged: {error}") from None


def _initializers(graph):
    if graph.sparse_initializer:
        raise UserError("sparse initializers are not supported: store the weights as dense "
                        "tensors")
    constants = {}
    bounds = {item for node in graph.node if node.op_type == "Clip" for item in node.input[1:]}
    for tensor in graph.initializer:
        array = _array(tensor, tensor.name)
        if tensor.name not in bounds:
            _check_finite(tensor.name, array)
        constants[tensor.name] = Constant(tensor.name, array)
    return constants


def _check_finite(name, array):
    if array.dtype.kind not in "fV" or np.dtype(array.dtype).names:
        return
    wrong = ~np.isfinite(array.astype(np.float64))
    if wrong.any():
        index = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise UserError(f"tensor {name!r} must be finite, and is {array[index]} at index "
                        f"{list(index)}")


def _ordered(nodes, known, graph):
    """The nodes, each behind those that it reads. Refuses cycles and tensors without origin."""
    known, waiting, result = set(known), list(nodes), []
    written = {}
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
                            f"{', '.join(repr(node.name) for node in waiting[:8])}")
        result += ready
        known.update(item for node in ready for item in node.outputs)
        waiting = [node for node in waiting if node not in ready]
    for item in graph.output:
        if item.name not in known:
            raise UserError(f"output {item.name!r} is not computed by any node")
    return result


def _inferred_shapes(model):
    """{tensor: shape without the batch dimension}, as far as ONNX infers them; unknown sizes are
    None."""
    try:
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True,
                                                  data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise UserError(f"the model is not valid ONNX: {str(error).strip()}") from None
    shapes = {}
    for item in [*model.graph.value_info, *model.graph.output]:
        kind = item.type.tensor_type
        if kind.HasField("shape"):
            shapes[item.name] = [size.dim_value if size.HasField("dim_value") else None
                                 for size in kind.shape.dim]
    return shapes


def _check_shape(node, name, value, shapes):
    """Refuse a model whose own shapes are not what comes out here."""
    expected = shapes.get(name)
    if expected is None:
        return
    shape = list(value.shape)
    if len(expected) != len(shape) + 1 or any(
            size not in (None, own) for size, own in zip(expected[1:], shape, strict=True)):
        node.fail(f"its result has the shape {['N', *shape]}, and the model says "
                  f"{['N' if size is None else size for size in expected]}")


def _input(item):
    kind = item.type.tensor_type
    sizes = [size.dim_value for size in kind.shape.dim]
    if not kind.HasField("shape") or len(sizes) < 2:
        raise UserError(f"input {item.name!r} must have a shape with a batch dimension in front: "
                        "[N, ...]")
    if any(size < 1 for size in sizes[1:]):
        text = [size.dim_param or size.dim_value or "?" for size in kind.shape.dim]
        raise UserError(f"input {item.name!r} must have fixed sizes but for the batch, not {text}")
    bits, signed = onnx_qdq.INTEGER_TYPES.get(kind.elem_type, (0, True))
    if not bits and kind.elem_type != TensorProto.FLOAT:
        raise UserError(f"input {item.name!r} must be float32, or integers of up to 16 bits, not "
                        f"{TensorProto.DataType.Name(kind.elem_type)}")
    return HostInput(item.name, tuple(sizes[1:]), tuple(sizes[1:]), bits, signed)


# Constants.

def _fold(nodes, values):
    """Compute what depends on constants only into `values`; returns the other nodes."""
    rest = []
    for node in nodes:
        inputs = [values.get(item) for item in node.inputs if item]
        if not all(isinstance(item, (Constant, QuantizedConstant)) for item in inputs) or (
                not inputs and node.operator != "Constant"):
            rest.append(node)
        elif node.operator in _QUANTIZERS:
            value = _operator(node)[0](None, node, [values[item] if item else None
                                                    for item in node.inputs])
            value.name = inputs[0].name
            values[node.outputs[0]] = value
        else:
            _evaluate(node, inputs, values)
    return rest


def _evaluate(node, inputs, values):
    first = inputs[0] if inputs else None
    if isinstance(first, QuantizedConstant) and node.operator in _MOVES:
        rest = [item.array for item in inputs[1:]]
        values[node.outputs[0]] = QuantizedConstant(
            first.name, _reference(node, [first.images, *rest])[0],
            _reference(node, [np.ascontiguousarray(first.scale), *rest])[0], first.format)
        return
    arrays = [item.array if isinstance(item, Constant) and item.array.dtype != object
              else item.floats for item in inputs]
    for name, array in zip(node.outputs, _reference(node, arrays), strict=False):
        if name:
            _check_finite(name, array)
            values[name] = Constant(name, array)


def _reference(node, arrays):
    feeds = dict(zip((item for item in node.inputs if item), arrays, strict=True))
    try:
        return [np.asarray(item) for item in ReferenceEvaluator(node.proto).run(None, feeds)]
    except Exception as error:
        # The evaluator raises whatever its numpy code meets; the node and the reason are all that
        # a user can use.
        raise UserError(f"{node}: its constant result cannot be computed: {error}") from None


def _widest_weights(nodes, values):
    """The format of the layers' weights; the widest, should there be several."""
    formats = {values[item].format for node in nodes for item in node.inputs[1:2]
               if node.operator in ("Conv", "ConvTranspose", "Gemm", "MatMul")
               and isinstance(values.get(item), QuantizedConstant)}
    formats = sorted(formats, key=lambda item: (not isinstance(item, Bipolar), item.width))
    return formats[-1] if formats else None

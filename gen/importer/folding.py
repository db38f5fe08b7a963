"""Constants of a network: its initializers, and what it computes from them alone."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import onnx
from onnx import GraphProto
from onnx.reference import ReferenceEvaluator
from systolith.gen.kit.errors import UserError, one_line

from .file import array_of, check_finite, check_size
from .nodes import Node
from .rows import Role, has, row_of
from .values import AnyConstant, Constant, QuantizedConstant

__all__ = ["computed_from_constants", "folded", "initializers"]

#: Operators that move the elements of a constant and leave their values alone.
_MOVES = Role.SAME | Role.VIEW | Role.TURN
#: Constants with fewer elements may hold sizes, which shape inference is told.
_FEW = 1000


def initializers(graph: GraphProto) -> dict[str, Constant]:
    """{name: Constant} of a graph's initializers. Raises UserError for sparse ones, and for numbers
    that are not finite, except as the bounds of a Clip."""
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


def computed_from_constants(graph: GraphProto, nodes: Iterable[Node]) -> set[str]:
    """Names of all tensors that depend on initializers alone, these among them."""
    known = {item.name for item in graph.initializer}
    waiting, before = list(nodes), -1
    while len(known) != before:                 # nodes may stand before those that they read
        before = len(known)
        rest = []
        for node in waiting:
            if _reads_only(node, known):
                known.update(node.outputs)
            else:
                rest.append(node)
        waiting = rest
    return known


def _reads_only(node, known):
    """Whether all that a node reads is in `known`; False for nodes without inputs that are no
    constants, such as random numbers."""
    names = [name for name in node.inputs if name]
    return all(name in known for name in names) and (bool(names) or node.operator == "Constant")


def folded(nodes: list[Node], constants: dict[str, Constant],
           refuse: Callable[[Node, UserError], None]) -> tuple[
               list[Node], dict[str, AnyConstant]]:
    """(the nodes that do not depend on constants alone, {tensor: constant} of what the others
    compute). `nodes` stand each after those that it reads; `refuse` is called for a node whose
    constant cannot be computed."""
    known: dict[str, AnyConstant] = dict(constants)
    rest = []
    for node in nodes:
        if not _reads_only(node, known):
            rest.append(node)
            continue
        try:
            known |= _computed(node, [known[item] if item else None for item in node.inputs])
        except UserError as error:
            refuse(node, error)
    return rest, {name: item for name, item in known.items() if name not in constants}


def _computed(node, inputs):
    """{output: constant} of a node that reads constants (None: an input that is left out)."""
    given = [item for item in inputs if item is not None]
    first = given[0] if given else None
    if has(node.operator, Role.QUANTIZER):
        row = row_of(node)
        assert row is not None and first is not None
        return {node.outputs[0]: replace(row(None, node, inputs), name=first.name)}
    if isinstance(first, QuantizedConstant) and has(node.operator, _MOVES):
        rest = [item.array for item in given[1:]]
        return {node.outputs[0]: QuantizedConstant(
            first.name, _reference(node, [first.images, *rest])[0],
            _reference(node, [np.ascontiguousarray(first.scale), *rest])[0], first.format,
            first.codes)}
    arrays = [item.array if isinstance(item, Constant) and item.array.dtype != object
              else item.floats for item in given]
    found = {name: array for name, array in
             zip(node.outputs, _reference(node, arrays), strict=False) if name}
    for name, array in found.items():
        check_finite(name, array)
    return {name: Constant(name, array) for name, array in found.items()}


def _reference(node, arrays):
    """What ONNX's reference computes for a node from the arrays of its inputs."""
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
    if any(isinstance(item, GraphProto) for item in node.attributes.values()):
        node.fail("control flow is not supported: fold it, as onnxsim does")
    try:
        schema = onnx.defs.get_schema(node.operator, node.domain)
        names = [item for item in node.inputs if item]
        tensors = {name: onnx.numpy_helper.from_array(array) for name, array in
                   zip(names, arrays, strict=True) if array.size < _FEW}
        types = {name: onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)}
        results = onnx.shape_inference.infer_node_outputs(schema, node.proto, types, tensors)
    except Exception:
        # The evaluator's own error is the better message.
        return
    for item in results.values():
        check_size(node.outputs[0], [size.dim_value for size in item.tensor_type.shape.dim])

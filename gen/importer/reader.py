"""ONNX in: a quantized network becomes a `Graph` with exact integer semantics, or is refused.

`load` reads the file, checks it, computes its constants, and reads the nodes in order: each
operator is a function from symbolic values to symbolic values (`operators`, `dialects`), quantizers
turn values into layers (`builder`), and passes leave as few layers as they can (`passes`). Values
are found by the names of their tensors, so one may feed several layers, and there may be several
outputs.
"""

from pathlib import Path
from typing import Any, overload

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto
from systolith.gen.kit.errors import MiddleError, UserError
from systolith.hw.formats import Format, Int
from systolith.sim.model.graph import Graph

from .builder import Builder
from .checks import (
    Refuse,
    check_quantized,
    expanded,
    ordered,
    raise_error,
    unknown_operators,
)
from .crop import is_input
from .file import inferred_shapes, read
from .folding import folded, initializers
from .half import roundings
from .host.cuts import cuts, with_cuts
from .host.ends import NUMBERS, Given, Host, HostResult, computable, host_tensor
from .layout import as_pixels, laid_out, read_by_dense
from .nodes import Node
from .origins import origins
from .passes import finished
from .rows import Role, has, row_of
from .sizes import Part, with_known_sizes
from .target import Target
from .values import HostInput, Inputs, QuantizedConstant, Symbol, Value

__all__ = ["Reader", "host_input", "load", "required_formats"]

#: Operators for which it matters that the model rounds what they read to a short float.
_ROUNDED = Role.QUANTIZER | Role.LINEAR


def required_formats(graph: Graph) -> tuple[list[str], list[str]]:
    """(formats of activations, formats of weights) that a graph uses, as sorted lists of names."""
    activations = {str(tensor.format) for tensor in graph.tensors.values() if tensor.format}
    return sorted(activations), sorted({str(layer.weights.format) for layer in graph.layers})


@overload
def load(model: str | Path | ModelProto, *, offsets: bool = ...) -> Graph: ...


@overload
def load(model: str | Path | ModelProto, refuse: Refuse, *,
         offsets: bool = ...) -> Graph | None: ...


def load(model: str | Path | ModelProto, refuse: Refuse = raise_error, *,
         offsets: bool = False) -> Graph | None:
    """The `Graph` of an ONNX network.

    `model` is a path or an `onnx.ModelProto`. The network must be quantized: QuantizeLinear and
    DequantizeLinear as onnxruntime.quantization.quantize_static writes them (QDQ or QOperator),
    or QONNX's FloatQuant, Quant and BipolarQuant. Raises UserError, which names the node and what
    would be accepted, for everything else.

    `offsets`: for chips with `post.offsets`, which compute more functions in one layer.

    With `refuse`, a function of a node (None: an output) and the UserError about it, all nodes are
    read, `refuse` is called for each that cannot be (with None instead of an error for nodes that
    depend on a refused one, up to the next quantizer), and None is returned if there was any.
    """
    with np.errstate(all="ignore"):             # what is not finite is refused where it matters
        return Reader(with_known_sizes(read(model)), refuse, offsets).graph()


class Unknown(HostInput):
    """Placeholder for an output of a refused node; its `shape` is None where it is not known."""


class Reader:
    """Reads one network. Making a Reader checks the network and computes its constants; `graph`
    reads the nodes and the outputs.

    Parameters
    ----------
    model : onnx.ModelProto
        As of `sizes.with_known_sizes`.
    refuse : function of a Node (None: an output) and a UserError or None
    offsets : bool
        As of `load`.

    Attributes
    ----------
    nodes : list of Node
        Those that do not depend on constants alone, each after those that it reads.
    values : {tensor: value}
        Of all tensors that have been read.
    refusals : int
        How many nodes were refused.
    """

    def __init__(self, model: ModelProto, refuse: Refuse, offsets: bool = False):
        self.model, self._tell, self.refusals = model, refuse, 0
        graph = model.graph
        nodes = expanded(graph)
        check_quantized(nodes)
        self._unknown = unknown_operators(model, nodes)
        constants = initializers(graph)
        inputs = [item for item in graph.input if item.name not in constants]
        nodes = ordered(nodes, {*constants, *(item.name for item in inputs)}, graph)
        self._shapes = inferred_shapes(model)
        self.values: dict[str, Any] = {**constants, **{item.name: host_input(item)
                                                       for item in inputs}}
        self.host = Host(model, nodes)
        self.nodes, made = folded(nodes, constants,
                                  lambda node, error: self._refuse(node, error, {}))
        self.values |= made
        self._assumed: dict[str, Value] = {}    # of a refused node's output -> a value like it
        self._roundings = roundings(graph, self.nodes)
        self._dense = read_by_dense(self.nodes)
        batch = inputs[0].type.tensor_type.shape.dim[0].dim_value if inputs else 0
        self.builder = Builder(_widest_weights(self.nodes, self.values), self._roundings, batch,
                               offsets)

    def graph(self) -> Graph | None:
        """The network's Graph; None if a node or an output was refused."""
        for node in self.nodes:
            self._read(node)
        producers = {name for node in self.nodes for name in node.outputs}
        for item in self.model.graph.output:
            if not isinstance(self.values.get(item.name), (HostInput, HostResult, Value)) and (
                    item.name not in producers):
                raise UserError(f"output {item.name!r} is not computed by the network from its "
                                "inputs")
        if self.refusals:
            return None
        try:
            head, tail = self.host.finish(self.builder, self.nodes, self.values)
        except UserError as error:
            self._tell(None, error)
            return None
        name = self.model.graph.name or "network"
        graph = finished(self.builder.graph(name, head, tail), self.builder.copies,
                         self.builder.sums)
        graph.notes = self.builder.notes.kept(graph.layers)
        if not graph.layers:
            _nothing_left(self.host, graph)
        written = [item.name for item in self.model.graph.input]
        written += [name for node in self.model.graph.node for name in node.output]
        graph.origins = origins(self.builder, {
            name: self.values[name] for name in written
            if isinstance(self.values.get(name), Value)}, graph.tensors)
        return graph

    # One node.

    def _read(self, node):
        """Find the values of a node's outputs, or refuse the node."""
        inputs = [self.values[item] if item else None for item in node.inputs]
        if has(node.operator, _ROUNDED) and isinstance(inputs[0], Value) and (
                node.inputs[0] in self._roundings):
            self.builder.notes.add("short", "", detail=self._roundings[node.inputs[0]][0])
        known = self._without_unknown(node, inputs)
        if known is None:
            self._refuse(node, self._own_error(node), self._shapes)
            return
        try:
            found = self._computed(node, known)
            for output, result in zip(node.outputs, found if isinstance(found, list) else [found],
                                      strict=False):
                self.values[output] = result
                if isinstance(result, (Value, HostInput)):
                    _check_shape(node, output, result, self._shapes)
        except UserError as error:
            self._refuse(node, error if self.refusals else self._with_cuts(error, node),
                         self._shapes)

    def _computed(self, node: Node, inputs: Given) -> Any:
        """The values of a node's outputs, computed on the chip or else on the host. Raises
        UserError."""
        prepared = self.host.prepare(node, inputs)
        if prepared is not None:
            return prepared
        inputs = self.host.on_chip(node, inputs)
        try:
            found = self.host.take(self.builder, node, inputs)
            if found is not None:
                return found
            if node.name in self._unknown:
                raise self._unknown[node.name]
            value = self._on_chip(node, inputs)
        except UserError as error:
            instead = self.host.instead(node, inputs, error)
            if instead is None:
                raise
            return instead
        if not isinstance(value, (Value, list)):
            self.host.passed(node, inputs)
        return value

    def _on_chip(self, node, inputs):
        """The value or values that the operator gives. Raises UserError."""
        row = row_of(node)
        assert row is not None                  # else it is in `_unknown`
        found = row(self.builder, node, laid_out(self.builder, node, inputs))
        if isinstance(found, Value) and node.outputs[0] in self._dense and (
                len(found.shape) > 1 and is_input(self.builder, found)):
            found, *_ = as_pixels(self.builder, node, found)
        return found

    # Refused nodes.

    def _refuse(self, node, error, shapes):
        """Tell what is wrong with a node (None: it reads what a refused one gives), and put
        placeholders in the place of its outputs, of their `shapes`, {tensor: shape}."""
        self.refusals += 1
        self._tell(node, error)
        for output in node.outputs:
            shape = shapes.get(output)
            known = shape is not None and None not in shape[1:] and len(shape) > 1
            sizes: Any = tuple(shape[1:]) if known else None
            self.values[output] = Unknown(output, sizes, sizes)

    def _own_error(self, node):
        """What is wrong with a node whatever it reads; None where that cannot be said."""
        if node.name not in self._unknown or (computable(node) and self.host.ends(node)):
            return None
        return self._unknown[node.name]

    def _without_unknown(self, node: Node, inputs: Inputs) -> Inputs | None:
        """The inputs of a node, with values on the chip in place of the Unknown outputs of refused
        nodes, so that errors of the node's own are found; None where that cannot be."""
        quantizer = has(node.operator, Role.QUANTIZER)
        found: list[Symbol | None] = []
        for n, item in enumerate(inputs):
            if isinstance(item, Unknown) and not (
                    n == 0 and item.shape is not None and quantizer):
                if item.shape is None or quantizer or (
                        self.builder.weight_format is not None
                        and self.builder.weight_format.binary):
                    return None
                if item.name not in self._assumed:
                    self._assumed[item.name] = self._quantized_like(item, node)
                item = self._assumed[item.name]
            found.append(item)
        return found

    def _quantized_like(self, item, node):
        """A quantized value of the shape of an Unknown one."""
        forms = [tensor.format for tensor in self.builder.tensors.values() if tensor.format]
        form = next((form for form in forms if not form.binary), Int(8))
        low, high = (int(form.ordered(form.encode(end))) for end in (-np.inf, np.inf))
        target = Target(form, 1 / 16, 0, low, high)
        source = self.builder.quantize(HostInput(item.name, item.shape, item.shape), target,
                                       f"{item.name}_assumed", node)
        tensor = self.builder.tensors[source]
        ones = np.full(tensor.shape[0], target.unit, dtype=object)
        value = Value(source, item.shape, tensor.shape, ones, 0 * ones)
        if item.name in self._dense and len(item.shape) > 1:
            value, *_ = as_pixels(self.builder, node, value)
        return value

    def _with_cuts(self, error, node):
        """The error with the options that keep the two parts of the network around a node."""
        work = self.host.work
        first, second = cuts(work, node, self.values)
        return with_cuts(error, work, first, _that_maps(self.model, second))


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


def _nothing_left(host, graph):
    """Refuse a network of which the chip would compute nothing, except copies of its inputs."""
    why = next(iter(host.why.values()), None)
    if why is None and not graph.outputs:
        why = "no output of the network depends on what is quantized"
    if why is not None:
        raise UserError(f"nothing is left for the chip: {why}")


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
    """ONNX's name of an element type."""
    return next((name for name, own in TensorProto.DataType.items() if own == number), number)


def host_input(item: ValueInfoProto) -> HostInput:
    """The `HostInput` of an input of a model. Raises UserError for a shape without batch dimension
    or with open sizes after it, and for elements that are not numbers."""
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


def _widest_weights(nodes: list[Node], values: dict[str, Symbol]) -> Format | None:
    """The format of the layers' quantized weights, zero points left aside: the widest one where
    there are several; None where no layer has quantized weights."""
    formats = {value.codes or value.format for node in nodes for item in node.inputs[1:2]
               if has(node.operator, Role.LINEAR)
               and isinstance(value := values.get(item), QuantizedConstant)}
    known = sorted(formats, key=lambda item: (not item.binary, item.width))
    return known[-1] if known else None

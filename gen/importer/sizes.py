"""The sizes that a network leaves open, and the part of a network that is asked for.

Exporters leave sizes of inputs open and compute other sizes from them with Shape, Slice, Concat and
the like. Once the inputs have sizes, all of that is constant.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import overload

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from systolith.gen.kit.errors import UserError

from .checks import expanded
from .file import read
from .host.work import Work

__all__ = ["Part", "open_sizes", "parse_sizes", "with_known_sizes"]

_MEASURES = {"Shape", "Size"}
#: Operators with which exporters compute sizes; none gives many elements for few.
_ON_SIZES = {"Add", "Cast", "Ceil", "Concat", "Div", "Equal", "Floor", "Gather", "Identity", "Max",
             "Min", "Mod", "Mul", "Neg", "ReduceProd", "Reshape", "Slice", "Split", "Sqrt",
             "Squeeze", "Sub", "Unsqueeze", "Where"}
_MOST = 1024


def parse_sizes(text: str) -> tuple[str | None, tuple[int, ...]]:
    """(input or None, sizes) of a text such as x=1,3,96,96 or 1,3,96,96; the batch may be N. Raises
    ValueError."""
    name, _, sizes = text.rpartition("=")
    found = [1 if item.strip() == "N" and n == 0 else item.strip()
             for n, item in enumerate(sizes.split(","))]
    if not all(str(item).isascii() and str(item).isdigit() and len(str(item)) < 10
               and int(item) > 0 for item in found):
        raise ValueError(f"{text!r} must be [NAME=]SIZE,SIZE,... such as x=1,3,96,96, sizes from "
                         "1 up")
    return name or None, tuple(map(int, found))


def open_sizes(item: onnx.ValueInfoProto) -> bool:
    """Whether an input leaves sizes other than the batch open."""
    return any(size.dim_value < 1 for size in item.type.tensor_type.shape.dim[1:])


@dataclass(frozen=True)
class Part:
    """Which part of a model is wanted, with which sizes.

    Attributes
    ----------
    sizes : {input: its sizes, the batch of 1 first}
        None stands for the only input.
    outputs : sequence of str
        Tensors that become the network's outputs; none: the model's own.
    inputs : sequence of str
        Tensors that become inputs; nodes that only they needed are removed.
    """
    sizes: dict = field(default_factory=dict)
    outputs: tuple = ()
    inputs: tuple = ()

    @overload
    def of(self, model: onnx.ModelProto) -> onnx.ModelProto: ...

    @overload
    def of(self, model: str | Path | onnx.ModelProto) -> str | Path | onnx.ModelProto: ...

    def of(self, model: str | Path | onnx.ModelProto) -> str | Path | onnx.ModelProto:
        """The part of a model, as an `onnx.ModelProto`; `model` itself where all of it is wanted.
        Raises UserError for names that the model does not have and sizes that contradict it."""
        if not self.sizes and not self.outputs and not self.inputs:
            return model
        part = onnx.ModelProto.FromString(read(model).SerializeToString())
        inputs = _inputs(part.graph)
        for name, sizes in self.sizes.items():
            if name is None and len(inputs) != 1:
                raise UserError(f"the network has {len(inputs)} inputs, {', '.join(inputs)}: say "
                                "whose sizes these are, as NAME=SIZE,SIZE,...")
            _fix(inputs, name or next(iter(inputs), None), sizes)
        if self.sizes:
            del part.graph.value_info[:]
            for item in part.graph.output:
                item.type.tensor_type.ClearField("shape")
        part = with_known_sizes(part)
        if self.inputs:
            _begin(part, self.inputs)
        if self.outputs or self.inputs:
            _cut(part, self.outputs or [item.name for item in part.graph.output])
        kinds = {item.name: item for item in _inferred(part).graph.output}
        for item in part.graph.output:
            if item.name in kinds and kinds[item.name].type.tensor_type.HasField("shape"):
                item.CopyFrom(kinds[item.name])
        return part


def _inputs(graph):
    constants = {item.name for item in graph.initializer}
    return {item.name: item for item in graph.input if item.name not in constants}


def _like(name, names):
    close = get_close_matches(name, names, 3, 0.5)
    return f"; like it are {', '.join(close)}" if close else ""


def _fix(inputs, name, sizes):
    """Set the sizes of an input; the batch stays as it is."""
    if name not in inputs:
        raise UserError(f"the network has no input {name!r}; it has {', '.join(inputs) or 'none'}")
    shape = inputs[name].type.tensor_type.shape
    text = ", ".join(str(size.dim_param or size.dim_value or "?") for size in shape.dim)
    if inputs[name].type.tensor_type.HasField("shape") and (len(shape.dim) != len(sizes) or any(
            old.dim_value > 0 and old.dim_value != new
            for old, new in zip(shape.dim[1:], sizes[1:], strict=True))):
        raise UserError(f"input {name!r} has the shape ({text}), which cannot be "
                        f"{', '.join(map(str, sizes))}")
    if sizes[0] != 1:
        raise UserError(f"the first size of input {name!r} is the batch and must be 1 here, not "
                        f"{sizes[0]}; the option --batch of build says how many images a run has")
    if not shape.dim:
        shape.dim.add().dim_param = "N"
        for _ in sizes[1:]:
            shape.dim.add()
    for old, new in zip(shape.dim[1:], sizes[1:], strict=True):
        old.dim_value = new


def _begin(model, inputs):
    """Make tensors inputs of the network."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    work = Work(model, expanded(graph))
    for name in inputs:
        if name in _inputs(graph):
            continue
        if name not in makers:
            raise UserError(f"no node of the network gives a tensor {name!r}, which was asked for "
                            f"as an input{_like(name, makers)}")
        sizes = work.sizes(name)
        if not sizes:
            raise UserError(f"the sizes of {name!r}, which was asked for as an input, are not "
                            "known: give those of the network's inputs (--shape NAME=SIZE,...)")
        for n, item in enumerate(makers[name].output):
            if item == name:
                makers[name].output[n] = f"{name}/before"
        graph.input.append(helper.make_tensor_value_info(
            name, work.element_type(name), ["N" if sizes[0] == 1 else sizes[0], *sizes[1:]]))


def _cut(model, outputs):
    """Keep what these tensors need, and make them the outputs."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    for name in outputs:
        if name not in makers and name not in _inputs(graph):
            raise UserError(f"no node of the network gives a tensor {name!r}, which was asked for "
                            f"as an output{_like(name, makers)}")
    if len(set(outputs)) != len(outputs):
        raise UserError(f"an output is named twice in {', '.join(outputs)}; name each once")
    needed, waiting = set(), list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [item for item in makers[name].input if item] if name in makers else []
    kinds = {item.name: item for item in [*_inferred(model).graph.value_info, *graph.output]}
    nodes = [node for node in graph.node if needed & set(node.output)]
    results = [kinds.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
               for name in outputs]
    for items, kept in ((graph.node, nodes), (graph.output, results)):
        kept = [type(item).FromString(item.SerializeToString()) for item in kept]
        del items[:]
        items.extend(kept)
    for items in (graph.input, graph.initializer):
        kept = [item for item in items if item.name in needed]
        del items[:]
        items.extend(kept)
    kept = [item for item in graph.value_info if item.name in needed - set(outputs)]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _inferred(model):
    """The model with the shapes that ONNX infers; as it is where it is not valid."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        # It raises whatever its C++ code meets; who reads the model says it better.
        return model


def with_known_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with constants in place of what is computed from sizes, as far as these are known.
    An open batch counts as 1, and reshapes keep any batch."""
    if not any(node.op_type in _MEASURES for node in model.graph.node):
        return model
    model = onnx.ModelProto.FromString(model.SerializeToString())
    # Before version 4, initializers had to be inputs.
    model.ir_version = max(model.ir_version, 4)
    graph, computed = model.graph, dict[str, np.ndarray]()
    for item in _inputs(graph).values():
        # Some say that a size is open with -1, which inference takes for a number.
        for size in item.type.tensor_type.shape.dim:
            if size.dim_value < 0:
                size.ClearField("dim_value")
    known = {item.name: item for item in graph.initializer if np.prod(item.dims) <= _MOST}
    known |= {node.output[0]: node.attribute[0].t for node in graph.node
              if node.op_type == "Constant" and len(node.attribute) == 1 and node.output
              and node.attribute[0].HasField("t") and np.prod(node.attribute[0].t.dims) <= _MOST}
    before = -1
    while before != len(computed):
        before = len(computed)
        shapes = _shapes_of_one(model)
        for node in list(graph.node):
            results = _on_sizes(node, shapes, known, model.opset_import)
            if results is None:
                continue
            found = [numpy_helper.from_array(np.asarray(array), name) for name, array in
                     zip(node.output, results, strict=True) if name]
            if any(np.prod(item.dims) > _MOST for item in found):
                continue
            known |= {item.name: item for item in found}
            computed |= {item.name: item for item in found}
            graph.node.remove(node)
            graph.initializer.extend(found)
    _keep_batch(graph, computed, shapes)
    read = {name for node in graph.node for name in node.input} | {
        item.name for item in graph.output}
    kept = [item for item in graph.initializer if item.name in read or item.name not in computed]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def _shapes_of_one(model):
    """{tensor: sizes, None where they are open} for a batch of 1 where it is open."""
    one = onnx.ModelProto.FromString(model.SerializeToString())
    for item in _inputs(one.graph).values():
        if item.type.tensor_type.shape.dim and item.type.tensor_type.shape.dim[0].dim_value < 1:
            item.type.tensor_type.shape.dim[0].dim_value = 1
    graph = _inferred(one).graph
    shapes = {item.name: list(item.dims) for item in graph.initializer}
    for item in [*graph.input, *graph.value_info, *graph.output]:
        if item.type.tensor_type.HasField("shape"):
            shapes[item.name] = [size.dim_value if size.HasField("dim_value") else None
                                 for size in item.type.tensor_type.shape.dim]
    return shapes


def _on_sizes(node, shapes, known, opsets):
    """The results of a node that measures a tensor, or that computes with known constants; None for
    other nodes."""
    if node.op_type in _MEASURES:
        shape = shapes.get(node.input[0]) if node.input else None
        if shape is None or None in shape:
            return None
        if node.op_type == "Size":
            return [np.int64(np.prod(shape))]
        ends = {item.name: item.i for item in node.attribute}
        return [np.int64(shape[ends.get("start", 0):ends.get("end", len(shape))])]
    names = [item for item in node.input if item]
    if node.op_type not in _ON_SIZES or not all(item in known for item in names):
        return None
    try:
        feeds = {name: numpy_helper.to_array(known[name]) for name in names}
        graph = helper.make_graph(
            [node], "sizes", [helper.make_tensor_value_info(name, known[name].data_type, None)
                              for name in feeds],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name])
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, feeds)
    except Exception:
        # The evaluator raises whatever its numpy code meets; the importer names the node then.
        return None


def _keep_batch(graph, computed, shapes):
    """Let Reshapes whose sizes were computed with a batch of 1 accept any batch."""
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in computed:
            continue
        wanted = numpy_helper.to_array(computed[node.input[1]])
        copies = not any(item.name == "allowzero" and item.i for item in node.attribute)
        if copies and wanted.ndim == 1 and len(wanted) > 1 and wanted[0] == 1 and (
                (shapes.get(node.input[0]) or [0])[0] == 1):
            name = f"{node.output[0]}/any_batch"
            graph.initializer.append(numpy_helper.from_array(
                np.concatenate([[0], wanted[1:]]).astype(np.int64), name))
            node.input[1] = name

"""A part of a network as a model of its own, which the host runs for one image at a time."""

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from systolith.gen.importer.file import STANDARD
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.run import FOREIGN, Evaluator, have_runtime, session
from systolith.gen.importer.values import Constant, QuantizedConstant
from systolith.gen.kit.errors import UserError, one_line
from systolith.sim.model.host_work import HostWork
from systolith.sim.model.tail import HostPart

from .work import Work

__all__ = ["MICROSOFT", "host_part"]

#: The domain of ONNX Runtime's own operators.
MICROSOFT = "com.microsoft"


def host_part(work: Work, nodes: list[Node], values: dict, cuts: list[str], made: list[str],
              outputs: list[str], why: str) -> HostPart:
    """The `HostPart` of some of a network's nodes.

    Parameters
    ----------
    work : Work
        Of the whole network.
    nodes : list of Node
        Each after those that it reads.
    values : {tensor: value}
        Of the whole network; the part takes its constants from here.
    cuts : list of str
        Tensors that the part reads and the chip gives.
    made : list of str
        Tensors that the part computes.
    outputs : list of str
        Tensors that the part hands on: those of `made`, or of what it reads.
    why : str
        Why the chip does not compute these nodes, for the report.

    Raises UserError where ONNX Runtime alone has the operators and refuses the part.
    """
    read = {name for node in nodes for name in node.inputs if name}
    given = sorted(work.inputs & read)
    inputs = [(name, work.sizes(name)) for name in given] + [
        (name, [values[name].rows, *values[name].shape]) for name in cuts if name in read]
    stored = {item.name: item for item in work.model.graph.initializer}
    constants = [stored[name] if name in stored else _constant(name, values[name])
                 for name in sorted(read)
                 if isinstance(values.get(name), (Constant, QuantizedConstant))]
    graph = helper.make_graph(
        [_proto(node, work.model) for node in nodes], "host",
        [helper.make_tensor_value_info(name, work.element_type(name), sizes)
         for name, sizes in inputs],
        [helper.make_empty_tensor_value_info(name) for name in made], constants)
    model = helper.make_model(graph, opset_imports=work.model.opset_import,
                              ir_version=min(work.model.ir_version or 8, 10))
    cost, whole = work.cost(nodes), work.total
    facts = HostWork(
        nodes=len(nodes), operators=dict(Counter(node.operator for node in nodes)),
        reads=tuple(name for name, _ in inputs), gives=tuple(made), macs=cost.macs,
        share=cost.macs / whole.macs if whole.macs else 0.0, why=why)
    return HostPart(model, [node.name for node in nodes], _Run(model), list(outputs), given, facts)


def _proto(node: Node, model: ModelProto) -> NodeProto:
    """The node as ONNX has it, valid in the model's opset."""
    attributes = dict(node.attributes)
    version = max(item.version for item in model.opset_import if item.domain in STANDARD)
    if version < 13 and node.operator in ("DequantizeLinear", "QuantizeLinear"):
        attributes.pop("axis", None)
    return helper.make_node(node.operator, node.inputs, node.outputs, node.name,
                            domain=node.domain, **attributes)


def _constant(name: str, value: Constant | QuantizedConstant) -> TensorProto:
    array = value.floats if isinstance(value, QuantizedConstant) else value.array
    return numpy_helper.from_array(
        np.ascontiguousarray(array.astype(np.float32) if array.dtype == object else array), name)


class _Run:
    """Computes a part of a network for one image: by ONNX Runtime without its optimizations, so
    that results are what each operator says; where it does not know the part, or is not installed,
    node by node."""

    def __init__(self, model):
        self.model, self.session = model, None
        self.names = [item.name for item in model.graph.output]
        if have_runtime() and not any(node.op_type in FOREIGN for node in model.graph.node):
            try:
                self.session = session(model, optimized=False, threads=1)
            except Exception as error:
                # It raises classes of its own, with whatever its C++ code met.
                if any(node.domain == MICROSOFT for node in model.graph.node):
                    raise self._refused(error) from None

    def __deepcopy__(self, memo):
        return self

    def _refused(self, error):
        nodes = ", ".join(repr(node.name) for node in self.model.graph.node[:4])
        return UserError(f"the host cannot compute its part of the network (nodes {nodes}, ...): "
                         f"{one_line(error)}")

    def __call__(self, feeds):
        with np.errstate(all="ignore"):         # sigmoids of large numbers are 0 and 1
            if self.session is None:
                return Evaluator(list(self.model.opset_import)).walk(self.model, feeds, self.names)
            try:
                return dict(zip(self.names, self.session.run(self.names, feeds), strict=True))
            except Exception as error:
                raise self._refused(error) from None

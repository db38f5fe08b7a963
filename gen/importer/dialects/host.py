"""The network's ends on the host: what the chip cannot compute, and everything that depends on it,
after the chip; what only prepares inputs, before it.

Whatever node the chip refuses is left to the host, provided that little of the network's work
depends on it (see `Work.is_small`): a network whose middle the chip cannot compute is
refused. The host gets the latest tensors that the chip can give.
"""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.importer.codes import quantized_function
from systolith.gen.importer.crop import is_input
from systolith.gen.importer.file import QONNX, STANDARD, one_line
from systolith.gen.importer.half import HALF
from systolith.gen.importer.operators.smooth import applied
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.run import FOREIGN, Evaluator, have_runtime, session
from systolith.gen.importer.types import INTEGERS, element_format
from systolith.gen.importer.values import (
    Constant,
    HostInput,
    Linear,
    Node,
    QuantizedConstant,
    Value,
)
from systolith.gen.importer.work import Work, is_layer
from systolith.gen.kit.errors import UserError
from systolith.sim.model.tail import HostPart

__all__ = ["NUMBERS", "Host", "HostResult", "computable", "ends_of", "host_tensor"]

#: ONNX element types of real numbers that the encoders compute with as the model says.
_REAL = {TensorProto.FLOAT, *HALF}
#: Those that inputs may have.
NUMBERS = {*_REAL, *INTEGERS, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.INT32,
           TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}

#: What the chip does with a function of sums.
_ON_CHIP = {"IntQuant", "MaxPool", "Quant", "QuantizeLinear"}
#: What makes codes of the input's numbers, on the way into the chip.
_QUANTIZERS = Role.QUANTIZER | Role.COMPARE
#: Operators whose results are not the same each time, or whose scales the chip must know.
_NEVER = {"Bernoulli", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "Multinomial",
          "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
#: What moves elements, joins them and takes some: at the end, the host does that as it reads them.
_MOVES = Role.SAME | Role.VIEW | Role.MOVE | Role.REPEAT
_MICROSOFT = "com.microsoft"
#: QONNX's quantizers as `run` computes them: values of attributes, the default first.
_ROUND = {"rounding_mode": ("ROUND", "CEIL", "FLOOR", "HALF_EVEN")}
_OWN: dict[str, dict] = {
        "BipolarQuant": {}, "IntQuant": _ROUND, "Quant": _ROUND,
        "Trunc": {"rounding_mode": ("FLOOR", "ROUND", "CEIL", "HALF_EVEN")},
        "FloatQuant": {"rounding_mode": ("ROUND",), "has_inf": (0,), "has_nan": (0,),
                       "has_subnormal": (1,), "saturation": (1,)}}


@dataclass
class HostResult:
    """A tensor that the host computes; `reason` says why, in words about its reader. Should a
    quantizer follow, it is the chip's as `value`, if there is one."""
    name: str
    reason: str
    value: Value | None = None


def computable(node):
    """Whether the host can compute a node: it is one of ONNX's operators, of ONNX Runtime's own, or
    of QONNX's quantizers, and always gives the same."""
    if node.operator in _NEVER or any(isinstance(item, (onnx.GraphProto, list)) and (
            not isinstance(item, list) or any(isinstance(one, onnx.GraphProto) for one in item))
            for item in node.attributes.values()):
        return False
    if node.domain in QONNX:
        return node.operator in _OWN and all(
            node.attributes.get(key, item[0]) in item for key, item in _OWN[node.operator].items())
    if node.domain == _MICROSOFT:
        return have_runtime()
    return node.domain in STANDARD and onnx.defs.has(node.operator)


def ends_of(work, unknown, inputs):
    """What the host computes of a network, as far as operators say.

    Parameters
    ----------
    work : Work
    unknown : set of str
        Names of nodes whose operator or attributes the chip does not have.
    inputs : set of str
        Names of the network's inputs.

    Returns (tensors before the chip, tensors after it, names of nodes in the middle).
    """
    before, after, middle = set(inputs), set[str](), set[str]()
    for node in work.nodes:
        data = {name for name in node.inputs if name in work.makers or name in inputs}
        if data & after:
            after.update(node.outputs)
        elif node.name in unknown and data:
            if not computable(node):
                middle.add(node.name)
            elif data <= before and not is_layer(node):
                before.update(node.outputs)
            elif work.is_small(work.dependents([node])):
                after.update(node.outputs)
            else:
                middle.add(node.name)
    return before - set(inputs), after, middle


class Host:
    """Collects what the host computes while a network is read.

    Parameters
    ----------
    model : onnx.ModelProto
    nodes : list of Node
        Of the model, each after those that it reads, QLinear operators taken apart.
    """

    def __init__(self, model, nodes):
        self.model, self.work = model, Work(model, nodes)
        self.names = [item.name for item in model.graph.output]
        constants = {item.name for item in model.graph.initializer}
        self.inputs = {item.name for item in model.graph.input} - constants
        self.before = set(self.inputs)          # what depends on inputs only
        #: Of these, what holds no float32.
        self.exact = {item.name for item in model.graph.input if item.name in self.inputs
                      and item.type.tensor_type.elem_type not in _REAL}
        self.prepared, self.why, self.small = [], {}, {}

    # Before the chip.

    def prepare(self, node, inputs):
        """HostInputs for the outputs of a node that prepares inputs of integers or doubles, which
        have an arithmetic of their own; None for others."""
        if not self.exact & set(node.inputs) or has(node.operator, _QUANTIZERS) or (
                not self._prepares(node, inputs)):
            return None
        return self._prepared(node)

    def _prepares(self, node, inputs):
        """Whether the host can compute a node before the chip."""
        data = [name for name, item in zip(node.inputs, inputs, strict=True)
                if item is not None and not isinstance(item, (Constant, QuantizedConstant))]
        if not data or not set(data) <= self.before or not computable(node):
            return False
        return not is_layer(node) or self.work.is_small([*self.prepared, node])

    def _prepared(self, node):
        results = []
        for name in filter(None, node.outputs):
            sizes, kind = self.work.sizes(name), self.work.element_type(name)
            if sizes is None or sizes[:1] != [1]:
                node.fail(f"prepares an input, and the sizes of its result {name!r} are not known, "
                          "or it has no batch dimension as its first: give the sizes of the inputs "
                          "(--shape NAME=SIZE,SIZE,...)")
            results.append(host_tensor(name, kind, sizes[1:]))
            if kind not in _REAL:
                self.exact.add(name)
        self.before.update(node.outputs)
        self.prepared.append(node)
        return results

    def passed(self, node, inputs):
        """Record values that are not quantized yet."""
        if any(item is not None for item in inputs) and all(
                name in self.before for name, item in zip(node.inputs, inputs, strict=True)
                if item is not None and not isinstance(item, (Constant, QuantizedConstant))):
            self.before.update(node.outputs)

    # After it.

    def take(self, builder, node, inputs):
        """HostResults for the outputs of a node that the host computes; None where the chip does.
        `inputs` are replaced by what the chip's operator reads; `builder` has all tensors so
        far."""
        there = [item.value if isinstance(item, HostResult) else item for item in inputs]
        if node.operator in _ON_CHIP and isinstance(there[0], Value):
            inputs[:] = there
            return None
        reason = next((item.reason for item in inputs if isinstance(item, HostResult)), None)
        first = reason is None
        if first:
            reason = _reason(builder, node, inputs)
        if reason is None:
            return None
        value = None if any(isinstance(item, HostResult) and item.value is None
                            for item in inputs) else applied(node, there)
        if value is None and not (self.ends(node) and computable(node)):
            node.fail(reason)
        return self._results(node, reason, value)

    def instead(self, node, inputs, error):
        """HostResults for a node that the chip refuses; None where the host cannot compute it."""
        quantizer = node.operator in ("QuantizeLinear", "DequantizeLinear")
        if not computable(node) or node.domain in QONNX:
            return None
        prepares = self._prepares(node, inputs)
        if (prepares and quantizer) or (not prepares and not self.ends(node)):
            return None
        self.why.setdefault(node.name, str(error))
        if prepares:
            return self._prepared(node)
        return self._results(node, f"reads the result of {node.name!r} ({node.operator}), which "
                                   "the host computes after the chip")

    def ends(self, node):
        """Whether a node, with all that depends on it, is little enough for the host."""
        if id(node) not in self.small:
            self.small[id(node)] = self.work.is_small(self.work.dependents([node]))
        return self.small[id(node)]

    @staticmethod
    def _results(node, reason, value=None):
        return [HostResult(name, reason, value) for name in node.outputs]

    def cuts(self, node, values):
        """(tensors that the chip can give before a node, tensors with which the rest of the network
        begins after it); the second is empty where nothing is left for the chip after it."""
        dependents = {id(item) for item in self.work.dependents([node])}
        first, waiting, seen = [], list(node.inputs), set()
        while waiting:
            name = waiting.pop(0)
            if name in seen or name not in self.work.makers:
                continue
            seen.add(name)
            if _is_made(values.get(name)):
                first.append(name)
            elif isinstance(values.get(name), (Value, HostResult)):
                waiting += self.work.makers[name].inputs
        starts = [item for item in self.work.nodes if id(item) in dependents
                  and has(item.operator, _QUANTIZERS) and item.inputs[0] in self.work.makers
                  and not has(self.work.makers[item.inputs[0]].operator, _QUANTIZERS)
                  and not any(id(self.work.makers.get(other)) in dependents
                              for other in item.inputs[1:])]
        found = self._first_of(starts)
        rest = self.work.dependents(found)
        if not first or not self.work.cost(rest).quantized:
            others = self.work.crossing(self.work.dependents([node])) if first else []
            first += [name for name in others
                      if _is_made(values.get(name)) and name not in first]
            return first, []
        second = self.work.crossing(rest)
        first += [name for name in second if _is_made(values.get(name)) and name not in first]
        return first, list(dict.fromkeys(map(self._before_quantizer, second)))

    def _before_quantizer(self, name):
        """The real numbers that become the codes of a tensor, so that a part of the network that
        begins with them has the quantizer; `name` itself where no quantizer makes it."""
        maker = self.work.makers.get(name)
        if maker is not None and maker.operator == "DequantizeLinear":
            maker = self.work.makers.get(maker.inputs[0])
        if maker is None or not has(maker.operator, _QUANTIZERS) or (
                maker.operator == "DequantizeLinear" or maker.inputs[0] in self.work.constants):
            return name
        return maker.inputs[0]

    def _first_of(self, nodes):
        """The nodes among `nodes` that depend on no others of them."""
        found: list[Node] = []
        for node in nodes:
            if not any(node is item for other in found
                       for item in self.work.dependents([other])):
                found.append(node)
        return found

    # The parts.

    def finish(self, builder, nodes, values, give):
        """(head, tail), a HostPart or None each. `nodes` in order; `give(value, name)` makes a
        tensor an output of the chip or raises UserError."""
        makers = {name: node for node in nodes for name in node.outputs if name}
        kept, cuts, first = set(), [], None
        waiting, seen = deque(self.names), set()
        # An output that is an input as it stands is the host's, if anything else is the chip's.
        alone = all(isinstance(item, Value) and is_input(builder, item)
                    for item in map(values.get, self.names))
        while waiting:
            name = waiting.popleft()
            value = values.get(name)
            if not name or name in seen or isinstance(value, (Constant, QuantizedConstant)):
                continue
            seen.add(name)
            if isinstance(value, Value) and (alone or not is_input(builder, value)) and not (
                    has(makers[name].operator, _MOVES) and _is_moved(value)):
                try:
                    give(value, name)
                    cuts.append(name)
                    continue
                except UserError as error:
                    if not computable(makers[name]):
                        raise
                    self.why.setdefault(makers[name].name, str(error))
                    first = first or error
            if name not in self.inputs:
                kept.add(id(makers[name]))
                waiting.extend(makers[name].inputs)
        after = [node for node in nodes if id(node) in kept]
        if after and not self.work.is_small(after) and first is not None:
            raise first
        needed, before = {item.name for item in builder.encoders}, list[Node]()
        wanted = sorted(needed - self.inputs)
        for node in reversed(nodes):
            if needed & set(node.outputs):
                before.insert(0, node)
                needed.update(node.inputs)
        return (self._part(before, [], wanted, values, wanted) if before else None,
                self._part(after, cuts, [name for name in self.names if name not in cuts], values,
                           self.names) if after else None)

    def _part(self, nodes, cuts, made, values, outputs):
        """A HostPart of some nodes that reads the tensors `cuts` and makes `made`."""
        read = {name for node in nodes for name in node.inputs if name}
        given = sorted(self.inputs & read)
        inputs = [(name, self.work.sizes(name)) for name in given] + [
            (name, [values[name].rows, *values[name].shape]) for name in cuts if name in read]
        constants = [self._constant(name, values[name]) for name in sorted(read) if isinstance(
            values.get(name), (Constant, QuantizedConstant))]
        graph = helper.make_graph(
            [self._proto(node, values) for node in nodes], "host",
            [helper.make_tensor_value_info(name, self.work.element_type(name), sizes)
             for name, sizes in inputs],
            [helper.make_empty_tensor_value_info(name) for name in made], constants)
        model = helper.make_model(graph, opset_imports=self.model.opset_import,
                                  ir_version=min(self.model.ir_version or 8, 10))
        cost, whole = self.work.cost(nodes), self.work.total
        work = {"nodes": len(nodes), "operators": dict(Counter(node.operator for node in nodes)),
                "reads": [name for name, _ in inputs], "gives": list(made), "macs": cost.macs,
                "share": cost.macs / whole.macs if whole.macs else 0.0,
                "why": next((self.why[node.name] for node in nodes if node.name in self.why), "")}
        return HostPart(model, [node.name for node in nodes], _Run(model), list(outputs), given,
                        work)

    def _proto(self, node, values):
        """The node as a NodeProto."""
        attributes = dict(node.attributes)
        version = max(item.version for item in self.model.opset_import if item.domain in STANDARD)
        if version < 13 and node.operator in ("DequantizeLinear", "QuantizeLinear"):
            attributes.pop("axis", None)
        return helper.make_node(node.operator, node.inputs, node.outputs, node.name,
                                domain=node.domain, **attributes)

    def _constant(self, name, value):
        for item in self.model.graph.initializer:
            if item.name == name:
                return item
        array = value.floats if isinstance(value, QuantizedConstant) else value.array
        return numpy_helper.from_array(
            np.ascontiguousarray(array.astype(np.float32) if array.dtype == object else array),
            name)


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
                if any(node.domain == _MICROSOFT for node in model.graph.node):
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


def _is_moved(value):
    """Whether all that was done to tensors since their quantizers was to join them or to take parts
    of them: the host does that as it reads them."""
    return value.linear is None and not value.pool and bool(
        value.parts or value.channels is not None or any(value.pads))


def _is_made(value):
    """Whether a value is what a quantizer or a layer made, in any order: the chip can give it."""
    return (isinstance(value, Value) and (value.linear is None or isinstance(value.linear, Linear))
            and not value.parts and not value.pool and value.window == (1, 1)
            and value.channels is None)


def _reason(builder, node, inputs):
    """Why the host must compute a node unless a quantizer follows, or None."""
    values = [item for item in inputs if isinstance(item, (Value, HostInput))]
    first = values[0] if values else None
    linear = [item.linear for item in values if isinstance(item, Value)]
    square = (node.operator == "Mul" and len(linear) == 2 and isinstance(linear[0], Linear)
              and linear[0] is linear[1])
    if node.operator == "Sign" and linear and isinstance(linear[0], Linear):
        return None
    if isinstance(first, Value) and (square or (
            has(node.operator, Role.FUNCTION) and not quantized_function(first))):
        return (f"reads the result of {node.name!r} ({node.operator}), a function of what "
                f"{first.nodes[-1]!r} gives; put a quantizer before {node.name!r}, so "
                "that it is a function of codes, or leave it to the network's end")
    return None


def host_tensor(name, element, sizes):
    """The HostInput of a tensor of this ONNX element type, `sizes` without the batch."""
    form = element_format(element) if element in INTEGERS else None
    bits, signed = (form.width, form.signed) if form else (0, True)
    half = HALF.get(element, "")
    return HostInput(name, tuple(sizes), tuple(sizes), bits, signed,
                     [("round", half)] if half else [], half)

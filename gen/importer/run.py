"""Running ONNX networks node by node in float32, for calibration and for comparisons.

Standard nodes run in ONNX Runtime where it is installed, else in ONNX's reference evaluator, which
is much slower; QONNX's quantizers are computed here, by the number formats.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Float, Format, parse

__all__ = ["FOREIGN", "Evaluator", "Runner", "have_runtime", "quantize_as", "run_model"]

_ROUNDINGS = {"CEIL": np.ceil, "FLOOR": np.floor, "ROUND": np.rint, "HALF_EVEN": np.rint}


def have_runtime() -> bool:
    """Whether ONNX Runtime is installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def session(model: onnx.ModelProto, optimized: bool = True, threads: int = 0) -> Any:
    """An ONNX Runtime session (InferenceSession) for a model all of whose operators it knows;
    `threads` 0: as many as there are processors. Raises what ONNX Runtime raises."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"])


def quantize_as(form: Format, values: npt.ArrayLike, scale: npt.ArrayLike, zero: float = 0,
                low: float | None = None, high: float | None = None) -> np.ndarray:
    """The numbers (float32) nearest to `values` that the format has with this scale.

    `scale` broadcasts; `zero`, `low` and `high` are codes of a `uniform` format (None: its own
    limits). Divides in float32, as ONNX does.
    """
    values, scale = np.asarray(values, np.float32), np.asarray(scale, np.float32)
    if form.binary and form.width == 1:
        return np.where(values >= 0, scale, -scale)
    quotient = values / scale
    if form.binary:
        numbers = np.clip(2 * np.floor(quotient / 2) + 1, *form.image_range)
        return (numbers * scale).astype(np.float32)
    if form.uniform:
        least, most = form.image_range
        low, high = least if low is None else low, most if high is None else high
        codes = np.clip(np.rint(quotient) + np.float32(zero), low, high)
        return ((codes - np.float32(zero)) * scale).astype(np.float32)
    return (form.decode(form.encode(quotient)) * scale).astype(np.float32)


def _number(array):
    return float(np.reshape(array, -1)[0])


def _float_quant(values, scale, exponent, mantissa, bias, largest=None, **attributes):
    form = Float(int(_number(exponent)), int(_number(mantissa)), int(_number(bias)))
    top = form.value_range[1]
    top = top if largest is None else min(top, _number(largest))
    limit = np.float32(top) * np.asarray(scale, np.float32)
    return np.clip(quantize_as(form, values, scale), -limit, limit)


def _quant(values, scale, zero, bits, signed=1, narrow=0, rounding_mode="ROUND"):
    zero, bits, scale = (np.asarray(item, np.float32) for item in (zero, bits, scale))
    if (bits == 1).all() and signed:
        return quantize_as(Bipolar(1), values, scale)
    low = narrow - 2.0 ** (bits - 1) if signed else 0
    high = 2.0 ** (bits - 1) - 1 if signed else 2.0 ** bits - 1 - narrow
    codes = _ROUNDINGS[rounding_mode.upper()](
        np.clip(values / scale + zero, low, high))
    return ((codes - zero) * scale).astype(np.float32)


def _trunc(values, scale, zero, bits, *result, rounding_mode="FLOOR", signed=1, narrow=0):
    """`result`: the output's bits (version 1), or its scale and bits (version 2)."""
    rounded, after = _ROUNDINGS[rounding_mode.upper()], _number(result[-1])
    whole = np.rint(values / scale + zero)
    if len(result) == 1:
        codes = rounded(whole / 2.0 ** (_number(bits) - after)) - zero
        return (codes * scale).astype(np.float32)
    shift = 2.0 ** np.rint(np.log2(result[0] / scale))
    low = narrow - 2.0 ** (after - 1) if signed else 0
    high = 2.0 ** (after - 1) - 1 if signed else 2.0 ** after - 1 - narrow
    codes = rounded(np.clip(whole / shift, low, high)) - zero / shift
    return (codes * result[0]).astype(np.float32)


def _multi_threshold(values, thresholds, out_scale=1.0, out_bias=0.0, **attributes):
    levels = thresholds.reshape(len(thresholds), -1, *[1] * (values.ndim - 2))
    count = sum((values >= levels[:, n]).astype(np.float32) for n in range(levels.shape[1]))
    return np.float32(out_scale) * count + np.float32(out_bias)


#: Quantizers of QONNX and of this project -> function of arrays and attributes.
_OWN: dict[str, Callable] = {
    "BipolarQuant": lambda values, scale: quantize_as(Bipolar(1), values, scale),
    "FloatQuant": _float_quant,
    "FormatQuant": lambda values, scale, format: quantize_as(parse(format), values, scale),
    "IntQuant": _quant,
    "MultiThreshold": _multi_threshold,
    "Quant": _quant,
    "Trunc": _trunc,
}
#: Operators that no runtime knows.
FOREIGN = frozenset(_OWN)


def _node_model(node, kinds, opsets):
    """A model of one node, whose inputs are of these types and ranks."""
    shapes: list[list] = [[None] * rank for _, rank in kinds]
    if node.op_type == "Resize":
        # ONNX Runtime wants to know how many scales or sizes there are.
        axes = [item.ints for item in node.attribute if item.name == "axes"]
        shapes[-1] = [len(axes[0]) if axes else kinds[0][1]]
    inputs = [helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
        for name, (kind, _), shape in zip(filter(None, node.input), kinds, shapes, strict=True)]
    graph = helper.make_graph([node], "node", inputs, [
        helper.make_empty_tensor_value_info(name) for name in node.output if name])
    return helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid(*item) for item in opsets])


@lru_cache(256)
def _node_session(node, kinds, opsets):
    """A session for a serialized node. It has no threads of its own: there are many of them."""
    model = _node_model(onnx.NodeProto.FromString(node), kinds, opsets)
    return session(model, optimized=False, threads=1)


@dataclass
class Evaluator:
    """Runs single nodes of a network.

    Attributes
    ----------
    opsets : list of OperatorSetIdProto
        Of the model that the nodes are from.
    """
    opsets: list

    def run(self, node: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """The outputs of a node for its inputs (None: one that is left out). Raises UserError where
        the node cannot be computed."""
        if node.op_type in FOREIGN:
            attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            attributes = {key: item.decode() if isinstance(item, bytes) else item
                          for key, item in attributes.items()}
            return [_OWN[node.op_type](*inputs, **attributes)]
        feeds = [np.asarray(item) for name, item in zip(node.input, inputs, strict=False) if name]
        if node.op_type == "Resize" and len(node.input) > 3 and len(feeds[-1]) == feeds[0].ndim:
            # The model's sizes are those of its own batch.
            feeds[-1] = np.concatenate([feeds[0].shape[:1], feeds[-1][1:]])
        try:
            return self._run(node, feeds)
        except Exception as error:
            # Both evaluators raise whatever they meet; node and reason are all that is useful.
            reason = str(error).strip().splitlines()
            raise UserError(f"node {node.name!r} ({node.op_type}) cannot be computed for inputs of "
                            f"the shapes {[list(item.shape) for item in feeds]}: "
                            f"{reason[-1] if reason else type(error).__name__}") from None

    def _run(self, node, feeds):
        names = iter(range(len(feeds)))
        inputs = [f"in{next(names)}" if name else "" for name in node.input]
        same = onnx.NodeProto.FromString(node.SerializeToString())
        same.name, same.input[:] = "", inputs
        same.output[:] = [f"out{n}" if name else "" for n, name in enumerate(node.output)]
        kinds = tuple((item.dtype.str, item.ndim) for item in feeds)
        opsets = tuple((item.domain, item.version) for item in self.opsets)
        feeds = dict(zip(filter(None, inputs), feeds, strict=True))
        if node.op_type == "Constant" or not have_runtime():
            # The reference has quantizers of the later opsets only; they mean the same.
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                opsets = (("", 21),)
            return ReferenceEvaluator(_node_model(same, kinds, opsets)).run(None, feeds)
        return _node_session(same.SerializeToString(), kinds, opsets).run(None, feeds)

    def walk(self, model: onnx.ModelProto, feeds: dict[str, np.ndarray],
             wanted: Iterable[str]) -> dict[str, np.ndarray]:
        """{name: array} of the tensors `wanted` of a whole model, computed node by node from its
        inputs `feeds`. Raises UserError."""
        graph, wanted = model.graph, set(wanted)
        values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        values |= feeds
        last = {}
        for number, node in enumerate(graph.node):
            last.update(dict.fromkeys(node.input, number))
        found = {name: values[name] for name in wanted & set(values)}
        for number, node in enumerate(graph.node):
            inputs = [values[name] if name else None for name in node.input]
            names = [name for name in node.output if name]
            for name, array in zip(names, self.run(node, inputs), strict=True):
                values[name] = array
                if name in wanted:
                    found[name] = array
            for name in [*node.input, *names]:
                if last.get(name, -1) <= number:
                    values.pop(name, None)
        return found


class Runner:
    """Runs a whole model for some of its tensors: in ONNX Runtime with its optimizations, as users
    run it, where it knows all operators; else node by node.

    Parameters
    ----------
    model : onnx.ModelProto
    wanted : names of tensors

    Attributes
    ----------
    by : str
        What computes the model, for messages.
    """

    def __init__(self, model: onnx.ModelProto, wanted: Iterable[str]):
        self.model, self.wanted, self.session = model, list(wanted), None
        self.evaluator = Evaluator(list(model.opset_import))
        inputs = {item.name for item in model.graph.input}
        self.given = [name for name in self.wanted if name in inputs]
        self.names = [name for name in self.wanted if name not in inputs]
        if not have_runtime():
            self.by = "ONNX's reference evaluator"
        elif any(node.op_type in FOREIGN for node in model.graph.node):
            self.by = "ONNX Runtime and QONNX's definitions, node by node"
        else:
            self.by = "ONNX Runtime"
            copy = onnx.ModelProto.FromString(model.SerializeToString())
            have = {item.name for item in copy.graph.output}
            copy.graph.output.extend(helper.make_empty_tensor_value_info(name)
                                     for name in self.names if name not in have)
            try:
                self.session = session(copy)
            except Exception:
                # Its optimizer makes nodes of types that it does not know, MaxPool of int4.
                self.session = self._unoptimized(copy)

    def _unoptimized(self, model):
        try:
            return session(model, optimized=False)
        except Exception as error:
            raise _refused(error) from None

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{name: array} of the wanted tensors for one batch of inputs `feeds`. Raises UserError."""
        if self.session is None:
            return self.evaluator.walk(self.model, feeds, self.wanted)
        try:
            found = self.session.run(self.names, feeds)
        except Exception as error:
            raise _refused(error) from None
        return {name: feeds[name] for name in self.given} | dict(
            zip(self.names, found, strict=True))


def _refused(error):
    """A UserError from an error of ONNX Runtime, of any class."""
    return UserError("ONNX Runtime does not run the model: "
                     f"{str(error).strip().splitlines()[-1]}")


def run_model(model: onnx.ModelProto, feeds: dict[str, np.ndarray],
              wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """{name: array} of the tensors `wanted` for one batch of inputs `feeds`, as of `Runner`. Raises
    UserError."""
    return Runner(model, wanted).run(feeds)

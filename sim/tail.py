"""What the host computes behind the chip: the last nodes of an ONNX network, on real numbers."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

__all__ = ["Tail"]


class LogSoftmax(OpRun):
    """ONNX's reference takes the logarithm of what has become 0."""

    def _run(self, x, axis=-1):
        x = x - x.max(axis=axis, keepdims=True)
        return (x - np.log(np.exp(x).sum(axis=axis, keepdims=True)),)


def _along(array, axis, x):
    """A scale or zero point such that it broadcasts along an axis of x."""
    array = np.asarray(array)
    return array.reshape([-1 if n == axis % x.ndim else 1 for n in range(x.ndim)]
                         if array.size > 1 else [])


class DequantizeLinear(OpRun):
    """ONNX's reference has those of opset 19 and later."""

    def _run(self, x, scale, zero=0, axis=1, **_):
        x = np.asarray(x)
        codes = x.astype(np.int64) - _along(zero, axis, x).astype(np.int64)
        return (codes.astype(np.float32) * _along(scale, axis, x),)


class QuantizeLinear(OpRun):
    """ONNX's reference has those of opset 19 and later."""

    def _run(self, x, scale, zero=None, axis=1, **_):
        zero = np.uint8(0) if zero is None else np.asarray(zero)
        codes = np.rint(x / _along(scale, axis, x)).astype(np.float64) + _along(zero, axis, x)
        limits = np.iinfo(zero.dtype)
        return (np.clip(codes, limits.min, limits.max).astype(zero.dtype),)


@dataclass
class Tail:
    """Softmax, ArgMax, TopK and the like at the network's end, as ONNX's reference computes them.

    Attributes
    ----------
    model : onnx.ModelProto
        The nodes; its inputs are tensors that decoders give.
    outputs : list of str
        All of the network's outputs in order, those that the chip gives among them.
    nodes : list of str
        Names of the network's nodes in it.
    """
    model: ModelProto
    outputs: list
    nodes: list

    def apply(self, values, rows=None):
        """{output: array} from {tensor: float32 [N * rows, ...]}, `rows` {tensor: a number} where
        it is not 1; image by image, so that shapes written into the network for one image hold."""
        version = next(item.version for item in self.model.opset_import
                       if item.domain in ("", "ai.onnx"))
        own = [LogSoftmax, *([DequantizeLinear, QuantizeLinear] if version < 19 else [])]
        evaluator = ReferenceEvaluator(self.model, new_ops=own)
        names = [item.name for item in self.model.graph.input]
        found = {name: [] for name in (item.name for item in self.model.graph.output)}
        counts = {name: (rows or {}).get(name, 1) for name in names}
        for n in range(len(values[names[0]]) // counts[names[0]]):
            with np.errstate(all="ignore"):      # sigmoids of large numbers are 0 and 1
                results = evaluator.run(list(found), {
                    name: values[name][n * count:(n + 1) * count]
                    for name, count in counts.items()})
            for name, array in zip(found, results, strict=True):
                found[name].append(np.asarray(array))
        for name, arrays in found.items():
            batch = all(item.ndim and len(item) in (1, *counts.values()) for item in arrays)
            found[name] = np.concatenate(arrays) if batch else np.stack(arrays)
        return {name: found[name] if name in found else values[name] for name in self.outputs}

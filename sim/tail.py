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

    def apply(self, values):
        """{output: array} from {tensor: float32 [N, ...]}; image by image, so that shapes written
        into the network for one image hold."""
        evaluator = ReferenceEvaluator(self.model, new_ops=[LogSoftmax])
        names = [item.name for item in self.model.graph.input]
        found = {name: [] for name in (item.name for item in self.model.graph.output)}
        for n in range(len(values[names[0]])):
            with np.errstate(all="ignore"):      # sigmoids of large numbers are 0 and 1
                results = evaluator.run(list(found), {
                    name: values[name][n:n + 1] for name in names})
            for name, array in zip(found, results, strict=True):
                found[name].append(np.asarray(array))
        for name, arrays in found.items():
            batch = all(item.ndim and len(item) == 1 for item in arrays)
            found[name] = np.concatenate(arrays) if batch else np.stack(arrays)
        return {name: found[name] if name in found else values[name] for name in self.outputs}

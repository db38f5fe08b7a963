"""What rounding single tensors does to the results of a network."""

from collections.abc import Iterable

import numpy as np
from systolith.gen.importer.run import Evaluator

from .calibrate import Quantizer
from .network import FloatNetwork

__all__ = ["CrossEntropy"]

#: The most images that run, and the most numbers that are held.
_IMAGES, _NUMBERS = 64, 1 << 26


class CrossEntropy:
    """The cross entropy between a network's results in floats and those with some tensors rounded.

    Parameters
    ----------
    network : FloatNetwork
    feeds : dict of arrays
        Calibration data; at most 64 images, evenly spread, take part.
    """

    def __init__(self, network: FloatNetwork, feeds: dict[str, np.ndarray]) -> None:
        self.network, self.evaluator = network, Evaluator(network.opsets)
        names = [name for node in network.nodes for name in node.output if name]
        one = self._walk({name: array[:1] for name, array in feeds.items()}, names)
        count = len(next(iter(feeds.values())))
        images = max(1, min(_IMAGES, count,
                            _NUMBERS // max(1, sum(array.size for array in one.values()))))
        chosen = np.linspace(0, count - 1, images).round().astype(int)
        feeds = {name: array[chosen] for name, array in feeds.items()}
        self.values = {**feeds, **self._walk(feeds, names)}
        self.outputs = [item.name for item in network.outputs]
        self.shares = {name: np.exp(self._logarithms(name, self.values[name]))
                       for name in self.outputs}

    def _walk(self, feeds, names):
        return self.evaluator.walk(self.network.model(), feeds, names)

    def _logarithms(self, name, array):
        """Logarithms of the shares of the classes, which lie along the second axis; a single one
        is there where it is above 0."""
        array = np.asarray(array, np.float64)
        array = array.reshape(len(array), -1) if array.ndim < 3 else array
        maker = self.network.producer(name)
        if maker is not None and maker.op_type == "Softmax":
            return np.log(np.maximum(array, 1e-30))
        if array.shape[1] == 1:                         # whether something is there, or not
            array = np.concatenate([array, np.zeros_like(array)], axis=1)
        array = array - array.max(axis=1, keepdims=True)
        return array - np.log(np.exp(array).sum(axis=1, keepdims=True))

    def of(self, tensors: Iterable[str], quantizer: Quantizer) -> float:
        """The cross entropy with these tensors rounded by `quantizer`, a mean over images."""
        tensors = set(tensors)
        changed = {name: quantizer(self.values[name]) for name in tensors & set(self.values)}
        for node in self.network.nodes:
            if not any(name in changed for name in node.input):
                continue
            inputs = [changed[name] if name in changed else self.values[name]
                      if name in self.values else self.network.constants.get(name)
                      for name in node.input]
            found = zip(node.output, self.evaluator.run(node, inputs), strict=True)
            changed |= {name: quantizer(array) if name in tensors else array
                        for name, array in found if name}
        return sum(float(-(self.shares[name] * self._logarithms(name, changed[name])).sum()
                         / len(changed[name])) for name in self.outputs if name in changed)

"""A float network with quantizers and rounded weights: biases corrected, errors measured."""

from dataclasses import dataclass

import numpy as np
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.run import Evaluator

from .calibrate import fit_weights, largest, round_weights
from .network import attribute, output_axis, set_parameters

__all__ = ["RoundedLayer", "RoundedNetwork", "sqnr"]

#: Images that errors are measured on, at most; and numbers that are held at a time.
_IMAGES, _NUMBERS = 128, 1 << 27


def sqnr(exact: np.ndarray, found: np.ndarray) -> float:
    """Signal to quantization noise, in dB: 10 log10(sum of squares / sum of squared errors);
    infinite where they are equal."""
    exact, found = (np.asarray(item, np.float64) for item in (exact, found))
    noise, signal = np.square(exact - found).sum(), np.square(exact).sum()
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-300) / noise))


@dataclass
class RoundedLayer:
    """The weights of a linear node.

    Attributes
    ----------
    scales : array [slices]
        One for each slice of the weights along `axis`.
    weight : array
        As it is after rounding.
    bias : array [channels] or None
        In real numbers, not rounded yet.
    unit : array [channels]
        The real number that one step of the layer's sums stands for.
    """
    axis: int
    scales: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    unit: np.ndarray

    @property
    def bias_steps(self):
        """The bias in whole steps of the sums (float64)."""
        return np.rint(self.bias / self.unit)

    @property
    def rounded_bias(self):
        return None if self.bias is None else (self.bias_steps * self.unit).astype(np.float32)


class RoundedNetwork:
    """A network and all that quantization chose for it.

    Attributes
    ----------
    network : FloatNetwork
    places : Places
    quantizers : dict of str to Quantizer
        Of the tensors that `places` names.
    weight_format : Format
    layers : dict of str to RoundedLayer
        Of the linear nodes, by name.
    """

    def __init__(self, network, places, quantizers, weight_format, method):
        self.network, self.places, self.quantizers = network, places, quantizers
        self.weight_format = weight_format
        self.layers = {node.name: self._round(node, method) for node in network.nodes
                       if has(node.op_type, Role.LINEAR) and node.input[1] in network.constants
                       and node.output[0] not in places.tail
                       and (len(node.input) < 3 or not node.input[2]
                            or node.input[2] in network.constants)}

    def quantizer_of(self, tensor):
        """The quantizer whose numbers a tensor holds."""
        while tensor not in self.quantizers:
            tensor = self.places.makers[tensor].input[0]
        return self.quantizers[tensor]

    def _round(self, node, method):
        weight, axis = self.network.constants[node.input[1]], output_axis(node)
        scales, rounded = fit_weights(self.weight_format, weight, axis, method)
        bias = None
        if len(node.input) > 2 and node.input[2]:
            bias = self.network.constants[node.input[2]].astype(np.float64).reshape(-1)
        given, form = self.quantizer_of(node.input[0]), self.weight_format
        groups = attribute(node, "group", 1) if node.op_type == "ConvTranspose" else 1
        step = np.float64(given.scale) * 2.0 ** (given.format.exponent + form.exponent)
        moved = self._moved(node)
        if bias is not None or moved:
            # Weights that are next to nothing beside their bias would make sums of more bits than
            # accumulators have: a coarser scale costs less than a step of the result.
            most = 512 * given.scale * largest(given.format) * largest(form)
            ends = np.zeros(groups * len(scales)) if bias is None else np.abs(bias)
            least = ((ends + moved).reshape(groups, -1).max(axis=0) / most).astype(np.float32)
            if (least > scales).any():
                scales = np.maximum(scales, least)
                shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
                rounded = round_weights(form, weight, scales.reshape(shape))
        return RoundedLayer(axis, scales, rounded, bias,
                            np.tile(step * scales.astype(np.float64), groups))

    def _moved(self, node):
        """What is added to a layer's results before they are quantized, beside its bias."""
        reader = self.network.alone(node.output[0])
        if reader is None or reader.op_type != "HardSigmoid":
            return 0.0
        alpha = attribute(reader, "alpha", 0.2)
        return abs(attribute(reader, "beta", 0.5) / alpha) if alpha else 0.0

    def _give_biases(self):
        """Give every layer a bias that has none."""
        for node in self.network.nodes:
            layer = self.layers.get(node.name)
            if layer is not None and layer.bias is None and node.op_type != "MatMul":
                layer.bias = np.zeros(len(layer.unit))
                set_parameters(self.network, node, self.network.constants[node.input[1]],
                               layer.bias)

    def inputs(self, node, values):
        """The inputs of a node with the rounded weights of its layer, if it has any."""
        given = [values[name] if name in values else self.network.constants.get(name)
                 for name in node.input]
        layer = self.layers.get(node.name)
        if layer is not None:
            given = [given[0], layer.weight, *([] if layer.bias is None else [layer.rounded_bias])]
        return given

    def measure(self, feeds, correct=False, done=lambda count: None):
        """Run the float network beside the rounded one, layer by layer.

        Parameters
        ----------
        feeds : dict of arrays
            Calibration data; at most 128 images, evenly spread, take part.
        correct : bool
            Move each bias so that the mean of the layer's results is that of the float network.

        Returns a list of dicts, one for each quantizer and each result that is not quantized:
        `layer` (a node's name), `operators`, `tensor`, `format`, `scale`, `zero_point`, `low` and
        `high` (the range), `clipped` (share of the float numbers beyond it), `weight_sqnr` (dB, of
        the weights), `alone_sqnr` (dB, this layer rounded and the others not), `sqnr` and
        `relative_error` (all layers up to this one rounded; the error's root mean square as a
        share of the tensor's). dB are None where nothing is lost.
        """
        if correct:
            self._give_biases()
        walk = _Walk(self, feeds)
        rows = []
        for number, node in enumerate(self.network.nodes):
            if number == 0:
                rows += walk.inputs()
            walk.run(node, correct)
            rows += walk.rows(node)
            done(number + 1)
        return rows


class _Walk:
    """The state of `RoundedNetwork.measure`: {tensor: array} of the float network, of the rounded
    one, and of the float network with the current layer rounded."""

    def __init__(self, rounded, feeds):
        self.rounded, network = rounded, rounded.network
        self.network, self.evaluator = network, Evaluator(network.opsets)
        count = len(next(iter(feeds.values())))
        size = self._size({name: array[:1] for name, array in feeds.items()})
        images = max(1, min(_IMAGES, count, _NUMBERS // (3 * size)))
        chosen = np.linspace(0, count - 1, images).round().astype(int)
        self.real = {name: array[chosen] for name, array in feeds.items()}
        self.found, self.alone = dict(self.real), dict(self.real)
        self.chains: dict[str, list] = {name: [] for name in self.real}
        self.last: dict[str, int] = {}
        for number, node in enumerate(network.nodes):
            self.last.update(dict.fromkeys(node.input, number))
        self.number = -1

    def _size(self, feeds):
        """Numbers of all tensors of one image."""
        names = [name for node in self.network.nodes for name in node.output if name]
        found = self.evaluator.walk(self.network.model(), feeds, names)
        return sum(array.size for array in [*feeds.values(), *found.values()])

    def inputs(self):
        return [row for name in list(self.real) for row in self._row(name, None)]

    def run(self, node, correct):
        """Compute a node's outputs in all three networks."""
        self.number += 1
        layer = self.rounded.layers.get(node.name)
        constants = self.network.constants

        def given(values):
            return [values[name] if name in values else constants.get(name) for name in node.input]
        real = self.evaluator.run(node, given(self.real))
        found = self.evaluator.run(node, self.rounded.inputs(node, self.found))
        if layer is not None and correct and node.op_type != "MatMul":
            axes = tuple(n for n in range(real[0].ndim) if n != 1)
            moved = real[0].mean(axis=axes, dtype=np.float64) - found[0].mean(
                axis=axes, dtype=np.float64)
            before = layer.rounded_bias
            layer.bias = layer.bias + moved
            change = layer.rounded_bias - before
            found = [found[0] + change.reshape(-1, *[1] * (found[0].ndim - 2))]
        same = all(self.alone.get(name) is self.real.get(name) for name in node.input)
        alone = real if same and layer is None else self.evaluator.run(
            node, self.rounded.inputs(node, self.alone))
        for name, *arrays in zip((name for name in node.output if name), real, found, alone,
                                 strict=True):
            self.real[name], self.found[name], self.alone[name] = arrays
        chain = list({id(item): item for name in node.input
                      for item in self.chains.get(name, [])}.values())
        for name in node.output:
            self.chains[name] = [*chain, node]

    def rows(self, node):
        """The rows of a node's outputs; what no later node reads is let go."""
        made = [row for name in node.output if name for row in self._row(name, node)]
        for name in [*node.input, *node.output]:
            if self.last.get(name, -1) <= self.number:
                for values in (self.real, self.found, self.alone):
                    values.pop(name, None)
        return made

    def _row(self, name, node):
        quantizer = self.rounded.quantizers.get(name)
        output = name in {item.name for item in self.network.outputs}
        if quantizer is None and not (output and node is not None):
            return []
        real, found, alone = self.real[name], self.found[name], self.alone[name]
        if real.dtype.kind != "f":
            return []
        clipped, low, high = 0.0, float(real.min()), float(real.max())
        if quantizer is not None:
            found, alone = quantizer(found), quantizer(alone)
            low, high = quantizer.limits
            half = quantizer.scale / 2 if quantizer.format.uniform else 0
            clipped = float(((real < low - half) | (real > high + half)).mean())
        chain = self.chains[name]
        linear = next((item for item in chain if item.name in self.rounded.layers), None)
        weights = None
        if linear is not None:
            weights = sqnr(self.network.constants[linear.input[1]],
                           self.rounded.layers[linear.name].weight)
        total = sqnr(real, found)
        row = {
            "layer": linear.name if linear is not None else chain[-1].name if chain else name,
            "operators": "+".join(item.op_type for item in chain) or "input", "tensor": name,
            "format": "sums" if quantizer is None else quantizer.format.name,
            "scale": None if quantizer is None else quantizer.scale,
            "zero_point": None if quantizer is None else quantizer.zero,
            "low": low, "high": high, "clipped": clipped, "weight_sqnr": _finite(weights),
            "alone_sqnr": _finite(sqnr(real, alone)), "sqnr": _finite(total),
            "relative_error": 10 ** (-total / 20)}
        if quantizer is not None:
            self.found[name], self.alone[name] = found, real
            self.chains[name] = []
        return [row]


def _finite(number):
    return None if number is None or np.isinf(number) else number

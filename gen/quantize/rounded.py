"""A float network with quantizers and rounded weights: biases are corrected, errors measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from systolith.gen.importer.rows import has
from systolith.gen.importer.run import Evaluator
from systolith.hw.formats import Format, product_exponent

from .blocks import block_numbers, fit_blocks, top
from .calibrate import Quantizer, fit_weights, largest, round_weights
from .network import FloatNetwork, attribute, output_axis, set_parameters
from .places import VIEWS, Places
from .pools import dual_numbers, fit_numbers, fit_pool, round_to_pool, weight_form
from .recipe import Recipe
from .rounding import Correlation, round_by_results

__all__ = ["RoundedLayer", "RoundedNetwork", "sqnr"]

#: The most images that errors are measured on, and the most numbers that are held at a time.
_IMAGES, _NUMBERS = 512, 1 << 27
#: Within what a channel's scale is moved where batch normalization is estimated anew.
_RESCALED = 0.5, 2.0


def sqnr(exact: np.ndarray, found: np.ndarray) -> float:
    """Signal-to-quantization-noise ratio in dB, 10 log10(sum of squares / sum of squared errors);
    infinite where both arrays are equal."""
    exact, found = (np.asarray(item, np.float64) for item in (exact, found))
    noise, signal = np.square(exact - found).sum(), np.square(exact).sum()
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-300) / noise))


@dataclass
class RoundedLayer:
    """The weights and the bias of a linear node.

    Attributes
    ----------
    recipe : Recipe
        The layer's own.
    form : Format
        Of its weights.
    axis : int
        Of the weights, along which each slice has a scale.
    scales : array [slices]
    steps : array [slices, weights of a slice, or 1]
        What an element of `form` is multiplied by: the scale, and the factor of its block.
    weight : array
        The rounded weights.
    bias : array [channels] or None
        Real numbers, not rounded yet.
    unit : array [channels]
        The real number of one step of the layer's sums.
    least : array [slices] or 0
        No scale may be smaller, for the bias's sake.
    pool : array or None
        The integers that its weights are rounded to, where these are not all of the format.
    """
    recipe: Recipe
    form: Format
    axis: int
    scales: np.ndarray
    steps: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    unit: np.ndarray
    least: np.ndarray | float = 0.0
    pool: np.ndarray | None = None

    def near(self, values: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The numbers (float32) after rounding to the layer's weights."""
        if self.pool is not None:
            return round_to_pool(self.pool, values, steps)
        return round_weights(self.form, values, steps)

    def rescale(self, factor: np.ndarray) -> None:
        """Multiply the scale of each slice [slices], as far as `least` allows; codes stay."""
        scales = np.maximum(self.scales * factor, self.least).astype(np.float32)
        ratio = scales.astype(np.float64) / self.scales
        self.unit = self.unit * np.tile(ratio, len(self.unit) // len(scales))
        self.steps = self.steps * ratio[:, None].astype(np.float32)
        rows = np.moveaxis(self.weight, self.axis, 0)
        moved = rows.reshape(len(rows), -1) * ratio[:, None]
        self.scales = scales
        rounded = self.near(moved, self.steps)
        self.weight = np.moveaxis(rounded.reshape(rows.shape), 0, self.axis)

    @property
    def bias_steps(self) -> np.ndarray:
        """The bias in whole steps of the sums (float64); there must be a bias."""
        return np.rint(self.bias / self.unit)

    @property
    def rounded_bias(self) -> np.ndarray | None:
        """The bias after rounding to steps of the sums (float32); None where there is none."""
        return None if self.bias is None else (self.bias_steps * self.unit).astype(np.float32)


class RoundedNetwork:
    """A network and everything that quantization chose for it.

    Attributes
    ----------
    network : FloatNetwork
    places : Places
    quantizers : {tensor that `places` names: Quantizer}
    recipe : Recipe
    shapes : {tensor: shape for one image}
        Needed where weights are in blocks.
    layers : {name of a linear node: RoundedLayer}
    """

    def __init__(self, network: FloatNetwork, places: Places, quantizers: dict[str, Quantizer],
                 recipe: Recipe, shapes: Mapping[str, tuple[int, ...]] | None = None):
        self.network, self.places, self.quantizers = network, places, quantizers
        self.shapes = shapes or {}
        self.recipe = recipe
        self.layers = {node.name: self._round(node) for node in places.linear()}

    def quantizer_of(self, tensor: str) -> Quantizer:
        """The quantizer that gave the numbers of a tensor."""
        while tensor not in self.quantizers:
            tensor = self.places.makers[tensor].input[0]
        return self.quantizers[tensor]

    def _round(self, node):
        weight, axis = self.network.constants[node.input[1]], output_axis(node)
        own = self.recipe.of(node.name)
        form, bits = weight_form(own.weight)
        steps, least, pool = None, 0.0, dual_numbers(own.weight)
        if pool is not None:
            scales, rounded = fit_numbers(pool, weight, axis, own.weight_method)
        elif bits is not None:
            scales, pool, rounded = fit_pool(form, weight, axis, bits, own.weight_method)
        elif form.block_scale is None:
            scales, rounded = fit_weights(form, weight, axis, own.weight_method)
        else:
            scales, steps, rounded = self._fit_blocks(node, form, own.weight_method)
        bias = None
        if len(node.input) > 2 and node.input[2]:
            bias = self.network.constants[node.input[2]].astype(np.float64).reshape(-1)
        given = self.quantizer_of(node.input[0])
        groups = attribute(node, "group", 1) if node.op_type == "ConvTranspose" else 1
        step = np.float64(given.scale) * 2.0 ** product_exponent(given.format, form.wide)
        moved = self._moved(node)
        if bias is not None or moved:
            # Weights far smaller than their bias would need more bits of sums than accumulators
            # have; a coarser scale costs less than a step of the result.
            most = 512 * given.scale * largest(given.format) * self._largest(form)
            ends = np.zeros(groups * len(scales)) if bias is None else np.abs(bias)
            least = ((ends + moved).reshape(groups, -1).max(axis=0) / most).astype(np.float32)
            if (least > scales).any():
                if steps is not None:
                    scales, steps, rounded = self._fit_blocks(node, form, own.weight_method, least)
                else:
                    scales = np.maximum(scales, least)
                    shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
                    scale = scales.reshape(shape)
                    rounded = (round_weights(form, weight, scale) if pool is None else
                               round_to_pool(pool, weight, scale))
        return RoundedLayer(own, form, axis, scales, scales[:, None] if steps is None else steps,
                            rounded, bias,
                            np.tile(step * scales.astype(np.float64), groups), least, pool)

    @staticmethod
    def _largest(form):
        """The largest weight of a format, with its scale's factor."""
        if form.block_scale is None:
            return largest(form)
        return top(form) * form.block_scale.largest / (1 << form.block_scale.man)

    def _fit_blocks(self, node, form, method, least=0.0):
        """(scales, steps, rounded weights) of a layer whose weights are in blocks."""
        weight, axis = self.network.constants[node.input[1]], output_axis(node)
        moved = np.moveaxis(weight, axis, 0)
        flat = moved.reshape(len(moved), -1)
        blocks = block_numbers(form.block_scale.size, *self._channels(node, moved))
        scales, steps = fit_blocks(form, flat, blocks, method, least)
        rounded = round_weights(form, flat, steps)
        return scales, steps, np.moveaxis(rounded.reshape(moved.shape), 0, axis)

    def _channels(self, node, weight):
        """(input channels, weights of an output channel for each) of a layer; the channels are 1
        where they are not side by side, or are those of groups."""
        size = weight[0].size
        if attribute(node, "group", 1) > 1:
            return 1, size
        if weight.ndim > 2:
            return len(weight[0]), size // len(weight[0])
        tensor = node.input[0]
        while has(getattr(self.places.makers.get(tensor), "op_type", ""), VIEWS):
            tensor = self.places.makers[tensor].input[0]
        shape = self.shapes.get(tensor, ())
        if len(shape) > 2 and np.prod(shape[1:]) == size:       # a map
            return shape[1], size // shape[1]
        plain = len(shape) == 2 or tensor == node.input[0]
        return (size, 1) if plain else (1, size)

    def _moved(self, node):
        """The number that is added to a layer's results before they are quantized, besides its
        bias."""
        reader = self.network.alone(node.output[0])
        if reader is None or reader.op_type != "HardSigmoid":
            return 0.0
        alpha = attribute(reader, "alpha", 0.2)
        return abs(attribute(reader, "beta", 0.5) / alpha) if alpha else 0.0

    def _give_biases(self):
        """Give a bias of 0 to every layer without one."""
        for node in self.network.nodes:
            layer = self.layers.get(node.name)
            if layer is not None and layer.recipe.correct_bias and layer.bias is None and (
                    node.op_type != "MatMul"):
                layer.bias = np.zeros(len(layer.unit))
                set_parameters(self.network, node, self.network.constants[node.input[1]],
                               layer.bias)

    def inputs(self, node: onnx.NodeProto,
               values: Mapping[str, np.ndarray]) -> list[np.ndarray | None]:
        """The inputs of a node: its layer's rounded weights and bias, if it has any, else the
        arrays of `values` and the network's constants."""
        given = [values[name] if name in values else self.network.constants.get(name)
                 for name in node.input]
        layer = self.layers.get(node.name)
        if layer is not None:
            given = [given[0], layer.weight, *([] if layer.bias is None else [layer.rounded_bias])]
        return given

    def round_again(self, node: onnx.NodeProto, real: np.ndarray, found: np.ndarray) -> None:
        """Round the weights of a layer by its results as its recipe says, with what it reads in the
        float network and in the rounded one; see `rounding`. Layers that are too large stay as they
        are."""
        layer, weight = self.layers[node.name], self.network.constants[node.input[1]]
        if not Correlation.possible(node, weight):
            return
        correlation = Correlation(node, weight)
        correlation.add(real, found)
        flat = np.moveaxis(weight, layer.axis, 0)
        shape = flat.shape
        steps = np.broadcast_to(layer.steps, (shape[0], flat[0].size))
        codes = round_by_results(
            layer.recipe.rounding, flat.reshape(shape[0], -1), correlation,
            lambda values, rows, columns: layer.near(values, steps[rows, columns]))
        layer.weight = np.moveaxis(codes.reshape(shape), 0, layer.axis).astype(np.float32)

    def measure(self, feeds: dict[str, np.ndarray],
                done: Callable[[int], object] = lambda count: None) -> list[dict[str, Any]]:
        """Run the float network beside the rounded one, layer by layer. Weights are rounded again
        and biases corrected where a layer's recipe says so, before its results go on.

        Parameters
        ----------
        feeds : dict of arrays
            Calibration data; at most 512 images, evenly spread, take part.

        Returns a list of dicts, one for each quantizer and each result that is not quantized:
        `layer` (a node's name), `operators`, `tensor`, `format`, `weight` (the weights' format),
        `scale`, `zero_point`, `low` and `high` (the range), `clipped` (share of the float numbers
        beyond it), `weight_sqnr` (dB, of the weights), `alone_sqnr` (dB, this layer rounded and the
        others not), `sqnr` and
        `relative_error` (all layers up to this one rounded; the error's root mean square as a
        share of the tensor's). dB are None where nothing is lost.
        """
        self._give_biases()
        walk = _Walk(self, feeds)
        rows = []
        for number, node in enumerate(self.network.nodes):
            if number == 0:
                rows += walk.inputs()
            walk.run(node)
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
        """The rows of the network's inputs."""
        return [row for name in list(self.real) for row in self._row(name, None)]

    def run(self, node):
        """Compute a node's outputs in all three networks."""
        self.number += 1
        layer = self.rounded.layers.get(node.name)
        constants = self.network.constants

        def given(values):
            return [values[name] if name in values else constants.get(name) for name in node.input]
        if layer is not None and layer.recipe.rounding != "nearest":
            name = node.input[0]
            self.rounded.round_again(node, self.real[name], self.found[name])
        real = self.evaluator.run(node, given(self.real))
        found = self.evaluator.run(node, self.rounded.inputs(node, self.found))
        axes = tuple(n for n in range(real[0].ndim) if n != 1)
        if layer is not None and layer.recipe.renormalize and node.op_type != "MatMul" and (
                len(layer.scales) == real[0].shape[1]):
            wanted, there = (array.std(axis=axes, dtype=np.float64)
                             for array in (real[0], found[0]))
            alive = (wanted > 0) & (there > 0)
            layer.rescale(np.clip(np.where(alive, wanted, 1) / np.where(alive, there, 1),
                                  *_RESCALED))
            found = self.evaluator.run(node, self.rounded.inputs(node, self.found))
        if layer is not None and layer.recipe.correct_bias and node.op_type != "MatMul":
            moved = real[0].mean(axis=axes, dtype=np.float64) - found[0].mean(
                axis=axes, dtype=np.float64)
            layer.bias = layer.bias + moved
            found = self.evaluator.run(node, self.rounded.inputs(node, self.found))
        same = all(self.alone.get(name) is self.real.get(name) for name in node.input)
        alone = real if same and layer is None else self.evaluator.run(
            node, self.rounded.inputs(node, self.alone))
        for name, *arrays in zip((name for name in node.output if name), real, found, alone,
                                 strict=True):
            self.real[name], self.found[name], self.alone[name] = arrays

    def rows(self, node):
        """The rows of a node's outputs; tensors that no later node reads are dropped."""
        made = [row for name in node.output if name for row in self._row(name, node)]
        for name in [*node.input, *node.output]:
            if self.last.get(name, -1) <= self.number:
                for values in (self.real, self.found, self.alone):
                    values.pop(name, None)
        return made

    def _row(self, name, node):
        """[the row of a tensor], or [] where it has neither a quantizer nor is an output."""
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
        places = self.rounded.places
        linear, weights, form = places.weights_of(name), None, None
        if linear is not None:
            layer = self.rounded.layers[linear.name]
            weights, form = sqnr(self.network.constants[linear.input[1]],
                                 layer.weight), (
                    layer.form.name if layer.pool is None else layer.recipe.weight)
        total = sqnr(real, found)
        row = {
            "layer": places.layer_of(name),
            "operators": "+".join(item.op_type for item in places.chains.get(name, ())) or "input",
            "tensor": name, "format": "sums" if quantizer is None else quantizer.format.name,
            "weight": form,
            "scale": None if quantizer is None else quantizer.scale,
            "zero_point": None if quantizer is None else quantizer.zero,
            "low": low, "high": high, "clipped": clipped, "weight_sqnr": _finite(weights),
            "alone_sqnr": _finite(sqnr(real, alone)), "sqnr": _finite(total),
            "relative_error": 10 ** (-total / 20)}
        if quantizer is not None:
            self.found[name], self.alone[name] = found, real
        return [row]


def _finite(number):
    """The number; None where it is infinite or None."""
    return None if number is None or np.isinf(number) else number

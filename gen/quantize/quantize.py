"""Post-training quantization: a float network and calibration data become a quantized network.

The steps: `network` prepares the network, `equalize` balances its channels, `places` decides where
quantizers stand, `calibrate` chooses their ranges, `rounded` rounds weights, corrects biases and
measures errors, `write` writes the model.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from systolith.gen.importer.checks import Refuse, raise_error
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.importer.sizes import Part, open_sizes
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.formats import Format, parse

from .calibrate import (
    RANGES,
    SAWB,
    WEIGHT_RANGES,
    Quantizer,
    calibration_feeds,
    collect,
    fit,
)
from .equalize import equalize as equalize_network
from .network import read_float
from .places import find_places
from .rounded import RoundedNetwork
from .rounding import ROUNDINGS
from .write import even_zeros, needed_opset, write_model

__all__ = ["Quantized", "Recipe", "quantize", "with_sizes"]


@dataclass(frozen=True)
class Recipe:
    """How a network is quantized.

    Attributes
    ----------
    activation, weight : str
        Number formats, as `hw.formats.parse` reads them.
    range : str
        How ranges of activations are chosen: one of `calibrate.RANGES`.
    weight_range : str or None
        How scales of weights are chosen: one of `calibrate.WEIGHT_RANGES`; None: "mse" with the
        range "mse", else "min-max".
    percentile : float
        For "percentile": how many of a tensor's numbers are within its range, in percent.
    equalize : bool
        Whether cross-layer equalization runs before quantization.
    correct_bias : bool
        Whether biases are corrected so that the mean of every layer's results stays.
    rounding : str
        How weights are rounded: one of `rounding.ROUNDINGS`.
    """
    activation: str = "int8"
    weight: str = "int8"
    range: str = "mse"
    weight_range: str | None = None
    percentile: float = 99.99
    equalize: bool = False
    correct_bias: bool = True
    rounding: str = "nearest"

    def formats(self) -> tuple[Format, Format]:
        """(activation, weight) as formats. Raises UserError for a recipe that no network can
        have."""
        found = []
        for name in (self.activation, self.weight):
            try:
                found.append(parse(name))
            except ValueError as error:
                raise UserError(str(error)) from None
        activation, weight = found
        if activation.chip_format.activation_fault() or activation.width < 2:
            raise UserError(f"activations cannot be quantized to {activation}: integers of 2 bits "
                            "and more, and floats of radix 2 with sign and subnormals can" + (
                                "; binary networks have to be trained as such"
                                if activation.binary else ""))
        if weight.weight_fault() or weight.width < 2:
            raise UserError(f"weights cannot be quantized to {weight}: integers with sign of 2 "
                            "bits and more, ternary, floats with sign, and sums of powers of two "
                            "can" + ("; binary networks have to be trained as such"
                                     if weight.binary else ""))
        if self.range not in RANGES:
            raise UserError(f"range must be one of {', '.join(RANGES)}, not {self.range!r}")
        if self.weight_range not in (None, *WEIGHT_RANGES):
            raise UserError(f"weight_range must be one of {', '.join(WEIGHT_RANGES)}, not "
                            f"{self.weight_range!r}")
        if self.weight_range == "sawb" and not (weight.uniform and weight.signed
                                                and weight.width in SAWB):
            raise UserError("the weight range sawb has coefficients for "
                            f"{', '.join(f'int{bits}' for bits in SAWB)}, not for {weight}; take "
                            "mse")
        if self.rounding not in ROUNDINGS:
            raise UserError(f"rounding must be one of {', '.join(ROUNDINGS)}, not "
                            f"{self.rounding!r}")
        if not 50 < self.percentile <= 100:
            raise UserError("percentile must be above 50 and at most 100, not "
                            f"{self.percentile:g}")
        return activation, weight


@dataclass
class Quantized:
    """Result of `quantize`.

    Attributes
    ----------
    model : onnx.ModelProto
        The quantized network.
    float_model : onnx.ModelProto
        The float network that it is compared with: prepared, perhaps equalized.
    rows : list of dict
        The error of every layer, as of `rounded.RoundedNetwork.measure`.
    recipe : Recipe
    images : int
        Calibration images.
    equalized : list of str
        Names of the layers that equalization changed.
    """
    model: onnx.ModelProto
    float_model: onnx.ModelProto
    rows: list
    recipe: Recipe
    images: int
    equalized: list


def quantize(model: str | Path | onnx.ModelProto, data: ArrayLike | dict,
             recipe: Recipe | None = None, *, source: str = "the calibration data",
             measure: bool = True, refuse: Refuse = raise_error,
             progress: Reporter = SILENT) -> Quantized:
    """Quantize a float ONNX network.

    Parameters
    ----------
    model : path or onnx.ModelProto
    data : array or dict of arrays
        Calibration inputs [N, ...], float32; {input: array} where there are several inputs. Sizes
        that the model leaves open are theirs.
    recipe : Recipe
    source : str
        Names the data in errors.
    measure : bool
        Run the rounded network for the error of every layer.
    refuse : function of (node, UserError)
        Called for each node that is not supported, as of `reader.load`; by default it raises the
        error.

    Returns a `Quantized`. Raises UserError; also where the importer refuses the result.
    """
    recipe = recipe or Recipe()
    activation, weight = recipe.formats()
    with progress.step("Reading the float network"):
        network = read_float(with_sizes(model, data), needed_opset(activation, weight), refuse)
        feeds = calibration_feeds(network, data, source)
        changed = equalize_network(network) if recipe.equalize else []
        places = find_places(network, activation.width <= 8)
    images = len(next(iter(feeds.values())))
    with progress.step(f"Calibrating on {images:,} images", images) as done:
        statistics = collect(network, feeds, places.tensors, done)
    quantizers: dict[str, Quantizer] = {}
    with progress.step(f"Choosing ranges for {len(places.tensors)} tensors"):
        for root in {places.root(name) for name in places.tensors}:
            members = [name for name in places.tensors if places.root(name) == root]
            joined = statistics[members[0]].join([statistics[name] for name in members[1:]])
            chosen = fit(activation, joined, recipe.range, recipe.percentile,
                         even_zeros(activation))
            quantizers |= dict.fromkeys(members, chosen)
    rounded = RoundedNetwork(network, places, quantizers, weight,
                             recipe.weight_range or (
                                 "mse" if recipe.range == "mse" else "min-max"))
    rows = []
    if measure or recipe.correct_bias or recipe.rounding != "nearest":
        with progress.step("Measuring the error of every layer", len(network.nodes)) as done:
            rows = rounded.measure(feeds, recipe.correct_bias, done, recipe.rounding)
    result = write_model(rounded)
    with progress.step("Reading the quantized network"):
        load(result, refuse)
    return Quantized(result, network.model(), rows, recipe, images, changed)


def with_sizes(model: str | Path | onnx.ModelProto, data: ArrayLike | dict) -> onnx.ModelProto:
    """The model with the sizes of the calibration data where its inputs leave sizes open. Raises
    UserError."""
    found = read(model)
    constants = {item.name for item in found.graph.initializer}
    inputs = [item for item in found.graph.input if item.name not in constants]
    if not isinstance(data, dict):
        data = {inputs[0].name: data} if len(inputs) == 1 else {}
    shapes = {item.name: np.shape(data[item.name]) for item in inputs
              if item.name in data and open_sizes(item)}
    return Part({name: (1, *shape[1:]) for name, shape in shapes.items()}).of(found)

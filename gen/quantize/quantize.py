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
from systolith.gen.importer.run import Evaluator
from systolith.gen.importer.sizes import Part, open_sizes
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.formats import parse

from .calibrate import Quantizer, calibration_feeds, collect, fit
from .entropy import CrossEntropy
from .equalize import clipped
from .equalize import equalize as equalize_network
from .network import read_float
from .places import find_places
from .recipe import Recipe
from .rounded import RoundedNetwork
from .write import even_zeros, needed_opset, write_model

__all__ = ["Quantized", "quantize", "with_sizes"]

#: Images that run at a time.
_BATCH = 16


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
    formats = recipe.formats()
    with progress.step("Reading the float network"):
        network = read_float(with_sizes(model, data), max(
            needed_opset(*pair) for pair in formats), refuse)
        feeds = calibration_feeds(network, data, source)
        changed = equalize_network(
            network, _peaks(network, feeds), lambda name: recipe.of(name).equalize
        ) if recipe.uses("equalize", True) else []
        places = find_places(network, all(activation.width <= 8 for activation, _ in formats))
        recipe.check_layers(places.layers())
    images = len(next(iter(feeds.values())))
    with progress.step(f"Calibrating on {images:,} images", images) as done:
        statistics = collect(network, feeds, places.tensors, done)
    quantizers: dict[str, Quantizer] = {}
    roots = dict.fromkeys(places.root(name) for name in places.tensors)
    with progress.step(f"Choosing ranges for {len(places.tensors)} tensors", len(roots)) as done:
        entropy = CrossEntropy(network, feeds) if recipe.uses("range", "cross-entropy") else None
        for number, root in enumerate(roots, 1):
            members = [name for name in places.tensors if places.root(name) == root]
            joined = statistics[members[0]].join([statistics[name] for name in members[1:]])
            quantizers |= dict.fromkeys(members, _quantizer(recipe, places, members, joined,
                                                            entropy))
            done(number)
    shapes = {}
    if any(weight.block_scale for _, weight in formats):
        one = {name: array[:1] for name, array in feeds.items()}
        names = [name for node in network.nodes for name in node.output if name]
        shapes = {name: np.shape(array) for name, array in [*one.items(), *Evaluator(
            network.opsets).walk(network.model(), one, names).items()]}
    rounded = RoundedNetwork(network, places, quantizers, recipe, shapes)
    rows = []
    if measure or recipe.runs():
        with progress.step("Measuring the error of every layer", len(network.nodes)) as done:
            rows = rounded.measure(feeds, done)
    result = write_model(rounded)
    with progress.step("Reading the quantized network"):
        load(result, refuse)
    return Quantized(result, network.model(), rows, recipe, images, changed)


def _peaks(network, feeds):
    """{tensor: the largest number of each of its channels [channels]}, for `equalize`."""
    found: dict[str, np.ndarray] = {}
    names, images = clipped(network), len(next(iter(feeds.values())))
    run, model = Evaluator(network.opsets), network.model()
    for start in range(0, images if names else 0, _BATCH):
        batch = {name: array[start:start + _BATCH] for name, array in feeds.items()}
        for name, array in run.walk(model, batch, names).items():
            peak = np.moveaxis(array, 1, 0).reshape(array.shape[1], -1).max(axis=1)
            found[name] = np.maximum(found.get(name, peak), peak)
    return found


def _quantizer(recipe, places, members, statistics, entropy):
    """The quantizer of tensors that share one scale, and these statistics. Raises UserError where
    their layers want different ones."""
    asked: dict[tuple, str] = {}
    for name in members:
        own = recipe.of(places.layer_of(name))
        asked.setdefault((own.activation, own.range, own.percentile), places.layer_of(name))
    if len(asked) > 1:
        raise UserError(f"layers {' and '.join(map(repr, asked.values()))}: their results are "
                        "joined and share one scale; give them the same activation, range and "
                        "percentile")
    (form, method, percentile), = asked
    activation = parse(form)
    return fit(activation, statistics, method, percentile, even_zeros(activation),
               None if entropy is None else lambda item: entropy.of(members, item))


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

"""A float network for `check`: quantized in memory, so that its mapping can be judged."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from systolith.gen.importer import reader
from systolith.gen.importer.file import check_size
from systolith.gen.importer.folding import computed_from_constants
from systolith.gen.importer.nodes import nodes_of
from systolith.gen.importer.rows import Role, has
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe

__all__ = ["RANDOM", "fates_of_float", "quantized_for_check"]

#: What is said where nobody gave calibration data.
RANDOM = "random numbers in place of calibration data"
#: Images of random numbers: one, as models with a fixed batch take.
_IMAGES = 1


def quantized_for_check(model: onnx.ModelProto, recipe: Recipe, data: Any, source: str,
                        refuse: Callable) -> onnx.ModelProto | None:
    """A float `onnx.ModelProto` quantized by a `Recipe`; None where it cannot be for what `refuse`,
    as of `reader.load`, has been told.

    Without calibration data ranges come from an image of normally distributed numbers, by
    min-max: formats, layers and the bits of their sums are those of a real quantization or next to
    them, accuracy is none.
    """
    recipe.formats()
    refused = []

    def collect(node, error):
        refused.append(node)
        refuse(node, error)
    if data is None:
        data = _random_inputs(model)
        recipe = Recipe(recipe.activation, recipe.weight, range="min-max", correct_bias=False)
    try:
        # What is not supported stays in the network as it is: later nodes are looked at, too.
        return quantize(model, data, recipe, source=source, measure=False, refuse=collect).model
    except UserError:
        if refused:
            return None
        raise


def _random_inputs(model):
    """{input: float32 [N, ...]} for a float model."""
    rng, found = np.random.default_rng(0), {}
    constants = {item.name for item in model.graph.initializer}
    for item in model.graph.input:
        if item.name not in constants:
            shape = _IMAGES, *reader.host_input(item).shape
            check_size(item.name, shape)
            found[item.name] = rng.standard_normal(shape, np.float32)
    return found


def fates_of_float(model: onnx.ModelProto,
                   rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """[(node, operator, what it became)] of a float model's own nodes; `rows`: the same of the
    network that it was quantized to. What is there no longer was folded into what it reads."""
    nodes = nodes_of(model.graph)
    became = {name: text for name, _, text in rows}
    constant = computed_from_constants(model.graph, nodes)
    makers: dict[str, str] = {}
    found = []
    for node in nodes:
        if node.outputs[0] in constant:
            text = "constant"
        elif node.name in became:
            text = became[node.name]
        elif has(node.operator, Role.SAME):
            text = "nothing to compute"
        else:
            text = next((makers[name] for name in node.inputs if name in makers),
                        "nothing to compute")
        if node.outputs[0] not in constant:
            makers.update(dict.fromkeys(node.outputs, became.get(node.name, text)))
        found.append((node.name, node.operator, text))
    return found

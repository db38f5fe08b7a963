"""Recipes: what is said of single layers is what they get, and is refused where it cannot be."""

import numpy as np
import pytest
from systolith.gen.importer import reader
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe, read_recipe

from ...float_networks import weights
from ...onnx_networks import Network


def three_layers():
    """A network of convolutions a and b, whose results are joined, and c; calibration data."""
    net = Network(np.random.default_rng(3), (3, 8, 8))
    a = net.node("Relu", net.node("Conv", "x", weights(net, 4, 3, 3, 3), name="a"))
    b = net.node("Relu", net.node("Conv", "x", weights(net, 4, 3, 3, 3), name="b"))
    both = net.node("Concat", a, b, axis=1)
    return net.model(net.node("Conv", both, weights(net, 5, 8, 1, 1), name="c")), np.float32(
        net.rng.standard_normal((16, 3, 8, 8)))


def test_layers_have_their_own_settings():
    model, data = three_layers()
    plain = quantize(model, data, Recipe())
    made = quantize(model, data, Recipe(layers={
        "[ab]": {"range": "min-max", "weight": "int4"}, "b": {"weight": "e2m1"},
        "x": {"activation": "int6"}, "c": {"correct_bias": False, "rounding": "learned"}}))
    rows = {row["layer"]: row for row in made.rows}
    assert [(name, row["format"], row["weight"]) for name, row in rows.items()] == [
        ("x", "int6", None), ("a", "int8", "int4"), ("b", "int8", "e2m1"), ("c", "sums", "int8")]
    # All numbers of both are in the range of min-max, and the weights lose what their formats lose.
    assert rows["a"]["clipped"] == rows["b"]["clipped"] == 0
    before = {row["layer"]: row for row in plain.rows}
    assert rows["a"]["weight_sqnr"] < before["a"]["weight_sqnr"] - 15
    # Rounding by results moves weights of c away from the nearest codes.
    assert rows["c"]["weight_sqnr"] < before["c"]["weight_sqnr"]
    graph = reader.load(made.model)
    found = {layer.name: layer for layer in graph.layers}
    assert {str(layer.weights.format) for layer in found.values()} == {"int4", "e2m1", "int8"}
    assert str(graph.tensors["x_quantized"].format if "x_quantized" in graph.tensors
               else next(iter(graph.tensors.values())).format) == "int6"


def test_patterns_in_order():
    recipe = Recipe(layers={"conv*": {"weight": "int4"}, "conv1": {"weight": "int6"},
                            "*1": {"range": "kl"}})
    assert (recipe.of("conv1").weight, recipe.of("conv1").range) == ("int6", "kl")
    assert (recipe.of("conv2").weight, recipe.of("conv2").range) == ("int4", "mse")
    assert recipe.of("dense") == Recipe()


@pytest.mark.parametrize("layers, message", [
    ({"d": {"weight": "int4"}}, "layer 'd': the network has no such layer to quantize"),
    ({"a": {"wieght": "int4"}}, "layer 'a': unknown key 'wieght'; there are activation, weight"),
    ({"a": {"weight": "uint8"}}, "layer 'a': weights cannot be quantized to uint8"),
    ({"a": {"correct_bias": "no"}}, "layer 'a': correct_bias must be true or false, not 'no'"),
    ({"a": {"percentile": "99"}, }, "layer 'a': percentile must be a number, not '99'"),
    ({"a": "int4"}, "layer 'a': must be a table of activation"),
    ({"a": {"activation": "int6"}}, "layers 'a' and 'b': their results are joined and share one"),
    ({"a": {"weight": "int6"}, "?": {"weight_range": "sawb"}}, "layer 'a': the weight range sawb"),
])
def test_what_no_layer_can_have(layers, message):
    model, data = three_layers()
    with pytest.raises(UserError, match=message):
        quantize(model, data, Recipe(layers=layers))


def test_files(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('range = "kl"\n[layers."conv*"]\nweight = "int4"\npercentile = 99\n')
    assert Recipe(**read_recipe(path)).of("conv3") == Recipe(range="kl", weight="int4",
                                                             percentile=99)
    for text, message in (("rang = 1", "unknown key 'rang'; there are activation"),
                          ("layers = 3", "layers must be tables"), ("=", "not valid TOML"),
                          ("[layers.a]\nequal = true", r'\[layers."a"\]: unknown key')):
        path.write_text(text)
        with pytest.raises(UserError, match=f"^{path}: {message}"):
            read_recipe(path)
    with pytest.raises(UserError, match=r"nowhere.toml: No such file"):
        read_recipe(tmp_path / "nowhere.toml")

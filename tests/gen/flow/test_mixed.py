"""Formats of weights layer by layer, by budgets of bytes and cycles."""

from itertools import product

import numpy as np
import pytest
from systolith.gen.flow.compile import compile_network
from systolith.gen.flow.mixed import mixed, read_budgets
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.effort import efforts

from ...float_networks import weights
from ...onnx_networks import Network

FORMATS = ("int8", "int4", "int2")
#: Weights of each layer.
SIZES = {"a": 8 * 4 * 3 * 3, "b[0]": 8 * 8 * 3 * 3, "c": 5 * 8 * 4 * 4}


@pytest.fixture(scope="module")
def network():
    net = Network(np.random.default_rng(3), (4, 8, 8))
    x = net.node("Relu", net.node("Conv", "x", weights(net, 8, 4, 3, 3), name="a"))
    x = net.node("Relu", net.node("Conv", x, weights(net, 8, 8, 3, 3), name="b[0]"))
    return net.model(net.node("Conv", x, weights(net, 5, 8, 4, 4), name="c")), np.float32(
        net.rng.standard_normal((8, 4, 8, 8)))


def test_bytes_are_within_budget_and_noise_is_least(network):
    found = mixed(*network, Recipe(), FORMATS[1:], {"bytes": 800})
    bits = {name: int(name[3:]) for name in FORMATS}
    best = min((sum(found.errors[layer][form] for layer, form in zip(SIZES, chosen, strict=True)),
                chosen) for chosen in product(FORMATS, repeat=3)
               if sum(-(-size * bits[form] // 8) for size, form in
                      zip(SIZES.values(), chosen, strict=True)) <= 800)
    assert tuple(found.formats[layer] for layer in SIZES) == best[1]
    layers = efforts(load(found.quantized.model))
    assert {item.weight for item in layers} == set(best[1])
    assert sum(item.effort.weight_bytes for item in layers) == found.costs["bytes"] <= 800
    assert "800" in found.text() and "b[0]" in found.text()


def test_bytes_of_pools_are_those_of_numbers_and_pools(network):
    """Within budget, and as little noise as any choice has."""
    forms, bytes_of = ("int8", "pool4", "int6:pool3", "dual4"), {
        "int8": lambda size: size, "dual4": lambda size: size,
        "pool4": lambda size: -(-size * 4 // 8) + 16,
        "int6:pool3": lambda size: -(-size * 3 // 8) + 6}
    for budget in (1516, 1515, 1100, 750, 585):
        found = mixed(*network, Recipe(), forms[1:], {"bytes": budget})
        costs = {chosen: sum(bytes_of[form](size) for size, form in
                             zip(SIZES.values(), chosen, strict=True))
                 for chosen in product(forms, repeat=3)}
        best = min((sum(found.errors[layer][form]
                        for layer, form in zip(SIZES, chosen, strict=True)), chosen)
                   for chosen, cost in costs.items() if cost <= budget)
        mine = tuple(found.formats[layer] for layer in SIZES)
        assert sum(found.errors[layer][form] for layer, form in found.formats.items()) == (
            pytest.approx(best[0]))
        assert found.costs["bytes"] == costs[mine] <= budget
    assert any("pool" in form for form in mine)
    least = min(costs.values())
    with pytest.raises(UserError, match=f"bytes {least - 1}, of which the cheapest formats take "
                                        f"some {least}"):
        mixed(*network, Recipe(), forms[1:], {"bytes": least - 1})


def test_cycles_are_those_of_the_chip(network):
    arch = Arch(rows=8, columns=8, bus_bits=32, weight_widths=(4, 2), weight_depth=64)
    found = mixed(*network, Recipe(), FORMATS[1:], {"cycles": 0.9}, arch)
    _, program = compile_network(load(found.quantized.model), arch)
    assert cycles(program).cycles == found.costs["cycles"] <= found.budgets["cycles"]
    assert set(found.formats.values()) != {"int8"}


def test_layers_of_the_recipe_keep_their_formats(network):
    found = mixed(*network, Recipe(layers={"c": {"weight": "int6"}}), ["int2"], {"ace": 0.5})
    assert set(found.formats) == {"a", "b[0]"}
    assert [item.weight for item in efforts(load(found.quantized.model))][-1] == "int6"


@pytest.mark.parametrize("budget, message", [
    ({"bytes": 375}, "no formats are within the budgets: bytes 375, of which the cheapest formats "
                     "take some 376"),
    ({"cycles": 1}, "a budget of cycles needs a chip")])
def test_what_cannot_be_is_said(network, budget, message):
    with pytest.raises(UserError, match=message):
        mixed(*network, Recipe(), FORMATS[1:], budget)


def test_budgets_are_read():
    assert read_budgets(["bytes=20000", "cycles=60%"]) == {"bytes": 20000, "cycles": 0.6}
    for text in (["bytes"], ["bytes=x"], ["bits=3"], ["bytes=1", "bytes=2"]):
        with pytest.raises(UserError, match=f"--budget {text[-1]}: must be COST=NUMBER or "):
            read_budgets(text)

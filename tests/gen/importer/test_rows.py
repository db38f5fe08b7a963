"""The rows of operators: attributes are a function's parameters, roles are asked for by name."""

import numpy as np
import onnx
import pytest
from systolith.gen.importer import rows
from systolith.gen.importer.checks import supported_operators
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.reader import load
from systolith.gen.importer.rows import ROWS, Role, has, operator
from systolith.gen.kit.errors import UserError

from ...onnx_networks import Network


def node(**attributes):
    return Node("n", "Made", "", ["x"], ["y"], attributes, None)


def test_attributes_are_the_parameters_after_the_inputs(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", found := {})

    @operator("Made", roles=Role.VIEW)
    def made(builder, node, inputs, axis=1, mode="a"):
        return axis, mode
    assert found["Made"].attributes == {"axis", "mode"}
    assert found["Made"](None, node(axis=3), []) == (3, "a")
    assert found["Made"](None, node(), []) == (1, "a")
    assert found["Made"](None, node(other=2, mode="b"), []) == (1, "b")
    with pytest.raises(ValueError, match="two functions for the operator Made"):
        operator("Made", roles=Role.VIEW)(made)


def test_what_is_handed_on_are_attributes_of_what_takes_it(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", found := {})

    def window(node, size, strides=None, pads=(0, 0)):
        return strides, pads
    operator("Made", roles=Role.MEAN, rest=window)(
        lambda builder, node, inputs, group=1, **others: (group, *window(node, 3, **others)))
    operator("Selu", "Tanh", roles=Role.FUNCTION)(lambda builder, node, inputs, **others: others)
    assert found["Made"].attributes == {"group", "strides", "pads"}
    assert found["Made"](None, node(strides=2), []) == (1, 2, (0, 0))
    assert (found["Selu"].attributes, found["Tanh"].attributes) == ({"alpha", "gamma"}, set())


def test_roles():
    assert has("Transpose", Role.MOVE) and has("Transpose", Role.TURN | Role.PAD)
    assert not has("Transpose", Role.VIEW) and not has("NoSuchOperator", Role.MOVE)
    assert all(row.roles for row in ROWS.values())
    assert {name for name in ROWS if has(name, Role.LINEAR)} == {
        "Conv", "ConvTranspose", "Gemm", "MatMul"}


def test_an_empty_table_is_no_answer(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", {})
    with pytest.raises(RuntimeError, match="no operator is registered"):
        has("Relu", Role.CLIP)


def test_every_row_is_listed_as_supported():
    assert set(ROWS) - set(supported_operators()) == {"BiasOfProduct"}


def test_an_attribute_without_parameter_is_refused_by_name():
    net = Network(np.random.default_rng(0), (4, 6, 6))
    model = net.model(net.quant("x", 0.1, name="codes"))
    quant = next(item for item in model.graph.node if item.name == "codes")
    quant.attribute.append(onnx.helper.make_attribute("block", 4))
    with pytest.raises(UserError, match=r"codes.*attribute block is not supported; supported are "
                                        "narrow, rounding_mode, signed"):
        load(model)

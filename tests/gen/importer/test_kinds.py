"""Kinds of values: each registers what becomes of it, and what has none is refused."""

import pytest
from systolith.gen.importer import operators
from systolith.gen.importer.kinds import given, quantized, reach
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.values import Kind
from systolith.gen.kit.errors import UserError


class Other(Kind):
    name = "odd"


def test_a_kind_that_nothing_registered():
    with pytest.raises(TypeError, match="nothing quantizes values of the kind Other"):
        quantized(Other(), None, None, None, "y", None)
    with pytest.raises(TypeError, match="nothing bounds values of the kind Other"):
        reach(Other(), None, None, None)
    node = Node("last", "Identity", "", ["x"], ["y"], {}, None)
    with pytest.raises(UserError, match=r"node 'last' .*its sum, product or extreme 'odd' is an "
                                        "output of the network before it is quantized"):
        given(Other(), None, None, None, node)


def test_every_kind_says_how_it_is_quantized():
    assert operators.linear
    kinds = Kind.__subclasses__()
    assert {"Linear", "Pair", "Function", "Smooth", "Kink", "Extreme"} <= {
        kind.__name__ for kind in kinds}
    assert all(quantized.dispatch(kind) is not quantized.dispatch(object)
               for kind in kinds if kind is not Other)

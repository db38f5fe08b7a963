"""Single nodes, run by ONNX Runtime or the reference of ONNX."""

import numpy as np
import pytest
from onnx import helper
from systolith.gen.importer.run import _node_model

ADD = helper.make_node("Add", ["a", "b"], ["c"])
OPSETS = (("", 17),)


def test_a_model_of_a_node_has_its_inputs():
    model = _node_model(ADD, [(np.float32, 2), (np.float32, 1)], OPSETS)
    assert [(item.name, len(item.type.tensor_type.shape.dim)) for item in model.graph.input] == [
        ("a", 2), ("b", 1)]
    assert [item.name for item in model.graph.output] == ["c"]


@pytest.mark.parametrize("count", [1, 3])
def test_every_input_has_a_kind(count):
    with pytest.raises(ValueError):
        _node_model(ADD, [(np.float32, 2)] * count, OPSETS)

"""Functions of an ONNX file: what they come to is counted before they are inlined."""

import onnx
import pytest
from onnx import TensorProto, helper
from systolith.gen.importer.file import read
from systolith.gen.importer.inlining import LARGEST_NETWORK
from systolith.gen.kit.errors import UserError

OPSETS = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]


def model(bodies, calls=1):
    """A network that calls the first of some functions, each a list of the operators that it
    calls, one after the other."""
    def chain(operators, first):
        return [helper.make_node(operator, [f"{first}{n}" if n else first], [f"{first}{n + 1}"],
                                 domain="own" if operator in bodies else "")
                for n, operator in enumerate(operators)]
    functions = [helper.make_function("own", name, ["a"], [f"a{len(body)}"], chain(body, "a"),
                                      OPSETS) for name, body in bodies.items()]
    shape = [1, 4, 2, 2]
    graph = helper.make_graph(
        chain([next(iter(bodies))] * calls, "x"), "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{calls}", TensorProto.FLOAT, shape)])
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=10)


def test_functions_that_share_one_are_inlined():
    found = read(model({"A": ["B", "C", "B"], "B": ["Relu", "C"], "C": ["Relu", "Neg"]}, 2))
    assert len(found.graph.node) == 2 * (3 + 2 + 3) and not found.functions


@pytest.mark.parametrize("depth", [60, 3000])
def test_nested_functions_of_too_many_nodes_are_refused(depth):
    bodies = {f"F{n}": [f"F{n + 1}"] * 2 for n in range(depth)} | {f"F{depth}": ["Relu"]}
    with pytest.raises(UserError, match="the model has 1,000,000,000,000 nodes, and may have"):
        read(model(bodies))


def test_functions_that_call_themselves_are_refused():
    with pytest.raises(UserError, match=r"cannot be inlined: '[ABC]' calls itself"):
        read(model({"A": ["Relu", "B"], "B": ["C"], "C": ["Relu", "B"]}))


def test_constants_of_functions_count_at_each_call():
    net = model({"A": ["Relu"]}, calls=600)
    value = helper.make_node("Constant", [], ["big"], value=helper.make_tensor(
        "big", TensorProto.FLOAT, [1 << 18], bytes(1 << 20), raw=True))
    net.functions[0].node.append(value)
    with pytest.raises(UserError, match=r"come to 629,\d+,\d+ bytes where they are called, "):
        read(net)


@pytest.mark.parametrize("nodes, fits", [(LARGEST_NETWORK, True), (LARGEST_NETWORK + 1, False)])
def test_the_most_nodes(nodes, fits):
    net = onnx.ModelProto(ir_version=10, opset_import=OPSETS[:1])
    net.graph.node.extend([helper.make_node("Relu", ["x"], ["y"])] * nodes)
    if fits:
        read(net)
    else:
        with pytest.raises(UserError, match="20,001 nodes, and may have 20,000: fold constants"):
            read(net)

"""Finishing passes: another graph with the same results and fewer layers; the first one stays."""

import copy
from dataclasses import fields, is_dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from systolith.gen.importer import passes, reader
from systolith.gen.importer.passes.copies import remove_copies
from systolith.gen.importer.passes.sums import fuse_sums
from systolith.gen.importer.passes.tables import _takes, fuse_tables, to_host
from systolith.gen.importer.passes.tidy import flatten_inputs, name_layers, trimmed
from systolith.sim.model.pool import Pool

from ....onnx_exact import bias, check, integer_network, qdq, spread, weights
from ....onnx_networks import Network


def network():
    """A sum of two convolutions, a function of it, joined with its negative and cut, then a dense
    layer of an input that nothing else reads, and a function at the end."""
    net = Network(np.random.default_rng(3), (3, 6, 8))

    def conv(x, channels):
        weight = np.float32(net.rng.integers(-3, 4, (channels, 3, 3, 3)) * 0.1)
        return net.quant(net.node("Conv", x, net.quant(weight, 0.1, bits=4), pads=[1] * 4), 0.1)
    x = net.quant("x", 0.1)
    total = net.quant(net.node("Add", conv(x, 4), conv(x, 4)), 0.2)
    bent = net.quant(net.node("Tanh", total), 0.01)
    both = net.node("Concat", bent, net.node("Relu", total), axis=1)
    part = net.node("Slice", net.quant(both, 0.2), np.int64([2]), np.int64([7]), np.int64([1]))
    weight = np.float32(net.rng.integers(-3, 4, (5, 5, 1, 1)) * 0.1)
    y = net.quant(net.node("Conv", part, net.quant(weight, 0.1, bits=4)), 0.1)
    return net.model(y, net.node("Sigmoid", total))


@pytest.fixture(scope="module")
def parts():
    """(graph as the builder gives it, copies, zeros) of the network."""
    found = {}

    def seen(graph, copies, zeros):
        found["parts"] = graph, copies, zeros
        return passes.finished(graph, copies, zeros)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "finished", seen)
        reader.load(network())
    return found["parts"]


def frozen(item):
    """The contents of records, lists and arrays as something that compares."""
    if is_dataclass(item):
        return type(item).__name__, *(frozen(getattr(item, one.name)) for one in fields(item))
    if isinstance(item, dict):
        return tuple((key, frozen(one)) for key, one in item.items())
    if isinstance(item, (list, tuple)):
        return tuple(map(frozen, item))
    return item.tobytes() if isinstance(item, np.ndarray) else item


def steps(parts):
    _, copies, zeros = parts
    return [lambda graph: fuse_sums(graph, zeros), lambda graph: remove_copies(graph, copies),
            to_host, fuse_tables, flatten_inputs, name_layers, trimmed]


def test_passes_leave_what_they_read(parts):
    graph = parts[0]
    for step in steps(parts):
        before = frozen(graph)
        made = step(graph)
        assert frozen(graph) == before
        graph = made


def test_every_pass_keeps_the_results_and_takes_its_layers_away(parts):
    graph, counts = parts[0], []
    images = np.float32(np.random.default_rng(0).standard_normal((4, 3, 6, 8)))

    def results(graph):
        return graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    wanted = results(copy.deepcopy(graph))
    for step in steps(parts):
        graph = step(graph)
        found = results(graph)
        assert all((found[name] == wanted[name]).all() for name in wanted)
        counts.append(len(graph.layers))
    first = len(parts[0].layers)
    # A sum, copies, a function of the end, functions of codes in the layers before them.
    assert first > counts[0] > counts[1] >= counts[2] >= counts[3] == counts[-1]


def test_copies_are_known_by_what_they_write(parts):
    graph, copies, _ = parts
    assert copies and len(remove_copies(graph, []).layers) == len(graph.layers)


def test_layers_of_one_node_get_names_of_their_own(parts):
    graph = parts[0]
    same = [layer.name for layer in name_layers(graph).layers]
    assert len(set(same)) == len(same)


def test_tensors_without_a_layer_are_left_out(parts):
    graph = remove_copies(parts[0], parts[1])
    left = trimmed(graph)
    assert set(left.tensors) == {*(item.name for item in graph.inputs),
                                 *(layer.output for layer in graph.layers)}
    assert len(left.tensors) < len(graph.tensors)


def test_an_input_of_dense_layers_becomes_one_pixel():
    net = Network(np.random.default_rng(1), (2, 3, 4))
    weight = np.float32(net.rng.integers(-3, 4, (24, 5)) * 0.1)
    x = net.node("Flatten", net.quant("x", 0.1))
    graph = reader.load(net.model(net.quant(
        net.node("MatMul", x, net.quant(weight, 0.1, bits=4)), 0.3)))
    layer, = graph.layers
    assert graph.inputs[0].shape == (24, 1, 1) and layer.weights.shape == (5, 24, 1, 1)


@pytest.mark.parametrize("own, after, makers, takes", [
    (Pool(), Pool(), 1, True), (Pool(), Pool((2, 2)), 1, True), (Pool(), Pool(), 2, True),
    (Pool(), Pool((2, 2)), 2, False)])
def test_a_lookup_that_pools_goes_to_the_only_layer_that_writes_its_codes(
        own, after, makers, takes):
    wide = SimpleNamespace(low=-8, high=7)
    maker = SimpleNamespace(limits=wide, table=None, operand=None, pool=own)
    lookup = SimpleNamespace(requantization=wide, pool=after, table=[0, 1])
    assert _takes(maker, lookup, makers) == takes


@pytest.mark.parametrize("rows", [4, 8])
def test_a_layer_that_only_copies_of_its_channels_read_is_split(rows):
    """A depthwise layer writes each part of its channels where the part is joined with others."""
    net, x = integer_network(np.random.default_rng(5), (6, rows, 5))
    y = qdq(net, net.node("Conv", x, weights(net, 6, 1, 1, 1), bias(net, 6), group=6), 3, -7)
    parts = net.node("Split", y, np.array([4, 2]), axis=1, outputs=2), f"{net.nodes[-1].name}_out1"
    results = []
    for part, count in zip(parts, (7, 5), strict=True):
        other = qdq(net, net.node("Conv", x, weights(net, 3, 6, 1, 1)), 3, -7)
        joined = qdq(net, net.node("Concat", other, part, axis=1), 3, -7)
        results.append(spread(net, net.node("Conv", joined, weights(net, 4, count, 1, 1))))
    graph, _ = check(net, *results)
    assert len(graph.layers) == 6
    assert [layer.channels.tolist() for layer in graph.layers if layer.channels is not None] == [
        [0, 1, 2, 3], [4, 5]]

"""Random networks: they run, differ in every way, and are the same for the same seed."""

import numpy as np
from systolith.sim.random.arch import random_arch
from systolith.sim.random.graphs import random_graph


def test_networks_differ_in_every_way():
    graphs = [random_graph(random_arch(seed), seed)[0] for seed in range(120)]
    layers = [layer for graph in graphs for layer in graph.layers]
    assert {len(graph.layers) for graph in graphs} == {1, 2, 3}
    assert {len(graph.outputs) for graph in graphs} >= {1, 2}
    for fact in (lambda c: c.raw, lambda c: c.leaky, lambda c: c.table is not None,
                 lambda c: c.operand is not None, lambda c: any(c.pool.least),
                 lambda c: c.pool.size != (1, 1), lambda c: c.pool.stride != c.pool.size,
                 lambda c: any(c.pool.pads), lambda c: any(c.geometry.pads),
                 lambda c: c.geometry.pad_code is not None, lambda c: c.geometry.replicate,
                 lambda c: c.geometry.groups > 1, lambda c: c.geometry.groups == c.inputs > 1,
                 lambda c: c.geometry.dilation != (1, 1), lambda c: c.geometry.stride != (1, 1),
                 lambda c: c.weights.shape[2:] == tuple(c.input_shape[1:])):
        assert {bool(fact(layer)) for layer in layers} == {False, True}


def test_a_seed_gives_the_same_network_and_codes():
    arch = random_arch(7)
    (graph, codes), (again, others) = (random_graph(arch, 3) for _ in range(2))
    assert [layer.weights.codes.tolist() for layer in graph.layers] == [
        layer.weights.codes.tolist() for layer in again.layers]
    for one, two in zip(graph.run(codes["input"]).values(), again.run(others["input"]).values(),
                        strict=True):
        assert np.array_equal(one, two)

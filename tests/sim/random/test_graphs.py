"""Random networks: they run, differ in every way, and are the same for the same seed."""

from itertools import product
from types import SimpleNamespace

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.sim.random.arch import random_arch
from systolith.sim.random.graphs import _Network, random_graph


def test_networks_differ_in_every_way():
    graphs = [random_graph(random_arch(seed), seed)[0] for seed in range(120)]
    layers = [layer for graph in graphs for layer in graph.layers]
    assert {len(graph.layers) for graph in graphs} == {1, 2, 3}
    assert {len(graph.outputs) for graph in graphs} >= {1, 2}
    assert {layer.geometry.stride for layer in layers} == set(product((1, 2, 3), repeat=2))
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


def test_results_of_a_network_are_whole_codes():
    """Signs and halves are between layers alone."""
    for seed in range(60):
        arch = random_arch(seed)
        if not (arch.packed_signs or arch.packed_halves):
            continue
        for number in range(6):
            graph = random_graph(arch, number)[0]
            for name in graph.outputs:
                assert graph.tensors[name].format in (None, arch.activation)


def test_binary_layers_in_pairs_of_passes_must_fit_accumulators():
    for bits in (6, 7, 8, 9):
        own = SimpleNamespace(arch=SimpleNamespace(accumulator=None, accumulator_bits=bits))
        # sums from -longest to longest
        fits = [channels for channels in range(1, 600) if not _Network._too_long_in_pairs(
            own, (1, 1), channels, 1)]
        assert fits == [n for n in range(1, 600) if 2 * n < 1 << (bits - 1)]
    own = SimpleNamespace(arch=SimpleNamespace(accumulator=6, accumulator_bits=6))
    assert not _Network._too_long_in_pairs(own, (3, 3), 600, 1)


def test_groups_of_several_filters():
    """As many filters as a few groups of columns hold, in whole groups."""
    kinds = set()
    for seed in range(40):
        arch = random_arch(seed, "int")
        for number in range(3):
            for layer in random_graph(arch, number)[0].layers:
                groups, filters = layer.geometry.groups, len(layer.weights)
                if 1 < groups != layer.inputs:
                    assert filters % groups == 0 and filters < 2 * arch.columns + 2 + groups
                    kinds.add(filters // groups)
    assert {1, 2} <= kinds


KINDS = {"odd": [-3, -1, 1, 3], 1: [-2, 0, 2], 2: [-4, -2, 0, 2], 3: list(range(-8, 8, 2)),
         8: list(range(-256, 256, 2))}


def test_weights_of_planes_have_every_value_of_their_kind():
    layer = SimpleNamespace(weights=np.zeros((40, 20, 3, 3)), inputs=20,
                            geometry=SimpleNamespace(pads=(0, 0, 0, 0)))
    own = SimpleNamespace(arch=SimpleNamespace(vector=8), more=np.random.default_rng(1))
    for kind, values in KINDS.items():
        made = _Network._planes_of_weights(own, layer, kind)
        assert np.unique(made.images).tolist() == values
        assert made.format.image(made.format.finite_codes()).min() <= values[0]
    assert _Network._planes_of_weights(own, layer, "signs") is layer.weights


def test_layers_have_planes_of_weights_whose_sums_fit():
    """Of all kinds those whose largest sum accumulators hold, each with an input of one bit, or,
    in the first layer, of several."""
    offered = []

    class Draw:
        def choice(self, of):
            offered.append(of)
            return "signs", 1
    sizes = set()
    for largest, channels in product(
            (*range(60, 2000, 60), *range(2000, 30000, 900)), (30, 40, 400)):
        layer = SimpleNamespace(raw=False, weights=np.zeros((4, channels, 1, 1)), inputs=channels,
                                geometry=SimpleNamespace(groups=1),
                                pool=SimpleNamespace(summed=1))
        arch = Arch(rows=2, columns=2, lanes=4, activation="bipolar1", weight="bipolar1",
                    bit_planes=True, largest_k=largest)
        own = SimpleNamespace(arch=arch, planes=Draw())
        for number in (0, 1):
            assert _Network._in_planes(own, number, layer) is layer
            # twice the products and the bias, and what lanes without a channel add
            fits = [(kind, bits) for kind, values in [("signs", [1]), *KINDS.items()]
                    for bits in ((1, 2, 3, 8) if number == 0 else (1,))
                    if 2 * (channels + 1 + (arch.plane_excess > 0)) * (2 ** bits - 1) * max(
                        abs(value) for value in values) + (-(-channels // 8) * 32 << bits)
                    < 1 << arch.accumulator_bits - 1]
            assert offered.pop() == (fits or [("signs", 1)])
            sizes.add(len(fits))
    assert len(sizes) > 6 and 0 in sizes

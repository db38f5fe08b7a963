from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Float, Int, sum_bits
from systolith.hw.spec.arch import Arch
from systolith.sim.model.effort import Effort, effort, efforts, total
from systolith.sim.random.graphs import random_graph

FORMATS = st.sampled_from([Int(8), Int(4), Float(3, 2), Bipolar(1)])


@given(FORMATS, FORMATS, st.tuples(*[st.integers(1, 5)] * 4), st.integers(1, 9))
def test_counts_by_hand(activation, weight, shape, results):
    o, i, h, w = shape
    found = effort(activation, weight, shape, results)
    assert found.macs == results * i * h * w
    assert found.ace == found.macs * activation.width * weight.width
    assert found.bops - found.ace == found.macs * sum_bits(activation, weight, i * h * w)
    assert 8 * found.weight_bytes - 7 <= o * i * h * w * weight.width <= 8 * found.weight_bytes


def test_efforts_of_a_network_are_those_of_its_layers():
    arch = Arch(rows=4, columns=4, weight="int4")
    for seed in range(4):
        graph, _ = random_graph(arch, seed)
        layers = efforts(graph)
        assert [item.name for item in layers] == [layer.name for layer in graph.layers]
        assert total(layers).macs == graph.macs
        assert {item.weight for item in layers} == {"int4"}
        assert all(item.effort.ace == 32 * item.effort.macs for item in layers)
        assert total(layers).weight_bytes == sum(
            -(-layer.weights.images.size // 2) for layer in graph.layers)
    assert total(()) == Effort(0, 0, 0, 0)

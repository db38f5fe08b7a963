"""Networks of several widths on one chip."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.widen import widened
from systolith.gen.flow.build import build, open_build
from systolith.gen.flow.simulate import simulate
from systolith.gen.importer.reader import load
from systolith.hw.formats import Float, Int

from ...onnx_exact import on_chip
from ...onnx_networks import Network

CHIP = load_chip("tiny-2x4-int4", ["array.activation=int8", "array.weight=int8",
                                   "array.largest_k=400"])


def mixed(seed, bits=(4, 6, 5)):
    """Convolutions, padded with a zero point or a zero, between quantizers of several widths."""
    net = Network(np.random.default_rng(seed), (3, 6, 6))
    x = net.quant("x", 1 / 16, bits=8)
    for n, width in enumerate(bits):
        weight = net.quant(np.float32(net.rng.standard_normal((3, 3, 3, 3))), 1 / 4, bits=3 + n)
        x = net.node("Conv", x, weight, pads=[1] * 4)
        x = net.quant(x, 1.0, bits=width, signed=n % 2, zero=2 * (n % 2 == 0))
    return net, net.model(x)


@pytest.mark.parametrize("seed", range(3))
def test_numbers_stay_and_programs_make_them(seed):
    net, model = mixed(seed)
    graph = load(model)
    wide = widened(graph, CHIP)
    assert {item.format for item in wide.tensors.values()} == {Int(8)}
    images = np.float32(net.rng.standard_normal((3, 3, 6, 6)) * 3)
    codes = graph.run(graph.encode_inputs(images)), wide.run(wide.encode_inputs(images))
    for name, tensor in graph.tensors.items():
        assert (tensor.real(codes[0][name]) == wide.tensors[name].real(codes[1][name])).all()
    assert (graph.decode_outputs(codes[0]) == wide.decode_outputs(codes[1])).all()
    on_chip(wide, wide.encode_inputs(images), CHIP, seed)


def test_what_stays_as_it_is():
    graph = load(mixed(0)[1])
    assert widened(graph, replace(CHIP, activation=Float(4, 3), weight=Float(4, 3))) is graph
    narrow = widened(graph, replace(CHIP, activation=Int(4)))
    assert [item.format for item in narrow.tensors.values()] == [
        item.format for item in graph.tensors.values()]


def test_builds_of_them_run(tmp_path):
    net, model = mixed(5)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    build(path, CHIP, tmp_path / "out", area=False)
    images = np.float32(net.rng.standard_normal((2, 3, 6, 6)) * 3)
    found = simulate(open_build(tmp_path / "out"), images, "isa")
    assert found.comparison.bits == 0

"""The benchmarks' networks: their sizes, ONNX Runtime's opinion, and programs bit for bit."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.importer.reader import load
from systolith.sim.machine.cycles import cycles

from ..onnx_exact import on_chip
from ..onnx_networks import run_onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import tiny_networks as networks


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_products(name):
    assert networks.NETWORKS[name]()[0].macs == networks.MACS[name]


def fire_modules():
    """Two modules of SqueezeNet behind each other, without the pooling between."""
    net = networks.Writer("fire", (3, 14, 14))
    x = net.conv(net.input, 24, 3, 2)
    for squeeze, expand in ((8, 24), (12, 40)):
        x = net.conv(x, squeeze, 1)
        x = net.concat(net.conv(x, expand, 1), net.conv(x, expand, 3))
    return net, net.average(net.conv(x, 10, 1))


def test_pooling_behind_parts_costs_no_layer_and_few_pixels():
    """The beginnings of SqueezeNet 1.1 and of ResNet-18 on small images."""
    for pad, size in ((0, 47), (1, 40)):
        net = networks.Writer("pooled", (3, size, size))
        x = net.max_pool(net.conv(net.input, 64, 3 + 4 * pad, 2, pads=3 * pad), 3, 2, pad=pad)
        x = net.conv(x, 16, 1)
        x = net.concat(net.conv(x, 32, 1), net.conv(x, 32, 3))
        model = net.model(net.max_pool(x, 3, 2))
        graph = load(model)
        assert [layer.pool.size for layer in graph.layers] == [(3, 3), (1, 1), (3, 3), (3, 3)]
        codes = graph.encode_inputs(np.float32(net.rng.normal(0, 1, (1, 3, size, size))))
        arch = replace(load_chip("sim-16x16-int8"), accumulator_depth=256, activation_depth=2048)
        layers = on_chip(graph, codes, arch).host.layers
        assert all(layer.array_cycles < 1.5 * layer.ideal_cycles for layer in layers)


@pytest.mark.parametrize("make, most", [
    (networks.ds_cnn, 18000), (fire_modules, 4300),
    (lambda: networks.mobilenet(48, ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1))), 12000)])
def test_programs_and_onnx_runtime(make, most):
    logging.disable(logging.WARNING)
    net, output = make()
    model = net.model(output)
    graph = load(model)
    images = np.float32(net.rng.normal(0, 1, (2, *net.shapes["image"])))
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    expected, = run_onnx(model, images, optimized=False).values()
    assert np.abs(found - expected).max() <= 3 / 16 and np.ptp(found) > 0.4
    program = on_chip(graph, codes, load_chip("sim-16x16-int8"))
    assert cycles(program).cycles <= most
    mean = next(layer for layer in graph.layers if layer.geometry.groups == layer.inputs > 1
                and layer.output_shape[1:] == (1, 1))
    assert program.host.macs == net.macs + mean.macs

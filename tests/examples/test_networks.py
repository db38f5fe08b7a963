"""The benchmarks' networks: their sizes, ONNX Runtime's opinion, and programs bit for bit."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.config import load_chip
from systolith.gen.onnx_in import load
from systolith.sim.cycles import cycles

from ..onnx_exact import on_chip
from ..onnx_networks import run_onnx

spec = importlib.util.spec_from_file_location(
    "bench_tiny_networks", Path(__file__).resolve().parents[2] / "bench" / "tiny_networks.py")
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)


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


@pytest.mark.parametrize("make, most", [
    (networks.ds_cnn, 18000), (fire_modules, 4200),
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
    assert np.abs(found - expected).max() <= 3 / 16 and np.ptp(found) > 1
    program = on_chip(graph, codes, load_chip("sim-16x16-int8"))
    assert cycles(program).cycles <= most
    mean = next(layer for layer in graph.layers if layer.groups == layer.inputs > 1
                and layer.output_shape[1:] == (1, 1))
    assert program.host["macs"] == net.macs + mean.macs

"""The shipped networks: what their files say, by an evaluator that shares nothing with gen/."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.formats import Float

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
LEAST = {"digits-cnn": 0.97, "digits-cnn-int8": 0.97, "digits-mlp-bnn": 0.90,
         "digits-residual-bnn": 0.97, "digits-pokebnn": 0.97, "digits-small-int4": 0.94}


@pytest.fixture(scope="module")
def judge():
    spec = importlib.util.spec_from_file_location("digits_evaluate", DIGITS / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits(judge):
    return judge.load_test()


def test_a_hundred_held_out_digits_of_each_class(digits):
    images, labels = digits
    assert images.shape == (1000, 1, 28, 28) and images.min() == 0 and images.max() == 1
    assert np.bincount(labels).tolist() == [100] * 10


def test_int8_is_within_a_point_of_float(judge, digits):
    images, labels = digits
    spec = importlib.util.spec_from_file_location("digits_quantize", DIGITS / "quantize.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    exact = judge.accuracy(DIGITS / "digits-cnn-float.onnx", images, labels)
    made = quantize(DIGITS / "digits-cnn-float.onnx", example.digits()[0], Recipe())
    found = example.accuracy(made.model, np.float32(images), labels)
    assert exact >= 0.97 and abs(found - exact) < 0.01


def test_the_residual_float_network_reaches_its_accuracy(judge, digits):
    images, labels = digits
    path = DIGITS / "digits-resnet-float.onnx"
    assert path.stat().st_size < 300_000
    assert judge.accuracy(path, images[:300], labels[:300]) >= 0.98


def test_calibration_digits_are_not_held_out():
    with np.load(DIGITS / "digits-test.npz") as file:
        held_out = {image.tobytes() for image in file["images"]}
        assert len(held_out) == 1000 and len(file["calibration"]) == 100
        assert not any(image.tobytes() in held_out for image in file["calibration"])


@pytest.mark.parametrize("name", LEAST)
def test_files_reach_their_accuracy_and_the_importer_agrees(judge, digits, name):
    images, labels = digits
    path = DIGITS / f"{name}.onnx"
    assert path.stat().st_size < 300_000
    expected = judge.evaluate(onnx.load(path), images)
    assert np.mean(expected.argmax(1) == labels) >= LEAST[name]

    graph = load(path)
    inputs = images.astype(np.float32).reshape(-1, *graph.encoders[0].shape)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(inputs)))
    # Multipliers have 18 bits: a result next to the middle of two codes may fall on either.
    assert np.sum(found.argmax(1) != expected.argmax(1)) <= 2
    assert np.median(np.abs(found - expected).max(1)) <= 1e-3 * np.abs(expected).max()


def test_float_quant_rounds_as_the_format_does(judge):
    e3m2 = Float(3, 2)
    values = np.concatenate([np.linspace(-40, 40, 20481), e3m2.decode(np.arange(64)), [1e-30]])
    found = judge._float_quant(values * 0.25, 0.25, 3, 2, 3, 28.0, has_inf=0, has_nan=0,
                               has_subnormal=1, rounding_mode=b"ROUND", saturation=1)
    assert np.array_equal(found, e3m2.decode(e3m2.encode(values)) * 0.25)

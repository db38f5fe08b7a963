"""The layer-by-layer comparison: every tensor finds its counterparts, differences stand where they
are made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantFormat, QuantType
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.importer import reader
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize
from systolith.gen.report.comparison import comparison_table, write_comparison

from ...float_networks import NETWORKS
from ...onnx_networks import quantized

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"


@pytest.fixture(scope="module")
def network():
    net, model = NETWORKS[0](np.random.default_rng(1))
    return model, np.float32(net.rng.standard_normal((20, *net.shape)))


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_onnx_runtimes_models(network, form, tmp_path):
    model, data = network
    # ONNX Runtime's quantizer moves weights out of the model that it is given.
    path = quantized(onnx.ModelProto.FromString(model.SerializeToString()), np.split(data, 20),
                     tmp_path / "q.onnx", quant_format=form, activation_type=QuantType.QInt8,
                     weight_type=QuantType.QInt8, per_channel=True)
    graph = reader.load(path)
    found = compare_with_onnx(graph, None, path, data, model, "mine")
    assert (found.images, found.quantized_by, found.float_source) == (20, "ONNX Runtime", "mine")
    assert {row["tensor"] for row in found.rows} == set(graph.tensors)
    for row in found.rows:
        assert row["quantized_tensor"] and row["float_tensor"] is not None
        # Where a tie falls otherwise, later layers differ, too.
        assert row["codes_differing"] <= 0.07 * row["elements"] and row["largest_steps"] <= 6
        assert row["golden_to_float_db"] > 22
        assert row["golden_to_float_db"] == pytest.approx(row["quantized_to_float_db"], abs=0.5)
    assert found.answers[0][1].endswith("of 20 images (100.0 %)")
    table = comparison_table(found)
    assert table.count("\n| ") == len(found.rows) + 1
    csv, picture = write_comparison(found, tmp_path)
    assert len(csv.read_text().splitlines()) == len(found.rows) + 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    # Without its quantizers the model is the float network with rounded weights: nearer.
    near = compare_with_onnx(graph, None, path, data)
    assert near.float_source == "the quantized model without its quantizers"
    for row, other in zip(near.rows, found.rows, strict=True):
        assert row["golden_to_float_db"] > other["golden_to_float_db"] - 1
        assert row["codes_differing"] == other["codes_differing"]


def test_qonnx_and_a_difference_that_is_put_in():
    with np.load(DIGITS / "digits-test.npz") as file:
        # Image 11 has a sum so near to a tie (3e-7) that float32 falls to the other side.
        images = file["images"][:11, None].astype(np.float32) / np.float32(255)
    path = DIGITS / "digits-cnn.onnx"
    graph = reader.load(path)
    found = compare_with_onnx(graph, None, path, images)
    assert "QONNX" in found.quantized_by
    assert [row["codes_differing"] for row in found.rows] == [0] * 5
    assert all(15 < row["golden_to_float_db"] < 45 for row in found.rows)
    bias = graph.layers[1].bias.copy()
    bias[3] += 4000
    graph.layers[1] = replace(graph.layers[1], bias=bias)
    found = compare_with_onnx(graph, None, path, images)
    assert [row["codes_differing"] > 0 for row in found.rows] == [False, False, True, True, True]
    assert found.rows[2]["layer"] == graph.layers[1].name
    assert found.rows[2]["largest_steps"] > 1


def test_several_images_at_a_time_where_the_model_insists(network):
    model, data = network
    fixed = onnx.ModelProto.FromString(model.SerializeToString())
    for item in (*fixed.graph.input, *fixed.graph.output):
        item.type.tensor_type.shape.dim[0].dim_value = 3
    made = quantize(fixed, data)
    graph = reader.load(made.model)
    found = compare_with_onnx(graph, None, made.model, data, made.float_model)
    assert found.images == 20 and found.rows[-1]["golden_to_float_db"] > 25


def test_wrong_inputs(network):
    model, data = network
    graph = reader.load(DIGITS / "digits-cnn.onnx")
    with pytest.raises(UserError, match="inputs must be those of the quantized one, input, not x"):
        compare_with_onnx(graph, None, DIGITS / "digits-cnn.onnx", data, model, "other.onnx")
    with pytest.raises(UserError, match=r"inputs do not fit the network: .*must have the shape"):
        compare_with_onnx(graph, None, DIGITS / "digits-cnn.onnx", data)

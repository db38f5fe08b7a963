"""Models as people bring them: each builds through `build` with every check on, gives the same
results in the golden model, the instruction-level simulator and the RTL, and those of the
reference; or it is refused with the message that helps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.build import build
from systolith.gen.flow.check import check
from systolith.gen.flow.simulate import simulate
from systolith.gen.kit.errors import UserError

FOLDER = Path(__file__).parents[2] / "cases"


@dataclass(frozen=True)
class Case:
    """How a model must come out.

    Attributes
    ----------
    chip : str
        Preset.
    set : tuple of str
        Keys of the chip that differ from the preset, as of --set.
    ties : float
        Share of the outputs that may differ from the reference by a step of the last quantizer.
    step : float
        That step; 0: the outputs must be equal but for float32's rounding.
    refused : str
        Part of the message, where the model is to be refused.
    """
    chip: str = "sim-16x16-int8"
    set: tuple = ()
    ties: float = 0.0
    step: float = 0.0
    refused: str = ""


#: How each case must come out.
CASES: dict[str, Case] = {
    # Sums that are half-way between two codes, seen after the convolution that reads them.
    "add_broadcast_spatial": Case(ties=0.006, step=0.1),
    "avgpool_ceil_include": Case(ties=0.03, step=0.03),     # means of 4 and of 6 that are half-way
    "bias_finer_than_sums": Case(),
    "binary_one_padding": Case(),
    # Means of 8 channels are half-way at every eighth pixel; what the gate makes of them.
    "channel_gate_spatial_attention": Case(ties=0.008, step=0.15),
    "depthtospace": Case(ties=0.018, step=0.1),
    "depthwise_28x28": Case(),
    "dprelu_block": Case(),
    "reactnet_block": Case(),
    "dscnn_nhwc_tf2onnx": Case(),
    "ffn_tokens_gelu": Case(ties=0.037, step=0.06),
    "first8_binary_last8": Case(),
    # The reference rounds the convolution's numbers to float16 before the quantizer.
    "float16_qdq": Case(ties=0.03, step=0.0508),
    "focus_slices": Case(),
    "matmulintegertofloat": Case(),
    "max_of_two_maps": Case(),
    "maxpool_dilated": Case(),
    "output_without_shape": Case(),
    "qonnx_zp_odd_both": Case(),
    "quant_bits_per_channel": Case(),
    # Means of 4 pixels in their own scale are half-way at every fourth.
    "resize_downsample_half": Case(ties=0.07, step=0.1),
    "bn_between_maxpool_quant_neg": Case(),
    "resnet_downsample_unquantized": Case(ties=0.002, step=0.1),
    "sign_act_int8_net": Case(),
    "tiny_channel_scale": Case(),
    "w1a2_two_layers": Case(),
    "w1a8": Case(),
    # Sums of two convolutions' codes lie half-way between two codes every so often.
    # Ties of the convolution's codes, less after the mean of 8 bins.
    "yolo_dfl": Case(ties=0.01, step=0.02),
}
#: Cases that the compiler does not handle yet.
OPEN: set[str] = set()


def test_all_are_listed():
    assert {path.stem for path in FOLDER.glob("*.onnx")} == set(CASES) | OPEN


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name, tmp_path):
    case, path = CASES[name], FOLDER / f"{name}.onnx"
    arch = load_chip(case.chip, list(case.set))
    found = check(path, arch)
    if case.refused:
        with pytest.raises(UserError) as caught:
            build(path, arch, tmp_path / "build", area=False)
        assert case.refused in str(caught.value)
        assert any(case.refused in problem for problem in found.problems)
        return
    assert found.maps, found.problems
    made = build(path, arch, tmp_path / "build", area=False)
    inputs = np.load(FOLDER / f"{name}.npy")
    golden = simulate(made, inputs).outputs
    for engine, limit in (("isa", None), ("rtl", 1)):
        run = simulate(made, inputs, engine, limit=limit)
        assert run.comparison.bits == 0, run.comparison.first
    expected_file = FOLDER / f"{name}.expected.npz"
    if expected_file.is_file():
        with np.load(expected_file) as expected:
            outputs = golden if isinstance(golden, dict) else dict.fromkeys(expected, golden)
            for key, wanted in expected.items():
                _compare(outputs[key], wanted, case)


def _compare(found, wanted, case):
    assert found.shape == wanted.shape
    exact = 1e-5 * max(1e-6, float(np.abs(wanted).max()))
    off = np.abs(found.astype(np.float64) - wanted)
    assert (off > exact).mean() <= case.ties, f"{(off > exact).mean():.4%} differ"
    assert off.max() <= case.step * 1.001 + exact, f"off by {off.max()}"


def test_binary_chips_agree_about_padding(tmp_path):
    """The host lays out what a first layer reads, so that it needs no even number of channels."""
    path = FOLDER / "binary_one_padding.onnx"
    arch = load_chip("ulx3s-bnn")
    assert check(path, arch).maps
    made = build(path, arch, tmp_path / "build", area=False)
    inputs = np.load(FOLDER / "binary_one_padding.npy")
    assert simulate(made, inputs, "isa").comparison.bits == 0
    with np.load(FOLDER / "binary_one_padding.expected.npz") as expected:
        _compare(simulate(made, inputs).outputs, expected[expected.files[0]], Case())

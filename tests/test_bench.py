"""Every network of bench/ builds through the function that the command calls, all checks on; large
ones at small sizes."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow import build as build_module
from systolith.gen.flow.build import build
from systolith.gen.flow.compile import compile_network
from systolith.gen.measure.liberty import read_liberty
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.report import pareto
from systolith.gen.report.report import read_report
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.space_file import read_space
from systolith.gen.study.sweep.verify import Verified
from systolith.gen.study.sweep.verify import table as verified_table
from systolith.sim.machine.cycles import cycles

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import agreement
import area_draws
import area_estimate
import common
import exactness
import fed_arrays
import field_networks
import large_networks
import layers
import means
import public_models
import public_networks
import resnets
import sky130
import squeezenet
import sweeps
import tiny_networks
import vision_networks

from .layers import changed

CHIP = large_networks.chip(16, "int8")
SIZES = {
    "resnet-18": lambda: vision_networks.resnet18(32, 10),
    "squeezenet-1.1": lambda: vision_networks.squeezenet(64, 10),
    "mobilenet-v2": lambda: vision_networks.mobilenet_v2(32, 0.25, 10),
    "mobilenet-v2-0.35-96": lambda: vision_networks.mobilenet_v2(64, 0.35, 10),
    "autoencoder": vision_networks.autoencoder,
    "unet-int6": lambda: vision_networks.unet("int6", 16, 8),
    "unet-e3m2": lambda: vision_networks.unet("e3m2", 16, 8),
    "mobilenet-v1-0.25": lambda: tiny_networks.mobilenet(48),
    "ds-cnn": tiny_networks.ds_cnn}


def test_all_are_built():
    assert set(SIZES) == set(vision_networks.NETWORKS) | set(tiny_networks.NETWORKS)
    assert len(field_networks.SMALL) == len(field_networks.NETWORKS)


@pytest.mark.parametrize("network", ["MobileNetV1-0.25 96", "DS-CNN"])
def test_a_larger_array_is_faster(network):
    made, taken = fed_arrays.ROWS[f"{network}, 16 x 16, 64 bits"][0](), []
    for size in (16, 32, 64):
        chip = fed_arrays.ROWS[f"{network}, {size} x {size}, 64 bits"][1]()
        taken.append(cycles(compile_network(made, chip)[1]).cycles)
    assert taken[0] > taken[1] > taken[2]


def test_a_mean_as_a_kernel_is_compared():
    before, after, told = means.compared(6)
    assert after < before and "64 x 64" in told
    assert means.compared(0) is None            # none became one


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_quantized_networks(name):
    net, output = SIZES[name]()
    made = common.built(net.model(output), large_networks.chip(
        16, large_networks.FORMS.get(name, "int8")))
    assert common.reported(made).cycles.total > net.macs / 256


@pytest.mark.parametrize("preset", ["sim-16x16-int8", "big-32x32-int8"])
def test_ds_cnn_on_presets(preset, tmp_path):
    net, output = tiny_networks.ds_cnn()
    path = tmp_path / "net.onnx"
    path.write_bytes(net.model(output).SerializeToString())
    made = build(path, load_chip(preset), tmp_path / "build", area=False)
    assert read_report(made.folder).cycles.total < 25_000


def test_batches():
    net, output = vision_networks.autoencoder(64)
    one, four = (common.reported(common.built(net.model(output), CHIP, batch=batch))
                 for batch in (1, 4))
    assert four.cycles.total < 2 * one.cycles.total


@pytest.mark.parametrize("name", resnets.NETWORKS)
def test_resnets(name):
    common.built(resnets.quantized_resnet(name, size=16, images=1), CHIP)


def test_cycles_against_rtl_are_read_as_the_sweep_prints_them():
    found = [Verified("1f3a90c2", "a-net", 14865, 14867, 0), Verified("x", "b", 9, 9, 3)]
    assert sweeps.compared(verified_table(found)) == [[14865, 14867, 0], [9, 9, 3]]


def test_squeezenet_study(tmp_path, monkeypatch):
    """Its short form: small images, by the models."""
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])
    def ran(*words):
        monkeypatch.setattr(sys, "argv", [
            "squeezenet.py", "--size", "32", "--shapes", "4x4,8x8", "--cores", "1,2",
            "--buses", "64", "--jobs", "1", "--folder", str(tmp_path / "out"),
            "--json", str(tmp_path / "found.json"), *words])
        squeezenet.main()
        return json.loads((tmp_path / "found.json").read_text())["rows"]
    small, large = ran()
    assert (small["goal"], small["array"], small["cores"]) == ("Movidius", "4 x 4", 1)
    assert small["reached"] > 24.2
    assert small["MHz for it"] == pytest.approx(100 * 24.2 / small["reached"])
    # the smallest of those that are fast enough, or the fastest
    assert large["reached"] > small["reached"]
    assert (large["array"], large["cores"]) == ("8 x 8", 2) or large["reached"] >= 864
    # with estimated areas, which say that they are
    estimated = ran("--area", "2")[0]
    assert estimated["array"] == "4 x 4" and estimated["estimated lut"] > 4000
    assert "lut" not in estimated and "placed, MHz" not in estimated
    # placed as the top level of a board; what misses its goal is not
    asked = []

    def placed(space, folder, *, jobs, finalists=0):
        results, files = sweep(space, folder, jobs=jobs)
        if finalists:
            asked.append([(item.arch.board, item.arch.rows, item.arch.cores, item.arch.clock_mhz,
                           item.seeds)
                          for item in (point.placed for point in read_space(space).points)])
            for item in results:
                item["placed"] = {"error": None, "mhz": 50.0, "by_seed": {1: 50.0}}
                item["figures"]["placed_images_per_s"] = item["figures"]["images_per_s"] / 2
        return results, files
    monkeypatch.setattr(squeezenet, "sweep", placed)
    small, large = ran("--place", "3")
    assert asked[0] == [("ulx3s-85f", 4, 1, 130, 3)] and small["placed, MHz"] == 50
    assert small["images/s there"] == small["reached"] / 2
    assert len(asked) == 2 or large["placed, MHz"] == ""


def test_estimates_are_fitted_to_chips_of_all_families():
    """Of as many as there are kinds, each option that chips can have is among them."""
    designs = [area_draws.random_design(seed) for seed in range(90)]
    assert not any(arch.two_writes or arch.two_fillings for arch, _ in designs[:74])
    for name in ("two_writes", "two_fillings", "tap_rows", "plane_rows", "side_taps", "depthwise",
                 "packed_signs",
                 "packed_halves", "load_windows", "leaky", "slope_offsets", "bit_planes",
                 "weight_widths", "operand_depth", "table_depth", "checksum", "counters",
                 "prefetch", "diagnosis"):
        assert {bool(getattr(arch, name)) for arch, _ in designs} == {False, True}, name
    assert {(arch.activation.floating, arch.activation.binary) for arch, _ in designs} == {
        (False, False), (True, False), (False, True)}
    assert any(arch.weight.block_scale for arch, _ in designs)
    assert {arch.scale_structure.is_dsp for arch, _, _ in area_draws.scales()
            if arch.weight.block_scale.man} == {False, True}
    assert any(arch.cores > 1 for arch, _ in designs)
    assert {dsp for _, dsp in designs} == {True, False, "post"}
    assert area_draws.random_design(5) == designs[5]


def test_what_was_mapped_is_not_mapped_again(tmp_path, monkeypatch):
    """By its netlist; of a file whose last line was cut, the rest counts."""
    asked = []

    def fake(self, texts, dsp):
        asked.append([text for text, _ in texts])
        return [{"": {"LUT4": len(text)}} for text, _ in texts]
    monkeypatch.setattr(area_estimate._Samples, "_map", fake)
    path = tmp_path / "samples.jsonl"
    samples = area_estimate._Samples(path, "ecp5")
    found = samples.mapped([("a", False), ("bb", False)], True)
    assert found == [{"": {"LUT4": 1}}, {"": {"LUT4": 2}}] and asked == [["a", "bb"]]
    with path.open("a") as file:
        file.write('{"kind": "cells", "key')
    again = area_estimate._Samples(path, "ecp5")
    assert again.mapped([("a", False), ("ccc", False)], True)[0] == {"": {"LUT4": 1}}
    # with other blocks, or none in elements, a netlist is mapped for itself
    again.mapped([("a", False)], False)
    again.mapped([("a", True)], True)
    assert asked[1:] == [["ccc"], ["a"], ["a"]]
    assert area_estimate._Samples(path, "ecp5").known == again.known and len(again.known) == 5


def test_samples_of_other_hardware_or_of_another_chip_are_taken_anew(tmp_path, monkeypatch):
    samples = area_estimate._Samples(tmp_path / "samples.jsonl", "ecp5")
    samples.keep("chip", 0, True, CHIP, modules={})
    samples = area_estimate._Samples(samples.path, "ecp5")
    assert not samples.is_new("chip", 0, CHIP) and samples.is_new("chip", 1, CHIP)
    assert samples.is_new("chip", 0, replace(CHIP, queue_depth=8))
    monkeypatch.setattr(area_estimate, "hardware_hash", lambda: "another")
    assert samples.is_new("chip", 0, CHIP)


def test_costs_are_found_where_there_are_some():
    """Three for each bit, none for what only seems to matter, and never a negative one."""
    rows = [({"1": 1.0, "bits": float(n), "noise": float(n * 7919 % 13)}, 3.0 * n + 5)
            for n in range(1, 30)]
    costs = area_estimate.fitted(rows)
    assert costs["bits"] == pytest.approx(3, abs=0.01) and costs["1"] == pytest.approx(5, abs=0.1)
    assert costs.get("noise", 0) < 0.01
    assert all(cost > 0 for cost in area_estimate.fitted(
        [({"1": 1.0, "less": -row["bits"]}, figure) for row, figure in rows]).values())


def test_layers():
    for name, (shape, stack) in layers.NETWORKS.items():
        made = common.built(common.int8_network(name, shape, stack), CHIP)
        assert len(made.program.host.layers) == len(stack)


@pytest.mark.slow
@pytest.mark.parametrize("name", field_networks.SMALL)
def test_field_networks(name):
    net, output = field_networks.SMALL[name]()
    made = common.built(net.model(output), field_networks.arch_for(),
                        recipe=Recipe(range="min-max"),
                        calibration=field_networks.images(net, 1))
    run = common.same(common.simulate(made, field_networks.images(net, 1), "isa"))
    found = run.outputs if isinstance(run.outputs, np.ndarray) else next(iter(run.outputs.values()))
    assert np.isfinite(found).all()


def test_public_networks(tmp_path, monkeypatch, capsys):
    """A file that is there is measured without the packages that make it, and once; without the
    file, the missing package is named."""
    net, output = field_networks.autoencoder(64)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(net.model(output).SerializeToString())

    def make():
        raise ModuleNotFoundError("No module named 'zoo_of_nobody'", name="zoo_of_nobody")
    model = public_models.Model("Tiny", (64,), "nobody", "keras", make)
    monkeypatch.setattr(public_networks, "MODELS", {"tiny": model, "gone": model})
    monkeypatch.setattr(public_models, "MODELS", {"tiny": model, "gone": model})
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(
        utils=SimpleNamespace(set_random_seed=lambda seed: None)))
    arguments = ["public_networks.py", "--networks", "tiny,gone", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    for _ in range(2):
        with pytest.raises(SystemExit):
            public_networks.main()
        said = capsys.readouterr()
        assert "| Tiny" in said.out and "zoo_of_nobody is missing" in said.err
        assert "pip install .[zoo]" in said.err
    row, = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert row["row"]["layers"] == 10 and row["row"]["result dB"] > 25
    assert row["row"]["result dB"] == pytest.approx(row["row"]["result dB, ORT"], abs=1)
    monkeypatch.setattr(sys, "argv", [*arguments, "--measure", "0"])
    with pytest.raises(SystemExit, match=r"^0$"):
        public_networks.main()
    assert "| Tiny" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn-ts"])
def test_exported_networks(name, tmp_path):
    """Where the packages are."""
    pytest.importorskip("torch")
    pytest.importorskip("pytorchcv")
    model, path = public_models.MODELS[name], public_models.export(name, tmp_path)
    made = build(path, field_networks.arch_for(), tmp_path / "build", area=False,
                 calibration=public_models.images(model.shape, 2), recipe=Recipe(range="min-max"))
    common.same(common.simulate(made, public_models.images(model.shape, 1), "isa"))


@pytest.mark.parametrize("seed", [5, 30, 72, 102, 115, 138, 315, 365, 402])
def test_check_and_build_agree_on_random_networks(seed, monkeypatch):
    """A few of the networks of `bench/agreement.py`, some of which were faults."""
    for name in ("core_verilog", "board_verilog"):
        monkeypatch.setattr(build_module, name, getattr(build_module, name))    # restored after
    monkeypatch.setattr(agreement, "_core_verilog", lambda arch: "")
    found = agreement.tried(seed)
    assert found["faults"] == [] and found["decibels"] > 40


@pytest.mark.parametrize("kind", exactness.KINDS)
def test_codes_are_those_of_exact_arithmetic_but_next_to_ties(kind):
    row = exactness.measured(kind, 6, 100)
    assert row["networks"] == 6 and row["codes"] > 1000
    assert row["share"] <= 0.001 and row["steps"] <= 1 and row["farthest"] < 1 / 200


def test_codes_that_are_not_exact_are_found(monkeypatch):
    """Multipliers that are off by a thousandth."""
    real = exactness.load

    def rounded(model):
        graph = real(model)
        layers = []
        for layer in graph.layers:
            multiplier = layer.requantization.multiplier
            layers.append(changed(layer, multiplier=multiplier + multiplier // 1000))
        return replace(graph, layers=layers)
    monkeypatch.setattr(exactness, "load", rounded)
    row = exactness.measured("plain", 6, 100)
    assert row["share"] > 0.001 and row["farthest"] > 1e-3


@pytest.mark.parametrize("function, pin, states", [
    ("!((A1&A2)|B1)", "A1", [({"A2": True, "B1": False}, False)]),
    ("(A0&!S)|(A1&S)", "S", [({"A0": False, "A1": True}, True),
                             ({"A0": True, "A1": False}, False)]),
    ("A^B", "A", [({"B": False}, True), ({"B": True}, False)])])
def test_states_of_a_cell_that_let_an_input_through(function, pin, states):
    assert list(sky130.conditions(function, pin)) == states


def test_a_library_of_measured_cells_is_a_liberty_file(tmp_path):
    loads = sky130.LOADS
    times = {(edge, slope, load): (slope + load, load) for edge in "rf" for slope in sky130.SLOPES
             for load in loads}
    (tmp_path / "x.lib").write_text(sky130.library_text([
        sky130.Cell("nand2_1", 3.7536, "Y", "!(A&B)", {"A": 0.002, "B": 0.003}, loads,
                    (sky130.Arc("A", False, times), sky130.Arc("B", False, times))),
        sky130.Cell("dfxtp_1", 20.0192, "Q", "IQ", {"CLK": 0.001, "D": 0.001}, loads,
                    (sky130.Arc("CLK", True, times),), {"r": 0.08, "f": 0.16})]))
    text = (tmp_path / "x.lib").read_text()
    found = read_liberty(tmp_path / "x.lib")
    assert (found.nand2, found.flipflops) == (3.7536, {"dfxtp_1"})
    assert "timing_sense : negative_unate;" in text and 'values ("0.16");' in text
    assert text.count("{") == text.count("}") and '"0.02050, 0.03000, 0.07000"' in text

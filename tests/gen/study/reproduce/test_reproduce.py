"""Published figures: those that take no tools come out, and what falls short is said."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx
import pytest
from systolith.gen.cli.main import main
from systolith.gen.importer.run import run_model
from systolith.gen.kit.errors import UserError
from systolith.gen.study.reproduce import (
    STUDIES,
    Figure,
    areas,
    pools,
    reproduce,
    resnet,
    ships,
    study,
    table,
)
from systolith.gen.study.reproduce.squeezenet import squeezenet_graph

from ....onnx_networks import Network


@pytest.mark.parametrize("name", ["omse", "sawb", "shift", "mx", "settle", "pokebnn"])
def test_figures_are_as_published(name):
    figures = reproduce([name])[name]
    assert figures and all(item.good for item in figures), table({name: figures})


def test_squeezenet_has_its_products():
    """As the paper and all its implementations have: 0.35 G."""
    graph = squeezenet_graph()
    assert sum(layer.macs for layer in graph.layers) == 349_151_936
    assert graph.tensors["fire9"].shape == (512, 13, 13)


def small(tmp_path, name, size, layers):
    """Write a network of random weights: pixels to logits, whose layers are (operator, weight)."""
    net = Network(np.random.default_rng(0), (1, size, size))
    x = "x"
    for operator, weight, attributes in layers:
        x = net.node(operator, x, *([] if weight is None else [weight]), **attributes)
    model = net.model(x)
    for item in [*model.graph.input, *model.graph.output, *model.graph.node]:
        for old, new in (("x", "input"), (x, "logits")):
            if getattr(item, "op_type", None):
                item.input[:] = [new if name == old else name for name in item.input]
                item.output[:] = [new if name == old else name for name in item.output]
            elif item.name == old:
                item.name = new
    onnx.save(model, tmp_path / name)
    return model


def test_points_of_accuracy_are_counted_on_the_golden_model(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    model = small(tmp_path, "digits-resnet-float.onnx", 28, [
        ("Conv", np.float32(rng.standard_normal((4, 1, 7, 7)) / 7), {"strides": [7, 7]}),
        ("Relu", None, {}), ("Flatten", None, {}),
        ("Gemm", np.float32(rng.standard_normal((64, 10)) / 8), {})])
    pixels = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    images = pixels[:, None].astype(np.float32) / np.float32(255)
    labels = run_model(model, {"input": images}, ["logits"])["logits"].argmax(axis=1)
    np.savez(tmp_path / "digits-test.npz", calibration=pixels[:30], images=pixels, labels=labels)
    monkeypatch.setattr(resnet, "_MOST", {("int8", "int8"): 20, ("int2", "int2"): 5})
    fine, coarse = resnet.resnet(tmp_path)
    assert fine.good and "of 100.0 in floats" in fine.what and float(fine.found) < 20
    assert not coarse.good and float(coarse.found) > 20
    # Weights of at most four, with bytes that follow.
    monkeypatch.setattr(pools, "_MOST", {"int8": None, "pool2": 200, "int2": -100})
    plain, _, pool, sizes, narrow, _ = pools.pools(tmp_path)
    assert plain.good and pool.good and not narrow.good and "," in pool.found
    assert sizes.published.startswith("0.25 of int8's bytes")
    # The first images alone.
    labels[1:] = 10
    np.savez(tmp_path / "digits-test.npz", calibration=pixels[:30], images=pixels, labels=labels)
    assert "of 100.0 in floats" in resnet.resnet(tmp_path, 1)[0].what


def test_points_of_iou_are_counted_on_the_golden_model(tmp_path, monkeypatch):
    small(tmp_path, "ships-unet-float.onnx", ships.SIZE, [
        ("Conv", np.float32([[[[20.0]]]]), {}),
        ("Add", np.float32(-9).reshape(1, 1, 1, 1), {})])
    monkeypatch.setattr(ships, "_HELD_OUT", 20)
    monkeypatch.setattr(ships, "_CALIBRATED", 10)
    images, masks = ships.images_of_ships(20, ships.TEST)
    exact = 100 * ships.iou(images > 0.45, masks)
    assert exact > 25
    for most, good in ((100, True), (-100, False)):
        monkeypatch.setattr(ships, "_PUBLISHED", {"e3m2": most, "int6": most})
        figures = ships.unet(tmp_path)
        assert [item.good for item in figures] == [good, good]
        assert f"of {exact:.1f} in floats" in figures[0].what


def test_images_of_ships():
    images, masks = ships.images_of_ships(50, 3)
    assert images.shape == masks.shape == (50, 1, 32, 32) and images.dtype == np.float32
    assert 0 <= images.min() and images.max() <= 1
    again, other = ships.images_of_ships(50, 3)[0], ships.images_of_ships(50, 4)[0]
    assert np.array_equal(images, again) and not np.array_equal(images, other)
    # Ships are brighter than the sea, and a tenth of the pixels at most.
    assert images[masks].mean() > images[~masks].mean() + 0.3 and 0.01 < masks.mean() < 0.15
    assert ships.iou(masks, masks) == 1 and ships.iou(~masks, masks) == 0


def test_unknown_names():
    with pytest.raises(UserError, match="there is no study 'osme'; did you mean 'omse'"):
        reproduce(["osme"])


def test_a_study_runs_while_it_is_shown(monkeypatch):
    seen = []

    @contextmanager
    def show(name):
        seen.append(f"{name} begins")
        yield
        seen.append(f"{name} ends")
    shown = replace(STUDIES["sawb"], run=lambda: seen.append("runs") or [])
    monkeypatch.setitem(study.STUDIES, "sawb", shown)
    assert reproduce(["sawb"], show) == {"sawb": []}
    assert seen == ["sawb begins", "runs", "sawb ends"]


def test_the_command(capsys, tmp_path, monkeypatch):
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in STUDIES) and "1902.06822" in out
    path = tmp_path / "figures.json"
    assert main(["reproduce", "settle", "--json", str(path)]) == 0
    assert "16584, 22" in capsys.readouterr().out
    assert json.loads(path.read_text())["settle"][0]["published"] == "16584, 22"
    short = replace(STUDIES["settle"], run=lambda: [Figure("a", "1", "2", False)])
    monkeypatch.setitem(study.STUDIES, "settle", short)
    assert main(["reproduce", "settle"]) == 3
    assert "| short |" in capsys.readouterr().out


def test_ways_in_which_elements_of_blocks_are_compared(monkeypatch):
    """DSP blocks multiply by scales alone, where those have a mantissa."""
    asked = []
    monkeypatch.setattr(areas, "_share", lambda *way: asked.append(way) or 0.1)
    assert all(item.good for item in areas.block_elements())
    assert {way[2:] for way in asked} == {
        ("asic", False, 16), ("xc7", False, 16), ("xc7", True, 16), ("xc7", False, 32)}
    assert {way[1] for way in asked if way[3]} == {"nvfp4", "mls"}
    assert {way[1] for way in asked if way[4] == 32} == {"mxint8", "mxfp8", "mxfp6", "mxfp4"}
    monkeypatch.setattr(areas, "_share", lambda *_: 0.101)
    assert not any(item.good for item in areas.block_elements())

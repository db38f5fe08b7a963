"""Points of a sweep that has run: explained, built, verified, listed by other objectives."""

import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from systolith.gen.cli.main import main
from systolith.gen.flow import build as flow
from systolith.gen.flow.build import open_build
from systolith.gen.flow.compile import compile_network
from systolith.gen.flow.simulate import simulate
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.report import pareto
from systolith.gen.report.pareto import read_results
from systolith.gen.study.sweep import verify as module
from systolith.gen.study.sweep.explain import Explanation
from systolith.gen.study.sweep.found import find
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.serve import serving
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.shared_cycles import cycles_together

DIGITS = Path(__file__).resolve().parents[4] / "examples" / "digits"
FLOAT = (f'{{ path = "{DIGITS}/digits-cnn-float.onnx", data = "{DIGITS}/digits-test.npz", '
         'images = 20 }')
SPACE = f"""
area = "none"
dsp = "post"
objectives = ["cycles", "accuracy"]
[[group]]
name = "digits"
chip = {{ array = {{ rows = 4, columns = 4 }}, buffers = {{ parameters = 512, weights = 2048 }} }}
networks = ["{DIGITS}/digits-cnn-int8.onnx", {FLOAT}]
vary = {{ "array.columns" = [4, 8] }}
together = [{{ "array.activation" = ["int8", "int6"], "array.weight" = ["int8", "int4"] }}]
when = ["array.columns == 8 or array.weight == 'int8'"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of three chips: 4 and 8 columns, and 8 columns with narrower numbers."""
    base = tmp_path_factory.mktemp("sweep")
    (base / "space.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "write_pictures", lambda *arguments: [])
        sweep(base / "space.toml", base / "out")
    return base / "out"


def points(folder):
    return read_results(folder)["points"]


def test_float_networks_are_quantized_to_each_points_formats(folder):
    first, second, narrow = points(folder)
    assert first["networks"]["digits-cnn-float"]["recipe"] is not None
    # the quantized network holds int8, which the narrow chip does not
    assert "int" in narrow["networks"]["digits-cnn-int8"]["error"] and not narrow["figures"]
    wide, small = (item["networks"]["digits-cnn-float"]["figures"] for item in (second, narrow))
    assert small["ace"] * 64 == wide["ace"] * 24 and small["bops"] < wide["bops"]
    assert small["weight_bytes"] * 2 == pytest.approx(wide["weight_bytes"], rel=0.01)
    assert wide["accuracy"] >= 0.9 and small["energy_uj"] < wide["energy_uj"]
    assert second["figures"]["cycles"] == sum(
        item["cycles"] for item in second["networks"].values())
    assert second["figures"]["accuracy"] is None            # one network has no data
    assert second["figures"]["cycles"] < first["figures"]["cycles"]


def test_a_point_is_built_as_it_was_measured(folder, tmp_path):
    result = points(folder)[1]
    assert main(["build", "--from-sweep", str(folder), result["id"], "--network",
                 "digits-cnn-float", "--no-area", "-o", str(tmp_path / "build")]) == 0
    made = open_build(tmp_path / "build")
    assert made.arch.structure == "lut4" and made.arch.name == result["id"]
    found = simulate(made, np.zeros((1, 1, 28, 28), np.float32))
    assert found.cycles_model == result["networks"]["digits-cnn-float"]["cycles"]


def test_each_network_of_a_point_is_built_where_none_is_named(folder, tmp_path):
    wide, narrow = points(folder)[1:]
    assert main(["build", "--from-sweep", str(folder), wide["id"], "--no-area", "-o",
                 str(tmp_path / "both")]) == 0
    assert sorted(item.name for item in (tmp_path / "both").iterdir()) == [
        "digits-cnn-float", "digits-cnn-int8"]
    for name, item in wide["networks"].items():
        assert cycles(open_build(tmp_path / "both" / name).program).cycles == item["cycles"]
    # only one of them runs on the narrow chip, and the folder is that one's
    assert main(["build", "--from-sweep", str(folder), narrow["id"], "--no-area", "-o",
                 str(tmp_path / "one")]) == 0
    assert open_build(tmp_path / "one").program.host.network == "digits-cnn-float"


def test_another_network_is_built_for_a_points_chip(folder, tmp_path):
    result = points(folder)[1]
    assert main(["build", str(DIGITS / "digits-small-int4.onnx"), "--from-sweep", str(folder),
                 result["id"], "--no-area", "-o", str(tmp_path / "build")]) == 0
    made = open_build(tmp_path / "build")
    assert made.program.host.network == "digits-small-float" and made.arch.name == result["id"]


def test_area_is_that_of_what_the_sweep_measures(folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(flow, "measure", lambda verilog, top, target, **words: asked.append(
        (top, target, words)))
    result = points(folder)[1]
    assert main(["build", "--from-sweep", str(folder), result["id"], "--network",
                 "digits-cnn-int8", "-o", str(tmp_path / "build")]) == 0
    assert asked == [("systolith_core", "ecp5", {"dsp": True, "pe_dsp": False})]


@pytest.mark.parametrize("words, message", [
    (["--from-sweep", "DIR", "nix"], "no points are called 'nix'"),
    (["--from-sweep", "DIR", ""], "points are called ''"),
    (["--from-sweep", "DIR", "POINT", "--network", "x"], "name one by --network"),
    (["--from-sweep", "/nowhere", "POINT"], "`systolith sweep` writes it"),
    (["net.onnx", "--from-sweep", "DIR", "POINT", "--network", "x"], "give one of them"),
    (["--from-sweep", "DIR", "POINT", "--calibration", "x.npy"], "--calibration does not go with"),
    (["--from-sweep", "DIR", "POINT", "--chip", "ulx3s-8x8"], "--chip does not go with"),
    (["--from-sweep", "DIR", "POINT", "--equalize"], "--equalize goes with --calibration only"),
    (["net.onnx", "--chip", "ulx3s-8x8", "--network", "x"], "--network goes with --from-sweep"),
    ([], "build needs MODEL.onnx and --chip, or --from-sweep DIR POINT")])
def test_mistakes(folder, tmp_path, capsys, words, message):
    names = {"DIR": str(folder), "POINT": points(folder)[0]["id"]}
    words = [names.get(word, word) for word in words]
    assert main(["build", *words, "-o", str(tmp_path / "build")]) == 1
    assert message in capsys.readouterr().err


def test_explain_says_what_binds_and_what_more_would_bring(folder, capsys):
    result = points(folder)[0]
    assert main(["explain", str(folder), result["id"][:6], "--network", "digits-cnn-int8"]) == 0
    text = capsys.readouterr().out
    cycles = result["networks"]["digits-cnn-int8"]["cycles"]
    assert f"{cycles:,} cycles" in text and "conv1" in text and "array passes" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()
            if line.startswith("| ")]
    more = {row[0]: row for row in rows if len(row) == 9}
    wider = points(folder)[1]["networks"]["digits-cnn-int8"]["cycles"]
    # as the sweep says itself
    assert more["array.columns"][1] == "4" and more["array.columns"][6:8] == ["8", f"{wider:,}"]
    assert more["bus.data_bits"][1:3] == ["64", "128"] and more["array.rows"][3] != "-"
    assert main(["explain", str(folder), result["id"]]) == 0            # both networks
    text = capsys.readouterr().out
    assert "digits-cnn-int8 on 4" in text and "digits-cnn-float on 4" in text


def test_explain_names_maps_that_leave_the_chip():
    """On 16 rows a map of 8 channels fills half of each word; where they have no room, it says so.
    """
    graph = load(DIGITS / "digits-cnn-int8.onnx")

    def explained(words):
        arch = Arch(rows=16, columns=16, activation_depth=words)
        _, program = compile_network(graph, arch)
        return Explanation(program, cycles(program), [], [])
    assert not explained(4096).outside
    small = explained(96)
    assert [(item.shape, item.words, item.filled) for item in small.outside] == [
        ((8, 14, 14), 196, 0.5), ((16, 7, 7), 49, 1.0), ((16, 7, 7), 49, 1.0)]
    assert small.outside[0].name in small.program.host.tensors


def test_pareto_by_other_objectives(folder, capsys, monkeypatch):
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])
    assert main(["pareto", str(folder), "--objectives", "energy_uj"]) == 0
    text = capsys.readouterr().out
    best = min(points(folder), key=lambda item: item["networks"]["digits-cnn-float"]["figures"][
        "energy_uj"])
    assert best["id"] in text and "results.csv" in text
    assert main(["pareto", str(folder), "--objectives", "beauty"]) == 1
    assert "'beauty' is none; objectives: cycles" in capsys.readouterr().err


def test_verify_compares_with_rtl(folder, monkeypatch):
    """Pairs whose cycles are known are drawn, none twice; a difference is seen."""
    wrong = []

    def simulated(made, inputs, engine):
        assert engine == "rtl" and inputs.shape == (1, 1, 28, 28)
        found = simulate(made, inputs)
        return SimpleNamespace(run=SimpleNamespace(cycles=found.cycles_model + len(wrong)),
                               comparison=SimpleNamespace(bits=0), together=None)
    monkeypatch.setattr(module, "simulate", simulated)
    found = module.verify(folder, points(folder), 2)
    assert len(found) == len({(item.point, item.network) for item in found}) == 2
    assert all(item.good for item in found)
    wrong.append(1)
    (item,) = module.verify(folder, points(folder), 1)
    assert not item.good and f"{item.rtl_cycles:,}" in module.table([item])


def test_of_several_cores_an_image_on_each_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])
    (tmp_path / "space.toml").write_text(f"""
area = "none"
objectives = ["images_per_s"]
[[group]]
chip = {{ cores = 2, array = {{ rows = 4, columns = 4 }}, buffers = {{ parameters = 512 }} }}
networks = ["{DIGITS}/digits-cnn-int8.onnx"]
""")
    results, _ = sweep(tmp_path / "space.toml", tmp_path / "out")
    taken = results[0]["networks"]["digits-cnn-int8"]
    assert taken["cycles"] < taken["cycles_together"] < 2 * taken["cycles"]
    rate = results[0]["figures"]["images_per_s"] * taken["cycles_together"]
    assert rate == pytest.approx(2e6 * results[0]["figures"]["clock_mhz"])
    wrong = []

    def simulated(made, inputs, engine):
        found = simulate(made, inputs)
        assert found.images == 2
        counted = cycles_together(made.program)
        return SimpleNamespace(run=SimpleNamespace(cycles=found.cycles_model),
                               comparison=SimpleNamespace(bits=0),
                               together=(counted + len(wrong), counted))
    monkeypatch.setattr(module, "simulate", simulated)
    (item,) = module.verify(tmp_path / "out", results, 1)
    assert item.good and item.cycles == taken["cycles_together"]
    wrong.append(1)
    (item,) = module.verify(tmp_path / "out", results, 1)
    assert not item.good


def test_a_point_is_found_by_how_its_name_begins(folder):
    result = points(folder)[0]
    assert find(folder, result["id"][:6], "digits-cnn-int8").net.recipe is None
    with pytest.raises(UserError, match="name one by --network"):
        find(folder, result["id"])


def test_the_page_is_served_to_this_machine_alone():
    count = []

    def page():
        count.append(1)
        return f'<p>{len(count)}</p><section id="winners">'

    def get(path, **headers):
        request = urllib.request.Request(address + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()
    with serving(page, lambda: {"state": "running"}, 0) as address:
        assert address.startswith("http://127.0.0.1:")
        assert "<p>1</p>" in get("") and "<p>2</p>" in get("") and 'id="live"' in get("")
        assert get("status.json") == '{"state": "running"}'
        for path, headers, code in (("results.jsonl", {}, 404), ("../x", {}, 404),
                                    ("", {"Host": "evil.example:80"}, 403)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                get(path, **headers)
            assert caught.value.code == code
            caught.value.close()
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match="give another port"), serving(page, dict, port):
            pass

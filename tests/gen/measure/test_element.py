"""`systolith pe`: the files of one processing element, played in Verilator, and what is refused."""

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest
from amaranth.hdl import Fragment
from systolith.gen.cli.main import main
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import MANIFEST
from systolith.gen.measure import element as pe
from systolith.gen.measure import element_vectors
from systolith.hw.element.element import arithmetic
from systolith.hw.formats import parse
from systolith.sim.rtl import verilate

FILES = ["pe.v", "edge.v", "vectors.csv", "testbench.v", "pe.json"]


def play(folder):
    sources = {name: (folder / name).read_text() for name in ("testbench.v", "pe.v", "edge.v")}
    return verilate.run(verilate.build(sources, "testbench"), folder=folder)


def read(folder):
    return json.loads((folder / "pe.json").read_text())


def lines(folder):
    with (folder / "vectors.csv").open() as file:
        return [{name: int(cell, 16) for name, cell in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pe") / "out"
    assert main(["pe", "--activation", "e2m1", "--weight", "e3m0", "--rows", "5", "-o",
                 str(folder)]) == 0
    return folder


def test_the_files(small):
    assert sorted(path.name for path in small.iterdir()) == sorted([*FILES, MANIFEST])
    text = (small / "pe.v").read_text()
    assert len(re.findall(r"^module (\S+?)\(", text, re.MULTILINE)) == 1
    assert "systolith pe --activation e2m1 --weight e3m0 --lanes 1 --rows 5 --target xc7" in text
    assert "init" not in text
    assert re.findall(r"^module (\S+?)\(", (small / "edge.v").read_text(), re.MULTILINE) == [
        "systolith_activation_edge", "systolith_weight_edge"]


def test_every_pair_is_played_and_passes(small):
    assert "PASS" in play(small)
    rows, pairs, shadow, active = lines(small), set(), None, None
    for row in rows:
        active = shadow if row["swap"] else active
        shadow = row["weight"] if row["load"] else shadow
        pairs.add((row["activation"], active))
    assert pairs >= {(a, w) for a in range(16) for w in range(16)}
    assert all(row["check"] for row in rows[3:])


def test_a_wrong_result_fails(small, tmp_path):
    rows = (small / "vectors.csv").read_text().splitlines()
    cells = rows[100].split(",")
    rows[100] = ",".join([*cells[:-1], f"{int(cells[-1], 16) ^ 1:0{len(cells[-1])}x}"])
    for name in FILES:
        (tmp_path / name).write_bytes((small / name).read_bytes())
    (tmp_path / "vectors.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(verilate.SimulationError, match=r"FAIL: 1 of \d+ cycles"):
        play(tmp_path)


def test_the_data_sheet_describes_the_verilog(small):
    data, text = read(small), (small / "pe.v").read_text()
    declared = {}
    for direction, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", text,
                                            re.MULTILINE):
        declared[name] = (direction, int(high or 0) + 1)
    assert declared == {port["name"]: (port["direction"], port["width"]) for port in data["ports"]}
    roles = {port["role"] for port in data["ports"]}
    assert {"clock", "activation", "weight", "load", "swap", "psum_in", "psum_out"} <= roles
    assert data["psum"]["exponent"] == parse("e2m1").exponent + parse("e3m0").exponent
    assert data["registers"] >= sum(port["width"] for port in data["ports"]
                                    if port["direction"] == "output")


@pytest.mark.parametrize("options", [
    {"activation": "lns4", "weight": "lns5r8", "stages": None, "lanes": 2},
    {"activation": "e3m0x2", "weight": "ternary", "columns": 2, "target": "asic"},
    {"activation": "e2m1", "weight": "e3m2flush", "columns": 3, "dsp": True, "stages": 3},
    {"activation": "uint3", "weight": "bipolar1", "columns": 2, "lanes": 7, "target": "ice40"},
    {"activation": "int5", "weight": "int4", "columns": 2, "dsp": True, "stages": 2},
], ids=lambda options: f"{options['activation']} x {options['weight']}")
def test_families_and_columns_pass(options, tmp_path):
    config = pe.PeConfig(**options)
    pe.write_pe(config, tmp_path / "pe")
    assert "PASS" in play(tmp_path / "pe")
    data, columns = read(tmp_path / "pe"), config.columns
    assert data["command"] == f"{config.command} -o DIR" and data["columns"] == columns
    for role in ("weight", "psum_in", "psum_out"):
        port = next(port for port in data["ports"] if port["role"] == role)
        assert ("columns" in port) == (columns > 1)
        for n, place in enumerate(port.get("columns", [])):
            assert place == {"lowest_bit": n * place["width"], "width": port["width"] // columns}


def test_logarithms_say_what_a_product_is(tmp_path):
    """The data sheet's table gives every psum_out of vectors.csv."""
    pe.write_pe(pe.PeConfig(activation="lns4", weight="lns4", rows=4), tmp_path / "pe")
    data = read(tmp_path / "pe")
    product, bits = data["product"], data["psum"]["bits"]
    assert product["unit_exponent"] == data["psum"]["exponent"] == -6

    def image(a, w):
        log = (a & 7) + (w & 7)
        size = product["table"][log % product["root"]] << log // product["root"]
        return (a & 7 and w & 7 and size) * (-1 if (a ^ w) & 8 else 1)
    rows, active, shadow = lines(tmp_path / "pe"), [], None
    for row in rows:
        active.append(shadow if row["swap"] else active[-1] if active else None)
        shadow = row["weight"] if row["load"] else shadow
    for cycle, row in enumerate(rows):
        if row["check"]:
            met, before = cycle - 1 - data["stages"], rows[cycle - 1]["psum_in"]
            added = image(rows[met]["activation"], active[met])
            assert (row["psum_out"] - before - added) % (1 << bits) == 0


@pytest.mark.parametrize("activation, weight, lanes", [
    ("bipolar1", "bipolar1", 5), ("int3", "int12", 2)])
def test_a_column_by_the_data_sheet(activation, weight, lanes, tmp_path):
    """Head, offsets and total of pe.json give the exact sum of a column."""
    folder, rows = tmp_path / "pe", 3
    pe.write_pe(pe.PeConfig(activation=activation, weight=weight, lanes=lanes, rows=rows), folder)
    assert "PASS" in play(folder)
    data, random = read(folder), np.random.default_rng(5)
    formats = parse(activation), parse(weight)
    a, w = (random.integers(0, 1 << fmt.width, (rows, lanes)) for fmt in formats)
    psum, scale = data["psum"], data["psum"]["exponent"] - data["psum"]["offset"]["unit_exponent"]
    value = psum["head"] << scale
    for images in zip(formats[0].image(a), formats[1].image(w), strict=True):
        value += int((images[0] * images[1]).sum()) + psum["offset"]["value"]
    total = data["total"]
    value = ((value >> scale) << total["shift"]) + total["residue"]
    value = (value + (1 << total["bits"] - 1)) % (1 << total["bits"]) - (1 << total["bits"] - 1)
    exact = (formats[0].decode(a) * formats[1].decode(w)).sum()
    assert value * 2.0 ** total["exponent"] == exact


def test_hundreds_of_lanes_are_written():
    rules = pe.PeConfig(activation="e1m0", weight="e1m0", lanes=300).arithmetic()
    assert pe.pe_verilog(rules).count("module systolith_pe") == 1


def test_codes_of_nan_never_come_in():
    finite = parse("e4m3fn").finite_codes()
    assert len(finite) == 254 and not {0x7f, 0xff} & set(finite.tolist())
    corners = parse("int16").decode(element_vectors.corner_codes(parse("int16")))
    assert {-32768, -1, 0, 1, 32767} <= set(corners.tolist())


def test_an_earlier_result_is_replaced_and_nothing_else(small, tmp_path):
    config = pe.PeConfig(activation="int2", weight="int2")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files than an earlier result"):
        pe.write_pe(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("change, message", [
    ({"activation": "e9m9"}, "activation: a Float must have"),
    ({"columns": 0}, "columns must be from 1 to 64, not 0"),
    ({"activation": "lns8", "weight": "lns8r4"}, "no processing element for lns8 x lns8r4: "),
    ({"activation": "lns8", "weight": "int4"}, "no processing element for lns8 x int4: "),
    ({"weight": "foo"}, "weight: 'foo' is no number format"),
    ({"activation": "e2m1", "weight": "bipolar1"},
     "no processing element for e2m1 x bipolar1: "),
    ({"lanes": 0}, "lanes must be from 1 to 1024, not 0"),
    ({"rows": 0}, "rows must be from 1 to 1024, not 0"),
    ({"target": "stratix"}, "target must be one of xc7, ecp5, ice40, asic, not 'stratix'"),
    ({"stages": 99}, "no processing element for int4 x int4: stages of .* not 99"),
])
def test_refused(change, message, tmp_path):
    config = pe.PeConfig(**({"activation": "int4", "weight": "int4"} | change))
    with pytest.raises(UserError, match=message):
        pe.write_pe(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_wrong(capsys, tmp_path):
    out = str(tmp_path / "out")
    assert main(["pe", "--activation", "int4", "--weight", "foo", "-o", out]) == 1
    assert "weight: 'foo' is no number format" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pe", "--activation", "int4", "--weight", "int4", "--lanes", "0", "-o", out])
    assert "--lanes: must be a whole number from 1 up, not '0'" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [1, 3])
def test_an_edge_decodes_one_activation_and_a_weight_of_each_column(columns):
    rules = arithmetic(parse("e3m2"), parse("e2m1"), 2, 8, columns=columns)
    for name, number in (("activation", 1), ("weight", columns)):
        module, codes, decoded = element_vectors.edge(rules, name)
        Fragment.get(module, None)          # Amaranth warns of modules that nothing uses
        assert len(codes) == number * 2 * getattr(rules, name).width
        assert len(decoded) == number * getattr(rules, f"{name}_bits") > 0


def test_partial_sums_are_corners_often():
    """Each of the five some 50 times of 2,000."""
    rules = arithmetic(parse("int8"), parse("int8"), 1, 16)
    random = np.random.default_rng(1)
    counts = Counter(element_vectors._psum(random, rules) for _ in range(2000))
    top = 1 << rules.psum_bits
    assert all(counts[corner] > 25 for corner in (0, 1, top - 1, top // 2, top // 2 - 1))

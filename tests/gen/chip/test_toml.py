"""Chip files: presets load, every mistake has one clear message, writing and reading agree."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.gen.chip import toml
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity


def chip(text, overrides=()):
    return toml.chip_from_dict(tomllib.loads(text), "chip.toml", overrides)


def message(text, overrides=()):
    with pytest.raises(UserError) as caught:
        chip(text, overrides)
    return str(caught.value)


ARRAY = "[array]\nrows = 3\ncolumns = 5\n"


@pytest.mark.parametrize("name", toml.preset_names())
def test_presets_load_and_carry_their_names(name):
    assert toml.load_chip(name).name == name


def test_named_presets_exist():
    assert {"ulx3s-8x8", "ulx3s-8x8-e3m2", "sim-16x16-int8"} <= set(toml.preset_names())
    assert toml.preset_names()[0].startswith("icebreaker")
    assert toml.preset_names()[-1].startswith("big")


def test_sim_preset_holds_resnet20():
    arch = toml.load_chip("sim-16x16-int8")
    # array fillings of 16 x 16 weights: first layer, three stages of six convolutions, two 1 x 1
    # shortcuts, dense
    fillings = 9 + 6 * 9 + (9 * 2 + 5 * 9 * 4) + (9 * 2 * 4 + 5 * 9 * 16) + 2 + 8 + 4
    assert fillings * arch.rows == 17072 <= arch.weight_depth
    assert arch.activation_depth >= 4 * 32 * 32
    assert (arch.board, arch.bus_bits, arch.rows, arch.columns) == ("none", 64, 16, 16)


def test_only_rows_and_columns_are_required():
    arch = chip(ARRAY)
    assert (arch.rows, arch.columns) == (3, 5)
    assert arch == Arch(rows=3, columns=5)


@pytest.mark.parametrize("missing", ["rows", "columns"])
def test_missing_size(missing):
    text = "\n".join(line for line in ARRAY.splitlines() if not line.startswith(missing))
    assert f"chip.toml: array.{missing} is missing" in message(text)


@pytest.mark.parametrize("text, words", [
    (ARRAY + "rws = 7", ["array.rws is no key", "did you mean array.rows?", "Keys of [array]"]),
    ("rows = 7\n" + ARRAY, ["rows is no key", "did you mean array.rows?"]),
    (ARRAY + "[bufers]\nweights = 7", ["[bufers] is no section", "did you mean [buffers]?"]),
    (ARRAY + "[colour]\nx = 7", ["[colour] is no section", "[clock]"]),
    ("array = 7", ["array must be a section [array], not 7"]),
    (ARRAY + "lanes = 0", ["array.lanes must be a whole number from 1 to 1024, not 0"]),
    (ARRAY + "lanes = -2", ["array.lanes", "not -2"]),
    (ARRAY + "lanes = 1.5", ["array.lanes", "not 1.5"]),
    (ARRAY + "lanes = true", ["array.lanes", "not true"]),
    (ARRAY + "lanes = '1'", ["array.lanes", "not '1'"]),
    (ARRAY + "lanes = [1]", ["array.lanes", "not [1]"]),
    (ARRAY + "lanes = 5000", ["array.lanes must be a whole number from 1 to 1024, not 5000"]),
    (ARRAY + "weight = 8", ["array.weight must be the name of a number format", "not 8"]),
    (ARRAY + "weight = 'float8'", ["array.weight", "'float8' is no number format", "e4m3"]),
    (ARRAY + "weight = 'int77'", ["array.weight", "from 1 to 16, not 77"]),
    (ARRAY + "weight = 'bipolar1'", ["must both be bipolar1", "int8, weight is bipolar1"]),
    (ARRAY + "weight = 'lns8t0'", ["weight must be a logarithm of 8 bits or fewer", "not lns8t0"]),
    (ARRAY + "weight = 'lns8'", ["array.activation and weight must be logarithms",
                                 "activation is int8, weight is lns8"]),
    (ARRAY + "accumulator = 'wide'", ["array.accumulator must be \"exact\" or a whole number"]),
    (ARRAY + "accumulator = 4", ["array.accumulator must be \"exact\" or from 17"]),
    (ARRAY + "structure = 'lut5'", ["array.structure must be one of \"auto\", \"lut6\"",
                                   "not 'lut5'"]),
    (ARRAY + "structure = 6", ["array.structure must be one of", "not 6"]),
    (ARRAY + "stages = 0", ["array.stages must be \"auto\" or a whole number from 1 to 64, not 0"]),
    (ARRAY + "stages = 60", ["array.stages of int8 x int8", "must be from 1 to", "not 60"]),
    (ARRAY + "shared_columns = 2", ["array.shared_columns must divide columns (5), not 2"]),
    (ARRAY + "[post]\nlanes = 4", ["post.lanes must divide columns (5)", "not 4"]),
    (ARRAY + "[buffers]\nweights = 2", ["buffers.weights must hold the 3 rows", "not 2"]),
    (ARRAY + "[buffers]\naccumulators = 99999999",
     ["buffers.accumulators must be a whole number from 2 to 65536, not 99999999"]),
    (ARRAY + "[bus]\ndata_bits = 48",
     ["bus.data_bits must be one of 32, 64, 128, 256, 512, not 48"]),
    (ARRAY + "[bus]\nburst_beats = 3", ["bus.burst_beats must be a power of two, not 3"]),
    (ARRAY + "[clock]\nmhz = 0",
     ["clock.mhz must be \"auto\" or a number of MHz greater than 0, not 0"]),
    ('board = "ulx3s-85f"\n' + ARRAY + "[clock]\nmhz = 401",
     ["clock.mhz: the PLL of the ulx3s-85f makes 3.125 to 400 MHz, not 401"]),
    ('board = "icebreaker"\n' + ARRAY + "[clock]\nmhz = 13",
     ["clock.mhz: the PLL of the icebreaker makes 16 to 275 MHz, not 13"]),
    ('board = "ulx3s-12f"\n' + ARRAY + "[clock]\nmhz = 3.5",
     ["makes 3.125 MHz, of which the serial line's 1,000,000 bits a second are no whole part"]),
    (ARRAY + "[clock]\nmhz = nan", ["clock.mhz", "not nan"]),
    ("board = 'arty'\n" + ARRAY, ["board must be one of \"none\", \"ulx3s-85f\"", "not 'arty'"]),
    ("name = ''\n" + ARRAY, ["name must be a text"]),
    ("name = {a = 1}\n" + ARRAY, ["name must be a text", "not a table"]),
])
def test_mistakes(text, words):
    found = message(text)
    assert found.startswith("chip.toml: ")
    assert all(word in found for word in words), found


def test_overrides_replace_values_and_are_named_in_errors():
    arch = chip(ARRAY, ["array.rows=7", "array.weight=int4", 'name="seven"', "post.lanes=auto"])
    assert (arch.rows, str(arch.weight), arch.name) == (7, "int4", "seven")
    assert message(ARRAY, ["array.rows=0"]).startswith("--set array.rows=0: array.rows must be")
    assert message(ARRAY, ["array.rows=999"]) == (
        "--set array.rows=999: array.rows must be a whole number from 1 to 256, not 999")
    assert "--set rows: must be of the form KEY=VALUE" in message(ARRAY, ["rows"])
    assert "did you mean array.rows?" in message(ARRAY, ["array.row=7"])


def test_what_the_elements_are_built_for():
    arch = chip(ARRAY + "structure = 'lut6'\nstages = 1\nshared_columns = 5")
    assert (arch.structure, arch.stages, arch.shared_columns) == ("lut6", 1, 5)
    arch = chip(ARRAY, ["array.structure=auto", "array.stages=auto"])
    assert (arch.structure, arch.stages, arch.shared_columns) == ("auto", None, 1)


def test_an_override_can_replace_a_bad_value():
    assert chip(ARRAY + "lanes = 0", ["array.lanes=2"]).lanes == 2


def test_files(tmp_path):
    path = tmp_path / "my chip.toml"
    path.write_text(ARRAY)
    assert toml.load_chip(path).name == "my-chip"
    path.write_text("[array\n")
    with pytest.raises(UserError, match=r"my chip\.toml: not valid TOML: .*line 1"):
        toml.load_chip(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no UTF-8"):
        toml.load_chip(path)
    with pytest.raises(UserError, match=r"absent\.toml: No such file"):
        toml.load_chip(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="Is a directory"):
        toml.load_chip(tmp_path)


def test_unknown_preset_lists_them():
    with pytest.raises(UserError) as caught:
        toml.load_chip("ulx3s-8x9")
    assert "did you mean 'ulx3s-8x8'?" in str(caught.value)
    assert all(name in str(caught.value) for name in toml.preset_names())


@pytest.mark.parametrize("name", toml.preset_names())
def test_commented_toml_of_presets_reads_back(name, tmp_path):
    arch = toml.load_chip(name)
    path = tmp_path / "chip.toml"
    path.write_text(toml.commented_toml(arch))
    assert toml.load_chip(path) == arch
    assert max(map(len, path.read_text().splitlines())) <= 98


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), lanes=st.integers(1, 9),
       format=st.sampled_from(["int8", "int5", "e3m2", "e4m3b9", "bipolar1"]),
       accumulator=st.sampled_from([None, 48]), clock=st.none() | st.floats(0.001, 1e4))
def test_commented_toml_reads_back(rows, columns, lanes, format, accumulator, clock):
    arch = Arch(name="any chip", rows=rows, columns=columns, lanes=lanes, activation=format,
                weight=format, accumulator=accumulator, clock_mhz=clock, weight_depth=100)
    assert chip(toml.commented_toml(arch)) == arch


def test_unsigned_activations_run_on_the_signed_array():
    unsigned = toml.load_chip("ulx3s-8x8", ["array.activation=uint8"])
    assert identity(unsigned) == identity(toml.load_chip("ulx3s-8x8"))
    with pytest.raises(UserError, match="must be a signed integer format"):
        toml.load_chip("ulx3s-8x8", ["array.weight=uint8"])

"""TOML of any text is read or refused in one line, in little time and memory."""

import os
import tracemalloc

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.toml_text import MOST_BYTES, parse_toml, read_toml
from systolith.gen.measure.macros import read_macros
from systolith.gen.quantize.recipe import read_recipe

HOSTILE = {
    "arrays": (f"a = {'[' * 20000}{']' * 20000}\n", "nested too deeply"),
    "tables": (f"a = {'{a = ' * 20000}1{'}' * 20000}\n", "nested too deeply"),
    "names": ("a." * 20000 + "b = 1\n", "line 1 has a key of more than 100 names"),
    "spaces": ("x = 1\n" + "a . " * 20000 + "b = 1\n", "line 2 has a key of more than 100 names"),
    "quoted": ("'=' . " * 5000 + "b = 1\n", "more than 100 names"),
    "inline": ("x = { " + '"#".' * 5000 + "b = 1 }\n", "more than 100 names"),
    "header": ("[" + "a." * 20000 + "b]\n", "more than 100 names"),
    "after a text": ('x = """\n\\""" a\n"""\ny = "\\""\n' + "a." * 20000 + "b = 1\n",
                     "line 5 has a key of more than 100 names"),
    "digits": (f"rows = {'9' * 5000}\n", "value has 5000 digits"),
    "large": ("x = 1 #" + "é" * MOST_BYTES, "larger than 1,048,576 bytes"),
    "unclosed": ('"""' + "a." * 20000, "not valid TOML"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line(tmp_path, name):
    text, reason = HOSTILE[name]
    path = tmp_path / "x.toml"
    path.write_text(text)
    tracemalloc.start()
    try:
        for read in (read_toml, load_chip, read_recipe, read_macros):
            with pytest.raises(UserError) as refused:
                read(path)
            assert reason in str(refused.value) and len(str(refused.value).splitlines()) == 1
            assert str(path) in str(refused.value)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [
    "a" + ".b" * 90 + " = 1\n",
    "x = [" + "0.5, " * 500 + "1.5]\n",
    'x = "' + "a." * 500 + '"\n',
    "x = '''\n" + "a." * 500 + "\n'''\n",
    "# " + "a." * 500 + "\nx = 1\n",
])
def test_what_is_no_long_key_is_read(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert read_toml(path) == parse_toml(text) != {}


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.toml")
    for path in ("/dev/zero", tmp_path / "fifo.toml"):
        for read in (read_toml, read_recipe, read_macros):
            with pytest.raises(UserError, match="is no regular file"):
                read(path)
    with pytest.raises(UserError, match="No such file"):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("value", ["[" * 20000, "9" * 5000, "{a = " * 20000])
def test_a_value_on_the_command_line_is_one_line(value):
    with pytest.raises(UserError) as refused:
        load_chip("tiny-2x4-int4", [f"array.rows={value}"])
    assert len(str(refused.value).splitlines()) == 1

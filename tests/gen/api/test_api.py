"""The face of the package: names, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import systolith

SOURCE = Path(systolith.__file__)


def test_every_name_loads_and_is_known_to_type_checkers():
    assert dir(systolith) == sorted(systolith.__all__)
    assert all(getattr(systolith, name) is not None for name in systolith.__all__)
    condition, = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in condition.body for alias in node.names}
    assert {*typed, "__version__"} == set(systolith.__all__)
    for name, module in typed.items():
        if name != "formats":
            assert getattr(systolith, name).__module__ == module
    assert systolith.formats is sys.modules["systolith.hw.formats"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'systolith' has no attribute 'biuld'"):
        _ = systolith.biuld


def test_importing_it_loads_nothing_else():
    program = ("import sys, systolith; print(systolith.__version__); "
               "print(sorted({'numpy', 'onnx', 'amaranth'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == [systolith.__version__, "[]"], done.stderr

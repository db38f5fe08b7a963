"""The hash of the code: of all that is imported, and of nothing that cannot change a result."""

import subprocess
import sys

import pytest
from systolith.gen.study import code as module
from systolith.gen.study.code import code_hash, sources

AREA = "systolith.gen.measure.chip_area"
PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*(name for name in sys.modules if name.startswith("systolith.")))
"""


@pytest.mark.parametrize("name", [AREA, "systolith.gen.flow.compile"])
def test_sources_are_all_modules_that_are_loaded(name):
    loaded = subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, text=True,
                            check=True).stdout.split()
    assert name in loaded and set(loaded) <= set(sources((name,)))


def test_what_is_not_imported_is_not_in_it():
    found = sources((AREA,))
    assert "systolith.hw.core.post" in found
    assert not [name for name in found if name.startswith(("systolith.sim", "systolith.gen.cli"))]
    assert sources(("systolith.gen.nix", "os")) == {}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A package of three modules, which imports of its own in every way; sets one's text."""
    texts = {"__init__.py": "", "one.py": "from . import two\ndef f():\n"
             "    import systolith.x.three\n", "two.py": "A = 1\n", "three.py": "B = 2\n",
             "four.py": "C = 3\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setitem(module._FOLDERS, "systolith.x", tmp_path)

    def hashed(**changes):
        for name, text in changes.items():
            (tmp_path / f"{name}.py").write_text(text)
        module._read.cache_clear()
        return code_hash.__wrapped__(("systolith.x.one",), ("numpy",))
    return hashed


def test_the_hash_changes_with_code_alone(copy, monkeypatch):
    before = copy()
    assert copy(two='"""What it is."""\nA = 1      # why\n', four="C = 4\n") == before
    assert copy(two="A = 2\n") != before
    assert copy(two="A = 1\n") == before
    assert copy(three="B = 3\n") != before
    copy(three="B = 2\n")
    monkeypatch.setattr(module, "version", lambda name: "another")
    assert copy() != before

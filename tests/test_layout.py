"""What holds for the tree as a whole: import arrows, package contents, file sizes."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {"hw": {"hw"}, "sim": {"hw", "sim"}, "gen": {"hw", "sim", "gen", "constraints"},
              "constraints": set()}
FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).glob("*.py"))]


def imported(path):
    """Parts of systolith that a file of package `path.parent` imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [{0: "", 1: f"systolith.{path.parent.name}.", 2: "systolith."}[node.level]
                     + (node.module or "")]
            if not node.module and node.level == 2:
                names = [f"systolith.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            assert name.split(".")[0] not in MAY_IMPORT, f"{path.name} imports a bare {name}"
            if name.startswith("systolith."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_point_one_way_and_files_are_short(path):
    assert set(imported(path)) <= MAY_IMPORT[path.parent.name]
    assert len(path.read_text().splitlines()) <= 600


def test_every_package_and_data_file_is_in_the_distribution():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for folder in MAY_IMPORT:
        assert setup["package-dir"][f"systolith.{folder}"] == folder
        patterns = setup.get("package-data", {}).get(f"systolith.{folder}", [])
        packed = {file for pattern in patterns for file in (ROOT / folder).glob(pattern)}
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".py":
                assert file in packed, f"{file.relative_to(ROOT)} would be missing from the wheel"
        assert not [item for item in (ROOT / folder).glob("*/*.py")], "packages are flat"

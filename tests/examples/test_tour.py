"""The notebook runs, and its stored outputs are what it prints."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    """The module docs/notebook.py."""
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "docs" / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_runs_and_prints_what_it_shows(tool):
    stored = json.loads(tool.NOTEBOOK.read_text())
    ran = tool.executed()
    assert len(ran.cells) == len(stored["cells"]) > 20
    for cell, before in zip(ran.cells, stored["cells"], strict=True):
        assert tool.texts(cell) == tool.texts(before), f"run docs/notebook.py: {cell.source}"


def test_the_page_has_pictures_and_outputs(tool):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "x", "outputs": [
            {"output_type": "stream", "text": ["a\n", "b\n"]},
            {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<F>"}},
            {"output_type": "display_data", "data": {"text/markdown": "| t |", "text/plain": ""}}]}]
    text, pictures = tool.markdown({"cells": cells})
    assert text == ("# Title\ntext\n\n```python\nx\n```\n\n```text\na\nb\n```\n\n"
                    "![Output of the cell above](tour-1.png)\n\n| t |\n")
    assert pictures == {"tour-1.png": b"hi"}
    assert tool.texts(cells[1]) == "a\nb\n"

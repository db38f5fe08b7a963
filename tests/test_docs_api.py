"""The page of `import systolith`: every name with its docstring, sections as tables."""

import importlib.util
from pathlib import Path

import pytest
import systolith


@pytest.fixture(scope="module")
def tool():
    """The module docs/api.py."""
    path = Path(__file__).parent.parent / "docs" / "api.py"
    spec = importlib.util.spec_from_file_location("docs_api", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_name_is_documented(tool):
    text = tool.api()
    for name in systolith.__all__:
        if not name.startswith("__"):
            assert f"### {name}\n" in text
    assert "simulate(build, inputs, engine" in text


def test_how_a_function_is_called(tool):
    def function(a: int, b=2, *, c: str = "x", d=object()):     # noqa: B008
        pass
    assert tool.call("f", function) == "f(a, b=2, *, c='x', d=...)"
    assert tool.call("E", systolith.UserError) == "E"


def test_sections_are_tables(tool):
    text = ("One.\n\nParameters\n----------\na : int or None\n    Up to\n    4|5.\nb\n    More.\n\n"
            "End.")
    assert tool.documented(text) == (
        "One.\n\n| parameter | type | meaning |\n|---|---|---|\n"
        "| `a` | int or None | Up to 4\\|5. |\n| `b` |  | More. |\n\nEnd.")

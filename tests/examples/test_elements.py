"""The examples of columns: written, simulated, and as the golden models say."""

import importlib.util
import re
from pathlib import Path

COLUMNS = Path(__file__).resolve().parents[2] / "examples" / "elements" / "columns.py"


def test_columns(tmp_path):
    spec = importlib.util.spec_from_file_location("element_columns", COLUMNS)
    columns = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(columns)
    lines = columns.run(list(columns.EXAMPLES), tmp_path)
    assert [line.split(":")[0] for line in lines] == ["mx", "pool", "window", "chunks"]
    for name in columns.EXAMPLES:
        assert f"module {name}_column(" in (tmp_path / f"{name}.v").read_text()
    assert int(re.search(r"; (\d+) ended", lines[2])[1]) > 0
    assert "one by one 4096," in lines[3]
    assert abs(float(re.search(r"\((\S+) %\)", lines[3])[1])) < 0.4

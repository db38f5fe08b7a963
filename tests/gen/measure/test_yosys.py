"""Runs of Yosys: failures that are seen, and none that outlives its parent."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from systolith.gen.measure import yosys
from systolith.gen.measure.area import measure
from systolith.gen.measure.yosys import AreaError


def test_what_yosys_refuses_is_an_error_with_its_words(tmp_path):
    log = tmp_path / "yosys.log"
    with pytest.raises(AreaError, match=r"no_such_module.*yosys\.log"):
        measure("module top; no_such_module x(); endmodule", "top", log=log)
    assert "no_such_module" in log.read_text()


def test_a_yosys_that_does_nothing_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(yosys, "_WORKER", "")
    with pytest.raises(AreaError, match="stopped silently, exit code 0"):
        measure("module top; endmodule", "top", log=tmp_path / "log")


def test_a_yosys_that_takes_too_long_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(yosys, "_WORKER", "import time; time.sleep(60)")
    with pytest.raises(AreaError, match=r"did not finish within 0\.3 s"):
        measure("module top; endmodule", "top", log=tmp_path / "log", timeout=0.3)


#: Waits for a Yosys that never ends.
PARENT = """
import pathlib, sys
from systolith.gen.measure import yosys
yosys._WORKER += "open('ready', 'w').close()\\nimport time\\ntime.sleep(600)"
yosys.run_yosys([], pathlib.Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_yosys_ends_with_the_process_that_waits_for_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path / "stat.json"]) as parent:
        while not (tmp_path / "ready").exists():
            assert parent.poll() is None
            time.sleep(0.05)
        worker, = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.kill()
    state = Path(f"/proc/{worker}/stat")
    deadline = time.monotonic() + 20

    def running():
        try:
            return state.read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    while running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running()

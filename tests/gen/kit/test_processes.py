"""Programs of others: found, run, told apart from each other, and none left running."""

import os
import subprocess
import sys
import threading
import time

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.processes import Processes, Stopped, Tool, ToolError

#: Starts a program of its own, writes both numbers and waits.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-SEc", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""


def python(text):
    return [sys.executable, "-SEc", text]


def alive(number):
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(numbers, seconds=10):
    end = time.monotonic() + seconds
    while any(map(alive, numbers)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(alive, numbers))


def test_lines_come_while_it_runs_and_its_files_go_where_they_should(tmp_path):
    seen = []
    with Processes() as processes:
        code, text = processes.run(
            python("import os, sys, tempfile; print(sys.stdin.read()); print(os.getcwd(),"
                   "flush=True); print(tempfile.gettempdir(), file=sys.stderr); sys.exit(3)"),
            cwd=tmp_path, input="asked", line=seen.append)
    assert (code, text) == (3, f"asked\n{tmp_path}\n{tmp_path}\n")
    assert seen == ["asked\n", f"{tmp_path}\n", f"{tmp_path}\n"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks /proc which processes run")
def test_an_error_in_the_block_ends_a_program_and_what_it_started(tmp_path):
    seen, ended = [], []
    with pytest.raises(KeyboardInterrupt), Processes() as processes:
        def work():
            try:
                processes.run(python(PARENT), cwd=tmp_path, line=seen.append)
            except Stopped:
                ended.append(True)
        thread = threading.Thread(target=work)
        thread.start()
        while not seen:
            time.sleep(0.01)
        numbers = [int(word) for word in seen[0].split()]
        assert all(map(alive, numbers))
        raise KeyboardInterrupt
    thread.join(10)
    assert ended and gone(numbers)
    with pytest.raises(Stopped):
        processes.run(python(""), cwd=tmp_path)


def test_too_slow(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired), Processes() as processes:
        processes.run(python("import time; time.sleep(60)"), cwd=tmp_path, timeout=0.1)


def tool(**changes):
    return Tool(**{"name": "place", "natives": ("place-a", "place-b"), "module": "json",
                   "python": ("-m", "json.tool"), "extra": "boards"} | changes)


def test_a_native_program_is_taken_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool().command() == [sys.executable, "-m", "json.tool"]
    with pytest.raises(UserError, match=r"place is neither .* pip install 'systolith\[boards\]'"):
        tool(module="no_such_module").command()
    (tmp_path / "place-b").write_text("#!/bin/sh\n")
    (tmp_path / "place-b").chmod(0o755)
    assert tool(module="no_such_module").command() == [str(tmp_path / "place-b")]


@pytest.mark.parametrize("text, message", [
    ("print('Info: x\\nERROR: no room\\nERROR: 1 error'); raise SystemExit(1)", "no room"),
    ("print('what now'); raise SystemExit(1)",
     "it stopped with exit code 1 after writing 'what now'"),
    ("raise SystemExit(7)", "it stopped with exit code 7 and no word")])
def test_a_failure_has_the_programs_own_words(text, message, tmp_path):
    with pytest.raises(ToolError, match=f"place failed: {message}$"), Processes() as processes:
        tool(natives=(), python=("-SEc", text)).run(processes, [], cwd=tmp_path)


def test_a_program_that_ends_in_time_is_not_late(tmp_path):
    with Processes() as processes:
        assert processes.run(["true"], cwd=tmp_path, timeout=60) == (0, "")

"""Long work: results survive whatever ends the process; processes end with the one that waits.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from systolith.gen.kit import resume as module
from systolith.gen.kit.errors import MiddleError, UserError
from systolith.gen.kit.resume import (
    WorkerLost,
    _chosen,
    in_processes,
    open_folder,
    open_results,
)

# Results.

def write(path, *results):
    with open_results(path) as kept:
        for result in results:
            kept.add(result)


def known(path, **more):
    with open_results(path, **more) as kept:
        return kept.known


ONE, TWO = {"key": "a", "error": None}, {"key": "b", "error": "no"}


def test_results_are_found_again(tmp_path):
    path = tmp_path / "results.jsonl"
    assert known(path) == {}
    write(path, ONE, TWO)
    assert known(path) == {"a": ONE}
    assert known(path, failures=True) == {"a": ONE, "b": TWO}
    write(path, ONE | {"error": "worse"})
    assert known(path) == {}                    # the last line of a key counts
    assert len(path.read_text().splitlines()) == 3


def test_a_cut_line_is_done_again_wherever_it_stands(tmp_path):
    path = tmp_path / "results.jsonl"
    write(path, ONE)
    whole = path.read_bytes()
    for cut in range(1, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert known(path) == {"a": ONE} and path.read_bytes() == whole
        path.write_bytes(whole[:cut] + whole + whole)
        assert known(path) == {"a": ONE}


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b"{}\n", b"3\n", b"\xff\xfe\n"])
def test_other_content_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="line 1 is no result; move the file away"):
        known(path)
    assert path.read_bytes() == content


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "results.jsonl"
    with open_results(path), pytest.raises(UserError, match="another run is writing"):
        known(path)
    assert known(path) == {}


@pytest.mark.parametrize("fits", [0, 10])
def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch, fits):
    path = tmp_path / "results.jsonl"
    write(path, ONE)
    real = os.write

    def full(handle, data):
        if not fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:fits])
    with open_results(path) as kept:
        monkeypatch.setattr(module.os, "write", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            kept.add(TWO)
    assert caught.value.filename == str(path) and "b" not in kept.known
    assert [json.loads(line) for line in path.read_text().splitlines()] == [ONE]


def test_folders(tmp_path):
    assert open_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be made"):
        open_folder(tmp_path / "file")


# Processes.

def work(item):
    """What an item asks for."""
    what, number = item
    if what == "die" or (what == "die once" and not Path(number).exists()):
        if what == "die once":
            Path(number).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise MiddleError("this is refused", ["x"])
    if what == "break":
        raise IndexError("planted")
    return number


def test_results_come_from_processes_in_order():
    items = [("give", number) for number in range(20)]
    assert list(in_processes(work, items, 2, ordered=True)) == list(range(20))


def test_a_killed_process_costs_its_item_alone(tmp_path):
    once = str(tmp_path / "once")
    items = [("give", 1), ("die", 2), ("give", 3), ("die once", once), ("give", 4)]
    found = list(in_processes(work, items, 2, lost=lambda item, reason: (item, reason)))
    assert sorted(str(item) for item in found if not isinstance(item, tuple)) == sorted(
        ["1", "3", "4", once])
    (item, reason), = [item for item in found if isinstance(item, tuple)]
    assert item == ("die", 2)
    assert reason == ("the process that worked on it ended twice, the last time by SIGKILL (is "
                      "memory short?)")


def test_without_a_place_for_it_a_lost_item_ends_the_run():
    with pytest.raises(WorkerLost, match=r"ended twice, the last time by SIGKILL.*fewer --jobs"):
        list(in_processes(work, [("die", 1), ("die", 2)], 2))


@pytest.mark.parametrize("what, error, words", [
    ("fail", UserError, "this is refused"), ("break", IndexError, "planted")])
def test_errors_come_through(what, error, words):
    with pytest.raises(error, match=words) as caught:
        list(in_processes(work, [(what, 1), (what, 2)], 2))
    assert what == "fail" or "in work" in caught.value.__notes__[0]


#: Two workers that each start a process of their own and wait for it; says all their numbers.
PARENT = """
import os, subprocess, sys
from systolith.gen.kit.resume import in_processes

def work(item):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        os.write(1, f"{os.getpid()} {child.pid}\\n".encode())
        child.wait()

if __name__ == "__main__":
    list(in_processes(work, [1, 2], 2))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_waits(tmp_path, number):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as parent:
        pids = [int(word) for _ in range(2) for word in parent.stdout.readline().split()]
        assert len(pids) == 4 and all(map(running, pids))
        parent.send_signal(number)
        parent.wait(30)
        deadline = time.monotonic() + 30
        while any(map(running, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in pids if running(pid)]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_items_that_go_together_go_to_one_process():
    """What it has worked on last, else what no other works on, else the first."""
    assert _chosen("aabb", "b", ["a"]) == 2
    assert _chosen("aabb", None, ["a"]) == 2
    assert _chosen("aab", "c", ["a", "b"]) == 0
    found = list(in_processes(_where, range(12), 2, together=_third))
    assert sorted(item for item, _ in found) == list(range(12))
    # three groups of four, two processes: no more than one group is split, by the one that is done
    homes = [{process for item, process in found if item % 3 == group} for group in range(3)]
    assert sum(len(some) > 1 for some in homes) <= 1


def _third(item):
    return item % 3


def _where(item):
    time.sleep(0.02)
    return item, os.getpid()

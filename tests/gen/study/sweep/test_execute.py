"""Where measurements run: a real Dask scheduler with workers, submitit's jobs; some of them end."""

import os
import signal
import sys
from pathlib import Path

import cloudpickle
import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.study.sweep.execute import open_executor

# workers and jobs cannot import tests
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def work(item):
    """Ten times a number; the process is killed over 3 once, over 5 always."""
    number, folder = item
    mark = Path(folder) / str(number)
    if number == 5 or (number == 3 and not mark.exists()):
        mark.write_text("killed")
        os.kill(os.getpid(), signal.SIGKILL)
    with (Path(folder) / f"done-{number}").open("a") as file:
        file.write("x")
    return 10 * number


def lost(item, reason):
    return item[0], reason


def check(executor, folder):
    items = [(number, str(folder)) for number in range(8)]
    found = list(executor.run(work, items, lost))
    (number, reason), = [item for item in found if isinstance(item, tuple)]
    assert number == 5 and "ended" in reason and "\n" not in reason
    assert sorted(item for item in found if not isinstance(item, tuple)) == [
        0, 10, 20, 30, 40, 60, 70]
    assert list(executor.run(work, [], lost)) == []


def test_dask(tmp_path):
    """A worker that is killed is started anew, and nothing is lost."""
    distributed = pytest.importorskip("distributed")
    import dask
    with (dask.config.set({"distributed.scheduler.allowed-failures": 1,
                           "distributed.worker.memory.terminate": False}),
          distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                                   silence_logs=60, local_directory=str(tmp_path)) as cluster,
          open_executor(2, cluster.scheduler_address) as executor):
        check(executor, tmp_path)


@pytest.mark.slow
def test_jobs(tmp_path):
    pytest.importorskip("submitit")
    with open_executor(4, "local-jobs", tmp_path / "jobs") as executor:
        check(executor, tmp_path)


def test_processes(tmp_path):
    with open_executor(1) as executor:
        assert list(executor.run(abs, [-1, -2], lost)) == [1, 2]


@pytest.mark.parametrize("cluster, words", [
    ("tcp://127.0.0.1:1", "no Dask scheduler answers"), ("nowhere", "no Dask scheduler answers"),
    ("slurm", "--cluster slurm: ")])
def test_clusters_that_are_not_there(tmp_path, monkeypatch, cluster, words):
    from systolith.gen.study.sweep import execute
    monkeypatch.setattr(execute, "_SECONDS", 0.2)
    monkeypatch.setenv("PATH", str(tmp_path))           # without SLURM's commands
    with pytest.raises(UserError) as caught, open_executor(1, cluster, tmp_path):
        pass
    assert words in str(caught.value) and "\n" not in str(caught.value)

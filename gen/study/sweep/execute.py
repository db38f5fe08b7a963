"""Where measurements run: in processes of this machine, on a Dask cluster, or as jobs of SLURM.

Each executor gives the answers as they come. What is lost with a process is tried once more; then
`lost` says what takes the place of the answer.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.resume import in_processes

__all__ = ["Executor", "open_executor"]

#: How often an item is tried where what ran it ends without an answer.
_TRIES = 2
#: Seconds between two looks at the jobs.
_POLL = 0.2
#: Seconds in which a scheduler must answer.
_SECONDS = 10


class Executor(Protocol):
    """Runs a function on many items at the same time."""

    def run(self, function: Callable, items: Iterable, lost: Callable,
            together: Callable | None = None) -> Iterator[Any]:
        """The function's answer for each item, as they come; `lost(item, reason)` where what
        worked on it has ended twice. Items of which `together` says the same are best worked on by
        one process."""


class _Local:
    """Processes of this machine, `jobs` at a time."""

    def __init__(self, jobs):
        self.jobs = jobs

    def run(self, function, items, lost, together=None):
        return in_processes(function, items, self.jobs, lost=lost, together=together)


class _Dask:
    """Workers of a Dask cluster, which must have the same Systolith installed."""

    def __init__(self, client):
        self.client = client

    def run(self, function, items, lost, together=None):
        suspects = []
        yield from self._run(function, list(items), lambda item, reason: suspects.append(item))
        # Dask gives up on all that lay on workers that ended: one alone shows whether it is to
        # blame.
        for item in suspects:
            blamed: list[str] = []
            yield from self._run(function, [item], lambda _, reason, told=blamed: told.append(
                reason))
            if blamed:
                yield lost(item, f"the workers that worked on it ended: {blamed[0]}")

    def _run(self, function, items, give_up):
        """The function's answers, as they come; `give_up` gets the items whose workers ended too
        often, and Dask's words."""
        from distributed import as_completed
        from distributed.scheduler import KilledWorker
        if not items:
            return
        futures = self.client.map(function, items, pure=False)
        places = {future.key: number for number, future in enumerate(futures)}
        try:
            for future in as_completed(futures, loop=self.client.loop):
                try:
                    yield future.result()
                except KilledWorker as error:
                    give_up(items[places[future.key]], str(error).splitlines()[0])
        finally:
            self.client.cancel(futures)


class _Jobs:
    """Jobs of SLURM, or of this machine under its own rules, by submitit: each does a share of the
    items, `jobs` at a time."""

    def __init__(self, executor, jobs):
        self.executor, self.jobs = executor, jobs

    def run(self, function, items, lost, together=None):
        items = list(items)             # a share is of neighbours
        size = max(1, len(items) // (8 * self.jobs))
        shares = [(items[n:n + size], 1) for n in range(0, len(items), size)]
        running: list[tuple[Any, list, int]] = []
        try:
            while shares or running:
                while shares and len(running) < self.jobs:
                    share, tries = shares.pop(0)
                    running.append((self.executor.submit(_each, function, share), share, tries))
                ready = [entry for entry in running if entry[0].done()]
                if not ready:
                    time.sleep(_POLL)
                for entry in ready:
                    running.remove(entry)
                    job, share, tries = entry
                    error = job.exception()
                    if error is None:
                        yield from job.result()
                    elif tries < _TRIES:
                        shares.append((share, tries + 1))
                    elif len(share) > 1:
                        # one of them is to blame
                        shares += [([item], tries) for item in share]
                    else:
                        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                        yield lost(share[0], f"its job ended {tries} times: {reason}")
        finally:
            for job, *_ in running:
                job.cancel()


def _each(function, items):
    """The function's answers for a share of the items, in a job."""
    return [function(item) for item in items]


@contextmanager
def open_executor(jobs: int, cluster: str | None = None, folder: Path | None = None,
                  options: dict[str, Any] | None = None) -> Iterator[Executor]:
    """The `Executor` for `jobs` at a time.

    `cluster` is the address of a Dask scheduler ("tcp://host:8786"), "slurm", or "local-jobs",
    which are submitit's jobs on this machine; None: plain processes. submitit's files go to
    `folder`, and `options` are its parameters, such as `timeout_min` and `slurm_partition`. Raises
    UserError.
    """
    if cluster is None:
        yield _Local(jobs)
    elif cluster in ("slurm", "local-jobs"):
        yield _Jobs(_submitit(cluster, jobs, folder or Path("jobs"), options or {}), jobs)
    else:
        client = _client(cluster)
        try:
            yield _Dask(client)
        finally:
            client.close()


def _client(address):
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--cluster needs Dask: pip install 'systolith[sweep]'") from None
    try:
        return Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"--cluster {address}: no Dask scheduler answers "
                        f"({type(error).__name__}); start one by `dask scheduler`, or use "
                        "--cluster slurm") from None


def _submitit(cluster, jobs, folder, options):
    try:
        import submitit
    except ImportError:
        raise UserError("--cluster slurm needs submitit: pip install 'systolith[sweep]'") from None
    try:
        executor = submitit.AutoExecutor(folder=folder,
                                         cluster="local" if cluster == "local-jobs" else "slurm")
        executor.update_parameters(**{"timeout_min": 240, "name": "systolith-sweep", **options})
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise UserError(f"--cluster {cluster}: {error}") from None
    return executor

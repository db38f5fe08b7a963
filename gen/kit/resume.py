"""Long work in worker processes, whose results are written line by line so that a stopped run can
continue later.

Nothing here is lost with a process: a worker that is killed costs its item one more try, and
workers end, with whatever they started, when the process that waits for them does.
"""

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError
from .files import json_of

__all__ = ["Results", "WorkerLost", "in_processes", "open_folder", "open_results"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: How often an item is given to a worker, where the worker ends without an answer.
_TRIES = 2
#: Waiting items among which those are looked for that go together.
_AHEAD = 64
#: Seconds in which a worker that is told to end does so; then it is killed.
_PATIENCE = 5.0


def open_folder(folder: Path | str) -> Path:
    """The folder as a Path, made if it does not exist. Raises UserError."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
    return folder


class Results:
    """Results by key in a file with one JSON object a line; the last line of a key counts.

    Attributes
    ----------
    known : dict of str to dict
        What the file holds.
    """

    def __init__(self, path: Path, handle: int, known: dict[str, dict]):
        self.path, self.known = path, known
        self._handle = handle

    def add(self, result: dict[str, Any]) -> None:
        """Append a result, whole or not at all. Raises OSError."""
        line = (json.dumps(result) + "\n").encode()
        size = os.fstat(self._handle).st_size
        written = 0
        try:
            written = os.write(self._handle, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if written:
                os.ftruncate(self._handle, size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.known[result["key"]] = result


@contextmanager
def open_results(path: Path | str, failures: bool = False) -> Iterator[Results]:
    """The `Results` in a file, which is made if it does not exist and is this process's alone until
    the block ends.

    Results with an error count as unknown, but with `failures`. A last line that was cut off is
    removed from the file, and one that was cut off and written on is passed over. Raises UserError
    where the file has other content, or another process has it open.
    """
    path = Path(path)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{path}: another run is writing to it; wait until it has ended, or "
                            "give another folder") from None
        content = path.read_bytes()
        whole = content[:content.rfind(b"\n") + 1]
        known = _parsed(path, whole, failures)
        if len(whole) < len(content):
            os.ftruncate(handle, len(whole))
        yield Results(path, handle, known)
    finally:
        os.close(handle)


def _parsed(path, content, failures):
    found = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            result = json_of(line)
        except ValueError:
            if not line.strip() or line.startswith(b"{"):
                continue    # the beginning of a line, cut off by an older run and written on
            result = None
        if not isinstance(result, dict) or "key" not in result:
            raise UserError(f"{path}: line {number} is no result; move the file away")
        if failures or result.get("error") is None:
            found[result["key"]] = result
        else:
            found.pop(result["key"], None)
    return found


class WorkerLost(UserError):
    """A process that worked on an item has ended without a result, twice."""


def in_processes(function: Callable[[Item], Answer], items: Iterable[Item], jobs: int, *,
                 ordered: bool = False, lost: Callable[[Item, str], Answer] | None = None,
                 together: Callable[[Item], Any] | None = None) -> Iterator[Answer]:
    """`function` of each item, as they come or in the items' order; `jobs` at a time, each in a
    process of its own.

    Items are taken as processes become free, a single one is answered without a process of its own.
    Those of which `together` says the same, and that lie near each other, go to one process as far
    as none is idle for it: what it keeps of one serves the next.
    An exception of `function` is raised here. An item whose process is killed is tried once more;
    then `lost` of the item and of the reason takes the place of its result; without `lost`,
    WorkerLost is raised. However this ends, the processes and what they started end, too.
    """
    items = iter(items)
    first = list(islice(items, 2))
    if jobs == 1 or len(first) < 2:
        yield from map(function, chain(first, items))
        return
    early: dict = {}
    following = 0
    for number, result in _scattered(function, chain(first, items), jobs, lost, together):
        if not ordered:
            yield result
            continue
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _chosen(groups: Sequence, own: Any, others: Container) -> int:
    """Which of the waiting items, whose groups these are, a process takes: of the group that it has
    worked on last, else of one that no other works on, else the first."""
    return next((n for n, group in enumerate(groups) if group == own), next(
        (n for n, group in enumerate(groups) if group not in others), 0))


def _scattered(function, items, jobs, lost, together):
    """(index, result) of each item, as they come."""
    waiting = enumerate(items)
    ahead: list[tuple[int, Any]] = []
    # what is tried again comes after all others
    again: deque[tuple[int, Any]] = deque()

    def following(worker):
        """The next entry, for this worker or a new one; None: there is none."""
        ahead.extend(islice(waiting, (_AHEAD if together else 1) - len(ahead)))
        if not ahead:
            return again.popleft() if again else None
        if together is None:
            return ahead.pop(0)
        own = None if worker is None or worker.item is None else together(worker.item)
        return ahead.pop(_chosen([together(item) for _, item in ahead], own, [
            together(other.item) for other in workers if other.number is not None]))
    tries: Counter[int] = Counter()
    workers: list[_Worker] = []
    try:
        while True:
            idle = [worker for worker in workers if worker.number is None]
            while idle or len(workers) < jobs:
                entry = following(idle[-1] if idle else None)
                if entry is None:
                    break
                if not idle:
                    idle.append(_Worker(function))
                    workers.append(idle[0])
                idle.pop().give(*entry)
            busy: dict[Any, _Worker] = {
                worker.pipe: worker for worker in workers if worker.number is not None}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]
                number: Any = worker.number
                item, worker.number = worker.item, None     # it keeps the last item
                answer = worker.answer()
                if answer is not None:
                    yield number, answer[0]
                    continue
                workers.remove(worker)
                worker.end()
                tries[number] += 1
                if tries[number] < _TRIES:
                    again.append((number, item))
                    continue
                reason = ("the process that worked on it ended twice, the last time "
                          f"{_ending(worker.process.exitcode)}")
                if lost is None:
                    raise WorkerLost(f"one of the results is missing: {reason}; run it again with "
                                     "fewer --jobs")
                yield number, lost(item, reason)
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.end()


def _ending(code):
    if code is None or code >= 0:
        return f"with exit code {code}"
    name = signal.Signals(-code).name
    return f"by {name}" + (" (is memory short?)" if name == "SIGKILL" else "")


class _Worker:
    """A process that answers items with `function` of them; `number` is the index of the `item`
    that it works on, None where it waits; the item is then the last one."""

    def __init__(self, function):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(function, theirs), daemon=True)
        self.number = self.item = None
        self.process.start()
        theirs.close()

    def give(self, number, item):
        self.number, self.item = number, item
        try:
            self.pipe.send(item)
        except OSError:
            pass        # it has ended, which its pipe says when it is asked

    def answer(self):
        """A tuple of the result, or None where the process has ended. Raises what `function`
        raised."""
        try:
            result, error = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if error is not None:
            raise error
        return (result,)

    def stop(self):
        """Tell the process to end; it stops what it started."""
        if self.process.is_alive():
            self.process.terminate()

    def end(self):
        """Wait for its end and see to it; whatever it has started and left ends as well."""
        pid = self.process.pid
        assert pid is not None                # it has been started
        self.process.join(_PATIENCE)
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(function, pipe):
    """What a process of `_Worker` does."""
    # A group of its own: Ctrl-C reaches the process that waits alone, which ends this one, and
    # what runs below this one can be ended with it.
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(item), None
        except Exception as error:
            answer = None, _portable(error)
        pipe.send(answer)


def _leave(*_):
    """End, with what is cleaned up on the way; nobody reads what is said about that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(0)


def _end_with_parent():
    """Wait for the end of the process that started this one, however it comes, and end."""
    parent = multiprocessing.parent_process()
    assert parent is not None                 # this is a process that another one started
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_PATIENCE)
    os.killpg(0, signal.SIGKILL)


def _portable(error):
    """An exception that can be sent to another process, with its traceback as a note."""
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(text)
        pickle.loads(pickle.dumps(error))
    except Exception:
        # Exceptions that cannot be made anew from their text.
        return UserError(str(error)) if isinstance(error, UserError) else RuntimeError(text)
    return error

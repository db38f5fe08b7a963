"""What is known from earlier work and takes long to find out again: small files in one folder.

The folder is that of the environment variable SYSTOLITH_CACHE, else `systolith` in the user's cache
folder. It may be removed at any time. Processes share it: while one works on a key, others that
want the same key wait, and find it.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import write_file

__all__ = ["cache_folder", "cached"]


def cache_folder(kind: str) -> Path:
    """The folder for results of one kind, made if it does not exist. Raises UserError."""
    own = os.environ.get("SYSTOLITH_CACHE")
    base = Path(own) if own else Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systolith"
    folder = base / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}; name a folder for what is "
                        "kept between runs in the environment variable SYSTOLITH_CACHE") from None
    return folder


def cached(kind: str, key: str, make: Callable[[], Any], most: int | None = None) -> Any:
    """The plain data that are kept for a key, or else those that `make` gives, which are then kept.

    Nothing is kept where `make` raises. A file that is damaged is made anew. Of more than `most`
    files of a kind those that were not used for longest are removed.
    """
    path = cache_folder(kind) / f"{key}.json"
    found = _read(path)
    if found is not None:
        with suppress(OSError):
            os.utime(path)
        return found[0]
    with _alone(path):
        found = _read(path)
        if found is None:
            found = [make()]
            write_file(path, json.dumps(found))
    if most is not None:
        _prune(path.parent, most)
    return found[0]


def _prune(folder, most):
    """A file that another process removes at the same time counts as the oldest."""
    def used(file):
        with suppress(OSError):
            return file.stat().st_mtime
        return 0.0
    for file in sorted(folder.glob("*.json"), key=used, reverse=True)[most:]:
        file.unlink(missing_ok=True)
        file.with_suffix(".lock").unlink(missing_ok=True)


def _read(path):
    """A list with the data of a file; None where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, list) and len(found) == 1 else None


@contextmanager
def _alone(path) -> Iterator[None]:
    """No other process is in this block for the same path at the same time."""
    with open(path.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Long work in processes, whose results are kept line by line so that it can go on later."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from .errors import UserError

__all__ = ["in_processes", "open_folder", "read_results"]


def open_folder(folder):
    """The folder as a Path, made if it does not exist. Raises UserError."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
    return folder


def read_results(file, failures=False):
    """Results by key from a file with one JSON object a line; those with an error are left out, or
    taken, too, with `failures`.

    A last line that was cut off is dropped from the file. Raises UserError for other content.
    """
    if not file.exists():
        return {}
    text = file.read_text()
    whole, _, rest = text.rpartition("\n")
    if rest:
        file.write_text(whole + "\n" if whole else "")
    found = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            result = json.loads(line)
            if failures or result.get("error") is None:
                found[result["key"]] = result
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{file}: line {number} is no result; move the file away") from None
    return found


def in_processes(function, items, jobs, *, ordered=False):
    """`function` of each item, as they come or in the items' order; `jobs` at a time, each in a
    process of its own."""
    if jobs == 1 or len(items) < 2:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in futures if ordered else as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

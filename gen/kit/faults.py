"""Faults of Systolith itself: any error that is not the user's. The traceback goes into a file, the
user reads one line that says whose fault it is and which files to send."""

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Fault", "save_fault"]


class Fault(Exception):
    """A fault of Systolith whose traceback is saved; the text is the line for the user."""


def save_fault(error: BaseException, what: str, *, beside: Path | str | None = None,
               send: Sequence[Path | str] = ()) -> str:
    """Save the traceback of an exception in a file; returns the line that tells the user.

    Parameters
    ----------
    error : Exception
    what : str
        What was being done: the command line, or a point or seed of a longer run.
    beside : path or None
        A result's path, beside which the file goes if it can; else into the temporary folder.
    send : sequence of path
        Files that a report of the fault needs besides.
    """
    from importlib.metadata import version
    text = (f"systolith {version('systolith')}, Python {sys.version.split()[0]}, "
            f"{platform.platform()}\n{what}\n\n"
            + "".join(traceback.format_exception(error)))
    path = _written(text, None if beside is None else Path(beside).absolute().parent)
    reason = " ".join(str(error).split())
    reason = reason if len(reason) < 200 else f"{reason[:200]} ..."
    return (f"this is a fault of Systolith, not of your input ({type(error).__name__}"
            f"{f': {reason}' if reason else ''}); please report it with {path}, where the "
            f"traceback was saved{''.join(f', and {item}' for item in send)}")


def _written(text, folder):
    """The path of a new file with the text, in a folder (None, or not writable: the temporary
    one)."""
    for place in (folder, tempfile.gettempdir()):
        try:
            if place is not None:
                handle, name = tempfile.mkstemp(".txt", "systolith-fault-", place)
                with os.fdopen(handle, "w") as file:
                    file.write(text)
                return Path(name)
        except OSError:
            continue
    return Path(os.devnull)

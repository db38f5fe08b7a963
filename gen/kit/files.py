"""Files that are whole or not there: results are written beside their place and then renamed."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

__all__ = ["new_file", "new_folder", "write_file"]


def write_file(path, content):
    """Write text or bytes to `path`, whole or not at all. Returns the path."""
    with new_file(path) as temporary:
        if isinstance(content, str):
            temporary.write_text(content)
        else:
            temporary.write_bytes(content)
    return Path(path)


@contextmanager
def new_file(path):
    """A temporary path beside `path`, which takes its place when the block ends without error.

    Raises UserError where the folder is missing or not writable, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix,
                                        dir=path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path, marker):
    """A temporary folder beside `path`, which takes its place when the block ends without error.

    What stood at `path` is replaced only then, and only if it is an empty folder or one that
    holds a file named `marker`: another result of the same kind. Raises UserError otherwise.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; give the name of a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / marker).exists():
        raise UserError(f"{path}: holds other files than an earlier result (there is no {marker}); "
                        "give the name of a new folder")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.is_dir():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
            path.rename(old / "old")
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

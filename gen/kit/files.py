"""Files that are whole or not there: results are written beside their place and then renamed.

A folder of results has a manifest, which names its files with their hashes: what it does not name,
somebody else has put there, and what has another hash was changed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError

__all__ = ["LARGEST", "MANIFEST", "changed_files", "json_of", "new_file", "new_folder", "read_json",
           "write_file", "write_manifest", "written_files"]

MANIFEST = "manifest.json"
#: The most bytes of a file of a build and of a batch of numbers, and of JSON that is read.
LARGEST, _LARGEST_JSON = 1 << 29, 1 << 26


def json_of(text: str | bytes) -> Any:
    """What a text of JSON holds. Raises ValueError, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None


def read_json(path: Path | str) -> Any:
    """What a file of JSON holds. Raises OSError, and ValueError for what is none, or too large."""
    with Path(path).open("rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise ValueError(f"larger than {_LARGEST_JSON:,} bytes")
    return json_of(content)


def write_file(path: Path | str, content: str | bytes) -> Path:
    """Write text or bytes to `path`, whole or not at all. Returns the path."""
    with new_file(path) as temporary:
        if isinstance(content, str):
            temporary.write_text(content)
        else:
            temporary.write_bytes(content)
    return Path(path)


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends without error.

    A symbolic link stays, and what it points to is replaced; a device or a pipe is written to.
    Raises UserError where the folder is missing or not writable, or `path` is a folder.
    """
    path = Path(path).resolve()
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        with tempfile.TemporaryDirectory(prefix="systolith-") as folder:
            temporary = Path(folder) / f"file{path.suffix}"
            yield temporary
            try:
                path.write_bytes(temporary.read_bytes())
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
        return
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
def new_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder, whose files go to the folder `path` when the block ends without error,
    with a manifest of them.

    Of what stood there, the files of the earlier result are replaced or removed, as its manifest
    names them, and all others stay. A symbolic link is followed. Raises UserError where there is no
    manifest among the files of the folder, or where one that it does not name is in the way.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; give the name of a folder")
    old: dict = {}
    if path.is_dir() and any(path.iterdir()):
        if not (path / MANIFEST).is_file():
            raise UserError(f"{path}: holds other files than an earlier result (there is no "
                            f"{MANIFEST}); give the name of a new folder")
        old = _manifest(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.",
                                          dir=path if path.is_dir() else path.parent))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield temporary
        write_manifest(temporary)
        if path.is_dir():
            _replace(path, old, temporary)
        else:
            temporary.chmod(0o777 & ~_umask())
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(path, old, temporary):
    """Put the files of `temporary` in place of the `old` ones in `path`."""
    new = _manifest(temporary)
    for name in new.keys() - old.keys():
        if (path / name).exists():
            raise UserError(f"{path / name}: was not written by Systolith, and the new result has "
                            "a file of this name; move it away")
    # Ended at any moment, the manifest names all files of both, and those of the other have
    # another hash.
    _write(path, old | new)
    for name in new:
        (temporary / name).replace(path / name)
    for name in old.keys() - new.keys():
        (path / name).unlink(missing_ok=True)
    _write(path, new)


def write_manifest(folder: Path | str) -> None:
    """Write the manifest of all files in a folder."""
    _write(folder, {path.name: _hash(path) for path in sorted(Path(folder).iterdir())
                    if path.is_file() and path.name != MANIFEST})


def _write(folder, files):
    text = json.dumps({"about": "files that Systolith wrote here, with their SHA-256",
                       "files": files}, indent=2)
    write_file(Path(folder) / MANIFEST, text + "\n")


def _manifest(folder):
    path = Path(folder) / MANIFEST
    try:
        files = read_json(path)["files"]
        # A name with a folder in it would reach beyond this one.
        if all(Path(name).name == name and isinstance(files[name], str) for name in files):
            return files
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path}: is no list of files that Systolith wrote; give the name of a new "
                    "folder")


def written_files(folder: Path | str) -> list[Path]:
    """Paths of the files in a folder of results that Systolith wrote, the manifest among them.
    Raises UserError where there is none."""
    return sorted(Path(folder) / name for name in [MANIFEST, *_manifest(folder)])


def changed_files(folder: Path | str) -> list[str]:
    """Names of the files in a folder of results that are missing or not as they were written.
    Raises UserError where there is no manifest."""
    return [name for name, known in _manifest(folder).items()
            if not (Path(folder) / name).is_file()
            or (Path(folder) / name).stat().st_size > LARGEST
            or _hash(Path(folder) / name) != known]


def _hash(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

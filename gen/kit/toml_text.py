"""TOML of users: read in bounded time and memory, whatever it holds."""

import re
import tomllib
from pathlib import Path
from typing import Any

from .errors import UserError, one_line

__all__ = ["MOST_BYTES", "parse_toml", "read_toml"]

#: The largest file, and the most names of a dotted key: Python's reader takes a time and a memory
#: that grow with their square.
MOST_BYTES, _MOST_NAMES = 1 << 20, 100

_TOKEN = re.compile(
    r'#[^\n]*|"""(?:[^\\]|\\.)*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)'
    r'|(?P<name>"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[\w-]+)|(?P<dot>[ \t]*\.[ \t]*)|.', re.DOTALL)


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text. Raises ValueError, whose text is one line that says why it is
    refused."""
    names = 0
    for token in _TOKEN.finditer(text):
        if token["name"]:
            names += 1
        elif not token["dot"]:
            names = 0
        if names > _MOST_NAMES:
            line = text.count("\n", 0, token.start()) + 1
            raise ValueError(f"line {line} has a key of more than {_MOST_NAMES} names")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("lists or tables are nested too deeply") from None
    except ValueError as error:                 # TOMLDecodeError, and numbers of too many digits
        raise ValueError(one_line(error).partition("; use sys.")[0]) from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises UserError for what is no file, and for bad TOML."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path}: is no regular file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES:,} bytes")
        text = content.decode()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a TOML file: it is no UTF-8 text") from None
    try:
        return parse_toml(text)
    except ValueError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None

"""What a result depends on, as hashes: of facts, and of the code, which changes where results may
and not else."""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from systolith import gen, hw, sim
from systolith.gen.kit.cache import cached

__all__ = ["code_hash", "key_of", "sources"]

#: Goes up when what is kept of a module changes.
_FORM = 1
_FOLDERS = {package.__name__: Path(str(package.__file__)).parent for package in (hw, sim, gen)}


def key_of(*facts: Any) -> str:
    """A hash of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_hash(modules: tuple[str, ...], tools: tuple[str, ...]) -> str:
    """A hash of the code of some of Systolith's modules with all that they import of it, and of the
    versions of other packages.

    Comments and docstrings don't count.

    Parameters
    ----------
    modules : tuple of str
        Names such as "systolith.gen.measure.area".
    tools : tuple of str
        Names of installed packages.
    """
    found = hashlib.sha256(repr([(name, version(name)) for name in tools]).encode())
    for name, file in sorted(sources(modules).items()):
        found.update(f"\n{name}\n{_read(name, file)[1]}".encode())
    return found.hexdigest()[:16]


def sources(modules: Iterable[str]) -> dict[str, Path]:
    """{name: path} of Systolith's modules with all that they import of it, inside functions as
    well, and the packages around them."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is None or name in found:
            continue
        found[name] = file
        waiting += [name.rpartition(".")[0], *_read(name, file)[0]]
    return found


def _file(name):
    """The file of a module of Systolith; None where there is none of this name."""
    parts = name.split(".")
    folder = _FOLDERS.get(".".join(parts[:2]))
    if folder is None:
        return None
    base = folder.joinpath(*parts[2:])
    return next((file for file in (base / "__init__.py", base.with_suffix(".py"))
                 if file.is_file()), None)


@cache
def _read(name, file):
    """(names that a module imports, and names in them, which may be modules; a hash of the
    module's code without comments and docstrings)."""
    content = file.read_bytes()
    is_package = file.name == "__init__.py"
    facts = repr((name, is_package, sys.version_info[:2], _FORM)).encode() + content
    return cached("code", hashlib.sha256(facts).hexdigest(),
                  lambda: _parsed(name, is_package, content))


def _parsed(name, is_package, content):
    package = (name if is_package else name.rpartition(".")[0]).split(".")
    names, tree = [], ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            around = package[:len(package) + 1 - node.level] if node.level else []
            base = ".".join([*around, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(
                    first.value.value, str):
                node.body = node.body[1:]
    return names, hashlib.sha256(ast.dump(tree).encode()).hexdigest()

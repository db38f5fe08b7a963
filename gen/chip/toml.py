"""A chip as a TOML file: reading, checking, writing.

The reader, the commented file of `systolith init` and the table in the documentation follow `KEYS`
(`keys.py`).
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.toml_text import parse_toml, read_toml
from systolith.hw.board.boards import BOARDS
from systolith.hw.board.pll import PllError
from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.keys import quoted, shown
from systolith.hw.spec.rules import ArchError

from .keys import KEYS
from .presets import preset_names

__all__ = ["chip_from_dict", "commented_toml", "load_chip", "markdown_table",
           "overridden_fields", "parse_override", "preset_names"]

_BY_PATH = {key.path: key for key in KEYS.values()}
_SECTIONS = list(dict.fromkeys(key.section for key in KEYS.values() if key.section))


def load_chip(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Arch:
    """The `Arch` that a TOML file or a preset describes.

    Parameters
    ----------
    name_or_path : str or Path
        A preset's name (see `preset_names`) or the path of a TOML file.
    overrides : iterable of str
        Changes such as `array.rows=7`; the value is TOML, bare words are texts.

    Raises UserError naming file, key, what was wrong and what is allowed.
    """
    text = str(name_or_path)
    if text in preset_names():
        path = resources.files("systolith.gen.chip.presets") / f"{text}.toml"
        return chip_from_dict(parse_toml(path.read_text()), f"preset {text}", overrides,
                              default_name=text)
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        near = difflib.get_close_matches(text, preset_names(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(f"{text!r} is neither a file nor a preset{hint} Presets: "
                        f"{', '.join(preset_names())}")
    stem = re.sub(r"[^\w.+-]+", "-", path.stem).lstrip("-._+") or "chip"
    return chip_from_dict(read_toml(path), str(path), overrides, default_name=stem)


def parse_override(text: str) -> tuple[str, Any]:
    """`("array.rows", 7)` from `array.rows=7`. A value that is no TOML is a text."""
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not (path and equals and value):
        raise UserError(f"--set {text}: must be of the form KEY=VALUE, such as array.rows=7")
    try:
        return path, parse_toml(f"value = {value}")["value"]
    except (ValueError, KeyError):
        return path, value


def chip_from_dict(data: Mapping[str, Any], source: str, overrides: Iterable[str] = (),
                   default_name: str = "chip") -> Arch:
    """The `Arch` for the tables of a chip file, with `overrides` on top; see `load_chip`.

    `source` names the file in errors, `default_name` is the chip's name where none is given.
    """
    values, origin = {}, {}
    for path, value in _flatten(data, source):
        values[path], origin[path] = value, source
    for text in overrides:
        path, value = parse_override(text)
        values[path], origin[path] = value, f"--set {text}"

    found = {"name": default_name} | _fields(values, origin)
    for key in KEYS.values():
        if key.required and key.field not in found:
            raise UserError(f"{source}: {key.path} is missing; a chip needs at least "
                            f"{' and '.join(item.path for item in KEYS.values() if item.required)}")
    try:
        arch = Arch(**found)
        arithmetic_of(arch)
    except ArchError as error:
        key = KEYS[error.field]
        raise UserError(f"{origin.get(key.path, source)}: {key.path} {error.text}") from None
    if arch.board in BOARDS:
        try:
            BOARDS[arch.board].runs_at(arch.clock_mhz)
        except PllError as error:
            raise UserError(f"{origin.get('clock.mhz', source)}: clock.mhz: the PLL of the "
                            f"{arch.board} {error}") from None
    return arch


def overridden_fields(overrides: Iterable[str]) -> dict[str, Any]:
    """{field of `Arch`: value} of changes as of `load_chip`. Raises UserError."""
    values = dict(map(parse_override, overrides))
    origin = {parse_override(text)[0]: f"--set {text}" for text in overrides}
    return _fields(values, origin)


def _fields(values, origin):
    """{field of `Arch`: value} from {path of a key: value as in TOML} and where each comes from."""
    found = {}
    for path, value in values.items():
        if path not in _BY_PATH:
            raise UserError(f"{origin[path]}: {_unknown(path)}")
        try:
            found[_BY_PATH[path].field] = _BY_PATH[path].kind.read(value)
        except ValueError as error:
            raise UserError(f"{origin[path]}: {path} {error}") from None
    return found


def _flatten(data, source):
    for name, value in data.items():
        if name in _SECTIONS:
            if not isinstance(value, dict):
                raise UserError(f"{source}: {name} must be a section [{name}], not "
                                f"{shown(value)}")
            for inner, item in value.items():
                yield f"{name}.{inner}", item
        elif isinstance(value, dict) and name not in _BY_PATH:
            near = difflib.get_close_matches(name, _SECTIONS, 1)
            hint = f"; did you mean [{near[0]}]?" if near else ";"
            raise UserError(f"{source}: [{name}] is no section{hint} Sections: "
                            f"{', '.join(f'[{item}]' for item in _SECTIONS)}")
        else:
            yield name, value


def _unknown(path):
    section, _, name = path.rpartition(".")
    same_name = [key.path for key in KEYS.values() if key.name == name and key.path != path]
    near = same_name or difflib.get_close_matches(path, _BY_PATH, 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else "."
    siblings = [key.name for key in KEYS.values() if key.section == section] or list(_BY_PATH)
    where = f"[{section}]" if section in _SECTIONS else "a chip" if section else "the top level"
    return f"{path} is no key{hint} Keys of {where}: {', '.join(siblings)}"


def commented_toml(arch: Arch) -> str:
    """A chip file with every key and its meaning, which `load_chip` reads back as `arch`."""
    lines = ["# A chip for Systolith. Every key but array.rows and array.columns may be left out.",
             f"# Boards: {quoted(('none', *BOARDS))}.", ""]
    section = ""
    for key in KEYS.values():
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        default = "" if key.required else f" Default: {key.default}."
        lines += _wrapped(key.doc + default)
        lines += [f"{key.name} = {key.kind.show(getattr(arch, key.field))}"]
    return "\n".join(lines) + "\n"


def _wrapped(text, width=98):
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "#"
        line += " " + word
    return [*lines, line]


def markdown_table() -> str:
    """The documentation's table of keys."""
    rows = [f"| `{key.path}` | {'required' if key.required else f'`{key.default}`'} | {key.doc} |"
            for key in KEYS.values()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])

"""A chip as a TOML file: reading, checking, writing.

`KEYS` is the one description: the reader, the error texts, the commented file of `systolith init`
and the table in the documentation all come from it.
"""

import difflib
import math
import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.hw.board.boards import BOARDS
from systolith.hw.element.element import arithmetic_of
from systolith.hw.formats import Int, parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.structures import Structure

from .presets import preset_names

__all__ = ["KEYS", "Key", "chip_from_dict", "commented_toml", "load_chip", "markdown_table",
           "overridden_fields", "parse_override", "preset_names", "read_toml"]

_DEFAULTS = {item.name: item.default for item in fields(Arch) if item.default is not MISSING}


@dataclass(frozen=True)
class Key:
    """One key of the file: its section ("" at the top), the field of `Arch` that it sets, its kind
    ("count", "size", "format", "name", "board", "megahertz", "accumulator", "automatic",
    "structure" or "switch") and what it means.
    """
    section: str
    name: str
    field: str
    kind: str
    doc: str

    @property
    def path(self):
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def required(self):
        return self.field not in _DEFAULTS

    @property
    def default(self):
        """The default as it would stand in the file; None where there is none."""
        return None if self.required else self.show(_DEFAULTS[self.field])

    def show(self, value):
        """A value of the field of `Arch`, as TOML."""
        if value is None:
            return {"accumulator": '"exact"', "automatic": '"auto"'}[self.kind]
        if self.kind == "megahertz":
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        if self.kind in ("count", "size", "accumulator", "automatic"):
            return str(value)
        if self.kind == "switch":
            return "true" if value else "false"
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def read(self, value):
        """The field's value for `value` from the file. Raises ValueError: what is allowed."""
        if self.kind == "format":
            if not isinstance(value, str):
                raise ValueError(f"must be the name of a number format such as \"int8\", not "
                                 f"{_shown(value)}")
            try:
                form = parse(value)
            except ValueError as error:
                raise ValueError(f"must be the name of a number format: {error}") from None
            if self.field == "activation" and isinstance(form, Int) and not form.signed:
                # The importer moves unsigned codes and their zero points by half the range.
                return Int(form.bits)
            return form
        if self.kind == "name":
            if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w .+-]*", value):
                raise ValueError("must be a text of letters, digits and ._+- that begins with a "
                                 f"letter or digit, not {_shown(value)}")
            return value
        if self.kind == "board":
            if value not in ("none", *BOARDS):
                raise ValueError(f"must be one of \"none\", {_quoted(BOARDS)}, not {_shown(value)}")
            return value
        if self.kind == "megahertz":
            if isinstance(value, bool) or not isinstance(value, int | float) or not (
                    0 < value < math.inf):
                raise ValueError(f"must be a number of MHz greater than 0, not {_shown(value)}")
            return float(value)
        if self.kind == "structure":
            if value not in ("auto", *Structure):
                raise ValueError(f"must be one of {_quoted(('auto', *Structure))}, not "
                                 f"{_shown(value)}")
            return value
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, not {_shown(value)}")
            return value
        word = {"accumulator": "exact", "automatic": "auto"}.get(self.kind)
        if word is not None and value == word:
            return None
        allowed = f"\"{word}\" or a whole number" if word else "a whole number"
        least = 0 if self.kind == "size" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be {allowed} from {least} up, not {_shown(value)}")
        return value


KEYS = (
    Key("", "name", "name", "name", "Names the chip in reports and in the Verilog."),
    Key("", "board", "board", "board", "The board whose top level and constraints are made."),
    Key("array", "rows", "rows", "count", "Processing elements down: input channels."),
    Key("array", "columns", "columns", "count", "Processing elements across: output channels."),
    Key("array", "lanes", "lanes", "count",
        "Multipliers in each processing element: further input channels."),
    Key("array", "activation", "activation", "format",
        "Number format of activations: int2...int16, e4m3, e5m2, e3m2, e2m1, bipolar1, ... "
        "uint8 is the same array as int8: unsigned codes run on it, shifted by half their range."),
    Key("array", "weight", "weight", "format",
        "Number format of weights: integers, floats (e3m0 and the like are powers of two) and sums "
        "of powers of two (e3m0x2) go with each other, bipolar1 with bipolar1."),
    Key("array", "accumulator", "accumulator", "accumulator",
        "Bits of an accumulator, saturating; \"exact\": as many as largest_k needs."),
    Key("array", "largest_k", "largest_k", "count",
        "Longest dot product (kernel height x width x channels) that exact accumulators hold."),
    Key("array", "structure", "structure", "structure",
        "What processing elements are built for: \"lut6\", \"lut4\", \"gates\", \"dsp\" (18 x 18 "
        "bits) or \"dsp48\" (25 x 18 bits). "
        "\"auto\": DSP blocks where products are worth one, else what the target has."),
    Key("array", "stages", "stages", "automatic",
        "Pipeline stages of a processing element; 1 is the smallest. \"auto\": as many as a fast "
        "clock needs."),
    Key("array", "shared_columns", "shared_columns", "count",
        "Columns side by side that share their activation registers, and multiplications where "
        "two fit a DSP block; divides columns."),
    Key("array", "depthwise", "depthwise", "switch",
        "Whether columns can take activations from the top, which makes depthwise layers several "
        "times as fast; for one lane and as many rows as columns."),
    Key("array", "bit_planes", "bit_planes", "switch",
        "Whether accumulators can double their values, so that a binary chip (bipolar1) computes "
        "a first layer of integer inputs bit plane by bit plane."),
    Key("post", "lanes", "post_lanes", "automatic",
        "Channels that post-processing finishes per cycle; divides columns and rows * lanes. "
        "\"auto\": up to 4."),
    Key("post", "leaky", "leaky", "switch",
        "Whether each channel has a second multiplier for sums below zero: PRelu, and LeakyRelu "
        "where no quantizer stands before it."),
    Key("post", "bias_fraction", "bias_fraction", "size",
        "Fraction bits of a bias, in units of the sums, from 0 to 26: what layers need whose sums "
        "have coarser steps than their output, such as those of few weight bits. Binary chips have "
        "none."),
    Key("buffers", "activations", "activation_depth", "count",
        "Activation words; a word is one pixel's rows * lanes channels."),
    Key("buffers", "weights", "weight_depth", "count",
        "Weight words; a word is one array row's columns * lanes weights, rows words fill the "
        "array once."),
    Key("buffers", "accumulators", "accumulator_depth", "count",
        "Accumulator words; a word is one pixel's sums of all columns."),
    Key("buffers", "parameters", "parameter_depth", "count",
        "Parameter words; a word is what post.lanes channels need: bias, multiplier, shift, addend "
        "and ties."),
    Key("buffers", "operands", "operand_depth", "size",
        "Words of the operand memory, like activation words: what sums and products of two maps "
        "need. 0: the chip does not have that unit."),
    Key("buffers", "tables", "table_depth", "size",
        "Words of the table memory, one result each, a power of two: what functions such as SiLU "
        "need. As many as there are codes hold one function, twice as many two, so that the next "
        "layer's is loaded in time. 0: the chip does not have that unit."),
    Key("bus", "data_bits", "bus_bits", "count", "Data width of the AXI4 port: 32, 64 or 128."),
    Key("bus", "burst_beats", "burst_beats", "count",
        "Longest AXI burst in beats, a power of two up to 256."),
    Key("control", "queue_depth", "queue_depth", "count",
        "Instructions that wait before each unit."),
    Key("control", "counters", "counters", "switch",
        "Whether registers count the cycles in which each unit works or waits, and what it waits "
        "for."),
    Key("clock", "mhz", "clock_mhz", "megahertz",
        "The clock that reports assume; a board's own clock takes its place."),
)

_BY_PATH = {key.path: key for key in KEYS}
_SECTIONS = list(dict.fromkeys(key.section for key in KEYS if key.section))


def load_chip(name_or_path, overrides=()):
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
        return chip_from_dict(tomllib.loads(path.read_text()), f"preset {text}", overrides,
                              default_name=text)
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        near = difflib.get_close_matches(text, preset_names(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(f"{text!r} is neither a file nor a preset{hint} Presets: "
                        f"{', '.join(preset_names())}")
    stem = re.sub(r"[^\w.+-]+", "-", path.stem).lstrip("-._+") or "chip"
    return chip_from_dict(read_toml(path), str(path), overrides, default_name=stem)


def read_toml(path):
    """The tables of a TOML file. Raises UserError for a missing file and for bad TOML."""
    try:
        return tomllib.loads(Path(path).read_bytes().decode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a TOML file: it is no UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None


def parse_override(text):
    """`("array.rows", 7)` from `array.rows=7`. A value that is no TOML is a text."""
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not (path and equals and value):
        raise UserError(f"--set {text}: must be of the form KEY=VALUE, such as array.rows=7")
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return path, value


def chip_from_dict(data, source, overrides=(), default_name="chip"):
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
    for key in KEYS:
        if key.required and key.field not in found:
            raise UserError(f"{source}: {key.path} is missing; a chip needs at least "
                            f"{' and '.join(item.path for item in KEYS if item.required)}")
    try:
        arch = Arch(**found)
        arithmetic_of(arch)
    except (TypeError, ValueError) as error:
        raise UserError(_named(str(error), source, origin)) from None
    return arch


def overridden_fields(overrides):
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
            found[_BY_PATH[path].field] = _BY_PATH[path].read(value)
        except ValueError as error:
            raise UserError(f"{origin[path]}: {path} {error}") from None
    return found


def _flatten(data, source):
    for name, value in data.items():
        if name in _SECTIONS:
            if not isinstance(value, dict):
                raise UserError(f"{source}: {name} must be a section [{name}], not "
                                f"{_shown(value)}")
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
    same_name = [key.path for key in KEYS if key.name == name and key.path != path]
    near = same_name or difflib.get_close_matches(path, _BY_PATH, 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else "."
    siblings = [key.name for key in KEYS if key.section == section] or list(_BY_PATH)
    where = f"[{section}]" if section in _SECTIONS else "a chip" if section else "the top level"
    return f"{path} is no key{hint} Keys of {where}: {', '.join(siblings)}"


def _named(message, source, origin):
    """A message of `Arch` with the file's names of the fields, and where the value came from."""
    lead = re.match(r"\w+", message)
    key = next((key for key in KEYS if lead and key.field == lead[0]), None)
    if key is None:
        return f"{source}: {message}"
    return f"{origin.get(key.path, source)}: {key.path}{message[lead.end():]}"


def _quoted(names):
    return ", ".join(f'"{name}"' for name in names)


def _shown(value):
    if isinstance(value, dict):
        return "a table"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def commented_toml(arch):
    """A chip file with every key and its meaning, which `load_chip` reads back as `arch`."""
    lines = ["# A chip for Systolith. Every key but array.rows and array.columns may be left out.",
             f"# Boards: {_quoted(('none', *BOARDS))}.", ""]
    section = ""
    for key in KEYS:
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        default = "" if key.required else f" Default: {key.default}."
        lines += _wrapped(key.doc + default)
        lines += [f"{key.name} = {key.show(getattr(arch, key.field))}"]
    return "\n".join(lines) + "\n"


def _wrapped(text, width=98):
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "#"
        line += " " + word
    return [*lines, line]


def markdown_table():
    """The documentation's table of keys."""
    rows = [f"| `{key.path}` | {'required' if key.required else f'`{key.default}`'} | {key.doc} |"
            for key in KEYS]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])

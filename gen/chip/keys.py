"""The keys of a chip file: one row each, with the field of `Arch` that it sets, the kind of its
values and what it means.

What is wrong with a value is said by the key's kind, or by the rules of the field
(`systolith.hw.spec.rules`).
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields

from systolith.hw.board.boards import BOARDS
from systolith.hw.formats import Format, parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.structures import Structure

__all__ = ["KEYS", "Key", "Kind", "quoted", "shown"]

_DEFAULTS = {item.name: item.default for item in fields(Arch) if item.default is not MISSING}


def quoted(names: Iterable[str]) -> str:
    """Names in double quotes, between commas."""
    return ", ".join(f'"{name}"' for name in names)


def shown(value: object) -> str:
    """A value of a TOML file as messages show it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


class Kind(ABC):
    """What values a key takes, in the file and in `Arch`."""

    @abstractmethod
    def read(self, value: object) -> object:
        """The field's value for `value` from the file. Raises ValueError: what is allowed."""

    def show(self, value: object) -> str:
        """A value of the field of `Arch`, as TOML."""
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'


@dataclass(frozen=True)
class Whole(Kind):
    """Whole numbers from `least` up; the text `none` stands for None, if there is one."""
    least: int = 1
    none: str | None = None

    def read(self, value: object) -> int | None:
        if self.none is not None and value == self.none:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < self.least:
            allowed = f"\"{self.none}\" or a whole number" if self.none else "a whole number"
            raise ValueError(f"must be {allowed} from {self.least} up, not {shown(value)}")
        return value

    def show(self, value: object) -> str:
        return f'"{self.none}"' if value is None else str(value)


@dataclass(frozen=True)
class Megahertz(Kind):
    """Numbers of MHz greater than 0; the text "auto" stands for None."""

    def read(self, value: object) -> float | None:
        if value == "auto":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not (
                0 < value < math.inf):
            raise ValueError(f"must be \"auto\" or a number of MHz greater than 0, not "
                             f"{shown(value)}")
        return float(value)

    def show(self, value: object) -> str:
        if value is None:
            return '"auto"'
        assert isinstance(value, float)
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True)
class Switch(Kind):
    """true or false."""

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {shown(value)}")
        return value

    def show(self, value: object) -> str:
        return "true" if value else "false"


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names."""
    names: tuple[str, ...]

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.names:
            raise ValueError(f"must be one of {quoted(self.names)}, not {shown(value)}")
        return value


@dataclass(frozen=True)
class Name(Kind):
    """Texts that can be part of a file's name."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w .+-]*", value):
            raise ValueError("must be a text of letters, digits and ._+- that begins with a "
                             f"letter or digit, not {shown(value)}")
        return value


@dataclass(frozen=True)
class Number(Kind):
    """Names of number formats; `shifted`: an unsigned integer format stands for the signed one on
    which its codes run, shifted by half their range."""
    shifted: bool = False

    def read(self, value: object) -> Format:
        if not isinstance(value, str):
            raise ValueError("must be the name of a number format such as \"int8\", not "
                             f"{shown(value)}")
        try:
            form = parse(value)
        except ValueError as error:
            raise ValueError(f"must be the name of a number format: {error}") from None
        return form.chip_format if self.shifted else form


COUNT, SIZE, SWITCH = Whole(), Whole(0), Switch()
AUTOMATIC, EXACT = Whole(none="auto"), Whole(none="exact")


@dataclass(frozen=True)
class Key:
    """One key of the file: its section ("" at the top), its name, the field of `Arch` that it sets,
    the kind of its values, and what it means. Ranges and contradictions are those of the field, in
    `systolith.hw.spec.rules`.
    """
    section: str
    name: str
    field: str
    kind: Kind
    doc: str

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def required(self) -> bool:
        return self.field not in _DEFAULTS

    @property
    def default(self) -> str | None:
        """The default as it would stand in the file; None where there is none."""
        return None if self.required else self.show(_DEFAULTS[self.field])

    def show(self, value: object) -> str:
        """A value of the field of `Arch`, as TOML."""
        return self.kind.show(value)

    def read(self, value: object) -> object:
        """The field's value for `value` from the file. Raises ValueError: what is allowed."""
        return self.kind.read(value)


KEYS = (
    Key("", "name", "name", Name(), "Names the chip in reports and in the Verilog."),
    Key("", "board", "board", Choice(("none", *BOARDS)),
        "The board whose top level and constraints are made."),
    Key("array", "rows", "rows", COUNT, "Processing elements down: input channels."),
    Key("array", "columns", "columns", COUNT, "Processing elements across: output channels."),
    Key("array", "lanes", "lanes", COUNT,
        "Multipliers in each processing element: further input channels."),
    Key("array", "activation", "activation", Number(shifted=True),
        "Number format of activations: int2...int16, e4m3, e5m2, e3m2, e2m1, bipolar1, ... "
        "uint8 is the same array as int8: unsigned codes run on it, shifted by half their range."),
    Key("array", "weight", "weight", Number(),
        "Number format of weights: integers, floats (e3m0 and the like are powers of two) and sums "
        "of powers of two (e3m0x2) go with each other, bipolar1 with bipolar1."),
    Key("array", "accumulator", "accumulator", EXACT,
        "Bits of an accumulator, saturating; \"exact\": as many as largest_k needs."),
    Key("array", "largest_k", "largest_k", COUNT,
        "Longest dot product (kernel height x width x channels) that exact accumulators hold."),
    Key("array", "structure", "structure", Choice(("auto", *Structure)),
        "What processing elements are built for: \"lut6\", \"lut4\", \"gates\", \"dsp\" (18 x 18 "
        "bits) or \"dsp48\" (25 x 18 bits). "
        "\"auto\": DSP blocks where products are worth one, else what the target has."),
    Key("array", "stages", "stages", AUTOMATIC,
        "Pipeline stages of a processing element; 1 is the smallest. \"auto\": as many as a fast "
        "clock needs."),
    Key("array", "shared_columns", "shared_columns", COUNT,
        "Columns side by side that share their activation registers, and multiplications where "
        "two fit a DSP block; divides columns."),
    Key("array", "depthwise", "depthwise", SWITCH,
        "Whether columns can take activations from the top, which makes depthwise layers several "
        "times as fast; for one lane and as many rows as columns."),
    Key("array", "bit_planes", "bit_planes", SWITCH,
        "Whether accumulators can double their values, so that a binary chip (bipolar1) computes "
        "a first layer of integer inputs bit plane by bit plane."),
    Key("post", "lanes", "post_lanes", AUTOMATIC,
        "Channels that post-processing finishes per cycle; divides columns and rows * lanes. "
        "\"auto\": up to 4."),
    Key("post", "leaky", "leaky", SWITCH,
        "Whether each channel has a second multiplier for sums below zero: PRelu, and LeakyRelu "
        "where no quantizer stands before it."),
    Key("post", "bias_fraction", "bias_fraction", SIZE,
        "Fraction bits of a bias, in units of the sums, from 0 to 26: what layers need whose sums "
        "have coarser steps than their output, such as those of few weight bits. Binary chips have "
        "none."),
    Key("buffers", "activations", "activation_depth", COUNT,
        "Activation words; a word is one pixel's rows * lanes channels."),
    Key("buffers", "weights", "weight_depth", COUNT,
        "Weight words; a word is one array row's columns * lanes weights, rows words fill the "
        "array once."),
    Key("buffers", "accumulators", "accumulator_depth", COUNT,
        "Accumulator words; a word is one pixel's sums of all columns."),
    Key("buffers", "parameters", "parameter_depth", COUNT,
        "Parameter words; a word is what post.lanes channels need: bias, multiplier, shift, addend "
        "and ties."),
    Key("buffers", "operands", "operand_depth", SIZE,
        "Words of the operand memory, like activation words: what sums and products of two maps "
        "need. 0: the chip does not have that unit."),
    Key("buffers", "tables", "table_depth", SIZE,
        "Words of the table memory, one result each, a power of two: what functions such as SiLU "
        "need. As many as there are codes hold one function, twice as many two, so that the next "
        "layer's is loaded in time. 0: the chip does not have that unit."),
    Key("bus", "data_bits", "bus_bits", COUNT, "Data width of the AXI4 port: 32, 64 or 128."),
    Key("bus", "burst_beats", "burst_beats", COUNT,
        "Longest AXI burst in beats, a power of two up to 256."),
    Key("control", "queue_depth", "queue_depth", COUNT,
        "Instructions that wait before each unit."),
    Key("control", "counters", "counters", SWITCH,
        "Whether registers count the cycles in which each unit works or waits, and what it waits "
        "for."),
    Key("clock", "mhz", "clock_mhz", Megahertz(),
        "The clock. On a board its PLL makes the fastest one that is not above it, and \"auto\" is "
        "the board's oscillator; elsewhere it is what reports assume, and \"auto\" is 50."),
)

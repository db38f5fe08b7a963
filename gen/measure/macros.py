"""A core's memories as SRAM macros: black boxes that a foundry or a memory compiler has.

A table in TOML names the macros, one `[[macro]]` each:

    [[macro]]
    name = "sky130_sram_1kbyte_1rw1r_32x256_8"
    words = 256                 # a power of two
    bits = 32
    write_bits = 8              # bits for each bit of the write mask; absent: there is no mask
    area = 190712.55            # um2; or `liberty`, a file that has it
    lef = "..."                 # for layout: lef, gds, liberty; relative to the table
    [macro.pins]                # each input and output: what it is to the core
    clk0 = "clock"
    csb0 = "!write"             # ! where it is active low
    ...

A pin is one of `clock`, `write`, `write_mask`, `write_address`, `write_data`, `read`,
`read_address`, `read_data`, `0`, `1`, or, of an output, `open`. Writing and reading happen in the
same cycle at different addresses, so that a macro needs a port for each. Words and bits that one
macro lacks come from several side by side. A memory with two readers is there twice.

Without a table, each memory is one macro of its own size, of unknown area.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import Space

from .area import AreaError, run_yosys
from .liberty import read_liberty

__all__ = ["Macro", "black_boxes", "macros_for", "memories", "models", "read_macros", "with_macros"]

_ROLES = {"clock", "write", "write_mask", "write_address", "write_data", "read", "read_address",
          "read_data"}
_NEEDED = ("clock", "write", "write_address", "write_data", "read_address", "read_data")
_KEYS = {"name", "words", "bits", "write_bits", "area", "liberty", "lef", "gds", "pins"}
_PINS = {"clk": "clock", "we": "write", "wmask": "write_mask", "waddr": "write_address",
         "wdata": "write_data", "raddr": "read_address", "rdata": "read_data"}
#: Where the memories of `systolith.hw.spec.memories` are in the Verilog.
_PLACES = {
    Space.ACTIVATION: ("systolith_core", "activations"),
    Space.WEIGHT: ("systolith_core", "weights"),
    Space.PARAMETER: ("systolith_core", "parameters"),
    Space.OPERAND: ("systolith_core", "operands"),
    Space.TABLE: ("systolith_table_lane", "memory"),
    Space.ACCUMULATOR: ("systolith_accumulator", "memory"),
}
#: Other memories, queues, are macros from so many bits on, and flip-flops below, or where they are
#: read without a clock.
_SMALLEST = 2048
_MODULE = re.compile(r"^module \\?([^\s(]+)", re.MULTILINE)
_MEMORY = re.compile(r"^  reg (?:signed )?(?:\[(\d+):0\] )?(\w+) \[(\d+):0\];", re.MULTILINE)


@dataclass(frozen=True)
class Macro:
    """One kind of memory macro.

    `words` of `bits`, written by `write_bits` at once; `area` in um2, None where it is unknown;
    `pins`: name -> what it is, as the module says; `views`: lef, gds, liberty -> path.
    """
    name: str
    words: int
    bits: int
    write_bits: int
    pins: Mapping[str, str]
    area: float | None = None
    views: Mapping[str, str] = field(default_factory=dict)

    def width(self, role: str) -> int:
        """Bits of a pin of this role."""
        if role.endswith("address"):
            return max(1, (self.words - 1).bit_length())
        if role.endswith("data"):
            return self.bits
        return self.bits // self.write_bits if role == "write_mask" else 1


def read_macros(path: Path | str) -> list[Macro]:
    """The macros of a table. Raises UserError naming what is wrong."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no TOML: {error}") from None
    rows = table.get("macro")
    if set(table) != {"macro"} or not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: a table of macros has one [[macro]] for each and nothing else")
    return [_macro(row, path) for row in rows]


def _macro(row, path):
    def wrong(text):
        return UserError(f"{path}: macro {row.get('name', '?')}: {text}")
    if unknown := sorted(set(row) - _KEYS):
        raise wrong(f"unknown key {unknown[0]}; the keys are {', '.join(sorted(_KEYS))}")
    if not isinstance(row.get("name"), str) or not re.fullmatch(r"[A-Za-z_]\w*", row["name"]):
        raise wrong("name must be that of the Verilog module")
    for key in ("words", "bits"):
        if type(row.get(key)) is not int or row[key] < 2:
            raise wrong(f"{key} must be a whole number from 2 up")
    words, bits, write_bits = row["words"], row["bits"], row.get("write_bits", row["bits"])
    if words & (words - 1):
        raise wrong(f"words must be a power of two, not {words}")
    if type(write_bits) is not int or write_bits < 1 or bits % write_bits:
        raise wrong(f"write_bits must divide bits = {bits}")
    pins = row.get("pins")
    if not isinstance(pins, dict) or not all(isinstance(role, str) for role in pins.values()):
        raise wrong("a section [macro.pins] must say what each pin is")
    roles = {role.removeprefix("!") for role in pins.values()}
    if roles & {"address", "read_write_address"}:
        raise wrong("one address for reading and writing is not enough: the core reads and writes "
                    "in one cycle; take a macro with a port for each (1r1w, or 1rw1r)")
    for pin, role in pins.items():
        if role.removeprefix("!") not in _ROLES | {"0", "1", "open"}:
            raise wrong(f"pin {pin} must be one of {', '.join(sorted(_ROLES))}, 0, 1 or open, not "
                        f"{role!r}")
    if missing := [role for role in _NEEDED if role not in roles]:
        raise wrong(f"no pin is {missing[0]}")
    if (write_bits < bits) != ("write_mask" in roles):
        raise wrong("write_bits and a pin that is write_mask go together")
    views = {}
    for key in ("liberty", "lef", "gds"):
        if key in row:
            views[key] = str((path.parent / row[key]).absolute())
    area = row.get("area")
    if area is None and "liberty" in views:
        area = read_liberty(views["liberty"]).areas.get(row["name"])
        if area is None:
            raise wrong(f"{views['liberty']} has no such cell")
    if area is not None and (isinstance(area, bool) or not isinstance(area, int | float)
                             or area <= 0):
        raise wrong("area must be a number of um2 above 0")
    return Macro(row["name"], words, bits, write_bits, pins, area, views)


def memories(verilog: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(module, name) -> (words, bits) of every memory in the text of a core."""
    starts = [(found.start(), found[1]) for found in _MODULE.finditer(verilog)]
    found = {}
    for (begin, module), (end, _) in zip(starts, [*starts[1:], (len(verilog), "")], strict=True):
        for bits, name, words in _MEMORY.findall(verilog[begin:end]):
            found[module, name] = int(words) + 1, int(bits or 0) + 1
    return found


def macros_for(verilog: str, arch: Arch, macros: Sequence[Macro] | None = None
               ) -> dict[tuple[str, str], list[Macro]]:
    """Module and name of each memory of a core that is to be of macros -> those that it can be of.

    They are those given, else one of the memory's own size."""
    there = memories(verilog)
    own = {_PLACES[space] for space in _PLACES if _PLACES[space] in there}
    chosen = [place for place, (words, bits) in there.items()
              if place in own or words * bits >= _SMALLEST]
    if macros is not None:
        return {place: list(macros) for place in chosen}
    shared = {_PLACES[Space.ACTIVATION], _PLACES[Space.OPERAND]}
    fitting: dict[tuple[str, str], list[Macro]] = {}
    for place in chosen:
        words, bits = there[place]
        write_bits = arch.group_bits if place in shared else bits
        words = max(2, 1 << (words - 1).bit_length())
        pins = {pin: role for pin, role in _PINS.items()
                if role != "write_mask" or write_bits < bits}
        name = f"sram_{words}x{bits}" + (f"_{write_bits}" if write_bits < bits else "")
        fitting[place] = [Macro(name, words, bits, write_bits, pins)]
    return fitting


def with_macros(verilog: str, arch: Arch, macros: Sequence[Macro] | None = None, *,
                top: str = "systolith_core", log: Path | str | None = None,
                timeout: float | None = None) -> tuple[str, list[Macro]]:
    """(Verilog of a core whose memories are instances of macros, those that it uses).

    Nothing else is changed, but it is Yosys' text. `models` has the macros' behaviour for
    simulation, `black_boxes` their ports for synthesis. Raises UserError, AreaError.
    """
    places = macros_for(verilog, arch, macros)
    known = {macro.name: macro for some in places.values() for macro in some}
    numbers = {name: number for number, name in enumerate(known)}
    with TemporaryDirectory(prefix="systolith-macros-") as name:
        folder = Path(name)
        (folder / "core.v").write_text(verilog)
        (folder / "map.v").write_text("".join(
            _mapping(number, known[macro]) for macro, number in numbers.items()))
        mapping = []
        for number, ((module, memory), some) in enumerate(places.items()):
            (folder / f"library_{number}.txt").write_text("".join(
                _library(numbers[macro.name], macro) for macro in some))
            # what FPGAs are told of others does not hold here: they may be flip-flops, too
            style = ('-set ram_style "block"' if (module, memory) in _PLACES.values()
                     else "-unset ram_style")
            mapping += [f"setattr {style} {module}/{memory}",
                        f"memory_libmap -lib library_{number}.txt {module}/{memory}"]
        commands = [
            "read_verilog -sv core.v", f"hierarchy -check -top {top}", "proc", "opt_expr",
            "opt_clean", "opt -nodffe -nosdff", "wreduce", "opt_clean", "memory -nomap",
            *mapping, "techmap -map map.v", "opt_clean",
            "write_verilog -noattr mapped.v"]
        try:
            run_yosys(commands, folder / "mapped.v", log, timeout)
        except AreaError as error:
            if found := re.search(r"no valid mapping found for memory (\S+)", str(error)):
                raise UserError(f"no macro of the table fits the memory {found[1]}; add one with "
                                "more words or bits") from None
            raise
        text = (folder / "mapped.v").read_text()
    return text, [macro for macro in known.values()
                  if re.search(rf"^  {re.escape(macro.name)} ", text, re.MULTILINE)]


def _library(number, macro):
    """What Yosys' memory_libmap must know of a macro."""
    byte = f"  byte {macro.write_bits};\n" if macro.write_bits < macro.bits else ""
    enable = " rden;" if "read" in {role.removeprefix("!") for role in macro.pins.values()} else ""
    # far below what Yosys takes flip-flops for
    cost = max(1, round((macro.area or macro.words * macro.bits) / 64))
    return (f"ram block $__systolith_sram_{number} {{\n  abits {macro.width('read_address')};\n"
            f"  width {macro.bits};\n{byte}  cost {cost};\n  init none;\n"
            f'  port sw "W" {{ clock posedge; }}\n'
            f'  port sr "R" {{ clock posedge;{enable} }}\n}}\n')


def _mapping(number, macro):
    """Verilog that techmap puts in place of what memory_libmap has made."""
    mask, address = macro.bits // macro.write_bits, macro.width("read_address")
    given = {"clock": "PORT_W_CLK", "write": "|PORT_W_WR_EN", "write_mask": "PORT_W_WR_EN",
             "write_address": "PORT_W_ADDR", "write_data": "PORT_W_WR_DATA",
             "read": "PORT_R_RD_EN", "read_address": "PORT_R_ADDR",
             "read_data": "PORT_R_RD_DATA", "0": "1'b0", "1": "1'b1", "open": ""}
    pins = []
    for pin, role in macro.pins.items():
        value = given[role.removeprefix("!")]
        pins.append(f".{pin}({f'~({value})' if role[0] == '!' else value})")
    enable = ("  input PORT_R_RD_EN;\n"
              if any(role.removeprefix("!") == "read" for role in macro.pins.values()) else "")
    return (f"module \\$__systolith_sram_{number} (PORT_W_CLK, PORT_W_ADDR, PORT_W_WR_DATA, "
            f"PORT_W_WR_EN, PORT_R_CLK, PORT_R_ADDR, PORT_R_RD_DATA"
            f"{', PORT_R_RD_EN' if enable else ''});\n"
            f"  input PORT_W_CLK, PORT_R_CLK;\n{enable}"
            f"  input [{address - 1}:0] PORT_W_ADDR, PORT_R_ADDR;\n"
            f"  input [{macro.bits - 1}:0] PORT_W_WR_DATA;\n"
            f"  output [{macro.bits - 1}:0] PORT_R_RD_DATA;\n"
            f"  input [{mask - 1}:0] PORT_W_WR_EN;\n"
            f"  {macro.name} _TECHMAP_REPLACE_ ({', '.join(pins)});\nendmodule\n")


def _header(macro):
    ports = []
    for pin, role in macro.pins.items():
        role = role.removeprefix("!")
        output = role in ("read_data", "open")
        bits = macro.bits if output else macro.width(role)
        ports.append(f"  {'output' if output else 'input'} wire "
                     f"{f'[{bits - 1}:0] ' if bits > 1 else ''}{pin}")
    return f"module {macro.name} (\n" + ",\n".join(ports) + "\n);\n"


def black_boxes(macros: Sequence[Macro]) -> str:
    """Verilog of the macros' ports, for synthesis."""
    return "".join(f"(* blackbox *)\n{_header(macro)}endmodule\n" for macro in macros)


def models(macros: Sequence[Macro]) -> str:
    """Verilog of the macros' behaviour, for simulation.

    What is read at the address that is being written is undefined in a macro; here it is the
    complement of what was there, so that a simulation differs where the core would rely on it.
    """
    return "\n".join(map(_model, macros))


def _model(macro):
    def pins(role):
        return [pin if given[0] != "!" else f"~{pin}" for pin, given in macro.pins.items()
                if given.removeprefix("!") == role]
    clocks, (read_data,) = pins("clock"), pins("read_data")
    write, read = " & ".join(pins("write")), " & ".join(pins("read")) or "1'b1"
    write_address, read_address = pins("write_address")[0], pins("read_address")[0]
    bits, part = macro.bits, macro.write_bits
    if part < bits:
        (mask,) = pins("write_mask")
        store = (f"for (n = 0; n < {bits // part}; n = n + 1)\n"
                 f"        if (mask[n]) memory[{write_address}][n*{part} +: {part}] <= "
                 f"{pins('write_data')[0]}[n*{part} +: {part}];")
        declared = f"  integer n;\n  wire [{bits // part - 1}:0] mask = {mask};\n"
    else:
        store, declared = f"memory[{write_address}] <= {pins('write_data')[0]};", ""
    return (f"// {macro.name}: {macro.words} words of {bits} bits; behaviour for simulation.\n"
            f"{_header(macro)}"
            f"  reg [{bits - 1}:0] memory [0:{macro.words - 1}];\n"
            f"  reg [{bits - 1}:0] word;\n{declared}"
            f"  assign {read_data} = word;\n"
            f"  always @(posedge {clocks[0]})\n    if ({write})\n      {store}\n"
            f"  always @(posedge {clocks[-1]})\n    if ({read})\n"
            f"      word <= {write} & {write_address} == {read_address} ? "
            f"~memory[{read_address}] : memory[{read_address}];\nendmodule\n")

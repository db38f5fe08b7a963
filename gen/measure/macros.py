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
`read_address`, `read_data`, `0`, `1`, `0[N]` and `1[N]` of a pin of N bits, or, of an output,
`open`. Writing and reading happen in the same cycle at different addresses, so that a macro needs a
port for each. Words and bits that one macro lacks come from several (`Composition`), of the kind of
the table that takes least area. A memory with two readers is there twice.

Without a table, each memory is one macro of its own size, of unknown area.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.toml_text import read_toml
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import Space

from .liberty import read_liberty
from .yosys import run_yosys

__all__ = ["Composition", "Macro", "black_boxes", "compositions", "memories", "models",
           "read_macros", "with_macros"]

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
_CONSTANT = re.compile(r"([01])(?:\[(\d+)\])?")
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
        if found := _CONSTANT.fullmatch(role):
            return int(found[2] or 1)
        return self.bits // self.write_bits if role == "write_mask" else 1


def read_macros(path: Path | str) -> list[Macro]:
    """The macros of a table. Raises UserError naming what is wrong."""
    path = Path(path)
    table = read_toml(path)
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
        if (role.removeprefix("!") not in _ROLES | {"open"}
                and not _CONSTANT.fullmatch(role)):
            raise wrong(f"pin {pin} must be one of {', '.join(sorted(_ROLES))}, 0, 1 (0[N], 1[N] "
                        f"for N bits) or open, not {role!r}")
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


@dataclass(frozen=True)
class Composition:
    """A memory made of macros of one kind.

    `words` of `bits`, written by `part` at once; `slices`: for each macro side by side, its lanes:
    (its first bit in the memory's word, bits, the part of which it is), each as wide as what the
    macro writes at once. No two words of the memory share one of a macro, which could not be read
    while the other is written.
    """
    macro: Macro
    words: int
    bits: int
    part: int

    @property
    def slices(self) -> list[list[tuple[int, int, int]]]:
        lane = self.macro.write_bits
        lanes = [(start + place, min(lane, self.part - place), start // self.part)
                 for start in range(0, self.bits, self.part) for place in range(0, self.part, lane)]
        side = self.macro.bits // lane
        return [lanes[n:n + side] for n in range(0, len(lanes), side)]

    @property
    def banks(self) -> int:
        return -(-self.words // self.macro.words)

    @property
    def count(self) -> int:
        """Macros."""
        return self.banks * len(self.slices)

    @property
    def macro_bits(self) -> int:
        """Bits of them all."""
        return self.count * self.macro.words * self.macro.bits


def _part(verilog: str, module: str, memory: str, bits: int) -> int:
    """Bits of a memory that are written at once, by the places that its writes name."""
    body = re.search(rf"^module \\?{re.escape(module)}[\s(].*?^endmodule", verilog,
                     re.MULTILINE | re.DOTALL)
    found = re.findall(rf"\s{re.escape(memory)}\s?\[.*\]\[(\d+)(?::(\d+))?\] <=",
                       body[0] if body else "")
    places = [place for high, low in found for place in (int(low or high), int(high) + 1)]
    return math.gcd(bits, *places)


def compositions(verilog: str, arch: Arch, macros: Sequence[Macro] | None = None
                 ) -> dict[tuple[str, str], Composition]:
    """Module and name of each memory of a core that is to be of macros -> what it is made of: the
    one of the macros given that takes least area, or bits where areas are unknown; else one of its
    own size."""
    there = memories(verilog)
    own = {_PLACES[space] for space in _PLACES if _PLACES[space] in there}
    found = {}
    for place, (words, bits) in there.items():
        if place not in own and words * bits < _SMALLEST:
            continue
        part = _part(verilog, *place, bits)
        some = [_own_size(words, bits, part)] if macros is None else macros
        known = all(macro.area for macro in some)
        found[place] = min((Composition(macro, words, bits, part) for macro in some),
                           key=lambda one: one.count * (one.macro.area or 0) if known
                           else one.macro_bits)
    return found


def _own_size(words, bits, part):
    words = max(2, 1 << (words - 1).bit_length())
    pins = {pin: role for pin, role in _PINS.items() if role != "write_mask" or part < bits}
    name = f"sram_{words}x{bits}" + (f"_{part}" if part < bits else "")
    return Macro(name, words, bits, part, pins)


def with_macros(verilog: str, arch: Arch, macros: Sequence[Macro] | None = None, *,
                top: str = "systolith_core", log: Path | str | None = None,
                timeout: float | None = None) -> tuple[str, list[Macro]]:
    """(Verilog of a core whose memories are instances of macros, those that it uses).

    Nothing else is changed, but it is Yosys' text. `models` has the macros' behaviour for
    simulation, `black_boxes` their ports for synthesis. Raises UserError, AreaError.
    """
    places = compositions(verilog, arch, macros)
    known = {made.macro.name: made.macro for made in places.values()}
    with TemporaryDirectory(prefix="systolith-macros-") as name:
        folder = Path(name)
        (folder / "core.v").write_text(verilog)
        (folder / "map.v").write_text("".join(
            _mapping(number, made) for number, made in enumerate(places.values())))
        mapping = []
        for number, ((module, memory), made) in enumerate(places.items()):
            (folder / f"library_{number}.txt").write_text(_library(number, made))
            # what FPGAs are told of others does not hold here: they may be flip-flops, too
            style = ('-set ram_style "block"' if (module, memory) in _PLACES.values()
                     else "-unset ram_style")
            mapping += [f"setattr {style} {module}/{memory}",
                        f"memory_libmap -lib library_{number}.txt {module}/{memory}"]
        commands = [
            "read_verilog -sv core.v", f"hierarchy -check -top {top}", "proc", "opt_expr",
            "opt_clean", "opt -nodffe -nosdff", "wreduce",
            # enables of the registers after memories, which become those of the reads
            "opt_dff -nosdff", "opt_clean", "memory -nomap",
            *mapping, "techmap -autoproc -map map.v", "opt_clean",
            "write_verilog -noattr mapped.v"]
        run_yosys(commands, folder / "mapped.v", log, timeout)
        text = (folder / "mapped.v").read_text()
    return text, [macro for macro in known.values()
                  if re.search(rf"^  {re.escape(macro.name)} ", text, re.MULTILINE)]


def _reads_by_enable(macro):
    return any(role.removeprefix("!") == "read" for role in macro.pins.values())


def _library(number, made):
    """What Yosys' memory_libmap must know of a memory: one cell of its own size."""
    byte = f"  byte {made.part};\n" if made.part < made.bits else ""
    # a bit is far cheaper than what Yosys takes flip-flops for
    return (f"ram block $__systolith_sram_{number} {{\n"
            f"  abits {max(1, (made.words - 1).bit_length())};\n"
            f"  width {made.bits};\n{byte}  cost {max(1, made.macro_bits // 64)};\n  init none;\n"
            f'  port sw "W" {{ clock posedge; }}\n'
            f'  port sr "R" {{ clock posedge;{" rden;" * _reads_by_enable(made.macro)} }}\n}}\n')


def _mapping(number, made):
    """Verilog that techmap puts in place of what memory_libmap has made: banks of macros side by
    side."""
    macro, slices, banks = made.macro, made.slices, made.banks
    inner, outer = macro.width("read_address"), max(1, (made.words - 1).bit_length())
    above = outer - inner

    def address(port):
        return (f"PORT_{port}_ADDR[{inner - 1}:0]" if above >= 0
                else f"{{{-above}'d0, PORT_{port}_ADDR}}")
    enable, parts = _reads_by_enable(macro), made.bits // made.part
    ports = ["PORT_W_CLK", "PORT_W_ADDR", "PORT_W_WR_EN", "PORT_W_WR_DATA", "PORT_R_CLK",
             "PORT_R_ADDR", "PORT_R_RD_DATA", *["PORT_R_RD_EN"] * enable]
    text = (f"module \\$__systolith_sram_{number} ({', '.join(ports)});\n"
            f"  input PORT_W_CLK, PORT_R_CLK{', PORT_R_RD_EN' * enable};\n"
            f"  input [{outer - 1}:0] PORT_W_ADDR, PORT_R_ADDR;\n"
            f"  input [{made.bits - 1}:0] PORT_W_WR_DATA;\n"
            f"  input [{parts - 1}:0] PORT_W_WR_EN;\n"
            f"  output [{made.bits - 1}:0] PORT_R_RD_DATA;\n")
    given = {"clock": "PORT_W_CLK", "write_address": address("W"), "read_address": address("R"),
             "open": ""}
    for bank in range(banks):
        here = [f"PORT_{port}_ADDR[{outer - 1}:{inner}] == {bank}" for port in "WR"]
        text += f"  wire [{made.bits - 1}:0] read_{bank};\n"
        for number, lanes in enumerate(slices):
            lane, side = macro.write_bits, macro.bits // macro.write_bits
            empty = "" if len(lanes) == side else f"{(side - len(lanes)) * lane}'d0, "
            data = ", ".join(
                ("" if bits == lane else f"{lane - bits}'d0, ")
                + f"PORT_W_WR_DATA[{first + bits - 1}:{first}]" for first, bits, _ in lanes[::-1])
            mask = ", ".join(f"PORT_W_WR_EN[{part}]" for _, _, part in lanes[::-1])
            if len(lanes) < side:
                mask = f"{side - len(lanes)}'d0, {mask}"
            written = " | ".join(f"PORT_W_WR_EN[{part}]"
                                 for part in sorted({part for _, _, part in lanes}))
            out = f"word_{bank}_{number}"
            text += f"  wire [{macro.bits - 1}:0] {out};\n" + "".join(
                f"  assign read_{bank}[{first + bits - 1}:{first}] = "
                f"{out}[{n * lane + bits - 1}:{n * lane}];\n"
                for n, (first, bits, _) in enumerate(lanes))
            mine = {**given, "write_data": f"{{{empty}{data}}}", "write_mask": f"{{{mask}}}",
                    "read_data": out,
                    "write": f"({written})" + f" & ({here[0]})" * (banks > 1),
                    "read": "PORT_R_RD_EN" + f" & ({here[1]})" * (banks > 1)}
            pins = []
            for pin, role in macro.pins.items():
                constant = _CONSTANT.fullmatch(role)
                what = (f"{{{macro.width(role)}{{1'b{constant[1]}}}}}" if constant
                        else mine[role.removeprefix("!")])
                pins.append(f".{pin}({f'~({what})' if role[0] == '!' else what})")
            text += (f"  {macro.name} \\_TECHMAP_REPLACE_.bank{bank}_slice{number}  "
                     f"({', '.join(pins)});\n")
    if banks == 1:
        return f"{text}  assign PORT_R_RD_DATA = read_0;\nendmodule\n"
    chosen = "".join(f"bank == {bank} ? read_{bank} : " for bank in range(banks - 1))
    return (f"{text}  reg [{above - 1}:0] bank;\n"
            f"  always @(posedge PORT_R_CLK) {'if (PORT_R_RD_EN) ' * enable}"
            f"bank <= PORT_R_ADDR[{outer - 1}:{inner}];\n"
            f"  assign PORT_R_RD_DATA = {chosen}read_{banks - 1};\nendmodule\n")


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

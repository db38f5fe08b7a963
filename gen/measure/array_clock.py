"""The clock that a systolic array alone reaches on an ECP5: place and route, several seeds.

One pin feeds the inputs of the array through a chain of registers, and another pin shows a function
of all outputs, so that nothing is optimized away and pins do not limit the clock. Further registers
before and after the array keep the paths to and from it short: only paths inside it count.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.element.element import arithmetic_of
from systolith.hw.formats import Format, parse
from systolith.hw.spec.arch import Arch

from .array_area import ARRAY, array_verilog
from .element_area import figures_of
from .flows import FLOWS
from .hierarchy import leaves
from .place_and_route import Job, Timing, achieved, place_all
from .yosys import run_yosys

__all__ = ["ArrayTiming", "array_arch", "array_timing", "wrapper"]

TOP = "systolith_clock"
#: More than any array reaches, because the placer stops improving when the target is met.
ASKED_MHZ = 250
PART = "LFE5U-85F"


@dataclass(kw_only=True)
class ArrayTiming(Timing):
    """MHz by seed, cells of the placed design, and of the array alone: `stages` of its elements,
    `area` as of `element_area`."""
    stages: int
    area: dict

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"part": PART, "speed_grade": 6, "stages": self.stages,
                                    "array": self.area}


def array_arch(activation: Format | str, weight: Format | str, *, rows: int = 8, columns: int = 8,
               lanes: int = 1, stages: int | None = None, dsp: bool = False) -> Arch:
    """A chip with such an array. Raises UserError where there is none in these formats."""
    try:
        arch = Arch(name=f"{activation} x {weight}", rows=rows, columns=columns, lanes=lanes,
                    activation=parse(activation), weight=parse(weight), stages=stages,
                    structure="dsp" if dsp else "lut4")
        arithmetic_of(arch)
    except ValueError as error:
        raise UserError(f"no array of {activation} x {weight}: {error}") from None
    return arch


def wrapper(arch: Arch) -> str:
    """Verilog of the chains around the array, module `systolith_clock`."""
    widths = {"activations": arch.activation_bits, "swap": arch.rows, "weights": arch.weight_bits}
    inputs, outputs = sum(widths.values()), arch.columns * arch.psum_bits
    ports, start = [], 0
    for name, width in widths.items():
        ports.append(f".{name}(inputs[{start} +: {width}])")
        start += width
    return f"""
module {TOP}(input clk, input from_pin, output to_pin);
  reg [{inputs - 1}:0] chain, inputs;
  wire [{outputs - 1}:0] sums;
  reg [{outputs - 1}:0] outputs, folded;
  {ARRAY} array(.clk(clk), .rst(1'b0), {', '.join(ports)}, .sums(sums));
  always @(posedge clk) begin
    chain <= {{chain, from_pin}};
    inputs <= chain;
    outputs <= sums;
    folded <= {{folded, 1'b0}} ^ outputs;
  end
  assign to_pin = folded[{outputs - 1}];
endmodule
"""


def array_timing(arch: Arch, *, seeds: Sequence[int] = (1, 2, 3, 4, 5), jobs: int | None = None,
                 progress: Reporter = SILENT) -> ArrayTiming:
    """Place and route the array of `arch` on an ECP5-85k of speed grade 6; an `ArrayTiming`.

    Elements built for DSP blocks may use DSP blocks, others get none. Raises UserError where
    nextpnr is missing or the array does not fit.
    """
    flow = FLOWS["ecp5"]
    flow.placer.command()
    dsp = arch.pe_dsp
    with tempfile.TemporaryDirectory(prefix="systolith-clock-") as name:
        folder = Path(name)
        source, netlist, stat = (folder / name for name in
                                 ("design.v", "netlist.json", "stat.json"))
        with progress.step(f"Synthesis of {arch.rows} x {arch.columns} {arch.name}"):
            source.write_text(array_verilog(arch) + wrapper(arch))
            run_yosys([f'read_verilog -sv "{source}"', f"hierarchy -check -top {TOP}",
                       "synth_ecp5 -nobram -nolutram -nowidelut -noflatten"
                       f"{'' if dsp else ' -nodsp'} -top {TOP}",
                       f'tee -q -o "{stat}" stat -json', "flatten", "clean",
                       f'write_json "{netlist}"'], netlist)
        modules = {name.removeprefix("\\"): content["num_cells_by_type"] for name, content in
                   json.loads(stat.read_text())["modules"].items()}
        reports = place_all(Job(folder, netlist.name, flow, PART, ("--freq", ASKED_MHZ)), seeds,
                            jobs=jobs, progress=progress)
    return ArrayTiming(
        **vars(achieved(reports)), stages=arithmetic_of(arch).stages,
        area=figures_of(leaves(modules, ARRAY), "ecp5"))

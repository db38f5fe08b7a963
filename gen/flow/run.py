"""Running a build on a device: a board on a serial line, a core beside this machine's processors or
in its memory, or a simulated board."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from systolith.gen.chip.verilog import board_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.counts import Counts
from systolith.sim.machine.compare import Comparison, compare_outputs
from systolith.sim.machine.cycles import cycles as model_cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl.board import DIVISOR, SimulatedBoard
from systolith.sim.rtl.device import DeviceError, devices_of, memory_bytes, spread
from systolith.sim.rtl.etherbone import Etherbone
from systolith.sim.rtl.litex_link import MAP, LitexLink, read_map
from systolith.sim.rtl.memory_map import MemoryMap
from systolith.sim.rtl.pynq_core import OVERLAY, PynqCore
from systolith.sim.rtl.serial_link import SerialLink
from systolith.sim.rtl.verilate import SimulationError

from .build import Build
from .simulate import Arrays, Counted, encode, golden_codes, image_of, runs_of

__all__ = ["DEVICES", "DeviceRun", "connect", "run"]

#: How devices are named.
DEVICES = ("serial:PORT[@BAUD], litex:HOST:PORT[@SOC.json], pynq[:FILE.bit], "
           "mem:FILE@REGISTERS,WINDOW,BYTES, sim:board, sim:litex")


@dataclass
class DeviceRun(Counted):
    """Outputs and figures of a run on a device.

    Attributes
    ----------
    device : str
        Its name, as given.
    images : int
    outputs : array or dict of arrays
        float32, in the ONNX model's layout and units.
    batch : int
        Images that a run of the program computes.
    run : Counts
        Cycles of a run; of the longest, should runs differ.
    model : Counts
        The same by the cycle model, with the memory's latency of `simulate`.
    seconds : float
        From the first image's inputs on their way to the last one's outputs here; without the
        program's loading, without the host's part of the network.
    load_seconds : float
        The program's loading.
    comparison : Comparison or None
        The outputs against the golden model's, where that was asked for.
    """
    device: str
    images: int
    outputs: Any
    batch: int
    run: Counts
    model: Counts
    seconds: float
    load_seconds: float
    comparison: Comparison | None = None

    @property
    def images_per_second(self) -> float:
        """As the host sees it, transfers included."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the outputs. `mismatches` are bits."""
        compared = self.comparison
        return {
            "device": self.device, "images": self.images, "batch": self.batch,
            "cycles": self.cycles, "cycles_model": self.cycles_model,
            "compute_cycles": self.compute_cycles, "units": self.activity,
            "seconds": self.seconds, "load_seconds": self.load_seconds,
            "images_per_second": self.images_per_second,
            "mismatches": None if compared is None else compared.bits}


@contextmanager
def connect(device: str, build: Build) -> Iterator[Any]:
    """The transport to a device (see `sim.rtl.device.Device`), as a context manager.

    `device` is one of

    - `serial:PORT` or `serial:PORT@BAUD`: a board with this project's top level;
    - `pynq` or `pynq:FILE.bit`: the core in the logic of the Zynq that runs this, by the package
      `pynq`; the overlay is `systolith.bit` of the build's folder, or the file;
    - `mem:FILE@REGISTERS,WINDOW,BYTES`: a core whose registers and memory this machine sees at
      these addresses of a file such as /dev/mem; BYTES of memory from WINDOW on are its own;
    - `litex:HOST:PORT` or `litex:HOST:PORT@FILE`: a LiteX SoC at a `litex_server`; the FILE that
      `systolith litex` wrote for it, else litex/soc.json in the build's folder;
    - `sim:litex`: a LiteX SoC with the build's core and LiteDRAM in Verilator, at a `litex_server`;
    - `sim:board`: the build's board in Verilator, from the serial line's pins on.

    Raises UserError for another name, DeviceError and SimulationError where there is no such
    device.
    """
    kind, _, rest = device.partition(":")
    if kind == "sim" and rest == "board":
        board = BOARDS.get(build.arch.board)
        if board is None or board.top is None:
            raise UserError("sim:board needs a build for a board with a serial line; this one's "
                            f"chip has board = \"{build.arch.board}\": build it with --set board="
                            f"{next(iter(BOARDS))}, or use `systolith simulate`")
        verilog = board_verilog(build.arch, build.verilog, DIVISOR)
        with SimulatedBoard(board, verilog) as simulated:
            yield SerialLink(simulated)
    elif kind == "sim" and rest == "litex":
        from .litex_sim import simulated_soc
        with simulated_soc(build.arch, build.verilog) as (server, described), \
                Etherbone("localhost", server, timeout=60) as bus:
            yield LitexLink(bus, described)
    elif kind == "litex" and ":" in rest:
        place, _, path = rest.partition("@")
        host, _, number = place.rpartition(":")
        described = read_map(Path(path) if path else build.folder / "litex" / MAP)
        with Etherbone(host, _number(number, device)) as bus:
            yield LitexLink(bus, described)
    elif kind == "serial" and rest:
        port, _, baud = rest.partition("@")
        link = SerialLink(port, _number(baud or "1000000", device))
        with link.port:
            link.synchronize()
            yield link
    elif kind == "pynq":
        overlay = Path(rest) if rest else build.folder / OVERLAY
        needed = memory_bytes(build.arch, build.program.window_bytes)
        with PynqCore(overlay, needed, build.arch.cores) as core:
            yield core
    elif kind == "mem" and "@" in rest:
        path, _, places = rest.rpartition("@")
        numbers = [_number(part, device) for part in places.split(",")]
        if not path or len(numbers) != 3:
            raise UserError(f"{device}: a core in memory is mem:FILE@REGISTERS,WINDOW,BYTES, such "
                            "as mem:/dev/mem@0x43c00000,0x1f000000,0x1000000")
        base, window, size = numbers
        with MemoryMap(Path(path), base, window, size, build.arch.cores) as mapped:
            yield mapped
    else:
        raise UserError(f"{device!r} is no device; devices are {DEVICES}")


def _number(text: str, device: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"{device}: {text!r} is no number") from None


def run(build: Build, inputs: Arrays, device: str, *, limit: int | None = None,
        check: bool = False, progress: Reporter = SILENT) -> DeviceRun:
    """Run a batch through a build on a device, the host's part of the network included.

    Parameters
    ----------
    build : Build
    inputs : array or dict of arrays
        A batch in the ONNX model's layout and units, float32.
    device : str
        As of `connect`.
    limit : int or None
        Take the first images only.
    check : bool
        Compare the outputs with the golden model's, bit for bit.

    Raises UserError for bad inputs, for a device that is not there, is another chip, or does not
    finish a run.
    """
    inputs, codes = encode(build, inputs, limit)
    program, host = build.program, build.program.host
    images = len(next(iter(codes.values())))
    outputs: dict[str, list] = {}
    try:
        with ExitStack() as stack:
            with progress.step(f"Connecting to {device}"):
                cores = devices_of(stack.enter_context(connect(device, build)), program)
            begin = time.monotonic()
            with progress.step("Loading the program"):
                for core in cores:
                    core.load(program)
            load_seconds, begin = time.monotonic() - begin, time.monotonic()
            with progress.step(f"Running {images:,} images", images) as done:
                rounds = runs_of(program, images)
                place = (host.output_offset, host.output_bytes)
                found = spread(cores, (
                    ([(host.input_offset, pack_inputs(program, image_of(codes, numbers)))], [place])
                    for numbers in rounds), begins=lambda run, _: done(int(rounds[run][0])))
                for numbers, result in zip(rounds, found, strict=False):
                    section = result.check().outputs[0]
                    for name, part in unpack_outputs(program, section).items():
                        outputs.setdefault(name, []).append(
                            part if len(numbers) > 1 else part[None])
            seconds = time.monotonic() - begin
    except (DeviceError, SimulationError) as error:
        raise UserError(f"{device}: {error}") from error
    stored = {name: np.concatenate(items)[:images] for name, items in outputs.items()}
    comparison = None
    if check:
        comparison = Comparison()
        golden = golden_codes(build, codes, images, progress)
        for number in range(images):
            comparison.add(compare_outputs(
                program, {name: item[number] for name, item in stored.items()},
                {name: item[number] for name, item in golden.items()}))
    decoded = build.graph.decode_outputs({name: stored[name] for name in build.graph.outputs},
                                         inputs)
    return DeviceRun(device, images, decoded, host.batch, max(found, key=lambda item: item.cycles),
                     model_cycles(program), seconds, load_seconds, comparison)

"""Running a build: by the golden model, the instruction-level simulator, or the core itself."""

import zipfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import LARGEST, new_file
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.counts import Counts
from systolith.hw.spec.program import Program
from systolith.sim.machine.compare import (
    Comparison,
    compare,
    compare_outputs,
    locate,
    results_from_trace,
)
from systolith.sim.machine.cycles import cycles as model_cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.shared_cycles import cycles_together, together
from systolith.sim.rtl.core import LONG, Job, Run, clocks_per_second, simulate_parts
from systolith.sim.rtl.cplusplus import processors

from .build import Build

__all__ = ["ENGINES", "Arrays", "Codes", "Simulation", "encode", "first_images", "golden_codes",
           "image_of", "read_arrays", "runs_of", "runs_of_a_simulation", "simulate",
           "write_arrays"]

ENGINES = ("golden", "isa", "rtl")
#: Images that the golden model takes at once.
_GOLDEN_BATCH = 256
#: The most runs in one start of the RTL simulation, and cycles: their results are in memory.
_RUNS, _CYCLES = 64, 800_000

#: A batch [N, ...], or {ONNX input: batch}.
Arrays = np.ndarray | dict[str, np.ndarray]
#: {tensor name: codes [N, C, H, W]}.
Codes = dict[str, np.ndarray]


class Counted:
    """What has cycles of a run on a core (`run`; None where there was none), and of the same run by
    the cycle model (`model`)."""
    run: Counts | None
    model: Counts

    @property
    def cycles(self) -> int | None:
        """Cycles of the core's run, all traffic included; None where there was none."""
        return None if self.run is None else self.run.cycles

    @property
    def compute_cycles(self) -> int | None:
        """Cycles of the core's run from the first array pass to the last result; None where
        there was none, or the chip has no counters."""
        return None if self.run is None else self.run.compute_cycles

    @property
    def activity(self) -> dict[str, dict[str, int]] | None:
        """{unit: {state: cycles}} of the core's run, by its counters; None where there was no run,
        or the chip has no counters."""
        return None if self.run is None else self.run.activity

    @property
    def cycles_model(self) -> int:
        """The cycle model's figure for `cycles`."""
        return self.model.cycles


@dataclass
class Simulation(Counted):
    """Outputs and figures of a simulation.

    Attributes
    ----------
    engine : str
    images : int
    outputs : array or dict of arrays
        float32, in the ONNX model's layout and units.
    macs : int
        Per image.
    batch : int
        Images that a run of the program computes.
    arch : Arch
    model : Counts
        Cycles of a run by the cycle model.
    run : Counts or None
        Of a run in RTL; the longest, should runs differ.
    comparison : Comparison or None
        Every layer's results against the golden model; None for the golden model itself.
    clocks_per_second : float or None
        Of the RTL simulation, on all processors that it used.
    together : (int, int) or None
        Of a chip of several cores that ran once each in RTL: cycles from the first start to the
        last end, and those by the model.
    """
    engine: str
    images: int
    outputs: object
    macs: int
    batch: int
    arch: Arch
    model: Counts
    run: Counts | None = None
    comparison: Comparison | None = None
    clocks_per_second: float | None = None
    together: tuple[int, int] | None = None

    @property
    def utilization(self) -> float:
        """Multiply-accumulates per cycle, all traffic included, as a share of what the array can
        do; by the cycle model where nothing ran in RTL."""
        return self.arch.utilization(self.batch * self.macs, (self.run or self.model).cycles)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the outputs. `mismatches` are bits."""
        compared = self.comparison
        return {
            "engine": self.engine, "images": self.images, "batch": self.batch,
            "mismatches": None if compared is None else compared.bits,
            "first_mismatch": None if compared is None or compared.first is None
            else str(compared.first),
            "compared_elements": None if compared is None else compared.elements,
            "cycles": self.cycles, "cycles_model": self.cycles_model,
            "cycles_together": self.together and self.together[0],
            "cycles_together_model": self.together and self.together[1],
            "compute_cycles": self.compute_cycles, "units": self.activity,
            "units_model": self.model.activity, "macs": self.macs,
            "utilization": self.utilization, "clocks_per_second": self.clocks_per_second}


def read_arrays(path: Path | str, limit: int | None = None) -> Arrays:
    """A batch from a .npy file, or a dict of batches from a .npz file; of a .npy file of more than
    `files.LARGEST` bytes the first `limit` images, where these are less. Raises UserError."""
    if Path(path).exists() and not Path(path).is_file():
        raise UserError(f"{path}: is no regular file; np.save(path, array) writes one")
    try:
        if (size := Path(path).stat().st_size) > LARGEST and limit is not None:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if isinstance(found, np.ndarray) and found.ndim and (
                    size := found[:limit].nbytes) <= LARGEST:
                return np.array(found[:limit])
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
        if size > LARGEST:
            raise UserError(
                f"{path}: numbers of {size:,} bytes, where {LARGEST:,} may be read at a time: "
                "split it, or take the first images of a .npy file (--limit)")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return dict(loaded)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'is no numpy file'}") from None
    except MemoryError as error:
        raise UserError(f"{path}: there is not enough memory for this array ({error})") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        # numpy takes any text for pickled objects, and offers to load them.
        reason = f" ({error})" if "pickle" not in str(error) else ""
        raise UserError(f"{path}: is no numpy file of numbers{reason}; np.save(path, array) writes "
                        "one") from None


def first_images(inputs: Arrays, limit: int | None) -> Arrays:
    """The first `limit` images (None: all) of a batch, or of a dict of batches."""
    if isinstance(inputs, dict):
        return {name: array[:limit] for name, array in inputs.items()}
    return inputs[:limit]


def write_arrays(path: Path | str, outputs: Any) -> None:
    """Write an array as .npy, or a dict of arrays as .npz; of a list of arrays each by itself, as
    NAME/0, NAME/1 and so on."""
    if isinstance(outputs, list):
        outputs = {"output": outputs}
    if isinstance(outputs, dict):
        outputs = {key: array for name, item in outputs.items() for key, array in (
            [(f"{name}/{n}", array) for n, array in enumerate(item)]
            if isinstance(item, list) else [(name, item)])}
    with new_file(path) as temporary, temporary.open("wb") as file:
        if isinstance(outputs, dict):
            np.savez(file, **outputs)
        else:
            np.save(file, outputs)


def simulate(build: Build, inputs: Arrays, engine: str = "golden", *, limit: int | None = None,
             waves: Path | str | None = None, latency: int = 32, netlist: str | None = None,
             progress: Reporter = SILENT) -> Simulation:
    """Run a batch through a build.

    Parameters
    ----------
    build : Build
    inputs : array or dict of arrays
        A batch in the ONNX model's layout and units, float32.
    engine : "golden", "isa" or "rtl"
    limit : int or None
        Take the first images only.
    waves : path or None
        FST file for the RTL's waveforms.
    latency : int
        Of the memory, in cycles.
    netlist : str or None
        Verilog with the module systolith_core that runs in place of the core's own, engine "rtl"
        only: a netlist with its cells' models, as of `gate_netlist.core_netlist`.

    Returns a `Simulation`. The engines isa and rtl compare every result with the golden model.
    Raises UserError for bad inputs; SimulationError, DeviceError or ExecutionError where a run
    does not come to its end.
    """
    if engine not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if waves is not None and engine != "rtl":
        raise UserError("waveforms come from the engine rtl only")
    if netlist is not None and engine != "rtl":
        raise UserError("a netlist runs in the engine rtl only; add --engine rtl")
    inputs, codes = encode(build, inputs, limit)
    images = len(next(iter(codes.values())))
    golden = golden_codes(build, codes, images, progress)
    found = Simulation(engine, images, None, build.graph.macs, build.program.host.batch, build.arch,
                       model_cycles(build.program, latency))
    outputs = golden
    if engine == "isa":
        outputs = _run_isa(build, codes, golden, found, progress)
    elif engine == "rtl":
        outputs = _run_rtl(build, netlist or build.verilog, codes, golden, found, waves, latency,
                           progress)
    found.outputs = build.graph.decode_outputs({name: outputs[name]
                                                for name in build.graph.outputs}, inputs)
    return found


def _numbers(inputs, limit):
    """The first images of the inputs."""
    def check(name, array):
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise UserError(f"inputs must be numbers, {name} is of type {array.dtype}")
        return array[:limit] if array.ndim else array
    if isinstance(inputs, dict):
        return {name: check(name, array) for name, array in inputs.items()}
    return check("the batch", inputs)


def encode(build: Build, inputs: Arrays, limit: int | None = None) -> tuple[Arrays, Codes]:
    """(the first `limit` images, their codes) of a batch for a build. Raises UserError."""
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1 image, not {limit}")
    inputs, graph = _numbers(inputs, limit), build.graph
    try:
        codes = graph.encode_inputs(inputs)
    except ValueError as error:
        raise UserError(f"inputs do not fit the network: {error}") from None
    codes = codes if isinstance(codes, dict) else {graph.inputs[0].name: codes}
    if not len(next(iter(codes.values()))):
        raise UserError("the batch holds no image")
    return inputs, codes


def golden_codes(build: Build, codes: Codes, images: int, progress: Reporter = SILENT) -> Codes:
    """The golden model's codes of all tensors."""
    parts = []
    with progress.step(f"Golden model, {images:,} images", images) as done:
        for start in range(0, images, _GOLDEN_BATCH):
            batch = {name: item[start:start + _GOLDEN_BATCH] for name, item in codes.items()}
            parts.append(build.graph.run(batch, build.arch))
            done(min(images, start + _GOLDEN_BATCH))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def image_of(codes: Codes, numbers: np.ndarray) -> Codes:
    """What a run of the program takes: an image's codes, or a batch's."""
    return {name: item[numbers] if len(numbers) > 1 else item[numbers[0]]
            for name, item in codes.items()}


def runs_of(program: Program, images: int) -> list[np.ndarray]:
    """Image numbers of each run; the last image fills up the last run's batch."""
    batch = program.host.batch
    return [np.minimum(np.arange(start, start + batch), images - 1)
            for start in range(0, images, batch)]


def _collect(build, found, places, golden, numbers, results, section, outputs):
    """Compare a run's results, and its outputs as they came to memory, with the golden model's."""
    expected = image_of(golden, numbers)
    found.comparison.add(compare(build.program, places, results, expected))
    stored = unpack_outputs(build.program, section)
    found.comparison.add(compare_outputs(build.program, stored, expected))
    for name, codes in stored.items():
        outputs.setdefault(name, []).append(codes if len(numbers) > 1 else codes[None])


def _run_isa(build, codes, golden, found, progress):
    program, host = build.program, build.program.host
    places, found.comparison = locate(program), Comparison()
    outputs: dict[str, list] = {}
    with progress.step(f"Instruction-level simulator, {found.images:,} images",
                       found.images) as done:
        for numbers in runs_of(program, found.images):
            memory = bytearray(program.window_bytes)
            memory[:len(program.image)] = program.image
            data = pack_inputs(program, image_of(codes, numbers))
            memory[host.input_offset:host.input_offset + len(data)] = data
            simulator = Simulator(build.arch, memory)
            simulator.run(program.instructions, seed=int(numbers[0]))
            results = sorted(simulator.results, key=lambda result: result.number)
            section = memory[host.output_offset:host.output_offset + host.output_bytes]
            _collect(build, found, places, golden, numbers, [result.items for result in results],
                     bytes(section), outputs)
            done(int(numbers[-1]) + 1)
    return {name: np.concatenate(items)[:found.images] for name, items in outputs.items()}


def runs_of_a_simulation(runs: int, cycles: int, cores: int = 1) -> int:
    """How many of so many runs, of so many cycles each, one RTL simulation makes before its results
    are compared: no more than `_RUNS`, or `_CYCLES`, for each core, and where compiling for speed
    pays, no more than the share of a processor, but one for each core."""
    most = max(1, min(_RUNS, _CYCLES // cycles)) * cores
    short = runs * cycles <= LONG["-O0"]
    return min(most, runs if short else cores * -(-runs // (cores * processors())))


def _run_rtl(build, verilog, codes, golden, found, waves, latency, progress):
    program, host = build.program, build.program.host
    places, found.comparison = locate(program), Comparison()
    outputs: dict[str, list] = {}
    reads = [(host.output_offset, host.output_bytes)]
    starts = runs_of(program, found.images)
    total = len(starts) * found.cycles_model
    optimize = next(option for option, most in LONG.items() if total <= most)
    size = runs_of_a_simulation(len(starts), found.cycles_model, build.arch.cores)
    shares = [starts] if waves is not None else [
        starts[start:start + size] for start in range(0, len(starts), size)]
    jobs = ([Job(program=program, latency=latency, runs=[
        Run(writes=[(host.input_offset, pack_inputs(program, image_of(codes, numbers)))],
            reads=reads) for numbers in mine])] for mine in shares)
    made, taken = [], []
    with (progress.step(f"The core in Verilator, {found.images:,} images", found.images) as done,
          closing(simulate_parts(verilog, jobs, waves=waves, optimize=optimize)) as results):
        for mine, simulation in zip(shares, results, strict=True):
            for numbers, run in zip(mine, simulation.runs[0], strict=True):
                taken.append(run.check().cycles)
                _collect(build, found, places, golden, numbers, results_from_trace(
                    run.trace, places, build.arch), run.outputs[0], outputs)
                if found.run is None or run.cycles > found.run.cycles:
                    found.run = run
            made.append(replace(simulation, runs=[]))
            done(int(mine[-1][-1]) + 1)
    found.clocks_per_second = clocks_per_second(made)
    if 1 < build.arch.cores == len(taken):
        found.together = together(taken), cycles_together(program, latency)
    return {name: np.concatenate(items)[:found.images] for name, items in outputs.items()}

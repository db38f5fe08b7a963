"""The command `systolith`: arguments in, one function call, results shown.

Exit codes: 0 done; 1 something about the input is wrong, or a run did not come to its end; 2 the
command line is wrong; 3 a difference was found (the core and the golden model, or a failed
regression).
"""

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from ..hw.boards import BOARDS
from .config import commented_toml, load_chip, preset_names
from .errors import UserError
from .files import write_file
from .progress import Reporter

__all__ = ["main"]

OK, WRONG, USAGE, MISMATCH = 0, 1, 2, 3


def main(arguments=None):
    """Run the command line; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        return _fail(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of the output has gone; nothing is left to say, also not at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _fail(error):
    print(f"systolith: {error}", file=sys.stderr)
    return WRONG


# Commands.

def _init(options):
    text = commented_toml(_chip(options.preset, options))
    if options.output is None:
        print(text, end="")
        return OK
    if Path(options.output).exists() and not options.force:
        raise UserError(f"{options.output}: exists already; --force replaces it")
    _wrote(write_file(options.output, text))
    return OK


def _verilog(options):
    from .verilog import core_verilog
    arch = _chip(options.chip, options)
    with Reporter() as progress, progress.step(f"Writing the Verilog of {arch.name}"):
        path = write_file(options.output, core_verilog(arch))
    _wrote(path)
    return OK


def _pe(options):
    from .pe import PeConfig, write_pe
    config = PeConfig(activation=options.activation, weight=options.weight, lanes=options.lanes,
                      rows=options.rows, target=options.target, stages=options.stages,
                      dsp=options.dsp)
    with Reporter() as progress:
        files = write_pe(config, options.output, progress=progress)
    _wrote(*files)
    return OK


def _build(options):
    from .build import build
    from .report import markdown, read_report
    arch = _chip(options.chip, options)
    with Reporter() as progress:
        made = build(options.model, arch, options.output, area=not options.no_area,
                     progress=progress)
    print(markdown(read_report(made.folder)))
    _wrote(*made.files)
    return OK


def _inspect(options):
    from .inspection import inspect
    from .onnx_in import required_formats
    from .report import text_table
    rows, graph = inspect(options.model)
    print(text_table([["node", "operator", "became"], *rows]))
    activations, weights = map(", ".join, required_formats(graph))
    print(f"\n{graph.name}: {len(graph.layers)} layers, {graph.macs:,} multiply-accumulates per "
          f"image, activations in {activations}, weights in {weights}")
    return OK


def _simulate(options):
    from ..sim.device import DeviceError
    from ..sim.iss import ExecutionError
    from ..sim.verilate import SimulationError
    from .build import open_build
    from .simulate import read_arrays, simulate, write_arrays
    inputs = read_arrays(options.inputs)
    build = open_build(options.dir)
    with Reporter() as progress:
        try:
            found = simulate(build, inputs, options.engine, limit=options.limit,
                             waves=options.waves, latency=options.latency, progress=progress)
        except (SimulationError, DeviceError, ExecutionError) as error:
            raise UserError(f"the simulation did not finish: {error}") from error
    _show_simulation(found)
    if options.outputs:
        write_arrays(options.outputs, found.outputs)
        _wrote(options.outputs)
    if options.waves:
        _wrote(options.waves)
    _write_json(options.json, found.to_dict())
    return MISMATCH if found.comparison and found.comparison.bits else OK


def _show_simulation(found):
    print(f"{found.images:,} images by the engine {found.engine}")
    if found.comparison:
        print(f"against the golden model: {found.comparison.bits:,} bits differ in "
              f"{found.comparison.elements:,} results of all layers")
        if found.comparison.first:
            print(f"first difference: {found.comparison.first}")
    if found.cycles:
        print(f"cycles per image: {found.cycles:,} (cycle model: {found.cycles_model:,}), "
              f"{found.compute_cycles:,} of them computing")
        print(f"array utilization: {100 * found.utilization:.1f} %, all traffic included")
        print(f"simulation speed: {found.clocks_per_second:,.0f} clocks/s")
    else:
        print(f"cycles per image (cycle model): {found.cycles_model:,}")


def _report(options):
    from .report import markdown, read_report
    report = read_report(options.dir)
    print(markdown(report))
    _write_json(options.json, report)
    return OK


def _area(options):
    if (options.chip is None) == (options.formats is None):
        raise UserError("area needs either --chip (a chip, or with --array its array) or --formats "
                        "(a table of processing elements)")
    if options.formats is not None:
        return _area_table(options)
    if options.array:
        return _array_area(options)
    for name in ("targets", "liberty", "output", "flatten"):
        _only(options, name, "--formats" if name != "flatten" else "--array")
    return _chip_area(options)


def _only(options, name, where):
    if getattr(options, name):
        flag = "-o" if name == "output" else f"--{name}"
        raise UserError(f"{flag} goes with {where} only")


def _area_table(options):
    from .catalogue import area_table
    from .element_area import ELEMENT_TARGETS, find_liberty
    for name in ("set", "array", "target", "no_dsp", "log", "json", "flatten"):
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} does not go with --formats")
    targets = options.targets or list(ELEMENT_TARGETS)
    liberty = find_liberty(options.liberty) if "asic" in targets else None
    with Reporter() as progress:
        _, files = area_table(
            options.formats, targets, options.output or "build/area", liberty=liberty,
            jobs=options.jobs, progress=progress,
            show=lambda text: print(text, file=sys.stderr, flush=True))
    print(next(path for path in files if path.suffix == ".md").read_text())
    _wrote(*files)
    return OK


def _array_area(options):
    from .array_area import array_area
    for name in ("targets", "liberty", "output"):
        _only(options, name, "--formats")
    arch = _chip(options.chip, options)
    with Reporter() as progress:
        area = array_area(arch, options.target or "xc7", dsp=not options.no_dsp,
                          flatten=options.flatten, progress=progress)
    key, names = area["figure"], {"lut": "LUT", "slice_lut": "LUT4 + 2 CCU2C"}
    print(f"{arch.rows} x {arch.columns} elements of {arch.activation} x {arch.weight} for "
          f"{area['target']}, edges and skew included, "
          f"{'flattened' if options.flatten else 'hierarchy kept'}:")
    print(f"{area['array'][key]:,} {names.get(key, key)} are {area['ratio']:.3f} times "
          f"{area['count']:,} elements of {area['element'][key]:,}; {area['array']['ff']:,} FF are "
          f"{area['ff_ratio']:.3f} times {area['count']:,} of {area['element']['ff']:,}")
    _write_json(options.json, area)
    return OK


def _chip_area(options):
    from .area import chip_area
    from .report import area_rows, text_table
    arch = _chip(options.chip, options)
    board = BOARDS.get(arch.board)
    target = options.target or (board.part.target if board else "ecp5")
    with Reporter() as progress, progress.step(f"Area of {arch.name} for {target} (Yosys)"):
        area = chip_area(arch, target, dsp=not options.no_dsp, log=options.log).to_dict()
    part = board.part if board and board.part.target == target else None
    print(f"The core of {arch.name} for {target}, by Yosys, hierarchy kept"
          + (f"; the part is the {part.name}" if part else "") + "\n")
    print(text_table(area_rows(area, part and vars(part)), "lrrrr"))
    if area["memories_in_flipflops"]:
        print("\nmemories that became flip-flops:", ", ".join(area["memories_in_flipflops"]))
    _write_json(options.json, area)
    return OK


def _timing(options):
    if (options.chip is None) == (options.array is None):
        raise UserError("timing needs either --chip (a chip on its board) or --array (a systolic "
                        "array alone)")
    seeds = range(1, options.seeds + 1)
    if options.array is not None:
        return _array_timing(options, seeds)
    from .timing import board_timing
    arch = _chip(options.chip, options)
    with Reporter() as progress:
        timing = board_timing(arch, seeds=seeds, progress=progress)
    _show_timing(f"{arch.name} on the {arch.board}", timing)
    _write_json(options.json, timing.to_dict())
    return OK


def _array_timing(options, seeds):
    from .clock import PART, array_arch, array_timing
    if options.set:
        raise UserError("--set goes with --chip only")
    arch = array_arch(options.array, options.weight or options.array, rows=options.rows,
                      columns=options.columns, lanes=options.lanes, stages=options.stages,
                      dsp=options.dsp)
    with Reporter() as progress:
        timing = array_timing(arch, seeds=seeds, progress=progress)
    lanes = f", {arch.lanes} lanes" if arch.lanes > 1 else ""
    _show_timing(f"{arch.rows} x {arch.columns} elements of {arch.name}{lanes}, "
                 f"{timing.stages} stage{'s' if timing.stages > 1 else ''}, on {PART}, speed "
                 "grade 6", timing)
    area = timing.area
    print(f"the array alone: {area['lut']:,} LUT4, {area['carry']:,} CCU2C, {area['ff']:,} FF"
          + (f", {area['dsp']:,} DSP" if area["dsp"] else ""))
    _write_json(options.json, {"rows": arch.rows, "columns": arch.columns, "lanes": arch.lanes,
                               "activation": arch.activation.name, "weight": arch.weight.name,
                               "structure": arch.pe_structure} | timing.to_dict())
    return OK


def _show_timing(what, timing):
    print(f"{what}, placed and routed: {timing.median:.1f} MHz, the median of "
          f"{', '.join(f'{mhz:.1f}' for mhz in timing.mhz.values())}")
    for name, (used, available) in sorted(timing.cells.items()):
        print(f"{name:16} {used:7,} of {available:7,}")


def _sweep(options):
    from .sweep import sweep
    with Reporter() as progress:
        files = sweep(options.space, options.output, jobs=options.jobs, progress=progress)
    _wrote(*files)
    return OK


def _disasm(options):
    from .build import open_build
    program = open_build(options.dir).program
    names = [layer["name"] for layer in program.host["layers"]]
    for number, instruction in enumerate(program.instructions):
        layer = f"    # {names[instruction.layer]}" if instruction.unit is not None else ""
        print(f"{number:5}  {instruction}{layer}")
    return OK


def _regress(options):
    from .regress import regress
    cases = regress(options.chips, options.seeds, options.jobs, options.junit, seed=options.seed,
                    waves=options.waves)
    _wrote(*filter(None, (options.junit, options.waves)))
    return MISMATCH if any(case.failure for case in cases) else OK


def _prove(options):
    from .prove import prove, summary
    from .report import text_table
    if options.formal:
        from .formal import prove_formally
        with Reporter() as progress:
            table, wrong = prove_formally(progress=progress)
        print(text_table(table, "llrllr"))
        return MISMATCH if wrong else OK
    with Reporter() as progress:
        results, files = prove(options.output, options.formats, options.structures,
                               jobs=options.jobs, progress=progress)
    print(text_table(summary(results), "llrrrrrr"))
    wrong = [case for result in results for case in result["cases"] if case["mismatches"]]
    for case in wrong[:20]:
        print(f"{case['activation']} x {case['weight']}, {case['lanes']} lanes, "
              f"{case['structure']}, {case['stages']} stages: {case['first']}")
    _wrote(*files)
    return MISMATCH if wrong else OK


def _demo(options):
    from .demo import demo
    with Reporter() as progress:
        result = demo(options.examples, options.output, images=options.images, progress=progress)
    print(result.table)
    _wrote(*result.files)
    return OK if result.mismatches == 0 else MISMATCH


# What commands share.

def _chip(name, options):
    return load_chip(name, options.set)


def _wrote(*paths):
    for path in paths:
        print(f"wrote {path}")


def _write_json(path, data):
    if path is not None:
        _wrote(write_file(path, json.dumps(data, indent=2) + "\n"))


def _count(text):
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text!r}")
    return number


def _names(text):
    return [name.strip() for name in text.split(",") if name.strip()]


class _Commands:
    """Adds commands to the parser, all in the same form."""

    def __init__(self, parser):
        self.commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(self, name, run, summary, text, examples):
        command = self.commands.add_parser(
            name, help=summary, description=text, epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(run=run)
        return command


def _add_chip(command, required=True):
    command.add_argument("--chip", required=required, metavar="CHIP",
                         help="a TOML file, or a preset's name: " + ", ".join(preset_names()))
    _add_set(command)


def _add_set(command):
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                         help="change keys of the chip, such as array.rows=7 array.weight=int4")


def _parser():
    parser = argparse.ArgumentParser(
        prog="systolith", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="From a quantized neural network and a short description of a chip to a "
                    "working, proven accelerator.",
        epilog="a first tour:\n"
               "  systolith init --preset ulx3s-8x8-e3m2 -o chip.toml\n"
               "  systolith build digits-cnn.onnx --chip chip.toml -o out\n"
               "  systolith simulate out --engine rtl --inputs x.npy --outputs y.npy --limit 4\n"
               "  systolith report out\n\n"
               "exit codes: 0 done, 1 wrong input, 2 wrong command line, 3 a difference was found")
    parser.add_argument("--version", action="version", version=version("systolith"))
    commands = _Commands(parser)

    command = commands.add(
        "init", _init, "write a commented chip description",
        "Write a chip description with every key, its meaning and its default. Edit it and give "
        "it to\nthe other commands as --chip.",
        "  systolith init -o chip.toml\n"
        "  systolith init --preset tiny-2x4-int4 --set array.rows=3 name=mine -o mine.toml")
    command.add_argument("--preset", default="ulx3s-8x8", metavar="NAME",
                         help="start from this one of " + ", ".join(preset_names())
                              + " (default: %(default)s)")
    _add_set(command)
    command.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    command.add_argument("--force", action="store_true", help="replace an existing file")

    command = commands.add(
        "verilog", _verilog, "write the Verilog of a chip",
        "Write the core as one Verilog file: the module systolith_core, an AXI4 master with "
        "AXI4-Lite\nregisters.",
        "  systolith verilog --chip ulx3s-8x8 -o core.v\n"
        "  systolith verilog --chip chip.toml --set array.columns=12 -o core.v")
    _add_chip(command)
    command.add_argument("-o", "--output", required=True, metavar="FILE")

    command = commands.add(
        "pe", _pe, "write one processing element for any use",
        "Write one processing element as stand-alone Verilog (pe.v), the decoders that stand at "
        "an array's\nedges (edge.v), test vectors from the formats' numbers (vectors.csv) with a "
        "testbench that plays\nthem, and pe.json: ports, widths, latencies, and how partial sums "
        "are read.",
        "  systolith pe --activation e3m2 --weight e3m2 -o pe-e3m2\n"
        "  systolith pe --activation bipolar1 --weight bipolar1 --lanes 64 --target ecp5 -o xnor")
    for name in ("activation", "weight"):
        command.add_argument(f"--{name}", required=True, metavar="FORMAT",
                             help="such as int8, e4m3, e3m2fn, bipolar1")
    command.add_argument("--lanes", type=_count, default=1, metavar="N",
                         help="products in each cycle (default: %(default)s)")
    command.add_argument("--rows", type=_count, default=16, metavar="N",
                         help="elements of a column, for which sums are exact "
                              "(default: %(default)s)")
    command.add_argument("--target", choices=("xc7", "ecp5", "ice40", "asic"), default="xc7",
                         help="what it is built for (default: %(default)s)")
    command.add_argument("--stages", type=_count, default=1, metavar="N",
                         help="pipeline stages; 1 is the smallest (default: %(default)s)")
    command.add_argument("--dsp", action="store_true", help="products in DSP blocks")
    command.add_argument("-o", "--output", required=True, metavar="DIR",
                         help="made, or replaced if it holds an earlier element")

    command = commands.add(
        "inspect", _inspect, "say what every node of a model becomes",
        "Say what every node of a quantized ONNX network becomes: a layer or a part of one, a "
        "number\nformat, work of the host. A node that nothing can be made of is refused with what "
        "would be accepted.",
        "  systolith inspect net.onnx")
    command.add_argument("model", metavar="MODEL.onnx")

    command = commands.add(
        "build", _build, "compile a network for a chip",
        "Compile a quantized ONNX network for a chip. The folder then holds the Verilog, the "
        "program with\nits memory image, the board's top level and constraints, report.json and "
        "report.md.",
        "  systolith build digits-cnn.onnx --chip ulx3s-8x8-e3m2 -o out\n"
        "  systolith build net.onnx --chip chip.toml --set buffers.weights=4096 -o out")
    command.add_argument("model", metavar="MODEL.onnx")
    _add_chip(command)
    command.add_argument("-o", "--output", required=True, metavar="DIR",
                         help="made, or replaced if it holds an earlier build")
    command.add_argument("--no-area", action="store_true",
                         help="leave the area out, which takes most of the time")

    command = commands.add(
        "simulate", _simulate, "run a build",
        "Run a build on a batch of inputs, in the ONNX model's own layout and units (float32).\n\n"
        "  golden   exact model in numpy: fast, defines what is right\n"
        "  isa      the program, instruction by instruction, units in random order\n"
        "  rtl      the core's Verilog in Verilator, memory modelled to the cycle\n\n"
        "isa and rtl compare every layer's results with the golden model, bit for bit, and name "
        "the first\nlayer and element that differ (exit code 3).",
        "  systolith simulate out --inputs x.npy --outputs y.npy\n"
        "  systolith simulate out --engine rtl --inputs x.npy --outputs y.npy --limit 16\n"
        "  systolith simulate out --engine rtl --inputs x.npy --limit 1 --waves run.fst")
    command.add_argument("dir", metavar="DIR", help="folder made by `systolith build`")
    command.add_argument("--engine", choices=("golden", "isa", "rtl"), default="golden",
                         help="default: %(default)s")
    command.add_argument("--inputs", required=True, metavar="X.npy",
                         help="batch; .npz with one array per input where there are several")
    command.add_argument("--outputs", metavar="Y.npy",
                         help="the results; .npz where there are several")
    command.add_argument("--limit", type=_count, metavar="N", help="the first N images only")
    command.add_argument("--latency", type=_count, default=32, metavar="CYCLES",
                         help="of the memory (default: %(default)s)")
    command.add_argument("--waves", metavar="FILE.fst", help="waveforms, engine rtl only")
    command.add_argument("--json", metavar="FILE", help="write the figures as JSON")

    command = commands.add(
        "report", _report, "show what a build reached",
        "Show cycles, utilization, throughput, area, layers and memory of a build.",
        "  systolith report out\n  systolith report out --json figures.json")
    command.add_argument("dir", metavar="DIR")
    command.add_argument("--json", metavar="FILE", help="write the report as JSON")

    command = commands.add(
        "area", _area, "measure area: of a chip part by part, or of processing elements",
        "With --chip: map the core with Yosys and count LUTs, flip-flops, DSP blocks and block "
        "RAMs of each\npart: one processing element, the array, accumulators, post-processing, "
        "memories, DMA, control;\nwith --array too, the array alone against the elements in it.\n\n"
        "With --formats: a table of single processing elements, by format and target, as CSV, "
        "JSON, Markdown\nand a chart. An interrupted table goes on where it stopped.",
        "  systolith area --chip ulx3s-8x8\n"
        "  systolith area --chip tiny-2x4-int4 --target ice40 --json area.json\n"
        "  systolith area --chip sim-16x16-int8 --array --target xc7 --no-dsp\n"
        "  systolith area --formats all --jobs 2 -o area\n"
        "  systolith area --formats e3m2,int8:e3m0,bipolar1:bipolar1:64 --targets xc7,asic -o area")
    _add_chip(command, required=False)
    command.add_argument("--target", choices=("ecp5", "xc7", "ice40", "asic"),
                         help="of a chip (not asic; default: the board's, else ecp5) or an array "
                              "(default: xc7)")
    command.add_argument("--no-dsp", action="store_true", help="build multipliers of LUTs")
    command.add_argument("--array", action="store_true", help="of a chip, the array alone")
    command.add_argument("--flatten", action="store_true",
                         help="map the array as one module; takes long")
    command.add_argument("--formats", type=_names, metavar="FORMAT,...",
                         help="elements: FORMAT, ACTIVATION:WEIGHT, "
                              "ACTIVATION:WEIGHT:LANES, or all")
    command.add_argument("--targets", type=_names, metavar="TARGET,...",
                         help="of elements, among xc7, ecp5, ice40, asic (default: all)")
    command.add_argument("--liberty", metavar="FILE",
                         help="standard cells, for um2 (default: those of Debian's package "
                              "qflow-tech-osu018, if it is installed)")
    command.add_argument("--jobs", type=_count, default=2, metavar="N",
                         help="elements measured at the same time (default: %(default)s)")
    command.add_argument("-o", "--output", metavar="DIR",
                         help="of the table (default: build/area)")
    command.add_argument("--log", metavar="FILE", help="keep Yosys's log")
    command.add_argument("--json", metavar="FILE")

    command = commands.add(
        "timing", _timing, "place and route a chip on its board, or an array alone",
        "Place and route with several seeds, and tell the clock that is reached: with --chip the "
        "top level\nof the chip's board; with --array a systolic array alone on an ECP5-85k of "
        "speed grade 6, pins\nthrough shift registers. Needs the extra `timing`; minutes per seed.",
        "  systolith timing --chip ulx3s-8x8-e3m2 --seeds 3\n"
        "  systolith timing --array e3m2 --seeds 5\n"
        "  systolith timing --array bipolar1 --lanes 64 --stages 1 --json xnor.json")
    _add_chip(command, required=False)
    command.add_argument("--array", metavar="FORMAT", help="of the array's activations")
    command.add_argument("--weight", metavar="FORMAT", help="of its weights (default: the same)")
    for name, default in (("lanes", 1), ("rows", 8), ("columns", 8)):
        command.add_argument(f"--{name}", type=_count, default=default, metavar="N",
                             help="of the array (default: %(default)s)")
    command.add_argument("--stages", type=_count, metavar="N",
                         help="of its elements (default: what the format needs for a fast clock)")
    command.add_argument("--dsp", action="store_true", help="products in DSP blocks")
    command.add_argument("--seeds", type=_count, default=3, metavar="N",
                         help="default: %(default)s")
    command.add_argument("--json", metavar="FILE")

    command = commands.add(
        "sweep", _sweep, "measure many chips",
        "Measure area (Yosys) and cycles (cycle model) of every chip in a space. Results are "
        "written as\nthey come; an interrupted sweep goes on where it stopped. Ends with a CSV "
        "and a Pareto plot.",
        "  systolith sweep examples/sweep/formats.toml -o sweep --jobs 2")
    command.add_argument("space", metavar="SPACE.toml")
    command.add_argument("-o", "--output", required=True, metavar="DIR")
    command.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="N",
                         help="points at the same time (default: %(default)s)")

    command = commands.add(
        "disasm", _disasm, "list a build's instructions",
        "List the program of a build, one instruction a line, as the assembler reads it.",
        "  systolith disasm out | less")
    command.add_argument("dir", metavar="DIR")

    command = commands.add(
        "regress", _regress, "random programs: the core against the simulator",
        "Run random programs and networks on random chips, RTL against the instruction-level "
        "simulator, with\nrandom stalls on the memory bus. A failure prints the command that "
        "repeats it with waveforms.",
        "  systolith regress --seeds 100 --jobs 2\n"
        "  systolith regress --chips ulx3s-8x8,random-3 --seeds 1000 --junit night.xml\n"
        "  systolith regress --chips random-3 --seed 17 --waves run.fst")
    command.add_argument("--chips", type=_names, metavar="NAME,...",
                         help="presets, TOML files, or random-N (default: random ones)")
    command.add_argument("--seeds", type=_count, default=20, metavar="N",
                         help="default: %(default)s")
    command.add_argument("--seed", type=int, metavar="N", help="this seed alone")
    command.add_argument("--jobs", type=_count, default=1, metavar="N",
                         help="simulations at the same time (default: %(default)s)")
    command.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    command.add_argument("--waves", metavar="FILE.fst", help="waveforms of one seed on one chip")

    command = commands.add(
        "prove", _prove, "prove processing elements on every pair of operands",
        "Run the RTL of processing elements, edge decoders included, on every pair of operand "
        "codes of every\npair of formats, and on random ones and corners beyond 8 bits. Results "
        "are written as they come; an\ninterrupted proof goes on where it stopped.",
        "  systolith prove --jobs 2 -o build/prove\n"
        "  systolith prove --formats e4m3,e5m2,hfp8 --structures lut6,lut4 -o build/prove\n"
        "  systolith prove --formal")
    command.add_argument("--formal", action="store_true",
                         help="instead: equivalence of small elements with their specification for "
                              "all operands and partial sums, by Yosys's SAT solver")
    command.add_argument("--formats", type=_names, metavar="NAME,...",
                         help="activations and weights (default: the catalogue)")
    command.add_argument("--structures", type=_names, metavar="NAME,...",
                         help="lut6, lut4, gates, dsp (default: all)")
    command.add_argument("--jobs", type=_count, default=1, metavar="N",
                         help="simulations at the same time (default: %(default)s)")
    command.add_argument("-o", "--output", default="build/prove", metavar="DIR",
                         help="default: %(default)s")

    command = commands.add(
        "demo", _demo, "the whole path on handwritten digits",
        "Build a trained network for a ULX3S board, measure its accuracy, run the RTL against "
        "the golden\nmodel, and show what it takes. Needs the folder examples/digits of the "
        "repository.",
        "  systolith demo\n  systolith demo --images 100 -o build/demo")
    command.add_argument("--examples", default="examples/digits", metavar="DIR",
                         help="default: %(default)s")
    command.add_argument("-o", "--output", default="build/demo", metavar="DIR",
                         help="default: %(default)s")
    command.add_argument("--images", type=_count, default=16, metavar="N",
                         help="digits simulated in RTL (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

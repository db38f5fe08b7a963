"""Commands on a build: running it, and reading what it is."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter

from ..command import MISMATCH, OK, Command
from ..options import (
    add_json,
    add_latency,
    add_macros,
    add_output,
    count,
    write_json,
    wrote,
)

__all__ = ["Disasm", "Report", "Simulate", "Trace"]


def _add_build(parser, help=None):
    parser.add_argument("dir", metavar="DIR", help=help)


class Simulate(Command):
    name, summary = "simulate", "run a build"
    text = (
        "Run a build on a batch of inputs, in the ONNX model's own layout and units (float32).\n\n"
        "  golden   exact model in numpy: fast, defines what is right\n"
        "  isa      the program, instruction by instruction, units in random order\n"
        "  rtl      the core's Verilog in Verilator, memory modelled to the cycle\n\n"
        "isa and rtl compare every layer's results with the golden model, bit for bit, and name "
        "the first\nlayer and element that differ (exit code 3).\n\n"
        "With --netlist, the engine rtl runs what synthesis has made of the core: simple gates or "
        "a library's\ncells, or the cells of an FPGA family as Yosys models them; or a file with "
        "your own tool's netlist of\nthe module systolith_core and all models. For small chips."
        "\n\n"
        "With --compare, list layer by layer how far the golden model is from what ONNX Runtime "
        "makes of the\nquantized model and of the float one; the table goes to compare.csv in the "
        "folder\nand to the page report.html, a chart to compare.png.")
    examples = (
        "  systolith simulate out --inputs x.npy --outputs y.npy\n"
        "  systolith simulate out --engine rtl --inputs x.npy --outputs y.npy --limit 16\n"
        "  systolith simulate out --engine rtl --inputs x.npy --limit 1 --waves run.fst\n"
        "  systolith simulate out --engine rtl --inputs x.npy --limit 1 --netlist ecp5\n"
        "  systolith simulate out --inputs x.npy --limit 100 --compare --float net.onnx")

    def arguments(self, parser: ArgumentParser) -> None:
        _add_build(parser, "folder made by `systolith build`")
        parser.add_argument("--engine", choices=("golden", "isa", "rtl"), default="golden",
                            help="default: %(default)s")
        parser.add_argument("--inputs", required=True, metavar="X.npy",
                            help="batch; .npz with one array per input where there are several")
        parser.add_argument("--outputs", metavar="Y.npy",
                            help="the results; .npz where there are several")
        parser.add_argument("--limit", type=count, metavar="N", help="the first N images only")
        add_latency(parser)
        parser.add_argument("--waves", metavar="FILE.fst", help="waveforms, engine rtl only")
        parser.add_argument("--netlist", metavar="KIND",
                            help="engine rtl: gates, ecp5, ice40, xc7, or FILE.v")
        parser.add_argument("--save-netlist", metavar="FILE.v",
                            help="with --netlist: keep what has run")
        parser.add_argument("--liberty", metavar="FILE",
                            help="with --netlist gates: the cells (default: simple gates)")
        add_macros(parser)
        parser.add_argument("--compare", action="store_true",
                            help="list how far each layer is from ONNX Runtime and from float")
        parser.add_argument("--float", metavar="FLOAT.onnx", dest="float_model",
                            help="the float network, with --compare (default: the one that the "
                                 "build knows, else the quantized network without its quantizers)")
        add_json(parser, "write the figures as JSON")

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import open_build
        from systolith.gen.flow.simulate import read_arrays, simulate, write_arrays
        from systolith.sim.machine.iss import ExecutionError
        from systolith.sim.rtl.device import DeviceError
        from systolith.sim.rtl.verilate import SimulationError
        inputs = read_arrays(options.inputs, options.limit)
        if options.float_model and not options.compare:
            raise UserError("--float goes with --compare only")
        build = open_build(options.dir)
        with Reporter() as progress:
            netlist = self._netlist(options, build.arch, progress)
            try:
                found = simulate(build, inputs, options.engine, limit=options.limit,
                                 waves=options.waves, latency=options.latency, netlist=netlist,
                                 progress=progress)
            except (SimulationError, DeviceError, ExecutionError) as error:
                raise UserError(f"the simulation did not finish: {error}") from error
        self._show(found)
        if options.outputs:
            write_arrays(options.outputs, found.outputs)
            wrote(options.outputs)
        if options.waves:
            wrote(options.waves)
        if options.compare:
            self._compare(options, build, inputs)
        write_json(options.json, found.to_dict())
        return MISMATCH if found.comparison and found.comparison.bits else OK

    @staticmethod
    def _netlist(options, arch, progress):
        """The text of the netlist that is to run, or None."""
        from systolith.gen.kit.files import write_file
        from systolith.gen.measure.gate_netlist import NETLISTS, core_netlist
        from systolith.gen.measure.macros import read_macros
        kind = options.netlist
        for name in ("save_netlist", "liberty", "macros"):
            if getattr(options, name) and kind != "gates" and (name != "save_netlist" or not kind):
                raise UserError(f"--{name.replace('_', '-')} goes with --netlist"
                                + " gates" * (name != "save_netlist") + " only")
        if kind is None:
            return None
        if options.engine != "rtl":
            raise UserError("--netlist goes with --engine rtl only")
        if kind in NETLISTS:
            macros = None if options.macros is None else read_macros(options.macros)
            with progress.step(f"{arch.name} as a netlist, {kind} (Yosys)"):
                text = core_netlist(arch, kind, liberty=options.liberty, macros=macros)
        elif Path(kind).is_file():
            text = Path(kind).read_text(errors="replace")
        else:
            raise UserError(f"--netlist {kind}: is neither a file nor one of {', '.join(NETLISTS)}")
        if options.save_netlist:
            wrote(write_file(options.save_netlist, text))
        return text

    def _compare(self, options, build, inputs):
        from systolith.gen.flow.build import FLOAT, MODEL
        from systolith.gen.flow.compare_onnx import compare_with_onnx
        from systolith.gen.flow.simulate import first_images
        from systolith.gen.report.build_page import add_comparison
        from systolith.gen.report.comparison import (
            comparison_facts,
            comparison_table,
            write_comparison,
        )
        kept = build.folder / FLOAT
        real = options.float_model or (kept if kept.is_file() else None)
        with Reporter() as progress:
            found = compare_with_onnx(build.graph, build.arch, build.folder / MODEL,
                                      first_images(inputs, options.limit), real, str(real or ""),
                                      progress=progress)
        found.arithmetic = build.arithmetic
        print()
        print(comparison_table(found))
        wrote(*write_comparison(found, build.folder), *add_comparison(
            build.folder, comparison_facts(found), found.rows))

    def _show(self, found):
        print(f"{found.images:,} images by the engine {found.engine}")
        if found.comparison:
            print(f"against the golden model: {found.comparison.bits:,} bits differ in "
                  f"{found.comparison.elements:,} results of all layers")
            if found.comparison.first:
                print(f"first difference: {found.comparison.first}")
        what = "per image" if found.batch == 1 else f"for a batch of {found.batch} images"
        if found.cycles:
            print(f"cycles {what}: {found.cycles:,} (cycle model: {found.cycles_model:,})" + (
                "" if found.compute_cycles is None
                else f", {found.compute_cycles:,} of them computing"))
            if found.together:
                rtl, model = found.together
                print(f"cycles until each of {found.arch.cores} cores has run once, from the first "
                      f"start on: {rtl:,} (cycle model: {model:,})")
            print(f"array utilization: {100 * found.utilization:.1f} %, all traffic included")
            print(f"simulation speed: {found.clocks_per_second:,.0f} clocks/s")
            self._show_counters(found)
        else:
            print(f"cycles {what} (cycle model): {found.cycles_model:,}")

    def _show_counters(self, found):
        from systolith.gen.report.report import units_table
        if found.activity is None:
            print("the chip has no counters of its units (control.counters)")
            return
        same = found.activity == found.model.activity
        print("\ncycles of each unit by the core's counters, "
              f"{'the same as' if same else 'not those of'} the cycle model:\n")
        print(units_table(found.activity, found.cycles))


class Report(Command):
    name, summary = "report", "show what a build reached"
    text = "Show cycles, utilization, throughput, area, layers and memory of a build."
    examples = "  systolith report out\n  systolith report out --json figures.json"

    def arguments(self, parser: ArgumentParser) -> None:
        _add_build(parser)
        add_json(parser, "write the report as JSON")

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import check_files
        from systolith.gen.report.report import markdown, read_report
        report = read_report(options.dir)
        check_files(options.dir)
        print(markdown(report))
        write_json(options.json, report.to_json())
        return OK


class Trace(Command):
    name, summary = "trace", "write a timeline of a build's run"
    text = (
        "Write a timeline of the units: what LOAD, ARRAY, POST and STORE do in each cycle for "
        "which layer, and\nwhat they wait for, by the cycle model, which is the core to the "
        "cycle. Open the file at\nhttps://ui.perfetto.dev or in chrome://tracing; a microsecond "
        "there is a cycle.")
    examples = (
        "  systolith trace out -o trace.json\n"
        "  systolith trace out -o trace.json.gz --latency 100\n"
        "  systolith trace out --picture timeline.png --cycles 1000:3000")

    def arguments(self, parser: ArgumentParser) -> None:
        _add_build(parser, "folder made by `systolith build`")
        add_output(parser, "FILE.json", help="Chrome's trace events; .json.gz: packed")
        parser.add_argument("--picture", metavar="FILE.png", help="draw it: .png, .svg or .pdf")
        parser.add_argument("--cycles", default=":", metavar="BEGIN:END",
                            help="these alone (default: all)")
        add_latency(parser)

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import open_build
        from systolith.gen.report.trace import span, write_trace
        from systolith.sim.machine.cycles import cycles
        if not options.output and not options.picture:
            raise UserError("trace writes what -o or --picture name; give one of them")
        build = open_build(options.dir)
        with Reporter() as progress, progress.step("Counting cycles"):
            timing = cycles(build.program, options.latency)
        part_of = span(options.cycles, timing.cycles)
        files = []
        if options.picture:
            from systolith.gen.report.timeline import write_picture
            files.append(write_picture(build.program, timing, options.picture, *part_of))
        if options.output:
            files.append(write_trace(build.program, timing, options.output, *part_of))
        wrote(*files)
        return OK


class Disasm(Command):
    name, summary = "disasm", "list a build's instructions"
    text = "List the program of a build, one instruction a line, as the assembler reads it."
    examples = "  systolith disasm out | less"

    def arguments(self, parser: ArgumentParser) -> None:
        _add_build(parser)

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import open_build
        program = open_build(options.dir).program
        layers = [layer.name for layer in program.host.layers]
        for number, instruction in enumerate(program.instructions):
            layer = f"    # {layers[instruction.layer]}" if instruction.unit is not None else ""
            print(f"{number:5}  {instruction}{layer}")
        return OK

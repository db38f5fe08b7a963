"""Commands that measure a chip or its parts: area by Yosys, clock by place and route or OpenSTA."""

import sys
from argparse import ArgumentParser, Namespace

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter

from ..command import OK, Command
from ..options import (
    add_chip,
    add_clock,
    add_dsp,
    add_jobs,
    add_json,
    add_macros,
    add_output,
    add_seed_jobs,
    add_seeds,
    chip,
    count,
    names,
    on_board,
    write_json,
    wrote,
)

__all__ = ["Area", "Timing"]


class Area(Command):
    name = "area"
    summary = "measure area: of a chip part by part, or of processing elements"
    text = (
        "With --chip: map the core with Yosys and count LUTs, flip-flops, DSP blocks and block "
        "RAMs of each\npart: one processing element, the array, accumulators, post-processing, "
        "memories, DMA, control;\nwith --array too, the array alone against the elements in it. "
        "With --target asic: NAND2-equivalents, or\nwith --liberty that library's cells and um2; "
        "memories are macros, those of a table with --macros.\n\n"
        "With --formats: a table of single processing elements, by format and target, as CSV, "
        "JSON, Markdown\nand a chart. An interrupted table goes on where it stopped.")
    examples = (
        "  systolith area --chip ulx3s-8x8\n"
        "  systolith area --chip tiny-2x4-int4 --target ice40 --json area.json\n"
        "  systolith area --chip sim-16x16-int8 --array --target xc7 --no-dsp\n"
        "  systolith area --chip sim-16x16-int8 --target asic --liberty cells.lib\n"
        "  systolith area --formats all --jobs 2 -o area\n"
        "  systolith area --formats e3m2,int8:e3m0,bipolar1:bipolar1:64 --targets xc7,asic -o area")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.gen.measure.element_area import ELEMENT_TARGETS
        add_chip(parser, required=False)
        parser.add_argument("--target", choices=(*ELEMENT_TARGETS, "gowin"),
                            help="of a chip (default: the board's, else ecp5) or an "
                                 "array (default: xc7)")
        parser.add_argument("--no-dsp", action="store_true", help="build multipliers of LUTs")
        parser.add_argument("--array", action="store_true", help="of a chip, the array alone")
        parser.add_argument("--flatten", action="store_true",
                            help="map the array as one module; takes long")
        parser.add_argument("--formats", type=names, metavar="FORMAT,...",
                            help="elements: FORMAT, ACTIVATION:WEIGHT, "
                                 "ACTIVATION:WEIGHT:LANES, FORMAT+signs (an element that "
                                 "multiplies signs, too), FORMAT+halves (halves of codes), or "
                                 "all")
        parser.add_argument("--targets", type=names, metavar="TARGET,...",
                            help=f"of elements, among {', '.join(ELEMENT_TARGETS)} (default: all)")
        parser.add_argument("--liberty", metavar="FILE",
                            help="standard cells, for um2 (elements: default: those of Debian's "
                                 "package qflow-tech-osu018, if it is installed)")
        add_macros(parser)
        add_jobs(parser, "elements measured", 2)
        add_output(parser, "DIR", help="of the table (default: build/area)")
        parser.add_argument("--log", metavar="FILE", help="keep Yosys's log")
        add_json(parser)

    def run(self, options: Namespace) -> int:
        if (options.chip is None) == (options.formats is None):
            raise UserError("area needs either --chip (a chip, or with --array its array) or "
                            "--formats (a table of processing elements)")
        if options.formats is not None:
            return self._elements(options)
        if options.array:
            return self._array(options)
        for name in ("targets", "output", "flatten"):
            self._only(options, name, "--formats" if name != "flatten" else "--array")
        return self._chip(options)

    @staticmethod
    def _only(options, name, where):
        if getattr(options, name):
            flag = "-o" if name == "output" else f"--{name}"
            raise UserError(f"{flag} goes with {where} only")

    def _elements(self, options):
        from systolith.gen.measure.element_area import ELEMENT_TARGETS, find_liberty
        from systolith.gen.study.element_table import area_table
        for name in ("set", "array", "target", "no_dsp", "log", "json", "flatten", "macros"):
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
        wrote(*files)
        return OK

    def _array(self, options):
        from systolith.gen.measure.array_area import array_area
        for name in ("targets", "liberty", "output"):
            self._only(options, name, "--formats")
        self._only(options, "macros", "--chip and --target asic")
        arch = chip(options.chip, options)
        with Reporter() as progress:
            area = array_area(arch, options.target or "xc7", dsp=not options.no_dsp,
                              flatten=options.flatten, progress=progress)
        key, units = area["figure"], {"lut": "LUT", "slice_lut": "LUT4 + 2 CCU2C"}
        print(f"{arch.rows} x {arch.columns} elements of {arch.activation} x {arch.weight} for "
              f"{area['target']}, edges and skew included, "
              f"{'flattened' if options.flatten else 'hierarchy kept'}:")
        parts = []
        for name, unit, ratio in ((key, units.get(key, key), area["ratio"]),
                                  ("ff", "FF", area["ff_ratio"])):
            times = "beside" if ratio is None else f"are {ratio:.3f} times"
            parts.append(f"{area['array'][name]:,} {unit} {times} {area['count']:,} elements "
                         f"of {area['element'][name]:,}")
        print("; ".join(parts))
        write_json(options.json, area)
        return OK

    def _chip(self, options):
        from systolith.gen.kit.tables import text_table
        from systolith.gen.measure.area import Figures
        from systolith.gen.measure.chip_area import chip_area
        from systolith.gen.report.report import area_rows
        from systolith.hw.board.boards import BOARDS
        arch = chip(options.chip, options)
        board = BOARDS.get(arch.board)
        target = options.target or (board.part.target if board else "ecp5")
        if target == "asic":
            return self._asic(options, arch)
        for name in ("liberty", "macros"):
            self._only(options, name, "--target asic" + " or --formats" * (name == "liberty"))
        with Reporter() as progress, progress.step(f"Area of {arch.name} for {target} (Yosys)"):
            area = chip_area(arch, target, dsp=not options.no_dsp, log=options.log)
        device = board.part if board and board.part.target == target else None
        print(f"The core of {arch.name} for {target}, by Yosys, hierarchy kept"
              + (f"; the part is the {device.name}" if device else "") + "\n")
        print(text_table(area_rows(area, None if device is None else Figures.of(device)), "lrrrr"))
        if area.in_flipflops:
            print("\nmemories that became flip-flops:", ", ".join(area.in_flipflops))
        write_json(options.json, area.to_json())
        return OK

    @staticmethod
    def _asic(options, arch):
        from systolith.gen.kit.tables import text_table
        from systolith.gen.measure.chip_area import chip_area
        from systolith.gen.measure.macros import read_macros
        if options.no_dsp:
            raise UserError("--no-dsp does not go with --target asic, which has no DSP blocks")
        macros = None if options.macros is None else read_macros(options.macros)
        with Reporter() as progress, progress.step(f"Area of {arch.name} as an ASIC (Yosys)"):
            area = chip_area(arch, "asic", liberty=options.liberty, macros=macros,
                             log=options.log)
        cells = ("in simple gates" if area.liberty is None
                 else f"in cells of {area.liberty.name}")
        print(f"The core of {arch.name} as an ASIC {cells}, by Yosys, hierarchy kept, before "
              f"layout\n")
        print(text_table(area.rows(), "lrrrrr"))
        print("\nmacros:", ", ".join(
            f"{area.cells[macro.name]:,} {macro.name}"
            + ("" if macro.area is None else f" of {macro.area:,.1f} um2") for macro in area.macros)
            + f"; memories fill {area.memory_bits:,} of their {area.total['macro_bits']:,} bits")
        if area.in_flipflops:
            print("memories that became flip-flops:", ", ".join(area.in_flipflops))
        write_json(options.json, area.to_json())
        return OK


class Timing(Command):
    name, summary = "timing", "place and route a chip on its board, or an array alone"
    text = (
        "Place and route with several seeds, and tell the clock that is reached: with --chip the "
        "top level\nof the chip's board; with --array a systolic array alone on an ECP5-85k of "
        "speed grade 6, pins\nthrough shift registers. The slowest paths are told in the design's "
        "own names. Needs the extra\n`boards`; minutes per seed, less with nextpnr on PATH. Exit "
        "code 1 where no seed closes timing at the\nboard's clock.\n\n"
        "With --target asic: the core in cells of --liberty, before layout, by OpenSTA (the "
        "command sta).")
    examples = (
        "  systolith timing --chip ulx3s-8x8-e3m2 --seeds 3\n"
        "  systolith timing --chip sim-16x16-int8 --target asic --liberty cells.lib\n"
        "  systolith timing --array e3m2 --seeds 5\n"
        "  systolith timing --array bipolar1 --lanes 64 --stages 1 --json xnor.json")

    def arguments(self, parser: ArgumentParser) -> None:
        add_chip(parser, required=False)
        parser.add_argument("--array", metavar="FORMAT", help="of the array's activations")
        parser.add_argument("--weight", metavar="FORMAT",
                            help="of its weights (default: the same)")
        for name, default in (("lanes", 1), ("rows", 8), ("columns", 8)):
            parser.add_argument(f"--{name}", type=count, default=default, metavar="N",
                                help="of the array (default: %(default)s)")
        parser.add_argument("--stages", type=count, metavar="N",
                            help="of its elements (default: what the format needs for a fast "
                                 "clock)")
        parser.add_argument("--target", choices=("asic",),
                            help="of a chip: its core in standard cells instead of on its board")
        parser.add_argument("--liberty", metavar="FILE", help="with --target asic: the cells")
        add_macros(parser)
        add_dsp(parser)
        add_clock(parser)
        add_seeds(parser, 3)
        add_seed_jobs(parser)
        add_json(parser)

    def run(self, options: Namespace) -> int:
        if (options.chip is None) == (options.array is None):
            raise UserError("timing needs either --chip (a chip on its board) or --array (a "
                            "systolic array alone)")
        seeds = range(1, options.seeds + 1)
        if options.target is None and (options.liberty or options.macros):
            raise UserError("--liberty and --macros go with --target asic only")
        if options.target is not None:
            return self._asic(options)
        if options.array is not None:
            return self._array(options, seeds)
        from systolith.gen.measure.place_and_route import board_timing, timing_text
        arch = on_board(chip(options.chip, options), options)
        with Reporter() as progress:
            timing = board_timing(arch, seeds=seeds, jobs=options.jobs, progress=progress)
        print(f"{arch.name} on the {arch.board}, placed and routed: {timing_text(timing)}")
        write_json(options.json, timing.to_dict())
        timing.needs_to_close(f"the {arch.board}")
        return OK

    @staticmethod
    def _asic(options):
        from systolith.gen.measure.asic_timing import asic_timing
        from systolith.gen.measure.macros import read_macros
        if options.array is not None:
            raise UserError("--target asic goes with --chip only")
        if options.liberty is None:
            raise UserError("--target asic needs --liberty, a file of standard cells")
        macros = None if options.macros is None else read_macros(options.macros)
        arch = chip(options.chip, options)
        with Reporter() as progress, progress.step(
                f"Timing of {arch.name} as an ASIC (Yosys, OpenSTA)"):
            timing = asic_timing(arch, options.liberty, macros=macros)
        print(f"{arch.name} in cells of {timing.library}, before layout, without wires: "
              f"{timing.mhz:.1f} MHz; the slowest paths:")
        for path in timing.paths:
            print(f"  {path}")
        if timing.untimed:
            print(f"not counted: paths from and to the macros {', '.join(timing.untimed)}, of "
                  f"which there is no liberty file")
        write_json(options.json, timing.to_dict())
        return OK

    def _array(self, options, seeds):
        from systolith.gen.measure.array_clock import PART, array_arch, array_timing
        from systolith.gen.measure.place_and_route import timing_text
        if options.set or options.clock:
            raise UserError(f"{'--set' if options.set else '--clock'} goes with --chip only")
        arch = array_arch(options.array, options.weight or options.array, rows=options.rows,
                          columns=options.columns, lanes=options.lanes, stages=options.stages,
                          dsp=options.dsp)
        with Reporter() as progress:
            timing = array_timing(arch, seeds=seeds, jobs=options.jobs, progress=progress)
        lanes = f", {arch.lanes} lanes" if arch.lanes > 1 else ""
        print(f"{arch.rows} x {arch.columns} elements of {arch.name}{lanes}, {timing.stages} "
              f"stage{'s' if timing.stages > 1 else ''}, on {PART}, speed grade 6, placed and "
              f"routed: {timing_text(timing)}")
        area = timing.area
        print(f"the array alone: {area['lut']:,} LUT4, {area['carry']:,} CCU2C, {area['ff']:,} FF"
              + (f", {area['dsp']:,} DSP" if area["dsp"] else ""))
        write_json(options.json, {
            "rows": arch.rows, "columns": arch.columns, "lanes": arch.lanes,
            "activation": arch.activation.name, "weight": arch.weight.name,
            "structure": arch.pe_structure} | timing.to_dict())
        return OK

"""Commands that write a chip: its description, its Verilog, the input of an ASIC's layout."""

import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import new_folder, write_file
from systolith.gen.kit.progress import Reporter

from ..command import OK, Command
from ..options import (
    add_chip,
    add_macros,
    add_output,
    add_part,
    add_set,
    chip,
    part,
    wrote,
)

__all__ = ["Asic", "Init", "Verilog"]


class Init(Command):
    name, summary = "init", "write a commented chip description"
    text = (
        "Write a chip description with every key, its meaning and its default. Edit it and give "
        "it to\nthe other commands as --chip. With --for, the chip is one on which a model maps: "
        "its formats, the\nunits that its layers need, buffers as small as cost few cycles; a "
        "table says what each choice costs.")
    examples = (
        "  systolith init -o chip.toml\n"
        "  systolith init --preset tiny-2x4-int4 --set array.rows=3 name=mine -o mine.toml\n"
        "  systolith init --for net.onnx -o chip.toml\n"
        "  systolith init --for net.onnx --board ulx3s-85f --set array.rows=8 -o chip.toml")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.gen.chip.presets import preset_names
        from systolith.hw.board.boards import BOARDS
        parser.add_argument("--preset", metavar="NAME",
                            help="start from this one of " + ", ".join(preset_names())
                                 + " (default: ulx3s-8x8)")
        parser.add_argument("--for", dest="model", metavar="MODEL.onnx",
                            help="choose a chip for this network; a float one counts as if "
                                 "quantized to int8, or to the formats given by --set")
        parser.add_argument("--board", choices=("none", *BOARDS), metavar="BOARD",
                            help="with --for: a board that the chip must fit: "
                                 + ", ".join(BOARDS))
        parser.add_argument("--no-area", action="store_true",
                            help="with --for: do not measure areas, which takes some minutes")
        add_part(parser)
        add_set(parser)
        add_output(parser, "FILE", help="default: standard output")
        parser.add_argument("--force", action="store_true", help="replace an existing file")

    def run(self, options: Namespace) -> int:
        from systolith.gen.chip.toml import commented_toml
        output = options.output
        if output is not None and Path(output).exists() and not options.force:
            raise UserError(f"{output}: exists already; --force replaces it")
        if options.model is None:
            if options.board or options.no_area or options.shape or options.cut:
                raise UserError("--board, --no-area, --shape and --outputs go with --for only")
            text = commented_toml(chip(options.preset or "ulx3s-8x8", options))
        else:
            text = self._fitted(options)
        if output is None:
            print(text, end="")
            return OK
        wrote(write_file(output, text))
        return OK

    def _fitted(self, options):
        """The text of a chip for a model; what was chosen is shown beside it."""
        from systolith.gen.chip.toml import overridden_fields
        from systolith.gen.flow.fit_chip import fit, fitted_toml, graph_of
        if options.preset:
            raise UserError("--preset does not go with --for, which chooses all keys; --set fixes "
                            "some")
        fixed = overridden_fields(options.set)
        name = re.sub(r"[^\w.+-]+", "-", Path(options.output or options.model).stem).lstrip("-._+")
        board = options.board or fixed.pop("board", "none")
        with Reporter() as progress:
            with progress.step(f"Reading {options.model}"):
                graph = graph_of(part(options).of(options.model), fixed)
            found = fit(graph, board=board, fixed=fixed, name=fixed.pop("name", name or "chip"),
                        area=not options.no_area, progress=progress)
        shown = sys.stdout if options.output else sys.stderr
        print(found.table(), *found.notes, f"{found.cycles:,} cycles an image on {found.arch.name}",
              sep="\n", file=shown)
        return fitted_toml(found, options.model)


class Verilog(Command):
    name, summary = "verilog", "write the Verilog of a chip"
    text = (
        "Write the core as one Verilog file: the module systolith_core, an AXI4 master with "
        "AXI4-Lite\nregisters.\n\n"
        "With --board none: a folder for your own FPGA or system on chip. Its module systolith has "
        "all ports of\nAXI4 and AXI4-Lite; beside it are constraints (SDC), a core file for "
        "FuseSoC, IP-XACT for Vivado and\nothers. With --board pynq-z2 also the script from which "
        "Vivado makes the board's bitstream.")
    examples = (
        "  systolith verilog --chip ulx3s-8x8 -o core.v\n"
        "  systolith verilog --chip chip.toml --set array.columns=12 -o core.v\n"
        "  systolith verilog --chip sim-16x16-int8 --board none -o core\n"
        "  systolith verilog --chip sim-16x16-int8 --board pynq-z2 -o pynq")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.gen.chip.package import PACKAGED
        add_chip(parser)
        parser.add_argument("--board", choices=PACKAGED, metavar="BOARD",
                            help=f"a folder for another flow, one of {', '.join(PACKAGED)}")
        add_output(parser, "OUT", required=True, help="file, or with --board a folder")

    def run(self, options: Namespace) -> int:
        from systolith.gen.chip.package import package_files
        from systolith.gen.chip.verilog import core_verilog
        arch = chip(options.chip, options)
        if options.board is not None:
            with Reporter() as progress, progress.step(f"Writing the Verilog of {arch.name}"), \
                    new_folder(options.output) as folder:
                files = package_files(arch, core_verilog(arch), options.board)
                for name, text in files.items():
                    (folder / name).write_text(text)
            wrote(*(Path(options.output) / name for name in files))
            return OK
        with Reporter() as progress, progress.step(f"Writing the Verilog of {arch.name}"):
            path = write_file(options.output, core_verilog(arch))
        wrote(path)
        return OK


class Asic(Command):
    name, summary = "asic", "write the input of LibreLane for a chip's layout"
    text = (
        "Write a folder for LibreLane, the successor of OpenLane 2: Verilog whose memories are "
        "macros, their black\nboxes and behaviour, constraints (SDC) and config.json. Macros are "
        "those of a table (--macros), else one\nfor each memory; where the table has no LEF, GDS "
        "or liberty file, config.json says FILL_IN.")
    examples = (
        "  systolith asic build/int8 --macros sky130.toml -o layout\n"
        "  systolith asic --chip sim-16x16-int8 --mhz 100 -o layout")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dir", nargs="?", metavar="DIR", help="a build: its chip")
        add_chip(parser, required=False)
        add_macros(parser)
        parser.add_argument("--mhz", type=float, metavar="N",
                            help="the clock (default: clock.mhz of the chip)")
        add_output(parser, "OUT", required=True, help="folder")

    def run(self, options: Namespace) -> int:
        from systolith.gen.chip.verilog import core_verilog
        from systolith.gen.flow.bitstream import chip_of_build
        from systolith.gen.measure.area import built_for
        from systolith.gen.measure.librelane import librelane_files
        from systolith.gen.measure.macros import read_macros, with_macros
        if (options.dir is None) == (options.chip is None):
            raise UserError("asic needs either DIR (a build) or --chip (a chip)")
        if options.dir is not None and options.set:
            raise UserError("--set goes with --chip only")
        arch = chip(options.chip, options) if options.chip else chip_of_build(options.dir)[0]
        macros = None if options.macros is None else read_macros(options.macros)
        with Reporter() as progress, progress.step(f"Memories of {arch.name} as macros (Yosys)"), \
                new_folder(options.output) as folder:
            # the circuit is another for gates, and so is the text, but not the program
            core, used = with_macros(core_verilog(built_for(arch, "asic", dsp="post")), arch,
                                     macros)
            files = librelane_files(arch, core, used, mhz=options.mhz)
            for name, text in files.items():
                (folder / name).write_text(text)
        wrote(*(Path(options.output) / name for name in files))
        if missing := sorted(macro.name for macro in used
                             if not {"lef", "gds", "liberty"} <= set(macro.views)):
            print(f"to be filled in in config.json: files of {', '.join(missing)}")
        return OK

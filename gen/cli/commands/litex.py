"""The command that puts a chip into a LiteX SoC."""

import shlex
from argparse import ArgumentParser, Namespace

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter

from ..command import OK, Command
from ..options import add_build_or_chip, add_output, add_seed_jobs, add_seeds, build_or_chip, wrote

__all__ = ["Litex"]


class Litex(Command):
    name, summary = "litex", "make a LiteX SoC of a chip, for a board with SDRAM"
    text = (
        "Write a SoC without a CPU for a board that LiteX supports: the chip of a build (or "
        "--chip), LiteDRAM's\ncontroller of the board's memory, and a link of the host to both. "
        "The folder gets gateware/ (Verilog,\nconstraints, build script) and soc.json, which "
        "`systolith run --device litex:HOST:PORT` reads; the host\nstarts the SDRAM, no RISC-V "
        "compiler is needed. With --build the open flow makes the bitstream (ECP5\nboards; the "
        "extra `boards`); a clock that no seed closes is refused (exit code 1). With --area Yosys "
        "tells\nwhat the SoC takes of the board's part. Needs the extra `litex`.")
    examples = (
        "  systolith litex out --board ulx3s-85f --build\n"
        "  systolith litex out --board ecpix5-85f --link ethernet -o soc\n"
        "  systolith litex --chip ulx3s-8x8 --board arty-a7-100t --clock 80 --area -o soc")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.gen.flow.litex_soc import LINKS, LITEX_BOARDS
        add_build_or_chip(parser, tuple(LITEX_BOARDS))
        parser.add_argument("--clock", type=float, metavar="MHZ",
                            help="clock of SoC and core (default: the board's, as in docs)")
        parser.add_argument("--link", choices=LINKS,
                            help="how the host reaches the SoC (default: uart)")
        parser.add_argument("--build", action="store_true",
                            help="make the bitstream, too (Yosys, nextpnr, ecppack)")
        parser.add_argument("--area", action="store_true",
                            help="print what the SoC takes of the board's part (Yosys)")
        add_seeds(parser, 3)
        add_seed_jobs(parser)
        add_output(parser, "OUT", help="folder of the results (default: DIR/litex)")

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.litex_build import build_soc, needs_open_flow, soc_area
        from systolith.gen.flow.litex_soc import LITEX_BOARDS, write_soc
        from systolith.gen.kit.tables import text_table
        from systolith.gen.measure.area import Figures
        from systolith.gen.measure.place_and_route import timing_text
        from systolith.gen.report.report import area_rows
        from systolith.hw.board.parts import PARTS
        from systolith.sim.rtl.litex_link import MAP
        arch, _, output = build_or_chip(options, "litex")
        board = options.board or arch.board
        if board not in LITEX_BOARDS:
            raise UserError(f"the chip's board, {board!r}, is none that LiteX brings up here; "
                            f"give --board, one of {', '.join(LITEX_BOARDS)}")
        if options.build:
            needs_open_flow(board)
        with Reporter() as progress:
            soc = write_soc(board, arch, output, mhz=options.clock, link=options.link,
                            progress=progress)
            area = soc_area(board, arch, output, progress) if options.area else None
            made = build_soc(board, arch, output, mhz=soc["clock_mhz"],
                             seeds=range(1, options.seeds + 1), jobs=options.jobs,
                             progress=progress) if options.build else None
        print(f"{arch.name} in a SoC for the {board} at {soc['clock_mhz']:g} MHz, with "
              f"{soc['memory']['bytes'] >> 20} MiB of {soc['sdram']['type']} memory")
        wrote(output / MAP, output / "gateware")
        if area:
            part = PARTS[LITEX_BOARDS[board].part]
            print(f"on the {part.name}, by Yosys:\n")
            print(text_table(area_rows(area, Figures.of(part)), "lrrrr"))
        if made:
            print(timing_text(made.timing))
            wrote(made.report, made.file)
            print(f"configure the board: {shlex.join(made.load)}")
        print(f"connect it: {shlex.join(soc['server'])}")
        if options.dir is not None:
            file = "" if options.output is None else f"@{output / MAP}"
            print(f"run: systolith run {options.dir} --device litex:localhost:1234{file} "
                  "--inputs x.npy")
        return OK

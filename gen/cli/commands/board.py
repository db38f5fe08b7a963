"""Commands on a board: the file that configures it."""

import shlex
from dataclasses import replace
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter

from ..command import OK, Command
from ..options import add_chip, add_output, add_seed_jobs, add_seeds, chip, wrote

__all__ = ["Bitstream"]


class Bitstream(Command):
    name, summary = "bitstream", "make the file that configures a board"
    text = (
        "Synthesis (Yosys), place and route (nextpnr) with several seeds, and the best one packed: "
        "a file that\nconfigures the board of a chip, or of a build. Programs come from PyPI with "
        "the extra `boards`;\nnextpnr or a packer on PATH is taken instead, which is several times "
        "faster. The folder keeps what\nis done: an interrupted run goes on there, more seeds are "
        "added to those it has. Exit code 1 where\nthe design does not fit or no seed closes "
        "timing at the board's clock.")
    examples = (
        "  systolith bitstream out\n"
        "  systolith bitstream --chip tiny-2x4-bnn --board ulx3s-12f -o bits\n"
        "  systolith bitstream --chip ulx3s-8x8 --seeds 8 --jobs 4 -o bits")

    def arguments(self, parser):
        from systolith.hw.board.boards import BOARDS
        parser.add_argument("dir", nargs="?", metavar="DIR",
                            help="folder made by `systolith build`")
        add_chip(parser, required=False)
        parser.add_argument("--board", choices=tuple(BOARDS), metavar="BOARD",
                            help=f"one of {', '.join(BOARDS)} (default: the chip's)")
        add_seeds(parser, 3)
        add_seed_jobs(parser)
        add_output(parser, "OUT", help="folder of the results (default: DIR/bitstream)")

    def run(self, options):
        from systolith.gen.flow.bitstream import bitstream, chip_of_build
        from systolith.gen.measure.place_and_route import timing_text
        if (options.dir is None) == (options.chip is None):
            raise UserError("bitstream needs either DIR (a build) or --chip (a chip)")
        note = None
        if options.dir is not None:
            if options.set:
                raise UserError("--set goes with --chip only")
            arch, note = chip_of_build(options.dir, options.board)
        else:
            if options.output is None:
                raise UserError("-o must name the folder of the results, where there is no build")
            arch = chip(options.chip, options)
        if options.board is not None:
            arch = replace(arch, board=options.board)
        output = options.output or Path(options.dir) / "bitstream"
        with Reporter() as progress:
            made = bitstream(arch, output, seeds=range(1, options.seeds + 1), jobs=options.jobs,
                             progress=progress)
        if note:
            print(f"note: {note}")
        timing = made.timing
        print(f"{arch.name} on the {arch.board}: runs at {made.board.clock_mhz:g} MHz; seed "
              f"{timing.best}, the best, closes {timing.mhz[timing.best]:.1f} MHz")
        print(timing_text(timing))
        wrote(made.report, made.file)
        print(f"configure the board: {shlex.join(made.load)}")
        return OK

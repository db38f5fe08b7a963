"""The command line of `systolith`: its commands, their arguments and help."""

import argparse
import os
from importlib.metadata import version

from systolith.gen.chip.toml import preset_names
from systolith.hw.board.boards import BOARDS
from systolith.hw.element.arithmetic import STRUCTURES

__all__ = ["make_parser"]


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

    def __init__(self, parser, functions):
        self.functions = functions
        self.commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(self, name, summary, text, examples):
        command = self.commands.add_parser(
            name, help=summary, description=text, epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(run=self.functions[name])
        return command


def _add_chip(command, required=True):
    command.add_argument("--chip", required=required, metavar="CHIP",
                         help="a TOML file, or a preset's name: " + ", ".join(preset_names()))
    _add_set(command)


def _add_set(command):
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                         help="change keys of the chip, such as array.rows=7 array.weight=int4")


def _sizes(text):
    from systolith.gen.importer.sizes import parse_sizes
    try:
        return parse_sizes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_part(command):
    """Options of what of a model is read."""
    command.add_argument("--shape", type=_sizes, action="append", default=[],
                         metavar="[NAME=]1,C,H,W",
                         help="sizes of an input that the model leaves open, the batch first; "
                              "once for each input")
    command.add_argument("--outputs", dest="cut", type=_names, default=(), metavar="TENSOR,...",
                         help="the part of the network that gives these tensors, which become its "
                              "outputs")
    command.add_argument("--inputs", dest="begin", type=_names, default=(), metavar="TENSOR,...",
                         help="the part of the network that begins with these tensors, which "
                              "become inputs")


def _add_batch(command):
    command.add_argument("--batch", type=int, default=1, metavar="N",
                         help="images that a run of the program computes (default: 1)")


def _add_recipe(command, required):
    """Options of post-training quantization; without `required`, of a command for which they are
    extra."""
    group = command.add_argument_group(
        "quantization", None if required else "of a float network, with --calibration")
    group.add_argument("--calibration", required=required, metavar="X.npy",
                       help="inputs as the float model takes them, some dozens or hundreds; .npz "
                            "with one array per input where there are several")
    group.add_argument("--range", choices=("min-max", "percentile", "mse"),
                       help="how the range of each tensor is chosen: all numbers, all but a few, "
                            "or the least squared error (default: mse)")
    group.add_argument("--percentile", type=float, metavar="P",
                       help="numbers within the range, in %%, with --range percentile (default: "
                            "99.99)")
    group.add_argument("--equalize", action="store_true",
                       help="scale channels so that neighbouring layers' weights spread alike")
    group.add_argument("--correct-bias", action="store_true",
                       help="move biases so that the mean of each layer's results stays")


def make_parser(functions):
    """The parser of the command line; `functions` takes a command's name to what runs it with the
    options: their `run`."""
    parser = argparse.ArgumentParser(
        prog="systolith", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="From a quantized neural network and a short description of a chip to a "
                    "working, proven accelerator.",
        epilog="a first tour:\n"
               "  systolith init --preset ulx3s-8x8-e3m2 -o chip.toml\n"
               "  systolith build digits-cnn.onnx --chip chip.toml -o out\n"
               "  systolith simulate out --engine rtl --inputs x.npy --outputs y.npy --limit 4\n"
               "  systolith report out\n\n"
               "exit codes: 0 done, 1 wrong input, 2 wrong command line, 3 a difference was found, "
               "4 a fault\nof Systolith itself: one line says where the traceback was saved and "
               "which files to send")
    parser.add_argument("--version", action="version", version=version("systolith"))
    commands = _Commands(parser, functions)

    command = commands.add(
        "init", "write a commented chip description",
        "Write a chip description with every key, its meaning and its default. Edit it and give "
        "it to\nthe other commands as --chip. With --for, the chip is one on which a model maps: "
        "its formats, the\nunits that its layers need, buffers as small as cost few cycles; a "
        "table says what each choice costs.",
        "  systolith init -o chip.toml\n"
        "  systolith init --preset tiny-2x4-int4 --set array.rows=3 name=mine -o mine.toml\n"
        "  systolith init --for net.onnx -o chip.toml\n"
        "  systolith init --for net.onnx --board ulx3s-85f --set array.rows=8 -o chip.toml")
    command.add_argument("--preset", metavar="NAME",
                         help="start from this one of " + ", ".join(preset_names())
                              + " (default: ulx3s-8x8)")
    command.add_argument("--for", dest="model", metavar="MODEL.onnx",
                         help="choose a chip for this network; a float one counts as if quantized "
                              "to int8, or to the formats given by --set")
    command.add_argument("--board", choices=("none", *BOARDS), metavar="BOARD",
                         help="with --for: a board that the chip must fit: " + ", ".join(BOARDS))
    command.add_argument("--no-area", action="store_true",
                         help="with --for: do not measure areas, which takes some minutes")
    _add_part(command)
    _add_set(command)
    command.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    command.add_argument("--force", action="store_true", help="replace an existing file")

    command = commands.add(
        "verilog", "write the Verilog of a chip",
        "Write the core as one Verilog file: the module systolith_core, an AXI4 master with "
        "AXI4-Lite\nregisters.",
        "  systolith verilog --chip ulx3s-8x8 -o core.v\n"
        "  systolith verilog --chip chip.toml --set array.columns=12 -o core.v")
    _add_chip(command)
    command.add_argument("-o", "--output", required=True, metavar="FILE")

    command = commands.add(
        "pe", "write one processing element for any use",
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
    command.add_argument("--columns", type=_count, default=1, metavar="N",
                         help="elements side by side that share their activations, and with --dsp "
                              "multiplications where two fit one block (default: %(default)s)")
    command.add_argument("--dsp", action="store_true", help="products in DSP blocks")
    command.add_argument("-o", "--output", required=True, metavar="DIR",
                         help="made, or replaced if it holds an earlier element")

    command = commands.add(
        "check", "say whether a model maps on a chip, and what each node becomes",
        "Say what every node of an ONNX network becomes: a layer or a part of one, a number "
        "format, work\nof the host; which bits each layer's sums need; what does not map, and what "
        "would make it. A float\nnetwork is looked at as if quantized to the chip's formats (int8 "
        "without --chip). Nothing is built.\nExit code 0 where it maps, 1 where it does not.",
        "  systolith check net.onnx\n"
        "  systolith check net.onnx --chip sim-16x16-int8 --shape x=1,3,96,96\n"
        "  systolith check float.onnx --chip ulx3s-8x8-e3m2 --calibration x.npy\n"
        "  systolith check net.onnx --chip chip.toml --set buffers.operands=512 --json check.json")
    command.add_argument("model", metavar="MODEL.onnx")
    _add_part(command)
    _add_chip(command, required=False)
    _add_batch(command)
    _add_recipe(command, required=False)
    command.add_argument("--json", metavar="FILE", help="write what was found as JSON")

    command = commands.add(
        "quantize", "quantize a float network",
        "Quantize a float ONNX network with calibration data. Beside the quantized model stand "
        "the error of\nevery layer (.csv, .json) and the float network that it is compared with "
        "(.float.onnx). Activations have\none scale per tensor, weights one per output channel.",
        "  systolith quantize net.onnx --calibration x.npy -o net-int8.onnx\n"
        "  systolith quantize net.onnx --calibration x.npy --activation e4m3 --weight e4m3 -o "
        "out.onnx\n"
        "  systolith quantize net.onnx --calibration x.npy --chip ulx3s-8x8-e3m2 --equalize -o "
        "out.onnx")
    command.add_argument("model", metavar="MODEL.onnx")
    _add_part(command)
    _add_recipe(command, True)
    for name in ("activation", "weight"):
        command.add_argument(f"--{name}", metavar="FORMAT",
                             help="such as int8, uint8, int6, e4m3, e3m2 (default: the chip's, "
                                  "else int8)")
    _add_chip(command, required=False)
    command.add_argument("-o", "--output", required=True, metavar="OUT.onnx")

    command = commands.add(
        "build", "compile a network for a chip",
        "Compile a quantized ONNX network for a chip, or a float one with calibration data. The "
        "folder then\nholds the Verilog, the program with its memory image, the board's top level "
        "and constraints,\nreport.json and report.md.",
        "  systolith build digits-cnn.onnx --chip ulx3s-8x8-e3m2 -o out\n"
        "  systolith build net.onnx --chip chip.toml --set buffers.weights=4096 -o out\n"
        "  systolith build float.onnx --calibration x.npy --chip chip.toml -o out")
    command.add_argument("model", metavar="MODEL.onnx")
    _add_part(command)
    _add_chip(command)
    command.add_argument("-o", "--output", required=True, metavar="DIR",
                         help="made, or replaced if it holds an earlier build")
    _add_batch(command)
    command.add_argument("--no-area", action="store_true",
                         help="leave the area out, which takes most of the time")
    _add_recipe(command, False)

    command = commands.add(
        "simulate", "run a build",
        "Run a build on a batch of inputs, in the ONNX model's own layout and units (float32).\n\n"
        "  golden   exact model in numpy: fast, defines what is right\n"
        "  isa      the program, instruction by instruction, units in random order\n"
        "  rtl      the core's Verilog in Verilator, memory modelled to the cycle\n\n"
        "isa and rtl compare every layer's results with the golden model, bit for bit, and name "
        "the first\nlayer and element that differ (exit code 3).\n\n"
        "With --compare, list layer by layer how far the golden model is from what ONNX Runtime "
        "makes of the\nquantized model and of the float one; the table goes to compare.csv in the "
        "folder, a chart to compare.png.",
        "  systolith simulate out --inputs x.npy --outputs y.npy\n"
        "  systolith simulate out --engine rtl --inputs x.npy --outputs y.npy --limit 16\n"
        "  systolith simulate out --engine rtl --inputs x.npy --limit 1 --waves run.fst\n"
        "  systolith simulate out --inputs x.npy --limit 100 --compare --float net.onnx")
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
    command.add_argument("--compare", action="store_true",
                         help="list how far each layer is from ONNX Runtime and from float")
    command.add_argument("--float", metavar="FLOAT.onnx", dest="float_model",
                         help="the float network, with --compare (default: the one that the build "
                              "knows, else the quantized network without its quantizers)")
    command.add_argument("--json", metavar="FILE", help="write the figures as JSON")

    command = commands.add(
        "report", "show what a build reached",
        "Show cycles, utilization, throughput, area, layers and memory of a build.",
        "  systolith report out\n  systolith report out --json figures.json")
    command.add_argument("dir", metavar="DIR")
    command.add_argument("--json", metavar="FILE", help="write the report as JSON")

    command = commands.add(
        "trace", "write a timeline of a build's run",
        "Write a timeline of the units: what LOAD, ARRAY, POST and STORE do in each cycle for "
        "which layer, and\nwhat they wait for, by the cycle model, which is the core to the "
        "cycle. Open the file at\nhttps://ui.perfetto.dev or in chrome://tracing; a microsecond "
        "there is a cycle.",
        "  systolith trace out -o trace.json\n"
        "  systolith trace out -o trace.json.gz --latency 100\n"
        "  systolith trace out --picture timeline.png --cycles 1000:3000")
    command.add_argument("dir", metavar="DIR", help="folder made by `systolith build`")
    command.add_argument("-o", "--output", metavar="FILE.json",
                         help="Chrome's trace events; .json.gz: packed")
    command.add_argument("--picture", metavar="FILE.png", help="draw it: .png, .svg or .pdf")
    command.add_argument("--cycles", default=":", metavar="BEGIN:END",
                         help="these alone (default: all)")
    command.add_argument("--latency", type=_count, default=32, metavar="CYCLES",
                         help="of the memory (default: %(default)s)")

    command = commands.add(
        "area", "measure area: of a chip part by part, or of processing elements",
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
        "timing", "place and route a chip on its board, or an array alone",
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
        "sweep", "measure many chips",
        "Measure area (Yosys) and cycles (cycle model) of every chip in a space. Results are "
        "written as\nthey come; an interrupted sweep goes on where it stopped. Ends with a CSV "
        "and a Pareto plot.",
        "  systolith sweep examples/sweep/formats.toml -o sweep --jobs 2")
    command.add_argument("space", metavar="SPACE.toml")
    command.add_argument("-o", "--output", required=True, metavar="DIR")
    command.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="N",
                         help="points at the same time (default: %(default)s)")

    command = commands.add(
        "disasm", "list a build's instructions",
        "List the program of a build, one instruction a line, as the assembler reads it.",
        "  systolith disasm out | less")
    command.add_argument("dir", metavar="DIR")

    command = commands.add(
        "regress", "random programs: the core against the simulator",
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
        "prove", "prove processing elements on every pair of operands",
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
                         help=", ".join(STRUCTURES) + " (default: all)")
    command.add_argument("--jobs", type=_count, default=1, metavar="N",
                         help="simulations at the same time (default: %(default)s)")
    command.add_argument("-o", "--output", default="build/prove", metavar="DIR",
                         help="default: %(default)s")

    command = commands.add(
        "demo", "the whole path on handwritten digits",
        "Build a trained network for a ULX3S board, measure its accuracy, run the RTL against "
        "the golden\nmodel, and show what it takes. Network and digits come with Systolith.",
        "  systolith demo\n  systolith demo --images 100 -o build/demo\n"
        "  systolith demo --files digits")
    command.add_argument("--examples", metavar="DIR",
                         help="another folder with digits-cnn.onnx and digits-test.npz")
    command.add_argument("-o", "--output", default="build/demo", metavar="DIR",
                         help="default: %(default)s")
    command.add_argument("--images", type=_count, default=16, metavar="N",
                         help="digits simulated in RTL (default: %(default)s)")
    command.add_argument("--files", metavar="DIR",
                         help="only write the networks and the digits to this folder: *.onnx, "
                              "x.npy, labels.npy, calibration.npy")
    return parser

"""Commands on a network: whether it maps, quantizing, building."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter

from ..command import OK, WRONG, Command
from ..options import (
    add_batch,
    add_chip,
    add_json,
    add_model,
    add_output,
    add_recipe,
    chip,
    no_recipe,
    other_chip,
    part,
    recipe,
    write_json,
    wrote,
)

__all__ = ["Build", "Check", "Quantize"]


def _calibration(options, activation, weight):
    """(`Recipe`, arrays) of --calibration, (None, None) without it."""
    from systolith.gen.flow.simulate import read_arrays
    if options.calibration is None:
        no_recipe(options)
        return None, None
    return recipe(options, activation, weight), read_arrays(options.calibration)


class Check(Command):
    name = "check"
    summary = "say whether a model maps on a chip, and what each node becomes"
    text = (
        "Say what every node of an ONNX network becomes: a layer or a part of one, a number "
        "format, work\nof the host; which bits each layer's sums need; what does not map, and what "
        "would make it. A float\nnetwork is looked at as if quantized to the chip's formats (int8 "
        "without --chip). Nothing is built.\nExit code 0 where it maps, 1 where it does not.")
    examples = (
        "  systolith check net.onnx\n"
        "  systolith check net.onnx --chip sim-16x16-int8 --shape x=1,3,96,96\n"
        "  systolith check float.onnx --chip ulx3s-8x8-e3m2 --calibration x.npy\n"
        "  systolith check net.onnx --chip chip.toml --set buffers.operands=512 --json check.json")

    def arguments(self, parser: ArgumentParser) -> None:
        add_model(parser)
        add_chip(parser, required=False)
        add_batch(parser)
        add_recipe(parser, required=False)
        add_json(parser, "write what was found as JSON")

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.check import check
        from systolith.gen.flow.check_text import text_of
        if options.set and options.chip is None:
            raise UserError("--set goes with --chip only")
        arch = None if options.chip is None else chip(options.chip, options)
        formats = ("int8", "int8") if arch is None else (arch.activation.name, arch.weight.name)
        asked, data = _calibration(options, *formats)
        found = check(part(options).of(options.model), arch, batch=options.batch, calibration=data,
                      recipe=asked, source=options.calibration)
        print(text_of(found, arch))
        if not found.maps and found.graph is not None:
            print(other_chip(options.model))
        write_json(options.json, found.to_dict())
        return OK if found.maps else WRONG


class Quantize(Command):
    name, summary = "quantize", "quantize a float network"
    text = (
        "Quantize a float ONNX network with calibration data. Beside the quantized model stand "
        "the error of\nevery layer (.csv, .json) and the float network that it is compared with "
        "(.float.onnx). Activations have\none scale per tensor, weights one per output channel.")
    examples = (
        "  systolith quantize net.onnx --calibration x.npy -o net-int8.onnx\n"
        "  systolith quantize net.onnx --calibration x.npy --activation e4m3 --weight e4m3 -o "
        "out.onnx\n"
        "  systolith quantize net.onnx --calibration x.npy --chip ulx3s-8x8-e3m2 --equalize -o "
        "out.onnx\n"
        "  systolith quantize net.onnx --calibration x.npy --layer 'conv*' weight=int4 "
        "rounding=learned -o out.onnx\n"
        "  systolith quantize net.onnx --calibration x.npy --chip chip.toml --budget cycles=80% "
        "--budget bytes=50000 -o out.onnx")

    def arguments(self, parser: ArgumentParser) -> None:
        add_model(parser)
        add_recipe(parser, required=True)
        for name in ("activation", "weight"):
            parser.add_argument(f"--{name}", metavar="FORMAT",
                                help="such as int8, uint8, int6, e4m3, e3m2; weights also pool4, "
                                     "int8 in a pool of 16 (default: the chip's, else int8)")
        parser.add_argument("--budget", action="append", default=[], metavar="COST=NUMBER",
                            help="give each layer's weights the format of --choose with which the "
                                 "results have the least noise within this budget of bytes (of "
                                 "weights), ace, bops or, on --chip, cycles; NUMBER%% is a share "
                                 "of what the network takes without budgets")
        parser.add_argument("--choose", metavar="FORMATS",
                            help="formats for --budget besides --weight, such as int6,int4 "
                                 "(default: the chip's buffers.weight_widths, else int4,int2)")
        add_chip(parser, required=False)
        add_output(parser, "OUT.onnx", required=True)

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.mixed import mixed, read_budgets
        from systolith.gen.flow.simulate import read_arrays
        from systolith.gen.quantize.quantize import quantize
        from systolith.gen.report.quantization import error_table, write_quantized
        formats, arch = ["int8", "int8"], None
        widths: tuple[int, ...] = (4, 2)
        if options.chip is not None:
            arch = chip(options.chip, options)
            formats = [arch.activation.name, arch.weight.name]
            widths = arch.weight_widths or widths
        elif options.set:
            raise UserError("--set goes with --chip only")
        asked, budgets = recipe(options, *formats), read_budgets(options.budget)
        asked.formats()
        if options.choose is not None and not budgets:
            raise UserError("--choose goes with --budget only")
        data, source = read_arrays(options.calibration), options.calibration
        model = part(options).of(options.model)
        with Reporter() as progress:
            if budgets:
                choices = (options.choose or ",".join(f"int{bits}" for bits in widths)).split(",")
                found = mixed(model, data, asked, choices, budgets, arch, source=source,
                              progress=progress)
                made = found.quantized
            else:
                made = quantize(model, data, asked, source=source, progress=progress)
        print(error_table(made.rows))
        if budgets:
            print(f"\n{found.text()}\n")
        wrote(*write_quantized(made, options.output))
        return OK


class Build(Command):
    name, summary = "build", "compile a network for a chip"
    text = (
        "Compile a quantized ONNX network for a chip, or a float one with calibration data. The "
        "folder then\nholds the Verilog, the program with its memory image, the board's top level "
        "and constraints,\nreport.json, report.md and report.html.")
    examples = (
        "  systolith build digits-cnn.onnx --chip ulx3s-8x8-e3m2 -o out\n"
        "  systolith build net.onnx --chip chip.toml --set buffers.weights=4096 -o out\n"
        "  systolith build float.onnx --calibration x.npy --chip chip.toml -o out\n"
        "  systolith build --from-sweep sweep 1f3a90c2 -o out\n"
        "  systolith build net.onnx --from-sweep sweep 1f3a90c2 -o out")

    def arguments(self, parser: ArgumentParser) -> None:
        add_model(parser, required=False)
        add_chip(parser, required=False)
        parser.add_argument("--from-sweep", nargs=2, metavar=("DIR", "POINT"),
                            help="chip and network of a point of a sweep, in place of MODEL.onnx "
                                 "and --chip; with MODEL.onnx its chip alone")
        parser.add_argument("--network", metavar="NAME",
                            help="with --from-sweep: which of its networks (default: each that "
                                 "its chip computes, in a folder of its own where there are "
                                 "several)")
        add_output(parser, "DIR", required=True,
                   help="made, or replaced if it holds an earlier build")
        add_batch(parser)
        parser.add_argument("--no-area", action="store_true",
                            help="leave the area out, which takes most of the time")
        add_recipe(parser, required=False)

    def run(self, options: Namespace) -> int:
        from systolith.gen.flow.build import build
        from systolith.gen.report.report import markdown, read_report
        builds = self._builds(options)
        files = []
        for number, words in enumerate(builds):
            with Reporter() as progress:
                made = build(**words, batch=options.batch, area=not options.no_area,
                             part=part(options), progress=progress)
            if number:
                print()
            if made.quantized:
                from systolith.gen.report.quantization import error_table
                print(error_table(made.quantized.rows))
                print()
            print(markdown(read_report(made.folder)))
            files += made.files
        wrote(*files)
        return OK

    @staticmethod
    def _builds(options):
        """Arguments of `build`, once for each network that the command line asks for."""
        if options.from_sweep is None:
            if options.network is not None:
                raise UserError("--network goes with --from-sweep only")
            if options.model is None or options.chip is None:
                raise UserError("build needs MODEL.onnx and --chip, or --from-sweep DIR POINT")
            return [_own(options, chip(options.chip, options))]
        from systolith.gen.study.sweep.found import find, find_all, find_chip
        for name in ("chip", "set", *([] if options.model else ["calibration"])):
            if getattr(options, name):
                raise UserError(f"--{name} does not go with --from-sweep, which names it")
        folder, name = options.from_sweep
        if options.model is not None:
            if options.network is not None:
                raise UserError("--network names a network of the sweep, and MODEL.onnx is "
                                "another one; give one of them")
            arch, measured = find_chip(folder, name)
            return [_own(options, arch) | measured]
        no_recipe(options)
        points = (find_all(folder, name) if options.network is None else
                  [find(folder, name, options.network)])
        # several networks: a folder in the folder for each
        return [{"model": point.net.path, "arch": point.arch, "recipe": point.recipe,
                 "folder": Path(options.output) / point.net.name if len(points) > 1
                 else options.output, "calibration": point.calibration,
                 "source": str(point.net.data), **point.measured} for point in points]


def _own(options, arch):
    """Arguments of `build` for a network of the command line."""
    asked, data = _calibration(options, arch.activation.name, arch.weight.name)
    return {"model": options.model, "arch": arch, "folder": options.output, "recipe": asked,
            "calibration": data, "source": options.calibration}

"""Options that several commands share: each is said once, with what is made of it."""

import argparse
import json
import math
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file

if TYPE_CHECKING:       # what takes long to load is imported where it is used
    from systolith.gen.importer.sizes import Part
    from systolith.gen.quantize.recipe import Recipe
    from systolith.hw.spec.arch import Arch

__all__ = [
    "add_batch", "add_build_or_chip", "add_chip", "add_clock", "add_dsp", "add_jobs", "add_json",
    "add_latency", "add_macros", "add_model", "add_output", "add_part", "add_recipe",
    "add_seed_jobs", "add_seeds", "add_set", "build_or_chip", "chip", "count", "names",
    "no_recipe", "on_board", "other_chip", "part", "recipe", "whole", "write_json", "wrote",
]


# Kinds of values.

def megahertz(text: str) -> float:
    """A number of MHz greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of MHz greater than 0, not {text!r}")
    return number


def count(text: str) -> int:
    """A whole number from 1 up."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text!r}")
    return number


def whole(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, not {text!r}")
    return int(text)


def names(text: str) -> list[str]:
    """Words between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _sizes(text):
    from systolith.gen.importer.sizes import parse_sizes
    try:
        return parse_sizes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# The chip.

def add_chip(parser: ArgumentParser, required: bool = True) -> None:
    """--chip and --set, for `chip`."""
    from systolith.gen.chip.presets import preset_names
    parser.add_argument("--chip", required=required, metavar="CHIP",
                        help="a TOML file, or a preset's name: " + ", ".join(preset_names()))
    add_set(parser)


def add_set(parser: ArgumentParser) -> None:
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="change keys of the chip, such as array.rows=7 array.weight=int4")


def chip(name: str, options: Namespace) -> "Arch":
    """The `Arch` of a preset or file, changed as --set says."""
    from systolith.gen.chip.toml import load_chip
    return load_chip(name, options.set)


def add_build_or_chip(parser: ArgumentParser, boards: Sequence[str]) -> None:
    """DIR, --chip and --board, one of `boards`, for `build_or_chip`."""
    parser.add_argument("dir", nargs="?", metavar="DIR", help="folder made by `systolith build`")
    add_chip(parser, required=False)
    parser.add_argument("--board", choices=boards, metavar="BOARD",
                        help=f"one of {', '.join(boards)} (default: the chip's)")


def build_or_chip(options: Namespace, name: str) -> tuple["Arch", str | None, Path]:
    """The chip of a build or of --chip, on --board where that is one of a chip; a note on it or
    None; and the folder of the results, by default `name` in the build's. Raises UserError where
    both or none of the two are given, or no folder."""
    from systolith.gen.flow.bitstream import chip_of_build
    if (options.dir is None) == (options.chip is None):
        raise UserError(f"{name} needs either DIR (a build) or --chip (a chip)")
    if options.dir is None:
        if options.output is None:
            raise UserError("-o must name the folder of the results, where there is no build")
        return chip(options.chip, options), None, Path(options.output)
    if options.set:
        raise UserError("--set goes with --chip only")
    return (*chip_of_build(options.dir, options.board),
            Path(options.output or Path(options.dir) / name))


def add_clock(parser: ArgumentParser) -> None:
    parser.add_argument("--clock", type=megahertz, metavar="MHZ",
                        help="the core's clock, from the board's PLL (default: the chip's "
                             "clock.mhz, or the oscillator's)")


def on_board(arch: "Arch", options: Namespace) -> "Arch":
    """A chip on the board, and with the clock, that --board and --clock name, where they do. A
    clock that was chosen for another board does not go along. Raises UserError."""
    from dataclasses import replace

    from systolith.hw.board.boards import BOARDS
    from systolith.hw.board.pll import PllError
    board, clock = getattr(options, "board", None) or arch.board, options.clock
    arch = replace(arch, board=board,
                   clock_mhz=clock or (arch.clock_mhz if board == arch.board else None))
    if clock is not None:
        try:
            if board in BOARDS:
                BOARDS[board].runs_at(clock)
        except PllError as error:
            raise UserError(f"--clock {clock:g}: the PLL of the {board} {error}") from None
    return arch


def other_chip(model: Path | str) -> str:
    """A sentence with the command that chooses a chip for a model."""
    return f"A chip on which it maps: systolith init --for {shlex.quote(str(model))} -o chip.toml"


# The network.

def add_model(parser: ArgumentParser, required: bool = True) -> None:
    """MODEL.onnx, and the options of what of it is read, for `part`."""
    parser.add_argument("model", metavar="MODEL.onnx", nargs=None if required else "?")
    add_part(parser)


def add_part(parser: ArgumentParser) -> None:
    """Options of what of a model is read, for `part`."""
    parser.add_argument("--shape", type=_sizes, action="append", default=[],
                        metavar="[NAME=]1,C,H,W",
                        help="sizes of an input that the model leaves open, the batch first; "
                             "once for each input")
    parser.add_argument("--outputs", dest="cut", type=names, default=(), metavar="TENSOR,...",
                        help="the part of the network that gives these tensors, which become its "
                             "outputs")
    parser.add_argument("--inputs", dest="begin", type=names, default=(), metavar="TENSOR,...",
                        help="the part of the network that begins with these tensors, which "
                             "become inputs")


def part(options: Namespace) -> "Part":
    """The `Part` of the model that the command line asks for."""
    from systolith.gen.importer.sizes import Part
    inputs = [name for name, _ in options.shape]
    if len(set(inputs)) < len(inputs):
        raise UserError("--shape names an input twice")
    return Part(dict(options.shape), tuple(options.cut), tuple(options.begin))


def add_batch(parser: ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=1, metavar="N",
                        help="images that a run of the program computes (default: 1)")


def add_recipe(parser: ArgumentParser, required: bool) -> None:
    """Options of post-training quantization, for `recipe`; without `required`, of a command for
    which they are extra."""
    group = parser.add_argument_group(
        "quantization", None if required else "of a float network, with --calibration")
    group.add_argument("--calibration", required=required, metavar="X.npy",
                       help="inputs as the float model takes them, some dozens or hundreds; .npz "
                            "with one array per input where there are several")
    group.add_argument("--recipe", metavar="RECIPE.toml",
                       help="a file of these choices and of those for single layers; options "
                            "count more")
    group.add_argument("--layer", nargs="+", action="append", default=[],
                       metavar=("NAME", "KEY=VALUE"),
                       help="what is otherwise in the layers of this name or pattern, such as "
                            "'conv*' weight=int4 rounding=learned; once for each")
    group.add_argument("--range", choices=("min-max", "percentile", "mse", "kl",
                                                  "cross-entropy"),
                       help="how the range of each tensor is chosen: all numbers, all but a few, "
                            "the least squared error, the least divergence of histograms, or the "
                            "least cross entropy of the network's results (default: mse)")
    group.add_argument("--weight-range", choices=("min-max", "mse", "sawb"),
                       help="how the scales of weights are chosen, sawb by their mean magnitude "
                            "and mean square (default: min-max with --range min-max, percentile "
                            "and kl, else mse)")
    group.add_argument("--rounding", choices=("nearest", "feedback", "learned"),
                       help="how weights are rounded: each to the nearest code; with later ones "
                            "making up for the error of earlier ones (GPTQ); or until the layer's "
                            "results are best on the calibration data (default: nearest)")
    group.add_argument("--percentile", type=float, metavar="P",
                       help="numbers within the range, in %%, with --range percentile (default: "
                            "99.99)")
    group.add_argument("--equalize", action=argparse.BooleanOptionalAction, default=None,
                       help="scale channels so that neighbouring layers' weights spread alike "
                            "(default: no)")
    group.add_argument("--correct-bias", action=argparse.BooleanOptionalAction, default=None,
                       help="move biases so that the mean of each layer's results stays "
                            "(default: yes)")
    group.add_argument("--renormalize", action=argparse.BooleanOptionalAction, default=None,
                       help="move scales of weights so that each channel of a layer's results "
                            "varies as much as in the float network: batch normalization estimated "
                            "anew (default: no)")


#: Options of `Recipe` that are None where nothing was said.
_CHOICES = ("range", "weight_range", "percentile", "rounding", "equalize", "correct_bias",
            "renormalize")


def recipe(options: Namespace, activation: str, weight: str) -> "Recipe":
    """The `Recipe` that the command line asks for, with these names of formats where nothing else
    is said. Raises UserError."""
    from systolith.gen.quantize.recipe import Recipe, read_recipe
    given: dict[str, Any] = {"activation": activation, "weight": weight}
    if options.recipe is not None:
        given |= read_recipe(options.recipe)
    given |= {key: value for key in ("activation", "weight", *_CHOICES)
              if (value := getattr(options, key, None)) is not None}
    if options.percentile is not None and given.get("range") != "percentile":
        raise UserError("--percentile goes with --range percentile only")
    layers = dict(given.pop("layers", {}))
    for name, *settings in options.layer:
        # What is said later counts more.
        layers[name] = {**layers.pop(name, {}), **dict(map(_setting, settings))}
    return Recipe(**given, layers=layers)


def _setting(text):
    """(key, value) of KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--layer NAME KEY=VALUE ...: {text!r} has no =")
    key = key.replace("-", "_")
    if key in ("correct_bias", "renormalize", "equalize"):
        if value not in ("true", "false"):
            raise UserError(f"--layer: {key} must be true or false, not {value!r}")
        return key, value == "true"
    if key == "percentile":
        try:
            return key, float(value)
        except ValueError:
            raise UserError(f"--layer: percentile must be a number, not {value!r}") from None
    return key, value


def no_recipe(options: Namespace) -> None:
    """Refuse options of quantization without --calibration."""
    for name in ("recipe", "layer", *_CHOICES):
        if getattr(options, name) not in (None, []):
            raise UserError(f"--{name.replace('_', '-')} goes with --calibration only")


# Runs and results.

def add_latency(parser: ArgumentParser) -> None:
    parser.add_argument("--latency", type=count, default=32, metavar="CYCLES",
                        help="of the memory (default: %(default)s)")


def add_dsp(parser: ArgumentParser) -> None:
    parser.add_argument("--dsp", action="store_true", help="products in DSP blocks")


def add_seeds(parser: ArgumentParser, default: int) -> None:
    parser.add_argument("--seeds", type=count, default=default, metavar="N",
                        help="default: %(default)s")


def add_seed_jobs(parser: ArgumentParser) -> None:
    parser.add_argument("--jobs", type=count, metavar="N",
                        help="seeds at the same time (default: one a processor)")


def add_jobs(parser: ArgumentParser, what: str, default: int) -> None:
    """--jobs: how many of `what` run at the same time."""
    parser.add_argument("--jobs", type=count, default=default, metavar="N",
                        help=f"{what} at the same time (default: %(default)s)")


def add_output(parser: ArgumentParser, metavar: str, **more: Any) -> None:
    """-o, --output: a file or a folder; required unless `more` has a default or help says it."""
    parser.add_argument("-o", "--output", metavar=metavar, **more)


def wrote(*paths: Path | str) -> None:
    """Say which files were written."""
    for path in paths:
        print(f"wrote {path}")


def add_macros(parser: ArgumentParser) -> None:
    parser.add_argument("--macros", metavar="TABLE.toml",
                        help="ASIC: the SRAM macros that memories may be of (default: one of each "
                             "memory's size)")


def add_json(parser: ArgumentParser, help: str | None = None) -> None:
    parser.add_argument("--json", metavar="FILE", help=help)


def write_json(path: Path | str | None, data: object) -> None:
    """Write what --json asks for; `path` None: nothing."""
    if path is not None:
        wrote(write_file(path, json.dumps(data, indent=2) + "\n"))

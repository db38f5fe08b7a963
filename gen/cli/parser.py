"""The parser of the command line of `systolith`."""

import argparse
from typing import Any

from .commands import COMMANDS

__all__ = ["make_parser"]


class _Version(argparse.Action):
    """Prints the version of the installed package, which takes a while to look up."""

    def __init__(self, option_strings, dest):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0,
                         help="show program's version number and exit")

    def __call__(self, parser, namespace, values, option_string=None):
        from importlib.metadata import version
        print(version("systolith"))
        parser.exit()


class _CommandParser(argparse.ArgumentParser):
    """The parser of one command, which gets its arguments when it is first used: to know their
    choices takes imports that other commands need not wait for."""
    command: Any = None

    def fill(self):
        """Add the command's arguments, unless that has been done."""
        command, self.command = self.command, None
        if command is not None:
            command.arguments(self)

    def parse_known_args(self, args=None, namespace=None):
        self.fill()
        return super().parse_known_args(args, namespace)


def make_parser(filled: bool = False) -> argparse.ArgumentParser:
    """The parser of the command line; `options.run` of what it returns runs the command.

    With `filled`, all commands have their arguments, as for a list of them; otherwise one gets
    them when it is chosen.
    """
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
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True,
                                     parser_class=_CommandParser)
    for command in COMMANDS:
        added = commands.add_parser(
            command.name, help=command.summary, description=command.text,
            epilog=f"examples:\n{command.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter)
        added.command = command
        added.set_defaults(run=command.run)
        if filled:
            added.fill()
    return parser

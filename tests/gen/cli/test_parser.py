"""The parser: commands get their arguments when they are chosen; nothing heavy is loaded before.
"""

import argparse
import subprocess
import sys
from importlib.metadata import version

import pytest
from systolith.gen.cli.commands import COMMANDS
from systolith.gen.cli.parser import make_parser

#: Packages that take long to import.
HEAVY = {"amaranth", "cocotb", "matplotlib", "numpy", "onnx", "onnxruntime", "optuna", "rich"}
PROGRAM = """
import sys
from systolith.gen.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    print("\\n".join(sys.modules))
"""


def parsers(parser):
    """Name -> parser of each command."""
    found, = (action for action in parser._actions
              if isinstance(action, argparse._SubParsersAction))
    return found.choices


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["build", "--help"],
                                       ["simulate"]])
def test_nothing_heavy_is_imported(arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True,
                          text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert "systolith.gen.cli.parser" in loaded and loaded & HEAVY == set()


def test_a_command_gets_its_arguments_once_when_it_is_chosen():
    parser = make_parser()
    assert all(len(command._actions) == 1 for command in parsers(parser).values())
    for seeds in (3, 4):
        options = parser.parse_args(["regress", "--seeds", str(seeds)])
        assert options.seeds == seeds and options.run.__self__.name == "regress"
    assert {name for name, command in parsers(parser).items()
            if len(command._actions) > 1} == {"regress"}


def test_a_filled_parser_has_all_arguments():
    found = parsers(make_parser(filled=True))
    assert list(found) == [command.name for command in COMMANDS]
    assert all(len(command._actions) > 1 for command in found.values())


def test_the_version_needs_no_other_word(capsys):
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(["--version"])
    assert not ended.value.code and capsys.readouterr().out == f"{version('systolith')}\n"

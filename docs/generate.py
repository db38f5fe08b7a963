"""Writes the reference pages that come from the code: `python docs/generate.py [--check]`.

In docs/reference, isa.md holds the instruction set and the registers, chip.md the keys of a chip's
description, commands.md the command line, and formats.md has tables between comments. With --check
nothing is written; the exit code is 1 where a page is not what the code says. `docs/draw.py` draws
the pictures.
"""

import argparse
import re
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
from systolith.gen.chip import toml
from systolith.gen.cli.parser import make_parser
from systolith.hw.formats import catalogue
from systolith.hw.formats.blocks import block_formats
from systolith.hw.spec import isa, registers
from systolith.sim.rtl.device import MEANING

HERE = Path(__file__).parent

ISA = """# Instruction set and registers

This page is generated from `hw/spec/isa.py` and `hw/spec/registers.py` by
`python docs/generate.py`; encoder, disassembler and hardware read the same description.

{introduction}

Every instruction has {bits} bits; on buses of 256 and 512 bits each begins at a multiple of 64
bytes. Counts are given as they are and must not be 0; signed fields
are two's complement; unused bits are 0.

{instructions}

## Registers

AXI4-Lite, 32 bits each; `hw/spec/registers.py` is what the hardware and the driver read.

{registers}

## Error codes

In bits [7:4] of STATUS; `systolith run` and the driver say the same in words.

{errors}
"""

CHIP = """# The description of a chip

This page is generated from `hw/spec/chip_keys.py` by `python docs/generate.py`. `systolith init`
writes the same as a commented file; any key can be set on the command line by
`--set SECTION.KEY=VALUE`.

{keys}

Presets: {presets}.
"""

COMMANDS = """# Commands

This page is generated from the command line's parser by `python docs/generate.py`; every command
says the same with `--help`.

{commands}

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | something about the input is wrong: one line says what, where, and the edit that mends it |
| 2 | wrong command line |
| 3 | a difference was found |
| 4 | Systolith itself is at fault: one line says where the traceback lies and which files to send |
| 130, 143 | ended by Ctrl-C, by SIGTERM: what was unfinished is removed |
"""


def power(number):
    """A positive number, with a power of two where it is very large or small."""
    if 0.05 < number < 1e6:
        return f"{number:.6g}"
    fraction, exponent = np.frexp(number)
    factor = 2 * fraction
    return f"{'' if factor == 1 else f'{factor:.6g} * '}2**{exponent - 1}"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def catalogue_table():
    """One line for each format of the catalogue."""
    rows = []
    for name, fmt in catalogue().items():
        values = fmt.decode(np.arange(1 << fmt.width))
        finite = values[np.isfinite(values)]
        bias = fmt.bias if fmt.family == "float" else ""
        unit = f"2**{fmt.exponent}"
        others = f"{np.isnan(values).sum()} NaN, {np.isinf(values).sum()} infinite"
        rows.append([f"`{name}`", "" if fmt.name == name else f"`{fmt.name}`", fmt.width, bias,
                     power(finite.max()), power(finite[finite > 0].min()), unit,
                     "" if len(finite) == len(values) else others.replace(", 0 infinite", "")])
    return table(["name", "by its widths", "bits", "bias", "largest", "smallest above 0",
                  "image's unit", "no numbers"], rows)


def block_table():
    """One line for each format of blocks."""
    return table(["name", "element", "block", "scale", "bits per element"], [
        [f"`{name}`", f"`{form.element}`"
         + (f" * 2**{form.element_exponent}" if form.element_exponent else ""),
         form.size, f"`{form.scale}`", form.bits_per_element]
        for name, form in block_formats().items()])


def cell(text):
    """Text of the command line's help inside a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def options_table(actions):
    """One line for each argument of a command."""
    rows = []
    for action in actions:
        names = action.option_strings or [action.metavar or action.dest]
        choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
        value = action.metavar or choices or action.dest.upper()
        takes = f" {value}" if action.option_strings and action.nargs != 0 else ""
        more = " ..." if action.nargs == "+" else ""
        needed = " (required)" if action.option_strings and action.required else ""
        meaning = cell((action.help or "") % vars(action)) + needed
        rows.append([f"`{', '.join(names)}{takes}{more}`", meaning.strip()])
    return table(["argument", "meaning"], rows)


def paragraphs(text):
    """A command's description; its indented paragraphs are set as they are."""
    parts = text.strip().split("\n\n")
    return "\n\n".join(f"```text\n{part}\n```" if part.startswith("  ") else cell(part)
                       for part in parts)


def commands_page():
    """Each command: what it does, its arguments, examples."""
    parser = make_parser(filled=True)
    (commands,) = (action for action in parser._actions
                   if isinstance(action, argparse._SubParsersAction))
    parts = []
    for name, command in commands.choices.items():
        parts += [f"## systolith {name}", paragraphs(command.description)]
        plain, *groups = command._action_groups[1:]
        shown = [action for action in command._get_positional_actions() + plain._group_actions
                 if action.dest != "help"]
        if shown:
            parts.append(options_table(shown))
        for group in groups:
            about = f"*{group.title}*" + (f": {group.description}" if group.description else "")
            parts += [about, options_table(group._group_actions)]
        examples = dedent(command.epilog.removeprefix("examples:\n")).strip()
        parts.append(f"```bash\n{examples}\n```")
    return COMMANDS.format(commands="\n\n".join(parts))


def filled(page, **tables):
    """The text of a page, what stands between <!-- name --> and <!-- end --> replaced."""
    text = (HERE / page).read_text()
    for name, content in tables.items():
        mark = f"<!-- {name} -->\n"
        text, count = re.subn(f"{mark}.*?<!-- end -->", lambda _, new=mark + content: (
            f"{new}\n<!-- end -->"), text, flags=re.DOTALL)
        assert count == 1, f"{page} must have {mark.strip()} once"
    return text


def pages():
    """File name -> text of each page."""
    introduction = isa.__doc__.split("\n\n", 2)[2].strip()
    return {
        "reference/isa.md": ISA.format(
            introduction=introduction, bits=isa.INSTRUCTION_BITS,
            instructions=isa.markdown_table(), registers=registers.markdown_table(),
            errors="\n".join(["| code | meaning |", "|---|---|", *(
                f"| {code.value} {code.name} | {MEANING[code]} |"
                for code in registers.ErrorCode)])),
        "reference/chip.md": CHIP.format(
            keys=toml.markdown_table(),
            presets=", ".join(f"`{name}`" for name in toml.preset_names())),
        "reference/commands.md": commands_page(),
        "reference/formats.md": filled(
            "reference/formats.md", catalogue=catalogue_table(), blocks=block_table()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale = [name for name, text in pages().items()
             if not (HERE / name).is_file() or (HERE / name).read_text() != text]
    for name in stale:
        if not check:
            (HERE / name).write_text(pages()[name])
        print(f"docs/{name} {'is not what the code says' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()

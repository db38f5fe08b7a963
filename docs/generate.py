"""Writes the reference pages that come from the code: `python docs/generate.py [--check]`.

isa.md holds the instruction set and the registers, chip.md the keys of a chip's description;
formats.md has tables between comments. With --check nothing is written; the exit code is 1 where a
page is not what the code says. With --pictures timeline.png is drawn anew as well.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from systolith.gen import config
from systolith.gen.lower import compile_graph
from systolith.gen.onnx_in import load
from systolith.gen.timeline import write_picture
from systolith.hw import csr, isa
from systolith.hw.format_block import block_formats
from systolith.hw.formats import Float, Lns, catalogue
from systolith.sim.cycles import cycles

HERE = Path(__file__).parent

ISA = """# Instruction set and registers

This page is generated from `hw/isa.py` and `hw/csr.py` by `python docs/generate.py`; encoder,
disassembler and hardware read the same description.

{introduction}

Every instruction has {bits} bits. Counts are given as they are and must not be 0; signed fields
are two's complement; unused bits are 0.

{instructions}

## Registers

AXI4-Lite, 32 bits each; `hw/csr.py` is what the hardware and the driver read.

{registers}
"""

CHIP = """# The description of a chip

This page is generated from `gen/config.py` by `python docs/generate.py`. `systolith init` writes
the same as a commented file; any key can be set on the command line by `--set SECTION.KEY=VALUE`.

{keys}

Presets: {presets}.
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
        bias = fmt.bias if isinstance(fmt, Float) else ""
        unit = "" if isinstance(fmt, Lns) else f"2**{fmt.exponent}"
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
        "isa.md": ISA.format(introduction=introduction, bits=isa.INSTRUCTION_BITS,
                             instructions=isa.markdown_table(), registers=csr.markdown_table()),
        "chip.md": CHIP.format(keys=config.markdown_table(),
                               presets=", ".join(f"`{name}`" for name in config.preset_names())),
        "formats.md": filled("formats.md", catalogue=catalogue_table(), blocks=block_table()),
    }


def draw_timeline():
    """The units' timeline of a shipped network."""
    model = HERE.parent / "examples" / "digits" / "digits-cnn.onnx"
    program = compile_graph(load(model), config.load_chip("ulx3s-8x8-e3m2"))
    print(write_picture(program, cycles(program), HERE / "timeline.png"), "written")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--pictures", action="store_true", help="draw timeline.png, too")
    options = parser.parse_args()
    check = options.check
    if options.pictures and not check:
        draw_timeline()
    stale = [name for name, text in pages().items()
             if not (HERE / name).is_file() or (HERE / name).read_text() != text]
    for name in stale:
        if not check:
            (HERE / name).write_text(pages()[name])
        print(f"docs/{name} {'is not what the code says' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()

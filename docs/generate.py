"""Writes the reference pages that come from the code: `python docs/generate.py [--check]`.

isa.md holds the instruction set and the registers, chip.md the keys of a chip's description. With
--check nothing is written; the exit code is 1 where a page is not what the code says.
"""

import argparse
import sys
from pathlib import Path

from systolith.gen import config
from systolith.hw import csr, isa

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


def pages():
    """File name -> text of each page."""
    introduction = isa.__doc__.split("\n\n", 2)[2].strip()
    return {
        "isa.md": ISA.format(introduction=introduction, bits=isa.INSTRUCTION_BITS,
                             instructions=isa.markdown_table(), registers=csr.markdown_table()),
        "chip.md": CHIP.format(keys=config.markdown_table(),
                               presets=", ".join(f"`{name}`" for name in config.preset_names())),
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

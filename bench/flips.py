"""What becomes of a program that is not fetched as it was compiled: each of its bits flipped, one
run of the core in RTL for each, all memory compared.

    python bench/flips.py [--every N] [--seed S]
"""

import argparse
import sys

from systolith.gen.study.verify.flips import SILENT, flips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="flip each Nth bit only")
    parser.add_argument("--seed", type=int, default=11, help="of the program")
    parser.add_argument("--instructions", type=int, default=20, help="of the program, at least")
    arguments = parser.parse_args()
    found, count = flips(arguments.every, arguments.seed, arguments.instructions)
    for what, number in sorted(found.items()):
        print(f"{number:6} {what}")
    print(f"{sum(found.values())} bits of {count} instructions flipped, {found[SILENT]} silently "
          "wrong")
    sys.exit(1 if found[SILENT] else 0)


if __name__ == "__main__":
    main()

"""Damaged inputs: whatever stands in a file or on a command line, Systolith takes it or refuses it
with one message, within a time and a memory limit.

    python bench/fuzz.py --count 5000
    python bench/fuzz.py --kind toml --count 500
    python bench/fuzz.py --kind onnx --first 4711 --count 1 --keep case.onnx      repeats one case

Kinds: onnx (networks), toml (chips), npy (images), program (program.bin, its checksums made anew),
command (command lines). Each case is a good input with some mutations, tried in a process of its
own.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzz_files import ChipFiles, Commands, ImageFiles, ProgramFiles
from fuzz_onnx import OnnxFiles
from fuzz_running import ACCEPTED, confined, wrong_message
from systolith.gen.chip.toml import load_chip

KINDS = {"onnx": OnnxFiles, "toml": ChipFiles, "npy": ImageFiles, "program": ProgramFiles,
         "command": Commands}


def trial(kind, number, path, seconds=20):
    """(text or None, what is wrong or None) of a kind's case, which is written to `path`."""
    path.write_bytes(kind.case(number))
    text, wrong = confined(lambda: kind.attempt(path), seconds)
    return text, wrong or wrong_message(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, action="append",
                        help="what is damaged; may be given again (default: all)")
    parser.add_argument("--first", type=int, default=0, metavar="N",
                        help="number of the first case")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="cases of each kind")
    parser.add_argument("--seconds", type=int, default=20, metavar="N", help="limit for each case")
    parser.add_argument("--chip", default="sim-16x16-int8", metavar="CHIP",
                        help="that damaged networks are for")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz/case"), metavar="FILE",
                        help="where each case is written (default: %(default)s)")
    options = parser.parse_args()
    arch, wrong_ones = load_chip(options.chip), 0
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    for name in options.kind or KINDS:
        with tempfile.TemporaryDirectory(prefix="systolith-fuzz-") as folder:
            kind, found, slowest = KINDS[name](Path(folder), arch), Counter(), 0.0
            path = options.keep.with_suffix(kind.suffix)
            for number in range(options.first, options.first + options.count):
                start = time.perf_counter()
                text, wrong = trial(kind, number, path.resolve(), options.seconds)
                slowest = max(slowest, time.perf_counter() - start)
                found["wrong" if wrong else ACCEPTED if text == ACCEPTED else "refused"] += 1
                if wrong:
                    print(f"{name} case {number}: {wrong}", flush=True)
                elif options.count == 1:
                    print(text)
        print(f"{name}: {options.count:,} cases, {found[ACCEPTED]:,} accepted, "
              f"{found['refused']:,} refused, {found['wrong']:,} wrong; the slowest took "
              f"{slowest:.1f} s", flush=True)
        wrong_ones += found["wrong"]
    return 1 if wrong_ones else 0


if __name__ == "__main__":
    sys.exit(main())

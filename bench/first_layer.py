"""How long from a network to the first layer whose RTL is held against the golden model, as a user
does it with nothing of Systolith's in the caches: `systolith build`, then `systolith simulate
--engine rtl`.

`--seeds N` also times `systolith regress` with so many seeds on random chips, none of them compiled
before.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from common import arguments, report


def main():
    options = arguments(
        __doc__, chip=("sim-16x16-int8", "preset or TOML file"),
        seeds=(0, "seeds of `systolith regress` that are timed as well; 0: none"),
        jobs=(2, "what regress does at the same time"))
    with TemporaryDirectory(prefix="first-layer-") as name:
        folder = Path(name)

        def run(*command):
            """(seconds, CPU seconds, the output) of `systolith` with these arguments."""
            start, spent = time.monotonic(), os.times()
            done = subprocess.run(
                [sys.executable, "-m", "systolith.gen.cli", *map(str, command)], cwd=folder,
                env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                raise RuntimeError(f"{command} failed\n{done.stdout[-3000:]}")
            now = os.times()
            return time.monotonic() - start, (
                now.children_user + now.children_system - spent.children_user
                - spent.children_system), done.stdout

        run("demo", "--files", "digits")
        rows = []
        for command in (("build", "digits/digits-cnn-int8.onnx", "--chip", options.chip,
                         "--no-area", "-o", "made"),
                        ("simulate", "made", "--inputs", "digits/x.npy", "--engine", "rtl",
                         "--limit", 1)):
            elapsed, cpu, text = run(*command)
            rows.append({"command": command[0], "s": elapsed, "CPU s": cpu})
        if " 0 bits differ" not in text:
            raise RuntimeError(text)
        rows.append({"command": "build and simulate"} | {
            key: sum(row[key] for row in rows) for key in ("s", "CPU s")})
        report(f"From nothing to the first compared layer of {options.chip} in RTL", rows,
               options.json, chip=options.chip)
        if options.seeds:
            elapsed, cpu, text = run("regress", "--seeds", options.seeds, "--jobs", options.jobs)
            print(f"\n{text.strip().splitlines()[-1]}\n{60 * options.seeds / elapsed:.0f} seeds a "
                  f"minute, {cpu / options.seeds:.2f} CPU s a seed")


if __name__ == "__main__":
    main()

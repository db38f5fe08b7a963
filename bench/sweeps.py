"""Sweeps: what they cost, and what they find. Five parts, each by the public command.

`search`: a space of 500 chips for the shipped int8 digits, objectives cycles and estimated energy:
the whole grid, then NSGA-II with 100 evaluations; `share` is that of the grid's hypervolume,
figures scaled to 0 ... 1, the reference point the worst of both. `models`: 1,000 chips for
ResNet-20 with random weights, by the models alone (compiling with every check, cycles, counts,
energy, estimated area), on all processors: half of them share their program with a twin, and many
their stream with a chip of fewer words; `CPU s / 2` is what two processors take that do nothing
else.
`modules`: chips of which every module is known, with area by modules: all once so that it is, then
anew, and one of them alone, which is a whole command for a single point. `rtl`: cycles of random
pairs of a chip and a network against RTL. `resnet18`: CPU seconds of compiling ResNet-18, and of
the check of its memory plan.

What was measured is kept in `--folder`, so that a run that was stopped goes on; `measured` then
says how many points its seconds are of. Remove the folder to begin anew.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import onnx
from common import arguments, built, report
from large_networks import chip
from resnets import quantized_resnet
from systolith.gen.kit.progress import Reporter
from vision_networks import NETWORKS

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits-cnn-int8.onnx"
AGREEMENT = Path(__file__).resolve().parents[1] / "examples" / "sweep" / "agreement.toml"
#: 5 * 5 * 4 * 5 chips.
SPACE = f"""
area = "none"
objectives = ["cycles", "energy_uj"]
[[group]]
chip = {{ array = {{ rows = 4, columns = 4 }}, buffers = {{ parameters = 512 }} }}
networks = ["{DIGITS}"]
vary = {{ "array.rows" = [4, 6, 8, 12, 16], "array.columns" = [4, 8, 12, 16, 24], \
"buffers.activations" = {{ from = 512, to = 4096, times = 2 }}, \
"buffers.weights" = {{ from = 256, to = 4096, times = 2 }} }}
"""
#: 5 * 5 * 4 * 5 * 2 chips.
RESNET = """
area = "estimate"
[[group]]
chip = "sim-16x16-int8"
networks = ["resnet20.onnx"]
set = { "array.depthwise" = false }
vary = { "array.rows" = [8, 12, 16, 24, 32], "array.columns" = [8, 12, 16, 24, 32], \
"buffers.weights" = { from = 1024, to = 8192, times = 2 }, \
"buffers.activations" = { from = 2048, to = 32768, times = 2 }, "control.prefetch" = [true, false] }
"""
#: 100 chips or fewer; identities of chips are in a module, so that these differ in each.
MODULES = """
[search]
method = "random"
evaluations = {chips}
[[group]]
chip = {{ array = {{ rows = 2, columns = 2 }} }}
vary = {{ "array.rows" = [2, 4, 8, 16], "array.columns" = [2, 4, 8, 16], \
"control.queue_depth" = [2, 4, 8], "control.token_bits" = [6, 8, 10] }}
"""
PARTS = ("search", "models", "modules", "rtl", "resnet18")


def hypervolume(pairs):
    """The area that pairs of figures from 0 (best) to 1 dominate."""
    total, height = 0.0, 1.0
    for x, y in sorted(pairs):
        if y < height:
            total += (1 - x) * (height - y)
            height = y
    return total


def swept(space, folder, *words):
    """Run `systolith sweep`. Returns (results, seconds, CPU seconds, points measured now)."""
    before, spent = time.monotonic(), os.times()
    known = len(_lines(folder))
    run = subprocess.run([sys.executable, "-m", "systolith.gen.cli", "sweep", str(space),
                          "-o", str(folder), *words], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stdout + run.stderr)
    now = os.times()
    cpu = now.children_user + now.children_system - spent.children_user - spent.children_system
    results = json.loads((folder / "results.json").read_text())["points"]
    return results, time.monotonic() - before, cpu, len(_lines(folder)) - known, run.stdout


def _lines(folder):
    path = folder / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _pairs(results):
    return [(result["figures"]["cycles"], result["figures"]["energy_uj"]) for result in results
            if result["figures"]]


def search(folder, options):
    space = folder / "space.toml"
    space.write_text(SPACE)
    every = _pairs(swept(space, folder / "grid")[0])
    ends = [(min(column), max(column)) for column in zip(*every, strict=True)]

    def share(pairs):
        return hypervolume([tuple((value - low) / (high - low) for value, (low, high) in zip(
            pair, ends, strict=True)) for pair in pairs])
    whole, rows = share(every), []
    head, mark, groups = SPACE.partition("[[group]]")
    for seed in range(1, options.seeds + 1):
        space.write_text(f'{head}[search]\nmethod = "nsga2"\nseed = {seed}\n'
                         f"evaluations = {options.evaluations}\n{mark}{groups}")
        # in the same folder: what is known is not measured again
        found = _pairs(swept(space, folder / "grid")[0])
        rows.append({"grid": len(every), "NSGA-II": len(found), "seed": seed,
                     "share": share(found) / whole})
    return "Hypervolume", rows


def models(folder, options):
    if not (folder / "resnet20.onnx").exists():
        onnx.save_model(quantized_resnet("ResNet-20"), folder / "resnet20.onnx")
    space = folder / "space.toml"
    space.write_text(RESNET)
    results, wall, cpu, lines, _ = swept(space, folder / "out")
    measured = lines / 2                # cycles and area
    return "ResNet-20 by the models", [
        {"points": len(results), "good": sum(not item["error"] for item in results),
         "measured": measured, "wall s": wall, "CPU s": cpu, "CPU s / 2": cpu / 2,
         "CPU s a point": cpu / max(1, measured)}]


def modules(folder, options):
    space = folder / "space.toml"
    space.write_text(MODULES.format(chips=options.chips))
    swept(space, folder / "first")
    again = folder / "again"
    (again / "results.jsonl").unlink(missing_ok=True)
    results, wall, cpu, _, _ = swept(space, again)
    seconds = sorted(json.loads(line)["seconds"] for line in _lines(again))
    alone = folder / "alone"
    (alone / "results.jsonl").unlink(missing_ok=True)
    space.write_text(MODULES.format(chips=1))
    _, one, one_cpu, _, _ = swept(space, alone)
    return "Area by modules that are all known", [
        {"chips": len(results), "wall s": wall, "CPU s": cpu, "CPU s a chip": cpu / len(results),
         "median s": seconds[len(seconds) // 2], "slowest s": seconds[-1],
         "one alone, wall s": one, "one alone, CPU s": one_cpu}]


def compared(table):
    """(cycles, cycles in RTL, mismatching bits) of each row of the table that `--verify` prints."""
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    return [[int(cell.replace(",", "")) for cell in line[3:6]] for line in lines[2:]]


def rtl(folder, options):
    _, wall, _, _, text = swept(AGREEMENT, folder / "out", "--verify", str(options.pairs))
    pairs = compared(text.partition("one image each:\n\n")[2])
    return "Cycles against RTL", [
        {"pairs": len(pairs), "cycles of difference": sum(abs(a - b) for a, b, _ in pairs),
         "mismatching bits": sum(bits for *_, bits in pairs), "wall s": wall}]


class _Steps(Reporter):
    """Says nothing; keeps the CPU seconds of each step by its first word."""

    def __init__(self):
        super().__init__(shown=False)
        self.seconds = {}

    @contextmanager
    def step(self, text, *arguments, **more):
        start = time.thread_time()
        with super().step(text, *arguments, **more) as shown:
            yield shown
        self.seconds[text.split()[0]] = time.thread_time() - start


def resnet18(folder, options):
    arch, (net, output), steps = chip(16, "int8"), NETWORKS["resnet-18"](window=3), _Steps()
    made = built(net.model(output), arch, progress=steps)
    return "Compiling ResNet-18", [
        {"array": "16 x 16", "instructions": len(made.program.instructions),
         "compiled, CPU s": steps.seconds["Compiling"],
         "memory plan, CPU s": steps.seconds["Checking"]}]


def main():
    options = arguments(
        __doc__, parts=(",".join(PARTS), "which, by names with commas"),
        folder=("build/sweeps", "what is kept"), evaluations=(100, "of NSGA-II"),
        seeds=(3, "of NSGA-II"), chips=(100, "of the part modules"), pairs=(20, "of the part rtl"))
    for name in options.parts.split(","):
        if name not in PARTS:
            raise SystemExit(f"--parts: {name!r} is none of {', '.join(PARTS)}")
        folder = Path(options.folder).resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        title, rows = globals()[name](folder, options)
        path = options.json and options.json.with_stem(f"{options.json.stem}-{name}")
        report(title, rows, path)
        print(flush=True)


if __name__ == "__main__":
    main()

"""Sweeps: what NSGA-II finds of a grid's front, and seconds of a point by the models.

A space of 500 chips for the shipped int8 digits, objectives cycles and estimated energy: the whole
grid, then NSGA-II with 100 evaluations; `share` is that of the grid's hypervolume, figures scaled
to 0 ... 1, the reference point the worst of both. Then 1,000 chips for ResNet-20 with random
weights, by the models alone (compiling with every check, cycles, counts, energy), on all
processors: seconds, and CPU seconds a point; half of them share their program with a twin. Last,
CPU seconds of compiling ResNet-18, and of the check of its memory plan.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from common import arguments, report
from large_networks import chip
from resnets import quantized_resnet
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.space import read_space
from systolith.sim.machine.memory_plan import check_memory_plan
from vision_networks import NETWORKS

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits-cnn-int8.onnx"
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
RESNET = """
area = "none"
[[group]]
chip = "sim-16x16-int8"
networks = ["resnet20.onnx"]
set = { "array.depthwise" = false }
vary = { "array.rows" = [8, 12, 16, 24, 32], "array.columns" = [8, 12, 16, 24, 32], \
"buffers.weights" = { from = 1024, to = 8192, times = 2 }, \
"buffers.activations" = { from = 2048, to = 32768, times = 2 }, "control.prefetch" = [true, false] }
"""


def hypervolume(pairs):
    """The area that pairs of figures from 0 (best) to 1 dominate."""
    total, height = 0.0, 1.0
    for x, y in sorted(pairs):
        if y < height:
            total += (1 - x) * (height - y)
            height = y
    return total


def pairs_of(results):
    return [(result["figures"]["cycles"], result["figures"]["energy_uj"]) for result in results
            if result["figures"]]


def main():
    options = arguments(__doc__, evaluations=(100, "of NSGA-II"), seeds=(3, "of NSGA-II"))
    rows = []
    with TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "space.toml").write_text(SPACE)
        every = pairs_of(sweep(base / "space.toml", base / "grid", jobs=os.cpu_count())[0])
        ends = [(min(column), max(column)) for column in zip(*every, strict=True)]

        def scaled(pairs):
            return [tuple((value - low) / (high - low)
                          for value, (low, high) in zip(pair, ends, strict=True))
                    for pair in pairs]
        whole = hypervolume(scaled(every))
        for seed in range(1, options.seeds + 1):
            (base / "space.toml").write_text(_searched(seed, options.evaluations))
            # in the same folder: what is known is not measured again
            found = pairs_of(sweep(base / "space.toml", base / "grid")[0])
            rows.append({"grid": len(every), "NSGA-II": len(found), "seed": seed,
                         "share": hypervolume(scaled(found)) / whole})
    report("Hypervolume", rows, options.json)
    with TemporaryDirectory() as folder:
        base = Path(folder)
        onnx.save_model(quantized_resnet("ResNet-20"), base / "resnet20.onnx")
        (base / "space.toml").write_text(RESNET)
        size = read_space(base / "space.toml").size
        start, spent = time.monotonic(), _cpu()
        results, _ = sweep(base / "space.toml", base / "out", jobs=os.cpu_count() or 1)
        wall, spent = time.monotonic() - start, _cpu() - spent
    report("ResNet-20 by the models", [
        {"points": size, "measured": sum(not item["error"] for item in results), "wall s": wall,
         "CPU s": spent, "CPU s a point": spent / size}])
    report("Compiling ResNet-18", [_compiling()])


def _cpu():
    """CPU seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def _compiling():
    arch, (net, output) = chip(16, "int8"), NETWORKS["resnet-18"](window=3)
    graph = load(net.model(output))
    times = [time.process_time()]
    program = compile_graph(widened(graph, arch), arch)
    times.append(time.process_time())
    check_memory_plan(program)
    times.append(time.process_time())
    return {"array": "16 x 16", "instructions": len(program.instructions),
            "compiled, CPU s": times[1] - times[0], "memory plan, CPU s": times[2] - times[1]}


def _searched(seed, evaluations):
    """The space with a search in it."""
    head, mark, groups = SPACE.partition("[[group]]")
    return (f'{head}[search]\nmethod = "nsga2"\nseed = {seed}\nevaluations = {evaluations}\n'
            f"{mark}{groups}")


if __name__ == "__main__":
    main()

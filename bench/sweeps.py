"""Sweeps: what NSGA-II finds of a grid's front, and seconds of a point by the models.

A space of 500 chips for the shipped int8 digits, objectives cycles and estimated energy: the whole
grid, then NSGA-II with 100 evaluations; `share` is that of the grid's hypervolume, figures scaled
to 0 ... 1, the reference point the worst of both. Then, for ResNet-20 with random weights, CPU
seconds a point: compiling, cycles, counts and energy, without area.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from common import arguments, report
from resnets import quantized_resnet
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.space import read_space

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
vary = { "array.rows" = [8, 16], "array.columns" = [8, 16], "buffers.weights" = [2048, 4096, 8192] }
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
        start = time.process_time()
        sweep(base / "space.toml", base / "out")
        spent = time.process_time() - start
    report("ResNet-20 by the models, one process", [
        {"points": size, "CPU s": spent, "CPU s a point": spent / size}])


def _searched(seed, evaluations):
    """The space with a search in it."""
    head, mark, groups = SPACE.partition("[[group]]")
    return (f'{head}[search]\nmethod = "nsga2"\nseed = {seed}\nevaluations = {evaluations}\n'
            f"{mark}{groups}")


if __name__ == "__main__":
    main()

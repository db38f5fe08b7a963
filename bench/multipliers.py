"""What narrow multipliers (key post.multiplier_bits) cost in codes.

    python bench/multipliers.py --networks 20
    python bench/multipliers.py --images 50 --cases 5

For each width: random small networks of each kind of `exactness.py`, whose quantizers are judged
one by one against exact fractions; then the packaged digits and the models of tests/cases, as the
chip computes them, against ONNX Runtime, differences of earlier layers included. A code that
differs is one step off unless the table says otherwise. What a width does not suffice for is
refused, and counted.
"""

from pathlib import Path

import numpy as np
from common import arguments, report
from exactness import KINDS, Net, compared
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.narrow import multiplier_need
from systolith.gen.compile.widen import widened
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch

ROOT = Path(__file__).parent.parent
WIDTHS = (26, 20, 18, 17, 16)


def chip(bits):
    return load_chip("sim-16x16-int8", [f"post.multiplier_bits={bits}", "array.largest_k=32768"])


def narrow(graph, arch):
    """The network as a chip computes it, or None where its multipliers do not suffice."""
    graph = widened(graph, arch)
    most = max(multiplier_need(conv, graph.tensors, arch) for conv in graph.layers)
    return graph if most <= arch.multiplier_bits else None


def random_networks(bits: int, arch: Arch, count: int) -> list[dict]:
    rows = []
    for number, (kind, write) in enumerate(KINDS.items()):
        row = dict.fromkeys(("refused", "codes", "differ", "steps"), 0)
        for seed in range(count):
            net = Net([number, seed])
            write(net, net.quant("x", keep=False))
            pairs = compared(net, net.model(), lambda graph: narrow(graph, arch))
            row["refused"] += pairs is None
            for off, _ in pairs or ():
                row["codes"] += off.size
                row["differ"] += int((off > 0).sum())
                row["steps"] = max(row["steps"], int(off.max()))
        rows.append({"bits": bits, "networks": f"{count} {kind}, against fractions", **row})
    return rows


def models(images, cases):
    """(name, path, inputs)"""
    digits = np.load(ROOT / "examples" / "digits" / "digits-test.npz")
    inputs = np.float32(digits["images"][:images]).reshape(images, 1, 28, 28)
    yield "digits-cnn-int8", ROOT / "examples" / "digits" / "digits-cnn-int8.onnx", inputs
    for path in sorted((ROOT / "tests" / "cases").glob("*.onnx"))[:cases]:
        data = path.with_suffix(".npy")
        if data.exists():
            yield path.stem, path, np.load(data)


def packaged(bits: int, arch: Arch, images: int, cases: int) -> list[dict]:
    row = dict.fromkeys(("refused", "codes", "differ", "steps"), 0)
    count, first = 0, None
    for name, path, inputs in models(images, cases):
        try:
            graph = narrow(load(path), arch)
            if graph is None:
                row["refused"] += 1
                continue
            found = compare_with_onnx(graph, arch, path, inputs).rows
        except (UserError, ValueError):
            continue                            # not for this chip at any width
        now = dict(row, codes=0, differ=0, steps=0)
        for item in found:
            if item["codes_differing"] is not None:
                now["codes"] += item["elements"]
                now["differ"] += item["codes_differing"]
                now["steps"] = max(now["steps"], int(item["largest_steps"]))
        if name.startswith("digits"):
            first = {"bits": bits, "networks": "digits-cnn-int8, against ONNX Runtime", **now,
                     "refused": 0}
            continue
        count += 1
        row |= {"codes": row["codes"] + now["codes"], "differ": row["differ"] + now["differ"],
                "steps": max(row["steps"], now["steps"])}
    return [item for item in (first, {"bits": bits, "networks":
            f"{count} of tests/cases, against ONNX Runtime", **row}) if item]


def main():
    options = arguments(__doc__, networks=(20, "random networks of each kind"),
                        images=(50, "images of digits"), cases=(99, "models of tests/cases"))
    rows = []
    for bits in WIDTHS:
        arch = chip(bits)
        rows += random_networks(bits, arch, options.networks)
        rows += packaged(bits, arch, options.images, options.cases)
    for row in rows:
        row["share"] = f"{row['differ'] / max(1, row['codes']):.3%}"
    report("Codes that differ, by the width of multipliers", rows, options.json)


if __name__ == "__main__":
    main()

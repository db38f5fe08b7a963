"""What the benchmarks share: arguments, the printed table, the public path from
a network to a build, and made-up int8 networks."""

import argparse
import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate
from systolith.gen.report.report import read_report
from writer import Writer

__all__ = ["arguments", "buffer_bytes", "built", "int8_network", "random_images", "report",
           "reported", "same", "simulate_rtl"]


def arguments(doc, **options):
    """The command line of a benchmark: `--json FILE`, and `options` as name -> (default, help)."""
    parser = argparse.ArgumentParser(description=doc.strip().partition("\n")[0])
    for name, (default, text) in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default,
                            help=f"{text} (default: {default})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


def _text(value):
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def report(title, rows, json_path=None, **facts):
    """Print `rows` (dicts with the same keys) as one Markdown table, and write them as JSON.

    `facts` are written to the JSON file beside the rows.
    """
    columns = list(rows[0])
    cells = [columns] + [[_text(row[key]) for key in columns] for row in rows]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    lines = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
             for line in cells]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    print(f"{title}\n")
    print("\n".join(f"| {line} |" for line in lines))
    if json_path is not None:
        content = {"title": title, "machine": platform.processor() or platform.machine(),
                   **facts, "rows": rows}
        json_path.write_text(json.dumps(content, indent=2) + "\n")


def buffer_bytes(arch):
    """Bytes of all memories on the chip."""
    return (arch.activation_depth * arch.activation_bytes + arch.weight_depth * arch.weight_bytes
            + arch.accumulator_depth * arch.columns * arch.accumulator_bits // 8
            + arch.parameter_depth * arch.parameter_bits * arch.post_lanes // 8
            + arch.operand_depth * arch.activation_bytes)


_FOLDERS = []                                   # they go with the process


def built(model, arch, **options):
    """The `Build` that `systolith build` makes of an ONNX network, without the area; in a folder
    that is gone when the process ends. `options` are those of `systolith.gen.flow.build.build`."""
    _FOLDERS.append(TemporaryDirectory())
    folder = Path(_FOLDERS[-1].name)
    onnx.save(model, folder / "model.onnx")
    return build(folder / "model.onnx", arch, folder / "build", area=False, **options)


def reported(made):
    """report.json of a `Build`, as `systolith report` reads it."""
    return read_report(made.folder)


def same(simulation):
    """The simulation, whose every result must be the golden model's. Raises RuntimeError."""
    if simulation.comparison.bits:
        raise RuntimeError(str(simulation.comparison.first))
    return simulation


def int8_network(name, input_shape, layers, seed=0):
    """An int8 network as ONNX with random weights, one layer after the other.

    Parameters
    ----------
    input_shape : (channels, height, width)
    layers : list of dict
        Each with `channels`, `kernel` (a number, or "dense": the whole map), and perhaps
        `stride`, `pad` and `pool` (numbers).
    """
    net = Writer(name, input_shape, seed=seed)
    x = net.input
    for layer in layers:
        kernel = net.shapes[x][1:] if layer["kernel"] == "dense" else layer["kernel"]
        x = net.conv(x, layer["channels"], kernel, layer.get("stride", 1), layer.get("pad", 0))
        if layer.get("pool", 1) > 1:
            x = net.max_pool(x, layer["pool"], layer["pool"])
    return net.model(x)


def random_images(graph, images=1, seed=1):
    """Random inputs of a network as the ONNX model takes them: {name: float32 [images, ...]}."""
    generator = np.random.default_rng(seed)
    return {encoder.name: np.float32(generator.normal(0, 1, (images, *encoder.shape)))
            for encoder in graph.encoders}


def simulate_rtl(model, arch, images=1, latency=32):
    """Run random inputs through the core's RTL; every result of every layer is held against the
    golden model.

    Returns (Build, `systolith.gen.flow.simulate.Simulation`). Raises RuntimeError where a bit
    differs.
    """
    made = built(model, arch)
    return made, same(simulate(made, random_images(made.graph, images), "rtl", latency=latency))

"""What the benchmarks share: arguments, the printed table, and made-up int8 networks."""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
from systolith.gen.lower import compile_graph
from systolith.gen.verilog import core_verilog
from systolith.hw.formats import Int
from systolith.sim.graph import Conv, Graph, Tensor
from systolith.sim.host import pack_inputs, unpack_outputs
from systolith.sim.rtl import Job, Run, simulate

__all__ = ["arguments", "buffer_bytes", "int8_network", "random_inputs", "report", "simulate_graph"]


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


def int8_network(name, input_shape, layers, seed=0):
    """An int8 `Graph` with random weights, one layer behind the other.

    Parameters
    ----------
    input_shape : (channels, height, width)
    layers : list of dict
        Each with `channels`, `kernel` (a number, or "dense": the whole map), and perhaps
        `stride`, `pad` and `pool` (numbers).

    Multipliers and shifts are such that results fill about half of int8's range, so that neither
    saturation nor zeros hide a difference.
    """
    generator = np.random.default_rng(seed)
    int8 = Int(8)
    tensors = {"input": Tensor("input", tuple(input_shape), int8)}
    convs, shape, previous = [], tuple(input_shape), "input"
    for number, layer in enumerate(layers, 1):
        channels, pad = layer["channels"], layer.get("pad", 0)
        stride, pool = layer.get("stride", 1), layer.get("pool", 1)
        kernel = shape[1:] if layer["kernel"] == "dense" else (layer["kernel"],) * 2
        weight = generator.integers(0, 256, (channels, shape[0], *kernel))
        terms = weight[0].size
        shift = 17 + round(np.log2(74 * (74 if number == 1 else 40) * np.sqrt(terms) / 40))
        conv = Conv(
            name=f"layer{number}", input=previous, output=f"layer{number}", weight=weight,
            weight_format=int8, stride=(stride, stride), pads=(pad,) * 4, pool=(pool, pool),
            bias=generator.integers(-1000, 1000, channels),
            multiplier=generator.integers(1 << 16, 1 << 18, channels),
            shift=np.full(channels, shift), low=-128, high=127, nodes=[f"layer{number}"])
        size = [((extent + 2 * pad - k) // stride + 1) // pool
                for extent, k in zip(shape[1:], kernel, strict=True)]
        shape, previous = (channels, *size), conv.output
        tensors[conv.output] = Tensor(conv.output, shape, int8)
        convs.append(conv)
    return Graph(name=name, inputs=[tensors["input"]], tensors=tensors, layers=convs,
                 outputs=[previous])


def random_inputs(graph, images, seed=1):
    """Random codes [images, C, H, W] for the network's input."""
    shape = graph.inputs[0].shape
    return np.random.default_rng(seed).integers(0, 256, (images, *shape))


def simulate_graph(graph, arch, images=1, latency=32):
    """Run random inputs through the core's RTL; every output is held against the golden model.

    Returns (Program, `systolith.sim.rtl.Simulation`). Raises RuntimeError where a bit differs.
    """
    program = compile_graph(graph, arch)
    host = program.host
    inputs = random_inputs(graph, images)
    job = Job(program=program, latency=latency, runs=[
        Run(writes=[(host["input_offset"], pack_inputs(program, codes))],
            reads=[(host["output_offset"], host["output_bytes"])]) for codes in inputs])
    simulation = simulate(core_verilog(arch), [job])
    expected = graph.run(inputs, arch=arch)
    for number, run in enumerate(simulation.runs[0]):
        run.check()
        for name, codes in unpack_outputs(program, run.outputs[0]).items():
            if not np.array_equal(codes, expected[name][number]):
                raise RuntimeError(f"{name} of image {number} differs from the golden model")
    return program, simulation

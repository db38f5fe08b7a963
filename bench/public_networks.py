"""Networks out of public packages, by the field's exporters, through `systolith build`.

    python bench/public_networks.py [--networks yolov8n,unet] [--variants 0] -o build/zoo

`public_models.py` says which networks, from which packages, and writes their ONNX files (float32,
random weights, settled batch norms) into the folder, for which those packages must be installed
(`pip install .[zoo]`); a file that is there is taken as it is. Each is quantized to int8 by
`build --calibration` with a few images, some also by ONNX Runtime's `quantize_static` as QDQ or
QOperator and then built. The chip is 16 x 16 int8 with 494,592 bytes of buffers and tables;
everything comes from memory over a bus of 64 bits that answers after 32 cycles. `check` must say
what `build` does, and every result of every layer of the instruction-level simulator is held
against the golden model for an image.

*chip dB* is the signal to noise ratio of what the chip gives the host, against the float network,
for the worst such tensor; *result dB* that of the network's results after the host's part, for the
worst, against ONNX Runtime with the exporter's file; in brackets those of ONNX Runtime with the
same quantized network. *host*: the operators that the host computes after the chip (before: those
that prepare inputs).

Results are kept in DIR/results.jsonl as they come; a network whose file, chip, and Systolith's
sources are those of its result is not measured again. `--measure 0` prints what is there.
"""

import argparse
import hashlib
import json
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from common import buffer_bytes, report, reported, same
from field_networks import arch_for
from public_models import MODELS, export, images, packages_missing
from systolith.gen.flow.build import build
from systolith.gen.flow.check import check
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.flow.simulate import simulate
from systolith.gen.importer.file import read
from systolith.gen.importer.run import Runner
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.study.code import code_hash

#: Who quantizes: "" the build; ONNX Runtime in one of its formats.
VARIANTS = {"resnet8-ts": ("QDQ", "QOperator"), "mobilenet-v1-keras": ("QDQ", "QOperator"),
            "mobilenet-v3": ("QDQ",), "resnet50": ("QDQ",)}
_CALIBRATION = 8


class _Images:
    """Calibration images for ONNX Runtime."""

    def __init__(self, name, batch):
        self.feeds = iter([{name: image[None]} for image in batch])

    def get_next(self):
        return next(self.feeds, None)


def quantized_by_runtime(path, kind, batch):
    """The path of the int8 network that ONNX Runtime's `quantize_static` makes of a file."""
    from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static
    result = path.with_name(f"{path.stem}.{kind}.onnx")
    if not result.exists():
        ready = path.with_name(f"{path.stem}.prepared.onnx")
        # It refuses weights in a file apart.
        whole = path.with_name(f"{path.stem}.whole.onnx")
        onnx.save(onnx.load(path), whole)
        quant_pre_process(whole, ready, skip_symbolic_shape=True)
        name = read(ready).graph.input[0].name
        quantize_static(ready, result, _Images(name, batch), quant_format=QuantFormat[kind],
                        per_channel=True, activation_type=QuantType.QInt8,
                        weight_type=QuantType.QInt8)
    return result


def results_of(model, batch):
    """{output: array [N, ...]} by ONNX Runtime, image by image; `model` as a path or ModelProto."""
    model = read(model)
    names = [item.name for item in model.graph.output]
    name, run = model.graph.input[0].name, Runner(model, names)
    rows = [run.run({name: image[None]}) for image in batch]
    return {key: np.concatenate([row[key] for row in rows]) for key in names}


def decibels(exact, found):
    """Signal to noise in dB of the worst output; `exact` and `found` as `results_of`, the names of
    whose outputs may differ."""
    worst = np.inf
    for one, other in zip(exact.values(), found.values(), strict=True):
        if one.shape != other.shape:
            raise RuntimeError(f"an output has the shape {other.shape}, and should have "
                               f"{one.shape}")
        noise = np.square(np.float64(one) - other).sum()
        if noise:
            worst = min(worst, 10 * np.log10(np.square(np.float64(one)).sum() / noise))
    return float(worst)


def _operators(part):
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in Counter(
        node.op_type for node in part.model.graph.node).items()) if part else "-"


def measure(name, quantizer, path, folder, progress):
    """The row of a network; `quantizer` as in `VARIANTS`."""
    model, arch = MODELS[name], arch_for()
    calibration = images(model.shape, _CALIBRATION, 1)
    batch = images(model.shape, 1, 2)
    source, options = path, {}
    if quantizer:
        with progress.step(f"{name}: quantizing by ONNX Runtime"):
            source = quantized_by_runtime(path, quantizer, calibration)
    else:
        options = {"calibration": calibration, "recipe": Recipe(range="min-max")}
    with progress.step(f"{name}: check"):
        # Whether a network maps hardly depends on its ranges.
        one = {"calibration": calibration[:1]} if options else {}
        checked = check(source, arch, **{**options, **one})
    start = time.process_time()
    try:
        made = build(source, arch, folder, area=False, progress=progress, **options)
    except UserError as error:
        if checked.maps:
            raise RuntimeError(f"{name}: check says it maps, build says: {error}") from error
        raise
    seconds = time.process_time() - start
    if not checked.maps:
        raise RuntimeError(f"{name}: build works, check says: {checked.problems[0]}")
    quantized = made.quantized.model if made.quantized else read(source)
    with progress.step(f"{name}: comparing with ONNX Runtime"):
        exact = results_of(path, batch)
        compared = compare_with_onnx(made.graph, arch, quantized, batch,
                                     made.quantized and made.quantized.float_model).rows
        run = same(simulate(made, batch, "isa", progress=progress))
        found = run.outputs if isinstance(run.outputs, dict) else {"": run.outputs}
        if len(found) > 1:
            found = {key: found[key] for key in exact}
    ends = [row for row in compared if row["tensor"] in made.graph.outputs]

    def worst(key):
        return min((row[key] for row in ends if row[key] is not None), default=float("nan"))
    return {
        "network": model.title, "from": model.source, "exporter": model.exporter,
        "quantized by": f"ONNX Runtime, {quantizer}" if quantizer else "build",
        "nodes": len(onnx.load(path, load_external_data=False).graph.node),
        "layers": len(made.graph.layers), "MACs": made.graph.macs,
        "ideal": made.graph.macs // arch.macs_per_cycle,
        "cycles": reported(made).cycles.total,
        "chip dB": worst("golden_to_float_db"), "chip dB, ORT": worst("quantized_to_float_db"),
        "result dB": decibels(exact, found),
        "result dB, ORT": decibels(exact, results_of(quantized, batch)),
        "host": _operators(made.graph.tail), "host before": _operators(made.graph.head),
        "compared": run.comparison.elements, "build s": seconds}


def _key(path, quantizer):
    """A hash of all that a result depends on."""
    code = code_hash((build.__module__, check.__module__, compare_with_onnx.__module__,
                      simulate.__module__), ("amaranth", "onnx", "numpy", "onnxruntime"))
    found = hashlib.sha256(f"{code} {arch_for()} {quantizer}".encode())
    for part in (path, path.with_name(f"{path.name}.data")):
        if part.exists():
            found.update(part.read_bytes())
    return found.hexdigest()[:16]


def _known(path):
    """{key: row} of the results of earlier runs."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {item["key"]: item["row"] for item in map(json.loads, lines)}


def _latest(known, model):
    """The latest rows of a `Model`, one for each quantizer."""
    return list({row["quantized by"]: row for row in known.values()
                 if (row["network"], row["from"], row["exporter"])
                 == (model.title, model.source, model.exporter)}.values())


def _decibel(one, other):
    return f"{one:.1f} ({other:.1f})"


def _shown(row):
    return {"network": row["network"], "from": row["from"], "exporter": row["exporter"],
            "quantized by": row["quantized by"], "layers": row["layers"], "MACs": row["MACs"],
            "ideal": row["ideal"], "cycles": row["cycles"],
            "chip dB": _decibel(row["chip dB"], row["chip dB, ORT"]),
            "result dB": _decibel(row["result dB"], row["result dB, ORT"]),
            "host": row["host"] + (f"; before: {row['host before']}"
                                   if row["host before"] != "-" else "")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--networks", default=",".join(MODELS), help="which, with commas")
    parser.add_argument("--variants", type=int, default=1,
                        help="0: not those that ONNX Runtime quantizes")
    parser.add_argument("--measure", type=int, default=1, help="0: print earlier results only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    kept, rows, failed = options.output / "results.jsonl", [], 0
    known = _known(kept)
    for name in options.networks.split(","):
        if not options.measure:
            rows += _latest(known, MODELS[name])
            continue
        try:
            path = export(name, options.output)
        except ModuleNotFoundError as error:
            print(f"{name}: {packages_missing(error)}", file=sys.stderr)
            failed += 1
            continue
        for quantizer in ("", *(VARIANTS.get(name, ()) if options.variants else ())):
            key = _key(path, quantizer)
            if key not in known:
                folder = options.output / f"{name}{quantizer and f'.{quantizer}'}.build"
                try:
                    with Reporter() as progress:
                        known[key] = measure(name, quantizer, path, folder, progress)
                except Exception as error:      # whatever it is, the others go on
                    if not isinstance(error, UserError):
                        traceback.print_exc()
                    print(f"{name} {quantizer}: {error}", file=sys.stderr)
                    failed += 1
                    continue
                with kept.open("a") as file:
                    file.write(json.dumps({"key": key, "row": known[key]}) + "\n")
            rows.append(known[key])
    if rows:
        report(f"Networks out of public packages, 16 x 16 int8, {buffer_bytes(arch_for()):,} bytes "
               "of buffers", [_shown(row) for row in rows], options.json, figures=rows)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Networks whose scales are computed from each input, as onnxruntime.quantization.quantize_dynamic
writes them: calibration data give them fixed scales, so that they are quantized networks."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper
from systolith.gen.importer.dialects.qdq import DYNAMIC
from systolith.gen.importer.run import Evaluator
from systolith.gen.importer.sizes import with_known_sizes
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.formats import Int

from .calibrate import Statistics, calibration_feeds, fit

__all__ = ["is_dynamic", "with_fixed_ranges"]

#: Numbers of a tensor that are kept as a sample.
_KEPT = 1 << 18


def is_dynamic(model: onnx.ModelProto) -> bool:
    """Whether a model computes scales from each input."""
    return any(node.op_type in DYNAMIC for node in model.graph.node)


def with_fixed_ranges(model: onnx.ModelProto, data: ArrayLike | dict, recipe: Any,
                      source: str = "the calibration data",
                      progress: Reporter = SILENT) -> onnx.ModelProto:
    """The same network with constant scales and zero points.

    Parameters
    ----------
    model : onnx.ModelProto
    data : array or dict of arrays
        Inputs [N, ...], float32, with the sizes of the model's inputs.
    recipe : quantize.Recipe
        Gives the method of choosing ranges; codes are uint8, as the model's.
    source : str
        Names the data in errors.
    progress : Reporter

    Raises UserError for the range "cross-entropy", data that do not fit, numbers that are not
    finite, and a scale or zero point that is an output of the network.
    """
    model = onnx.ModelProto.FromString(with_known_sizes(model).SerializeToString())
    graph = model.graph
    constants = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in constants]
    feeds = calibration_feeds(SimpleNamespace(inputs=inputs), data, source)
    wanted = {node.input[0] for node in graph.node if node.op_type in DYNAMIC}
    if recipe.range == "cross-entropy":
        raise UserError("range cross-entropy is for float networks; take mse for this one, which "
                        "computes its scales from each input")
    statistics = _statistics(model, feeds, wanted, progress)
    numbers = {tensor: fit(Int(8), statistics[tensor], recipe.range, recipe.percentile)
               for tensor in dict.fromkeys(node.input[0] for node in graph.node
                                           if node.op_type in DYNAMIC)}
    names = {tensor: _constants(graph, tensor, chosen) for tensor, chosen in numbers.items()}
    nodes, renamed = [], dict[str, str]()
    for node in graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type not in DYNAMIC:
            nodes.append(node)
            continue
        nodes += _fixed(node, names[node.input[0]])
        if node.op_type == "DynamicQuantizeLinear":
            renamed |= dict(zip(node.output[1:], names[node.input[0]], strict=False))
    for item in graph.output:
        if item.name in renamed:
            raise UserError(f"output {item.name!r} is a scale or zero point that is computed from "
                            "each input: remove it, a chip's are fixed")
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _constants(graph, tensor, chosen):
    """Add the scale and the zero point (uint8) of a tensor's `Quantizer` (int8) to a graph; returns
    their names."""
    taken = {item.name for item in [*graph.initializer, *graph.input]} | {
        name for node in graph.node for name in node.output}
    names = []
    for array, name in ((np.float32(chosen.scale), f"{tensor}_fixed_scale"),
                        (np.uint8(chosen.zero + 128), f"{tensor}_fixed_zero")):
        while name in taken:
            name += "_"
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        names.append(name)
    return names


def _fixed(node, numbers):
    """The nodes that do what a dynamic one does, with these names of its input's scale and zero
    point."""
    tensor, codes = node.input[0], node.output[0]
    if node.op_type != "DynamicQuantizeLinear":
        codes = f"{codes}_codes"
    quantizer = helper.make_node("QuantizeLinear", [tensor, *numbers], [codes],
                                 node.name and f"{node.name}_quantizer")
    if node.op_type == "DynamicQuantizeLinear":
        return [quantizer]
    b, scale, zero, bias = (*node.input[1:], *[""] * 4)[:4]
    read = [codes, b, numbers[0], scale, numbers[1], zero, bias]
    while not read[-1]:
        del read[-1]
    return [quantizer, helper.make_node("MatMulIntegerToFloat", read, node.output, node.name,
                                        domain=node.domain)]


def _statistics(model, feeds, wanted, progress):
    """{tensor: `Statistics`} of the tensors `wanted`, image by image, since the model computes a
    range for each image."""
    images, rng = len(next(iter(feeds.values()))), np.random.default_rng(0)
    run, found = Evaluator(list(model.opset_import)), {name: Statistics() for name in wanted}
    with progress.step(f"Calibrating on {images:,} images", images) as done:
        for n in range(images):
            one = {name: array[n:n + 1] for name, array in feeds.items()}
            for name, array in run.walk(model, one, wanted).items():
                if not np.isfinite(array).all():
                    raise UserError(f"tensor {name!r} is not finite for calibration image {n}: the "
                                    "model or the data are damaged")
                found[name].add(array, _KEPT / (images * array.size), rng)
            done(n + 1)
    return found

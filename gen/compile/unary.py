"""Integers of few bits on a binary chip: each is the sum of several signs.

The results of a binary chip are signs. An integer y from low to high becomes high - low signs, of
which the n-th (from 0) is +1 where y is more than low + n:

    2 * y = low + high + sum of the signs

Each sign compares the sum with a threshold: a channel of its own with the same weights and another
bias. A layer that reads y reads the signs instead, all with the weight of y, and accumulates twice
the sum less a constant, which goes into its bias. Padding with -1 in all signs stands for low, with
+1 for high, and padding that adds nothing for the number half-way between; for any other number,
low and high are moved apart, with signs that never change, until it is half-way.
"""

from dataclasses import replace

import numpy as np
from systolith.gen.kit.errors import UserError, WrongFormat
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch
from systolith.sim.model import numerics
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Requantization

__all__ = ["integers_as_signs"]

#: The most signs for one integer.
_MOST = 15


def integers_as_signs(graph: Graph, arch: Arch) -> Graph:
    """The network with the integers between its layers as signs, for a binary chip. Unchanged for
    other chips, where there are none, and where not all weights are binary or integers. Inputs of
    the network stay integers (see `planes.py`). Raises UserError where a layer needs its results as
    integers, WrongFormat where the chip's weights are others, too."""
    if not arch.activation.binary:
        return graph
    inputs = {item.name for item in graph.inputs}
    inner = [item for item in graph.tensors.values()
             if item.format and item.format.uniform and item.name not in inputs]
    weights = [layer.weights.format for layer in graph.layers]
    if not inner or not all(form.binary or form.uniform for form in weights):
        return graph
    try:
        steps = {item.name: _steps(graph, item) for item in inner}
    except UserError as error:
        if all(form.binary for form in weights):
            raise
        raise WrongFormat(str(error)) from None
    tensors = dict(graph.tensors)
    for item in inner:
        low, high = steps[item.name]
        tensors[item.name] = Tensor(item.name, ((high - low) * item.shape[0], *item.shape[1:]),
                                    Bipolar(1))
    layers = []
    for layer in graph.layers:
        limits = _limits(layer, graph, steps[layer.output]) if layer.output in steps else None
        layer, scale, added = _read(layer, graph, steps)
        if layer.raw and scale != 1:
            old = tensors[layer.output]
            tensors[layer.output] = replace(old, scale=np.asarray(old.scale) / scale)
        if limits is not None:
            layer = _written(layer, scale * limits - added[:, None], tensors)
        layers.append(layer)
    origins = {name: item for name, item in graph.origins.items() if name not in steps}
    return replace(graph, tensors=tensors, layers=layers, origins=origins)


def _title(layer):
    return f"layer {layer.name!r} (ONNX nodes {', '.join(map(str, layer.nodes))})"


def _padded(layer):
    """Whether a layer reads padding of a constant number."""
    return layer.geometry.padded and not layer.geometry.replicate


def _pad_image(layer, form):
    """The number that a layer's padding stands for; `form` is the format of its input."""
    code = layer.geometry.pad_code
    return 0 if code is None else int(form.image(code))


def _steps(graph, tensor):
    """(low, high): the range of a tensor, extended so that the number with which its readers pad it
    is one of the two or half-way between. Raises UserError where the tensor cannot be signs."""
    writers = [layer for layer in graph.layers if layer.output == tensor.name]
    for layer in graph.layers:
        writes = layer.output == tensor.name
        combines = layer.operand is not None and (writes or layer.operand.tensor == tensor.name)
        if combines or (writes and layer.function):
            raise UserError(f"{_title(layer)} combines two maps, applies a function or has a "
                            "slope, and a binary chip's results are signs; choose a chip with "
                            "integers (array.activation, array.weight), on which signs are "
                            "numbers")
    if tensor.name in graph.outputs:
        raise UserError(f"tensor {tensor.name!r} is an output of the network in {tensor.format}, "
                        "and a binary chip's results are signs or sums; leave out the quantizer "
                        "at the end, or choose a chip with integers")
    low = min(item.requantization.low for item in writers)
    high = max(item.requantization.high for item in writers)
    pads = {_pad_image(layer, tensor.format) for layer in graph.layers
            if layer.input == tensor.name and _padded(layer)}
    if len(pads) > 1:
        raise UserError(f"tensor {tensor.name!r} is padded with {' and '.join(map(str, pads))} by "
                        "its readers; on a binary chip, which has it as signs, the pads must be "
                        "equal")
    for number in pads:
        if not low <= number <= high or 2 * number not in (2 * low, 2 * high, low + high):
            low, high = min(low, 2 * number - high), max(high, 2 * number - low)
    if high - low > _MOST:
        raise UserError(
            f"tensor {tensor.name!r} has results from {low} to {high}, which takes {high - low} "
            f"signs on a binary chip, and may take {_MOST}: quantize it to fewer bits, or choose a "
            "chip with integers (array.activation, array.weight), on which signs are numbers")
    return low, high


def _read(layer, graph, steps):
    """(the layer that reads signs instead of integers, s, a): what it accumulates is s times the
    sum of the integers less a, int64 array [O], which its bias adds."""
    if layer.input not in steps:
        return layer, 1, 0 * layer.bias
    low, high = steps[layer.input]
    count, form = high - low, graph.tensors[layer.input].format
    added = (low + high) * layer.pool.summed * layer.weights.sums
    pad_code = None
    if _padded(layer):
        number = _pad_image(layer, form)
        pad_code = {2 * low: 0, 2 * high: 1}.get(2 * number) if 2 * number != low + high else None
    channels = layer.channels
    if channels is not None:
        channels = (channels[:, None] * count + np.arange(count)).ravel()
    return replace(layer, weights=layer.weights.repeated(count, axis=1),
                   geometry=replace(layer.geometry, pad_code=pad_code), channels=channels,
                   bias=2 * layer.bias + added, input_shape=None), 2, added


def _sum_ranges(layer, form):
    """(smallest, largest) sums of a layer whose inputs have a format, int64 arrays [O, 1]."""
    return (layer.pool.summed * np.array(side, np.int64)[:, None]
            for side in layer.weights.sum_ranges(form))


def _limits(layer, graph, ends):
    """int64 array [O, high - low]: for each result from low + 1 to high the smallest sum with this
    result or a larger one; the largest possible sum plus 1 where none has. `ends` is (low,
    high)."""
    low, high = ends
    least, most = _sum_ranges(layer, graph.tensors[layer.input].format)
    results = np.arange(low + 1, high + 1)[None]
    form = graph.tensors[layer.output].format
    below = np.broadcast_to(least - 1, (len(least), results.size)).copy()
    above = np.broadcast_to(most + 1, below.shape).copy()
    while (above - below > 1).any():            # results rise with sums
        middle = (below + above) // 2
        sums = numerics.add_bias(middle[None], layer.bias)
        reached = layer.requantization.results(sums, form)[0] >= results
        inside = above - below > 1
        above = np.where(inside & reached, middle, above)
        below = np.where(inside & ~reached, middle, below)
    return above


def _written(layer, limits, tensors):
    """The layer that writes signs instead of integers: whether what it accumulates is at least
    `limits`, int64 array [O, signs of a channel]."""
    count = limits.shape[1]
    least, most = _sum_ranges(layer, tensors[layer.input].format)
    bias = np.clip(-limits, -most - 1, -least).ravel()
    placement = replace(layer.placement, first_channel=layer.placement.first_channel * count)
    return replace(layer, weights=layer.weights.repeated(count, axis=0), bias=bias,
                   requantization=Requantization.plain(len(bias), low=0, high=1),
                   placement=placement)

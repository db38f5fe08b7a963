"""Convolutions on a value's map: of every layer with weights, and Conv."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from systolith.gen.importer.binary import as_signs
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import join_pads, plain
from systolith.gen.importer.kernels import spread
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.scales import of_scales
from systolith.gen.importer.values import Inputs, Linear, Symbol, Value, constant, on_chip
from systolith.sim.model import numerics
from systolith.sim.model.weights import Weights

from .weights import weight_scale, weights_of
from .windows import as_map, window

__all__ = ["add_bias", "conv", "has_zero", "linear"]


def has_zero(builder: Builder, value: Value) -> bool:
    """Whether the real number 0 has a code in the tensor of a quantized value, so that the value
    can be padded with it."""
    gain, zero = uniform(value.gain), uniform(value.offset)
    if not gain or zero is None:
        return False
    low, high = builder.tensors[value.source].format.image_range
    zero = -zero / gain
    return zero.denominator == 1 and low <= zero <= high


def _pad_image(tensor, gain, offset, node):
    """The image that stands for 0 where real = gain * image + offset."""
    zero = uniform(-offset / gain)
    low, high = tensor.format.image_range
    if zero is None or zero.denominator != 1 or (zero and not low <= zero <= high):
        node.fail("pads with zeros, and 0 has no code in its input; put a quantizer before it, "
                  "with a zero point within the range of codes")
    return int(zero)


def _check_inputs(weights, groups, value, node):
    if weights.shape[1] * groups != value.map[0]:
        node.fail(f"its weights are for {weights.shape[1] * groups} channels, and its input has "
                  f"{value.map[0]}")


def _of_groups(gain, groups, node):
    """The gain of each group, from that of each channel."""
    gains = gain.reshape(groups, -1)
    if (gains != gains[:, :1]).any():
        node.fail("reads channels of different scales in one group; put a quantizer before it")
    return gains[:, 0]


def linear(builder: Builder, node: Node, value: Symbol | None, weights: Weights,
           scale: np.ndarray, geometry: Callable | None = None, groups: int = 1) -> Value:
    """The convolution of an activation with weights of `scale` [O].

    `geometry` is a function from the (height, width) of the map and of the kernel to (stride,
    dilation, pads); None: the kernel covers the whole map. Raises UserError at `node` where the
    activation is not quantized or does not fit the weights.
    """
    value = on_chip(value, node)
    if value.parts:
        value = plain(builder, value, node)
    _check_inputs(weights, groups, value, node)
    averaged = _averaged(builder, value)
    if value.linear is None and uniform(value.gain) is None and groups == 1 and (
            weights.shape[1] > 1):
        return of_scales(builder, node, value, (weights, scale), geometry, linear)
    source, gain, offset = _read(builder, node, value, averaged)
    tensor = builder.tensors[source]
    if tensor.format.binary:
        weights, scale = as_signs(weights, scale)
    stride, dilation, pads = (1, 1), (1, 1), (0, 0, 0, 0)
    if geometry is not None:
        stride, dilation, pads = geometry(value.map[1:], weights.shape[2:])
    edges = _edges(value, pads, lambda: _pad_image(tensor, gain, offset, node))
    if edges is None:
        return linear(builder, node, plain(builder, value, node), weights, scale, geometry, groups)
    kernel = Linear(node.name, weights, tuple(stride), tuple(dilation), *edges)
    window = (1, 1)
    if averaged:
        kernel, window = _with_mean(kernel, value, averaged, node)
    sizes = [numerics.output_size(size, kernel.weights.shape[2 + n], kernel.stride[n],
                                  kernel.dilation[n], kernel.pads[n::2]) // window[n]
             for n, size in enumerate(tensor.shape[1:])]
    if min(sizes) < 1:
        node.fail(f"its kernel does not fit the input of {value.map[1]} x {value.map[2]} pixels; "
                  "make the kernel smaller or the pads larger")
    outputs = len(weights)
    unit = scale * exact(2) ** weights.format.exponent
    gain_unit = unit * exact(2) ** tensor.format.product_shift
    # The contribution of the input's offset, at padding too: the padding's image plus offset is 0.
    if uniform(offset) is not None:
        added = weights.sums.astype(object) * offset[0]
    else:
        offsets = np.repeat(np.reshape(offset, (groups, -1)), outputs // groups, axis=0)
        added = (weights.images.sum(axis=(2, 3)).astype(object) * offsets).sum(axis=1)
    gains = np.repeat(_of_groups(gain, groups, node), outputs // groups)
    shape = (outputs, *sizes)
    return Value(source, shape, shape, gains * gain_unit, added * unit, kernel,
                 nodes=[*(value.nodes if source == value.source else []), node.name],
                 channels=value.channels, window=window)


def _read(builder, node, value, averaged):
    """(source tensor, gain [channels], offset [channels]) of what a convolution reads of a value;
    `averaged`: as of `_averaged`."""
    if averaged:
        return value.source, value.gain * averaged[0], value.offset
    if value.linear is None and uniform(value.gain) is None:
        codes = builder.codes(value, node)
        return codes.source, codes.gain, codes.offset
    source, gain, offset = builder.read(value, node)
    return source, np.full(len(offset), gain, dtype=object), offset


def _edges(value, pads, zero):
    """(pads, image of padding pixels) of a convolution with `pads` on a value that may be padded or
    cropped itself; None where that cannot be one. `zero()`: the image that stands for 0."""
    padding = any(p > 0 for p in pads)
    image = zero() if padding else 0
    if not any(value.pads):
        return tuple(pads), image
    together, padded = join_pads(value.pads, pads), any(p > 0 for p in value.pads)
    if together is None or (padded and padding and image != value.pad_image):
        return None
    return together, value.pad_image if padded else image


def _with_mean(kernel, value, averaged, node):
    """(Linear, window of sum pooling): a convolution of a mean, `value`, as one convolution."""
    if any(kernel.pads):
        node.fail(f"pads the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them")
    _, counts, steps = averaged
    if value.window != (1, 1) and kernel.weights.shape[2:] == kernel.stride == (1, 1):
        return kernel, value.window
    apart = [d * n for d, n in zip(kernel.dilation, steps, strict=True)]
    return replace(kernel, weights=spread(kernel.weights, apart, counts, (1, 1), value, node),
                   stride=tuple(s * n for s, n in zip(kernel.stride, steps, strict=True)),
                   dilation=(1, 1)), (1, 1)


def _averaged(builder, value):
    """(weight, window, stride) where a value is a mean that no quantizer follows; None for any
    other value."""
    own = getattr(value, "linear", None)
    if not isinstance(own, Linear):
        return None
    count = (builder.tensors[value.source].shape[0] if value.channels is None
             else len(value.channels))
    images = own.weights.images
    if (images.shape[1] != 1 or len(images) != count or any(own.pads)
            or (images != images.flat[0]).any() or own.dilation != (1, 1)
            or uniform(value.gain) is None or value.low is not None or value.high is not None
            or value.pool or value.slope is not None):
        return None
    factor = images.flat[0]
    if own.weights.format.product_shift:        # not the product of the images
        image, factor = own.weights.format.copying
        if image != images.flat[0]:
            return None
    if value.window == (1, 1):
        return factor, images.shape[2:], own.stride
    if images.shape[2:] != (1, 1) or own.stride != (1, 1):
        return None
    return factor, value.window, value.window


@operator("Conv", roles=Role.LINEAR | Role.MAPS, rest=window)
def conv(builder: Builder, node: Node, inputs: Inputs, group: int = 1,
         kernel_shape: Sequence[int] | None = None, **windows: Any) -> Value:
    """The operator Conv, 1-D or 2-D. `windows`: the attributes of `windows.window`. Raises
    UserError."""
    weights, value = weights_of(inputs[1], node), inputs[0]
    rank = len(weights.shape) - 2
    missing = 2 - rank
    if rank not in (1, 2):
        node.fail(f"supports 1-D and 2-D convolutions, not weights of {rank + 2} dimensions")
    if isinstance(value, Value):
        as_map(value, node)
        if len(value.shape) - 1 != rank:
            node.fail(f"its weights have {rank + 2} dimensions, and its input has "
                      f"{len(value.shape) + 1}")
    kernel = list(weights.shape[2:] if kernel_shape is None else kernel_shape)
    if kernel != list(weights.shape[2:]):
        node.fail(f"attribute kernel_shape must be that of its weights, {list(weights.shape[2:])}, "
                  f"not {kernel}")
    images = weights.images.reshape(*weights.shape[:2], *[1] * missing, *kernel)
    if group < 1 or len(images) % group:
        node.fail(f"attribute group must divide the {len(images)} output channels, not {group}")

    def geometry(size, kernel):
        stride, dilation, pads = window(node, rank, size[missing:], kernel[missing:],
                                        **windows)
        pads = [(0, 0)] * missing + pads
        if min(min(pair) for pair in pads) < 0:
            node.fail(f"attribute pads must not be negative, not {pads}")
        return ((*[1] * missing, *stride), (*[1] * missing, *dilation),
                (pads[0][0], pads[1][0], pads[0][1], pads[1][1]))

    result = linear(builder, node, value, Weights(images, weights.format),
                    weight_scale(weights, weights.scale, node), geometry, group)
    if rank == 1:
        result.shape = result.map[0], result.map[2]
    add_bias(result, inputs[2:3], node)
    return result


def add_bias(result: Value, bias: Inputs, node: Node) -> None:
    """Add a bias [O], if `bias` (one input, or none) has one, to the results of a convolution, in
    place. Raises UserError at `node` for other shapes."""
    if bias and bias[0] is not None:
        numbers, count = constant(bias[0], node, "its bias").numbers, result.map[0]
        if numbers.shape != (count,):
            node.fail(f"its bias must have the shape [{count}], not {list(numbers.shape)}")
        result.offset = result.offset + numbers



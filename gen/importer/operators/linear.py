"""Layers with weights: Conv, Gemm and MatMul as convolutions on a value's map."""

from dataclasses import replace
from math import prod

import numpy as np
from systolith.gen.importer.binary import as_signs
from systolith.gen.importer.copies import join_pads, plain
from systolith.gen.importer.kernels import format_of, spread
from systolith.gen.importer.layout import as_pixels, filled
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.scales import of_scales, scaled
from systolith.gen.importer.values import (
    Constant,
    HostInput,
    Linear,
    Pair,
    QuantizedConstant,
    Value,
    constant,
    exact,
    layout_of,
    per_channel,
    shape_text,
    uniform,
    with_layout,
)
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec import isa
from systolith.sim.model import numerics

__all__ = ["add_bias", "as_map", "conv", "gemm", "has_zero", "linear", "matmul", "mean", "spatial",
           "weight_scale", "weights_of", "window"]

_WINDOW = {item.name: item.high for item in isa.OPCODES[isa.Opcode.POST]}["pool_x"]
_SIDE = {item.name: item.high for item in isa.OPCODES[isa.Opcode.ARRAY]}["pool_y"]
_SAME = ("SAME_UPPER", "SAME_LOWER")


def weights_of(value, node):
    if isinstance(value, Constant):
        value = _signs_or_zeros(value) or _dequantized(value, node) or value
    if isinstance(value, Constant):
        node.fail(f"its weights {value.name!r} are plain numbers: quantize them, with "
                  "onnxruntime.quantization.quantize_static(quant_format=QuantFormat.QDQ) or in "
                  "QONNX's operators")
    if not isinstance(value, QuantizedConstant):
        node.fail("its weights must be constant; products of two activations are not supported")
    low, high = value.format.image_range
    least, most = int(value.images.min(initial=0)), int(value.images.max(initial=0))
    if least < low or most > high:
        node.fail(f"its weights {value.name!r} minus their zero point are from {least} to {most}, "
                  f"and must be from {low} to {high}: quantize weights symmetrically "
                  "(weight_type=QuantType.QInt8, or extra_options={'WeightSymmetric': True})")
    return value


def _signs_or_zeros(value):
    """Plain weights that are one magnitude with either sign or 0, in the whole or in each output
    channel, as a `QuantizedConstant`; None for others."""
    numbers = value.floats.astype(np.float64)
    signs, sizes = np.sign(numbers).astype(np.int64), abs(numbers)
    if numbers.ndim < 2 or not np.isfinite(numbers).all() or not sizes.any():
        return None
    for axes in (None, tuple(range(1, numbers.ndim)), tuple(range(numbers.ndim - 1))):
        scale = sizes.max(axis=axes, keepdims=True)
        if ((sizes == scale) | (sizes == 0)).all():
            scale = np.broadcast_to(np.where(scale == 0, 1.0, scale), numbers.shape)
            return QuantizedConstant(value.name, signs, scale,
                                     Bipolar(1) if signs.all() else Int(2))
    return None


def _dequantized(value, node):
    """Plain weights that are codes of 8 bits times a scale in float32, as a DequantizeLinear that
    was computed in advance leaves them, one scale for all or one in each output channel, as a
    `QuantizedConstant`; None for others."""
    numbers = value.floats.astype(np.float32)
    if numbers.ndim < 2 or not np.isfinite(numbers).all():
        return None
    for axis in (None, 1) if node.operator == "ConvTranspose" else (None, 0, numbers.ndim - 1):
        rows = numbers[None] if axis is None else np.moveaxis(numbers, axis, 0)
        steps = []
        for row in rows:
            steps.append(_step(np.unique(abs(row[row != 0]))))
            if steps[-1] is None:
                break
        else:
            shape = [-1 if n == axis else 1 for n in range(numbers.ndim)]
            scale = np.broadcast_to(np.reshape(np.array(steps, np.float64), shape), numbers.shape)
            codes = np.rint(numbers / scale).astype(np.int64)
            bits = int(abs(codes).max()).bit_length() + 1
            return QuantizedConstant(value.name, codes, scale, Int(bits))
    return None


#: The largest code of a weight of 8 bits.
_LARGEST = 127


def _step(sizes):
    """The largest float32 of which all of some magnitudes (float32, sorted, none of them 0) are
    products with codes, rounded to float32; None: there is none."""
    if len(sizes) > _LARGEST:
        return None
    sizes = sizes.astype(np.float64)
    for first in range(1, _LARGEST + 1) if len(sizes) else ():
        ratios = sizes * first / sizes[0]
        codes = np.rint(ratios)
        if codes[-1] > _LARGEST:
            break
        if (abs(ratios - codes) > 1e-4).any():
            continue
        step = np.float32(sizes[-1] / codes[-1])
        for near in (step, np.nextafter(step, np.float32(0)), np.nextafter(step, 2 * step)):
            if (np.float32(codes * np.float64(near)) == sizes).all():
                return near
    return None if len(sizes) else np.float32(1)


def weight_scale(weights, scale, node):
    """The scale of each output channel, from `scale` [O, ...]."""
    flat = scale.reshape(len(scale), -1)
    if (flat != flat[:, :1]).any():
        node.fail(f"the scale of its weights {weights.name!r} must be one number, or one for each "
                  "output channel")
    return exact(flat[:, 0])


def has_zero(builder, value):
    """Whether 0 has a code in the tensor of a quantized value, so that it can pad."""
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


def _check_inputs(images, groups, value, node):
    if images.shape[1] * groups != value.map[0]:
        node.fail(f"its weights are for {images.shape[1] * groups} channels, and its input has "
                  f"{value.map[0]}")


def _of_groups(gain, groups, node):
    """The gain of each group from that of each channel."""
    gains = gain.reshape(groups, -1)
    if (gains != gains[:, :1]).any():
        node.fail("reads channels of different scales in one group; put a quantizer before it")
    return gains[:, 0]


def linear(builder, node, value, format, images, scale, geometry=None, groups=1):
    """The convolution of an activation with `images` [O, I, kh, kw] of `format` and `scale` [O].

    Input channels are I times as many as there are groups.
    `geometry` is a function from the map's and the kernel's (height, width) to stride, dilation
    and pads; None: the kernel is the whole map.
    """
    if isinstance(value, Value) and value.parts:
        value = plain(builder, value, node)
    averaged, several = _averaged(builder, value), False
    if averaged:
        one, counts, steps = averaged
        source, gain, offset = value.source, value.gain[0] * one, value.offset
    elif isinstance(value, Value) and value.linear is None and uniform(value.gain) is None:
        if groups == 1 and images.shape[1] > 1:
            _check_inputs(images, groups, value, node)
            return of_scales(builder, node, value, (format, images, scale), geometry, linear)
        codes = builder.codes(value, node)
        source, gain, offset = codes.source, _of_groups(codes.gain, groups, node), value.offset
        several = True
    else:
        source, gain, offset = builder.read(value, node)
    tensor = builder.tensors[source]
    if tensor.format.binary:
        images, format, scale = as_signs(images, format, scale)
    _check_inputs(images, groups, value, node)
    stride, dilation, pads = (1, 1), (1, 1), (0, 0, 0, 0)
    if geometry is not None:
        stride, dilation, pads = geometry(value.map[1:], images.shape[2:])
    padding = any(p > 0 for p in pads)
    pad_image = _pad_image(tensor, codes.gain if several else gain, offset, node) if padding else 0
    if any(value.pads):
        together = join_pads(value.pads, pads)
        padded = any(p > 0 for p in value.pads)
        if together is None or (padded and padding and pad_image != value.pad_image):
            return linear(builder, node, plain(builder, value, node), format, images, scale,
                           geometry, groups)
        pads, pad_image = together, value.pad_image if padded else pad_image
    kernel, added_up = images, (1, 1)
    if averaged:
        if any(pads):
            node.fail(f"pads the result of {value.nodes[-1]!r} before it is quantized; put a "
                      "quantizer between them")
        if value.window != (1, 1) and images.shape[2:] == stride == (1, 1):
            added_up = value.window
        else:
            kernel = spread(images, [d * n for d, n in zip(dilation, steps, strict=True)], counts,
                             (1, 1))
            format = format_of(kernel, format, value, node)
            stride = tuple(s * n for s, n in zip(stride, steps, strict=True))
            dilation = (1, 1)
    sizes = [numerics.output_size(size, kernel.shape[2 + n], stride[n], dilation[n], pads[n::2])
             // added_up[n] for n, size in enumerate(tensor.shape[1:])]
    if min(sizes) < 1:
        node.fail(f"its kernel does not fit the input of {value.map[1]} x {value.map[2]} pixels; "
                  "make the kernel smaller or the pads larger")
    gain = np.repeat(gain, len(images) // groups) if several else gain
    unit = scale * exact(2) ** format.exponent
    # The contribution of the input's offset, at padding too: the padding's image plus offset is 0.
    if uniform(offset) is not None:
        added = images.sum(axis=(1, 2, 3)).astype(object) * offset[0]
    else:
        offsets = np.repeat(np.reshape(offset, (groups, -1)), len(images) // groups, axis=0)
        added = (images.sum(axis=(2, 3)).astype(object) * offsets).sum(axis=1)
    shape = (len(images), *sizes)
    return Value(source, shape, shape, gain * unit, added * unit,
                 Linear(node.name, kernel, format, stride, dilation, pads, pad_image),
                 nodes=[*(value.nodes if source == value.source else []), node.name],
                 channels=value.channels, window=added_up)


# Means: convolutions of every channel by itself with equal weights. They are linear, so that what
# comes before or after without a quantizer between becomes one convolution with them.

def mean(builder, node, value, kernel, stride, dilation, pads, divisor=None):
    """The mean over windows of the map, or their sums divided by `divisor`; at padding there are
    zeros, negative pads cut. Post-processing adds up sums where windows do not overlap and are not
    too large; else it is a convolution."""
    divisor = divisor or prod(kernel)
    if isinstance(value, HostInput):
        node.fail("pools the input before it is quantized; put a quantizer before it")
    value = plain(builder, value, node) if value.parts else value
    kernel, stride, dilation = tuple(kernel), tuple(stride), tuple(dilation)
    apart = (kernel == stride and dilation == (1, 1) and not any(pads) and prod(kernel) <= _WINDOW
             and max(kernel) <= _SIDE)
    if isinstance(value.linear, Pair):
        return _mean_of_pair(builder, node, value, (kernel, stride, dilation, pads), divisor)
    if value.linear is not None:
        return _mean_of_sums(node, value, kernel, stride, dilation, pads, apart, divisor)
    channels = value.map[0]
    format = builder.weight_format or builder.tensors[value.source].format
    one = int(format.image(format.encode(1.0)))
    if one < 1:
        node.fail(f"averages with weights of one, and there is none in {format}; quantize the "
                  "weights to more bits")
    # The stride of a window that covers the map has no effect, and a long one costs cycles.
    stride = tuple(1 if k >= size + pads[n] + pads[n + 2] else s for n, (k, size, s) in
                   enumerate(zip(kernel, value.map[1:], stride, strict=True)))
    images = np.full((channels, 1, *((1, 1) if apart else kernel)), one)
    scale = np.full(channels, exact(1).item() / (one * divisor), dtype=object)
    result = linear(builder, node, value, format, images, scale / exact(2) ** format.exponent,
                    lambda size, _: ((1, 1), (1, 1), (0, 0, 0, 0)) if apart else (
                        stride, dilation, tuple(pads)), channels)
    if apart:
        result.offset = result.offset * prod(kernel)
        _add_up(result, kernel)
    return result


def _add_up(value, kernel):
    """The value with sum pooling over windows."""
    sizes = (size // n for size, n in zip(value.map[1:], kernel, strict=True))
    value.map = value.shape = (value.map[0], *sizes)
    value.window = kernel


def _mean_of_pair(builder, node, value, window, divisor):
    """Mean of a sum of two values, as the sum of their means; `window`: as of `mean`."""
    both, pair = value.linear, [value.linear.first, value.linear.second]
    if both.product or value.pool or value.slope is not None or value.low is not None or (
            value.high is not None):
        node.fail(f"averages the result of {value.nodes[-1]!r} before it is quantized, and that is "
                  "a product, or a sum with a Clip or pooling; put a quantizer between them")
    if any(window[-1]):
        node.fail(f"pads the result of {value.nodes[-1]!r} before it is quantized; put a quantizer "
                  "between them")
    # One pixel is the same for all of a window.
    times = exact(prod(window[0])).item() / divisor
    kernel, stride, dilation, pads = window
    means = []
    for item in pair:
        one = (mean(builder, node, item, kernel, stride, dilation, pads, divisor)
               if item.map == value.map else scaled(item, times * item.gain ** 0, 0 * item.gain))
        assert one is not None              # the factor is positive and the same for all channels
        means.append(one)
    largest = max(item.map for item in means)
    return replace(value, offset=value.offset * times, map=largest, shape=largest,
                   nodes=[*value.nodes, node.name],
                   linear=replace(both, first=means[0], second=means[1]))


def _mean_of_sums(node, value, kernel, stride, dilation, pads, apart, divisor):
    """The mean of a convolution's results that were not quantized."""
    if (not isinstance(value.linear, Linear) or value.window != (1, 1) or value.pool
            or value.slope is not None or value.low is not None or value.high is not None
            or any(p > 0 for p in pads)):
        node.fail(f"averages the result of {value.nodes[-1]!r} before it is quantized, and that is "
                  "a sum, clipped, pooled or padded; put a quantizer between them")
    own, before, nodes = value.linear, value, [*value.nodes, node.name]
    # The offsets of all pixels of a window, divided by its divisor.
    value = replace(value, gain=value.gain / divisor, nodes=nodes,
                    offset=value.offset * prod(kernel) / divisor)
    if apart:
        _add_up(value, kernel)
        return value
    steps = [s * d for s, d in zip(own.stride, dilation, strict=True)]
    images = spread(own.images, own.dilation, kernel, steps)
    form = format_of(images, own.format, before, node)
    strides = tuple(s * t for s, t in zip(own.stride, stride, strict=True))
    sizes = [(size + pads[n] + pads[n + 2] - (k - 1) * d - 1) // t + 1 for n, (size, k, t, d) in
             enumerate(zip(value.map[1:], kernel, stride, dilation, strict=True))]
    if min(sizes) < 1:
        node.fail(f"its window {list(kernel)} is larger than its input {list(value.map[1:])}; make "
                  "the window smaller or the pads larger")
    shape = (value.map[0], *sizes)
    cut = tuple(p + q * s for p, q, s in zip(own.pads, pads, own.stride * 2, strict=True))
    return replace(value, map=shape, shape=shape,
                   linear=replace(own, images=images, format=form, stride=strides,
                                  dilation=(1, 1), pads=cut))


def _averaged(builder, value):
    """(weight, window, stride) of a mean that was not quantized, None for any other value."""
    own = getattr(value, "linear", None)
    if not isinstance(own, Linear):
        return None
    count = (builder.tensors[value.source].shape[0] if value.channels is None
             else len(value.channels))
    if (own.images.shape[1] != 1 or len(own.images) != count or any(own.pads)
            or (own.images != own.images.flat[0]).any() or own.dilation != (1, 1)
            or uniform(value.gain) is None or value.low is not None or value.high is not None
            or value.pool or value.slope is not None):
        return None
    if value.window == (1, 1):
        return own.images.flat[0], own.images.shape[2:], own.stride
    if own.images.shape[2:] != (1, 1) or own.stride != (1, 1):
        return None
    return own.images.flat[0], value.window, value.window


def _auto_pads(size, kernel, stride, dilation, mode):
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def spatial(node, name, values, rank, default):
    """The `values` of an attribute, one for each of `rank` axes; None: all `default`."""
    values = [default] * rank if values is None else [int(item) for item in values]
    if len(values) != rank:
        node.fail(f"attribute {name} must have {rank} values, not {values}")
    return values


def window(node, rank, size, kernel, strides=None, dilations=None, pads=None,
           auto_pad="NOTSET"):
    """stride, dilation and pads ((before, after) for each axis) of an ONNX window operator with
    these attributes."""
    stride, dilation = (spatial(node, key, values, rank, 1) for key, values in
                        (("strides", strides), ("dilations", dilations)))
    for key, values in (("strides", stride), ("dilations", dilation)):
        if min(values) < 1:
            node.fail(f"attribute {key} must be at least 1, not {values}")
    mode = node.expect("auto_pad", auto_pad, ("NOTSET", "VALID", *_SAME))
    if mode != "NOTSET" and any(pads or []):
        node.fail(f"attribute pads must be left out where auto_pad is {mode!r}")
    if mode in _SAME:
        # ONNX Runtime's operators place such windows differently, or fail.
        least = min((-(-n // s) - 1) * s + d * (k - 1) + 1 - n for n, k, s, d in
                    zip(size, kernel, stride, dilation, strict=True))
        if least < (-2 if node.operator == "Conv" else 0):
            node.fail(f"attribute auto_pad must be 'NOTSET' or 'VALID' where windows {kernel} of "
                      f"strides {stride} leave pixels of {size} over; give pads")
        pads = [_auto_pads(*item, mode) for item in zip(size, kernel, stride, dilation,
                                                        strict=True)]
    else:
        values = [int(item) for item in pads or [0] * (2 * rank)]
        if len(values) != 2 * rank:
            node.fail(f"attribute pads must have {2 * rank} values, not {values}")
        pads = list(zip(values[:rank], values[rank:], strict=True))
    return stride, dilation, pads


def as_map(value, node):
    """Refuse a value whose ONNX shape is not its map: [C, H, W], or [C, W] of height 1."""
    if len(value.shape) not in (2, 3):
        node.fail("supports 1-D and 2-D maps, [N, C, W] and [N, C, H, W], not an input of shape "
                  f"{shape_text(value.shape)}; reshape the input to one of these")
    wanted = value.shape if len(value.shape) == 3 else (value.shape[0], 1, value.shape[1])
    if tuple(wanted) != tuple(value.map):
        node.fail(f"reads {shape_text(value.shape)}, which a reshape made of a map of "
                  f"{value.map[0]} x {value.map[1]} x {value.map[2]}; reshape the input before "
                  "it is quantized instead")


@operator("Conv", roles=Role.LINEAR | Role.MAPS, rest=window)
def conv(builder, node, inputs, group=1, kernel_shape=None, **windows):
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

    result = linear(builder, node, value, weights.format, images,
                     weight_scale(weights, weights.scale, node), geometry, group)
    if rank == 1:
        result.shape = result.map[0], result.map[2]
    add_bias(result, inputs[2:3], node)
    return result


def add_bias(result, bias, node):
    """Add a bias [O], if `bias` has one, to the results of a convolution."""
    if bias and bias[0] is not None:
        numbers, count = constant(bias[0], node, "its bias").numbers, result.map[0]
        if numbers.shape != (count,):
            node.fail(f"its bias must have the shape [{count}], not {list(numbers.shape)}")
        result.offset = result.offset + numbers


def _dense(builder, node, value, weights, transposed):
    """A product of the last axis with constant weights [K, O], or [O, K] where they are
    transposed: a convolution whose kernel is the whole map, or one of single pixels."""
    images, scale = (_matrix(item, node) for item in (weights.images, weights.scale))
    if not transposed:
        images, scale = images.T, scale.T
    factors = weight_scale(weights, scale, node)
    if not isinstance(value, Value):
        return linear(builder, node, value, weights.format, images[:, :, None, None], factors)
    if not value.shape or value.shape[-1] != images.shape[1]:
        node.fail(f"its weights are for {images.shape[1]} inputs, and its input has the shape "
                  f"{shape_text(value.shape)}")
    lead = value.rows, *value.shape[:-1]
    if prod(lead) == 1:
        value = filled(builder, node, value)
        images = images[:, np.argsort(layout_of(value).reshape(-1))]
        images = images.reshape(len(images), *value.map)
        result = linear(builder, node, _as_it_lies(value), weights.format, images, factors)
        return replace(result, shape=(*lead[1:], len(images)))
    value, pixels, channels = as_pixels(builder, node, value)
    images = images[:, np.argsort(channels), None, None]
    result = linear(builder, node, _as_it_lies(value), weights.format, images, factors,
                    lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)))
    index = np.arange(len(images)) * prod(result.map[1:]) + pixels[:, None]
    return with_layout(result, index.reshape(*lead, len(images)))


def _as_it_lies(value):
    return replace(value, shape=tuple(value.map), order=None, rows=1)


def _matrix(array, node):
    """Weights of 2 dimensions, leading dimensions of 1 removed."""
    if array.ndim < 2 or any(size != 1 for size in array.shape[:-2]):
        node.fail(f"its weights must be one matrix, not of the shape {list(array.shape)}: one that "
                  "all rows of the input share")
    return array.reshape(array.shape[-2:])


@operator("Gemm", roles=Role.LINEAR | Role.ROWS)
def gemm(builder, node, inputs, alpha=1.0, beta=1.0, transA=0, transB=0):
    node.expect("transA", transA, (0,))
    alpha, beta = (exact(item).item() for item in (alpha, beta))
    result = _dense(builder, node, inputs[0], weights_of(inputs[1], node),
                    node.expect("transB", transB, (0, 1)))
    result.gain, result.offset = alpha * result.gain, alpha * result.offset
    if len(inputs) > 2 and inputs[2] is not None:
        numbers = constant(inputs[2], node, "its bias").numbers
        result.offset = result.offset + beta * per_channel(numbers, result, node, "its bias")
    return result


@operator("MatMul", roles=Role.LINEAR | Role.ROWS)
def matmul(builder, node, inputs):
    if not isinstance(inputs[0], (Constant, QuantizedConstant)):
        weights = weights_of(inputs[1], node)
        if len(weights.shape) > 1:
            return _dense(builder, node, inputs[0], weights, False)
        column = replace(weights, images=weights.images[:, None], scale=weights.scale[:, None])
        result = _dense(builder, node, inputs[0], column, False)
        return with_layout(result, layout_of(result)[..., 0])
    # Of the last axis but one: the same with both matrices transposed.
    weights, value = weights_of(inputs[0], node), inputs[1]
    if not isinstance(value, Value) or len(value.shape) < 2:
        node.fail("has its constant as the first input, which is supported where the second is a "
                  "quantized activation [N, ..., K, T]; transpose both and make the constant the "
                  "second input")
    value = with_layout(value, layout_of(value).swapaxes(-1, -2))
    result = _dense(builder, node, value, weights, True)
    return with_layout(result, layout_of(result).swapaxes(-1, -2))

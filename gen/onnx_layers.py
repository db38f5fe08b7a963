"""Layers with weights: Conv, Gemm and MatMul as convolutions on a value's map."""

import numpy as np

from ..hw import isa
from ..hw.formats import Bipolar
from ..sim import numerics
from .onnx_values import (
    Constant,
    Linear,
    QuantizedConstant,
    Value,
    constant,
    exact,
    per_channel,
    shape_text,
    uniform,
)

__all__ = ["as_map", "average", "conv", "gemm", "matmul", "spatial", "window"]

_WINDOW = {item.name: item.high for item in isa.OPCODES[isa.Opcode.POST]}["pool"]
_SIDE = {item.name: item.high for item in isa.OPCODES[isa.Opcode.ARRAY]}["pool_y"]
_SAME = ("SAME_UPPER", "SAME_LOWER")


def _weights(value, node):
    if isinstance(value, Constant):
        node.fail(f"its weights {value.name!r} are plain numbers: quantize the network first, with "
                  "onnxruntime.quantization.quantize_static or in QONNX's operators")
    if not isinstance(value, QuantizedConstant):
        node.fail("its weights must be constant; products of two activations are not supported")
    low, high = value.format.image_range
    least, most = int(value.images.min(initial=0)), int(value.images.max(initial=0))
    if least < low or most > high:
        node.fail(f"its weights {value.name!r} minus their zero point are from {least} to {most}, "
                  f"and must be from {low} to {high}: quantize weights symmetrically "
                  "(weight_type=QuantType.QInt8, or extra_options={'WeightSymmetric': True})")
    return value


def _weight_scale(weights, scale, node):
    """The scale of each output channel, from `scale` [O, ...]."""
    flat = scale.reshape(len(scale), -1)
    if (flat != flat[:, :1]).any():
        node.fail(f"the scale of its weights {weights.name!r} must be one number, or one for each "
                  "output channel")
    return exact(flat[:, 0])


def _pad_image(tensor, gain, offset, node):
    """The image that stands for 0 where real = gain * image + offset."""
    zero = None if uniform(offset) is None else -offset[0] / gain
    low, high = tensor.format.image_range
    if zero is None or zero.denominator != 1 or (zero and not low <= zero <= high):
        node.fail("pads with zeros, and 0 has no code in its input; choose a zero point within "
                  "the range of codes")
    return int(zero)


def _linear(builder, node, value, format, images, scale, geometry=None, groups=1):
    """The convolution of an activation with `images` [O, I, kh, kw] of `format` and `scale` [O].

    Input channels are I times as many as there are groups.
    `geometry` is a function from the map's and the kernel's (height, width) to stride, dilation
    and pads; None: the kernel is the whole map.
    """
    source, gain, offset = builder.read(value, node)
    tensor = builder.tensors[source]
    if images.shape[1] * groups != tensor.shape[0]:
        node.fail(f"its weights are for {images.shape[1] * groups} channels, and its input has "
                  f"{tensor.shape[0]}")
    stride, dilation, pads = (1, 1), (1, 1), (0, 0, 0, 0)
    if geometry is not None:
        stride, dilation, pads = geometry(tensor.shape[1:], images.shape[2:])
    if min(pads) < 0:
        node.fail(f"attribute pads must not be negative, not {list(pads)}")
    sizes = [numerics.output_size(size, images.shape[2 + n], stride[n], dilation[n], pads[n::2])
             for n, size in enumerate(tensor.shape[1:])]
    if min(sizes) < 1:
        node.fail(f"its kernel does not fit the input of {tensor.shape[1]} x {tensor.shape[2]} "
                  "pixels")
    pad_image = _pad_image(tensor, gain, offset, node) if any(pads) else 0
    unit = scale * exact(2) ** format.exponent
    # What the offset of the input adds, at padding too: its image stands for 0 with the offset.
    if uniform(offset) is not None:
        added = images.sum(axis=(1, 2, 3)).astype(object) * offset[0]
    else:
        offsets = np.repeat(np.reshape(offset, (groups, -1)), len(images) // groups, axis=0)
        added = (images.sum(axis=(2, 3)).astype(object) * offsets).sum(axis=1)
    shape = (len(images), *sizes)
    return Value(source, shape, shape, gain * unit, added * unit,
                 Linear(node.name, images, format, stride, dilation, pads, pad_image),
                 nodes=[node.name])


def _auto_pads(size, kernel, stride, dilation, mode):
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def spatial(node, name, rank, default):
    values = [int(item) for item in node.attributes.get(name, [default] * rank)]
    if len(values) != rank:
        node.fail(f"attribute {name} must have {rank} values, not {values}")
    return values


def window(node, rank, size, kernel):
    """stride, dilation and pads ((before, after) for each axis) of an ONNX window operator."""
    stride, dilation = (spatial(node, key, rank, 1) for key in ("strides", "dilations"))
    for key, values in (("strides", stride), ("dilations", dilation)):
        if min(values) < 1:
            node.fail(f"attribute {key} must be at least 1, not {values}")
    mode = node.expect("auto_pad", "NOTSET", ("NOTSET", "VALID", *_SAME))
    if mode != "NOTSET" and any(node.attributes.get("pads", [])):
        node.fail(f"attribute pads must be left out where auto_pad is {mode!r}")
    if mode in _SAME:
        pads = [_auto_pads(*item, mode) for item in zip(size, kernel, stride, dilation,
                                                        strict=True)]
    else:
        values = [int(item) for item in node.attributes.get("pads", [0] * (2 * rank))]
        if len(values) != 2 * rank:
            node.fail(f"attribute pads must have {2 * rank} values, not {values}")
        pads = list(zip(values[:rank], values[rank:], strict=True))
    return stride, dilation, pads


def as_map(value, node):
    """Refuse a value whose ONNX shape is not its map: [C, H, W], or [C, W] of height 1."""
    if len(value.shape) not in (2, 3):
        node.fail(f"supports 1-D and 2-D maps, [N, C, W] and [N, C, H, W], not an input of shape "
                  f"{shape_text(value.shape)}")
    wanted = value.shape if len(value.shape) == 3 else (value.shape[0], 1, value.shape[1])
    if tuple(wanted) != tuple(value.map):
        node.fail(f"reads {shape_text(value.shape)}, which a reshape made of a map of "
                  f"{value.map[0]} x {value.map[1]} x {value.map[2]}; reshape the input before "
                  "it is quantized instead")


def conv(builder, node, inputs):
    weights, value = _weights(inputs[1], node), inputs[0]
    rank = len(weights.shape) - 2
    missing = 2 - rank
    if rank not in (1, 2):
        node.fail(f"supports 1-D and 2-D convolutions, not weights of {rank + 2} dimensions")
    if isinstance(value, Value):
        as_map(value, node)
        if len(value.shape) - 1 != rank:
            node.fail(f"its weights have {rank + 2} dimensions, and its input has "
                      f"{len(value.shape) + 1}")
    kernel = list(node.attributes.get("kernel_shape", weights.shape[2:]))
    if kernel != list(weights.shape[2:]):
        node.fail(f"attribute kernel_shape must be that of its weights, {list(weights.shape[2:])}, "
                  f"not {kernel}")
    images = weights.images.reshape(*weights.shape[:2], *[1] * missing, *kernel)
    group = node.attributes.get("group", 1)
    if group < 1 or len(images) % group:
        node.fail(f"attribute group must divide the {len(images)} output channels, not {group}")

    def geometry(size, kernel):
        stride, dilation, pads = window(node, rank, size[missing:], kernel[missing:])
        pads = [(0, 0)] * missing + pads
        return ((*[1] * missing, *stride), (*[1] * missing, *dilation),
                (pads[0][0], pads[1][0], pads[0][1], pads[1][1]))

    result = _linear(builder, node, value, weights.format, images,
                     _weight_scale(weights, weights.scale, node), geometry, group)
    if rank == 1:
        result.shape = result.map[0], result.map[2]
    if len(inputs) > 2 and inputs[2] is not None:
        numbers = constant(inputs[2], node, "its bias").numbers
        if numbers.shape != (len(images),):
            node.fail(f"its bias must have the shape [{len(images)}], not {list(numbers.shape)}")
        result.offset = result.offset + numbers
    return result


def average(builder, value, kernel, stride, dilation, pads, node):
    """The mean over windows: what post-processing adds up behind weights of one where windows do
    not overlap, else a convolution, each channel by itself."""
    fmt = builder.weight_format or builder.tensors[value.source].format
    one = 0 if isinstance(fmt, Bipolar) else int(fmt.image(fmt.encode(1.0)))
    if one < 1:
        node.fail(f"averages with weights of one, and there is none in {fmt}; quantize the weights "
                  "to more bits")
    channels, taps = value.map[0], kernel[0] * kernel[1]
    apart = (kernel == stride and dilation == (1, 1) and not any(pads) and taps <= _WINDOW
             and max(kernel) <= _SIDE)
    images = np.full((channels, 1, *((1, 1) if apart else kernel)), one)
    scale = np.full(channels, exact(1).item() / (one * taps), dtype=object) / (
        exact(2).item() ** fmt.exponent)
    result = _linear(builder, node, value, fmt, images, scale, lambda size, _: (
        ((1, 1), (1, 1), (0, 0, 0, 0)) if apart else (stride, dilation, pads)), channels)
    if apart:
        result.map = (channels, *(size // n for size, n in zip(result.map[1:], kernel,
                                                               strict=True)))
        result.window, result.offset = kernel, result.offset * taps
    result.shape = result.map if len(value.shape) == 3 else (channels, result.map[2])
    return result


def _dense(builder, node, value, weights, transposed):
    """A product with constant weights [K, O], or [O, K] where they are transposed."""
    if len(weights.shape) != 2:
        node.fail(f"its weights must have 2 dimensions, not {len(weights.shape)}")
    images, scale = weights.images, weights.scale
    if not transposed:
        images, scale = images.T, scale.T
    if isinstance(value, Value):
        if len(value.shape) != 1:
            node.fail(f"supports inputs [N, K], not {shape_text(value.shape)}; put a Flatten in "
                      "front")
        if value.shape[0] != images.shape[1]:
            node.fail(f"its weights are for {images.shape[1]} inputs, and its input has "
                      f"{value.shape[0]}")
        images = images.reshape(len(images), *value.map)
    else:
        images = images[:, :, None, None]
    result = _linear(builder, node, value, weights.format, images,
                     _weight_scale(weights, scale, node))
    result.shape = result.map[:1]
    return result


def gemm(builder, node, inputs):
    node.expect("transA", 0, (0,))
    alpha, beta = (exact(node.attributes.get(key, 1.0)).item() for key in ("alpha", "beta"))
    result = _dense(builder, node, inputs[0], _weights(inputs[1], node),
                    node.expect("transB", 0, (0, 1)))
    result.gain, result.offset = alpha * result.gain, alpha * result.offset
    if len(inputs) > 2 and inputs[2] is not None:
        numbers = constant(inputs[2], node, "its bias").numbers
        result.offset = result.offset + beta * per_channel(numbers, result, node, "its bias")
    return result


def matmul(builder, node, inputs):
    if isinstance(inputs[0], (Constant, QuantizedConstant)):
        node.fail("its first input must be the activation and its second the weights")
    return _dense(builder, node, inputs[0], _weights(inputs[1], node), False)

"""The constant weights of layers: quantized, or plain numbers that are codes times a scale."""

import numpy as np
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.values import Constant, QuantizedConstant, Symbol
from systolith.hw.formats import Bipolar, Int

__all__ = ["weight_scale", "weights_of"]

#: The largest code of a weight of 8 bits.
_LARGEST = 127


def weights_of(value: Symbol | None, node: Node) -> QuantizedConstant:
    """The quantized weights that `value`, an input of `node`, holds. Raises UserError where they
    are not constant, not quantized, or, less their zero point, beyond their format."""
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
    """Plain weights as a `QuantizedConstant` where each is 0 or plus or minus one magnitude, of all
    weights or of each output channel; None for others."""
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
    """Plain weights as a `QuantizedConstant` where they are codes of 8 bits times a float32 scale,
    of all weights or of each output channel, as a DequantizeLinear computed in advance leaves them;
    None for others."""
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

def _step(sizes):
    """The largest float32 whose products with integer codes, rounded to float32, are the given
    magnitudes (float32, sorted, none of them 0); None: there is none."""
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


def weight_scale(weights: QuantizedConstant, scale: np.ndarray, node: Node) -> np.ndarray:
    """The scale of each output channel (array of Fraction [O]) from `scale` [O, ...]. Raises
    UserError at `node` where it differs within a channel."""
    flat = scale.reshape(len(scale), -1)
    if (flat != flat[:, :1]).any():
        node.fail(f"the scale of its weights {weights.name!r} must be one number, or one for each "
                  "output channel")
    return exact(flat[:, 0])

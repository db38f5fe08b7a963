"""Gemm and MatMul: products with a constant matrix, as convolutions on a value's map."""

from dataclasses import replace
from math import prod

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.layout import as_pixels, filled
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import (
    Constant,
    Inputs,
    QuantizedConstant,
    Value,
    constant,
    layout_of,
    per_channel,
    shape_text,
    with_layout,
)
from systolith.sim.model.weights import Weights

from .linear import linear
from .weights import weight_scale, weights_of

__all__ = ["gemm", "matmul"]


def _dense(builder, node, value, weights, transposed):
    """The product of a value's last axis with constant weights [K, O] (`transposed`: [O, K]): a
    convolution whose kernel is the whole map, or one of single pixels."""
    images, scale = (_matrix(item, node) for item in (weights.images, weights.scale))
    if not transposed:
        images, scale = images.T, scale.T
    factors = weight_scale(weights, scale, node)

    def made(images):
        return Weights(images, weights.format)
    if not isinstance(value, Value):
        return linear(builder, node, value, made(images[:, :, None, None]), factors)
    if not value.shape or value.shape[-1] != images.shape[1]:
        node.fail(f"its weights are for {images.shape[1]} inputs, and its input has the shape "
                  f"{shape_text(value.shape)}")
    lead = value.rows, *value.shape[:-1]
    if prod(lead) == 1:
        value = filled(builder, node, value)
        images = images[:, np.argsort(layout_of(value).reshape(-1))]
        images = images.reshape(len(images), *value.map)
        result = linear(builder, node, _as_it_lies(value), made(images), factors)
        return replace(result, shape=(*lead[1:], len(images)))
    value, pixels, channels = as_pixels(builder, node, value)
    images = images[:, np.argsort(channels), None, None]
    result = linear(builder, node, _as_it_lies(value), made(images), factors,
                    lambda size, kernel: ((1, 1), (1, 1), (0, 0, 0, 0)))
    index = np.arange(len(images)) * prod(result.map[1:]) + pixels[:, None]
    return with_layout(result, index.reshape(*lead, len(images)))


def _as_it_lies(value):
    return replace(value, shape=tuple(value.map), order=None, rows=1)


def _matrix(array, node):
    """Weights as a matrix, leading dimensions of 1 removed."""
    if array.ndim < 2 or any(size != 1 for size in array.shape[:-2]):
        node.fail(f"its weights must be one matrix, not of the shape {list(array.shape)}: one that "
                  "all rows of the input share")
    return array.reshape(array.shape[-2:])


@operator("Gemm", roles=Role.LINEAR | Role.ROWS)
def gemm(builder: Builder, node: Node, inputs: Inputs, alpha: float = 1.0, beta: float = 1.0,
         transA: int = 0, transB: int = 0) -> Value:
    """The operator Gemm with constant weights. Raises UserError."""
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
def matmul(builder: Builder, node: Node, inputs: Inputs) -> Value:
    """The operator MatMul of an activation and a constant matrix, in either order. Raises
    UserError."""
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

"""Operators that change the shape or the type of a tensor, or nothing."""

from dataclasses import replace
from math import prod

import numpy as np
from onnx import TensorProto
from systolith.gen.importer.half import HALF
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.values import (
    HostInput,
    activation,
    constant,
    shape_text,
)

from . import signs
from .moves import axes_of, integers

__all__: list[str] = []


def _reshaped(value, shape, node, rows=None):
    """The value's elements in another shape; `rows` as of `Value` (None: unchanged)."""
    rows = getattr(value, "rows", 1) if rows is None else rows
    if prod(shape) * rows != prod(value.shape) * getattr(value, "rows", 1):
        node.fail(f"cannot turn {shape_text(value.shape)} into {shape_text(shape)}: the batch "
                  "dimension must stay")
    if isinstance(value, HostInput):
        made = replace(value, shape=tuple(shape), rows=rows)
        return made.then("reshape", made.whole)
    return replace(value, shape=tuple(shape), rows=rows, nodes=[*value.nodes, node.name])


@operator("Flatten", roles=Role.VIEW | Role.ROWS)
def _flatten(builder, node, inputs, axis=1):
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    if not -rank <= axis <= rank or axis % rank == 0:
        node.fail(f"attribute axis must be from 1 to {rank - 1}, not {axis}: the batch dimension "
                  "stays first")
    lead = value.shape[:axis % rank - 1]
    return _reshaped(value, (prod(value.shape[len(lead):]),), node,
                     prod(lead) * getattr(value, "rows", 1))


@operator("Reshape", roles=Role.VIEW | Role.ROWS)
def _reshape(builder, node, inputs, allowzero=0):
    value = activation(inputs, node)
    wanted = integers(inputs[1], node, "its shape")
    zero_copies = not node.expect("allowzero", allowzero, (0, 1))
    if not wanted or (not zero_copies and 0 in wanted):
        node.fail(f"its shape must keep the batch dimension, not be {wanted}")
    first, rest = wanted[0], wanted[1:]
    if zero_copies:
        if any(item == 0 and n >= len(value.shape) for n, item in enumerate(rest)):
            node.fail(f"its shape {wanted} copies a dimension that {shape_text(value.shape)} "
                      "does not have")
        rest = [value.shape[n] if item == 0 else item for n, item in enumerate(rest)]
    rows = getattr(value, "rows", 1)
    total, known = rows * prod(value.shape), max(prod(item for item in rest if item != -1), 1)
    batch = builder.batch or 1
    if first > 0 and known != total:
        # A batch that is written into the network may be joined with other dimensions.
        rows = first // batch if builder.batch and first % batch == 0 else 1
        if -1 not in rest and total == known * (first // batch):
            rows = first // batch
    elif first == -1:
        rows = total // known
    elif first:
        rows = 1
    rest = [total // rows // known if item == -1 else item for item in rest]
    return _reshaped(value, rest, node, rows)


@operator("Squeeze", roles=Role.VIEW)
def _squeeze(builder, node, inputs, axes=None):
    value = activation(inputs, node)
    rank = len(value.shape) + 1
    axes = axes_of(node, axes, inputs)
    if axes is None:
        node.fail("needs axes: without, it would remove a batch dimension of 1")
    axes = {axis % rank for axis in axes}
    if 0 in axes or any(value.shape[axis - 1] != 1 for axis in axes):
        node.fail(f"its axes must name dimensions of 1 other than the batch in "
                  f"{shape_text(value.shape)}, not {sorted(axes)}")
    return _reshaped(value, [size for n, size in enumerate(value.shape) if n + 1 not in axes],
                     node)


@operator("Unsqueeze", roles=Role.VIEW)
def _unsqueeze(builder, node, inputs, axes=None):
    value = activation(inputs, node)
    axes = axes_of(node, axes, inputs)
    rank = len(value.shape) + 1 + len(axes)
    axes = {axis % rank for axis in axes}
    if 0 in axes:
        node.fail("its axes must leave the batch dimension first")
    sizes = iter(value.shape)
    return _reshaped(value, [1 if n in axes else next(sizes) for n in range(1, rank)], node)


@operator("Identity", roles=Role.SAME | Role.ROWS)
def _identity(builder, node, inputs):
    return inputs[0]


@operator("Dropout", roles=Role.SAME | Role.ROWS)
def _dropout(builder, node, inputs, ratio=0.5, seed=0):
    if len(inputs) > 2 and inputs[2] is not None and np.any(
            constant(inputs[2], node, "its training mode").array):
        node.fail("its training mode must be false")
    return inputs[0]


@operator("Cast", roles=Role.CAST | Role.ROWS)
def _cast(builder, node, inputs, to=None):
    if isinstance(inputs[0], signs.Comparison) and to == TensorProto.FLOAT:
        return signs.cast(builder, node, inputs[0])
    value = activation(inputs, node)
    kind = HALF.get(to, "")
    if not kind and to != TensorProto.FLOAT:
        node.fail("only casts to float32, float16 and bfloat16 are supported")
    return replace(value, bits=0, rounding=kind) if isinstance(value, HostInput) else value

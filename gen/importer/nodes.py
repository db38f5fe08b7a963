"""The nodes of an ONNX file with their attributes as Python values."""

from math import isfinite

import onnx
from systolith.gen.kit.errors import UserError

from .file import one_line
from .values import Node

__all__ = ["nodes_of"]


def nodes_of(graph):
    """The nodes of an `onnx.GraphProto`, each with a name of its own."""
    nodes, taken = [], set()
    for proto in graph.node:
        name = proto.name or (proto.output[0] if proto.output else proto.op_type)
        while name in taken:
            name += "_"
        taken.add(name)
        try:
            attributes = {item.name: onnx.helper.get_attribute_value(item)
                          for item in proto.attribute}
        except ValueError as error:
            raise UserError(f"node {name!r} has a damaged attribute: {one_line(error)}") from None
        attributes = {key: value.decode(errors="replace") if isinstance(value, bytes) else value
                      for key, value in attributes.items()}
        for key, value in attributes.items():
            if isinstance(value, float) and not isfinite(value):
                raise UserError(f"node {name!r} ({proto.op_type}): attribute {key} must be finite, "
                                f"not {value}")
        if not proto.output:
            raise UserError(f"node {name!r} ({proto.op_type}): has no output")
        nodes.append(Node(name, proto.op_type, proto.domain, list(proto.input),
                          list(proto.output), attributes, proto))
    return nodes

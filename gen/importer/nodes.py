"""The nodes of an ONNX file, with their attributes as Python values."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite
from typing import Any, NoReturn

import onnx
from systolith.gen.kit.errors import UserError, one_line

from .file import STANDARD

__all__ = ["Node", "nodes_of"]


@dataclass
class Node:
    """An ONNX node with its attributes as Python values; `inputs` and `outputs` are names of
    tensors, "" where one is left out. `proto` is the node of the file, or the one that this is a
    part of (see `dialects.qdq.expand`)."""
    name: str
    operator: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    proto: onnx.NodeProto

    def __str__(self):
        return f"node {self.name!r} ({self.operator})"

    def fail(self, message: str) -> NoReturn:
        """Raise a UserError that names the node."""
        raise UserError(f"{self}: {message}")

    def expect(self, attribute: str, value: Any, accepted: Collection) -> Any:
        """`value`, that of an attribute. Raises UserError where it is not among `accepted`."""
        if value not in accepted:
            self.fail(f"attribute {attribute} must be "
                      f"{' or '.join(map(repr, accepted))}, not "
                      f"{one_line(repr(value), 80)}")
        return value


def nodes_of(graph: onnx.GraphProto) -> list[Node]:
    """The nodes of a graph, each with a name of its own. Raises UserError for damaged attributes,
    numbers that are not finite, and nodes without an output."""
    nodes, taken = [], Counter[str]()
    for proto in graph.node:
        name = wanted = proto.name or (proto.output[0] if proto.output else proto.op_type)
        while name in taken:
            taken[wanted] += 1
            name = f"{wanted}_{taken[wanted]}"
        taken[name] += 1
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
        if not any(proto.input) and proto.domain not in STANDARD:
            # The checker knows ONNX's own operators alone.
            raise UserError(f"node {name!r} ({proto.op_type}): has no input")
        nodes.append(Node(name, proto.op_type, proto.domain, list(proto.input),
                          list(proto.output), attributes, proto))
    return nodes

"""The operators that the importer reads, one row each: function, attributes, and roles.

The modules of `operators` and `dialects` register their functions here. Modules that need to know
what an operator does to a tensor (the importer, the quantizer, the host's ends, the costs of a part
of a network) ask for its roles instead of naming operators.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Flag, auto
from typing import TYPE_CHECKING, Any

import onnx

from .file import STANDARD
from .nodes import Node
from .values import Inputs

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["ROWS", "Operator", "Role", "has", "operator", "row_of"]


class Role(Flag):
    """What an operator does; many have several roles."""
    LINEAR = auto()             # a layer with weights
    MEAN = auto()               # averages over a window or over axes
    MAXIMUM = auto()            # max pooling
    REDUCE = auto()             # over axes
    ARITHMETIC = auto()         # of two tensors, or of one and a constant
    CLIP = auto()
    SLOPE = auto()              # piecewise linear, part of the layer whose sums it reads
    NORM = auto()               # a factor and a term for each channel
    POWER = auto()
    EXTREME = auto()            # the larger or smaller of tensors
    FUNCTION = auto()           # of one number, computed for every code
    ELEMENT = auto()            # of one number, a factor or a slope for the chip
    SAME = auto()               # gives what it reads
    VIEW = auto()               # changes the shape alone
    TURN = auto()               # changes the order of axes
    PICK = auto()               # joins tensors or takes parts of one
    SHUFFLE = auto()            # moves elements between channels and pixels
    PAD = auto()
    REPEAT = auto()             # gives elements several times
    CAST = auto()
    COMPARE = auto()            # and what chooses by comparisons
    QUANTIZER = auto()
    MAPS = auto()               # reads maps: elements that lie as the shape says
    ROWS = auto()               # the host computes it of an input whose rows are images
    SCALES = auto()             # a positive factor of a channel may stand before or after it

    MOVE = TURN | PICK | SHUFFLE | PAD
    ELEMENTWISE = ARITHMETIC | CLIP | SLOPE | POWER | EXTREME | FUNCTION | ELEMENT


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes
    ----------
    name : str
    function : function(builder, node, inputs, **attributes) -> value or values
        `inputs`: the values of the node's inputs, None for those left out. Its parameters after
        these three are the operator's attributes, with ONNX's defaults.
    attributes : frozenset of str
        Those that it understands.
    roles : Role
    domains : collection of str
        Where nodes of this name are the operator.
    """
    name: str
    function: Callable[..., Any]
    attributes: frozenset[str]
    roles: Role
    domains: Collection[str]

    def __call__(self, builder: "Builder | None", node: Node, inputs: Inputs) -> Any:
        """The value or values of the node's outputs; `builder` is None for constants. Raises
        UserError."""
        known = {key: value for key, value in node.attributes.items() if key in self.attributes}
        return self.function(builder, node, inputs, **known)


#: Name of an operator -> its Operator.
ROWS: dict[str, Operator] = {}


def operator(*names: str, roles: Role, domains: Collection[str] = STANDARD,
             rest: Callable[..., Any] | None = None) -> Callable[[Callable], Callable]:
    """Decorator: registers the function for these operators.

    Where the function passes attributes on as `**`, they are the parameters with defaults of the
    function `rest`; without `rest`, all attributes that ONNX gives the operator. Raises ValueError
    for an operator that has a function.
    """
    def register(function):
        _, _, _, *own = inspect.signature(function).parameters.values()
        handed_on = [] if rest is None else [
            item for item in inspect.signature(rest).parameters.values()
            if item.default is not item.empty]
        for name in names:
            if name in ROWS:
                raise ValueError(f"two functions for the operator {name}: {ROWS[name].function} "
                                 f"and {function}")
            attributes = {item.name for item in (*own, *handed_on)
                          if item.kind is not item.VAR_KEYWORD}
            if rest is None and len(attributes) < len(own) and onnx.defs.has(name):
                attributes |= set(onnx.defs.get_schema(name).attributes)
            ROWS[name] = Operator(name, function, frozenset(attributes), roles, domains)
        return function
    return register


def row_of(node: Node) -> Operator | None:
    """The `Operator` of a node; None where its name or domain is unknown."""
    found = ROWS.get(node.operator)
    return found if found is not None and node.domain in found.domains else None


def has(name: str, roles: Role) -> bool:
    """Whether the operator of this name has one of these roles; False for unknown operators."""
    if not ROWS:
        raise RuntimeError("no operator is registered: import systolith.gen.importer.operators")
    return name in ROWS and bool(ROWS[name].roles & roles)

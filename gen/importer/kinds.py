"""What a value is computed from, its `Value.linear`, and how each kind of it is handled.

None stands for the codes of a tensor, `Linear` for the sums of a convolution; the other kinds are
results that no layer computes as they are, such as sums of two values. The module that makes values
of a kind registers three functions for its class: how such a value is quantized, how it becomes an
output of the network, and how large it can be. Other modules then need not know the kinds.
"""

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
from systolith.sim.model.edges import Decoder

from .nodes import Node
from .target import Target
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["given", "quantized", "reach"]


@singledispatch
def quantized(linear: Any, builder: "Builder", value: Value, target: Target, name: str,
              node: Node) -> str:
    """Quantize `value`, whose `linear` this is, by the Target `target`: add the layers that compute
    it to the builder.

    Returns the name of the tensor of codes: `name`, or one like it, if the tensor is new. Raises
    UserError at `node` where no layers can compute it.
    """
    raise TypeError(f"nothing quantizes values of the kind {type(linear).__name__}")


@singledispatch
def given(linear: Any, builder: "Builder", value: Value, decoder: Decoder,
          node: Node) -> tuple[str, dict[str, Any]]:
    """Make `value`, whose `linear` this is, an output of the network.

    Returns (name of the tensor that the host reads, {field of the Decoder `decoder`: its value}).
    Raises UserError at `node` where the value must be quantized first.
    """
    node.fail(f"its sum, product or extreme {linear.name!r} is an output of the network "
                     "before it is quantized; put a quantizer after it")


@singledispatch
def reach(linear: Any, builder: "Builder", value: Value, node: Node | None) -> np.ndarray:
    """The largest magnitude of each channel of `value`, whose `linear` this is: array of Fraction
    [channels]. Raises UserError at `node` where a magnitude is not known."""
    raise TypeError(f"nothing bounds values of the kind {type(linear).__name__}")

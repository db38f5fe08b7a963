"""What a value is computed from, its `Value.linear`, and what becomes of each kind of it.

None stands for the codes of a tensor, `Linear` for the sums of a convolution; the other kinds are
results that no layer makes as they are, such as sums of two values. The module that makes values of
a kind registers here, by its class, how they are quantized, how they leave the chip as an output,
and how large they can be. What handles values then needs to know none of the kinds.
"""

from functools import singledispatch

__all__ = ["given", "quantized", "reach"]


@singledispatch
def quantized(linear, builder, value, target, name, node):
    """The name of the tensor that holds `value`, whose `linear` this is, quantized by the Target
    `target`: `name`, or one like it, if the tensor is new. Adds the layers that make it to the
    builder. UserError, at `node`, where no layers can."""
    raise TypeError(f"nothing quantizes values of the kind {type(linear).__name__}")


@singledispatch
def given(linear, builder, value, decoder, node):
    """How `value`, whose `linear` this is, becomes an output of the network: (name of the tensor
    that the host reads, {field of the Decoder `decoder`: value}). UserError, at `node`, where it
    must be quantized first."""
    return node.fail(f"its sum, product or extreme {linear.name!r} is an output of the network "
                     "before it is quantized; put a quantizer after it")


@singledispatch
def reach(linear, builder, value, node):
    """The largest magnitude of each channel of `value`, whose `linear` this is (array of Fraction
    [channels])."""
    raise TypeError(f"nothing bounds values of the kind {type(linear).__name__}")

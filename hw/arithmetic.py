"""What a processing element needs to know about its number formats: one interface, three families.

Operands are decoded once, at the array's edge; what travels through the array are decoded
operands, and what the elements add up are exact fixed-point numbers.
"""

from abc import ABC, abstractmethod

from .formats import sum_bits

__all__ = ["Arithmetic", "tree_sum"]


class Arithmetic(ABC):
    """Exact multiply-add of `lanes` pairs of operands in two formats of one family.

    The children say how: `IntArithmetic`, `FloatArithmetic`, `XnorArithmetic`.

    Parameters
    ----------
    activation, weight : Format
        Number formats of the operands.
    lanes : int
        Pairs of operands that one processing element multiplies in a cycle.
    terms : int
        Products that a partial sum must hold.

    Attributes
    ----------
    activation_bits : int
        Bits that travel right through one row: all lanes, decoded, and what marks them valid.
    weight_bits : int
        Bits of one element's weights: all lanes, decoded.
    psum_bits : int
        Bits of a signed partial sum; its lowest bit weighs
        2**(activation.exponent + weight.exponent).
    """

    activation_bits: int
    weight_bits: int

    def __init__(self, activation, weight, lanes, terms):
        self.activation = activation
        self.weight = weight
        self.lanes = lanes
        self.terms = terms
        self.psum_bits = sum_bits(activation, weight, terms)

    @abstractmethod
    def decode_activation(self, m, codes, valid):
        """Decode at the array's left edge, combinationally.

        Parameters
        ----------
        m : Module
            Takes the logic.
        codes : Value
            One code per lane, lane 0 lowest: lanes * activation.width bits.
        valid : Value
            One bit. With 0 the row contributes exactly zero, whatever the codes and weights.

        Returns
        -------
        Value
            activation_bits bits.
        """

    @abstractmethod
    def decode_weight(self, m, codes):
        """Decode at the array's top edge: lanes * weight.width bits to weight_bits bits."""

    @abstractmethod
    def add(self, m, psum, a, w):
        """`psum` plus the dot product of the decoded operands `a` and `w`, combinationally.

        The value is exact. It may come with more than psum_bits bits; they repeat the sign as
        long as no more than `terms` products are summed.
        """


def tree_sum(values):
    """The sum of a non-empty list of values, as a balanced tree of adders."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return tree_sum(values[:half]) + tree_sum(values[half:])

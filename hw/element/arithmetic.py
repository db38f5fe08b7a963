"""The arithmetic of a processing element for two number formats: one interface, several families of
formats.

Operands are decoded once, at the array's edge; what travels through the array are decoded
operands, and what the elements add up are exact fixed-point numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal, Value
from systolith.hw.formats import Format, sum_bits
from systolith.hw.spec.rules import ArchError
from systolith.hw.spec.structures import Structure

__all__ = ["Arithmetic", "Operands", "tree_sum"]


class Arithmetic(ABC):
    """Multiply-add of `lanes` pairs of operands in two formats.

    Parameters
    ----------
    activation, weight : Format
        Number formats of the operands.
    lanes : int
        Pairs of operands that one processing element multiplies in a cycle.
    terms : int
        Products that a partial sum must hold.
    structure : Structure or str
        What it is built of. It changes the circuit, never a column's sum.
    stages : int or None
        Pipeline stages from the operand registers to the partial sum's register; 1 is the smallest
        circuit. None: `fast_stages`.
    columns : int
        Columns side by side that share their activations.

    Raises ValueError for formats without products in this family, and for stages that it cannot
    have.

    Attributes
    ----------
    fast_stages : int
        Stages that are meant for 150 MHz on an ECP5 of speed grade 6.
    most_stages : int
        The largest value of `stages`.
    activation_bits : int
        Bits that travel right through one row: all lanes, decoded.
    weight_bits : int
        Bits of one element's weights: all lanes, decoded.
    sum_bits : int
        Bits of a signed sum of `terms` products; its lowest bit weighs
        2**(activation.exponent + weight.exponent).
    psum_bits : int
        Bits of a partial sum as it passes the elements.
    psum_scale : int
        The weight of a partial sum's lowest bit is 2**psum_scale times that of a sum.
    across : bool
        Whether products of two columns share a multiplication.
    signs : bool
        Whether it also multiplies signs. Codes at the edges then have one bit more, the highest:
        1 where each bit of the codes is a factor, +1 or -1 (0); activations and weights of a
        product have the same there.
    """

    signs = False
    halves = False
    fast_stages = 1
    most_stages = 1
    psum_scale = 0
    across = False
    #: Formats of this family, which alone have all that its elements ask of them.
    activation: Any
    weight: Any
    activation_bits: int
    weight_bits: int

    def __init__(self, activation: Format, weight: Format, lanes: int, terms: int, *,
                 structure: Structure = Structure.LUT4, stages: int | None = None,
                 columns: int = 1) -> None:
        self.activation = activation
        self.weight = weight
        self.lanes = lanes
        self.terms = terms
        self.structure = Structure(structure)
        self.columns = columns
        self.sum_bits = sum_bits(activation, weight, terms)
        self.psum_bits = self.sum_bits
        self.stages = self.fast_stages if stages is None else stages
        if not 1 <= self.stages <= self.most_stages:
            raise ArchError("stages", f"of {activation} x {weight} ({structure}) must be from 1 to "
                                      f"{self.most_stages}, not {stages!r}")

    @abstractmethod
    def decode_activation(self, m: Module, codes: Value) -> Value:
        """Decode at the array's left edge, combinationally.

        Parameters
        ----------
        m : Module
            Takes the logic.
        codes : Value
            One code per lane, lane 0 lowest: lanes * activation.width bits.

        Returns
        -------
        Value
            activation_bits bits.
        """

    @abstractmethod
    def decode_weight(self, m: Module, codes: Value) -> Value:
        """Decode at the array's top edge: lanes * weight.width bits to weight_bits bits."""

    def decode_weights(self, m: Module, codes: Sequence[Value]) -> list[Value]:
        """`decode_weight` of columns side by side: a list for a list."""
        return [self.decode_weight(m, column) for column in codes]

    @abstractmethod
    def accumulate(self, m: Module, operands: "Operands", psum: Value) -> Value:
        """`psum` plus the dot product of the operands plus a constant (see `head`).

        Parameters
        ----------
        m : Module
            Takes the logic.
        operands : Operands
            Gives the operands as they are in each stage, and registers between stages.
        psum : Value
            The partial sum from above, as it is in the last stage.

        Returns
        -------
        Value
            In the last stage; its low psum_bits bits are registered and go down.
        """

    def accumulate_columns(self, m: Module, operands: Sequence["Operands"],
                           psums: Sequence[Value]) -> list[Value]:
        """`accumulate` of columns side by side: a list for lists."""
        return [self.accumulate(m, *column) for column in zip(operands, psums, strict=True)]

    def head(self, rows: int, signs: bool = False) -> int:
        """The partial sum that enters a column of `rows` elements: minus what they add too much;
        `signs`: where they multiply signs."""
        return 0

    def total(self, psum: Value, rows: int) -> Value:
        """A column's sum, signed, from the partial sum that leaves its last element."""
        return psum


class Operands:
    """An element's operands as they pass its pipeline stages.

    Parameters
    ----------
    m : Module
        Takes the registers.
    activation : Value
        The element's activation register.
    weight : Value
        The weights that become active next: shadow weights, which stay until the last stage has
        taken them, or a bus that holds them for one cycle only.
    swap : Value
        Make them active; it comes one cycle before the activation that meets them.
    stays : bool
        Whether `weight` are shadow weights.
    prefix : str
        What the registers' names begin with.
    """

    def __init__(self, m: Module, activation: Value, weight: Value, swap: Value, *,
                 stays: bool = True, prefix: str = "") -> None:
        self._m = m
        self._activations = [activation]
        self._weight = weight
        self._swaps = [swap]
        self._stays = stays
        self._weights: list[Signal] = []
        self.prefix = prefix

    def a(self, stage: int) -> Value:
        """The decoded activation in `stage`, from 0: delayed by so many cycles."""
        while len(self._activations) <= stage:
            self._activations.append(self.register(
                self._activations[-1], f"a_stage{len(self._activations)}"))
        return self._activations[stage]

    def w(self, stage: int) -> Value:
        """The active weights in `stage`. Bits that no stage reads cost nothing.

        From shadow weights each stage takes its own as the swap passes it; from a bus the first
        stage does, and hands them on.
        """
        while len(self._weights) <= stage:
            number = len(self._weights)
            name = f"w_stage{number}" if number else "w_active"
            if number and not self._stays:
                self._weights.append(self.register(self._weights[-1], name))
                continue
            if number:
                self._swaps.append(self.register(self._swaps[-1], f"swap_stage{number}"))
            active = Signal.like(self._weight, name=self.prefix + name, reset_less=True)
            with self._m.If(self._swaps[number]):
                self._m.d.sync += active.eq(self._weight)
            self._weights.append(active)
        return self._weights[stage]

    def register(self, value: Value, name: str) -> Signal:
        """`value` one stage later, in a register without reset."""
        register = Signal(value.shape(), name=self.prefix + name, reset_less=True)
        self._m.d.sync += register.eq(value)
        return register


def tree_sum(values: Sequence[Value]) -> Value:
    """The sum of a non-empty list of values, as a balanced tree of adders."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return tree_sum(values[:half]) + tree_sum(values[half:])

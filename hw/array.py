"""The systolic array: edges, skew, and a grid of one emitted processing element.

              weight word ---> [decode] ---> column c delayed by c, then to all of its rows
                                   |   |   |
                                   v   v   v
    activation word -> [decode] -> PE  PE  PE      row r delayed by r * psum_stages
                                -> PE  PE  PE
                                   |   |   |
                                   v   v   v   sums, column c delayed by c

Nothing stalls in here: whatever enters takes its way. There is no reset either; what counts is
counted outside, in `systolith.hw.compute`.
"""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .blocks import place
from .pe import ProcessingElement, arithmetic_of

__all__ = ["SystolicArray"]


def _delayed(m, value, cycles, name):
    """`value`, `cycles` later, through registers without reset."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


class SystolicArray(wiring.Component):
    """`rows` x `columns` processing elements with decoders and skew at the edges.

    A word that enters in cycle t meets the first row in t + EDGE; the sum of its products and
    those of the other rows leaves column c in cycle t + latency + c.

    Rows of weights come in their order, one a cycle, and may follow on the heels of the pixels
    that swap them in: the array can be swapped from one cycle after the first row's word on, long
    before the last row's has come. So that no row's shadow weights are overwritten before its own
    swap, words may begin to come `hold` cycles after the previous swap.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    activations : In(arch.activation_bits)
        The codes of one pixel's channels, row 0's lanes first.
    swap : In(1)
        1: this word is the first to meet the weights loaded last.
    weights : In(arch.weight_bits)
        Weight codes of one array row, column 0's lanes first.
    load : In(rows)
        Bit r: row r takes the weight word of this cycle.
    sums : Out(ArrayLayout(signed(arch.psum_bits), columns))
        Exact sums in units of 2**arch.sum_exponent, column c delayed by c cycles.
    """

    #: Cycles from the ports to the first processing element.
    EDGE = 1

    def __init__(self, *, arch):
        self.arch = arch
        self.pe = ProcessingElement(arithmetic_of(arch))
        super().__init__({
            "activations": In(arch.activation_bits),
            "swap": In(1),
            "weights": In(arch.weight_bits),
            "load": In(arch.rows),
            "sums": Out(data.ArrayLayout(signed(arch.psum_bits), arch.columns)),
        })

    @classmethod
    def latency_of(cls, arch):
        """Cycles from an activation word to its sum at column 0."""
        arithmetic = arithmetic_of(arch)
        return cls.EDGE + (arch.rows - 1) * arithmetic.psum_stages + 1 + arithmetic.stages

    @staticmethod
    def hold_of(arch):
        """Cycles from a swap to the earliest next word of weights: the last row's last stage."""
        arithmetic = arithmetic_of(arch)
        return (arch.rows - 1) * (arithmetic.psum_stages - 1) + arithmetic.stages - 1

    @property
    def latency(self):
        return self.latency_of(self.arch)

    @property
    def blocks(self):
        """Verilog modules that must be emitted along: name -> block."""
        return {"systolith_pe": self.pe}

    def elaborate(self, platform):
        m = Module()
        arch, arithmetic = self.arch, self.pe.arithmetic
        row_bits = arch.lanes * arch.activation.width
        column_bits = arch.lanes * arch.weight.width

        # What travels right, as (activation, swap, load) per row; the skew keeps each row's
        # activation and swap together, while load is timed at the edge.
        right = []
        for row in range(arch.rows):
            decoded = arithmetic.decode_activation(
                m, self.activations.word_select(row, row_bits))
            edge = Cat(decoded, self.swap)
            edge = _delayed(m, edge, self.EDGE + row * arithmetic.psum_stages, f"row{row}_skew")
            load = _delayed(m, self.load[row], self.EDGE, f"row{row}_load")
            right.append((edge[:arithmetic.activation_bits], edge[-1], load))
        down = []
        for column in range(arch.columns):
            decoded = arithmetic.decode_weight(m, self.weights.word_select(column, column_bits))
            weight = _delayed(m, decoded, self.EDGE + column, f"column{column}_skew")
            down.append((weight, Const(arithmetic.head(arch.rows), signed(arithmetic.psum_bits))))

        for row in range(arch.rows):
            activation, swap, load = right[row]
            for column in range(arch.columns):
                weight, psum = down[column]
                at = f"{row}_{column}"
                a_out = Signal(arithmetic.activation_bits, name=f"a_{at}")
                swap_out = Signal(name=f"swap_{at}")
                load_out = Signal(name=f"load_{at}")
                psum_out = Signal(signed(arithmetic.psum_bits), name=f"psum_{at}")
                m.submodules[f"pe_{at}"] = place(
                    self.pe, "systolith_pe", a_in=activation, swap_in=swap, load_in=load,
                    w_in=weight, psum_in=psum, a_out=a_out, swap_out=swap_out, load_out=load_out,
                    psum_out=psum_out)
                activation, swap, load = a_out, swap_out, load_out
                down[column] = (weight, psum_out)
        for column in range(arch.columns):
            m.d.comb += self.sums[column].eq(arithmetic.total(down[column][1], arch.rows))
        return m

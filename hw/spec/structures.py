"""Structure: what a processing element is built of, and what a target has."""

from enum import StrEnum

__all__ = ["SMALL_PRODUCT", "TARGETS", "Structure", "structure_of"]

#: Products of at most this many bits (both operands together) are built of LUTs, even where a DSP
#: block could compute them.
SMALL_PRODUCT = 10


class Structure(StrEnum):
    """What a processing element is built of. It changes the circuit, never a column's sum.

    Members are texts, as the key `array.structure` of a chip file has them.
    """
    LUT6 = "lut6"       #: LUTs of six inputs and carry chains (Xilinx)
    LUT4 = "lut4"       #: LUTs of four inputs and carry chains (ECP5, iCE40)
    GATES = "gates"     #: standard cells, ripple adders
    DSP = "dsp"         #: DSP blocks that multiply 18 x 18 bits
    DSP48 = "dsp48"     #: DSP48E1 blocks: 25 x 18 bits with a pre-adder

    @classmethod
    def _missing_(cls, value):
        raise ValueError(f"structure must be one of {', '.join(cls)}, not {value!r}")

    @property
    def is_dsp(self) -> bool:
        """Whether products are written as plain multiplications, for DSP blocks."""
        return self in (Structure.DSP, Structure.DSP48)

    @property
    def is_lut(self) -> bool:
        """Whether products are built of LUTs."""
        return self in (Structure.LUT6, Structure.LUT4)

    @property
    def multiplier(self) -> tuple[int, int] | None:
        """Bits of the signed factors that one DSP block multiplies; None without DSP blocks."""
        return {Structure.DSP: (18, 18), Structure.DSP48: (25, 18)}.get(self)

    @property
    def has_preadder(self) -> bool:
        """Whether the DSP block adds two numbers before it multiplies."""
        return self is Structure.DSP48


#: By synthesis target: the structure without and with DSP blocks.
TARGETS = {"xc7": (Structure.LUT6, Structure.DSP48), "ecp5": (Structure.LUT4, Structure.DSP),
           "ice40": (Structure.LUT4, Structure.DSP), "asic": (Structure.GATES, Structure.DSP)}


def structure_of(target: str, dsp: bool = False) -> Structure:
    """The structure of processing elements for a synthesis target, with or without DSP blocks.

    Raises KeyError for a target that is not in TARGETS.
    """
    return TARGETS[target][bool(dsp)]

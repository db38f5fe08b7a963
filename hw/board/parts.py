"""FPGAs and what they have."""

from dataclasses import dataclass

__all__ = ["PARTS", "Part"]


@dataclass(frozen=True)
class Part:
    """An FPGA and what it has; `lut`, `ff`, `dsp` and `bram` in the units of the area report.

    `target` is the area report's target: "ecp5", "xc7", "ice40" or "gowin".
    """
    name: str
    target: str
    lut: int
    ff: int
    dsp: int
    bram: int


#: lut: LUT4 (LUT6 on xc7). dsp: 18 x 18 multipliers (ECP5, Gowin), DSP48 (xc7), SB_MAC16 (ice40).
#: bram: blocks of 18 kbit (ECP5, Gowin), 36 kbit (xc7), 4 kbit (ice40).
PARTS = {part.name: part for part in (
    Part("LFE5U-85F", "ecp5", lut=83640, ff=83640, dsp=156, bram=208),
    Part("LFE5U-45F", "ecp5", lut=43848, ff=43848, dsp=72, bram=108),
    Part("LFE5U-25F", "ecp5", lut=24288, ff=24288, dsp=28, bram=56),
    Part("LFE5UM5G-85F", "ecp5", lut=83640, ff=83640, dsp=156, bram=208),
    # the same silicon as the 25F
    Part("LFE5U-12F", "ecp5", lut=24288, ff=24288, dsp=28, bram=56),
    Part("GW2AR-18", "gowin", lut=20736, ff=15552, dsp=48, bram=46),
    Part("iCE40UP5K", "ice40", lut=5280, ff=5280, dsp=8, bram=30),
    Part("XC7A35T", "xc7", lut=20800, ff=41600, dsp=90, bram=50),
    Part("XC7A100T", "xc7", lut=63400, ff=126800, dsp=240, bram=135),
    Part("XC7Z020", "xc7", lut=53200, ff=106400, dsp=220, bram=140),
    # An UltraScale+, for which chips are mapped as for 7 series; as Vivado's reports of it count
    # (`FPGA_tot_resources` in fpga_src/boards of github.com/ucsdsysnet/Rosebud).
    Part("XCVU9P", "xc7", lut=1182240, ff=2364480, dsp=6840, bram=2160),
)}

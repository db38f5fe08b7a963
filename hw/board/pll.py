"""Phase-locked loops: from a board's oscillator to the clock that its core runs at.

`ratio` finds the dividers of a family's loop; a `Pll` is the loop itself, as an instance of the
vendor's primitive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from amaranth.hdl import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LOOPS", "Loop", "Pll", "PllError", "Ratio", "ratio"]


class PllError(ValueError):
    """A loop cannot make a frequency; the text says what it can make."""


@dataclass(frozen=True)
class Loop:
    """What the loop of a family can do.

    It divides the oscillator by `before`, which is what the phase detector sees, and the loop's own
    oscillator by `after`, which comes out. The detector compares with one part in `times` of what
    comes out, or, where `inside_feedback`, of the loop's own oscillator.

    Frequencies are (lowest, highest) in MHz: of the `oscillator`, at the `detector`, `inside` the
    loop, and of the `output`.
    """
    oscillator: tuple[float, float]
    detector: tuple[float, float]
    inside: tuple[float, float]
    output: tuple[float, float]
    before: range
    times: range
    after: tuple[int, ...]
    inside_feedback: bool = False


#: By the target of a part.
LOOPS = {
    # Lattice FPGA-DS-02012: EHXPLLL
    "ecp5": Loop(oscillator=(8, 400), detector=(3.125, 400), inside=(400, 800),
                 output=(3.125, 400), before=range(1, 129), times=range(1, 81),
                 after=tuple(range(1, 129))),
    # Lattice FPGA-DS-02008: SB_PLL40 with simple feedback
    "ice40": Loop(oscillator=(10, 133), detector=(10, 133), inside=(533, 1066), output=(16, 275),
                  before=range(1, 17), times=range(1, 129), after=(2, 4, 8, 16, 32, 64),
                  inside_feedback=True),
    # Gowin DS226, grade C8/I7: rPLL
    "gowin": Loop(oscillator=(3, 500), detector=(3, 500), inside=(500, 1250),
                  output=(3.90625, 625), before=range(1, 65), times=range(1, 65),
                  after=(2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)),
}


@dataclass(frozen=True)
class Ratio:
    """Dividers of a loop, as of `Loop`, and the MHz inside it and at its output."""
    before: int
    times: int
    after: int
    inside: Fraction
    mhz: Fraction


def ratio(loop: Loop, oscillator_mhz: float, asked_mhz: float) -> Ratio:
    """The dividers for the fastest clock that is not above `asked_mhz`; of several, those with the
    fastest detector, which follows the oscillator best, and then with the loop's own oscillator in
    the middle of its limits.

    Raises PllError where oscillator or clock are outside the loop's limits.
    """
    low, high = loop.oscillator
    if not low <= oscillator_mhz <= high:
        raise PllError(f"takes {low:g} to {high:g} MHz, not {oscillator_mhz:g}")
    low, high = loop.output
    asked, middle = Fraction(asked_mhz), Fraction(sum(loop.inside)) / 2
    found = max((made for made in _ratios(loop, Fraction(oscillator_mhz))
                 if low <= made.mhz <= asked), default=None,
                key=lambda made: (made.mhz, -made.before, -abs(made.inside - middle)))
    if found is None or asked > high:
        raise PllError(f"makes {low:g} to {high:g} MHz, not {asked_mhz:g}")
    return found


def _ratios(loop: Loop, oscillator: Fraction) -> Iterator[Ratio]:
    """All dividers within the limits of detector and of the loop's own oscillator."""
    low, high = loop.inside
    for before in loop.before:
        detector = oscillator / before
        if not loop.detector[0] <= detector <= loop.detector[1]:
            continue
        for times in loop.times:
            compared = detector * times
            if loop.inside_feedback:
                fitting = loop.after if low <= compared <= high else ()
            else:
                least, most = ceil(low / compared), int(high / compared)
                fitting = tuple(after for after in loop.after if least <= after <= most)
            for after in fitting:
                inside = compared if loop.inside_feedback else compared * after
                yield Ratio(before, times, after, inside, inside / after)


class Pll(wiring.Component):
    """A phase-locked loop: the vendor's primitive with its dividers.

    Parameters
    ----------
    target : str
        Of the part: "ecp5", "ice40" or "gowin".
    oscillator_mhz : float
    ratio : Ratio

    Members
    -------
    oscillator : In(1)
        On an iCE40 directly from the pin that belongs to the loop.
    clock : Out(1)
    locked : Out(1)
        The clock is what it should be.
    """

    def __init__(self, *, target: str, oscillator_mhz: float, ratio: Ratio) -> None:
        self.target = target
        self.oscillator_mhz = oscillator_mhz
        self.ratio = ratio
        super().__init__({"oscillator": In(1), "clock": Out(1), "locked": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.loop = {"ecp5": self._ecp5, "ice40": self._ice40,
                             "gowin": self._gowin}[self.target]()
        return m

    def _ecp5(self):
        made = self.ratio
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.oscillator_mhz:g}",
            a_FREQUENCY_PIN_CLKOP=f"{float(made.mhz):g}",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED", p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD", p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=made.before, p_CLKFB_DIV=made.times, p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=made.after, p_CLKOP_CPHASE=made.after // 2, p_CLKOP_FPHASE=0,
            i_CLKI=self.oscillator, i_CLKFB=self.clock, i_RST=0, i_STDBY=0,
            i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1,
            i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=self.clock, o_LOCK=self.locked)

    def _ice40(self):
        made = self.ratio
        # the loop filter's range by what the detector sees, as Lattice's tool chooses it
        detector = made.inside / made.times
        filters = next(number for number, above in enumerate(
            (17, 26, 44, 66, 101, 134), start=1) if detector < above)
        return Instance(
            "SB_PLL40_PAD", p_FEEDBACK_PATH="SIMPLE", p_DIVR=made.before - 1,
            p_DIVF=made.times - 1, p_DIVQ=made.after.bit_length() - 1, p_FILTER_RANGE=filters,
            i_PACKAGEPIN=self.oscillator, i_RESETB=1, i_BYPASS=0,
            o_PLLOUTGLOBAL=self.clock, o_LOCK=self.locked)

    def _gowin(self):
        made = self.ratio
        return Instance(
            "rPLL", p_DEVICE="GW2AR-18C", p_FCLKIN=f"{self.oscillator_mhz:g}",
            p_IDIV_SEL=made.before - 1, p_FBDIV_SEL=made.times - 1, p_ODIV_SEL=made.after,
            p_DYN_IDIV_SEL="false", p_DYN_FBDIV_SEL="false", p_DYN_ODIV_SEL="false",
            p_CLKFB_SEL="internal", p_CLKOUT_BYPASS="false", p_CLKOUTP_BYPASS="false",
            p_CLKOUTD_BYPASS="false", p_DYN_SDIV_SEL=2, p_CLKOUTD_SRC="CLKOUT",
            p_CLKOUTD3_SRC="CLKOUT", p_DYN_DA_EN="true", p_PSDA_SEL="0000",
            p_DUTYDA_SEL="1000", p_CLKOUT_FT_DIR=1, p_CLKOUTP_FT_DIR=1, p_CLKOUT_DLY_STEP=0,
            p_CLKOUTP_DLY_STEP=0,
            i_CLKIN=self.oscillator, i_CLKFB=0, i_RESET=0, i_RESET_P=0, i_FBDSEL=0, i_IDSEL=0,
            i_ODSEL=0, i_PSDA=0, i_DUTYDA=0, i_FDLY=0,
            o_CLKOUT=self.clock, o_LOCK=self.locked)

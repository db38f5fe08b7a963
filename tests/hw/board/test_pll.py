"""The dividers of phase-locked loops: exact, at and outside the limits, and what is chosen."""

from fractions import Fraction

import pytest
from systolith.hw.board.pll import LOOPS, Pll, PllError, ratio


@pytest.mark.parametrize("target, oscillator, asked, dividers", [
    ("ecp5", 25, 100, (1, 4, 6)),           # 600 MHz inside
    ("ecp5", 25, 62.5, (2, 5, 10)),         # 12.5 MHz at the detector, 625 inside
    ("ice40", 12, 24, (1, 64, 32)),         # 768 MHz inside
    ("gowin", 27, 54, (1, 2, 16)),          # 864 MHz inside
])
def test_known_dividers(target, oscillator, asked, dividers):
    made = ratio(LOOPS[target], oscillator, asked)
    assert (made.before, made.times, made.after) == dividers
    assert made.mhz == asked


@pytest.mark.parametrize("target, oscillator", [("ecp5", 25), ("ice40", 12), ("gowin", 27)])
@pytest.mark.parametrize("share", [0, 0.07, 0.333, 0.71, 1])
def test_all_limits_hold_and_the_clock_is_what_the_dividers_make(target, oscillator, share):
    loop = LOOPS[target]
    low, high = loop.output
    asked = low * (high / low) ** share
    if share == 0:
        asked *= 1.3                        # no divider need meet the lower limit
    made = ratio(loop, oscillator, asked)
    detector = Fraction(oscillator, made.before)
    compared = made.inside if loop.inside_feedback else made.mhz
    assert compared == detector * made.times
    assert made.inside == made.mhz * made.after
    for value, limits in ((detector, loop.detector), (made.inside, loop.inside),
                          (made.mhz, loop.output)):
        assert limits[0] <= value <= limits[1]
    assert asked * 0.8 < made.mhz <= asked


def test_a_clock_between_two_is_the_one_below():
    loop = LOOPS["ice40"]
    below, above = ratio(loop, 12, 24), ratio(loop, 12, 24.375)
    assert (below.mhz, above.mhz) == (24, Fraction(195, 8))
    assert ratio(loop, 12, 24.374).mhz == 24


@pytest.mark.parametrize("target, oscillator, asked, text", [
    ("ecp5", 25, 400.1, "makes 3.125 to 400 MHz, not 400.1"),
    ("ecp5", 25, 3, "makes 3.125 to 400 MHz, not 3"),
    ("ecp5", 7.9, 50, "takes 8 to 400 MHz, not 7.9"),
    ("ecp5", 401, 50, "takes 8 to 400 MHz, not 401"),
    ("ice40", 12, 15.9, "makes 16 to 275 MHz, not 15.9"),
    ("ice40", 12, 276, "makes 16 to 275 MHz, not 276"),
    ("gowin", 27, 3.9, "makes 3.90625 to 625 MHz, not 3.9")])
def test_what_a_loop_cannot_make(target, oscillator, asked, text):
    with pytest.raises(PllError, match=f"^{text}$"):
        ratio(LOOPS[target], oscillator, asked)


@pytest.mark.parametrize("target, oscillator, limit", [
    ("ecp5", 8, 400), ("ecp5", 400, 400), ("ice40", 10, 275), ("gowin", 3, 195)])
def test_at_the_limits(target, oscillator, limit):
    assert ratio(LOOPS[target], oscillator, limit).mhz <= limit


def test_fields_of_an_ice40_are_one_less_than_the_dividers():
    """Lattice's own tool for 24 MHz of 12: DIVR 0, DIVF 63, DIVQ 5, range 1."""
    made = ratio(LOOPS["ice40"], 12, 24)
    pll = Pll(target="ice40", oscillator_mhz=12, ratio=made)
    pll._MustUse__silence = True            # Amaranth would warn of it
    found = pll._ice40().parameters
    assert (found["DIVR"], found["DIVF"], found["DIVQ"], found["FILTER_RANGE"]) == (
        made.before - 1, made.times - 1, 5, 1) == (0, 63, 5, 1)

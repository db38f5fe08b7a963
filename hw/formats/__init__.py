"""Number formats as value objects: the one definition that hardware, golden model and docs read.

A format knows its `width`, how to `decode` codes into exact values, how to `encode` values into
codes (rounding, saturating), and its exact fixed-point image: every finite code is
`image(code) * 2**exponent` with an integer image. The classes stand in `format_int`,
`format_float` and `format_log`; here are their names.

A plain name such as `e4m3` is a finite-only format: every code is a number, the largest is 480.
Formats that give codes away to NaN and infinity have names of their own, see `Float.special` and
`parse`.
"""

import re

from systolith.hw.formats.base import ROUNDINGS, Format
from systolith.hw.formats.floats import Float
from systolith.hw.formats.integers import Bipolar, Int, Ternary
from systolith.hw.formats.logs import Lns, PowerSum

__all__ = ["ROUNDINGS", "Bipolar", "Float", "Format", "Int", "Lns", "PowerSum", "Ternary",
           "catalogue", "parse", "sum_bits", "term_bound"]


def term_bound(activation, weight):
    """Largest magnitude of a product of the two formats' images."""
    return activation.product_bound(weight)


def sum_bits(activation, weight, terms):
    """Bits of a signed number that holds every sum of `terms` products of the formats' images."""
    return (terms * term_bound(activation, weight)).bit_length() + 1


#: Names that say nothing about widths, and what they stand for.
_ALIASES = {
    "bfloat16": "e8m7ieee",
    "float16": "e5m10ieee",
    "dlfloat16": "e6m9dlfloat",
    "hfp8": "e4m3b11dlfloat",
    "hfp8_fnuz": "e4m3b11fnuz",
}

_FLOAT = re.compile(r"(?:float(\d+)_)?e(\d+)m(\d+)(?:b(-?\d+))?(?:r(\d+))?(sub|flush|dl)?"
                    r"(ieee|fnuz|fn|p3109|dlfloat)?(u)?")
_LOWEST = {None: "subnormal", "sub": "subnormal", "flush": "flush", "dl": "dlfloat"}


def parse(name):
    """The format with this name; a Format is given back as it is.

    Integers are `int8`, `uint4`, `ternary`, ...; sums of bit planes `bipolar1`, ...; logarithms
    `lns8`, with root and table as `lns8r4t8`; floats:
    `e4m3`, `e3m2`, ...
        Finite-only, of any widths: every code is a number (e4m3 reaches 480).
    `e4m3ieee`, `e4m3fn`, `e4m3fnuz`, `e4m3b11fnuz`, `e5m2p3109`, `e8m0fnu`, ...
        With `special` codes, with a bias after b, without sign (u). Below 8 bits fn means finite
        only, as in the standards: `e3m2fn` is `e3m2`.
    `e3m4flush`, `e4m3dl`, `e6m9dlfloat`, `e3m0r4`, ...
        With another lowest binade: flushed, or as in DLFloat. `dlfloat` means DLFloat's lowest
        binade and its special code; the latter alone is `subdlfloat` or `flushdlfloat`. Radix 4
        is r4.
    `float8_e4m3fn`, `float8_e5m2`, `float6_e3m2fn`, ...
        As ml_dtypes names them. Mind that a bare `float8_e4m3` is IEEE-like there and stands for
        `e4m3ieee`.
    `p3109_k8p3`, `p3109_k8p3se`, `p3109_k8p3sf`, ...
        As P3109 names them: k bits, p of precision, signed, extended (with infinity) or finite.
    `bfloat16`, `float16`, `dlfloat16`, `hfp8`, `hfp8_fnuz`
        HFP8's 1-4-3 with bias 11 as its authors' hardware has it (largest 28), and as ml_dtypes
        reads it (largest 30).
    `e3m0x2`, `e3m0b7x3`, ...
        Sums of two, three powers of two.

    Raises ValueError that says which names exist.
    """
    if isinstance(name, Format):
        return name
    text = _ALIASES.get(str(name), str(name))
    if text == "ternary":
        return Ternary()
    if match := re.fullmatch(r"(u?)int(\d+)", text):
        return Int(int(match[2]), signed=not match[1])
    if match := re.fullmatch(r"bipolar(\d+)", text):
        return Bipolar(int(match[1]))
    if match := re.fullmatch(r"lns(\d+)(?:r(\d+))?(?:t(\d+))?", text):
        return Lns(int(match[1]), int(match[2] or 8), int(match[3] or 6))
    if match := re.fullmatch(r"p3109_k(\d+)p(\d+)(?:s([ef]))?", text):
        width, precision = int(match[1]), int(match[2])
        # P3109's finite formats are what ml_dtypes calls fnuz, with the same bias.
        return Float(width - precision, precision - 1,
                     special="fnuz" if match[3] == "f" else "p3109")
    if match := re.fullmatch(r"(e\d+m0.*)x(\d+)", text):
        term = parse(match[1])
        return PowerSum(term, int(match[2]))
    if match := _FLOAT.fullmatch(text):
        width, exp, man, bias, radix, lowest, special, unsigned = match.groups()
        bits = (not unsigned) + int(exp) + int(man)
        if width is None or int(width) == bits:
            if special is None:
                special = "none" if width is None else "ieee"
            elif special == "fn" and bits < 8:
                special = "none"
            rule = "dlfloat" if (special, lowest) == ("dlfloat", None) else _LOWEST[lowest]
            return Float(int(exp), int(man), None if bias is None else int(bias), special,
                         not unsigned, rule, int(radix or 2))
    raise ValueError(f"{text!r} is no number format; formats are named like int8, uint8, int4, "
                     "ternary, e4m3, e5m2, e3m2, e2m1, e4m3fn, float8_e5m2, p3109_k8p3, e3m0x2, "
                     "lns8, bipolar1")


#: The formats that tables, proofs and documents go through: one line for each family.
_CATALOGUE = """
    int2 int4 int6 int8 int16 uint4 uint8 ternary
    bipolar1 bipolar2 bipolar4
    e2m1 e2m3 e3m2 e3m3 e3m4 e4m3 e5m2 e3m4flush
    e3m4ieee e4m3fn e4m3ieee e4m3fnuz e5m2ieee e5m2fnuz
    hfp8 hfp8_fnuz
    p3109_k4p2 p3109_k6p3 p3109_k6p4 p3109_k8p1 p3109_k8p3 p3109_k8p4 p3109_k8p5
    e3m0 e4m0 e3m0r4 e3m0x2 e3m0x3
    lns8
    e8m0fnu
    dlfloat16 bfloat16 float16
"""


def catalogue():
    """Name -> Format of every format that has a name in a standard or a paper, or is common.

    Area tables, proofs and documents go through it. A name may be an alias: `parse` reads it,
    the format's own name says its widths.
    """
    return {name: parse(name) for name in _CATALOGUE.split()}

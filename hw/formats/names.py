"""Names of number formats: each format's file registers those that it reads."""

import re
from collections.abc import Callable, Iterable, Mapping

from .base import Format

__all__ = ["catalogue", "parse", "register"]

_READERS: list[tuple[re.Pattern, Callable[..., Format | None]]] = []
_EXAMPLES: list[str] = []
_CATALOGUE: list[str] = []
_ALIASES: dict[str, str] = {}


def register(pattern: str, make: Callable[..., Format | None], *, examples: Iterable[str],
             catalogue: str = "", aliases: Mapping[str, str] | None = None) -> None:
    """Make names known.

    Parameters
    ----------
    pattern : str
        A regular expression; a name that matches as a whole is read by `make`. No two patterns
        match one name.
    make : function
        From the pattern's groups (str, or None for those that took no part) to the format; None
        where the name is none after all. What it raises is for the reader of the name.
    examples : strings
        Names for the message about a name that nothing reads.
    catalogue : str
        Names, with spaces between, for tables, proofs and documents (see `catalogue`).
    aliases : {str: str}
        Names that say nothing about widths, and what they stand for.
    """
    _READERS.append((re.compile(pattern), make))
    _EXAMPLES.extend(examples)
    _CATALOGUE.extend(catalogue.split())
    _ALIASES.update(aliases or {})


def parse(name: str | Format) -> Format:
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
    for pattern, make in _READERS:
        match = pattern.fullmatch(text)
        found = make(*match.groups()) if match else None
        if found is not None:
            return found
    raise ValueError(f"{text!r} is no number format; formats are named like "
                     + ", ".join(_EXAMPLES))


def catalogue() -> dict[str, Format]:
    """Name -> Format of every format that has a name in a standard or a paper, or is common.

    Area tables, proofs and documents go through it. A name may be an alias: `parse` reads it,
    the format's own name says its widths.
    """
    return {name: parse(name) for name in _CATALOGUE}

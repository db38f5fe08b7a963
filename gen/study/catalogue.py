"""Entries of the table of processing elements (`element_table.py`): their names, and what of the
generator each is.

An entry is a pair of formats with a number of lanes, and of elements side by side that share an
activation register and, where two fit a DSP block, multiplications. Beside the entries stand the
plain integer element (`psum_in + a * w`, nothing helps the tool), and the entries' own references
of 16 bits: the same generator's float with the same exponent bits, or int16; both with exact sums,
as everything here. All elements have one pipeline stage, double-buffered weights, and columns of 16
rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.hw.element.arithmetic import Arithmetic
from systolith.hw.element.block_scale import BlockScaleCell, ScaledNumber, scaled_bits
from systolith.hw.element.element import arithmetic
from systolith.hw.formats import catalogue, parse, term_bound
from systolith.hw.spec.structures import SMALL_PRODUCT, Structure, structure_of

__all__ = ["PLAIN", "ROWS", "Entry", "every_entry", "parse_entries", "reference"]

ROWS = 16
BIPOLAR_LANES = (64, 128, 256)
#: After the formats of an element that multiplies signs, too.
SIGNS = "+signs"
#: Likewise of one that multiplies halves of codes, too.
HALVES = "+halves"
#: Integers whose plain elements are the yardstick.
PLAIN = (4, 8, 16)

#: Floats of 4 to 8 bits, with 2 to 5 exponent bits.
_FLOATS = tuple(f"e{exp}m{width - 1 - exp}" for width in range(4, 9) for exp in range(2, 6)
                if width - 1 - exp >= 0)
_MIXED = (("int8", "int4"), ("int8", "int2"), ("int8", "ternary"), ("int16", "int8"),
          ("uint8", "int8"), ("uint8", "int4"), ("uint4", "int4"), ("int8", "e3m0"),
          ("int8", "e3m0r4"), ("int8", "e3m0x2"), ("e4m3", "e5m2"), ("e4m3", "e3m2"),
          ("e4m3", "e2m1"), ("e3m2", "e2m1"))
#: Activations with weights in blocks.
_BLOCKS = (("int8", "mxint8"), ("e4m3fn", "mxfp8"), ("e5m2ieee", "mxfp8_e5m2"),
           ("e3m2", "mxfp6"), ("e2m3", "mxfp6_e2m3"), ("e2m1", "mxfp4"), ("e2m1", "nvfp4"),
           ("e2m1", "mls"), ("e2m4", "mls_e2m4"), ("int8", "mxfp4"))
#: {weights in blocks: the activations beside them where nothing is said}
_ACTIVATIONS = {weight: activation for activation, weight in reversed(_BLOCKS)}
#: Pairs of columns, or of lanes, of which DSP blocks make two products.
_SHARED = (("int4", "int4"), ("int8", "int4"), ("int8", "int8"), ("e3m2", "e3m2"),
           ("e4m3", "e4m3"), ("e3m4", "e3m4"), ("bfloat16", "bfloat16"))
_LANES = ("int4", "e3m2", "e4m3")
#: Integers whose elements also multiply signs.
_SIGNS = ("int4", "int8")


@dataclass(frozen=True)
class Entry:
    """A pair of formats, by name, lanes, and elements side by side; `plain` is the yardstick,
    `signs` says that it multiplies signs, too, `halves` that it multiplies halves of codes. `rows`:
    of the column, whose sums are exact, and which share what multiplies by scales."""
    activation: str
    weight: str
    lanes: int = 1
    columns: int = 1
    plain: bool = False
    signs: bool = False
    halves: bool = False
    rows: int = ROWS

    @property
    def label(self) -> str:
        same = self.activation == self.weight
        name = self.activation if same else f"{self.activation} x {self.weight}"
        return (f"{'plain ' if self.plain else ''}{name}{' and signs' if self.signs else ''}"
                f"{' and halves' if self.halves else ''}") + (
            f", {self.lanes} lanes" if self.lanes > 1 else "") + (
            f", {self.columns} columns" if self.columns > 1 else "") + (
            f", {self.rows} rows" if self.rows != ROWS else "")

    @property
    def products(self) -> int:
        return self.lanes * self.columns

    def structure(self, target: str, dsp: bool) -> Structure:
        """What the element is built of: small products beside scales of blocks stay LUTs, where a
        DSP block multiplies by the scale."""
        forms: Any = parse(self.activation), parse(self.weight)
        small = sum(form.significand_bits for form in forms) <= SMALL_PRODUCT
        return structure_of(target, dsp and not (small and forms[1].block_scale))

    def scale(self, target: str, dsp: bool) -> BlockScaleCell | None:
        """What multiplies a column's sums by the scales of blocks; None without blocks."""
        scale = parse(self.weight).block_scale
        if scale is None:
            return None
        bits = self.rules(self.structure(target, dsp)).sum_bits
        largest = self.rows * self.lanes * term_bound(parse(self.activation), parse(self.weight))
        return BlockScaleCell(ScaledNumber(scale, bits, scaled_bits(scale, bits),
                                           structure_of(target, dsp), largest))

    def rules(self, structure: str) -> Arithmetic:
        """The Arithmetic. Raises UserError where there is none."""
        parts = {name: True for name in ("signs", "halves") if getattr(self, name)}
        try:
            return arithmetic(parse(self.activation), parse(self.weight), self.lanes,
                              self.rows * self.lanes, structure=structure, stages=1,
                              columns=self.columns, **parts)
        except ValueError as error:
            raise UserError(f"no processing element for {self.activation} x {self.weight}: "
                            f"{error}") from None


def every_entry() -> list[Entry]:
    """The entries of the whole table."""
    names = [f"int{bits}" for bits in range(2, 17)] + list(_FLOATS)
    names += [name for name, fmt in catalogue().items() if name not in names
              and not fmt.binary and fmt.signed and fmt.block_scale is None]
    return ([Entry(name, name) for name in names] + [Entry(*pair) for pair in _MIXED + _BLOCKS]
            + [Entry("bipolar1", "bipolar1", lanes) for lanes in BIPOLAR_LANES]
            + [Entry(*pair, columns=2) for pair in _SHARED]
            + [Entry(name, name, 2) for name in _LANES]
            + [Entry(name, name, signs=True) for name in _SIGNS]
            + [Entry(name, name, halves=True) for name in _SIGNS])


def parse_entries(texts: Iterable[str]) -> list[Entry]:
    """Entries from names such as `e3m2`, `int8:e3m0`, `mxfp4` (beside activations like its
    elements), `bipolar1:bipolar1:64`, `int8+signs`; `all`: the table's.

    `bipolar1` alone stands for several lanes, `+signs` for elements that multiply signs, too,
    `+halves` for those that multiply halves of codes. Raises UserError.
    """
    found = []
    for text in texts:
        if text == "all":
            found += every_entry()
            continue
        signs, halves = text.endswith(SIGNS), text.endswith(HALVES)
        activation, *rest = text.removesuffix(SIGNS).removesuffix(HALVES).split(":")
        weight = rest[0] if rest else activation
        activation = activation if rest else _ACTIVATIONS.get(activation, activation)
        numbers = rest[1:]
        if len(numbers) > 2 or not all(
                number.isdecimal() and 1 <= int(number) <= most
                for number, most in zip(numbers, (1024, 64), strict=False)):
            raise UserError(f"{text!r}: must be a format, ACTIVATION:WEIGHT, "
                            "ACTIVATION:WEIGHT:LANES with 1 to 1024 lanes, or "
                            "ACTIVATION:WEIGHT:LANES:COLUMNS with 1 to 64 columns; with +signs "
                            "after it, an element that multiplies signs, too, with +halves one "
                            "that multiplies halves of codes")
        for name in (activation, weight):
            try:
                parse(name)
            except ValueError as error:
                raise UserError(f"{text!r}: {error}") from None
        form: Any = parse(activation)
        if form.block_scale:
            raise UserError(f"{text!r}: the activation {form.activation_fault()}")
        if signs and (activation != weight or form.family != "integer" or not form.complete
                      or not form.signed or form.width < 3):
            raise UserError(f"{text!r}: signs go with activations and weights that are integers of "
                            "the same 3 or more bits, such as int8")
        if halves and (activation != weight or form.family != "integer" or not form.complete
                       or not form.signed or form.width % 4 or numbers):
            raise UserError(f"{text!r}: halves go with activations and weights that are integers "
                            "of the same 4, 8, 12 or 16 bits, and one lane and column, such as "
                            "int8")
        if text == "bipolar1":
            found += [Entry("bipolar1", "bipolar1", number) for number in BIPOLAR_LANES]
        else:
            lanes, columns = [*map(int, numbers), *(1, 1)[len(numbers):]]
            found.append(Entry(activation, weight, lanes, columns, signs=signs, halves=halves))
    return list(dict.fromkeys(found))


def reference(entry: Entry) -> Entry | None:
    """The entry's own element of 16 bits; None where there is none."""
    def wide(name):
        fmt: Any = parse(name)
        if fmt.family == "float":
            return f"e{fmt.exp}m{15 - fmt.exp}"
        return "int16" if fmt.uniform else None
    wide_names = wide(entry.activation), wide(entry.weight)
    return None if entry.plain or None in wide_names else Entry(*wide_names)

"""Keys of a chip file: what their values are, in the file and in `Arch`."""

import math
import tomllib
from dataclasses import fields
from itertools import pairwise

import pytest
from systolith.hw.formats import Int
from systolith.hw.spec.arch import KEYS, Arch
from systolith.hw.spec.keys import Choice, Megahertz, Name, Number, Several, Switch, Whole
from systolith.hw.spec.rules import ArchError

PLAIN = Arch(rows=2, columns=2).to_dict()
NUMBERS = [key for key in KEYS.values() if isinstance(key.kind, Whole)]


def test_every_field_has_a_path_of_its_own_and_sections_stay_together():
    assert list(KEYS) == [item.name for item in fields(Arch)]
    assert len({key.path for key in KEYS.values()}) == len(KEYS)
    sections = [key.section for key in KEYS.values()]
    changes = sum(one != other for one, other in pairwise(sections))
    assert changes == len(set(sections)) - 1
    assert [key.path for key in KEYS.values() if key.required] == ["array.rows", "array.columns"]
    assert [key.field for key in KEYS.values() if key.optional] == [
        "depthwise", "bit_planes", "plane_rows", "packed_signs", "side_taps", "tap_rows",
        "two_fillings", "packed_halves", "wide_weights", "leaky", "slope_offsets", "two_writes",
        "weight_widths", "weight_pools", "operand_depth", "table_depth", "load_windows"]


@pytest.mark.parametrize("key", NUMBERS, ids=lambda key: key.field)
def test_whole_numbers_hold_at_their_ends_and_not_beyond(key):
    kind = key.kind
    for value in (kind.low, kind.high):
        kind.check(value)
        assert kind.read(value) == value
    allowed = f'"{kind.none}" or a whole number' if kind.none else "a whole number"
    for value in (kind.low - 1, kind.high + 1, True, 1.0, "1"):
        with pytest.raises(ArchError, match=f"^{key.field} must be {allowed} from {kind.low} to "
                                            f"{kind.high}, not ") as caught:
            Arch(**PLAIN | {key.field: value})
        assert caught.value.field == key.field
    if kind.none:
        kind.check(None)
        assert kind.read(kind.none) is None
    else:
        with pytest.raises(ValueError, match=r"must be a whole number .*, not None"):
            kind.check(None)


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.path)
def test_values_are_read_as_they_are_shown(key):
    value = getattr(Arch(rows=2, columns=3), key.field)
    assert key.kind.read(tomllib.loads(f"x = {key.kind.show(value)}")["x"]) == value


@pytest.mark.parametrize("kind, value, text", [
    (Switch(), 1, "must be true or false, not 1"),
    (Choice((32, 64)), 48, "must be one of 32, 64, not 48"),
    (Choice((1, 64)), True, "must be one of 1, 64, not true"),
    (Choice(("a", "b")), "c", 'must be one of "a", "b", not \'c\''),
    (Choice(("a", "b")), {}, 'must be one of "a", "b", not a table'),
    (Megahertz(), 0, 'must be "auto" or a number of MHz greater than 0, not 0'),
    (Megahertz(), math.inf, 'must be "auto" or a number of MHz greater than 0, not inf'),
    (Several(2, 7, 2), [2, 8], r"must be a list of up to 2 whole numbers from 2 to 7, each once, "
                               r"not \[2, 8\]"),
    (Several(2, 7, 2), [2, 2], r"must be a list .*, not \[2, 2\]"),
    (Several(2, 7, 2), [2, 3, 4], r"must be a list .*, not \[2, 3, 4\]"),
    (Several(2, 7, 2), [True], r"must be a list .*, not \[True\]"),
    (Several(2, 7, 2), 4, "must be a list .*, not 4"),
    (Name(), "a/b", "must be a text of letters"),
    (Number(), "int99", "must be the name of a number format: "),
    (Number(), 8, "must be the name of a number format such as"),
])
def test_other_values_are_refused(kind, value, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        kind.read(value)


def test_unsigned_activations_are_read_as_the_signed_ones_they_run_on():
    assert Number(shifted=True).read("uint8") == Int(8)
    assert Number().read("uint8") == Int(8, signed=False)

"""The keys of a chip file: all fields of a chip, each read back as it is shown."""

import pytest
from systolith.gen.chip.keys import KEYS, Switch, Whole
from systolith.gen.chip.toml import markdown_table
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.rules import LIMITS, SWITCHES

ARCH = Arch(rows=2, columns=3)


def test_every_field_of_arch_has_a_key():
    assert sorted(key.field for key in KEYS) == sorted(ARCH.to_dict())
    assert len({key.path for key in KEYS}) == len(KEYS)
    for key in KEYS:
        assert f"`{key.path}`" in markdown_table()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_kinds_are_those_of_the_fields_rules(key):
    """A switch is true or false in both, and a number of both has the same least value."""
    assert isinstance(key.kind, Switch) == (key.field in SWITCHES)
    assert not isinstance(key.kind, Whole) or key.field in {*LIMITS, "accumulator", "bus_bits"}
    if isinstance(key.kind, Whole) and key.field in LIMITS:
        limit = LIMITS[key.field]
        assert min(limit.low, 1) == key.kind.least
        assert (key.kind.none is not None) == limit.optional


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_values_are_read_as_they_are_shown(key):
    import tomllib
    value = getattr(ARCH, key.field)
    assert key.read(tomllib.loads(f"x = {key.show(value)}")["x"]) == value
